"""Where the octets of large messages are: in chunks in the database, or as objects in a store.

A draft's number tells which: above 0 it is that of chunks, below 0 that of objects. Either way what is written before
its message stands in `drafts`, so that somebody drops it should there never be a message; and an object that was put
down is in the store before the message is committed. Objects that no message needs any longer stand in `unwanted`, by
the transaction that made them so, and are deleted afterwards. What gets lost between store and database all the same
(a node that died between two steps) is found by looking through the store once a day.

Not here: small octets, which stand in their message's own row.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from waypost.net.clock import Clock
from waypost.net.s3 import S3, Listed, NoSuchObjectError, S3Error
from waypost.queue.octets import CHUNK, ChunkedDraft
from waypost.queue.postgres import reads, writes
from waypost.queue.postgres.database import Database
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

#: Octets of an object. A message on its way in has less than one in memory.
OBJECT: Final = 1024 * 1024
#: How often objects that nobody needs are deleted, how many in one go, and at the same time.
SWEEP: Final = timedelta(seconds=2)
SWEPT: Final = 50
AT_ONCE: Final = 8
#: Objects younger than this are not looked for: their message may be on its way.
YOUNG: Final = timedelta(days=1)
#: Drafts the database is asked about in one go.
ASKED: Final = 20_000


class Bodies(Protocol):
    """A place for the octets of large messages. All raise StorageError."""

    inline: int  # octets up to so many stand in the message's own row
    chunk: int  # octets that are written at once

    def number(self, token: int) -> int:
        """The number of a draft, of one that nobody has had."""
        ...

    async def write(self, draft: int, number: int, octets: bytes) -> bool:
        """Put down a chunk of a draft; False: it has been dropped meanwhile, and with it the chunks before."""
        ...


class InDatabase:
    """Chunks as rows."""

    inline = chunk = CHUNK

    def __init__(self, database: Database) -> None:
        self._database = database

    def number(self, token: int) -> int:
        return token

    async def write(self, draft: int, number: int, octets: bytes) -> bool:
        return await self._database.run(partial(writes.write_chunk, draft=draft, number=number, octets=octets))


class InStore:
    """Chunks as objects."""

    chunk = OBJECT

    def __init__(self, database: Database, store: S3, inline: int) -> None:
        self.inline = inline
        self._database = database
        self._store = store

    def number(self, token: int) -> int:
        return -token

    async def write(self, draft: int, number: int, octets: bytes) -> bool:
        if not number:
            await self._database.run(partial(writes.register, draft=draft))
        try:
            await self._store.put(_name(draft, number), octets)
        except S3Error as error:
            raise failed(error) from error
        return True


async def in_store(stores: Sequence[S3], draft: int) -> AsyncIterator[bytes]:
    """The octets of a draft's objects, as far as there are any. Raises: StorageError."""
    if not stores:
        raise _failed("the octets are in an object store; name it as the nodes do ([cluster] bodies, or --bodies)")
    for number in itertools.count():
        try:
            async for octets in stores[0].get(_name(draft, number)):
                yield octets
        except NoSuchObjectError:
            return
        except S3Error as error:
            raise failed(error) from error


@dataclass(frozen=True, slots=True)
class Body:
    """A message's octets as they go to the database: in its own row, or as a draft's, which are there already."""

    size: int
    draft: int
    inline: bytes


class PostgresDraft(ChunkedDraft):
    """A draft, in whichever place. `token`: one that nobody has had."""

    def __init__(self, database: Database, bodies: Bodies, token: int) -> None:
        super().__init__(bodies.number(token), bodies.chunk)
        self._database = database
        self._inline = bodies.inline
        self._bodies = bodies

    async def _put(self, number: int, octets: bytes) -> None:
        if not await self._bodies.write(self._number, number, octets):
            raise _failed("this node was silent for too long, and what it had of the message was dropped")

    async def _drop(self) -> None:
        await self._database.run(partial(writes.discard, drafts=[self._number]))

    async def take(self) -> Body:
        """What it becomes as a message's octets; a small one never was in the database. Raises: StorageError."""
        if not self._chunks and self._size <= self._inline:
            self._is_over = True
            return Body(self._size, 0, bytes(self._buffer))
        if self._buffer:
            await self._put_next()
        self._is_over = True
        return Body(self._size, self._number, b"")


async def pieces(database: Database, stores: Sequence[S3], message: int, draft: int) -> AsyncIterator[bytes]:
    """The octets of a message, as far as they are there. Raises: StorageError."""
    if draft < 0:
        async for octets in in_store(stores, draft):
            yield octets
        return
    for number in itertools.count():
        octets = await database.run(partial(reads.chunk, message=message, draft=draft, number=number))
        if not octets:
            return
        yield octets


class Sweeper:
    """Deletes objects that no message needs."""

    def __init__(self, database: Database, store: S3, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled. Trouble is told of, and passes."""
        was_well = True
        while True:
            try:
                while await self.sweep() == SWEPT:
                    pass
                was_well = True
            except (StorageError, S3Error) as error:
                if was_well:
                    structlog.get_logger().warning("objects nobody needs were not deleted yet", detail=str(error))
                was_well = False
            await self._clock.sleep(SWEEP)

    async def sweep(self) -> int:
        """Delete some of what stands in `unwanted`; how many drafts. Raises: StorageError, S3Error."""
        rows = await self._database.run(partial(writes.take_unwanted, limit=SWEPT))
        unknown = [draft for draft, size in rows if size < 0]
        names = [_name(draft, number) for draft, size in rows for number in range(-(-max(0, size) // OBJECT))]
        try:
            for draft in unknown:
                names += [one.name async for page in self._store.listed(_name(draft)) for one in page]
            await self._delete(names)
        except S3Error:
            await self._database.run(partial(writes.put_back_unwanted, rows=rows))
            raise
        return len(rows)

    async def look_through(self) -> int:
        """Delete objects that the database knows nothing of; how many. Raises: StorageError, S3Error."""
        deleted, found = 0, list[Listed]()
        old = self._clock.now() - YOUNG.total_seconds()
        async for page in self._store.listed():
            found += [one for one in page if one.changed_at < old and _draft(one.name)]
            if len(found) >= ASKED:
                deleted += await self._delete_unknown(found)
                found = []
        deleted += await self._delete_unknown(found)
        if deleted:
            structlog.get_logger().warning("objects that no message had were deleted", objects=deleted)
        return deleted

    async def _delete_unknown(self, found: Sequence[Listed]) -> int:
        drafts = sorted({_draft(one.name) for one in found})
        unknown = set(await self._database.run(partial(reads.unknown_drafts, drafts=drafts))) if drafts else set[int]()
        names = [one.name for one in found if _draft(one.name) in unknown]
        await self._delete(names)
        return len(names)

    async def _delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), AT_ONCE):
            await asyncio.gather(*(self._store.delete(name) for name in names[start : start + AT_ONCE]))


def _name(draft: int, number: int = -1) -> str:
    """The name of an object; without a number, what the names of all of a draft's begin with."""
    return f"{-draft:016x}/{number:06}" if number >= 0 else f"{-draft:016x}/"


def _draft(name: str) -> int:
    """Whose object a name is; 0: none of ours."""
    draft, slash, number = name.partition("/")
    try:
        return -int(draft, 16) if slash and len(draft) == 16 and number.isdigit() else 0
    except ValueError:
        return 0


def failed(error: S3Error) -> StorageError:
    """The store's trouble as the queue's."""
    return _failed(str(error))


def _failed(detail: str) -> StorageError:
    return StorageError(StoreFault(StoreFaultKind.FAILED, detail))
