"""The queue in an embedded database: the directory `<spool>/` with `queue.db`, durable by fsync.

What is where: spool.py guards the directory, database.py runs the threads and groups commits, writes.py and reads.py
hold the SQL, sql/ the schema, drafts.py has large messages. What every database does alike is in rows.py, leases.py,
octets.py, entries.py and operating.py. This file is the Storage the others see, and runs on the event loop; it never
touches the disk itself.

Free pages are used again and the file never shrinks by itself (auto_vacuum is off: it would move pages on the path of
every delivery). A backlog once had leaves a large file; `VACUUM`, with the service stopped, gives it back.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, assert_never

import structlog

from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Octets, QueuedMessage, QueuedRecipient
from waypost.net.clock import Instant
from waypost.queue import ids, reads, record
from waypost.queue.database import Reader, Writer
from waypost.queue.drafts import Body, SqliteDraft, pieces
from waypost.queue.entries import key_of, number_of, place_of
from waypost.queue.leases import CLAIMED_OCTETS, carried, claimed_lease, held_in_place, prolonged, unreadable
from waypost.queue.octets import CHUNK, StoredOctets
from waypost.queue.opening import make_ready
from waypost.queue.operating import SLICE, Act, Operating, in_slices
from waypost.queue.rows import Accepting, Claimed, Key, MessageRow, address_row, event_row, recipient_rows, settling_of
from waypost.queue.searching import AFTER_ALL, AT_ONCE, Searched, search_on
from waypost.queue.shelf_rows import RowShelf
from waypost.queue.space import gone, identity, room
from waypost.queue.spool import Spool, failed
from waypost.queue.storage import (
    BinnedEntry,
    CapturedMessage,
    Counts,
    Draft,
    Durability,
    Found,
    HistoryEvent,
    Lease,
    Looked,
    Never,
    Passed,
    Place,
    QueueEntry,
    ReadyHop,
    Report,
    Search,
    Selection,
    Settlement,
    StorageError,
    Stored,
    StoreFault,
    StoreFaultKind,
    Tallied,
)
from waypost.queue.writes import LeaseLost, Writes

T = TypeVar("T")

#: Space kept free for settling: when the disk runs full, accepting stops first, and deliveries still empty the queue.
RESERVE: Final = 32 * 2**20

#: Seconds between two salvages of a spool that is in use, and before one that failed is tried again.
MEND_EVERY: Final = 60.0
MEND_PAUSE: Final = 5.0
#: Where octets are, in words.
PLACE: Final = "spool"

_CLOSED: Final = StoreFault(StoreFaultKind.CLOSED, "the queue is not open")


@dataclass(frozen=True, slots=True)
class _Closed:
    """No process of ours has the spool."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What an open spool is worked with: two readers, so that no person's question delays a delivery."""

    spool: Spool
    writer: Writer[Writes]
    dispatch: Reader
    people: Reader
    owner: str
    epoch: int
    file: tuple[int, int]  # of the database, as it was opened: its device and number
    tokens: itertools.count[int]
    drafts: itertools.count[int]
    gaps: set[int]  # messages whose octets turned out not to be whole

    def stored(self, message: int, draft: int, size: int) -> Octets:
        """A message's octets, to be read when they are wanted."""
        return StoredOctets(partial(pieces, self.dispatch, message, draft), PLACE, message, size, self.gaps)


_State: TypeAlias = _Closed | _Open


