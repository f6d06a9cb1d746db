"""One face for several processes: each question goes to all workers, and their answers become one.

A message is in one worker's shard: who does not have it says so, and the one who has it is heard. Lists are merged
in their order, counts are added. A worker that does not answer is named among the reasons not to be ready; what it
holds is missing from the answer meanwhile, and there again once its supervisor has begun it anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, TypeVar

from waypost.admin.answers import (
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    FailureKind,
    FreezeBody,
    Froze,
    InboxPage,
    OperationError,
    Preview,
    Proposal,
    QueuedDetail,
    QueuePage,
    Reloaded,
    Resolution,
    Revisions,
    RevisionText,
    ServiceFacts,
    Shift,
    Status,
    Traces,
    WatchBody,
    WatchedPeers,
    Why,
)
from waypost.admin.board import soonest_first
from waypost.admin.desk import Desk
from waypost.admin.explanation import Explanation, Question
from waypost.admin.failures import no_captured, not_renewed
from waypost.queue.storage import CapturedMessage, Search, Selection
from waypost.route.state import DestinationState, together, trouble_first

T = TypeVar("T")

#: Failures that are the asker's: what one finds wrong with the question, all do.
_ASKERS: Final = frozenset({FailureKind.BAD_REQUEST, FailureKind.REFUSED})
#: The lower bits of a captured message's number say whose it is.
_WHOSE: Final = 6


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes."""

    index: int
    desk: Desk

    @property
    def name(self) -> str:
        """As a person is told of it."""
        return f"worker {self.index}"


