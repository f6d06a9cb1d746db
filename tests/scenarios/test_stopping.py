"""Stopping: what is under way may end, unless somebody asks a second time."""

from __future__ import annotations

import asyncio

import pytest

from tests.deliver.peer import Peer, Wrong
from tests.scenarios.whole import whole
from tests.virtual import virtual


@pytest.mark.parametrize(("asked_twice", "seconds"), [(False, 30), (True, 1)])
@virtual
async def test_an_unanswered_final_dot_is_waited_for_unless_somebody_asks_twice(
    *, asked_twice: bool, seconds: float
) -> None:
    stuck = Peer(always={"dot": Wrong.STALL})
    asking: list[asyncio.Task[None]] = []
    async with whole(hosts={"192.0.2.1": stuck}) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)

        async def ask_again() -> None:
            await asyncio.sleep(1)
            await service.running.hurry()

        if asked_twice:
            asking.append(asyncio.ensure_future(ask_again()))
        began = service.clock.monotonic()
    assert service.clock.monotonic() - began == pytest.approx(seconds, abs=0.1)
    await asyncio.gather(*asking)