class SqliteStorage(Operating, RowShelf):
    """A Storage in one directory, which is made where it is missing; `reserve` is in octets (see RESERVE)."""

    durability = Durability.FSYNC

    def __init__(
        self, path: Path, *, allow_ephemeral: bool = False, reserve: int = RESERVE, salvages: bool = False
    ) -> None:
        self.news: Callable[[], None] = lambda: None  # nobody else has the spool
        self._path = path
        self._salvages = salvages
        self._reserve = reserve
        self._database = path / "queue.db"
        self._allow_ephemeral = allow_ephemeral
        self._state: _State = _Closed()
        self._mending: set[asyncio.Task[None]] = set()  # at most one
        self._mended_at = -math.inf  # loop time

    @property
    def commits(self) -> int:
        """Transactions since it was opened: with group commit fewer than operations."""
        return self._opened().writer.commits

    # ---- opening and closing
    async def open(self, *, owner: str) -> None:
        if isinstance(self._state, _Open):
            raise failed(f"spool {self._path} is open already; it is opened once, by app")
        spool = await asyncio.to_thread(Spool.take, self._path, allow_ephemeral=self._allow_ephemeral)
        try:
            self._state = await self._open(spool, owner)
        except BaseException:
            spool.leave()
            raise

    async def _open(self, spool: Spool, owner: str, *, thorough: bool = False) -> _Open:
        await asyncio.to_thread(make_ready, self._database, salvages=self._salvages, thorough=thorough)
        writer = Writer(
            self._database, lambda connection: Writes(connection, self._path, self._reserve), self._found_damage
        )
        try:
            epoch = await writer.submit(lambda writes: writes.begin_epoch(owner))
            drafts = await writer.submit(lambda writes: writes.first_free_draft())
        except BaseException:
            await writer.close()
            raise
        dispatch = Reader(self._database, "spool-dispatch", self._found_damage)
        people = Reader(self._database, "spool-people", self._found_damage)
        file = identity(self._database)
        counters = itertools.count(1), itertools.count(drafts)
        return _Open(spool, writer, dispatch, people, owner, epoch, file, *counters, set())

    async def close(self) -> None:
        for mending in self._mending:
            mending.cancel()
        await asyncio.gather(*self._mending, return_exceptions=True)
        match self._state:
            case _Open(spool) as opened:
                await self._close(opened)
                spool.leave()
            case _Closed():
                pass
            case _:
                assert_never(self._state)

    async def _close(self, opened: _Open) -> None:
        self._state = _Closed()
        await opened.dispatch.close()
        await opened.people.close()
        await opened.writer.close()

    # ---- damage found while it runs
    def _found_damage(self) -> None:
        """Salvage now, not at the next start; but not again and again, should that not help."""
        now = asyncio.get_running_loop().time()
        if self._salvages and not self._mending and now - self._mended_at >= MEND_EVERY:
            mending = asyncio.get_running_loop().create_task(self._mend())
            self._mending.add(mending)
            mending.add_done_callback(self._mending.discard)

    async def _mend(self) -> None:
        """Close, salvage, open again; meanwhile clients are told to come back, and deliveries wait."""
        if not isinstance(self._state, _Open):
            return
        spool, owner = self._state.spool, self._state.owner
        try:
            await self._close(self._state)
            self._state = await self._open_somehow(spool, owner)
        except BaseException:
            spool.leave()
            raise
        self._mended_at = asyncio.get_running_loop().time()

    async def _open_somehow(self, spool: Spool, owner: str) -> _Open:
        while True:
            try:
                return await self._open(spool, owner, thorough=True)
            except StorageError as error:
                structlog.get_logger().warning("the spool could not be mended; it is tried again", detail=str(error))
            await asyncio.sleep(MEND_PAUSE)

    def _opened(self) -> _Open:
        match self._state:
            case _Open() as opened:
                return opened
            case _Closed():
                raise StorageError(_CLOSED)
            case _:
                assert_never(self._state)

    def _write(self, operation: Callable[[Writes], T]) -> asyncio.Future[T]:
        return self._opened().writer.submit(operation)

    # ---- for a move, which works on rows (moving.py)
    async def in_transaction(self, operation: Callable[[Writes], T]) -> T:
        """What the operation comes to, in the writer's transaction. Raises: StorageError, and what it raises."""
        return await self._write(operation)

    def next_draft(self) -> int:
        """A number no draft has had."""
        return next(self._opened().drafts)

    # ---- receiving
    async def draft(self) -> Draft:
        opened = self._opened()
        return SqliteDraft(opened.writer, next(opened.drafts))

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        try:
            opened = self._opened()
        except StorageError as error:
            return error.fault
        body = _body(octets, opened)
        claim_until = now if envelope.held else claim_until
        groups = record.by_next_hop(envelope)
        number = ids.to_number(id)
        leases = _leases(
            opened,
            record.queued_message(id, envelope, now, body.size),
            groups,
            carried(octets, number, body.draft, body.size, body.inline, opened.stored),
            now,
            claim_until,
        )
        accepting = _accepting(number, envelope, body, now, groups, leases)
        try:
            if envelope.held:
                await opened.writer.submit(lambda writes: writes.accept_held(accepting, envelope.held, now))
            else:
                await opened.writer.submit(lambda writes: writes.accept(accepting))
        except StorageError as error:
            if isinstance(octets, SqliteDraft):
                octets.give_back()
            return error.fault
        except asyncio.CancelledError:
            _give_back(opened, leases)  # the message is ours all the same, and nobody else will try it
            raise
        return Stored(id, leases)

    # ---- delivering
    async def ready(self, now: Instant, *, limit: int) -> Sequence[ReadyHop]:
        return await self._opened().dispatch.run(lambda connection: reads.ready(connection, now, limit))

    async def next_due(self, now: Instant) -> Instant | Never:
        return await self._opened().dispatch.run(lambda connection: reads.next_due(connection, now))

    async def claim(self, next_hop: NextHop, *, now: Instant, until: Instant, messages: int) -> Sequence[Lease]:
        opened = self._opened()
        tokens = [next(opened.tokens) for _ in range(messages)]
        claiming = opened.writer.submit(
            lambda writes: writes.claim(next_hop, now=now, until=until, tokens=tokens, inline=CLAIMED_OCTETS)
        )
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # nobody will try what is just being claimed: give it back once it is
            claiming.add_done_callback(partial(_give_back_claimed, opened, next_hop, until))
            raise
        leases = []
        for one in claimed:
            try:
                leases.append(_claimed(opened, next_hop, until, one))
            except ValueError:  # its row cannot be read, or what is written there makes no sense
                reason = unreadable("its envelope", PLACE)
                await opened.writer.submit(partial(_hold_claimed, one.message, one.token, reason, now))
        return leases

    def holds(self, lease: Lease) -> bool:  # noqa: ARG002 - whichever
        return True  # the spool is this process's alone, and what an earlier one left has no lease any longer

    async def renew(self, leases: Sequence[Lease], *, until: Instant) -> Sequence[Lease]:
        opened = self._opened()
        ours = [lease for lease in leases if _is_ours(opened, lease)]
        kept = await opened.writer.submit(lambda writes: [writes.renew(*_hold_on(lease), until) for lease in ours])
        return [prolonged(lease, numbers, until) for lease, numbers in zip(ours, kept, strict=True) if numbers]

    async def release(self, leases: Sequence[Lease]) -> None:
        opened = self._opened()
        await opened.writer.submit(_releasing([lease for lease in leases if _is_ours(opened, lease)]))

    async def settle(self, settlement: Settlement) -> bool:
        opened = self._opened()
        if not _is_ours(opened, settlement.lease):
            return False
        if ids.to_number(settlement.lease.message.id) in opened.gaps:
            settlement = held_in_place(settlement, PLACE)
        settling = settling_of(settlement)
        try:
            await opened.writer.submit(lambda writes: writes.settle(settling))
        except LeaseLost:
            return False
        return True

    # ---- reporting
    async def reports(self, *, limit: int) -> Sequence[Report]:
        opened = self._opened()
        due = await opened.people.run(lambda connection: reads.due_reports(connection, limit))
        return [
            Report(number, message, _stored(opened, message, draft), notice, recipients)
            for number, message, draft, notice, recipients in due
        ]

    async def file_report(
        self,
        report: Report,
        envelope: Envelope,
        octets: InMemory,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
    ) -> None:
        opened = self._opened()
        groups = record.by_next_hop(envelope)
        accepting = _accepting(ids.to_number(id), envelope, _body(octets, opened), now, groups, ())
        striking = _striking(report, record.report_queued(report, id, now))

        def file(writes: Writes) -> None:
            if striking(writes):
                writes.accept(accepting)

        await opened.writer.submit(file)

    async def drop_report(self, report: Report, *, why: str, now: Instant) -> None:
        await self._write(_striking(report, record.report_dropped(report, why, now)))

    # ---- asking
    async def entries(
        self, selection: Selection, *, after: tuple[MessageId, int], limit: int, now: Instant
    ) -> Sequence[QueueEntry]:
        key = key_of(after)
        return await self._opened().people.run(lambda connection: reads.entries(connection, selection, key, limit, now))

    async def look(self, selection: Selection, *, after: Place, limit: int, stretch: int, now: Instant) -> Looked:
        key = key_of(after)
        entries, last = await self._opened().people.run(
            lambda connection: reads.look(connection, selection, key, limit, stretch, now)
        )
        return Looked(tuple(entries), place_of(last))

    async def message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        opened = self._opened()
        number = number_of(id)
        message, draft = await opened.people.run(lambda connection: reads.stored_message(connection, number))
        return message, _stored(opened, message, draft)

    async def hops(self) -> Sequence[tuple[NextHop, str]]:
        return await self._opened().people.run(reads.hops)

    async def backlog(self) -> Sequence[tuple[NextHop, str, int]]:
        return await self._opened().people.run(reads.backlog)

    async def traffic(self, *, since: Instant, limit: int) -> Sequence[Passed]:
        return await self._opened().people.run(lambda connection: reads.traffic(connection, since, limit))

    async def history(self, id: MessageId) -> Sequence[HistoryEvent]:  # noqa: A002 - the field's own name
        number = number_of(id)
        return await self._opened().people.run(lambda connection: reads.history(connection, number))

    async def find(self, address: str, *, limit: int) -> Sequence[MessageId]:
        return await self._opened().people.run(lambda connection: reads.find(connection, address, limit))

    async def search(self, search: Search, *, before: str, limit: int) -> Found:
        people = self._opened().people
        return await search_on(
            search,
            number_of(MessageId(before)) if before else AFTER_ALL,
            limit,
            addressed=lambda start: people.run(partial(_addressed, search.address, start)),
            fitting=lambda start, looked_at: people.run(partial(_fitting, search, start, looked_at)),
        )

    async def counts(self) -> Counts:
        return await self._opened().people.run(reads.counts)

    async def room(self) -> int:
        opened = self._opened()
        if await asyncio.to_thread(identity, self._database) != opened.file:
            raise gone(self._database)
        return await opened.people.run(partial(room, self._path))

    # ---- operating: what is selected is found by a reader, and changed a slice at a time
    async def operate(self, selection: Selection, act: Act) -> int:
        return await self._in_slices(
            lambda connection, after: reads.keys_for(connection, selection, act, after, SLICE),
            lambda keys, writes: writes.operate(keys, act),
        )

    async def tally(self, selection: Selection, *, after: Place, stretch: int, now: Instant) -> Tallied:
        key = key_of(after)
        recipients, last = await self._opened().people.run(
            lambda connection: reads.tally(connection, selection, key, stretch, now)
        )
        return Tallied(recipients, place_of(last))

    # ---- the bin
    async def binned(self, selection: Selection, *, after: tuple[MessageId, int], limit: int) -> Sequence[BinnedEntry]:
        key = key_of(after)
        return await self._opened().people.run(lambda connection: reads.binned(connection, selection, key, limit))

    async def empty_bin(self, *, before: Instant, limit: int) -> int:
        return await self._write(lambda writes: writes.empty_bin(before, limit))

    async def rehop(self, old: NextHop, domain: str, new: NextHop) -> int:
        def page(connection: sqlite3.Connection, after: Key) -> list[Key]:
            return reads.keys_of_hop(connection, old, domain, after, SLICE)

        return await self._in_slices(page, lambda keys, writes: writes.rehop(keys, old, new))

    async def _in_slices(
        self,
        page: Callable[[sqlite3.Connection, Key], list[Key]],
        change: Callable[[Sequence[Key], Writes], int],
    ) -> int:
        return await in_slices(
            lambda after: self._opened().people.run(lambda connection: page(connection, after)),
            lambda keys: self._write(lambda writes: change(keys, writes)),
        )

    # ---- forgetting
    async def forget(self, *, before: Instant, limit: int) -> int:
        return await self._write(lambda writes: writes.forget(before, limit))

    async def captured(self, *, before: int, limit: int) -> Sequence[CapturedMessage]:
        return await self._opened().people.run(lambda connection: reads.captured(connection, before, limit))

    async def captured_octets(self, number: int) -> Octets:
        opened = self._opened()
        message, draft = await opened.people.run(lambda connection: reads.captured_message(connection, number))
        return _stored(opened, message, draft)

    async def discard_captured(self, *, keep: int) -> int:
        return await self._write(lambda writes: writes.discard_captured(keep))

    # ---- the shelf
    async def _change_shelf(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        return await self._write(lambda writes: operation(writes.connection))

    async def _look_at_shelf(self, question: Callable[[sqlite3.Connection], T], *, is_long: bool) -> T:
        opened = self._opened()
        return await (opened.people if is_long else opened.dispatch).run(question)


def _addressed(address: str, before: int, connection: sqlite3.Connection) -> list[int]:
    return reads.addressed(connection, address, before, AT_ONCE)


def _fitting(search: Search, before: int, looked_at: Sequence[int], connection: sqlite3.Connection) -> Searched:
    return reads.search(connection, search, before, looked_at, AT_ONCE)


# ---- from what others hand in to rows
def _body(octets: InMemory | Draft, opened: _Open) -> Body:
    match octets:
        case InMemory():
            return Body.of(octets, next(opened.drafts) if octets.size > CHUNK else 0)
        case SqliteDraft():
            return octets.take()
        case _:
            raise TypeError(f"a draft of another storage: {octets!r}")


def _accepting(
    number: int,
    envelope: Envelope,
    body: Body,
    now: Instant,
    groups: dict[NextHop, tuple[QueuedRecipient, ...]],
    leases: Sequence[Lease],
) -> Accepting:
    written = record.encode(record.envelope_details(envelope, body.size))
    return Accepting(
        MessageRow(number, now, body.size, written, body.draft, body.inline),
        recipient_rows(number, envelope, now, groups, leases),
        [address_row(number, address) for address in record.addresses_of(envelope)],
        body.chunks,
    )


def _hold_claimed(message: int, token: int, reason: str, now: Instant, writes: Writes) -> None:
    writes.hold_claimed(message, token, reason, now)


def _striking(report: Report, event: HistoryEvent) -> Callable[[Writes], bool]:
    numbers = [one.recipient.number for one in report.recipients]
    row = event_row(event)
    return lambda writes: writes.strike_off(report.number, numbers, row)


# ---- leases
def _leases(
    opened: _Open,
    message: QueuedMessage,
    groups: dict[NextHop, tuple[QueuedRecipient, ...]],
    octets: Octets,
    now: Instant,
    until: Instant,
) -> tuple[Lease, ...]:
    if until <= max(now, message.released_at):
        return ()
    return tuple(
        Lease(message, recipients, next_hop, octets, opened.owner, opened.epoch, until, next(opened.tokens))
        for next_hop, recipients in groups.items()
    )


def _claimed(opened: _Open, next_hop: NextHop, until: Instant, claimed: Claimed) -> Lease:
    return claimed_lease(claimed, next_hop, opened.owner, opened.epoch, until, opened.stored)


def _stored(opened: _Open, message: QueuedMessage, draft: int) -> Octets:
    return opened.stored(ids.to_number(message.id), draft, message.size)


def _is_ours(opened: _Open, lease: Lease) -> bool:
    return lease.owner == opened.owner and lease.epoch == opened.epoch


def _hold_on(lease: Lease) -> tuple[int, int, list[int]]:
    return ids.to_number(lease.message.id), lease.token, [recipient.number for recipient in lease.recipients]


def _releasing(leases: Sequence[Lease]) -> Callable[[Writes], None]:
    def release(writes: Writes) -> None:
        for lease in leases:
            writes.release(*_hold_on(lease))

    return release


def _give_back(opened: _Open, leases: Sequence[Lease]) -> None:
    if leases:
        opened.writer.submit(_releasing(leases)).add_done_callback(_ignore_failure)


def _give_back_claimed(
    opened: _Open, next_hop: NextHop, until: Instant, claiming: asyncio.Future[list[Claimed]]
) -> None:
    if not claiming.cancelled() and claiming.exception() is None:
        _give_back(opened, [_claimed(opened, next_hop, until, one) for one in claiming.result()])


def _ignore_failure(future: asyncio.Future[None]) -> None:
    """A lease that could not be given back ends by itself."""
    if not future.cancelled():
        future.exception()
