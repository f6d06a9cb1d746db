"""What `waypost queue export` and `import` do: between a spool and an archive of its queue (queue/archive.py).

Exporting only reads: a spool in a directory as it is at one moment, while its service runs. Importing knows what has
been put in before, so that it may be cut off, and run again. Not here: the commands (archiving.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from waypost import __version__
from waypost.admin.cluster import spool_end
from waypost.config import Config
from waypost.config.parts import stores
from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.archive import Head, Writer, read
from waypost.queue.ids import from_number
from waypost.queue.moving import Parcel, RecipientPart, StoredPart
from waypost.queue.moving_sqlite import SqliteEnd, queued_in
from waypost.queue.shards import shard, shards
from waypost.route.route import NoRoute
from waypost.route.table import RouteTable

if TYPE_CHECKING:
    from waypost.queue.postgres.moving import PostgresEnd

SpoolEnd: TypeAlias = "SqliteEnd | PostgresEnd"
#: Names asked for at once.
_PAGE: Final = 200


@dataclass(slots=True)
class PutIn:
    """What became of an archive. `left`: messages that were not put in, each with the reason."""

    messages: int = 0
    recipients: int = 0
    found: int = 0  # here already: an earlier import had put them in
    left: list[tuple[str, str]] = field(default_factory=list)


async def export(config: Config, to: Path, now: Instant) -> int:
    """Write the queue of `config` into the file `to`; how many messages.

    Raises: OSError, StorageError, sqlite3.Error; then there is no such file.
    """
    with Writer(to, f"waypost {__version__}", socket.gethostname(), now) as writer:
        async for parcel in _queued(config):
            await asyncio.to_thread(writer.add, parcel)
    return writer.messages


async def _queued(config: Config) -> AsyncIterator[Parcel]:
    if not config.database:
        for index in shards(config.spool):
            for parcel in queued_in(shard(config.spool, index)):
                yield parcel
        return
    async with spool_end(config.database, stores(config)) as end:
        after = -1
        while names := await end.names(after, _PAGE):
            for name in names:
                parcel = await end.parcel(name)
                if parcel.is_unfinished:
                    yield parcel
            after = names[-1]


async def put_in(archive: Path, config: Config, now: Instant, tell: Callable[[PutIn], Awaitable[None]]) -> PutIn:
    """Put what the archive holds into the queue of `config`.

    Raises: ArchiveError, MoveError, StorageError, OSError; what was put in before is in.
    """
    done, table = PutIn(), config.route_table()
    async with spool_end(config.database or str(config.spool)) as end:
        for part in read(archive):
            if not isinstance(part, Head):
                await _put_one(end, part, table, now, done)
                await tell(done)
    return done


async def _put_one(end: SpoolEnd, parcel: Parcel, table: RouteTable, now: Instant, done: PutIn) -> None:
    if await end.has(parcel.id):
        done.found += 1
        return
    routed = _routed(parcel, table, now)
    if isinstance(routed, str):
        done.left.append((from_number(parcel.id), routed))
        return
    await end.put(routed)
    done.messages += 1
    done.recipients += len(routed.recipients)


def _routed(parcel: Parcel, table: RouteTable, now: Instant) -> Parcel | str:
    """With a next hop for each recipient that has none yet, and due at once where nothing is said; or why not."""
    recipients: list[RecipientPart] = []
    for part in parcel.recipients:
        next_hop = part.next_hop or _hop(part, parcel.stored, table)
        if isinstance(next_hop, NoRoute):
            return f"{part.address}: {next_hop.detail}; give it a route, and import the archive again"
        recipients.append(part._replace(next_hop=next_hop, due_at=part.due_at or now))
    return replace(parcel, recipients=tuple(recipients))


def _hop(part: RecipientPart, stored: tuple[StoredPart, ...], table: RouteTable) -> str | NoRoute:
    sender = str(record.decode(stored[0].envelope).get("reverse_path", ""))
    route = table.route(record.forward_path_of(part.address), record.reverse_path_of(sender))
    return route if isinstance(route, NoRoute) else route.next_hop
