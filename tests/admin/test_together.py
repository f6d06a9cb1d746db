"""One face for several workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.admin.office import Office, destination, hurry, office
from waypost.admin.answers import ActBody, Expiring, FailureKind, FreezeBody, OperationError, Status
from waypost.admin.explanation import Question
from waypost.admin.operations import Operations
from waypost.admin.together import Together, Worker
from waypost.queue.storage import Selection
from waypost.route.state import Phase


class Silent(Operations):
    """A worker that does not answer."""

    async def status(self) -> Status:
        raise OperationError(FailureKind.UNAVAILABLE, "it did not answer", "see its log")


@asynccontextmanager
async def offices(count: int = 2) -> AsyncIterator[tuple[Together, Sequence[Office]]]:
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(office()) for _ in range(count)]
        workers = [Worker(index, one.desk) for index, one in enumerate(found)]
        yield Together(lambda: workers), found


async def test_counts_are_added_and_what_one_lacks_is_told_with_its_name() -> None:
    async with offices() as (desk, (one, two)):
        await one.waiting()
        await two.waiting()
        two.reasons.append("the reporter died and is being begun again")

        status = await desk.status()

        assert status.recipients == 2
        assert status.not_ready == ("worker 1: the reporter died and is being begun again",)


async def test_what_all_lack_is_told_once() -> None:
    async with offices() as (desk, both):
        for each in both:
            each.reasons.append("the disk is low")
        assert (await desk.status()).not_ready == ("the disk is low",)


async def test_a_worker_that_is_silent_is_a_reason_not_to_be_ready() -> None:
    async with offices(1) as (_, (one,)):
        silent = Silent(**{name: getattr(one.desk, name) for name in Operations.__slots__})
        desk = Together(lambda: [Worker(0, one.desk), Worker(3, silent)])
        await one.waiting()

        assert (await desk.status()).recipients == 1
        assert await desk.not_ready() == ("worker 3: it did not answer",)

        alone = Together(lambda: [Worker(3, silent)])
        assert await alone.not_ready() == ("it did not answer",)
        assert await Together(tuple).not_ready() == ("no worker runs",)


async def test_the_queue_is_paged_in_the_order_of_ids_whoever_has_them() -> None:
    async with offices(3) as (desk, found):
        names = [await found[number % 3].waiting() for number in range(7)]
        listed, after = [], ""
        for _ in range(9):
            page = await desk.queue(Selection(), after=after, limit=2)
            listed += [entry.id for entry in page.entries]
            after = page.next
            if not after:
                break

        assert listed == sorted(names)


async def test_an_act_counts_what_all_have_done() -> None:
    async with offices() as (desk, (one, two)):
        await one.waiting()
        await two.waiting()
        await two.waiting()

        acted = await desk.act("hold", ActBody(everything=True, by="ann", reason="moving"))

        assert acted.recipients == 3
        assert (await desk.status()).held == 3


async def test_a_question_that_is_wrong_is_refused_as_by_one() -> None:
    async with offices() as (desk, _):
        with pytest.raises(OperationError, match="without a selection") as refused:
            await desk.act("delete", ActBody(by="ann"))
        assert refused.value.kind is FailureKind.BAD_REQUEST
        with pytest.raises(OperationError, match="nothing is known of"):
            await desk.trace("nobody@example.com")


async def test_a_message_is_found_with_whoever_has_it() -> None:
    async with offices() as (desk, (one, two)):
        done, waiting = await one.delivered(), await two.waiting()

        assert (await desk.show(waiting)).id == waiting
        assert [trace.id for trace in (await desk.trace(done)).traces] == [done]
        both = await desk.trace("a@example.net")
        assert [trace.id for trace in both.traces] == sorted((done, waiting), reverse=True)
        newest = await desk.trace("a@example.net", limit=1)
        assert (len(newest.traces), newest.more) == (1, True)
        with pytest.raises(OperationError, match="no message"):
            await desk.show(done)


async def test_a_next_hop_is_one_whoever_delivers_to_it() -> None:
    async with offices() as (desk, (one, two)):
        one.delivering.append(destination("mx:example.org", Phase.DELIVERING, waiting=3))
        two.delivering.append(destination("mx:example.org", Phase.RESTING, waiting=4, cause="no answer"))
        two.delivering.append(destination("mx:example.com", Phase.IDLE))

        found = (await desk.destinations()).destinations

        assert [(state.next_hop, state.phase, state.waiting, state.running) for state in found] == [
            ("mx:example.org", Phase.RESTING, 7, 2),
            ("mx:example.com", Phase.IDLE, 0, 1),
        ]
        assert (found[0].cause, found[0].window, found[0].limit) == ("no answer", 10, 20)


async def test_captured_messages_have_numbers_that_lead_back_to_whoever_has_them() -> None:
    async with offices() as (desk, (one, two)):
        for each in (one, two, one):
            await each.captured()
        listed, before = [], 0
        for _ in range(9):
            page = await desk.inbox(before=before, limit=2)
            listed += [message.number for message in page.messages]
            before = page.next
            if not before:
                break

        assert len(set(listed)) == 3
        for number in listed:
            assert (await desk.captured(number)).message.number == number
            assert (await desk.captured_octets(number)).startswith(b"Subject")
        with pytest.raises(OperationError, match="no captured message 5"):
            await desk.captured(5)


async def test_what_all_know_alike_one_answers() -> None:
    async with offices() as (desk, _):
        assert (await desk.resolve("example.com")).hosts == ("127.0.0.9 at 127.0.0.9:2599",)
        assert (await desk.explain(Question(("b@example.com",)))).journeys[0].is_taken
        with pytest.raises(OperationError, match="0 recipients"):
            await desk.explain(Question(()))


async def test_an_act_in_steps_goes_on_with_each_worker_where_it_stopped() -> None:
    async with offices() as (desk, (one, two)):
        for each in (one, one, one, two):
            await each.waiting()
        done, after = [], ""
        for _ in range(9):
            acted = await desk.act("delete", ActBody(everything=True, by="ann", limit=1, after=after))
            done.append(acted.recipients)
            after = acted.next
            if not after:
                break

        assert sum(done) == 4
        binned: list[object] = []
        after = ""
        for _ in range(9):
            page = await desk.bin(Selection(), after=after, limit=2)
            binned += page.entries
            after = page.next
            if not after:
                break
        assert len(binned) == 4
        assert (await desk.restore(ActBody(everything=True, by="ann"))).recipients == 4
        with pytest.raises(OperationError, match="is no place"):
            await desk.act("delete", ActBody(everything=True, by="ann", after="x"))


async def test_why_mail_waits_is_told_for_all_of_it() -> None:
    async with offices() as (desk, (one, two)):
        await one.waiting()
        await two.waiting()

        assert len((await desk.why("example.com")).recipients) == 2


async def test_what_is_frozen_is_frozen_with_all() -> None:
    async with offices() as (desk, both):
        froze = await desk.freeze(FreezeBody("mx:example.org", "ann", "moving"))

        assert [[each.place for each in (await one.desk.frozen()).frozen] for one in both] == [["mx:example.org"]] * 2
        assert froze == await desk.frozen()
        assert (await desk.thaw(FreezeBody("mx:example.org", "ann"))).frozen == ()


async def test_workers_that_stop_looking_at_different_places_leave_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with offices() as (desk, (one, two)):
        waiting = [await each.waiting() for each in (one, two, two, one, one, two, one)]
        for each in (one, two):
            hurry(each, monkeypatch)
        found, after = list[str](), ""
        while True:
            page = await desk.queue(Selection(domain="example.com"), after=after, limit=2)
            found += [entry.id for entry in page.entries]
            after = page.next
            if not after:
                break
        assert found == sorted(waiting)


async def test_what_ends_is_told_once_though_all_workers_hold_it() -> None:
    async with offices() as (desk, (one, two)):
        token = Expiring("authorisation", "gmail", "me@example.net", 2e9, 30)
        one.desk.expiring = lambda: (token,)
        two.desk.expiring = lambda: (token, Expiring("certificate", "mx.pem", "mx.example.net", 1.9e9, 10))
        assert [item.name for item in (await desk.expiries()).items] == ["mx.pem", "gmail"]
