"""The storages the contract is put to. A further one (PostgreSQL) is one more entry in `MAKERS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from waypost.queue.memory import MemoryStorage
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Storage


def _memory() -> tuple[Storage, Callable[[], Storage]]:
    only = MemoryStorage()
    return only, lambda: only


#: A storage and, from it, the one that a new process would find (a memory storage is its own).
MAKERS: dict[str, Callable[[Path], tuple[Storage, Callable[[], Storage]]]] = {
    "memory": lambda _: _memory(),
    "sqlite": lambda path: (SqliteStorage(path / "spool"), lambda: SqliteStorage(path / "spool")),
}


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


@pytest.fixture(params=sorted(MAKERS))
async def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restartable]:
    storage, make = MAKERS[request.param](tmp_path)
    await storage.open(owner="first")
    both = Restartable(storage, make)
    yield both
    await both.now.close()


@pytest.fixture
def storage(restartable: Restartable) -> Storage:
    return restartable.now