async def _nothing(_: Proposal) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Together:
    """The desk of all workers; `workers` are those there are at the moment of a question."""

    workers: Callable[[], Sequence[Worker]]
    #: How the configuration is read anew, for somebody.
    renew: Callable[[str], Awaitable[Reloaded]] = not_renewed
    #: What a reload would refuse another one for: a worker knows its own part of it alone.
    refused_for: Callable[[Proposal], Awaitable[Sequence[str]]] = _nothing

    async def status(self) -> Status:
        answers, failures = await self._ask(lambda worker: worker.desk.status())
        statuses = [status for _, status in answers]
        silent = [f"{worker.name}: {failure.error}" for worker, failure in failures]
        return Status(
            service=_service([status.service for status in statuses]),
            at=max(status.at for status in statuses),
            messages=sum(status.messages for status in statuses),
            recipients=sum(status.recipients for status in statuses),
            held=sum(status.held for status in statuses),
            reports_due=sum(status.reports_due for status in statuses),
            not_ready=(*silent, *_named(answers, lambda status: status.not_ready)),
            warnings=_named(answers, lambda status: status.warnings),
        )

    async def not_ready(self) -> Sequence[str]:
        """Why the service as a whole is not fit to serve."""
        try:
            return (await self.status()).not_ready
        except OperationError as failure:
            return (failure.error,)

    async def queue(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage:
        """All look on from one place; what is behind where one of them stopped waits for the next page."""
        pages = await self._all(lambda worker: worker.desk.queue(selection, after=after, limit=limit))
        ends = sorted((page.next for page in pages if page.next), key=_in_order)
        entries = sorted((entry for page in pages for entry in page.entries), key=attrgetter("id", "number"))
        if ends:
            entries = [entry for entry in entries if (entry.id, entry.number) <= _in_order(ends[0])]
        shown = tuple(entries[:limit])
        if len(entries) > limit:
            return QueuePage(shown, f"{shown[-1].id}:{shown[-1].number}")
        return QueuePage(shown, ends[0] if ends else "")

    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        return await self._one(lambda worker: worker.desk.show(id))

    async def quarantine(self) -> QueuePage:
        pages = await self._all(lambda worker: worker.desk.quarantine())
        return QueuePage(tuple(sorted((entry for page in pages for entry in page.entries), key=attrgetter("id"))), "")

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        return await self._one(lambda worker: worker.desk.octets(id))

    async def act(self, action: str, body: ActBody) -> Acted:
        return await self._do(action, body, lambda worker, part: worker.desk.act(action, part))

    async def _do(self, action: str, body: ActBody, deed: Callable[[Worker, ActBody], Awaitable[Acted]]) -> Acted:
        """A slice of what each has; whoever has no more is left alone."""
        places = _places(body.after)
        acted = await self._ask_some(
            lambda worker: deed(worker, replace(body, after=places.get(worker.index, ""))),
            [worker for worker in self.workers() if not places or worker.index in places],
        )
        left = {worker.index: each.next for worker, each in acted if each.next}
        return Acted(action, sum(each.recipients for _, each in acted), body.dry_run, _place(left))

    async def why(self, asked: str, *, limit: int = 100) -> Why:
        answers, _ = await self._ask(lambda worker: worker.desk.why(asked, limit=limit))
        told = [why for _, why in answers]
        waiting = [one for why in told for one in why.recipients]
        return Why(
            asked,
            max(why.at for why in told),
            tuple(waiting[:limit]),
            _by_hop(state for why in told for state in why.destinations),
            more=len(waiting) > limit or any(why.more for why in told),
        )

    # ---- the bin: that of one worker after that of another
    async def bin(self, selection: Selection, *, after: str = "", limit: int = 100) -> BinPage:
        workers, places = self.workers(), _places(after)
        index = next(iter(places), workers[0].index)
        worker = next((one for one in workers if one.index >= index), workers[0])
        page = await worker.desk.bin(selection, after=places.get(index, ""), limit=limit)
        if page.next:
            return BinPage(page.entries, _place({worker.index: page.next}))
        following = [one.index for one in workers if one.index > worker.index]
        return BinPage(page.entries, _place({following[0]: ""}) if following else "")

    async def restore(self, body: ActBody) -> Acted:
        return await self._do("restore", body, lambda worker, part: worker.desk.restore(part))

    async def frozen(self) -> Froze:
        return await self._any(lambda worker: worker.desk.frozen())

    async def freeze(self, body: FreezeBody) -> Froze:
        return (await self._all(lambda worker: worker.desk.freeze(body)))[0]

    async def thaw(self, body: FreezeBody) -> Froze:
        return (await self._all(lambda worker: worker.desk.thaw(body)))[0]

    async def watched(self) -> WatchedPeers:
        return await self._any(lambda worker: worker.desk.watched())

    async def watch(self, body: WatchBody) -> WatchedPeers:
        return (await self._all(lambda worker: worker.desk.watch(body)))[0]

    async def expiries(self) -> Expiries:
        """Each once: all hold the same, but for what one of them has just learnt."""
        heard = await self._all(lambda worker: worker.desk.expiries())
        return soonest_first(one for each in heard for one in each.items)

    async def destinations(self, *, limit: int = 100) -> Destinations:
        heard = await self._all(lambda worker: worker.desk.destinations(limit=1000))
        found = _by_hop(state for each in heard for state in each.destinations)
        more = len(found) > limit or any(each.more for each in heard)
        running = any(each.is_running for each in heard)
        return Destinations(max(each.at for each in heard), running, tuple(found[:limit]), more=more)

    async def trace(self, asked: str, *, limit: int = 10) -> Traces:
        answers, _ = await self._ask(lambda worker: worker.desk.trace(asked, limit=limit))
        traces = sorted((one for _, each in answers for one in each.traces), key=attrgetter("id"), reverse=True)
        more = len(traces) > limit or any(each.more for _, each in answers)
        return Traces(asked, tuple(traces[:limit]), more)

    async def search(self, search: Search, *, before: str = "", limit: int = 10) -> Traces:
        """All look through their newest; what is older than where one of them stopped waits for the next page."""
        answers, _ = await self._ask(lambda worker: worker.desk.search(search, before=before, limit=limit))
        heard = [each for _, each in answers]
        floor = max((each.next for each in heard if each.next), default="")
        traces = sorted((one for each in heard for one in each.traces), key=attrgetter("id"), reverse=True)
        shown = [one for one in traces if one.id >= floor][:limit]
        following = shown[-1].id if len(shown) == limit and len(traces) > limit else floor
        return Traces("a search", tuple(shown), bool(following), following)

    async def resolve(self, domain: str) -> Resolution:
        return await self._any(lambda worker: worker.desk.resolve(domain))

    async def explain(self, question: Question) -> Explanation:
        return await self._any(lambda worker: worker.desk.explain(question))

    # ---- the configuration: each worker reads it, and all of them or none have it in force
    async def reload(self, *, by: str) -> Reloaded:
        return await self.renew(by)

    async def preview(self, proposal: Proposal) -> Preview:
        heard = await self._all(lambda worker: worker.desk.preview(proposal))
        return replace(
            heard[0],
            needs_restart=tuple(await self.refused_for(proposal)),
            queue=_shifted(shift for each in heard for shift in each.queue),
            traffic=_shifted(shift for each in heard for shift in each.traffic),
            queue_looked_at=sum(each.queue_looked_at for each in heard),
            traffic_looked_at=sum(each.traffic_looked_at for each in heard),
            cut=any(each.cut for each in heard),
        )

    async def revisions(self) -> Revisions:
        return await self._any(lambda worker: worker.desk.revisions())

    async def revision(self, id: str) -> RevisionText:  # noqa: A002 - the field's own name
        return await self._any(lambda worker: worker.desk.revision(id))

    # ---- the inbox: its numbers are a worker's own, made unlike those of the others by whose they are
    async def inbox(self, *, before: int = 0, limit: int = 50) -> InboxPage:
        answers, _ = await self._ask(lambda worker: worker.desk.inbox(before=_before(before, worker), limit=limit))
        messages = sorted(
            (_numbered(one, worker) for worker, page in answers for one in page.messages),
            key=attrgetter("number"),
            reverse=True,
        )
        more = len(messages) > limit or any(page.next for _, page in answers)
        return InboxPage(tuple(messages[:limit]), messages[:limit][-1].number if more and messages else 0)

    async def captured(self, number: int) -> CapturedDetail:
        worker = self._whose(number)
        found = await worker.desk.captured(number >> _WHOSE)
        return replace(found, message=_numbered(found.message, worker))

    async def captured_octets(self, number: int) -> bytes:
        return await self._whose(number).desk.captured_octets(number >> _WHOSE)

    async def clear_inbox(self, *, keep: int) -> Cleared:
        """Each keeps so many of the newest that all have together: those it has of them."""
        newest = (await self.inbox(limit=max(keep, 1))).messages[:keep]
        kept = {worker.index: 0 for worker in self.workers()}
        for message in newest:
            kept[message.number & ((1 << _WHOSE) - 1)] += 1
        cleared = await self._all(lambda worker: worker.desk.clear_inbox(keep=kept[worker.index]))
        return Cleared(sum(each.messages for each in cleared))

    def _whose(self, number: int) -> Worker:
        for worker in self.workers():
            if worker.index == number & ((1 << _WHOSE) - 1):
                return worker
        raise no_captured(number)

    # ---- asking
    async def _ask(
        self, question: Callable[[Worker], Awaitable[T]]
    ) -> tuple[Sequence[tuple[Worker, T]], Sequence[tuple[Worker, OperationError]]]:
        """What each answers, or why it does not. Raises: OperationError, where nobody does."""
        return await self._heard(question, self.workers())

    async def _heard(
        self, question: Callable[[Worker], Awaitable[T]], workers: Sequence[Worker]
    ) -> tuple[Sequence[tuple[Worker, T]], Sequence[tuple[Worker, OperationError]]]:
        heard = [*zip(workers, await asyncio.gather(*(_answer(question(worker)) for worker in workers)), strict=True)]
        answers = [(worker, one) for worker, one in heard if not isinstance(one, OperationError)]
        failures = [(worker, one) for worker, one in heard if isinstance(one, OperationError)]
        if not answers:
            raise _worst(failures)
        return answers, failures

    async def _all(self, question: Callable[[Worker], Awaitable[T]]) -> Sequence[T]:
        """What all who are there answer. What one finds wrong with the question, all do."""
        return [answer for _, answer in await self._ask_some(question, self.workers())]

    async def _ask_some(
        self, question: Callable[[Worker], Awaitable[T]], workers: Sequence[Worker]
    ) -> Sequence[tuple[Worker, T]]:
        """What these workers answer, as `_all`, with whose it is."""
        answers, failures = await self._heard(question, workers)
        if any(failure.kind in _ASKERS for _, failure in failures):
            raise _worst(failures)
        return answers

    async def _one(self, question: Callable[[Worker], Awaitable[T]]) -> T:
        """What the one answers who can."""
        answers, _ = await self._ask(question)
        return answers[0][1]

    async def _any(self, question: Callable[[Worker], Awaitable[T]]) -> T:
        """What the first answers who is there: all know the same."""
        failures = []
        for worker in self.workers():
            answer = await _answer(question(worker))
            if not isinstance(answer, OperationError):
                return answer
            if answer.kind is not FailureKind.UNAVAILABLE:
                raise answer
            failures.append((worker, answer))
        raise _worst(failures)


def _by_hop(states: Iterable[DestinationState]) -> tuple[DestinationState, ...]:
    """Each next hop once, those in trouble first."""
    by_hop: dict[str, list[DestinationState]] = {}
    for state in states:
        by_hop.setdefault(state.next_hop, []).append(state)
    return tuple(sorted((together(states) for states in by_hop.values()), key=trouble_first))


def _places(after: str) -> dict[int, str]:
    """Where each worker goes on; one that is not there has no more. Raises: OperationError."""
    try:
        pairs = [one.partition("=") for one in after.split(",") if one]
        return {int(index): place for index, _, place in pairs}
    except ValueError:
        raise OperationError(FailureKind.BAD_REQUEST, f"{after!r} is no place", "pass `next` as it came") from None


def _place(places: Mapping[int, str]) -> str:
    """The same as text; empty where there is no more."""
    return ",".join(f"{index}={place}" for index, place in places.items())


async def _answer(awaited: Awaitable[T]) -> T | OperationError:
    try:
        return await awaited
    except OperationError as failure:
        return failure


def _worst(failures: Sequence[tuple[Worker, OperationError]]) -> OperationError:
    """The failure to tell: the asker's fault first, then what did not answer; that nobody has it, last."""
    order = (
        FailureKind.BAD_REQUEST,
        FailureKind.REFUSED,
        FailureKind.UNAUTHENTICATED,
        FailureKind.FORBIDDEN,
        FailureKind.UNAVAILABLE,
        FailureKind.NOT_FOUND,
    )
    found = sorted((failure for _, failure in failures), key=lambda one: order.index(one.kind))
    nobody = OperationError(FailureKind.UNAVAILABLE, "no worker runs", "see the service's log")
    return next(iter(found), nobody)


def _service(facts: Sequence[ServiceFacts]) -> ServiceFacts:
    """What is true of the whole: worker 0's facts, with the listeners of whoever takes mail."""
    listeners = next((each.listeners for each in facts if each.listeners), ())
    return replace(facts[0], listeners=listeners, started_at=min(each.started_at for each in facts))


def _in_order(place: str) -> tuple[str, int]:
    """A place in the queue ("1dvq3kbaxm00g:0"), as places are in order."""
    id, _, number = place.partition(":")  # noqa: A001 - the field's own name
    return id, int(number)


def _named(answers: Iterable[tuple[Worker, Status]], of: Callable[[Status], Sequence[str]]) -> tuple[str, ...]:
    """Sentences, each once: of all workers as it is, of some with their names."""
    said: dict[str, list[Worker]] = {}
    count = 0
    for worker, status in answers:
        count += 1
        for sentence in of(status):
            said.setdefault(sentence, []).append(worker)
    return tuple(
        sentence if len(who) == count else f"{', '.join(worker.name for worker in who)}: {sentence}"
        for sentence, who in said.items()
    )


def _shifted(shifts: Iterable[Shift]) -> tuple[Shift, ...]:
    """The same fates counted together, most recipients first."""
    counted: Counter[Shift] = Counter()
    for shift in shifts:
        counted[replace(shift, recipients=0)] += shift.recipients
    most = counted.most_common()
    return tuple(replace(shift, recipients=count) for shift, count in most)


def _numbered(message: CapturedMessage, worker: Worker) -> CapturedMessage:
    return replace(message, number=message.number << _WHOSE | worker.index)


def _before(number: int, worker: Worker) -> int:
    """The least of a worker's own numbers that is not below `number`; 0 stands for the newest, as ever."""
    if not number:
        return 0
    return max(1, (number - worker.index + (1 << _WHOSE) - 1) >> _WHOSE)
