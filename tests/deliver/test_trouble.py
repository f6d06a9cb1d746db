"""Behaviour under trouble, on virtual time: the end while peers stall, destinations that die, come back, or crowd."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.deliver.peer import ROUTE, Peer, Wrong
from tests.deliver.town import POLICY, Town
from tests.virtual import elapsed, virtual
from waypost.deliver.crowd import Capacity, Load
from waypost.deliver.destination import Standing
from waypost.mail.envelope import MessageId
from waypost.mail.outcome import Rejected
from waypost.net.stream import Endpoint, Fault, FaultKind, Stream
from waypost.queue.storage import QueueEntry, RecipientState, Selection
from waypost.route.state import DestinationState, Phase

PATIENCE = timedelta(seconds=30)


async def entries(town: Town) -> list[QueueEntry]:
    return list(await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=2000, now=town.clock.now()))


# ---- the end
@pytest.mark.parametrize("state", ["banner", "EHLO", "MAIL", "RCPT", "DATA"])
@virtual
async def test_an_attempt_that_has_sent_no_body_is_cut_off_at_once_and_given_back_untried(state: str) -> None:
    town = Town(Peer(always={state: Wrong.STALL}))
    async with town:
        began = town.clock.now()
        await town.queue("hop0", 3, hand_over=True)
        await asyncio.sleep(5)
        _, took = await elapsed(town.dispatcher.stop(PATIENCE))
        assert took < 1
        after = await entries(town)
        assert [entry.state for entry in after] == [RecipientState.DUE] * 3
        assert [entry.attempts for entry in after] == [0] * 3
        assert [entry.due_at for entry in after] == [began] * 3
        assert town.notes.attempts == []


@virtual
async def test_the_end_waits_for_a_body_on_its_way_and_for_nothing_else() -> None:
    slow, stuck = Peer(pauses={"dot": 10}), Peer(always={"banner": Wrong.STALL})
    town = Town(slow, stuck)
    async with town:
        await town.queue("hop0", 2, hand_over=True)
        await town.queue("hop1", 2, hand_over=True)
        await asyncio.sleep(4)
        _, took = await elapsed(town.dispatcher.stop(PATIENCE))
        assert len(slow.accepted) == 2
        assert 5 < took < 7
        assert [entry.next_hop for entry in await entries(town)] == ["hop1"] * 2


@virtual
async def test_what_was_answered_before_the_cut_stays_answered() -> None:
    peer = Peer(recipients={"no@example.com": "550 5.1.1 nobody"}, always={"DATA": Wrong.STALL})
    town = Town(peer)
    async with town:
        await town.queue("hop0", to=("no@example.com", "yes@example.com"), hand_over=True)
        await asyncio.sleep(4)
        await town.dispatcher.stop(PATIENCE)
        ((_, settled),) = town.notes.attempts
        assert isinstance(settled[0].outcome, Rejected)
        assert [entry.forward_path for entry in await entries(town)] == ["yes@example.com"]


# ---- what peers and a town need for the rest
class Counting(Peer):
    """A peer that knows how many sessions it has at once, and has had at most."""

    now = 0
    most = 0

    async def __call__(self, stream: Stream) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await super().__call__(stream)
        finally:
            self.now -= 1


def state(town: Town, hop: str) -> DestinationState:
    return next(one for one in town.dispatcher.destinations() if one.next_hop == hop)


def one_message_a_connection(town: Town, hop: str, concurrency: int) -> None:
    town.change(hop, limits=replace(ROUTE.limits, concurrency=concurrency, messages=1))


def comes_back(town: Town, number: int, peer: Peer) -> None:
    town.world.dialer.hosts[town.world.hosts[number].endpoint] = peer


async def latencies(town: Town, hop: str, peer: Peer, messages: int, every: float = 0.1) -> list[float]:
    """Seconds from the 250 to the next hop's, of so many fresh messages handed over one by one."""
    found = []
    for _ in range(messages):
        before, began = len(peer.accepted), town.clock.monotonic()
        await town.queue(hop, hand_over=True)
        while len(peer.accepted) == before:
            await asyncio.sleep(0.01)
            assert town.clock.monotonic() < began + 900, "not delivered within 15 minutes"
        found.append(town.clock.monotonic() - began)
        await asyncio.sleep(every)
    return found


