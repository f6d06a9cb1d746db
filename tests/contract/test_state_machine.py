"""Each durable storage and memory, put through the same random lives, must answer alike at every step, crashes too."""

# ruff: noqa: S311 - octets that are alike each time
from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.contract.letters import BUSY, NO_SUCH_USER, NOW, OK, envelope, name, read, settlement, to, wait
from tests.postgres import forget_signs_of_life, kill, look, shared_server
from waypost.mail.envelope import InMemory, MessageId, NextHop
from waypost.mail.outcome import Outcome
from waypost.net.clock import SystemClock
from waypost.queue.memory import MemoryStorage
from waypost.queue.postgres.nodes import TAKEN_OVER
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Gone, HistoryEvent, Hold, Lease, Next, Notice, Selection, Storage

T = TypeVar("T")

HOPS = ("mx:a", "mx:b", "mx:c")
ADDRESSES = ("x@example.org", "Y@example.org", "z@example.com", "postmaster")
SELECTIONS = (
    Selection(),
    Selection(address="y@example.org"),
    Selection(address="anna@example.net"),
    Selection(domain="example.com"),
    Selection(next_hop="mx:b"),
    Selection(ids=(name(1), name(3), name(4))),
)
FATES: tuple[tuple[Outcome, Callable[[float], Next], Notice], ...] = (
    (OK, lambda _: Gone(), Notice.NONE),
    (OK, lambda _: Gone(captured=True), Notice.DELIVERED),
    (NO_SUCH_USER, lambda _: Gone(), Notice.FAILED),
    (BUSY, lambda now: wait(now + 30), Notice.NONE),
    (BUSY, lambda now: wait(now + 5), Notice.DELAYED),
    (BUSY, lambda _: Hold("set aside"), Notice.NONE),
)
selections = st.sampled_from(SELECTIONS)
hops = st.sampled_from(HOPS).map(NextHop)


