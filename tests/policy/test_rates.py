"""How much clients may send in a time: who shares a bucket, when it is empty, and when it fills again."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual import VirtualClock, virtual
from waypost.policy import rates
from waypost.policy.rates import WITHIN, By, Exceeded, Kind, Meter, Rate, Sender
from waypost.queue.exchange import Exchange
from waypost.queue.memory import MemoryStorage

MINUTE = timedelta(minutes=1)


async def meter(*found: Rate) -> Meter:
    storage = MemoryStorage()
    await storage.open(owner="test")
    return Meter(found, VirtualClock(), storage)


def rate(by: By = By.CLIENT, limit: int = 2, **more: object) -> Rate:
    return Rate(Kind.MESSAGES, by, limit, MINUTE, **more)  # type: ignore[arg-type]


@virtual
async def test_a_bucket_empties_and_fills_again_evenly() -> None:
    found = await meter(rate())
    sender = Sender("192.0.2.1")
    assert [found.take(Kind.MESSAGES, sender) for _ in range(2)] == [WITHIN, WITHIN]
    exceeded = found.take(Kind.MESSAGES, sender)
    assert isinstance(exceeded, Exceeded)
    assert exceeded.wait == timedelta(seconds=30)
    assert str(rates.refusal(exceeded, closing=False)) == (
        "450 4.7.1 too many messages from you; come back in 30 seconds"
    )
    await VirtualClock().sleep(timedelta(seconds=30))
    assert found.take(Kind.MESSAGES, sender) == WITHIN
    assert isinstance(found.take(Kind.MESSAGES, sender), Exceeded)


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        (By.CLIENT, "192.0.2.1", "192.0.2.2"),
        (By.CLIENT, "2001:db8::1:1", "2001:db8:0:1::1"),
        (By.NETWORK, "192.0.2.200", "192.0.3.1"),
        (By.NETWORK, "2001:db8:0:9::1", "2001:db8:1::1"),
    ],
)
@virtual
async def test_who_shares_a_bucket(by: By, same: str, other: str) -> None:
    found = await meter(rate(by, limit=1))
    first = "2001:db8::1" if ":" in same else "192.0.2.1"
    assert found.take(Kind.MESSAGES, Sender(first)) == WITHIN
    assert isinstance(found.take(Kind.MESSAGES, Sender(same)), Exceeded)
    assert found.take(Kind.MESSAGES, Sender(other)) == WITHIN


@virtual
async def test_an_account_is_counted_wherever_it_comes_from_and_strangers_are_not() -> None:
    found = await meter(rate(By.ACCOUNT, limit=1))
    assert found.take(Kind.MESSAGES, Sender("192.0.2.1", "Ann")) == WITHIN
    assert isinstance(found.take(Kind.MESSAGES, Sender("198.51.100.1", "ann")), Exceeded)
    assert [found.take(Kind.MESSAGES, Sender("192.0.2.1")) for _ in range(3)] == [WITHIN] * 3


@virtual
async def test_a_rate_is_about_its_networks_without_the_exempt() -> None:
    found = await meter(rate(By.ALL, 1, networks=(ip_network("192.0.2.0/24"),), exempt=(ip_network("192.0.2.7/32"),)))
    assert found.take(Kind.MESSAGES, Sender("192.0.2.1")) == WITHIN
    assert isinstance(found.take(Kind.MESSAGES, Sender("192.0.2.2")), Exceeded)
    assert found.take(Kind.MESSAGES, Sender("192.0.2.7")) == WITHIN
    assert found.take(Kind.MESSAGES, Sender("198.51.100.1")) == WITHIN


@virtual
async def test_what_one_rate_refuses_costs_no_other_a_token() -> None:
    found = await meter(rate(By.CLIENT, limit=1), rate(By.ALL, limit=2))
    one, other = Sender("192.0.2.1"), Sender("192.0.2.2")
    assert found.take(Kind.MESSAGES, one) == WITHIN
    assert isinstance(found.take(Kind.MESSAGES, one), Exceeded)
    assert found.take(Kind.MESSAGES, other) == WITHIN


@virtual
async def test_what_is_counted_in_the_spool_outlasts_the_process() -> None:
    storage = MemoryStorage()
    await storage.open(owner="test")
    kept, sender, clock = rate(limit=2, in_spool=True), Sender("192.0.2.1"), VirtualClock()
    before, after = Meter((kept,), clock, storage), Meter((kept,), clock, storage)
    assert [await before.take_kept(Kind.MESSAGES, sender) for _ in range(2)] == [WITHIN, WITHIN]
    exceeded = await after.take_kept(Kind.MESSAGES, sender)
    assert isinstance(exceeded, Exceeded)
    assert timedelta() < exceeded.wait <= MINUTE
    await clock.sleep(MINUTE)
    assert await after.take_kept(Kind.MESSAGES, sender) == WITHIN


@virtual
async def test_memory_does_not_grow_with_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "BUCKETS", 10)
    found = await meter(rate(limit=1))
    for number in range(100):
        found.take(Kind.MESSAGES, Sender(f"192.0.2.{number}"))
    assert len(found._buckets) == 10


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 20))
def test_nobody_gets_more_than_a_burst_and_the_average(pauses: list[float], limit: int) -> None:
    class Clock(VirtualClock):
        at = 0.0

        def monotonic(self) -> float:
            return self.at

    clock = Clock()
    found = Meter((rate(limit=limit),), clock, MemoryStorage())
    taken = 0
    for pause in pauses:
        clock.at += pause
        taken += found.take(Kind.MESSAGES, Sender("192.0.2.1")) == WITHIN
    assert taken <= limit + clock.at * limit / 60 + 1e-6


@virtual
async def test_what_one_process_counts_the_others_count_too() -> None:
    shelf, clock = MemoryStorage(), VirtualClock()
    await shelf.open(owner="test")
    meters = [Meter([rate(limit=4)], clock, shelf) for _ in range(2)]
    exchanges = [Exchange(shelf, clock, name) for name in "ab"]
    for found, exchange in zip(meters, exchanges, strict=True):
        found.share(exchange)
    one, two = meters
    sender = Sender("192.0.2.1")
    for _ in range(4):
        assert one.take(Kind.MESSAGES, sender) == two.take(Kind.MESSAGES, sender) == WITHIN  # two bursts at once
    for exchange in (*exchanges, *exchanges):
        await exchange.round()

    exceeded = two.take(Kind.MESSAGES, sender)
    assert isinstance(exceeded, Exceeded)
    assert exceeded.wait == timedelta(seconds=75)  # and the second is made up for
    assert two.take(Kind.MESSAGES, Sender("192.0.2.2")) == WITHIN
    await clock.sleep(exceeded.wait)
    assert one.take(Kind.MESSAGES, sender) == WITHIN


@virtual
async def test_a_rate_that_another_process_has_otherwise_counts_for_nothing() -> None:
    shelf, clock = MemoryStorage(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Meter([rate(limit=1)], clock, shelf), Meter([rate(limit=2)], clock, shelf)
    exchanges = [Exchange(shelf, clock, name) for name in "ab"]
    one.share(exchanges[0])
    two.share(exchanges[1])
    one.take(Kind.MESSAGES, Sender("192.0.2.1"))
    for exchange in exchanges:
        await exchange.round()

    assert [two.take(Kind.MESSAGES, Sender("192.0.2.1")) for _ in range(2)] == [WITHIN, WITHIN]
