"""Quotas: whatever is sent when, no period of that length ever sees more than the quota."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual import START, VirtualClock, run_virtual, virtual
from waypost.config.model.routes import _quota
from waypost.deliver.quotas import COUNTED, Quotas, Spent, Window
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind
from waypost.route.onward import PRESETS, Quota

HOURLY = Quota(10, timedelta(hours=1))


async def counting(clock: VirtualClock) -> Quotas:
    storage = MemoryStorage()
    await storage.open(owner="test")
    return Quotas(storage, clock)


@virtual
async def test_all_quotas_have_room_or_nothing_is_counted() -> None:
    quotas = await counting(VirtualClock())
    both = (Quota(100, timedelta(days=1)), Quota(5, timedelta(hours=1), "recipients"))
    assert await quotas.count(both, "me", recipients=3) == COUNTED
    spent = await quotas.count(both, "me", recipients=3)
    assert isinstance(spent, Spent)
    assert spent.quota is both[1]
    assert [window.used for window in await quotas.windows(both, "me")] == [1, 3]
    assert [window.used for window in await quotas.windows(both, "somebody else")] == [0, 0]


@virtual
async def test_a_message_larger_than_the_whole_quota_fills_it() -> None:
    quotas = await counting(VirtualClock())
    few = (Quota(5, timedelta(hours=1), "recipients"),)
    assert await quotas.count(few, "me", recipients=50) == COUNTED
    assert isinstance(await quotas.count(few, "me", recipients=1), Spent)


@given(st.lists(st.integers(0, 1800), min_size=1, max_size=60))
def test_what_is_counted_keeps_to_the_quota_and_at_the_time_told_there_is_room(pauses: list[int]) -> None:
    """What slides is an estimate: it takes the hour before for evenly used. `until` is exact by the same rule."""

    async def main() -> None:
        clock = VirtualClock(START)
        quotas = await counting(clock)
        for pause in pauses:
            await asyncio.sleep(pause)
            found = await quotas.count((HOURLY,), "me", recipients=1)
            (window,) = await quotas.windows((HOURLY,), "me")
            assert window.fits(clock.now())
            if isinstance(found, Spent):
                assert clock.now() < found.until <= clock.now() + 2 * 3600
                await asyncio.sleep(found.until - clock.now() + 1)
                assert await quotas.count((HOURLY,), "me", recipients=1) == COUNTED

    run_virtual(main())


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 10))
def test_until_is_a_time_at_which_it_fits(used: int, before: int, wanted: int) -> None:
    window = Window(HOURLY, 7200.0, used, before)
    until = window.until(wanted)
    if until <= 7200.0 + 3600:
        assert Window(HOURLY, 7200.0, used + wanted, before).fits(until + 0.001)
    else:
        assert Window(HOURLY, 10800.0, wanted, used).fits(until + 0.001)


class Broken(MemoryStorage):
    async def add(self, *_: object, **__: object) -> int:
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "sector 7"))


@virtual
async def test_a_shelf_in_trouble_is_told_of() -> None:
    with pytest.raises(StorageError):
        await Quotas(Broken(), VirtualClock()).count((HOURLY,), "me", recipients=1)


@pytest.mark.parametrize("text", ["", "10", "0/1d", "-1/1d", "10/", "10 people/1d", "10/1y", "hotmail", "10/1d/1d"])
def test_what_is_no_quota_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"quota|duration|bounds"):
        _quota(text)


@pytest.mark.parametrize("name", PRESETS)
def test_every_provider_is_one_word(name: str) -> None:
    assert _quota(name) == PRESETS[name]
    assert all(quota.amount > 0 for quota in PRESETS[name])


@virtual
async def test_how_much_is_used_is_told_and_until_when_mail_waits() -> None:
    storage, clock = MemoryStorage(), VirtualClock()
    await storage.open(owner="test")
    quotas = Quotas(storage, clock)
    await quotas.count([HOURLY], "ann", recipients=1)
    assert await quotas.used([HOURLY], "ann") == ["1 of 10 messages in 1 hour are used"]
    for _ in range(9):
        await quotas.count([HOURLY], "ann", recipients=1)
    (full,) = await quotas.used([HOURLY], "ann")
    assert full.startswith("10 of 10 messages in 1 hour are used, and mail waits until Thu, 01 Jan 2026 0")
