"""The queue in a PostgreSQL database that several nodes share. This file is the Storage the others see.

What is where: database.py connects, lanes.py gathers what is written together, writes.py, acts.py and reads.py hold the
SQL, bodies.py has large messages, nodes.py tells who is alive. What every database does alike is in ../rows.py,
leases.py, octets.py, entries.py and operating.py. All nodes are equal; each delivers what it accepted, and takes what
falls due.

**An accepting whose answer is lost** is handed in again, for some seconds: if it had been done, it is recognised and
the client gets its 250. If the database stays away, the client gets a 451, and what may have been stored all the same
is dropped as soon as the database answers: the client sends it again. Nobody else delivers it meanwhile, for it is
leased to this node; but should this node be declared dead before it can say so, its message goes on, and comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar, assert_never

import structlog

from waypost import __version__
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Octets, QueuedMessage, QueuedRecipient
from waypost.net.clock import Clock, Instant
from waypost.net.s3 import S3, S3Error
from waypost.queue import ids, record
from waypost.queue.entries import key_of, number_of, place_of
from waypost.queue.leases import CLAIMED_OCTETS, carried, claimed_lease, held_in_place, prolonged, unreadable
from waypost.queue.octets import CHUNK, StoredOctets
from waypost.queue.operating import SLICE, Act, Operating, in_slices
from waypost.queue.postgres import acts, reads, shelf_rows, writes
from waypost.queue.postgres.bodies import (
    YOUNG,
    Bodies,
    Body,
    InDatabase,
    InStore,
    PostgresDraft,
    Sweeper,
    failed,
    pieces,
)
from waypost.queue.postgres.database import (
    Connection,
    Database,
    DatabaseLostError,
    durability,
    migrate,
    migrations,
    see_schema,
)
from waypost.queue.postgres.lanes import Lane
from waypost.queue.postgres.nodes import STANDSTILL, TIME_TO_LIVE, TOKEN_BITS, Membership, Visitor, shards_of
from waypost.queue.postgres.writes import Accepting, MessageRow, text
from waypost.queue.rows import Key, RecipientRow, Settling, address_row, event_row, recipient_rows, settling_of
from waypost.queue.searching import AFTER_ALL, AT_ONCE, search_on
from waypost.queue.shelf import Absent
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

T = TypeVar("T")

#: Connections that write at the same time, of either lane; and those of the whole pool.
LANE: Final = 2
CONNECTIONS: Final = 8
#: For how long an accepting whose answer was lost is asked after, before its client is told to come back; and the pause
#: between two tries. Clients wait ten minutes for the reply to a final dot (RFC 5321 §4.5.3.2.6).
PATIENCE: Final = timedelta(seconds=20)
PAUSE: Final = timedelta(milliseconds=300)
#: The space on the shelf that tells that somebody has looked through the store, and how often it is asked.
LOOKED_THROUGH: Final = "store looked through"
LOOK_THROUGH: Final = timedelta(hours=1)
#: How often it is asked what a commit is worth.
DURABILITY_LOOK: Final = timedelta(seconds=2)
#: Where octets are, in words.
PLACE: Final = "database"

_CLOSED: Final = StoreFault(StoreFaultKind.CLOSED, "the queue is not open")


def _failed(detail: str) -> StorageError:
    return StorageError(StoreFault(StoreFaultKind.FAILED, detail))


@dataclass(frozen=True, slots=True)
class _Closed:
    """No process of ours has the queue."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What an open queue is worked with."""

    database: Database
    members: Membership
    beating: asyncio.Task[None]
    accepts: Lane[Accepting, StoreFault | None]
    settles: Lane[Settling, bool]
    owner: str
    bodies: Bodies
    stores: Sequence[S3]  # at most one
    gaps: set[int]  # messages whose octets turned out not to be whole

    def stored(self, message: int, draft: int, size: int) -> Octets:
        """A message's octets, to be read when they are wanted."""
        octets = partial(pieces, self.database, self.stores, message, draft)
        return StoredOctets(octets, "store" if draft < 0 else PLACE, message, size, self.gaps)


_State: TypeAlias = _Closed | _Open


class _Page(Protocol):
    """A question for keys after a key."""

    def __call__(self, connection: Connection, /, *, after: Key) -> Awaitable[list[Key]]: ...


class _Change(Protocol):
    """A change to recipients; how many were changed."""

    def __call__(self, connection: Connection, /, *, keys: Sequence[Key]) -> Awaitable[int]: ...


