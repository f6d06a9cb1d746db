"""PostgreSQL as the queue uses it: connections to the primary, time-outs, errors as ours, the schema's versions.

**Time-outs.** An operation that takes too long ends its connection, and is not cancelled: a COMMIT that waits for a
replica would be taken for done when it is cancelled, though no replica has it.

**A process that is stopped** in the middle of a transaction keeps its locks, and who takes its work over would wait for
them: the server ends what has stood still for a while.

**A new primary.** Of the hosts that the address names, the one that takes writes is used. After a fail-over connections
to the old one break, or it refuses to write; either way they are given up and made anew.

Not here: what is written and read (writes.py, reads.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib import resources
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from waypost.queue.place import where_of
from waypost.queue.storage import Durability, StorageError, StoreFault, StoreFaultKind

T = TypeVar("T")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

#: What an operation may take, and a connection to be made.
OPERATION: Final = timedelta(seconds=10)
CONNECT: Final = timedelta(seconds=3)
#: Held by who changes the schema: "WayP" twice.
_LOCK: Final = 0x5761795057617950

#: Whoever is told one of these does not know what became of what was asked.
_LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)
#: Worth another try in a transaction of its own: nothing was done, and nobody is at fault.
_CLASHED: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_CLASHES: Final = 5


class DatabaseLostError(StorageError):
    """The database did not answer: what was asked of it may have been done, or not."""


class _Plain(asyncpg.Connection):
    """A connection that costs no second question each time it goes back to the pool: nothing here sets anything."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections to one database, of which at most `size` are open.

    The server ends a transaction in which nothing has been said for `idle`.
    """

    def __init__(self, dsn: str, size: int, *, operation: timedelta = OPERATION, idle: timedelta = OPERATION) -> None:
        self.where = where_of(dsn)
        self._dsn = dsn
        self._size = size
        self._operation = operation.total_seconds()
        self._idle = f"SET idle_in_transaction_session_timeout = {idle.total_seconds() * 1000:.0f}"
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.lost: Callable[[], None] = lambda: None  # called where the database did not answer

    async def open(self) -> None:
        """Raises: StorageError, where it cannot be reached, or will not have us."""
        try:
            self._pool = await asyncpg.create_pool(
                **self._address(), min_size=1, max_size=self._size, connection_class=_Plain, init=self._prepare
            )
        except Exception as error:
            raise self._translated(error, " is not to be reached") from error

    async def _prepare(self, connection: Connection) -> None:
        await connection.execute(self._idle)  # not in the address: a pooler in between may refuse what it does not know

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection beside the pool, for who listens. Raises: StorageError."""
        try:
            return await asyncpg.connect(**self._address())
        except Exception as error:
            raise self._translated(error, " is not to be reached") from error

    def _address(self) -> dict[str, Any]:
        said = {name for name, _ in parse_qsl(urlsplit(self._dsn).query)}
        chosen: dict[str, Any] = {} if "target_session_attrs" in said else {"target_session_attrs": "primary"}
        named = {} if "application_name" in said else {"application_name": "waypost"}
        return {"dsn": self._dsn, "timeout": CONNECT.total_seconds(), "server_settings": named, **chosen}

    async def close(self) -> None:
        """Let go of all connections."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), self._operation)
        except (TimeoutError, *_LOST):
            pool.terminate()

    async def run(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """What the operation comes to, on a connection of its own; run again where it clashed with another's.

        Raises: DatabaseLostError, where nobody knows whether it was done; StorageError, where it was not; what the
        operation raises itself.
        """
        for left in reversed(range(_CLASHES)):
            try:
                return await self._run(operation)
            except _CLASHED as error:
                if not left:
                    raise self._translated(error) from error
            except (asyncpg.PostgresError, *_LOST) as error:
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError) and self._pool is not None:
                    await self._pool.expire_connections()  # it was the primary once
                raise self._translated(error) from error
        raise AssertionError("unreachable")

    async def transact(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """As `run`, in one transaction."""

        async def within(connection: Connection) -> T:
            async with connection.transaction():
                return await operation(connection)

        return await self.run(within)

    async def _run(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        if self._pool is None:
            raise StorageError(StoreFault(StoreFaultKind.CLOSED, "the queue is not open"))
        async with self._pool.acquire(timeout=self._operation) as connection:
            return await within(connection, operation, self._operation)

    def _translated(self, error: Exception, trouble: str = "") -> StorageError:
        detail = f"{self.where}{trouble}: {str(error) or type(error).__name__}"
        if isinstance(error, asyncpg.DiskFullError):
            return StorageError(StoreFault(StoreFaultKind.FULL, detail))
        if isinstance(error, _LOST):
            self.lost()
            return DatabaseLostError(StoreFault(StoreFaultKind.FAILED, detail))
        return StorageError(StoreFault(StoreFaultKind.FAILED, detail))


async def within(connection: Connection, operation: Callable[[Connection], Awaitable[T]], seconds: float) -> T:
    """What the operation comes to; one that takes longer ends the connection, and raises as for a lost one."""
    task = asyncio.ensure_future(operation(connection))
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        connection.terminate()  # what it came to is unknown, as after any loss
        await asyncio.gather(task, return_exceptions=True)
        raise
    if not done:
        connection.terminate()
        await asyncio.gather(task, return_exceptions=True)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


# ---- the schema
def migrations() -> list[str]:
    """The schema's steps in order; step n writes version n into `schema_versions`."""
    folder = resources.files("waypost.queue.sql") / "postgres"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text("utf-8") for file in files]


