from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.contract.letters import HOP, NOW, accept, settlement
from tests.virtual import VirtualClock, virtual
from waypost.queue.space import Room
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind


async def test_room_is_low_below_the_floor_and_not_at_it() -> None:
    free = [0]

    async def measure() -> int:
        return free[0]

    room = Room(measure, 100, VirtualClock())
    for octets, is_low in ((100, False), (99, True), (0, True), (100, False)):
        free[0] = octets
        await room.look()
        assert room.is_low is is_low


@pytest.mark.parametrize("error", [OSError("stale"), StorageError(StoreFault(StoreFaultKind.CLOSED, "closed"))])
async def test_a_storage_that_does_not_answer_changes_nothing(error: Exception) -> None:
    answers: list[int] = [0]

    async def measure() -> int:
        if not answers:
            raise error
        return answers.pop()

    room = Room(measure, 100, VirtualClock())
    await room.look()
    await room.look()
    assert room.is_low


@virtual
async def test_it_looks_once_a_second() -> None:
    looks = 0

    async def measure() -> int:
        nonlocal looks
        looks += 1
        return 0

    task = asyncio.ensure_future(Room(measure, 1, VirtualClock()).watch())
    await asyncio.sleep(9.5)
    task.cancel()
    assert looks == 10


async def test_what_deliveries_freed_within_the_spool_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool never shrinks: else a disk that was filled by a backlog would stay full when all of it is delivered."""
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)  # others may write to it meanwhile
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="test")
    for number in range(40):
        await accept(storage, number, octets=bytes(200_000))
    before = await storage.room()
    for lease in await storage.claim(HOP, now=NOW, until=NOW + 9, messages=99):
        await storage.settle(settlement(lease))
    assert await storage.room() - before > 5_000_000
    await storage.close()


async def test_a_database_that_was_deleted_or_replaced_beneath_is_noticed_and_so_is_its_return(tmp_path: Path) -> None:
    """A service went on giving 250 for what it wrote into a file that had no name any more."""
    storage = SqliteStorage(tmp_path, allow_ephemeral=True)
    await storage.open(owner="test")
    room = Room(storage.room, 0, VirtualClock())
    try:
        await room.look()
        assert (room.gone, room.why) == ("", "")
        (tmp_path / "queue.db").rename(tmp_path / "elsewhere")
        await room.look()
        assert f"{tmp_path / 'queue.db'} was deleted, or another was put in its place" in room.gone
        assert room.why == room.gone
        (tmp_path / "queue.db").touch()
        await room.look()
        assert room.gone
        (tmp_path / "elsewhere").rename(tmp_path / "queue.db")
        await room.look()
        assert room.gone == ""
    finally:
        await storage.close()
