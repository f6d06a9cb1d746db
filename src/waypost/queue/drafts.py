"""Octets of large messages as chunks in a spool's database: written while they arrive, read when they are sent.

Not here: what is alike in every database (octets.py), and the statements (writes.py, reads.py).
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from waypost.mail.envelope import InMemory
from waypost.queue import reads
from waypost.queue.database import Reader, Writer, is_corrupt
from waypost.queue.octets import CHUNK, ChunkedDraft, chunks_of
from waypost.queue.rows import ChunkRow
from waypost.queue.writes import Writes


@dataclass(frozen=True, slots=True)
class Body:
    """A message's octets as they go to the spool: in its own row, or as chunks, of which some may be there already."""

    size: int
    draft: int
    inline: bytes
    chunks: list[ChunkRow]

    @classmethod
    def of(cls, octets: InMemory, draft: int) -> Body:
        """Octets that are in memory whole; `draft` is used where they are too many for a row."""
        whole = octets.octets
        if len(whole) <= CHUNK:
            return cls(len(whole), 0, whole, [])
        return cls(len(whole), draft, b"", [_row(draft, number, chunk) for number, chunk in chunks_of(whole)])


class SqliteDraft(ChunkedDraft):
    """A draft in the spool."""

    def __init__(self, writer: Writer[Writes], number: int) -> None:
        super().__init__(number, CHUNK)
        self._writer = writer

    async def _put(self, number: int, octets: bytes) -> None:
        await self._writer.submit(partial(_write_chunk, self._number, _row(self._number, number, octets)))

    async def _drop(self) -> None:
        await self._writer.submit(partial(_discard, self._number))

    def take(self) -> Body:
        """What it becomes as a message's octets; a small one never was in the spool."""
        self._is_over = True
        rest = bytes(self._buffer)
        if not self._chunks:
            return Body(self._size, 0, rest, [])
        return Body(self._size, self._number, b"", [_row(self._number, self._chunks, rest)])


def _row(draft: int, number: int, octets: bytes) -> ChunkRow:
    return ChunkRow(draft << 20 | number, octets)


def _write_chunk(draft: int, chunk: ChunkRow, writes: Writes) -> None:
    writes.write_chunk(draft, chunk)


def _discard(draft: int, writes: Writes) -> None:
    writes.discard(draft)


async def pieces(reader: Reader, message: int, draft: int) -> AsyncIterator[bytes]:
    """The octets of a message, as far as they are there."""
    for number in itertools.count():
        octets = await reader.run(partial(_chunk, message, draft, number))
        if not octets:
            return
        yield octets


def _chunk(message: int, draft: int, number: int, connection: sqlite3.Connection) -> bytes:
    try:
        return reads.chunk(connection, message, draft, number)
    except sqlite3.Error as error:
        if not is_corrupt(error):
            raise
        return b""  # a page of this one message: the spool is none the worse for it
