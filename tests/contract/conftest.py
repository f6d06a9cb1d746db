"""The storages the contract is put to. A further one is one more name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.postgres import Server
from waypost.net.clock import SystemClock
from waypost.queue.memory import MemoryStorage
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Storage


def _memory() -> tuple[Storage, Callable[[], Storage]]:
    only = MemoryStorage()
    return only, lambda: only


def _sqlite(path: Path) -> tuple[Storage, Callable[[], Storage]]:
    return SqliteStorage(path), lambda: SqliteStorage(path)


def _postgres(dsn: str) -> tuple[Storage, Callable[[], Storage]]:
    clock = SystemClock()
    return PostgresStorage(dsn, clock, connections=4), lambda: PostgresStorage(dsn, clock, connections=4)


STORAGES = ("memory", "postgres", "sqlite")


async def make_storage(request: pytest.FixtureRequest, path: Path) -> tuple[Storage, Callable[[], Storage]]:
    """A storage and, from it, the one that a new process would find (a memory storage is its own)."""
    match request.param:
        case "memory":
            return _memory()
        case "sqlite":
            return _sqlite(path / "spool")
        case _:
            server: Server = request.getfixturevalue("postgres_server")
            return _postgres(await server.emptied())


class Restartable:
    """A storage that is open, and can be closed and opened as by another process."""

    def __init__(self, storage: Storage, make: Callable[[], Storage]) -> None:
        self.now = storage
        self._make = make

    async def restart(self, owner: str = "second") -> Storage:
        await self.now.close()
        self.now = self._make()
        await self.now.open(owner=owner)
        return self.now


@pytest.fixture(params=STORAGES)
async def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restartable]:
    storage, make = await make_storage(request, tmp_path)
    await storage.open(owner="first")
    both = Restartable(storage, make)
    yield both
    await both.now.close()


@pytest.fixture
def storage(restartable: Restartable) -> Storage:
    return restartable.now
