"""The configurations that were in force, as kept on the shelf."""

from __future__ import annotations

from waypost.admin import revisions
from waypost.queue.memory import MemoryStorage
from waypost.queue.shelf import FOR_EVER


async def test_a_revision_that_another_release_kept_otherwise_is_passed_over_and_stays() -> None:
    """It could not be read, and so the service did not start."""
    shelf = MemoryStorage()
    await shelf.open(owner="test")
    first = await revisions.note(shelf, "first", by="start", where="waypost.toml", now=1.0)
    await shelf.keep("config", "0123456789ab", b"\x93\x01\x02", until=FOR_EVER)

    second = await revisions.note(shelf, "second", by="start", where="waypost.toml", now=2.0)
    assert await revisions.revisions(shelf, now=3.0) == [second, first]
    assert len(await shelf.all_kept("config", now=3.0)) == 3
