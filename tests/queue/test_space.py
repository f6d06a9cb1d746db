from __future__ import annotations

from pathlib import Path

from tests.virtual import VirtualClock
from waypost.queue.space import Room, free_octets

PLACE = Path("/var/spool/waypost")


async def test_room_is_low_below_the_floor_and_not_at_it() -> None:
    free = [100]
    room = Room(PLACE, 100, VirtualClock(), measure=lambda _: free[0])
    for free[0], is_low in ((100, False), (99, True), (0, True), (100, False)):
        await room.look()
        assert room.is_low is is_low


async def test_a_file_system_that_cannot_be_asked_changes_nothing() -> None:
    free: list[int] = [0]

    def measure(_: Path) -> int:
        return free.pop()

    def fail(_: Path) -> int:
        raise OSError("stale file handle")

    room = Room(PLACE, 100, VirtualClock(), measure=measure)
    await room.look()
    room._measure = fail
    await room.look()
    assert room.is_low


async def test_what_is_measured_is_there(tmp_path: Path) -> None:
    assert free_octets(tmp_path) > 0