# ---- one destination
@virtual
async def test_concurrency_grows_with_success_up_to_the_limit_and_shrinks_with_failure() -> None:
    peer = Counting(pauses={"banner": 1})
    async with Town(peer) as town:
        one_message_a_connection(town, "hop0", 12)
        await town.queue("hop0", 300)
        await asyncio.sleep(0.5)
        assert (state(town, "hop0").window, peer.most) == (5, 5)
        await asyncio.sleep(2)
        assert 5 < state(town, "hop0").window < 12
        await asyncio.sleep(15)
        assert (state(town, "hop0").window, peer.most) == (12, 12)
        comes_back(town, 0, Peer(always={"banner": "421 4.3.2 too many of you"}))
        await asyncio.sleep(2)
        shrunk = state(town, "hop0")
        assert (shrunk.window, shrunk.phase) == (1, Phase.RESTING)


@virtual
async def test_a_dead_destination_is_probed_by_one_attempt_which_decides_for_the_others() -> None:
    async with Town(Fault(FaultKind.REFUSED)) as town:
        await town.queue("hop0", 300)
        await asyncio.sleep(30)
        resting = state(town, "hop0")
        assert resting.phase is Phase.RESTING
        assert "refused" in resting.cause
        assert town.clock.now() < resting.rests_until <= town.clock.now() + 60
        comes_back(town, 0, Peer(always={"banner": Wrong.STALL}))
        await asyncio.sleep(60)
        assert state(town, "hop0").phase is Phase.PROBING
        seen = set()
        for _ in range(180):
            await asyncio.sleep(5)
            seen.add(state(town, "hop0").running)
        assert seen == {0, 1}


@virtual
async def test_a_destination_that_comes_back_is_not_trampled_and_others_do_not_notice() -> None:
    back, other = Counting(pauses={"banner": 0.5}), Peer(pauses={"banner": 0.1})
    async with Town(Fault(FaultKind.TIMED_OUT), other) as town:
        one_message_a_connection(town, "hop0", 20)
        one_message_a_connection(town, "hop1", 20)
        await town.queue("hop0", 1000)
        await asyncio.sleep(600)
        assert len(await entries(town)) == 1000
        usual = await latencies(town, "hop1", other, 20)
        comes_back(town, 0, back)
        await town.storage.retry(Selection(), now=town.clock.now())
        town.dispatcher.try_again()
        growth = []
        for _ in range(10):
            await asyncio.sleep(0.4)
            growth.append(back.most)
        assert growth[0] == 1
        assert growth == sorted(growth)
        assert growth[-1] < 10
        meanwhile = await latencies(town, "hop1", other, 50)
        assert max(meanwhile) <= max(usual) + 0.02
        await asyncio.sleep(120)
        assert (len(back.accepted), back.most) == (1000, 20)


@virtual
async def test_an_operators_retry_does_not_wait_for_the_end_of_a_rest() -> None:
    peer = Peer()
    async with Town(Fault(FaultKind.REFUSED)) as town:
        await town.queue("hop0", 10)
        await asyncio.sleep(10)
        comes_back(town, 0, peer)
        await town.storage.retry(Selection(), now=town.clock.now())
        town.dispatcher.try_again()
        await asyncio.sleep(1)
        assert len(peer.accepted) == 10


@virtual
async def test_what_failed_together_does_not_come_back_together() -> None:
    async with Town(Fault(FaultKind.REFUSED), policy=replace(POLICY, jitter=0.1)) as town:
        await town.queue("hop0", 500)
        await asyncio.sleep(30)
        due = sorted(entry.due_at for entry in await entries(town))
        assert due[-1] - due[0] > 5  # of the 6 that a tenth of a minute is
        assert max(sum(1 for other in due if at <= other < at + 0.5) for at in due) < 100


# ---- backlogs
@virtual
async def test_the_backlog_of_one_reverse_path_does_not_delay_the_fresh_mail_of_another() -> None:
    peer = Peer(pauses={"banner": 1})
    async with Town(peer) as town:
        one_message_a_connection(town, "hop0", 2)
        await town.queue("hop0", 500, hand_over=True, by="newsletter@example.org")
        await asyncio.sleep(30)
        before = len(peer.accepted)
        await town.queue("hop0", hand_over=True, by="carol@example.org", to=("carol@example.com",))
        await asyncio.sleep(4)
        assert ("carol@example.com",) in [to for to, _ in peer.accepted[before:]]
        assert len(await entries(town)) > 400


