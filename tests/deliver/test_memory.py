"""What is remembered of hosts, and what the processes of a queue tell one another of them."""

from __future__ import annotations

from datetime import timedelta

from tests.deliver.peer import endpoint
from tests.virtual import VirtualClock, virtual
from waypost.deliver.health import HostHealth
from waypost.deliver.memory import Habit, HostMemory
from waypost.mail.outcome import Host
from waypost.net.memory import MemoryDialer
from waypost.queue.exchange import Exchange
from waypost.queue.memory import MemoryStorage

HOST = endpoint(0)


class Fellows:
    """Memories of two processes, and an exchange between them."""

    def __init__(self, **settings: timedelta) -> None:
        self.clock = VirtualClock()
        self.shelf = MemoryStorage()
        self.exchanges = [Exchange(self.shelf, self.clock, name) for name in "ab"]
        self.one, self.two = (HostMemory(self.clock, **settings) for _ in range(2))  # type: ignore[arg-type]

    async def begin(self) -> None:
        await self.shelf.open(owner="test")
        self.one.share(self.exchanges[0])
        self.two.share(self.exchanges[1])

    async def round(self) -> None:
        for exchange in self.exchanges:
            await exchange.round()


@virtual
async def test_a_host_that_needs_helo_is_known_to_all_as_long_as_it_is_remembered() -> None:
    both = Fellows(time_to_live=timedelta(hours=1))
    await both.begin()
    await both.clock.sleep(timedelta(minutes=1))
    both.one.note(HOST, Habit.HELO_ONLY)
    await both.round()

    assert both.two.recall(HOST) is Habit.HELO_ONLY
    late = HostMemory(both.clock)
    exchange = Exchange(both.shelf, both.clock, "c")
    late.share(exchange)
    await exchange.recall()
    assert late.recall(HOST) is Habit.HELO_ONLY
    await both.clock.sleep(timedelta(hours=1))
    assert both.two.recall(HOST) is late.recall(HOST) is Habit.UNKNOWN


@virtual
async def test_one_that_learns_ehlo_again_is_asked_so_by_all() -> None:
    both = Fellows()
    await both.begin()
    both.one.note(HOST, Habit.HELO_ONLY)
    await both.round()
    both.two.opened_with_ehlo(HOST)
    await both.round()
    await both.round()

    assert both.one.recall(HOST) is Habit.UNKNOWN


@virtual
async def test_what_is_known_already_is_not_told_again() -> None:
    both = Fellows()
    await both.begin()
    for _ in range(3):
        both.one.note(HOST, Habit.OFFERED_STARTTLS)

    assert len(both.exchanges[0]._facts) == 1


@virtual
async def test_a_server_that_ails_is_asked_last_by_all() -> None:
    both = Fellows()
    await both.begin()
    one, two = (HostHealth(MemoryDialer({}), both.clock) for _ in range(2))
    one.share(both.exchanges[0])
    two.share(both.exchanges[1])
    ailing, well = Host("a.example", endpoint(0), implicit_tls=True), Host("b.example", endpoint(1))
    one.failed(ailing, "no answer")
    await both.round()

    assert two.in_order((ailing, well)) == [well, ailing]
    assert two.ailing == ((ailing, "no answer"),)


@virtual
async def test_a_host_that_goes_on_offering_starttls_is_known_for_it_after_a_restart() -> None:
    """It was told once, when it was new: a day later the shelf had forgotten what every process still knew."""
    both = Fellows(time_to_live=timedelta(hours=24))
    await both.begin()
    for _ in range(30):
        both.one.note(HOST, Habit.OFFERED_STARTTLS)
        await both.round()
        await both.clock.sleep(timedelta(hours=1))
    assert both.one.recall(HOST) is Habit.OFFERED_STARTTLS

    begun_anew = HostMemory(both.clock)
    exchange = Exchange(both.shelf, both.clock, "c")
    begun_anew.share(exchange)
    await exchange.join()
    assert begun_anew.recall(HOST) is both.two.recall(HOST) is Habit.OFFERED_STARTTLS
    assert len(both.exchanges[0]._facts) <= 1


@virtual
async def test_what_is_known_outlasts_another_time_to_live_as_far_as_that_goes() -> None:
    clock = VirtualClock()
    memory = HostMemory(clock, time_to_live=timedelta(hours=24))
    memory.note(HOST, Habit.OFFERED_STARTTLS)
    await clock.sleep(timedelta(minutes=30))
    shorter, longer = (memory.for_another(timedelta(hours=hours)) for hours in (1, 48))
    assert shorter.recall(HOST) is longer.recall(HOST) is Habit.OFFERED_STARTTLS
    await clock.sleep(timedelta(hours=1))
    assert shorter.recall(HOST) is Habit.UNKNOWN
    assert longer.recall(HOST) is Habit.OFFERED_STARTTLS
