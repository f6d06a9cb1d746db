"""The octets of large messages on their way into a database and out of it, a chunk at a time.

Alike in every database, which brings where a chunk goes and where it is found. Not here: small octets, which stand in
their message's own row.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from waypost.queue import ids
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

#: Octets up to here stand in the message's own row; larger messages are kept as chunks of this size.
CHUNK: Final = 256 * 1024


def chunks_of(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """The chunks of octets that are in memory whole, each with its number."""
    for number, at in enumerate(range(0, len(octets), CHUNK)):
        yield number, octets[at : at + CHUNK]


@dataclass(frozen=True, slots=True)
class StoredOctets:
    """Octets in storage, read a chunk at a time when they are wanted.

    `pieces` gives them as far as they are there, `place` names where that is for a person.
    """

    pieces: Callable[[], AsyncIterator[bytes]]
    place: str
    message: int
    size: int
    gaps: set[int]  # told where the octets are not whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.size
        async for octets in self.pieces():
            if len(octets) > left:
                break
            left -= len(octets)
            yield octets
            if not left:
                return
        if left:
            raise self._broken(left)

    def _broken(self, left: int) -> StorageError:
        self.gaps.add(self.message)
        name = ids.from_number(self.message)
        detail = f"the octets of {name} are not whole in the {self.place}: {left} of {self.size} are missing"
        return StorageError(StoreFault(StoreFaultKind.FAILED, detail))


class ChunkedDraft(ABC):
    """The octets of a large message on their way in. Holds less than a chunk in memory."""

    def __init__(self, number: int, chunk: int) -> None:
        self._number = number
        self._chunk = chunk  # octets written at once
        self._buffer = bytearray()
        self._size = 0
        self._chunks = 0  # in the storage
        self._is_over = False  # accepted, discarded or failed

    @abstractmethod
    async def _put(self, number: int, octets: bytes) -> None:
        """Put down a chunk. Raises: StorageError."""

    @abstractmethod
    async def _drop(self) -> None:
        """Drop what was put down. Raises: StorageError."""

    async def write(self, octets: bytes) -> None:
        self._buffer += octets
        self._size += len(octets)
        while len(self._buffer) > self._chunk and not self._is_over:
            await self._put_next()

    async def _put_next(self) -> None:
        octets = bytes(self._buffer[: self._chunk])
        del self._buffer[: self._chunk]
        number, self._chunks = self._chunks, self._chunks + 1
        try:
            await self._put(number, octets)
        except StorageError:
            await self.discard()
            raise

    async def discard(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._buffer.clear()
        if self._chunks:
            with contextlib.suppress(StorageError):  # then whoever looks for what was left behind drops it
                await self._drop()

    def give_back(self) -> None:
        """It did not become a message after all: `discard` has something to do again."""
        self._is_over = False
