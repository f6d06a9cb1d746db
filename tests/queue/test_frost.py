"""What is frozen and who is watched, as kept on the shelf; by another release, too."""

from __future__ import annotations

from tests.virtual import VirtualClock, virtual
from waypost.queue.frost import SPACE, UNKNOWN, Frost, Frozen
from waypost.queue.memory import MemoryStorage
from waypost.queue.shelf import FOR_EVER
from waypost.queue.watching import SPACE as WATCHED
from waypost.queue.watching import Watching


@virtual
async def test_what_is_frozen_stays_so_where_another_release_has_written_it() -> None:
    """It could not be read, and so no process could begin."""
    shelf, clock = MemoryStorage(), VirtualClock()
    await shelf.open(owner="test")
    frost = Frost(shelf, clock)
    frozen = await frost.freeze("smtp://a.example:25", by="eve", reason="disk full")
    for place, value in (("smtp://b.example:25", b'{"place": 7}'), ("route inner", b"\xff")):
        await shelf.keep(SPACE, place, value, until=FOR_EVER)

    assert await frost.all() == {
        "smtp://a.example:25": frozen,
        "smtp://b.example:25": Frozen("smtp://b.example:25", UNKNOWN, "", 0.0),
        "route inner": Frozen("route inner", UNKNOWN, "", 0.0),
    }
    assert await frost.thaw("route inner")


@virtual
async def test_who_is_watched_by_another_release_is_not_watched_here() -> None:
    shelf, clock = MemoryStorage(), VirtualClock()
    await shelf.open(owner="test")
    watching = Watching(shelf, clock)
    await watching.begin("a.example", by="eve")
    await shelf.keep(WATCHED, "b.example", b"{}", until=FOR_EVER)

    assert list(await watching.all()) == ["a.example"]
