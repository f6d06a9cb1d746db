"""What a person asks of the cluster, and tells it: over the database itself, whichever nodes run.

Each function is a visit: it connects, asks or tells, and leaves. Not here: being a node (nodes.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from waypost.net.clock import Instant
from waypost.queue.postgres import reads
from waypost.queue.postgres.database import Connection, Database, durability, schema_version, see_queue
from waypost.queue.storage import Counts

T = TypeVar("T")

#: Nodes that ended longer ago are not told of.
_ENDED: Final = 3600.0
_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_NODES: Final = f"""
    SELECT owner, epoch, version, opened_at, ended_at, alive_until, {_NOW} AS now,
        (SELECT count(*) FROM recipients WHERE lease BETWEEN epoch << 32 AND ((epoch + 1) << 32) - 1 AND lease > 0)
        AS leases
    FROM nodes WHERE ended_at = 0 OR ended_at > {_NOW} - $1 ORDER BY owner, epoch"""  # noqa: S608 - constants
#: Of the replicas, how far each is behind; only who may see it is told (pg_monitor).
_REPLICAS: Final = """
    SELECT coalesce(nullif(application_name, ''), client_addr::text, 'replica'), state, sync_state,
        coalesce(extract(epoch FROM replay_lag), 0)::float8 FROM pg_stat_replication ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Node:
    """A process on the queue. `state`: "alive", "silent" (not yet declared dead), "ended"; `leases` in recipients."""

    owner: str
    epoch: int
    version: str
    state: str
    opened_at: Instant
    heard_until: Instant  # by the database's clock: when its time to live ends
    leases: int


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of the database, and how far it is behind, in seconds."""

    name: str
    state: str
    sync: str
    lag: float


@dataclass(frozen=True, slots=True)
class Status:
    """The cluster as the database sees it, at `at` by its clock. `overdue`: seconds that the oldest due mail waits."""

    at: Instant
    schema_version: int
    durability: str
    nodes: tuple[Node, ...]
    drained: tuple[str, ...]
    replicas: tuple[Replica, ...]
    counts: Counts
    overdue: float


async def status(dsn: str) -> Status:
    """What there is. Raises: StorageError."""
    return await _visit(dsn, _status)


async def drain(dsn: str, host: str) -> int:
    """Let a host's processes take no new work, also those to come; how many it has. Raises: StorageError."""
    return await _visit(dsn, lambda connection: _mark(connection, host, "INSERT INTO drained VALUES ($1)"))


async def undrain(dsn: str, host: str) -> int:
    """Let them take work again. Raises: StorageError."""
    return await _visit(dsn, lambda connection: _mark(connection, host, "DELETE FROM drained WHERE host = $1"))


async def _visit(dsn: str, ask: Callable[[Connection], Awaitable[T]]) -> T:
    database = Database(dsn, 1)
    await database.open()
    try:
        await database.run(partial(see_queue, where=database.where))
        return await database.run(ask)
    finally:
        await database.close()


async def _mark(connection: Connection, host: str, statement: str) -> int:
    await connection.execute(f"{statement} ON CONFLICT DO NOTHING" if "INSERT" in statement else statement, host)
    alive = "SELECT count(*) FROM nodes WHERE ended_at = 0 AND split_part(owner, ':', 1) = $1"
    return int(await connection.fetchval(alive, host))


async def _status(connection: Connection) -> Status:
    rows = await connection.fetch(_NODES, _ENDED)
    replicas = await connection.fetch(_REPLICAS)
    now = float(await connection.fetchval(f"SELECT {_NOW}"))
    ready = await reads.ready(connection, now, 1)
    return Status(
        at=now,
        schema_version=await schema_version(connection),
        durability=(await durability(connection)).value,
        nodes=tuple(_node(*row) for row in rows),
        drained=tuple(row["host"] for row in await connection.fetch("SELECT host FROM drained ORDER BY host")),
        replicas=tuple(Replica(*row) for row in replicas),
        counts=await reads.counts(connection),
        overdue=max(0.0, now - ready[0].since) if ready else 0.0,
    )


def _node(
    owner: str,
    epoch: int,
    version: str,
    opened_at: Instant,
    ended_at: Instant,
    heard_until: Instant,
    now: Instant,
    leases: int,
) -> Node:
    state = "ended" if ended_at else "alive" if heard_until > now else "silent"
    return Node(owner, epoch, version, state, opened_at, heard_until, leases)
