"""What a route allows one next hop, shared by several workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.deliver.peer import ROUTE, Peer
from tests.deliver.town import Town
from tests.virtual import virtual
from waypost.deliver.destination import LONGEST_REST
from waypost.deliver.dispatch import REST
from waypost.deliver.sharing import NodeShares, Shares, part
from waypost.mail.envelope import NextHop
from waypost.net.shared import SharedNumbers
from waypost.net.stream import Fault, FaultKind
from waypost.queue.exchange import Exchange
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Selection
from waypost.route.route import Limits
from waypost.route.state import Phase


@given(limit=st.integers(1, 100), order=st.lists(st.integers(0, 63), min_size=1, unique=True))
def test_the_parts_of_all_workers_are_the_limit(limit: int, order: list[int]) -> None:
    parts = [part(limit, order, own) for own in order]

    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


def test_what_is_left_over_is_for_those_who_have_waited_longest() -> None:
    assert [part(4, (2, 5, 0), own) for own in (0, 2, 5)] == [1, 2, 1]


class Several:
    """Workers that deliver to one next hop, each over its own connections to one peer of its own."""

    def __init__(self, path: Path, count: int, *, concurrency: int) -> None:
        SharedNumbers.create(path, count)
        self.peers = [Peer(pauses={"MAIL": 2.0}) for _ in range(count)]
        self.towns = [Town(peer) for peer in self.peers]
        self.numbers = [SharedNumbers.open(path, row) for row in range(count)]
        for row, town in enumerate(self.towns):
            town.change("hop0", limits=replace(ROUTE.limits, concurrency=concurrency, messages=1))
            town.dispatcher._make = Shares(self.numbers[row], row).destination

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """How many attempts all have under way, each quarter of a second."""
        seen: list[int] = []

        async def watch() -> None:
            while True:
                seen.append(sum(state.running for town in self.towns for state in town.dispatcher.destinations()))
                await asyncio.sleep(0.25)

        watching = asyncio.ensure_future(watch())
        yield seen
        watching.cancel()


@virtual
async def test_all_workers_together_keep_within_the_limit(tmp_path: Path) -> None:
    several = Several(tmp_path / "numbers", 2, concurrency=3)
    async with several.towns[0] as one, several.towns[1] as two:
        with several.watched() as seen:
            await one.queue("hop0", 12)
            await two.queue("hop0", 12)
            await asyncio.sleep(200)

        assert max(seen) == 3
        assert [len(peer.accepted) for peer in several.peers] == [12, 12]
        assert several.numbers[0].total("running hop0") == 0
        assert several.numbers[0].total("wanting hop0") == 0


@virtual
async def test_a_worker_with_one_message_does_not_wait_for_anothers_backlog(tmp_path: Path) -> None:
    several = Several(tmp_path / "numbers", 2, concurrency=1)
    async with several.towns[0] as one, several.towns[1] as two:
        await one.queue("hop0", 50)
        await asyncio.sleep(10)
        await two.queue("hop0", 1)
        await asyncio.sleep(40)

        assert len(several.peers[1].accepted) == 1
        assert len(several.peers[0].accepted) < 50


@virtual
async def test_a_worker_alone_has_the_whole_limit(tmp_path: Path) -> None:
    several = Several(tmp_path / "numbers", 2, concurrency=3)
    async with several.towns[0] as one:
        with several.watched() as seen:
            await one.queue("hop0", 12)
            await asyncio.sleep(60)

        assert max(seen) == 3


REFUSED = Fault(FaultKind.REFUSED, "connection refused")


# ---- nodes: what each knows of the others is as old as a round of the exchange
class Nodes:
    """Nodes that deliver to one next hop, each over its own connections to one peer of its own."""

    def __init__(self, count: int, limits: Limits, *, cut_off: Sequence[int] = ()) -> None:
        self.shelf = MemoryStorage()
        self.peers = [Peer(pauses={"MAIL": 2.0}) for _ in range(count)]
        self.towns = [Town(REFUSED if row in cut_off else peer) for row, peer in enumerate(self.peers)]
        self.exchanges = [Exchange(self.shelf, town.clock, f"node{row}") for row, town in enumerate(self.towns)]
        for exchange, town in zip(self.exchanges, self.towns, strict=True):
            town.change("hop0", limits=limits)
            town.dispatcher._make = NodeShares(exchange.numbers, town.clock).destination
            town.dispatcher.share(exchange)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[int]]:
        """Yields how many attempts all have under way, each quarter of a second."""
        await self.shelf.open(owner="test")
        seen: list[int] = []

        async def watch() -> None:
            while True:
                seen.append(sum(state.running for town in self.towns for state in town.dispatcher.destinations()))
                await asyncio.sleep(0.25)

        async with AsyncExitStack() as stack:
            for town in self.towns:
                await stack.enter_async_context(town)
            tasks = [asyncio.ensure_future(exchange.run()) for exchange in self.exchanges]
            tasks.append(asyncio.ensure_future(watch()))
            await asyncio.sleep(3)
            yield seen
            for task in tasks:
                task.cancel()

    @property
    def accepted(self) -> list[int]:
        return [len(peer.accepted) for peer in self.peers]


def limits(concurrency: int, pace: float = 0.0) -> Limits:
    return replace(ROUTE.limits, concurrency=concurrency, messages=1, pace=pace)


@virtual
async def test_nodes_that_begin_in_the_same_moment_keep_to_the_limit_from_the_first() -> None:
    nodes = Nodes(3, limits(6))
    async with nodes.running() as seen:
        for town in nodes.towns:
            await town.queue("hop0", 40)
        await asyncio.sleep(200)

        assert max(seen) == 6
        assert nodes.accepted == [40, 40, 40]
        assert [exchange.numbers.own for exchange in nodes.exchanges] == [{}, {}, {}]


@virtual
async def test_a_node_alone_has_the_whole_limit_and_gives_way_when_another_comes() -> None:
    nodes = Nodes(2, limits(4))
    async with nodes.running() as seen:
        await nodes.towns[0].queue("hop0", 400)
        await asyncio.sleep(20)
        assert max(seen) == 4
        await nodes.towns[1].queue("hop0", 400)
        await asyncio.sleep(60)

        running = [town.dispatcher.destinations()[0].running for town in nodes.towns]
        assert running == [2, 2]
        assert max(seen) <= 4


@virtual
async def test_a_limit_of_one_goes_round_among_nodes() -> None:
    nodes = Nodes(3, limits(1))
    async with nodes.running() as seen:
        for town in nodes.towns:
            await town.queue("hop0", 400)
        await asyncio.sleep(20)
        settled = len(seen)
        await asyncio.sleep(400)

        assert max(seen) <= 3  # in the first rounds each may think that it is alone
        assert max(seen[settled:]) == 1
        assert min(nodes.accepted) > 30


@virtual
async def test_a_rate_is_that_of_all_nodes_together() -> None:
    nodes = Nodes(2, limits(10, pace=2.0))
    async with nodes.running():
        for town in nodes.towns:
            await town.queue("hop0", 200)
        await asyncio.sleep(10)
        before = sum(nodes.accepted)
        await asyncio.sleep(100)

        assert abs(sum(nodes.accepted) - before - 50) <= 2


@virtual
async def test_a_destination_that_rests_for_one_node_rests_for_all_and_for_those_to_come() -> None:
    nodes = Nodes(3, limits(5), cut_off=[0])
    one, two, three = nodes.towns
    async with nodes.running():
        await one.queue("hop0", 3)
        await asyncio.sleep(3)
        assert one.notes.rests
        await two.queue("hop0", 1)
        await asyncio.sleep(3)

        assert nodes.accepted == [0, 0, 0]
        (state,) = two.dispatcher.destinations()
        assert state.phase is Phase.RESTING
        assert state.cause == one.dispatcher.destinations()[0].cause
        assert "connection refused" in state.cause
        late = Exchange(nodes.shelf, three.clock, "late")
        three.dispatcher.share(late)
        await late.recall()
        await three.queue("hop0", 1)
        await asyncio.sleep(1)
        assert nodes.accepted == [0, 0, 0]


@virtual
async def test_a_rest_is_over_for_all_nodes_when_one_has_a_session_or_somebody_says_so() -> None:
    nodes = Nodes(3, limits(5), cut_off=[0])
    one, two, three = nodes.towns
    async with nodes.running():
        await one.queue("hop0", 3)
        await asyncio.sleep(3)
        await two.queue("hop0", 3)
        await three.queue("hop0", 3)
        await asyncio.sleep(5)
        assert nodes.accepted == [0, 0, 0]
        await two.storage.retry(Selection(), now=two.clock.now())
        two.dispatcher.try_again()
        await asyncio.sleep(15)
        assert nodes.accepted[1] == 3
        assert three.dispatcher.destinations()[0].phase is not Phase.RESTING
        assert one.dispatcher.destinations()[0].phase is not Phase.RESTING


@virtual
async def test_a_retry_ends_a_rest_that_is_known_from_others_alone_as_after_a_start() -> None:
    nodes = Nodes(2, limits(5), cut_off=[0])
    one, two = nodes.towns
    async with nodes.running():
        await one.queue("hop0", 3)
        await asyncio.sleep(3)
        assert one.notes.rests
        assert two.dispatcher.destinations() == []
        two.dispatcher.try_again()
        await two.queue("hop0", 1)
        await asyncio.sleep(3)

        assert nodes.accepted[1] == 1
        assert one.dispatcher.destinations()[0].phase is not Phase.RESTING


@virtual
async def test_a_rest_that_is_over_by_a_clock_that_is_ahead_ends_no_rest_of_its_own() -> None:
    nodes = Nodes(2, limits(5), cut_off=[0, 1])
    one, two = nodes.towns
    two.clock.step(timedelta(hours=1))
    async with nodes.running():
        await one.queue("hop0", 3)
        await two.queue("hop0", 3)
        await asyncio.sleep(5)
        assert one.notes.rests
        assert two.notes.rests

        assert two.dispatcher.destinations()[0].phase is Phase.RESTING


@virtual
async def test_a_rest_told_by_a_clock_that_is_far_ahead_is_no_longer_than_any() -> None:
    """A time that no clock has made the listener fail, and with it the exchange, or the start."""
    nodes = Nodes(2, limits(5))
    one, two = nodes.towns
    async with nodes.running():
        await one.queue("hop0", 1)
        for until in (one.clock.now() + 86_400, 1e300):
            nodes.exchanges[1].tell(REST, ("hop0", until, "no answer"), key="hop0", until=until)
        await asyncio.sleep(3)
        await one.queue("hop0", 1)
        await two.queue("hop0", 1)
        await asyncio.sleep(10)
        assert one.dispatcher.destinations()[0].phase is Phase.RESTING
        await asyncio.sleep(LONGEST_REST.total_seconds())
        assert one.dispatcher.destinations()[0].phase is not Phase.RESTING
        await asyncio.sleep(2 * LONGEST_REST.total_seconds())

        assert nodes.accepted[0] == 2


@virtual
async def test_to_hear_again_of_a_rest_of_ones_own_makes_it_no_second_one() -> None:
    """Each rest is longer than the one before: it is to be counted once."""
    nodes = Nodes(1, limits(5), cut_off=[0])
    (one,) = nodes.towns
    async with nodes.running():
        await one.queue("hop0", 3)
        await asyncio.sleep(3)
        assert len(one.notes.rests) == 1
        for _ in range(5):
            await asyncio.sleep(0.7)
            await nodes.exchanges[0].recall()

        assert one.dispatcher._destinations[NextHop("hop0")]._rests == 1


@virtual
async def test_a_rest_whose_cause_is_told_in_words_says_whose_they_are() -> None:
    nodes = Nodes(1, limits(5))
    (town,) = nodes.towns
    async with nodes.running():
        other = Exchange(nodes.shelf, town.clock, "other")
        other.tell("rest", ("hop0", town.clock.now() + 60, "it is tired", "Tired", {}))
        await other.round()
        await asyncio.sleep(2)
        await town.queue("hop0", 1)
        await asyncio.sleep(1)

        (state,) = town.dispatcher.destinations()
        assert "another process of this queue found: it is tired" in state.cause
        assert nodes.accepted == [0]
