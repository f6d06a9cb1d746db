"""The shelf of several workers: one small database that all of them have open, beside their shards.

Each operation is a transaction of its own, and waits where another worker is just writing; what it costs is a commit.
A spool that has once had several workers keeps its shelf here, also with one: so nothing is forgotten when their number
changes. Not here: the mail (sqlite.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from waypost.queue.database import connect, create, fault_of, migrations, prepare
from waypost.queue.shards import shelf_of
from waypost.queue.spool import failed, sync_directory
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

T = TypeVar("T")


class ShardStorage(SqliteStorage):
    """A shard, with the shelf that all shards have in common."""

    def __init__(self, path: Path, *, allow_ephemeral: bool = False, reserve: int, salvages: bool = False) -> None:
        super().__init__(path, allow_ephemeral=allow_ephemeral, reserve=reserve, salvages=salvages)
        self._shelf = _Shelf(shelf_of(path))

    async def close(self) -> None:
        await super().close()
        await self._shelf.close()

    async def _change_shelf(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        return await self._shelf.run(operation, "BEGIN IMMEDIATE")

    async def _look_at_shelf(self, question: Callable[[sqlite3.Connection], T], *, is_long: bool) -> T:  # noqa: ARG002 - nothing else is asked here
        return await self._shelf.run(question, "BEGIN")  # waits for nobody who writes, and nobody for it


class _Shelf:
    """The file, opened when it is first asked, by the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "shelf")
        self._connections: list[sqlite3.Connection] = []  # at most one
        self._is_closed = False

    async def run(self, operation: Callable[[sqlite3.Connection], T], begin: str) -> T:
        """One transaction, begun so. Raises: StorageError."""
        if self._is_closed:
            raise StorageError(StoreFault(StoreFaultKind.CLOSED, "the shelf is closed"))
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, operation, begin)

    def _run(self, operation: Callable[[sqlite3.Connection], T], begin: str) -> T:
        try:
            if not self._connections:
                self._connections.append(connect(self._path))
            with _transaction(self._connections[0], begin) as connection:
                return operation(connection)
        except sqlite3.Error as error:
            raise StorageError(fault_of(error, self._path)) from error

    async def close(self) -> None:
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)
        for connection in self._connections:
            connection.close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    connection.execute(begin)
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def prepare_shelf(spool: Path) -> None:
    """See that there is a common shelf; a new one begins with what the spool's own has. Raises: StorageError."""
    path = shelf_of(spool)
    try:
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path, spool / "queue.db")
        prepare(path)
    except (OSError, sqlite3.Error) as error:
        raise failed(f"{path} cannot be made: {error}; see that the spool can be written") from error


def _make(path: Path, queue: Path) -> None:
    new = path.with_suffix(".new")
    create(new, len(migrations()))
    with contextlib.closing(connect(new)) as connection:
        _take_over(connection, queue)
    new.rename(path)
    sync_directory(path.parent)


def _take_over(connection: sqlite3.Connection, queue: Path) -> None:
    """Copy the shelf of a spool that had one process; one of an earlier schema has none."""
    if not queue.exists():
        return
    connection.execute("ATTACH DATABASE ? AS before", (str(queue),))
    if connection.execute("SELECT 1 FROM before.sqlite_master WHERE name = 'kept'").fetchone():
        connection.execute("INSERT INTO kept SELECT * FROM before.kept")
    connection.execute("DETACH DATABASE before")
