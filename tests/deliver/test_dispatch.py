"""The dispatcher over the queue in memory: turns, rests, crashes, a storage that fails, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.deliver.peer import EXTENSIONS, ROUTE, Peer, Wrong
from tests.deliver.town import Town
from tests.virtual import settled, virtual
from waypost.deliver.crowd import Capacity
from waypost.deliver.dispatch import _until
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import MessageId, NextHop
from waypost.mail.explain import describe
from waypost.mail.outcome import Deferred, Delivered, InDoubt
from waypost.net.stream import Fault, FaultKind
from waypost.queue.frost import Frozen
from waypost.queue.storage import (
    CLAIM,
    Gone,
    Hold,
    RecipientState,
    Selection,
    Settled,
)
from waypost.route.route import (
    Capture,
    Discard,
    Limits,
    NoRoute,
    Reject,
    Route,
)
from waypost.route.state import Phase
from waypost.smtp.login import Credentials
from waypost.smtp.reply import Reply


@virtual
async def test_mail_handed_over_and_mail_found_in_the_queue_are_both_delivered() -> None:
    peer = Peer()
    async with Town(peer) as town:
        await town.queue("hop0", hand_over=True)
        await town.queue("hop0", 3)
        await asyncio.sleep(1)
        assert len(peer.accepted) == 4
        assert await town.left() == 0
        assert len(town.notes.attempts) == 4
        assert all(type(settled[0].next) is Gone for _, settled in town.notes.attempts)


@virtual
async def test_a_frozen_destination_keeps_its_mail_untried_until_it_is_thawed() -> None:
    peer = Peer()
    async with Town(peer) as town:
        town.dispatcher.freeze({"hop0": Frozen("hop0", "eve", "disk full", 0.0)})
        await town.queue("hop0", 2)
        await asyncio.sleep(3600)
        town.dispatcher.try_again()
        await asyncio.sleep(60)
        assert peer.accepted == []
        (state,) = town.dispatcher.destinations()
        assert (state.phase, state.cause) == (Phase.FROZEN, "frozen by eve: disk full")

        town.dispatcher.freeze({})
        await asyncio.sleep(1)
        assert len(peer.accepted) == 2
        (state,) = town.dispatcher.destinations()
        assert (state.tally.delivered, state.tally.deferred) == (2, 0)
        assert [(last.outcome, "250" in last.text) for last in state.tally.last] == [("delivered", True)] * 2


@virtual
async def test_a_frozen_route_freezes_each_of_its_next_hops_and_gives_back_what_waits_in_memory() -> None:
    peer = Peer(pauses={"MAIL": 100.0})
    async with Town(peer) as town:
        town.change("hop0", name="inner", limits=Limits(concurrency=1))
        await town.queue("hop0", 3)
        await asyncio.sleep(1)
        town.dispatcher.freeze({"route inner": Frozen("route inner", "eve", "", 0.0)})
        await asyncio.sleep(3600)
        assert len(peer.accepted) == 1  # what was under way has ended as it would have
        (state,) = town.dispatcher.destinations()
        assert (state.phase, state.waiting, state.more) == (Phase.FROZEN, 0, True)
        assert await town.left() == 2


@virtual
async def test_a_destination_with_a_rate_tells_when_its_next_message_goes() -> None:
    peer = Peer()
    async with Town(peer) as town:
        town.change("hop0", limits=replace(ROUTE.limits, pace=10.0))
        await town.queue("hop0", 3)
        await asyncio.sleep(4)
        (state,) = town.dispatcher.destinations()
        assert (state.pace, state.waiting, len(peer.accepted)) == (10.0, 2, 1)
        assert 5 < state.paced_until - town.clock.now() <= 6.1
        await asyncio.sleep(20)
        assert len(peer.accepted) == 3


@virtual
async def test_deferred_mail_is_tried_again_when_it_is_due() -> None:
    peer = Peer(plan={"MAIL": ["451 4.3.0 later"]})
    async with Town(peer) as town:
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(59)
        assert peer.accepted == []
        await asyncio.sleep(2)
        assert len(peer.accepted) == 1


@virtual
async def test_nothing_due_means_nothing_asked() -> None:
    async with Town(Peer()) as town:
        asked = 0
        ready = town.storage.ready

        async def count(now: float, *, limit: int) -> object:
            nonlocal asked
            asked += 1
            return await ready(now, limit=limit)

        town.storage.ready = count  # type: ignore[assignment,method-assign]  # to count calls
        await asyncio.sleep(3600)
        assert asked <= 121


# ---- fairness
@virtual
async def test_destinations_that_stall_do_not_slow_another() -> None:
    stuck = [Peer(always={"banner": Wrong.STALL}) for _ in range(6)]
    healthy = Peer()
    capacity = Capacity(attempts=20, reserve=4, leases=60, leases_each=20)
    async with Town(*stuck, healthy, capacity=capacity) as town:
        for number in range(len(stuck)):
            await town.queue(f"hop{number}", 30)
        await asyncio.sleep(5)
        await town.queue("hop6", 10)
        await asyncio.sleep(5)
        assert len(healthy.accepted) == 10
        assert len(town.dispatcher._held) <= 60


@virtual
async def test_concurrency_stays_within_the_routes_limit() -> None:
    class Busy(Peer):
        now = 0
        most = 0

        async def __call__(self, stream: object) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(1)
            await Peer.__call__(self, stream)  # type: ignore[arg-type]  # a Stream, seen as an object
            self.now -= 1

    peer = Busy()
    async with Town(peer) as town:
        town.change("hop0", limits=replace(ROUTE.limits, concurrency=3, messages=1))
        await town.queue("hop0", 30)
        await asyncio.sleep(60)
        assert len(peer.accepted) == 30
        assert peer.most == 3


@virtual
async def test_a_backlog_larger_than_memory_is_worked_off() -> None:
    peer = Peer()
    async with Town(peer, capacity=Capacity(attempts=4, reserve=1, leases=10, leases_each=5)) as town:
        await town.queue("hop0", 200)
        await asyncio.sleep(20)
        assert len(peer.accepted) == 200


@virtual
async def test_a_full_dispatcher_wants_no_more_and_gives_surplus_back() -> None:
    peer = Peer(plan={"banner": ["220 peer"]}, always={"banner": Wrong.STALL})
    async with Town(peer, capacity=Capacity(leases=10, leases_each=5)) as town:
        town.change("hop0", limits=replace(ROUTE.limits, concurrency=5, messages=1))
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(1)
        assert town.dispatcher.wants()
        await town.queue("hop0", 20, hand_over=True)
        await settled()
        assert not town.dispatcher.wants()
        entries = await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=99, now=town.clock.now())
        states = [entry.state for entry in entries]
        assert states.count(RecipientState.DUE) == 10
        assert states.count(RecipientState.IN_DELIVERY) == 10


@virtual
async def test_a_worker_lives_on_for_the_next_message_until_the_service_stops() -> None:
    async with Town(Peer()) as town:
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(1)
        workers = set(town.dispatcher._workers)
        assert len(workers) == 1
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(1)
        assert town.dispatcher._workers == workers
        assert len(town.notes.attempts) == 2
        began = asyncio.get_running_loop().time()
        await town.dispatcher.stop(timedelta(seconds=30))
        assert asyncio.get_running_loop().time() == began
        assert town.dispatcher._workers == set()


# ---- rests
@virtual
async def test_a_host_that_is_down_costs_two_attempts_and_not_one_a_message() -> None:
    async with Town(Fault(FaultKind.TIMED_OUT)) as town:
        await town.queue("hop0", 500)
        await asyncio.sleep(50)
        assert len(town.world.dialer.dialled) <= 5
        assert len(town.notes.attempts) == 500
        assert all(isinstance(settled[0].outcome, Deferred) for _, settled in town.notes.attempts)
        assert [hop for hop, _ in town.notes.rests] == ["hop0"]


@virtual
async def test_a_host_that_comes_back_gets_all_its_mail() -> None:
    peer = Peer()
    async with Town(Fault(FaultKind.REFUSED)) as town:
        await town.queue("hop0", 50)
        await asyncio.sleep(30)
        town.world.dialer.hosts[town.world.hosts[0].endpoint] = peer
        await asyncio.sleep(600)
        assert len(peer.accepted) == 50


@virtual
async def test_one_failure_alone_makes_nothing_rest() -> None:
    peer = Peer(plan={"banner": ["421 later"]})
    async with Town(peer) as town:
        await town.queue("hop0")
        await asyncio.sleep(1)
        await town.queue("hop0")
        await asyncio.sleep(1)
        assert len(peer.accepted) == 1


@virtual
async def test_refused_credentials_make_the_destination_rest_and_are_told() -> None:
    peer = Peer(always={"AUTH": "535 5.7.8 no"}, extensions=("AUTH PLAIN", *EXTENSIONS))
    async with Town(peer) as town:
        town.change("hop0", credentials=Credentials("us", "secret"))
        await town.queue("hop0")
        await asyncio.sleep(1)
        await town.queue("hop0", 10)
        await asyncio.sleep(100)
        assert [verbs.count("AUTH") for verbs in peer.verbs] == [1]
        assert town.notes.refused == ["hop0"]
        assert await town.left() == 11


# ---- bugs
@virtual
async def test_a_bug_in_an_attempt_costs_that_attempt_and_after_three_the_message_is_held() -> None:
    def bug() -> None:
        raise ZeroDivisionError("nobody foresaw this")

    healthy = Peer()
    async with Town(healthy) as town:
        town.finder.bug = bug
        await town.queue("hop0")
        await asyncio.sleep(3600)
        (entry,) = await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=9, now=town.clock.now())
        assert entry.state is RecipientState.HELD
        assert "ZeroDivisionError: nobody foresaw this" in entry.reason
        assert len(town.notes.crashes) == 3
        assert isinstance(town.notes.attempts[-1][1][0].next, Hold)
        town.finder.bug = lambda: None
        await town.queue("hop0")
        await asyncio.sleep(1)
        assert len(healthy.accepted) == 1


@virtual
async def test_a_journal_that_raises_costs_no_mail() -> None:
    peer = Peer()
    async with Town(peer) as town:

        def broken(attempt: Attempt, settled: Sequence[Settled]) -> None:
            raise OSError("the log's disk is full")

        town.notes.attempted = broken  # type: ignore[method-assign]  # a journal that fails
        await town.queue("hop0", 3)
        await asyncio.sleep(1)
        assert len(peer.accepted) == 3
        assert await town.left() == 0


# ---- the storage
@virtual
async def test_what_was_delivered_is_never_sent_again_however_long_it_cannot_be_written_down() -> None:
    peer = Peer()
    async with Town(peer) as town:
        await town.queue("hop0", hand_over=True)
        town.storage.fails = True
        await asyncio.sleep(3 * CLAIM.total_seconds())
        assert not town.dispatcher.wants()
        town.storage.fails = False
        await asyncio.sleep(60)
        assert len(peer.accepted) == 1
        assert await town.left() == 0
        assert town.dispatcher.wants()
        assert "settling an attempt" in town.notes.failures


@virtual
async def test_no_new_work_is_begun_while_the_storage_fails() -> None:
    peer = Peer()
    async with Town(peer, capacity=Capacity(attempts=1, reserve=0)) as town:
        town.storage.fails = True
        await town.queue("hop0", 5, hand_over=True)
        await asyncio.sleep(300)
        assert len(peer.accepted) == 1
        town.storage.fails = False
        await asyncio.sleep(60)
        assert len(peer.accepted) == 5
        assert await town.left() == 0


@virtual
async def test_a_lease_that_was_lost_is_told_and_its_delivery_not_repeated() -> None:
    class Slow(Peer):
        async def __call__(self, stream: object) -> None:
            await asyncio.sleep(20)
            await Peer.__call__(self, stream)  # type: ignore[arg-type]  # a Stream, seen as an object

    peer = Slow()
    async with Town(peer) as town:
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(10)
        await town.storage.open(owner="test")  # a new epoch: every lease has ended
        await asyncio.sleep(60)
        assert len(town.notes.lost) == 1
        assert len(peer.accepted) == 1
        assert await town.left() == 0


@virtual
async def test_a_lease_is_renewed_while_its_attempt_lasts() -> None:
    class Endless(Peer):
        async def __call__(self, stream: object) -> None:
            await asyncio.sleep(250)
            await Peer.__call__(self, stream)  # type: ignore[arg-type]  # a Stream, seen as an object

    peers = [Endless(extensions=()) for _ in range(1)]
    async with Town(*peers) as town:
        town.change("hop0", limits=replace(ROUTE.limits, concurrency=1, messages=1))
        await town.queue("hop0", 40, hand_over=True)
        await asyncio.sleep(40 * 260)
        assert len(peers[0].accepted) == 40
        assert town.notes.lost == []


@virtual
async def test_a_lease_that_ended_while_it_waited_is_not_acted_upon() -> None:
    class Slow(Peer):
        async def __call__(self, stream: object) -> None:
            await asyncio.sleep(20)
            await Peer.__call__(self, stream)  # type: ignore[arg-type]  # a Stream, seen as an object

    peer = Slow()
    async with Town(peer) as town:
        town.change("hop0", limits=replace(ROUTE.limits, concurrency=1, messages=1))
        await town.queue("hop0", 3, hand_over=True)
        await asyncio.sleep(1)
        town.clock.step(timedelta(hours=2))
        others = await town.storage.claim(
            NextHop("hop0"), now=town.clock.now(), until=town.clock.now() + 600, messages=2
        )
        assert len(others) == 2
        await asyncio.sleep(100)
        assert len(peer.accepted) == 2  # the one under way, and the one nobody else had taken
        await asyncio.sleep(1000)
        assert len(peer.accepted) == 3
        assert await town.left() == 0


# ---- other transports
@virtual
async def test_routes_that_need_no_host_settle_at_once() -> None:
    routes: dict[str, Route | NoRoute] = {
        "capture": Route(NextHop("capture"), Capture(), "test"),
        "discard": Route(NextHop("discard"), Discard(), "test"),
        "reject": Route(NextHop("reject"), Reject(Reply(550, ("5.1.1 nobody here",))), "test"),
        "gone": NoRoute("no route leads there any more"),
    }
    async with Town(routes=routes) as town:
        for name in routes:
            await town.queue(name, hand_over=True)
        await asyncio.sleep(1)
        assert len(await town.storage.captured(before=0, limit=9)) == 1
        (entry,) = await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=9, now=town.clock.now())
        assert entry.next_hop == "gone"
        assert "write a [[route]] for its domain and start again, or use `waypost queue delete`" in entry.last_outcome
        (report,) = await town.storage.reports(limit=9)
        assert report.recipients[0].status == "5.1.1"


# ---- the end
@virtual
async def test_stopping_lets_what_runs_end_and_gives_back_what_waits() -> None:
    peer = Peer(pauses={"dot": 3})
    town = Town(peer)
    async with town:
        await town.queue("hop0", 20)
        await asyncio.sleep(1)
        await town.dispatcher.stop(timedelta(seconds=10))
        assert len(peer.accepted) == 5
        entries = await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=99, now=town.clock.now())
        assert [entry.state for entry in entries] == [RecipientState.DUE] * 15


@pytest.mark.parametrize(("state", "expected"), [("dot", InDoubt), ("body", Deferred)])
@virtual
async def test_an_attempt_cut_off_by_the_end_is_written_down_for_what_it_is(state: str, expected: type[object]) -> None:
    town = Town(Peer(always={state: Wrong.STALL}))
    async with town:
        await town.queue("hop0", hand_over=True, octets=(b"x" * 78 + b"\r\n") * 8000)
        await asyncio.sleep(5)
        await town.dispatcher.stop(timedelta(seconds=2))
        ((_, (settled_one,)),) = town.notes.attempts
        assert isinstance(settled_one.outcome, expected)
        assert "the service was stopped" in describe(settled_one.outcome)


@virtual
async def test_an_attempt_keeps_its_transcript() -> None:
    async with Town(Peer()) as town:
        await town.queue("hop0", hand_over=True)
        await asyncio.sleep(1)
        ((attempt, (one,)),) = town.notes.attempts
        assert isinstance(one.outcome, Delivered)
        said = [text for _, mark, text in attempt.transcript.lines if mark == "C"]
        assert [text.split(" ")[0] for text in said] == ["EHLO", "MAIL", "RCPT", "DATA", "."]


@pytest.mark.parametrize(("due", "pause"), [(0.0, 0), (1.0, 0), (1.0000002, 1), (1.000003, 3), (61.0, 60_000_000)])
def test_what_is_not_yet_due_is_never_waited_for_by_asking_again_at_once(due: float, pause: int) -> None:
    """Less than a microsecond was rounded to no pause at all: the loop went round without time passing."""
    assert _until(due, 1.0) == timedelta(microseconds=pause)