async def migrate(connection: Connection, where: str, steps: list[str]) -> None:
    """Bring the database to our schema, while other nodes are at work; one node at a time does so.

    Raises: StorageError, where it was written by a release whose schema this one cannot work with.
    """
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        version, oldest = await _version(connection)
        if oldest > len(steps):
            raise StorageError(
                StoreFault(
                    StoreFaultKind.FAILED,
                    f"{where} was written by a later release (schema {version}, which needs at least {oldest}; this "
                    f"one knows {len(steps)}); run that release, or give this one a database of its own",
                )
            )
        for step in steps[version:]:
            await connection.execute(step)


async def see_queue(connection: Connection, where: str) -> None:
    """See that a queue is there. Raises: StorageError."""
    if not await schema_version(connection):
        raise StorageError(StoreFault(StoreFaultKind.FAILED, f"{where} holds no queue; start a node on it first"))


async def see_schema(connection: Connection, where: str, steps: list[str]) -> None:
    """See that a queue is there, of our schema; nothing is changed. Raises: StorageError."""
    await see_queue(connection, where)
    version, oldest = await _version(connection)
    if oldest > len(steps) or version < len(steps):
        why = f"the queue in {where} is of another release (schema {version}, not {len(steps)}); use that one's waypost"
    else:
        return
    raise StorageError(StoreFault(StoreFaultKind.FAILED, why))


async def schema_version(connection: Connection) -> int:
    """The version of the schema that is there; 0: none."""
    return (await _version(connection))[0]


async def _version(connection: Connection) -> tuple[int, int]:
    if not await connection.fetchval("SELECT to_regclass('schema_versions') IS NOT NULL"):
        return 0, 0
    row = await connection.fetchrow("SELECT version, oldest FROM schema_versions ORDER BY version DESC LIMIT 1")
    return (row["version"], row["oldest"]) if row else (0, 0)


async def durability(connection: Connection) -> Durability:
    """What a commit is worth there, by the settings in force for this connection."""
    commit, standbys, fsync = await connection.fetchrow(
        "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),"
        " current_setting('fsync')"
    ) or ("off", "", "off")
    if commit == "off" or fsync == "off":
        return Durability.DELAYED
    return Durability.REPLICATED if standbys and commit != "local" else Durability.FSYNC
