"""Killed and stopped at random moments, for as long as one has patience, while mail comes in and goes out.

SOAK_MINUTES says for how long (`make soak`: 5); without it half a minute, as a part of `make test-live`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.process import free_port, until
from tests.live.service import Service, prepare, running
from tests.live.sink import Sink, Taken, sink
from tests.live.source import Source, identity
from tests.live.test_killed import IN_FLIGHT, READ_LATE, arrived, doubled, lead

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.5"))

pytestmark = [pytest.mark.live, pytest.mark.timeout(MINUTES * 60 + 600)]


@dataclass(slots=True)
class FarEnd:
    """A server that is away now and then, so that the queue is never empty for long."""

    port: int = field(default_factory=free_port)
    lives: list[Sink] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # loop times

    @property
    def taken(self) -> list[Taken]:
        return [message for life in self.lives for message in life.taken]

    async def come_and_go(self, dice: random.Random) -> None:
        while True:
            async with sink(keep=identity, port=self.port) as life:
                self.lives.append(life)
                await asyncio.sleep(dice.uniform(2, 6))
            self.ends.append(asyncio.get_running_loop().time())
            await asyncio.sleep(dice.uniform(0.1, 1.5))


@asynccontextmanager
async def in_background(task: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_whatever_moment_it_is_killed_or_stopped_at_the_ledger_is_exact(
    place: Path, say: Callable[[str], None]
) -> None:
    dice = random.Random()  # noqa: S311 - each soak is another one
    far_end = FarEnd()
    service = prepare(place, to_port(far_end.port))
    async with running(service), in_background(asyncio.create_task(far_end.come_and_go(dice))):
        source = Source(service.port, sessions=12)
        sending = asyncio.create_task(source.run())
        kills, stops = await kill_and_stop(service, dice)
        source.enough()
        ledger = await sending
        promised = set(ledger.promised)
        # Where the far end went away behind the final dot, the service waits long enough to be sure; here it need not.
        await until(lambda: all_out(service), "an empty queue", within=120, log=service.log)

    taken = far_end.taken
    doubles = doubled(taken)
    earliest = max((lead(first, kills + far_end.ends) for first in doubles.values()), default=0.0)
    say(
        f"{MINUTES:g} minutes, {len(kills)} kills, {stops} stops: {len(promised)} promised, {len(arrived(taken))} "
        f"arrived, {len(ledger.in_doubt)} in doubt for the client, {len(doubles)} arrived twice"
    )
    assert promised - arrived(taken) == set()
    assert arrived(taken) - promised - ledger.in_doubt - set(ledger.refused) == set()
    assert {text[:9] for text in ledger.refused.values()} <= {"421 4.3.2"}
    assert earliest <= IN_FLIGHT + READ_LATE, doubles


async def kill_and_stop(service: Service, dice: random.Random) -> tuple[list[float], int]:
    """The loop times at which it was killed, and how often it was stopped."""
    loop = asyncio.get_running_loop()
    end, kills, stops = loop.time() + MINUTES * 60, [], 0
    while loop.time() < end:
        await asyncio.sleep(dice.uniform(0.05, 2.5))
        if dice.random() < 0.7:
            await service.kill()
            kills.append(loop.time())
        else:
            assert await service.stop() == 0
            stops += 1
        await service.start()
    return kills, stops


async def all_out(service: Service) -> bool:
    if not await service.queue():
        return True
    await service.cli("queue", "retry", "--all")
    await asyncio.sleep(1)
    return False