@virtual
async def test_the_backlog_of_one_destination_does_not_delay_another() -> None:
    slow, other = Peer(pauses={"banner": 1}), Peer()
    async with Town(slow, other) as town:
        one_message_a_connection(town, "hop0", 2)
        await town.queue("hop0", 1000, hand_over=True)
        await asyncio.sleep(5)
        assert max(await latencies(town, "hop1", other, 20)) <= 0.05


# ---- many that are stuck
class StuckTown(Town):
    """`stuck` next hops that stall in `state` ("connect": it cannot be reached), then one that lives and a new one."""

    def __init__(self, stuck: int, state: str, capacity: Capacity) -> None:
        self.live, self.fresh = Peer(pauses={"banner": 0.05}), Peer(pauses={"banner": 0.05})
        stall = Peer() if state == "connect" else Peer(always={state: Wrong.STALL})
        super().__init__(*[stall] * stuck, self.live, self.fresh, capacity=capacity)
        self.hops = [f"hop{number}" for number in range(stuck)]
        if state == "connect":
            self._stall_at_connect({host.endpoint for host in self.world.hosts[:stuck]})

    def _stall_at_connect(self, stuck: set[Endpoint]) -> None:
        dial = self.world.dialer.dial

        async def stalling(endpoint: Endpoint, within: timedelta, source: str = "") -> Stream | Fault:
            if endpoint not in stuck:
                return await dial(endpoint, within)
            await asyncio.sleep(within.total_seconds())
            return Fault(FaultKind.TIMED_OUT)

        self.world.dialer.dial = stalling  # type: ignore[method-assign]  # some of its hosts take no connection


async def worst(stuck: int, state: str, *, each: int, capacity: Capacity) -> tuple[float, float]:
    """The worst latency to a destination that is known, and to one that is new, beside `stuck` ones with a backlog."""
    async with StuckTown(stuck, state, capacity) as town:
        live, fresh = f"hop{stuck}", f"hop{stuck + 1}"
        await latencies(town, live, town.live, 1)
        for hop in town.hops:
            await town.queue(hop, each, hand_over=True)
        known = max(await latencies(town, live, town.live, 20, every=1))
        new = max(await latencies(town, fresh, town.fresh, 2))
        return known, new


@pytest.mark.parametrize("state", ["connect", "EHLO", "DATA", "dot"])
@pytest.mark.parametrize("stuck", [1, 100])
@virtual
async def test_what_is_stuck_slows_nobody_else(stuck: int, state: str) -> None:
    known, new = await worst(stuck, state, each=10, capacity=Capacity())
    assert known < 0.1
    assert new < 0.5


@virtual
async def test_more_stuck_destinations_than_there_are_workers_for_slow_none_that_is_known_to_live() -> None:
    known, new = await worst(60, "EHLO", each=10, capacity=Capacity(attempts=50, reserve=10, leases=400))
    assert known < 0.1
    assert new < 30


@pytest.mark.parametrize(
    ("standing", "running", "load", "allowed"),
    [
        (Standing.PROVEN, 0, Load(499, 375, 250), True),
        (Standing.PROVEN, 1, Load(399, 375, 250), True),
        (Standing.PROVEN, 1, Load(400, 0, 0), False),
        (Standing.NEW, 4, Load(300, 124, 0), True),
        (Standing.NEW, 1, Load(300, 125, 0), False),
        (Standing.NEW, 0, Load(450, 374, 250), True),
        (Standing.NEW, 0, Load(450, 375, 250), False),
        (Standing.DOUBTFUL, 0, Load(450, 375, 249), True),
        (Standing.DOUBTFUL, 0, Load(450, 375, 250), False),
        (Standing.DOUBTFUL, 1, Load(150, 10, 10), False),
    ],
)
def test_room_is_shared_by_standing(standing: Standing, running: int, load: Load, *, allowed: bool) -> None:
    assert Capacity(attempts=500, reserve=100).allows(running, standing, load) is allowed
