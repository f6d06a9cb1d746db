"""The desk itself: whom each question is put to. The files beside it answer, each those of its subject."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from waypost.admin.answers import (
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    Expiring,
    FreezeBody,
    Froze,
    InboxPage,
    Preview,
    Proposal,
    QueuedDetail,
    QueuePage,
    Reloaded,
    Resolution,
    Revisions,
    RevisionText,
    ServiceFacts,
    Status,
    Traces,
    WatchBody,
    WatchedPeers,
    Why,
)
from waypost.admin.explanation import Explanation, Question
from waypost.admin.failures import not_renewed
from waypost.admin.journey import NotRunning
from waypost.admin.operations.acting import Acting
from waypost.admin.operations.bin import Bin
from waypost.admin.operations.configurations import Configurations
from waypost.admin.operations.explaining import Explaining
from waypost.admin.operations.frost import Freezer
from waypost.admin.operations.in_force import InForce
from waypost.admin.operations.inbox import Inbox
from waypost.admin.operations.lives import Lives
from waypost.admin.operations.questions import bounded, storage_trouble
from waypost.admin.operations.queue import Queue
from waypost.admin.operations.reasons import Reasons
from waypost.admin.operations.told import NOBODY, Told
from waypost.admin.operations.watching import Watch
from waypost.admin.operations.ways import Ways
from waypost.admin.operations.windows import Windows
from waypost.net.clock import Clock
from waypost.net.resolver import Resolver
from waypost.policy.hooked import UNHOOKED, Hooked
from waypost.queue.frost import Frost
from waypost.queue.storage import Search, Selection, Storage
from waypost.queue.watching import Watching
from waypost.route.level import StsPolicies
from waypost.route.onward import Onward
from waypost.route.state import DestinationState, trouble_first

Readiness: TypeAlias = Callable[[], Awaitable[Sequence[str]]]
"""Why the service is not fit to serve, a sentence each; empty when it is."""


def _no_destinations() -> Sequence[DestinationState]:
    """Nobody delivers."""
    return ()


async def _not_counted(_onward: Onward) -> Sequence[str]:
    """Nobody sends."""
    return ()


async def _nothing() -> Sequence[str]:
    """Nothing to warn of."""
    return ()


@dataclass(slots=True)
class Operations:
    """What an administrator may ask and do; another configuration may be put in force under it."""

    storage: Storage
    in_force: InForce
    resolver: Resolver
    policies: StsPolicies
    clock: Clock
    facts: ServiceFacts
    not_ready: Readiness
    hooked: Hooked = UNHOOKED
    warnings: Readiness = _nothing
    told: Told = NOBODY
    delivering: Callable[[], Sequence[DestinationState]] = _no_destinations
    used: Callable[[Onward], Awaitable[Sequence[str]]] = _not_counted  # of quotas, a line each
    expiring: Callable[[], Sequence[Expiring]] = tuple  # of what this process holds
    renew: Callable[[str], Awaitable[Reloaded]] = not_renewed  # read the configuration anew, for somebody

    # ---- the service
    async def status(self) -> Status:
        with storage_trouble():
            counts = await self.storage.counts()
        return Status(
            service=self.facts,
            at=self.clock.now(),
            messages=counts.messages,
            recipients=counts.recipients,
            held=counts.held,
            reports_due=counts.reports_due,
            not_ready=tuple(await self.not_ready()),
            warnings=tuple(await self.warnings()),
        )

    async def expiries(self) -> Expiries:
        return Expiries(tuple(self.expiring()))

    # ---- what waits, and why
    @property
    def _queue(self) -> Queue:
        return Queue(self.storage, Windows(self.in_force.table, self.delivering, self.clock), self.clock)

    async def queue(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage:
        return await self._queue.page(selection, after=after, limit=limit)

    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        return await self._queue.show(id)

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        return await self._queue.octets(id)

    async def quarantine(self) -> QueuePage:
        return await self._queue.quarantine()

    async def why(self, asked: str, *, limit: int = 100) -> Why:
        reasons = Reasons(self._queue, self._freezer, self.in_force.table, self.delivering, self.facts.is_running)
        return await reasons.why(asked, limit=limit)

    async def act(self, action: str, body: ActBody) -> Acted:
        return await Acting(self.storage, self._queue, self.in_force.table, self.told, self.clock).act(action, body)

    # ---- the bin
    @property
    def _bin(self) -> Bin:
        return Bin(self.storage, self.told, self.clock)

    async def bin(self, selection: Selection, *, after: str = "", limit: int = 100) -> BinPage:
        return await self._bin.page(selection, after=after, limit=limit)

    async def restore(self, body: ActBody) -> Acted:
        return await self._bin.restore(body)

    # ---- next hops
    async def destinations(self, *, limit: int = 100) -> Destinations:
        page = bounded(limit)
        found = sorted(self.delivering(), key=trouble_first)
        return Destinations(self.clock.now(), self.facts.is_running, tuple(found[:page]), more=len(found) > page)

    @property
    def _freezer(self) -> Freezer:
        return Freezer(Frost(self.storage, self.clock), self.in_force.table, self.told)

    async def frozen(self) -> Froze:
        return Froze(tuple((await self._freezer.all()).values()))

    async def freeze(self, body: FreezeBody) -> Froze:
        return await self._freezer.freeze(body)

    async def thaw(self, body: FreezeBody) -> Froze:
        return await self._freezer.thaw(body)

    # ---- what happened
    @property
    def _lives(self) -> Lives:
        return Lives(self.storage, self.clock)

    async def trace(self, asked: str, *, limit: int = 10) -> Traces:
        return await self._lives.trace(asked, limit=limit)

    async def search(self, search: Search, *, before: str = "", limit: int = 10) -> Traces:
        return await self._lives.search(search, before=before, limit=limit)

    @property
    def _watch(self) -> Watch:
        return Watch(Watching(self.storage, self.clock), self.told)

    async def watched(self) -> WatchedPeers:
        return await self._watch.all()

    async def watch(self, body: WatchBody) -> WatchedPeers:
        return await self._watch.change(body)

    # ---- what would happen
    @property
    def _ways(self) -> Ways:
        return Ways(self.in_force.table, self.in_force.finder, self.resolver, self.policies, self.clock)

    async def resolve(self, domain: str) -> Resolution:
        return await self._ways.resolve(domain)

    async def explain(self, question: Question) -> Explanation:
        asked = Explaining(self.in_force, self._ways, self.hooked, self._delivering_if_it_runs, self.used, self.clock)
        return await asked.explain(question)

    def _delivering_if_it_runs(self) -> Sequence[DestinationState] | NotRunning:
        return self.delivering() if self.facts.is_running else NotRunning()

    # ---- the configuration
    @property
    def _configurations(self) -> Configurations:
        return Configurations(self.in_force.config, self.storage, self.clock)

    async def reload(self, *, by: str) -> Reloaded:
        return await self.renew(by)

    async def preview(self, proposal: Proposal) -> Preview:
        return await self._configurations.preview(proposal)

    async def revisions(self) -> Revisions:
        return await self._configurations.revisions()

    async def revision(self, id: str) -> RevisionText:  # noqa: A002 - the field's own name
        return await self._configurations.revision(id)

    # ---- the inbox that `capture:` keeps
    async def inbox(self, *, before: int = 0, limit: int = 50) -> InboxPage:
        return await Inbox(self.storage).page(before=before, limit=limit)

    async def captured(self, number: int) -> CapturedDetail:
        return await Inbox(self.storage).message(number)

    async def captured_octets(self, number: int) -> bytes:
        return await Inbox(self.storage).octets(number)

    async def clear_inbox(self, *, keep: int) -> Cleared:
        return await Inbox(self.storage).clear(keep=keep)
