"""The queue in memory, for tests and demonstrations: lost with the process, and it scans where others seek.

It keeps the whole contract of storage.py, so that a test against it says something about every storage.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Octets, QueuedMessage, QueuedRecipient
from waypost.mail.explain import describe
from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.lives import (
    Chosen,
    DueReport,
    Life,
    Standing,
    binned_entry,
    by_message,
    domain_of,
    entry,
    is_meant,
    matches,
    where,
)
from waypost.queue.operating import Act, Bin, MakeDue, Operating, Reroute, Restore, SetAside, Unhold
from waypost.queue.shelf import Absent, MemoryShelf
from waypost.queue.storage import (
    EDGE,
    BinnedEntry,
    CapturedMessage,
    Counts,
    Draft,
    Durability,
    Found,
    Gone,
    HistoryEvent,
    Hold,
    Lease,
    Looked,
    Never,
    Notice,
    Passed,
    Place,
    QueueEntry,
    ReadyHop,
    Report,
    ReportedRecipient,
    Search,
    Selection,
    Settled,
    Settlement,
    StorageError,
    Stored,
    StoreFault,
    StoreFaultKind,
    Tallied,
    Wait,
)

CLOSED = StoreFault(StoreFaultKind.CLOSED, "the queue is not open")


class MemoryDraft:
    """The octets of a message on their way in."""

    def __init__(self) -> None:
        self._octets = bytearray()

    async def write(self, octets: bytes) -> None:
        self._octets += octets

    async def discard(self) -> None:
        self._octets.clear()

    def take(self) -> InMemory:
        """All that was written."""
        return InMemory(bytes(self._octets))


class MemoryStorage(Operating):
    """A Storage in memory. Closing keeps what it holds, so that a test can open it again as after a restart."""

    durability = Durability.MEMORY

    def __init__(self) -> None:
        self.news: Callable[[], None] = lambda: None
        self._owner = ""
        self._epoch = 0
        self._is_open = False
        self._tokens = itertools.count(1)
        self._numbers = itertools.count(1)
        self._lives: dict[MessageId, Life] = {}
        self._unfinished: dict[MessageId, Life] = {}  # those of them that something is left to do for
        self._reports: dict[tuple[MessageId, Notice], DueReport] = {}
        self._captured: dict[int, CapturedMessage] = {}
        self._shelf = MemoryShelf()

    async def open(self, *, owner: str) -> None:
        self._owner, self._epoch, self._is_open = owner, self._epoch + 1, True
        for _, place in self._places():
            if place.token:
                place.token, place.ready_at = 0, place.due_at

    async def close(self) -> None:
        self._is_open = False

    # ---- receiving
    async def draft(self) -> Draft:
        self._require_open()
        return MemoryDraft()

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        if not self._is_open:
            return CLOSED
        if id in self._lives:
            return StoreFault(StoreFaultKind.FAILED, f"there is a message {id} already")
        match octets:
            case InMemory():
                whole = octets
            case MemoryDraft():
                whole = octets.take()
            case _:
                raise TypeError(f"a draft of another storage: {octets!r}")
        message = record.queued_message(id, envelope, now, whole.size)
        groups = record.by_next_hop(envelope)
        due = max(now, envelope.released_at)
        places = {one.number: Standing(one, hop, due, due) for hop, group in groups.items() for one in group}
        received = record.received(id, now, record.envelope_details(envelope, whole.size))
        life = Life(message, whole, dict(sorted(places.items())), [received], record.addresses_of(envelope))
        self._lives[id] = self._unfinished[id] = life
        if envelope.held:
            waiting = [(life, place) for place in life.places.values()]
            self._set_aside(waiting, SetAside(now, envelope.held, record.done_by("held", "", envelope.held)))
            return Stored(id, ())
        if claim_until <= due:
            return Stored(id, ())
        return Stored(id, tuple(self._lease(life, hop, now=now, until=claim_until) for hop in groups))

    # ---- delivering
    async def ready(self, now: Instant, *, limit: int) -> Sequence[ReadyHop]:
        self._require_open()
        since: dict[NextHop, Instant] = {}
        for _, place in self._places():
            if place.is_claimable(now):
                since[place.next_hop] = min(place.ready_at, since.get(place.next_hop, place.ready_at))
        hops = sorted(since.items(), key=lambda item: (item[1], item[0]))
        return [ReadyHop(next_hop, at) for next_hop, at in hops[:limit]]

    async def next_due(self, now: Instant) -> Instant | Never:
        self._require_open()
        later = [place.ready_at for _, place in self._places() if not place.held and place.ready_at > now]
        return min(later) if later else Never()

    async def claim(self, next_hop: NextHop, *, now: Instant, until: Instant, messages: int) -> Sequence[Lease]:
        self._require_open()
        due = [
            (-life.message.parameters.priority, place.ready_at, life.message.id)
            for life, place in self._places()
            if place.next_hop == next_hop and place.is_claimable(now)
        ]
        oldest = list(dict.fromkeys(name for _, _, name in sorted(due)))[:messages]
        return [self._lease(self._lives[name], next_hop, now=now, until=until) for name in oldest]

    def _lease(self, life: Life, next_hop: NextHop, *, now: Instant, until: Instant) -> Lease:
        token = next(self._tokens)
        claimed = [place for place in life.places.values() if place.next_hop == next_hop and place.is_claimable(now)]
        for place in claimed:
            place.token, place.ready_at = token, until
        recipients = tuple(place.recipient for place in claimed)
        return Lease(life.message, recipients, next_hop, life.octets, self._owner, self._epoch, until, token)

    def holds(self, lease: Lease) -> bool:
        return self._is_open and (lease.owner, lease.epoch) == (self._owner, self._epoch)

    async def renew(self, leases: Sequence[Lease], *, until: Instant) -> Sequence[Lease]:
        self._require_open()
        renewed = []
        for lease in leases:
            ours = self._held_by(lease)
            for place in ours:
                place.ready_at = until
            if ours:
                renewed.append(replace(lease, recipients=tuple(place.recipient for place in ours), until=until))
        return renewed

    async def release(self, leases: Sequence[Lease]) -> None:
        self._require_open()
        for lease in leases:
            for place in self._held_by(lease):
                place.token, place.ready_at = 0, place.due_at

    def _held_by(self, lease: Lease) -> list[Standing]:
        """The places of a lease's recipients, as far as the lease still has them."""
        life = self._lives.get(lease.message.id)
        if life is None or (lease.owner, lease.epoch) != (self._owner, self._epoch):
            return []
        places = [life.places[one.number] for one in lease.recipients if one.number in life.places]
        return [place for place in places if place.token == lease.token]

    async def settle(self, settlement: Settlement) -> bool:
        self._require_open()
        lease, at = settlement.lease, settlement.attempt.ended_at
        ours = {place.recipient.number for place in self._held_by(lease)}
        if not all(settled.recipient.number in ours for settled in settlement.recipients):
            return False
        life = self._lives[lease.message.id]
        details = record.attempt_details(settlement.attempt, settlement.recipients)
        life.events.append(record.attempted(lease.message.id, at, details))
        for settled in settlement.recipients:
            self._settle_one(life, settled, at)
        captured = [one.recipient for one in settlement.recipients if isinstance(one.next, Gone) and one.next.captured]
        if captured:
            self._capture(life, captured, at)
        self._finish(life, at)
        return True

    def _settle_one(self, life: Life, settled: Settled, at: Instant) -> None:
        number = settled.recipient.number
        place = life.places[number]
        match settled.next:
            case Gone():
                del life.places[number]
            case Wait(until):
                place.recipient, place.last_outcome = record.after(settled), describe(settled.outcome)
                place.wait(until)
            case Hold(reason):
                place.recipient, place.last_outcome = record.after(settled), describe(settled.outcome)
                place.wait(at)
                place.held = reason
        if settled.notice is not Notice.NONE:
            self._due(life, settled.notice, record.reported(settled, record.after(settled), at))

    def _due(self, life: Life, notice: Notice, reported: ReportedRecipient) -> None:
        key = (life.message.id, notice)
        if key not in self._reports:
            self._reports[key] = DueReport(next(self._numbers), *key)
            life.reports += 1
        self._reports[key].recipients[reported.recipient.number] = reported

    def _capture(self, life: Life, recipients: Iterable[QueuedRecipient], at: Instant) -> None:
        number, message = next(self._numbers), life.message
        addresses = tuple(record.address_of(recipient.forward_path) for recipient in recipients)
        reverse_path = record.address_of(message.reverse_path)
        self._captured[number] = CapturedMessage(number, message.id, reverse_path, addresses, at, message.size)
        life.captures += 1

    def _finish(self, life: Life, at: Instant) -> None:
        """Write down that nothing is left to do, where that is so."""
        if not (life.places or life.reports or life.is_done):
            life.is_done = True
            del self._unfinished[life.message.id]
            life.events.append(record.done(life.message.id, at))
            self._bury(life)

    # ---- reporting
    async def reports(self, *, limit: int) -> Sequence[Report]:
        self._require_open()
        oldest = sorted(self._reports.values(), key=lambda due: due.number)[:limit]
        return [self._report(due) for due in oldest]

    def _report(self, due: DueReport) -> Report:
        life = self._lives[due.id]
        recipients = tuple(recipient for _, recipient in sorted(due.recipients.items()))
        return Report(due.number, life.message, life.octets, due.notice, recipients)

    async def file_report(
        self,
        report: Report,
        envelope: Envelope,
        octets: InMemory,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
    ) -> None:
        self._require_open()
        if not self._is_due(report):
            return
        accepted = await self.accept(envelope, octets, id=id, now=now, claim_until=now)
        if isinstance(accepted, StoreFault):
            raise StorageError(accepted)
        self._strike_off(report, record.report_queued(report, id, now))

    async def drop_report(self, report: Report, *, why: str, now: Instant) -> None:
        self._require_open()
        if self._is_due(report):
            self._strike_off(report, record.report_dropped(report, why, now))

    def _is_due(self, report: Report) -> bool:
        due = self._reports.get((report.message.id, report.notice))
        return due is not None and due.number == report.number

    def _strike_off(self, report: Report, event: HistoryEvent) -> None:
        key, life = (report.message.id, report.notice), self._lives[report.message.id]
        due = self._reports[key]
        for reported in report.recipients:
            due.recipients.pop(reported.recipient.number, None)
        life.events.append(event)
        if not due.recipients:
            del self._reports[key]
            life.reports -= 1
        self._finish(life, event.at)

    # ---- asking and operating
    async def entries(
        self, selection: Selection, *, after: tuple[MessageId, int], limit: int, now: Instant
    ) -> Sequence[QueueEntry]:
        self._require_open()
        chosen = [
            (life, place)
            for life, place in self._selected(selection, now)
            if (life.message.id, place.recipient.number) > after
        ]
        chosen.sort(key=lambda pair: (pair[0].message.id, pair[1].recipient.number))
        return [entry(life, place, now) for life, place in chosen[:limit]]

    async def look(self, selection: Selection, *, after: Place, limit: int, stretch: int, now: Instant) -> Looked:
        found, last = self._stretch(selection, after, stretch, now)
        shown = tuple(entry(life, place, now) for life, place in found[:limit])
        return Looked(shown, last if len(shown) < limit else (shown[-1].id, shown[-1].number))

    def _stretch(
        self, selection: Selection, after: Place, stretch: int, now: Instant
    ) -> tuple[list[tuple[Life, Standing]], Place]:
        """What fits of so many recipients after a place, in order, and the last of them."""
        self._require_open()
        there = sorted((pair for pair in self._places() if where(*pair) > after), key=lambda pair: where(*pair))
        last = where(*there[stretch - 1]) if len(there) >= stretch else EDGE
        return [pair for pair in there[:stretch] if matches(selection, *pair, now)], last

    async def message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        self._require_open()
        life = self._lives[id]
        if not life.is_stored:
            raise KeyError(id)
        return life.message, life.octets

    async def operate(self, selection: Selection, act: Act) -> int:
        self._require_open()
        if isinstance(act, Restore):
            return len(self._restore([(life, place) for life, place, _, _ in self._in_bin(selection)], act))
        selected = self._selected(selection, act.now)
        match act:
            case MakeDue():
                return len(self._make_due(selected, act))
            case Bin():
                return len(self._bin(selected, act))
            case Reroute():
                return len(self._reroute(selected, act))
            case SetAside():
                return len(self._set_aside(selected, act))
            case Unhold():
                return len(self._unhold(selected, act))
            case _:
                assert_never(act)

    def _make_due(self, selected: Chosen, act: MakeDue) -> Chosen:
        late = [(life, place) for life, place in selected if not (place.token or place.held) and place.due_at > act.now]
        for _, place in late:
            place.wait(act.now)
        if act.said:
            self._tell(late, act.now, act.said)
        return late

    async def tally(self, selection: Selection, *, after: Place, stretch: int, now: Instant) -> Tallied:
        found, last = self._stretch(selection, after, stretch, now)
        return Tallied(len(found), last)

    def _bin(self, selected: Chosen, act: Bin) -> Chosen:
        gone = [(life, place) for life, place in selected if place.is_free(act.now)]
        for life, place in gone:
            life.bin[place.recipient.number] = (life.places.pop(place.recipient.number), act.now, act.why)
            if act.reason and record.is_told_of_failure(place.recipient, life.message.reverse_path):
                self._due(life, Notice.FAILED, record.bounced(place.recipient, act.reason, act.now))
        for life in self._tell(gone, act.now, act.why):
            self._finish(life, act.now)
        return gone

    def _tell(self, chosen: Chosen, now: Instant, text: str) -> list[Life]:
        """One event a message; the messages."""
        lives = []
        for life, addresses in by_message(chosen):
            life.events.append(record.operated(life.message.id, now, text, addresses))
            lives.append(life)
        return lives

    def _reroute(self, selected: Chosen, act: Reroute) -> Chosen:
        free = [(life, place) for life, place in selected if place.is_free(act.now) and place.next_hop != act.next_hop]
        for _, place in free:
            held = place.held
            place.wait(act.now)
            place.next_hop, place.held, place.is_pinned = act.next_hop, held, True
        self._tell(free, act.now, act.said)
        return free

    def _set_aside(self, selected: Chosen, act: SetAside) -> Chosen:
        free = [(life, place) for life, place in selected if place.is_free(act.now) and not place.held]
        for _, place in free:
            place.wait(place.due_at)
            place.held = act.reason
        self._tell(free, act.now, act.said)
        return free

    def _unhold(self, selected: Chosen, act: Unhold) -> Chosen:
        held = [(life, place) for life, place in selected if place.held]
        for _, place in held:
            place.wait(act.now)
        self._tell(held, act.now, act.said)
        return held

    # ---- the bin
    async def binned(self, selection: Selection, *, after: tuple[MessageId, int], limit: int) -> Sequence[BinnedEntry]:
        self._require_open()
        found = [one for one in self._in_bin(selection) if (one[0].message.id, one[1].recipient.number) > after]
        found.sort(key=lambda one: (one[0].message.id, one[1].recipient.number))
        return [binned_entry(*one) for one in found[:limit]]

    def _restore(self, back: Chosen, act: Restore) -> Chosen:
        for life, place in back:
            number = place.recipient.number
            life.places[number] = place
            del life.bin[number]
            place.wait(act.now)
            life.places = dict(sorted(life.places.items()))
            if life.is_done:
                life.is_done = False
                self._unfinished[life.message.id] = life
                life.events = [event for event in life.events if event.kind != "done"]
        self._tell(back, act.now, act.said)
        return back

    async def empty_bin(self, *, before: Instant, limit: int) -> int:
        self._require_open()
        old = [(life, place) for life, place, at, _ in self._in_bin(Selection()) if at < before][:limit]
        for life, place in old:
            del life.bin[place.recipient.number]
            self._bury(life)
        return len(old)

    def _in_bin(self, selection: Selection) -> list[tuple[Life, Standing, Instant, str]]:
        everywhere = ((life, *binned) for life in self._lives.values() for binned in life.bin.values())
        return [one for one in everywhere if matches(replace(selection, state=""), one[0], one[1], 0.0)]

    async def rehop(self, old: NextHop, domain: str, new: NextHop) -> int:
        self._require_open()
        moved = [
            place
            for _, place in self._selected(Selection(domain=domain, next_hop=old), 0.0)
            if domain_of(place) == domain and not place.is_pinned
        ]
        for place in moved:
            place.next_hop = new
        return len(moved)

    async def hops(self) -> Sequence[tuple[NextHop, str]]:
        self._require_open()
        return sorted({(place.next_hop, domain_of(place)) for _, place in self._places() if not place.is_pinned})

    async def backlog(self) -> Sequence[tuple[NextHop, str, int]]:
        self._require_open()
        counted = Counter((place.next_hop, domain_of(place)) for _, place in self._places() if not place.is_pinned)
        return sorted((next_hop, domain, count) for (next_hop, domain), count in counted.items())

    async def traffic(self, *, since: Instant, limit: int) -> Sequence[Passed]:
        self._require_open()
        done = [life for life in self._lives.values() if life.is_done and life.events and life.events[-1].at >= since]
        done.sort(key=lambda life: life.events[-1].at, reverse=True)
        return [one for life in done for one in record.passed(life.events[0].details)][:limit]

    async def history(self, id: MessageId) -> Sequence[HistoryEvent]:  # noqa: A002 - the field's own name
        self._require_open()
        return list(self._lives[id].events) if id in self._lives else []

    async def find(self, address: str, *, limit: int) -> Sequence[MessageId]:
        self._require_open()
        found = (name for name, life in self._lives.items() if address.lower() in life.addresses)
        return sorted(found, reverse=True)[:limit]

    async def search(self, search: Search, *, before: str, limit: int) -> Found:
        self._require_open()
        lives = sorted(
            (life for life in self._lives.values() if life.events and (not before or life.message.id < before)),
            key=lambda life: life.message.id,
            reverse=True,
        )
        found = [life.message.id for life in lives if is_meant(search, life)]
        return Found(tuple(found[:limit]), found[limit - 1] if len(found) > limit else "")

    async def forget(self, *, before: Instant, limit: int) -> int:
        self._require_open()
        old = [life for life in self._lives.values() if life.is_done and life.events and life.events[-1].at < before]
        old.sort(key=lambda life: (life.events[-1].at, life.message.id))
        dropped = 0
        for life in old[:limit]:
            dropped += len(life.events)
            life.events.clear()
            life.addresses.clear()
            self._bury(life)
        return dropped

    def _bury(self, life: Life) -> None:
        """Let go of what nobody needs any longer: the octets, then the rest."""
        if not life.is_stored:
            life.octets = InMemory(b"")
            if not life.events:
                del self._lives[life.message.id]

    async def captured(self, *, before: int, limit: int) -> Sequence[CapturedMessage]:
        self._require_open()
        newest = sorted((number for number in self._captured if not before or number < before), reverse=True)
        return [self._captured[number] for number in newest[:limit]]

    async def captured_octets(self, number: int) -> Octets:
        self._require_open()
        return self._lives[self._captured[number].id].octets

    async def discard_captured(self, *, keep: int) -> int:
        self._require_open()
        surplus = sorted(self._captured, reverse=True)[keep:]
        for number in surplus:
            life = self._lives[self._captured.pop(number).id]
            life.captures -= 1
            self._bury(life)
        return len(surplus)

    async def counts(self) -> Counts:
        self._require_open()
        places = [place for _, place in self._places()]
        return Counts(len(self._unfinished), len(places), sum(bool(place.held) for place in places), len(self._reports))

    async def room(self) -> int:
        self._require_open()
        return sys.maxsize

    # ---- the shelf
    async def keep(self, space: str, key: str, value: bytes, *, until: Instant) -> None:
        self._opened_shelf().keep(space, key, value, until)

    async def keep_new(self, space: str, key: str, value: bytes, *, until: Instant, now: Instant) -> bool:
        return self._opened_shelf().keep_new(space, key, value, until, now)

    async def kept(self, space: str, key: str, *, now: Instant) -> bytes | Absent:
        return self._opened_shelf().kept(space, key, now)

    async def all_kept(self, space: str, *, now: Instant) -> Sequence[tuple[str, bytes]]:
        return self._opened_shelf().all_kept(space, now)

    async def add(self, space: str, key: str, amount: int, *, until: Instant, now: Instant) -> int:
        return self._opened_shelf().add(space, key, amount, until, now)

    async def drop(self, space: str, key: str) -> bool:
        return self._opened_shelf().drop(space, key)

    async def clear_shelf(self, *, now: Instant, limit: int) -> int:
        return self._opened_shelf().clear(now, limit)

    def _opened_shelf(self) -> MemoryShelf:
        self._require_open()
        return self._shelf

    # ---- helpers
    def _require_open(self) -> None:
        if not self._is_open:
            raise StorageError(CLOSED)

    def _places(self) -> Iterator[tuple[Life, Standing]]:
        for life in self._unfinished.values():
            for place in life.places.values():
                yield life, place

    def _selected(self, selection: Selection, now: Instant) -> Chosen:
        return [(life, place) for life, place in self._places() if matches(selection, life, place, now)]
