"""Notices that one process hands over to another, on the shelf."""

from __future__ import annotations

from tests.virtual import VirtualClock, virtual
from waypost.queue.memory import MemoryStorage
from waypost.report.common_notices import HANDED, CommonNotices


@virtual
async def test_what_another_release_handed_over_is_left_for_it_and_keeps_no_other_waiting() -> None:
    """It could not be read, and no notice went out as long as it was there."""
    shelf, clock = MemoryStorage(), VirtualClock()
    await shelf.open(owner="test")
    notices = CommonNotices(shelf, clock)
    await notices.hand_over("ours", {}, clock.now() - 5)
    await shelf.keep(HANDED, "theirs", b'{"since": "yesterday"}', until=clock.now() + 60)

    taken = await notices.taken_over()
    assert (taken.keys, taken.since) == (["ours"], clock.now() - 5)
    await notices.told(taken)
    assert [key for key, _ in await shelf.all_kept(HANDED, now=clock.now())] == ["theirs"]