class Lives(RuleBasedStateMachine):
    """Two storages, one life."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.memory: Storage = MemoryStorage()
        self.spool = Path(self.folder.name) / "spool"
        self.durable: Storage = self.runner.run(self.make())
        self.crashes = 0
        self.now = NOW
        self.made = 0
        self.leases: list[tuple[Lease, Lease]] = []
        self.both(lambda storage: storage.open(owner="one"))

    async def make(self) -> Storage:
        """A durable storage, which is empty."""
        return SqliteStorage(self.spool, allow_ephemeral=True)

    async def killed(self, storage: Storage) -> Storage:
        """What the next process finds, when that of `storage` is killed: what the disk holds at this moment."""
        after = Path(self.folder.name) / f"spool-{self.crashes}"
        shutil.copytree(self.spool, after, ignore=shutil.ignore_patterns("*-shm", "lock"))
        await storage.close()
        self.spool = after
        return SqliteStorage(after, allow_ephemeral=True)

    def teardown(self) -> None:
        self.both(lambda storage: storage.close())
        self.runner.close()
        self.folder.cleanup()

    def both(self, ask: Callable[[Storage], Awaitable[T]]) -> tuple[T, T]:
        async def pair() -> tuple[T, T]:
            return await ask(self.memory), await ask(self.durable)

        return self.runner.run(pair())

    def alike(self, ask: Callable[[Storage], Awaitable[T]]) -> T:
        of_memory, of_durable = self.both(ask)
        assert of_memory == of_durable
        return of_memory

    def keep(self, of_memory: Sequence[Lease], of_durable: Sequence[Lease]) -> None:
        assert [_shown(lease) for lease in of_memory] == [_shown(lease) for lease in of_durable]
        self.leases += zip(of_memory, of_durable, strict=True)

    @rule(
        chosen=st.lists(st.tuples(st.sampled_from(ADDRESSES), hops), min_size=1, max_size=4),
        claims=st.booleans(),
        in_chunks=st.booleans(),
    )
    def accept(self, chosen: list[tuple[str, NextHop]], claims: bool, in_chunks: bool) -> None:  # noqa: FBT001 - drawn
        self.made += 1
        octets = random.Random(self.made).randbytes(300_000 if in_chunks else 100)

        async def take(storage: Storage) -> Sequence[Lease]:
            draft = await storage.draft()
            await draft.write(octets)
            stored = await storage.accept(
                envelope(*(to(address, hop) for address, hop in chosen)),
                draft if in_chunks else InMemory(octets),
                id=name(self.made),
                now=self.now,
                claim_until=self.now + 60 if claims else self.now,
            )
            await draft.discard()
            assert hasattr(stored, "leases"), stored
            assert all([await read(lease.octets) == octets for lease in stored.leases])
            return stored.leases

        self.keep(*self.both(take))

    @rule(hop=hops, messages=st.integers(1, 3))
    def claim(self, hop: NextHop, messages: int) -> None:
        self.keep(*self.both(lambda one: one.claim(hop, now=self.now, until=self.now + 60, messages=messages)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), fate=st.sampled_from(FATES), partly=st.booleans())
    def settle(self, data: st.DataObject, fate: tuple[Outcome, Callable[[float], Next], Notice], partly: bool) -> None:  # noqa: FBT001 - drawn
        lease, same = data.draw(st.sampled_from(self.leases))
        outcome, then, notice = fate
        only = [one.number for one in lease.recipients][:1] if partly else []

        async def put(storage: Storage) -> bool:
            whose = lease if storage is self.memory else same
            return await storage.settle(
                settlement(whose, outcome=outcome, then=then(self.now), notice=notice, at=self.now, only=only)
            )

        self.alike(put)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), gives_back=st.booleans())
    def renew_or_release(self, data: st.DataObject, gives_back: bool) -> None:  # noqa: FBT001 - drawn
        lease, same = data.draw(st.sampled_from(self.leases))

        async def change(storage: Storage) -> Sequence[Lease]:
            whose = [lease if storage is self.memory else same]
            if gives_back:
                await storage.release(whose)
                return []
            return await storage.renew(whose, until=self.now + 90)

        self.keep(*self.both(change))

    @rule(seconds=st.sampled_from((1, 10, 61)))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(selection=selections, what=st.sampled_from(("retry", "delete", "hold", "unhold")))
    def operate(self, selection: Selection, what: str) -> None:
        match what:
            case "retry":
                self.alike(lambda one: one.retry(selection, now=self.now, by="root"))
            case "delete":
                self.alike(lambda one: one.delete(selection, now=self.now, by="root"))
            case "hold":
                self.alike(lambda one: one.hold(selection, reason="why not", now=self.now))
            case _:
                self.alike(lambda one: one.unhold(selection, now=self.now))

    @rule(old=hops, new=hops, domain=st.sampled_from(("example.org", "example.com", "")))
    def rehop(self, old: NextHop, new: NextHop, domain: str) -> None:
        self.alike(lambda one: one.rehop(old, domain, new))

    @rule(files=st.booleans())
    def report(self, files: bool) -> None:  # noqa: FBT001 - drawn
        self.made += 1

        async def tell(storage: Storage) -> list[MessageId]:
            due = await storage.reports(limit=1)
            for report in due:
                dsn = envelope(to("anna@example.net", "mx:a"), sender="")
                if files:
                    await storage.file_report(report, dsn, InMemory(b"dsn"), id=name(self.made), now=self.now)
                else:
                    await storage.drop_report(report, why="not today", now=self.now)
            return [report.message.id for report in due]

        self.alike(tell)

    @rule(limit=st.integers(1, 3), keep=st.integers(0, 2))
    def forget(self, limit: int, keep: int) -> None:
        self.alike(lambda one: one.forget(before=self.now - 10, limit=limit))
        self.alike(lambda one: one.discard_captured(keep=keep))

    @rule()
    def restart(self) -> None:
        async def again(storage: Storage) -> None:
            await storage.close()
            await storage.open(owner="one")

        self.both(again)

    @rule(writes_a_draft=st.booleans())
    def crash(self, writes_a_draft: bool) -> None:  # noqa: FBT001 - drawn
        """The process is killed."""
        self.crashes += 1

        async def leave(storage: Storage) -> Storage:
            if writes_a_draft:
                await (await storage.draft()).write(b"never accepted" * 30_000)
            if storage is self.durable:
                return await self.killed(storage)
            await storage.close()
            return storage

        self.memory, self.durable = self.both(leave)
        self.both(lambda storage: storage.open(owner="one"))

    @invariant()
    def they_tell_the_same(self) -> None:
        first = (MessageId(""), -1)
        self.alike(lambda one: one.counts())
        self.alike(lambda one: one.ready(self.now, limit=9))
        self.alike(lambda one: one.next_due(self.now))
        self.alike(lambda one: one.hops())
        self.alike(lambda one: one.entries(Selection(), after=first, limit=99, now=self.now))

        async def told(storage: Storage) -> object:
            histories = [_lived(await storage.history(name(number))) for number in range(1, self.made + 1)]
            found = [await storage.find(address, limit=9) for address in ("x@example.org", "anna@example.net")]
            inbox = [(one.id, one.recipients, one.captured_at) for one in await storage.captured(before=0, limit=99)]
            due = [(one.message, one.notice, one.recipients) for one in await storage.reports(limit=99)]
            return histories, found, inbox, due

        self.alike(told)


def _lived(history: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """A life, but for what only nodes tell: that one took it over from another."""
    return [event for event in history if not event.text.startswith(TAKEN_OVER.partition("{")[0])]


def _shown(lease: Lease) -> object:
    return lease.message, lease.recipients, lease.next_hop, lease.until, lease.octets.size


class LivesOnPostgres(Lives):
    """The same, on PostgreSQL; a killed node is found silent by the next one, without the wait."""

    async def make(self) -> Storage:
        self.dsn = await shared_server().emptied()
        return PostgresStorage(self.dsn, SystemClock(), connections=4)

    async def killed(self, storage: Storage) -> Storage:
        assert isinstance(storage, PostgresStorage)
        await kill(storage)
        await forget_signs_of_life(self.dsn)
        return Heir(self.dsn, SystemClock(), connections=4)


class Heir(PostgresStorage):
    """Looks for the dead as soon as it is open."""

    async def open(self, *, owner: str) -> None:
        await super().open(owner=owner)
        await look(self)


_SETTINGS = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestLives = Lives.TestCase
TestLives.settings = _SETTINGS
TestLivesOnPostgres = LivesOnPostgres.TestCase
TestLivesOnPostgres.settings = settings(_SETTINGS, max_examples=10)
