"""The wall clock is set, by hours or by years, while mail waits: nothing bursts, and nothing expires before its time.

What waits is due at a time of the wall clock, for it has to outlive the process. What runs is timed by the loop.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.deliver.peer import Peer
from tests.scenarios.whole import DAY, HOUR, MINUTE, Whole, accepted_by, whole
from tests.virtual import VirtualClock, virtual
from waypost.net.stream import Endpoint, Stream

HOST = "192.0.2.1"
THERE = Endpoint(HOST, 25)
HOURLY = '[retry]\nschedule = ["1h"]\njitter = 0.0\nexpire = "5d"\n'


def step(service: Whole, seconds: float) -> None:
    assert isinstance(service.clock, VirtualClock)
    service.clock.step(timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-HOUR, -DAY, -3650 * DAY], ids=["an hour", "a day", "ten years"])
@virtual
async def test_set_back_it_makes_no_mail_wait_as_long_as_it_was_set_back(seconds: float) -> None:
    async with whole(schedule=HOURLY) as service:
        waiting = await service.take("waiting@far.example")
        await asyncio.sleep(MINUTE)
        step(service, seconds)
        service.network.hosts[THERE] = peer = Peer()
        await service.take("later@far.example")
        await asyncio.sleep(2 * HOUR)
        assert sorted(accepted_by(peer)) == ["later@far.example", "waiting@far.example"]
        assert await service.attempts(waiting) == 2
        assert await service.inbox() == []


@pytest.mark.parametrize("seconds", [HOUR, DAY, 4 * DAY], ids=["an hour", "a day", "four days"])
@virtual
async def test_set_forward_what_is_due_by_the_clock_is_tried_once_and_nothing_expires_before_its_time(
    seconds: float,
) -> None:
    async with whole(schedule=HOURLY) as service:
        names = [await service.take(f"user{number}@far.example") for number in range(20)]
        await asyncio.sleep(MINUTE)
        step(service, seconds)
        await asyncio.sleep(30 * MINUTE)
        assert [await service.attempts(name) for name in names] == [2] * 20
        assert len(await service.queue()) == 20


@virtual
async def test_set_forward_by_years_it_has_expired_and_its_author_is_told() -> None:
    async with whole(schedule=HOURLY) as service:
        await service.take("waiting@far.example")
        await asyncio.sleep(MINUTE)
        step(service, 3650 * DAY)
        await asyncio.sleep(2 * HOUR)
        assert await service.queue() == []
        assert b"Action: failed" in (await service.inbox())[-1]


@pytest.mark.parametrize("seconds", [-DAY, 2 * HOUR, 365 * DAY])
@virtual
async def test_set_in_the_middle_of_an_attempt_it_sends_nothing_twice(seconds: float) -> None:
    peer = Peer()

    async def slow(stream: Stream) -> None:
        await asyncio.sleep(2 * MINUTE)
        await peer(stream)

    async with whole(hosts={HOST: slow}, schedule=HOURLY) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(MINUTE)
        step(service, seconds)
        await asyncio.sleep(3 * HOUR)
        assert accepted_by(peer) == ["bob@far.example"]
        assert await service.queue() == []
