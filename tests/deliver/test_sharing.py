"""What a route allows one next hop, shared by several workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.deliver.peer import ROUTE, Peer
from tests.deliver.town import Town
from tests.virtual import virtual
from waypost.deliver.sharing import Shares, part
from waypost.net.shared import SharedNumbers


@given(limit=st.integers(1, 100), began=st.dictionaries(st.integers(0, 63), st.integers(0, 2**31), min_size=1))
def test_the_parts_of_all_workers_are_the_limit(limit: int, began: dict[int, int]) -> None:
    parts = [part(limit, began, own) for own in began]

    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


def test_what_is_left_over_is_for_those_who_have_waited_longest() -> None:
    assert [part(4, {0: 30, 2: 10, 5: 20}, own) for own in (0, 2, 5)] == [1, 2, 1]


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
