"""The promise of a 250: the service is killed again and again, and nothing it promised is lost."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.service import Service, prepare, running
from tests.live.sink import Taken, sink
from tests.live.source import Source, identity

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

KILLS = 10
#: How long before a kill a message may have gone out whose settlement the kill undid: the next hop's reply was on its
#: way to us, or its record on its way to the disk.
IN_FLIGHT = 0.5
#: A sink under load reads what a killed service had sent a little after the kill.
READ_LATE = 0.1


async def test_nothing_promised_is_lost_and_nothing_doubled_but_what_was_in_flight(
    place: Path, say: Callable[[str], None]
) -> None:
    async with sink(keep=identity) as far_end:
        service = prepare(place, to_port(far_end.port))
        async with running(service):
            source = Source(service.port)
            sending = asyncio.create_task(source.run())
            kills = await kill_again_and_again(service, random.Random(1999))  # noqa: S311 - no secret
            source.enough()
            ledger = await sending
            promised = set(ledger.promised)

            # What a kill left in doubt waits long enough to be sure; here it need not.
            await service.cli("queue", "retry", "--all")
            await far_end.until(lambda: promised <= arrived(far_end.taken), "every promised message", within=120)
            told = service.log.read_text().count("the service was killed before it had written down")

        doubles = doubled(far_end.taken)
        earliest = max((lead(first, kills) for first in doubles.values()), default=0.0)
        say(
            f"{KILLS} kills; {len(promised)} promised, {len(arrived(far_end.taken))} arrived, "
            f"{len(ledger.in_doubt)} in doubt for the client, {ledger.lost_connections} connections lost, "
            f"{told} told of as in doubt, {len(doubles)} arrived twice, the first of them {earliest * 1000:.0f} ms "
            "before a kill at the earliest"
        )
        assert promised - arrived(far_end.taken) == set()
        assert earliest <= IN_FLIGHT, doubles
        assert len(doubles) <= told  # nobody gets a second copy untold
        assert ledger.refused == {}


async def kill_again_and_again(service: Service, dice: random.Random) -> list[float]:
    """Kill and restart the service `KILLS` times; the loop times of the kills."""
    loop = asyncio.get_running_loop()
    kills = []
    for _ in range(KILLS):
        await asyncio.sleep(dice.uniform(0.2, 1.5))
        await service.kill()
        kills.append(loop.time())
        await service.start()
    await asyncio.sleep(0.5)
    return kills


def arrived(taken: Iterable[Taken]) -> set[int]:
    """The identities that came."""
    return {int(message.octets) for message in taken}


def doubled(taken: Iterable[Taken]) -> dict[int, float]:
    """The identities that came more than once, and when each came first."""
    times = defaultdict(list)
    for message in taken:
        times[int(message.octets)].append(message.at)
    return {number: min(at) for number, at in times.items() if len(at) > 1}


def lead(at: float, kills: Iterable[float]) -> float:
    """Seconds from `at` to the kill that came next; what came after the last kill has no kill to explain it."""
    return min((kill + READ_LATE - at for kill in kills if kill + READ_LATE >= at), default=math.inf)