class PostgresStorage(Operating):
    """A Storage in one database, whose schema is made where it is missing."""

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        *,
        connections: int = CONNECTIONS,
        time_to_live: timedelta = TIME_TO_LIVE,
        patience: timedelta = PATIENCE,
        visits: bool = False,
        stores: Sequence[S3] = (),
        inline: int = CHUNK,
    ) -> None:
        """`visits`: for who asks and changes what waits, but takes in and delivers nothing, and is no node.

        `stores`, at most one: where octets of messages are that are larger than `inline`.
        """
        self.stores = stores
        self._inline = min(inline, CHUNK)
        self._visits = visits
        self._dsn = dsn
        self._clock = clock
        self._connections = connections
        self._time_to_live = time_to_live
        self._patience = patience
        self._state: _State = _Closed()
        self._next = 1  # of the tokens of this process
        self._later: set[asyncio.Task[None]] = set()
        self.durability = Durability.FSYNC
        self.news: Callable[[], None] = lambda: None

    # ---- opening and closing
    async def open(self, *, owner: str) -> None:
        if isinstance(self._state, _Open):
            raise _failed("the queue is open already; it is opened once, by app")
        database = Database(self._dsn, self._connections, idle=STANDSTILL * self._time_to_live)
        await database.open()
        try:
            self._state = await self._open(database, owner)
        except BaseException:
            await database.close()
            raise

    async def _open(self, database: Database, owner: str) -> _Open:
        prepare, kind = (see_schema, Visitor) if self._visits else (migrate, Membership)
        await database.run(partial(prepare, where=database.where, steps=migrations()))
        self.durability = await database.run(durability)
        members = kind(database, self._clock, owner, __version__, self._time_to_live)
        members.news = self._tell
        database.lost = members.lost
        await members.join()
        beating = asyncio.get_running_loop().create_task(self._live(members, database), name="sign of life")
        accepts, settles = Lane(self._accept, LANE), Lane(self._settle, LANE)
        in_stores: list[Bodies] = [InStore(database, store, self._inline) for store in self.stores]
        bodies = in_stores or [InDatabase(database)]
        return _Open(database, members, beating, accepts, settles, owner, bodies[0], self.stores, set())

    async def _live(self, members: Membership, database: Database) -> None:
        sweepers = [] if self._visits else [Sweeper(database, store, self._clock) for store in self.stores]
        await asyncio.gather(
            members.run(),
            self._watch_durability(database),
            *(one.run() for one in sweepers),
            *(self._look_through(one) for one in sweepers),
        )

    async def _look_through(self, sweeper: Sweeper) -> None:
        """Once a day one of the nodes looks for objects that no message has."""
        while True:
            now = self._clock.now()
            with contextlib.suppress(StorageError, S3Error):  # another day
                if await self.keep_new(LOOKED_THROUGH, "", b"", until=now + YOUNG.total_seconds(), now=now):
                    await sweeper.look_through()
            await self._clock.sleep(LOOK_THROUGH)

    async def _watch_durability(self, database: Database) -> None:
        """What a commit is worth may change while we run: another primary, a synchronous standby that is gone."""
        while True:
            await self._clock.sleep(DURABILITY_LOOK)
            with contextlib.suppress(StorageError):  # told of by those who need it
                found = await database.run(durability)
                if found is not self.durability:
                    said = {"was": self.durability.value, "durability": found.value}
                    structlog.get_logger().warning("what a 250 is worth has changed", **said)
                self.durability = found

    async def close(self) -> None:
        match self._state:
            case _Open() as opened:
                await opened.accepts.close()
                await opened.settles.close()
                if self._later:
                    await asyncio.wait(self._later)
                self._state = _Closed()
                await self._leave(opened)
                for store in opened.stores:
                    await store.close()
            case _Closed():
                pass
            case _:
                assert_never(self._state)

    def _tell(self) -> None:
        self.news()

    async def _leave(self, opened: _Open) -> None:
        opened.beating.cancel()
        await asyncio.gather(opened.beating, return_exceptions=True)
        try:
            await opened.members.leave()
        except StorageError as error:
            structlog.get_logger().warning("others will find this node silent, and take over", detail=str(error))
        await opened.database.close()

    def _opened(self) -> _Open:
        match self._state:
            case _Open() as opened:
                return opened
            case _Closed():
                raise StorageError(_CLOSED)
            case _:
                assert_never(self._state)

    def _at_work(self) -> _Open:
        """The same, of a node. Raises: StorageError, for who only visits."""
        if self._visits:
            raise _failed("who visits a queue takes nothing in and delivers nothing; a node does")
        return self._opened()

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._opened().database.run(question)

    async def _write(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._opened().database.transact(operation)

    # ---- for a move, which works on rows (moving.py)
    async def in_transaction(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """What the operation comes to, in a transaction of its own. Raises: StorageError, and what it raises."""
        return await self._write(operation)

    @property
    def epoch(self) -> int:
        """The number of this process among the nodes."""
        return self._opened().members.epoch

    def next_draft(self) -> int:
        """A number no draft has had."""
        return self._tokens(self._opened())

    async def sweep(self) -> None:
        """Delete the objects that no message needs now, for who is not there later to do it. Raises: StorageError."""
        opened = self._opened()
        for store in opened.stores:
            sweeper = Sweeper(opened.database, store, self._clock)
            try:
                while await sweeper.sweep():
                    pass
            except S3Error as error:
                raise failed(error) from error

    def tell(self) -> None:
        """Something has become due that other nodes may take."""
        self._opened().members.tell()

    def _tokens(self, opened: _Open, count: int = 1) -> int:
        """The first of so many tokens that nobody has had."""
        first, self._next = self._next, self._next + count
        return opened.members.epoch << TOKEN_BITS | first

    # ---- receiving
    async def draft(self) -> Draft:
        opened = self._at_work()
        return PostgresDraft(opened.database, opened.bodies, self._tokens(opened))

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
            opened = self._at_work()
            body = await self._body(octets, opened)
        except StorageError as error:
            return error.fault
        groups = record.by_next_hop(envelope)
        claim_until = now if envelope.held else claim_until
        number, message = ids.to_number(id), record.queued_message(id, envelope, now, body.size)
        whole = carried(octets, number, body.draft, body.size, body.inline, opened.stored)
        leases = self._leases(opened, message, groups, whole, now, claim_until)
        accepting = self._accepting(opened, number, envelope, body, now, groups, leases)
        submitted: asyncio.Future[StoreFault | None] = (
            asyncio.ensure_future(self._accept_held(opened, accepting, envelope.held, now))
            if envelope.held
            else opened.accepts.submit(accepting)
        )
        try:
            fault = await asyncio.shield(submitted)
        except StorageError as error:
            fault = error.fault
        except asyncio.CancelledError:  # the message is ours all the same, and nobody else will try it
            submitted.add_done_callback(lambda _: self._give_back(leases))
            raise
        if fault is not None:
            if isinstance(octets, PostgresDraft):
                octets.give_back()
            return fault
        if not (leases or envelope.held):
            opened.members.tell()
        return Stored(id, leases)

    async def _accept_held(self, opened: _Open, accepting: Accepting, reason: str, now: Instant) -> StoreFault | None:
        """Take a message in that is held from the first; there are few, and they come one by one."""
        keys = [(row.message, row.number) for row in accepting.recipients]

        async def accept(connection: Connection) -> StoreFault | None:
            if not await writes.accept(connection, [accepting], 0):
                return _not_taken(accepting)
            await acts.hold(connection, keys, now, reason, record.done_by("held", "", reason))
            return None

        try:
            return await opened.database.transact(accept)
        except DatabaseLostError:
            opened.members.refused.append((accepting.message.id, accepting.message.acceptance))
            raise

    async def _body(self, octets: InMemory | Draft, opened: _Open) -> Body:
        match octets:
            case InMemory() if octets.size <= opened.bodies.inline:
                return Body(octets.size, 0, octets.octets)
            case InMemory():
                draft = PostgresDraft(opened.database, opened.bodies, self._tokens(opened))
                await draft.write(octets.octets)
                return await draft.take()
            case PostgresDraft():
                return await octets.take()
            case _:
                raise TypeError(f"a draft of another storage: {octets!r}")

    def _accepting(
        self,
        opened: _Open,
        number: int,
        envelope: Envelope,
        body: Body,
        now: Instant,
        groups: dict[NextHop, tuple[QueuedRecipient, ...]],
        leases: Sequence[Lease],
    ) -> Accepting:
        sender = text(record.address_of(envelope.reverse_path).lower())
        written = record.encode(record.envelope_details(envelope, body.size))
        acceptance = self._tokens(opened)
        return Accepting(
            MessageRow(number, now, body.size, sender, body.draft, written, acceptance, body.inline),
            [_storable(row) for row in recipient_rows(number, envelope, now, groups, leases)],
            [address_row(number, text(address)) for address in record.addresses_of(envelope)],
        )

    async def _accept(self, group: Sequence[Accepting], place: int) -> Sequence[StoreFault | None]:
        """Take a group in, and ask after it until it is known what became of it."""
        opened = self._opened()
        shard = shards_of(opened.members.epoch)[0] + place
        until = self._clock.monotonic() + self._patience.total_seconds()
        is_first = True
        while True:
            try:
                taken = await opened.database.run(partial(writes.accept, group=group, shard=shard))
                if not is_first and len(taken) < len(group):
                    taken |= await opened.database.run(partial(writes.recognise, group=group))
            except DatabaseLostError:
                if self._clock.monotonic() >= until:
                    opened.members.refused += [(one.message.id, one.message.acceptance) for one in group]
                    raise
            else:
                return [None if one.message.id in taken else _not_taken(one) for one in group]
            is_first = False
            await self._clock.sleep(PAUSE)

    # ---- delivering
    def holds(self, lease: Lease) -> bool:
        match self._state:
            case _Open(members=members):
                return lease.epoch == members.epoch and members.may_act
            case _Closed():
                return False
            case _:
                assert_never(self._state)

    async def ready(self, now: Instant, *, limit: int) -> Sequence[ReadyHop]:
        if self._opened().members.is_drained:
            return []
        return await self._ask(partial(reads.ready, now=now, limit=limit))

    async def next_due(self, now: Instant) -> Instant | Never:
        return await self._ask(partial(reads.next_due, now=now))

    async def claim(self, next_hop: NextHop, *, now: Instant, until: Instant, messages: int) -> Sequence[Lease]:
        opened = self._at_work()
        if opened.members.is_drained or messages <= 0:
            return []
        claiming = asyncio.ensure_future(self._claim(opened, next_hop, now, until, messages))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:  # nobody will try what is just being claimed: give it back once it is
            claiming.add_done_callback(self._give_back_claimed)
            raise

    async def _claim(
        self, opened: _Open, next_hop: NextHop, now: Instant, until: Instant, messages: int
    ) -> Sequence[Lease]:
        epoch, token = opened.members.epoch, self._tokens(opened, messages + 1)
        claimed = await opened.database.run(
            partial(writes.claim, next_hop=next_hop, now=now, until=until, messages=messages, token=token)
        )
        rows = await opened.database.run(
            partial(writes.bodies, messages=[one.message for one in claimed], inline=CLAIMED_OCTETS)
        )
        leases = []
        for one in claimed:
            try:
                whole = one._replace(row=rows.get(one.message, ()))
                leases.append(claimed_lease(whole, next_hop, opened.owner, epoch, until, opened.stored))
            except ValueError:  # there is no row, or what is written there makes no sense
                reason = unreadable("its envelope", PLACE)
                await self._write(
                    partial(writes.hold_claimed, message=one.message, token=one.token, reason=reason, now=now)
                )
        return leases

    async def renew(self, leases: Sequence[Lease], *, until: Instant) -> Sequence[Lease]:
        opened = self._opened()
        ours = [lease for lease in leases if _is_ours(opened, lease)]
        holds = [hold for lease in ours for hold in _holds(lease)]
        kept = await opened.database.run(partial(writes.renew, holds=holds, until=until))
        renewed = [
            prolonged(lease, {number for token, number in kept if token == lease.token}, until) for lease in ours
        ]
        return [lease for lease in renewed if lease.recipients]

    async def release(self, leases: Sequence[Lease]) -> None:
        opened = self._opened()
        holds = [hold for lease in leases if _is_ours(opened, lease) for hold in _holds(lease)]
        if holds:
            await opened.database.run(partial(writes.release, holds=holds))
            opened.members.tell()

    async def settle(self, settlement: Settlement) -> bool:
        opened = self._opened()
        if not _is_ours(opened, settlement.lease):
            return False
        if ids.to_number(settlement.lease.message.id) in opened.gaps:
            settlement = held_in_place(settlement, PLACE)
        return await asyncio.shield(opened.settles.submit(settling_of(settlement)))

    async def _settle(self, group: Sequence[Settling], place: int) -> Sequence[bool]:
        opened = self._opened()
        shard = shards_of(opened.members.epoch)[0] + LANE + place
        return await opened.database.transact(partial(writes.settle, group=group, shard=shard))

    # ---- reporting
    async def reports(self, *, limit: int) -> Sequence[Report]:
        opened = self._opened()
        due = await opened.database.run(partial(reads.due_reports, limit=limit))
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
        body = await self._body(octets, opened)
        groups = record.by_next_hop(envelope)
        accepting = self._accepting(opened, ids.to_number(id), envelope, body, now, groups, ())
        strike_off = _striking(report, record.report_queued(report, id, now))

        async def file(connection: Connection) -> None:
            if await strike_off(connection) and not await writes.accept(connection, [accepting], 0):
                raise StorageError(_not_taken(accepting))

        await opened.database.transact(file)

    async def drop_report(self, report: Report, *, why: str, now: Instant) -> None:
        await self._write(_striking(report, record.report_dropped(report, why, now)))

    # ---- asking
    async def entries(
        self, selection: Selection, *, after: tuple[MessageId, int], limit: int, now: Instant
    ) -> Sequence[QueueEntry]:
        return await self._ask(partial(reads.entries, selection=selection, after=key_of(after), limit=limit, now=now))

    async def look(self, selection: Selection, *, after: Place, limit: int, stretch: int, now: Instant) -> Looked:
        question = partial(reads.look, selection=selection, after=key_of(after), limit=limit, stretch=stretch, now=now)
        entries, last = await self._ask(question)
        return Looked(tuple(entries), place_of(last))

    async def message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        opened = self._opened()
        message, draft = await opened.database.run(partial(reads.stored_message, message=number_of(id)))
        return message, _stored(opened, message, draft)

    async def hops(self) -> Sequence[tuple[NextHop, str]]:
        return await self._ask(reads.hops)

    async def backlog(self) -> Sequence[tuple[NextHop, str, int]]:
        return await self._ask(reads.backlog)

    async def traffic(self, *, since: Instant, limit: int) -> Sequence[Passed]:
        return await self._ask(partial(reads.traffic, since=since, limit=limit))

    async def history(self, id: MessageId) -> Sequence[HistoryEvent]:  # noqa: A002 - the field's own name
        return await self._ask(partial(reads.history, message=number_of(id)))

    async def find(self, address: str, *, limit: int) -> Sequence[MessageId]:
        return await self._ask(partial(reads.find, address=address, limit=limit))

    async def search(self, search: Search, *, before: str, limit: int) -> Found:
        return await search_on(
            search,
            number_of(MessageId(before)) if before else AFTER_ALL,
            limit,
            addressed=lambda start: self._ask(
                partial(reads.addressed, address=search.address, before=start, few=AT_ONCE)
            ),
            fitting=lambda start, looked_at: self._ask(
                partial(reads.search, wanted=search, before=start, looked_at=looked_at, few=AT_ONCE)
            ),
        )

    async def counts(self) -> Counts:
        return await self._ask(reads.counts)

    async def room(self) -> int:
        """What the database's disk has, it does not tell; where it is full, accepting says so (452)."""
        self._opened()
        return sys.maxsize

    # ---- operating: what is selected is found first, and changed a slice at a time
    async def operate(self, selection: Selection, act: Act) -> int:
        return await self._in_slices(
            partial(reads.keys_for, selection=selection, act=act, limit=SLICE), partial(acts.operate, act=act)
        )

    async def tally(self, selection: Selection, *, after: Place, stretch: int, now: Instant) -> Tallied:
        question = partial(reads.tally, selection=selection, after=key_of(after), stretch=stretch, now=now)
        recipients, last = await self._ask(question)
        return Tallied(recipients, place_of(last))

    # ---- the bin
    async def binned(self, selection: Selection, *, after: tuple[MessageId, int], limit: int) -> Sequence[BinnedEntry]:
        return await self._ask(partial(reads.binned, selection=selection, after=key_of(after), limit=limit))

    async def empty_bin(self, *, before: Instant, limit: int) -> int:
        return await self._write(partial(acts.empty_bin, before=before, limit=limit))

    async def rehop(self, old: NextHop, domain: str, new: NextHop) -> int:
        page = partial(reads.keys_of_hop, next_hop=old, domain=domain, limit=SLICE)
        return await self._in_slices(page, partial(acts.rehop, old=old, new=new))

    async def _in_slices(self, page: _Page, change: _Change) -> int:
        changed = await in_slices(
            lambda after: self._ask(partial(page, after=after)),
            lambda keys: self._write(partial(change, keys=keys)),
        )
        if changed:
            self._opened().members.tell()
        return changed

    # ---- forgetting
    async def forget(self, *, before: Instant, limit: int) -> int:
        return await self._write(partial(writes.forget, before=before, limit=limit))

    async def captured(self, *, before: int, limit: int) -> Sequence[CapturedMessage]:
        return await self._ask(partial(reads.captured, before=before, limit=limit))

    async def captured_octets(self, number: int) -> Octets:
        opened = self._opened()
        message, draft = await opened.database.run(partial(reads.captured_message, number=number))
        return _stored(opened, message, draft)

    async def discard_captured(self, *, keep: int) -> int:
        return await self._write(partial(writes.discard_captured, keep=keep))

    # ---- the shelf
    async def keep(self, space: str, key: str, value: bytes, *, until: Instant) -> None:
        await self._ask(partial(shelf_rows.keep, space=space, key=key, value=value, until=until))

    async def keep_new(self, space: str, key: str, value: bytes, *, until: Instant, now: Instant) -> bool:
        return await self._ask(partial(shelf_rows.keep_new, space=space, key=key, value=value, until=until, now=now))

    async def kept(self, space: str, key: str, *, now: Instant) -> bytes | Absent:
        return await self._ask(partial(reads.kept, space=space, key=key, now=now))

    async def all_kept(self, space: str, *, now: Instant) -> Sequence[tuple[str, bytes]]:
        return await self._ask(partial(reads.all_kept, space=space, now=now))

    async def add(self, space: str, key: str, amount: int, *, until: Instant, now: Instant) -> int:
        return await self._ask(partial(shelf_rows.add, space=space, key=key, amount=amount, until=until, now=now))

    async def drop(self, space: str, key: str) -> bool:
        return await self._ask(partial(shelf_rows.drop, space=space, key=key))

    async def clear_shelf(self, *, now: Instant, limit: int) -> int:
        return await self._ask(partial(shelf_rows.clear, now=now, limit=limit))

    # ---- leases
    def _leases(
        self,
        opened: _Open,
        message: QueuedMessage,
        groups: dict[NextHop, tuple[QueuedRecipient, ...]],
        octets: Octets,
        now: Instant,
        until: Instant,
    ) -> tuple[Lease, ...]:
        if until <= max(now, message.released_at) or opened.members.is_drained:
            return ()
        epoch = opened.members.epoch
        return tuple(
            Lease(message, recipients, next_hop, octets, opened.owner, epoch, until, self._tokens(opened))
            for next_hop, recipients in groups.items()
        )

    def _give_back(self, leases: Sequence[Lease]) -> None:
        if leases and isinstance(self._state, _Open):
            task = asyncio.get_running_loop().create_task(self._release_quietly(leases))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _release_quietly(self, leases: Sequence[Lease]) -> None:
        with contextlib.suppress(StorageError):  # a lease that could not be given back ends by itself
            await self.release(leases)

    def _give_back_claimed(self, claiming: asyncio.Future[Sequence[Lease]]) -> None:
        if not claiming.cancelled() and claiming.exception() is None:
            self._give_back(claiming.result())


def _storable(row: RecipientRow) -> RecipientRow:
    return row._replace(address=text(row.address), domain=text(row.domain), next_hop=text(row.next_hop))


def _not_taken(one: Accepting) -> StoreFault:
    name = ids.from_number(one.message.id)
    why = f"there is a message {name} already"
    if one.message.draft:
        why += ", or its octets were dropped because this node was silent for too long"
    return StoreFault(StoreFaultKind.FAILED, why)


def _striking(report: Report, event: HistoryEvent) -> Callable[[Connection], Awaitable[bool]]:
    numbers = [one.recipient.number for one in report.recipients]
    return partial(writes.strike_off, report=report.number, numbers=numbers, event=event_row(event))


def _stored(opened: _Open, message: QueuedMessage, draft: int) -> Octets:
    return opened.stored(ids.to_number(message.id), draft, message.size)


def _is_ours(opened: _Open, lease: Lease) -> bool:
    """Whether this process took it; whether it has it still, the database knows."""
    return lease.owner == opened.owner and lease.epoch in opened.members.epochs


def _holds(lease: Lease) -> list[tuple[int, int, int]]:
    message = ids.to_number(lease.message.id)
    return [(message, recipient.number, lease.token) for recipient in lease.recipients]
