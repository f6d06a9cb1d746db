"""What processes of one queue tell one another, round by round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.virtual import VirtualClock, virtual
from waypost.queue.exchange import AT_LEAST_IDLE, AT_ONCE, BURIED, REPEATED, SILENT, SPACE, Exchange
from waypost.queue.memory import MemoryStorage
from waypost.queue.shelf import Absent
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind


class Flaky(MemoryStorage):
    """A shelf that can be out of reach, or refuse what has this key."""

    fails = False
    refused = ""
    writes = 0

    async def keep(self, space: str, key: str, value: bytes, *, until: float) -> None:
        if self.fails or key == self.refused:
            raise StorageError(StoreFault(StoreFaultKind.FAILED, "no answer"))
        self.writes += 1
        await super().keep(space, key, value, until=until)

    async def all_kept(self, space: str, *, now: float) -> list[tuple[str, bytes]]:
        if self.fails:
            raise StorageError(StoreFault(StoreFaultKind.FAILED, "no answer"))
        return list(await super().all_kept(space, now=now))


@pytest.fixture
async def shelf() -> AsyncIterator[Flaky]:
    one = Flaky()
    await one.open(owner="test")
    yield one
    await one.close()


async def rounds(*exchanges: Exchange) -> None:
    """Two rounds of each: what was told is known."""
    for exchange in (*exchanges, *exchanges):
        await exchange.round()


def listening(exchange: Exchange, kind: str = "news") -> list[str]:
    heard: list[str] = []
    exchange.listen(kind, str, heard.append)
    return heard


async def test_what_one_tells_each_other_hears_once_and_itself_never(shelf: Flaky) -> None:
    one, two, three = (Exchange(shelf, VirtualClock(), name) for name in "abc")
    heard = [listening(exchange) for exchange in (one, two, three)]
    one.tell("news", "first")
    await rounds(one, two, three)
    one.tell("news", "second")
    await rounds(one, two, three)

    assert heard == [[], ["first", "second"], ["first", "second"]]


async def test_a_fact_that_means_nothing_here_is_passed_over(shelf: Flaky) -> None:
    one, two = Exchange(shelf, VirtualClock(), "a"), Exchange(shelf, VirtualClock(), "b")
    heard = listening(two)
    one.tell("unheard of", "x")
    one.tell("news", 7)
    one.tell("news", "x")
    await shelf.keep(SPACE, "of a later release", b"{}", until=2**40)
    await rounds(one, two)

    assert heard == ["x"]


async def test_a_lasting_fact_is_known_to_who_begins_later_and_the_latest_counts(shelf: Flaky) -> None:
    clock = VirtualClock()
    one, late = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    for value, key in (("old", "k"), ("new", "k"), ("other", "l")):
        one.tell("news", value, key=key, until=clock.now() + 1000)
    one.tell("news", "over", key="m", until=clock.now())
    await one.round()
    heard = listening(late)
    await late.recall()

    assert heard == ["new", "other"]


async def test_many_lasting_facts_are_kept_round_by_round(shelf: Flaky) -> None:
    clock = VirtualClock()
    one = Exchange(shelf, clock, "a")
    for number in range(AT_ONCE + 1):
        one.tell("news", str(number), key=str(number), until=clock.now() + 1000)
    await one.round()
    assert len(await shelf.all_kept("known news", now=clock.now())) == AT_ONCE
    shelf.fails = True
    with pytest.raises(StorageError):
        await one.round()
    shelf.fails = False
    await one.round()
    assert len(await shelf.all_kept("known news", now=clock.now())) == AT_ONCE + 1


@virtual
async def test_it_is_repeated_for_who_could_not_read_and_then_no_longer() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    heard = listening(two)
    one.tell("news", "x")
    await one.round()
    await asyncio.sleep(REPEATED.total_seconds() - 1)
    await one.round()
    await two.round()
    assert heard == ["x"]

    await asyncio.sleep(2)
    await one.round()
    late = Exchange(shelf, clock, "c")
    heard = listening(late)
    await late.round()
    assert heard == []


@virtual
async def test_a_shelf_out_of_reach_delays_what_is_told_and_loses_nothing() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    heard = listening(two)
    running = [asyncio.ensure_future(exchange.run()) for exchange in (one, two)]
    await asyncio.sleep(2)
    shelf.fails = True
    one.tell("news", "x")
    await asyncio.sleep(600)
    assert heard == []
    shelf.fails = False
    await asyncio.sleep(2)
    assert heard == ["x"]
    for task in running:
        task.cancel()


@virtual
async def test_numbers_add_up_and_those_of_the_silent_do_not_count() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "b"), Exchange(shelf, clock, "a")
    one.numbers.add("n", 2)
    two.numbers.add("n", 3)
    two.numbers.set("m", 1)
    two.numbers.add("m", -1)
    await rounds(one, two)

    assert one.numbers.of_all("n") == two.numbers.of_all("n") == [3, 2]
    assert (one.numbers.row, two.numbers.row, one.numbers.processes) == (1, 0, 2)
    one.numbers.add("n", 1)
    assert (one.numbers.total("n"), two.numbers.total("n")) == (6, 5)

    await asyncio.sleep(SILENT.total_seconds() + 1)
    await one.round()
    assert one.numbers.of_all("n") == [3]
    assert one.numbers.processes == 1
    await two.round()
    await one.round()
    assert one.numbers.total("n") == 6

    await asyncio.sleep(BURIED.total_seconds() + 1)
    await one.round()
    assert await shelf.kept(SPACE, "a", now=clock.now()) == Absent()


@virtual
async def test_where_nothing_changes_little_is_written_and_who_leaves_counts_no_longer() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    await rounds(one, two)
    before = await shelf.kept(SPACE, "a", now=clock.now())
    await rounds(one, two)
    assert await shelf.kept(SPACE, "a", now=clock.now()) == before
    await asyncio.sleep(AT_LEAST_IDLE.total_seconds())
    await one.round()
    assert await shelf.kept(SPACE, "a", now=clock.now()) != before

    await one.leave()
    await two.round()
    assert two.numbers.processes == 1


async def test_who_sums_up_tells_before_each_round(shelf: Flaky) -> None:
    one, two = Exchange(shelf, VirtualClock(), "a"), Exchange(shelf, VirtualClock(), "b")
    heard = listening(two)
    one.gather("news", lambda: one.tell("news", "sum"))
    await one.round()
    await two.round()

    assert heard == ["sum"]


@virtual
async def test_who_could_not_read_for_long_hears_afterwards_what_still_holds() -> None:
    """It heard of no more than what was told in the last seconds, though the rest was on the shelf."""
    shelf, clock = Flaky(), VirtualClock()
    out_of_reach = Flaky()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    heard = listening(two)
    await rounds(one, two)
    two._shelf = out_of_reach  # it alone is cut off
    one.tell("news", "still", key="k", until=clock.now() + 1000)
    one.tell("news", "over", key="l", until=clock.now() + 10)
    for _ in range(60):
        await one.round()
        with pytest.raises(StorageError):
            await two.round()
        await asyncio.sleep(1)
    two._shelf = shelf
    await two.round()
    assert heard == ["still"]
    await two.round()
    assert heard == ["still"]


@virtual
async def test_what_is_on_the_shelf_counts_for_less_than_what_was_told_here_and_is_not_there_yet() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    one.tell("news", "old", key="k", until=clock.now() + 1000)
    await one.round()
    heard = listening(two)
    two.tell("news", "new", key="k", until=clock.now() + 1000)
    await two.recall()

    assert heard == []


async def test_a_fact_that_is_no_text_is_told_in_escapes_and_keeps_no_other_from_being_told(shelf: Flaky) -> None:
    """Half a surrogate (an octet of a peer's that was no UTF-8) made each round fail from then on."""
    clock = VirtualClock()
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    heard = listening(two)
    one.tell("news", "caf\udce9")
    one.tell("news", "\udce9 lasts", key="caf\udce9", until=clock.now() + 1000)
    one.tell("news", "x")
    await rounds(one, two)

    assert heard == ["caf\\xe9", "\\xe9 lasts", "x"]


async def test_what_a_listener_cannot_take_ends_no_round_and_no_start(shelf: Flaky) -> None:
    clock = VirtualClock()
    one, two, late = (Exchange(shelf, clock, name) for name in "abc")

    def cannot(_: str) -> None:
        raise OverflowError("date value out of range")

    for exchange in (two, late):
        exchange.listen("times", str, cannot)
    heard, heard_late = listening(two), listening(late)
    one.tell("times", "x", key="k", until=clock.now() + 1000)
    one.tell("news", "y", key="k", until=clock.now() + 1000)
    await rounds(one, two)
    await late.join()

    assert heard == ["y"]
    assert "y" in heard_late


async def test_a_fact_that_the_shelf_does_not_take_keeps_nobody_from_hearing(shelf: Flaky) -> None:
    clock = VirtualClock()
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    heard = listening(two)
    shelf.refused = "bad"
    two.tell("news", "x", key="bad", until=clock.now() + 1000)
    one.tell("news", "y")
    await one.round()
    with pytest.raises(StorageError):
        await two.round()

    assert heard == ["y"]


@virtual
async def test_who_has_nothing_to_tell_writes_seldom_and_is_not_taken_for_dead() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    running = [asyncio.ensure_future(exchange.run()) for exchange in (one, two)]
    await asyncio.sleep(10)
    before, processes = shelf.writes, set[int]()
    for _ in range(60):
        await asyncio.sleep(1)
        processes |= {one.numbers.processes, two.numbers.processes}
    assert processes == {2}
    assert shelf.writes - before <= 2 * 3

    one.numbers.set("n", 1)
    await asyncio.sleep(3)
    assert two.numbers.total("n") == 1
    running[0].cancel()
    await asyncio.sleep(SILENT.total_seconds() + 2)
    assert (two.numbers.total("n"), two.numbers.processes) == (0, 1)
    running[1].cancel()


@virtual
async def test_one_that_had_nothing_to_tell_and_died_counts_until_it_would_have_said_something() -> None:
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two = Exchange(shelf, clock, "a"), Exchange(shelf, clock, "b")
    await rounds(one, two)
    await asyncio.sleep(SILENT.total_seconds() + 1)
    await two.round()
    assert two.numbers.processes == 2
    await asyncio.sleep(BURIED.total_seconds())
    await two.round()
    assert two.numbers.processes == 1
    assert await shelf.kept(SPACE, "a", now=clock.now()) == Absent()


@virtual
async def test_what_was_told_in_the_last_moment_is_heard_though_its_process_has_ended() -> None:
    """Mail was retried, and the process begun anew at once: the destination rested on, there and everywhere."""
    shelf, clock = Flaky(), VirtualClock()
    await shelf.open(owner="test")
    one, two, three = (Exchange(shelf, clock, name) for name in "abc")
    heard, heard_too = listening(two), listening(three)
    await rounds(one, two, three)
    for number in range(2 * AT_ONCE):
        one.tell("news", f"{number}", key=f"{number}", until=clock.now() + 1000)
    one.tell("news", "bye")
    await one.leave()
    await two.round()
    await three.round()
    assert heard == heard_too == [*map(str, range(2 * AT_ONCE)), "bye"]
    assert two.numbers.processes == 2
    assert len(await shelf.all_kept("known news", now=clock.now())) == 2 * AT_ONCE

    await asyncio.sleep(REPEATED.total_seconds() + 1)
    assert await shelf.kept(SPACE, "a", now=clock.now()) == Absent()
