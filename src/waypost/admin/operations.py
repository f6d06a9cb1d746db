"""Each operation of an administrator once, answered at the source: storage, route table, DNS.

The API (http.py) and the command line (cli.py) are two faces of it; what it answers are the values of answers.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Final, TypeAlias, assert_never

from waypost.admin import revisions
from waypost.admin.answers import (
    ACTIONS,
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    Expiring,
    FailureKind,
    FreezeBody,
    Froze,
    HostTls,
    InboxPage,
    OperationError,
    OriginFacts,
    Preview,
    Proposal,
    QueuedDetail,
    QueuePage,
    Reloaded,
    Resolution,
    ResolvedHost,
    Revisions,
    RevisionText,
    ServiceFacts,
    Status,
    Trace,
    Traces,
    Waiting,
    WatchBody,
    WatchedPeers,
    Why,
)
from waypost.admin.explanation import Explanation, Journey, Question
from waypost.admin.journey import MAX_ASKED, Explainer, NotRunning, forward_path, reverse_path
from waypost.admin.preview import preview
from waypost.admin.quarantine import quarantined
from waypost.admin.reading import taken_apart
from waypost.admin.strangers import at_the_gate, of_recipient
from waypost.admin.why import Circumstances, Unknown, last_outcome, limiting, released_at
from waypost.config import Config
from waypost.mail.envelope import MessageId, NextHop, Octets, QueuedMessage
from waypost.mail.explain import plain
from waypost.mail.window import ALWAYS, Always, Hourly, Window, waits_for
from waypost.net.clock import Clock, Instant
from waypost.net.resolver import (
    AddressAnswer,
    Addresses,
    DnsTrouble,
    MxAnswer,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    NullMx,
    Resolver,
    Standing,
)
from waypost.policy.admission import Admission
from waypost.policy.gate import NO_GATE, OpenGate, Screened, WatchedGate
from waypost.policy.hooked import UNHOOKED, Hooked
from waypost.policy.rewriting import Rewritings
from waypost.queue.frost import ROUTE, Frost, Frozen
from waypost.queue.ids import to_number
from waypost.queue.shelf import Absent
from waypost.queue.storage import (
    EDGE,
    Place,
    QueueEntry,
    RecipientState,
    Search,
    Selection,
    Storage,
    StorageError,
)
from waypost.queue.watching import Dialogues, Watching
from waypost.route.domain import host_name, literal
from waypost.route.hosts import HostFinder, describe_hosts
from waypost.route.level import Chosen, NoStsPolicy, StsPolicies, TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.onward import Onward
from waypost.route.route import Hosts, LmtpServers, NoRoute, Route, SmtpMx, SmtpServers, Webhook
from waypost.route.state import DestinationState, Phase, trouble_first
from waypost.route.table import RouteTable
from waypost.route.target import is_address, target_text
from waypost.smtp.path import Domain, DomainName, Mailbox

Readiness: TypeAlias = Callable[[], Awaitable[Sequence[str]]]
"""Why the service is not fit to serve, a sentence each; empty when it is."""

#: Octets of a captured message read to take it apart for reading; the raw octets are always whole.
READABLE: Final = 1024 * 1024
#: Octets of a queued message read to show its header section.
HEADER: Final = 64 * 1024
#: Queue entries of one message that are shown with it; a message has at most 1,000 recipients.
ENTRIES: Final = 1000
PAGE: Final = 1000
#: A question about the queue is answered after so long with what was found until then; the rest is looked through when
#: it is asked on. And recipients that are looked at between two looks at the clock: 5 to 50 ms.
ANSWERED: Final = timedelta(milliseconds=40)
STRETCH: Final = 10_000
#: The longest that a peer is watched.
MINUTES: Final = 7 * 24 * 60
#: MX records that are shown; live mail looks at twenty.
SHOWN: Final = 50


def _nobody() -> None:
    """Nobody waits to be told."""


def _not_told(_frozen: Mapping[str, Frozen]) -> None:
    """Nobody delivers, so nobody need heed it."""


def _nobody_wants(_: Collection[NextHop]) -> None:
    """Nobody delivers."""


async def _nobody_keeps(_: NextHop) -> None:
    """Nobody keeps mail until it is asked for."""


def _nobody_watches(_peers: Sequence[str]) -> None:
    """Nothing is delivered, so nothing is said."""


def _no_destinations() -> Sequence[DestinationState]:
    """Nobody delivers."""
    return ()


async def _not_counted(_onward: Onward) -> Sequence[str]:
    """Nobody sends."""
    return ()


async def _nothing() -> Sequence[str]:
    """Nothing to warn of."""
    return ()


async def _no_renewal(_by: str) -> Reloaded:
    raise OperationError(
        FailureKind.UNAVAILABLE, "the service is not running", "it reads its configuration when it starts"
    )


@dataclass(slots=True)
class Operations:
    """The desk itself; another configuration may be put in force under it."""

    storage: Storage
    config: Config
    table: RouteTable
    admission: Admission
    finder: HostFinder
    resolver: Resolver
    policies: StsPolicies
    clock: Clock
    facts: ServiceFacts
    not_ready: Readiness
    hooked: Hooked = UNHOOKED
    warnings: Readiness = _nothing
    changed: Callable[[], None] = _nobody  # told when recipients may have become due
    #: Told when somebody wants mail tried now, whatever rests; and the next hop, where one was named.
    retried: Callable[[Collection[NextHop]], None] = _nobody_wants
    #: Told, beforehand, that mail kept at a next hop until its host asks for it may go.
    called: Callable[[NextHop], Awaitable[None]] = _nobody_keeps
    delivering: Callable[[], Sequence[DestinationState]] = _no_destinations
    refrozen: Callable[[Mapping[str, Frozen]], None] = _not_told  # told what is frozen now
    rewatched: Callable[[Sequence[str]], None] = _nobody_watches  # told whose dialogues are logged now
    gate: WatchedGate | OpenGate = NO_GATE
    rewritings: Rewritings = field(default_factory=dict)
    used: Callable[[Onward], Awaitable[Sequence[str]]] = _not_counted  # of quotas, a line each

    expiring: Callable[[], Sequence[Expiring]] = tuple  # of what this process holds
    renew: Callable[[str], Awaitable[Reloaded]] = _no_renewal  # read the configuration anew, for somebody

    @property
    def chooser(self) -> TlsChooser:
        """What chooses the TLS level for live mail."""
        return TlsChooser(self.resolver, self.policies, self.clock)

    async def status(self) -> Status:
        with _storage_trouble():
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

    # ---- the queue
    async def queue(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage:
        entries, following = await self._look(_known(selection), _position(after), min(max(limit, 1), PAGE))
        return QueuePage(tuple(self._with_window(entry) for entry in entries), _place_text(following))

    async def _look(self, selection: Selection, after: Place, limit: int) -> tuple[Sequence[QueueEntry], Place]:
        """A page, or what of it was found until it was time to answer; and after where to look on."""
        found, ends = list[QueueEntry](), self.clock.monotonic() + ANSWERED.total_seconds()
        with _storage_trouble():
            while True:
                looked = await self.storage.look(
                    selection, after=after, limit=limit + 1 - len(found), stretch=STRETCH, now=self.clock.now()
                )
                found += looked.entries
                after = looked.next
                if len(found) > limit:
                    return found[:limit], (found[limit - 1].id, found[limit - 1].number)
                if after == EDGE or self.clock.monotonic() >= ends:
                    return found, after

    async def _tally(self, selection: Selection, after: Place, *, whole: bool) -> tuple[int, Place]:
        """How many there are; without `whole`, of those that could be looked at until it was time to answer."""
        if selection == Selection() and after == EDGE:
            with _storage_trouble():
                return (await self.storage.counts()).recipients, EDGE
        total, ends = 0, self.clock.monotonic() + ANSWERED.total_seconds()
        with _storage_trouble():
            while True:
                part = await self.storage.tally(selection, after=after, stretch=STRETCH, now=self.clock.now())
                total, after = total + part.recipients, part.next
                if after == EDGE or (not whole and self.clock.monotonic() >= ends):
                    return total, after

    def _with_window(self, entry: QueueEntry) -> QueueEntry:
        """The entry with the delivery window it waits for, where it does."""
        shut = self._shut(entry, self.table.by_next_hop(entry.next_hop))
        return replace(entry, reason=waits_for(shut, self.clock.now())) if isinstance(shut, Hourly) else entry

    def _shut(self, entry: QueueEntry, route: Route | NoRoute) -> Window:
        """The window that keeps a recipient waiting; `ALWAYS` where none does."""
        if entry.state is not RecipientState.DUE or not isinstance(route, Route) or isinstance(route.window, Always):
            return ALWAYS
        is_opened = any(one.next_hop == entry.next_hop and one.phase is not Phase.SHUT for one in self.delivering())
        return ALWAYS if is_opened or route.window.is_open(self.clock.now()) else route.window

    def _window(self, entry: QueueEntry, route: Route | NoRoute) -> tuple[str, Instant]:
        """The window a recipient waits for, as a sentence, and when it opens by its hours."""
        shut, now = self._shut(entry, route), self.clock.now()
        if isinstance(shut, Always):
            return "", 0.0
        return waits_for(shut, now), shut.opens(now) if shut.hours else 0.0

    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        message, octets = await self._message(_message_id(id))
        with _storage_trouble():
            head = await _first(octets, HEADER)
        entries = await self._entries(Selection(ids=(message.id,)), after=EDGE, limit=ENTRIES)
        origin = message.origin
        return QueuedDetail(
            id=message.id,
            reverse_path=_path(message),
            origin=OriginFacts(origin.protocol, origin.client_host, origin.client_name, origin.listener),
            received_at=message.received_at,
            size=message.size,
            entries=tuple(entries),
            header=head.partition(b"\r\n\r\n")[0].decode("utf-8", "replace"),
        )

    async def act(self, action: str, body: ActBody) -> Acted:
        if action not in ACTIONS:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"no operation {action!r} on the queue", f"use {', '.join(ACTIONS)}"
            )
        selection, act = self._meant(action, body), self._doing(action, body)
        if body.dry_run:
            count, after = await self._tally(selection, _position(body.after), whole=body.limit <= 0)
            return Acted(action, count, dry_run=True, next=_place_text(after))
        following = ""
        if body.limit > 0:
            page = await self.queue(selection, after=body.after, limit=body.limit)
            if not page.entries:
                return Acted(action, 0, next=page.next)
            selection, following = replace(selection, ids=tuple({entry.id: None for entry in page.entries})), page.next
        with _storage_trouble():
            if action == "retry" and selection.next_hop and self._is_on_demand(NextHop(selection.next_hop)):
                await self.called(NextHop(selection.next_hop))
            acted = Acted(action, await act(selection), next=following)
        if action == "retry":
            self.retried((NextHop(selection.next_hop),) if selection.next_hop else ())
        else:
            self.changed()
        return acted

    def _is_on_demand(self, next_hop: NextHop) -> bool:
        route = self.table.by_next_hop(next_hop)
        return isinstance(route, Route) and route.on_demand

    @staticmethod
    def _meant(action: str, body: ActBody) -> Selection:
        if body.selection == Selection() and not body.everything:
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"{action} without a selection would mean everything there is",
                "give an id, an address, a domain or a next hop, or say that all is meant",
            )
        return _known(body.selection)

    def _doing(self, action: str, body: ActBody) -> Callable[[Selection], Awaitable[int]]:
        """What the storage is told to do."""
        storage, now, by, reason = self.storage, self.clock.now(), body.by, body.reason
        match action:
            case "retry":
                return lambda chosen: storage.retry(chosen, now=now, by=by, reason=reason)
            case "release":
                return lambda chosen: storage.unhold(chosen, now=now, by=by, reason=reason)
            case "hold":
                return lambda chosen: storage.hold(chosen, reason=reason or f"held by {by}", now=now, by=by)
            case "bounce":
                why = _reason(reason)
                return lambda chosen: storage.bounce(chosen, reason=why, now=now, by=by)
            case "reroute":
                where = self._next_hop(body.to)
                return lambda chosen: storage.reroute(chosen, where, now=now, by=by, reason=reason)
            case _:
                return lambda chosen: storage.delete(chosen, now=now, by=by, reason=reason)

    def _next_hop(self, to: str) -> NextHop:
        """Where mail is to go: a next hop that a route leads to, or the route of that name."""
        for found in (self.table.by_next_hop(NextHop(to)), self.table.named(to)):
            if isinstance(found, Route):
                return found.next_hop
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"no route leads to {to!r}" if to else "nothing says where to",
            "name a next hop as `queue destinations` shows it, or a [[route]] by its name; one without domains will do",
        )

    # ---- why it waits
    async def why(self, asked: str, *, limit: int = 100) -> Why:
        selection = self._asked_about(asked)
        page = await self.queue(selection, limit=limit)
        states = {state.next_hop: state for state in self.delivering()}
        places = {entry.next_hop for entry in page.entries} | self._places(selection)
        recipients = [await self._waiting(entry, states) for entry in page.entries]
        if not recipients and not (places & states.keys()):
            raise OperationError(
                FailureKind.NOT_FOUND, f"nothing waits for {asked}", f"what became of it: waypost trace {asked}"
            )
        found = tuple(states[place] for place in sorted(places & states.keys()))
        return Why(asked, self.clock.now(), tuple(recipients), found, more=bool(page.next))

    def _asked_about(self, asked: str) -> Selection:
        if "@" in asked:
            return Selection(address=asked.strip("<>"))
        if ":" in asked and not asked.startswith("["):
            return Selection(next_hop=asked)
        if "." in asked or asked.startswith("["):
            return Selection(domain=str(_domain(asked)))
        return Selection(ids=(_message_id(asked),))

    def _places(self, selection: Selection) -> set[NextHop]:
        """The next hops a question means, whether or not something waits for them."""
        if selection.next_hop:
            return {NextHop(selection.next_hop)}
        found = self.table.route_domain(selection.domain) if selection.domain else NoRoute("")
        return {found.next_hop} if isinstance(found, Route) else set()

    async def _waiting(self, entry: QueueEntry, states: Mapping[NextHop, DestinationState]) -> Waiting:
        with _storage_trouble():
            events = await self.storage.history(entry.id)
        route = self.table.by_next_hop(entry.next_hop)
        window, opens_at = self._window(entry, route)
        facts = Circumstances(
            now=self.clock.now(),
            is_running=self.facts.is_running,
            state=states.get(entry.next_hop, Unknown()),
            no_route=route.detail if isinstance(route, NoRoute) else "",
            frozen={place: str(one) for place, one in (await self._all_frozen()).items()},
            route=route.name if isinstance(route, Route) else "",
            last=last_outcome(events, entry.number),
            released_at=released_at(events),
            window=window,
            opens_at=opens_at,
        )
        return limiting(entry, facts)

    # ---- the bin
    async def bin(self, selection: Selection, *, after: str = "", limit: int = 100) -> BinPage:
        page = min(max(limit, 1), PAGE)
        with _storage_trouble():
            entries = await self.storage.binned(_known(selection), after=_position(after), limit=page + 1)
        following = f"{entries[page - 1].id}:{entries[page - 1].number}" if len(entries) > page else ""
        return BinPage(tuple(entries[:page]), following)

    async def restore(self, body: ActBody) -> Acted:
        selection = self._meant("restore", body)
        with _storage_trouble():
            back = await self.storage.restore(selection, now=self.clock.now(), by=body.by, reason=body.reason)
        self.changed()
        return Acted("restore", back)

    # ---- frost
    async def frozen(self) -> Froze:
        return Froze(tuple((await self._all_frozen()).values()))

    async def freeze(self, body: FreezeBody) -> Froze:
        self._place(body.place)
        with _storage_trouble():
            await self._frost.freeze(body.place, by=body.by, reason=body.reason)
        return await self._refrozen()

    async def thaw(self, body: FreezeBody) -> Froze:
        with _storage_trouble():
            if not await self._frost.thaw(body.place):
                raise OperationError(
                    FailureKind.NOT_FOUND, f"{body.place!r} is not frozen", "see what is: waypost queue frozen"
                )
        return await self._refrozen()

    def _place(self, place: str) -> None:
        name = place.removeprefix(ROUTE)
        known = any(rule.name == name for rule in self.table.rules) if name != place else False
        if not (known or isinstance(self.table.by_next_hop(NextHop(place)), Route)):
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"there is no next hop or route {place!r}",
                "name a next hop as `queue destinations` shows it, or `route NAME` for all next hops of a [[route]]",
            )

    async def _refrozen(self) -> Froze:
        now = await self._all_frozen()
        self.refrozen(now)
        return Froze(tuple(now.values()))

    async def _all_frozen(self) -> Mapping[str, Frozen]:
        with _storage_trouble():
            return await self._frost.all()

    # ---- looking over a peer's shoulder
    async def watched(self) -> WatchedPeers:
        with _storage_trouble():
            return WatchedPeers(tuple((await Watching(self.storage, self.clock).all()).values()))

    async def watch(self, body: WatchBody) -> WatchedPeers:
        if not body.peer.strip() or len(body.peer) > 300 or not 1 <= body.minutes <= MINUTES:
            raise OperationError(
                FailureKind.BAD_REQUEST,
                "a peer is watched by name or address, for 1 minute to 7 days",
                "name a next hop as `queue destinations` shows it, a host, an address, a network, or a listener",
            )
        _network(body.peer.strip())
        watching, peer = Watching(self.storage, self.clock), body.peer.strip()
        with _storage_trouble():
            if body.on:
                await watching.begin(peer, by=body.by, lasting=timedelta(minutes=body.minutes))
            elif not await watching.end(peer):
                raise OperationError(FailureKind.NOT_FOUND, f"{peer} is not watched", "see who is: waypost debug")
        now = await self.watched()
        self.rewatched([one.peer for one in now.watched])
        return now

    @property
    def _frost(self) -> Frost:
        return Frost(self.storage, self.clock)

    async def _entries(self, selection: Selection, *, after: Place, limit: int) -> Sequence[QueueEntry]:
        with _storage_trouble():
            return await self.storage.entries(selection, after=after, limit=limit, now=self.clock.now())

    async def _message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        with _storage_trouble():
            try:
                return await self.storage.message(id)
            except KeyError:
                raise OperationError(
                    FailureKind.NOT_FOUND,
                    f"no message {id} in the queue",
                    f"see what became of it: waypost trace {id}",
                ) from None

    # ---- the quarantine
    async def quarantine(self) -> QueuePage:
        with _storage_trouble():
            return QueuePage(tuple(await quarantined(self.storage, self.clock.now())), "")

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        _, octets = await self._message(_message_id(id))
        with _storage_trouble():
            return await _first(octets, 2**62)

    async def expiries(self) -> Expiries:
        return Expiries(tuple(self.expiring()))

    async def destinations(self, *, limit: int = 100) -> Destinations:
        page = min(max(limit, 1), PAGE)
        found = sorted(self.delivering(), key=trouble_first)
        return Destinations(self.clock.now(), self.facts.is_running, tuple(found[:page]), more=len(found) > page)

    # ---- what happened
    async def trace(self, asked: str, *, limit: int = 10) -> Traces:
        with _storage_trouble():
            if "@" not in asked:
                found = [await self._trace(_message_id(asked))]
                found = [trace for trace in found if trace.events or trace.waiting]
                more = False
            else:
                ids = await self.storage.find(asked.strip("<>"), limit=limit + 1)
                found = [await self._trace(each) for each in ids[:limit]]
                more = len(ids) > limit
        if not found:
            raise OperationError(
                FailureKind.NOT_FOUND,
                f"nothing is known of {asked}",
                "check the spelling; the history of old messages is dropped after a while",
            )
        return Traces(asked, tuple(found), more)

    async def search(self, search: Search, *, before: str = "", limit: int = 10) -> Traces:
        if before:
            _message_id(before)
        narrowed = replace(search, message_id=search.message_id.strip().removeprefix("<").removesuffix(">"))
        with _storage_trouble():
            found = await self.storage.search(narrowed, before=before, limit=min(max(limit, 1), PAGE))
            traces = [await self._trace(each) for each in found.ids]
        return Traces("a search", tuple(traces), bool(found.next), found.next)

    async def _trace(self, id: MessageId) -> Trace:  # noqa: A002 - the field's own name
        events = await self.storage.history(id)
        if events and (said := await Dialogues(self.storage, self.clock).of(id)):
            details = events[0].details | {"transcript": [list(line) for line in said]}
            events = [replace(events[0], details=details), *events[1:]]
        waiting = await self._entries(Selection(ids=(id,)), after=EDGE, limit=ENTRIES)
        return Trace(id, tuple(events), tuple(waiting))

    # ---- where mail goes
    async def resolve(self, domain: str) -> Resolution:
        where = _domain(domain)
        match self.table.route(Mailbox("postmaster", where)):
            case NoRoute(detail):
                return Resolution(str(where), "", (), "", "", (), is_local=False, trouble=detail)
            case Route() as route:
                return await self._resolution(str(where), route)
            case never:
                assert_never(never)

    async def explain(self, question: Question) -> Explanation:
        if not 0 < len(question.recipients) <= MAX_ASKED:
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"{len(question.recipients)} recipients are asked about",
                f"name 1 to {MAX_ASKED}",
            )
        explainer = Explainer(self.config, self.admission, self.clock.now(), self.hooked, self.rewritings)
        facts, trusted = await asyncio.to_thread(explainer.session, question)  # it may read the users' file
        facts = (*facts, *await explainer.hooks(question))
        reverse = reverse_path(question.reverse_path)
        more, screened = await at_the_gate(self.gate, question, reverse, trusted=trusted)
        facts += more
        journeys = [await self._journey(explainer, each, question, trusted=trusted) for each in question.recipients]
        journeys = [await self._gated(question, journey, screened, trusted=trusted) for journey in journeys]
        return Explanation(question, facts, not any(fact.stops for fact in facts), tuple(journeys))

    async def _gated(self, question: Question, journey: Journey, screened: Screened, *, trusted: bool) -> Journey:
        """With what the gate says of a recipient that would be taken else."""
        if not journey.is_taken:
            return journey
        paths = reverse_path(question.reverse_path), forward_path(journey.recipient)
        facts, reply = await of_recipient(self.gate, question, paths, screened, trusted=trusted)
        return replace(
            journey,
            facts=journey.facts + facts,
            reply=reply or journey.reply,
            is_taken=not reply,
            legs=() if reply else journey.legs,
        )

    async def _journey(self, explainer: Explainer, asked: str, question: Question, *, trusted: bool) -> Journey:
        journey, destined = await explainer.recipient(asked, question, trusted=trusted)
        states = self.delivering() if self.facts.is_running else NotRunning()
        legs = [
            explainer.leg(
                one,
                await self._resolution(str(one.recipient.forward_path), one.route),
                states,
                used=await self._used(one.route),
                turns=await explainer.turns(one.route, question, asked),
                size=question.message.size,
            )
            for one in destined[:SHOWN]
        ]
        return replace(journey, legs=tuple(legs))

    async def _used(self, route: Route) -> Sequence[str]:
        """How much of the route's quotas is used, as the service counts it."""
        if not route.onward.quotas:
            return ()
        with _storage_trouble():
            return await self.used(route.onward)

    async def _resolution(self, domain: str, route: Route) -> Resolution:
        transport = route.transport
        if not isinstance(transport, SmtpServers | SmtpMx | LmtpServers):
            whose = "finds its own way" if isinstance(transport, Webhook) else "is this machine's own affair"
            trouble = f"no host: {target_text(transport)} {whose}"
            return Resolution(domain, "", (), route.rule, route.next_hop, (), is_local=True, trouble=trouble)
        dns, exchangers = await self._ask_dns(transport) if isinstance(transport, SmtpMx) else ("", ())
        mta_sts = _sts_sentence(await self.policies.policy(transport.domain)) if isinstance(transport, SmtpMx) else ""
        found = await self.finder.hosts(transport)
        trouble = "" if isinstance(found, Hosts) else "; ".join(describe_hosts(found))
        hosts = tuple(f"{host.name} at {host.endpoint}" for host in found.hosts) if isinstance(found, Hosts) else ()
        return Resolution(
            domain,
            dns,
            exchangers,
            route.rule,
            route.next_hop,
            hosts,
            is_local=False,
            trouble=trouble,
            tls=await self._levels(route, found) if isinstance(found, Hosts) else (),
            mta_sts=mta_sts,
        )

    async def _levels(self, route: Route, found: Hosts) -> tuple[HostTls, ...]:
        """The TLS level of each host by name: that of its addresses is one."""
        transport = route.transport
        if not isinstance(transport, SmtpServers | SmtpMx):
            return ()
        by_name = {(host.name, host.endpoint.port): host for host in reversed(found.hosts)}
        choices = [(host, await self.chooser.choose(route.tls, transport, host)) for host in by_name.values()]
        return tuple(
            HostTls(
                host=host.name,
                level=choice.demand.level.value if isinstance(choice, Chosen) else "",
                why=str(choice.why),
                published=choice.published.lines,
            )
            for host, choice in reversed(choices)
        )

    async def _ask_dns(self, transport: SmtpMx) -> tuple[str, tuple[ResolvedHost, ...]]:
        """A sentence on the MX answer, and each exchanger, nearest first, with why it is of no use where it is not."""
        answer = await self.resolver.mx(transport.domain)
        records: list[MxRecord] = []
        if isinstance(answer, MxRecords):
            records = sorted(answer.records, key=lambda record: record.preference)[:SHOWN]
        elif isinstance(answer, NoRecords):
            records = [MxRecord(0, transport.domain)]  # the implicit MX
        addresses = await asyncio.gather(*(self.resolver.addresses(record.host) for record in records))
        reasons = await self.finder.left_out(transport)
        hosts = (_resolved(*each, reasons.get(each[0].host, "")) for each in zip(records, addresses, strict=True))
        return _mx_sentence(answer), tuple(hosts)

    # ---- the configuration
    async def reload(self, *, by: str) -> Reloaded:
        return await self.renew(by)

    async def preview(self, proposal: Proposal) -> Preview:
        with _storage_trouble():
            return await preview(proposal, self.config, self.storage, now=self.clock.now())

    async def revisions(self) -> Revisions:
        with _storage_trouble():
            return Revisions(tuple(await revisions.revisions(self.storage, now=self.clock.now())))

    async def revision(self, id: str) -> RevisionText:  # noqa: A002 - the field's own name
        with _storage_trouble():
            text = await revisions.text_of(self.storage, id, now=self.clock.now())
        if isinstance(text, Absent):
            raise OperationError(
                FailureKind.NOT_FOUND, f"no revision {id} is kept", "list those there are: waypost config history"
            )
        return RevisionText(id, text)

    # ---- the inbox that `capture:` keeps
    async def inbox(self, *, before: int = 0, limit: int = 50) -> InboxPage:
        page = min(max(limit, 1), PAGE)
        with _storage_trouble():
            messages = await self.storage.captured(before=before, limit=page + 1)
        return InboxPage(tuple(messages[:page]), messages[page - 1].number if len(messages) > page else 0)

    async def captured(self, number: int) -> CapturedDetail:
        with _storage_trouble():
            found = await self.storage.captured(before=number + 1, limit=1)
            if not found or found[0].number != number:
                raise _no_captured(number)
            octets = await self._captured(number)
            return taken_apart(found[0], await _first(octets, READABLE))

    async def captured_octets(self, number: int) -> bytes:
        with _storage_trouble():
            return await _first(await self._captured(number), 2**62)

    async def clear_inbox(self, *, keep: int) -> Cleared:
        with _storage_trouble():
            return Cleared(await self.storage.discard_captured(keep=keep))

    async def _captured(self, number: int) -> Octets:
        try:
            return await self.storage.captured_octets(number)
        except KeyError:
            raise _no_captured(number) from None


@contextmanager
def _storage_trouble() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise OperationError(
            FailureKind.UNAVAILABLE, f"the spool did not answer: {error}", "see the service's log; nothing was changed"
        ) from error


def _no_captured(number: int) -> OperationError:
    return OperationError(
        FailureKind.NOT_FOUND, f"no captured message {number}", "list those there are: waypost inbox list"
    )


def _message_id(text: str) -> MessageId:
    try:
        to_number(MessageId(text))
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            str(error),
            "take an id from the Received header, the log or waypost queue list; an address has an @",
        ) from None
    return MessageId(text)


def _network(peer: str) -> None:
    """Raises: OperationError, where a network is meant and none is written."""
    if "/" in peer and "://" not in peer:
        try:
            ip_network(peer, strict=False)
        except ValueError as error:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"{peer!r} is no network: {error}", "write it as 192.0.2.0/24 or 2001:db8::/48"
            ) from None


def _known(selection: Selection) -> Selection:
    """The selection, its ids and its state checked."""
    for id in selection.ids:  # noqa: A001 - the field's own name
        _message_id(id)
    states = [state.value for state in RecipientState]
    if selection.state and selection.state not in states:
        raise OperationError(
            FailureKind.BAD_REQUEST, f"no recipient is {selection.state!r}", f"a state is one of {', '.join(states)}"
        )
    return selection


def _reason(reason: str) -> str:
    """What the author of a message is told. Raises: OperationError, where that would be nothing, or no one line."""
    if reason.strip() and reason.isprintable() and len(reason) <= 500:
        return reason.strip()
    raise OperationError(
        FailureKind.BAD_REQUEST,
        "a bounce needs a reason of one line and up to 500 characters",
        "say why: the author of the message will read it",
    )


def _place_text(place: Place) -> str:
    """As `after` takes it; empty behind the last."""
    return "" if place == EDGE else f"{place[0]}:{place[1]}"


def _position(after: str) -> Place:
    if not after:
        return EDGE
    id, _, number = after.partition(":")  # noqa: A001 - the field's own name
    if not (number.isascii() and number.isdigit()):
        raise OperationError(FailureKind.BAD_REQUEST, f"{after!r} is no place in the queue", "pass `next` as it came")
    return _message_id(id), int(number)


def _path(message: QueuedMessage) -> str:
    path = message.reverse_path
    return f"{path.local_part}@{path.domain}" if isinstance(path, Mailbox) else ""


async def _first(octets: Octets, limit: int) -> bytes:
    """The first `limit` octets."""
    read = bytearray()
    async for chunk in octets:
        read += chunk
        if len(read) >= limit:
            break
    return bytes(read[:limit])


# ---- DNS in words
def _domain(text: str) -> Domain:
    name = text.rpartition("@")[2]
    try:
        return literal(name) if name.startswith("[") or is_address(name) else DomainName(host_name(name))
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST, str(error), "give a domain such as example.com, or an address such as [192.0.2.1]"
        ) from None


def _mx_sentence(answer: MxAnswer) -> str:
    match answer:
        case MxRecords(records, standing):
            return f"{len(records)} MX record{'s' if len(records) > 1 else ''}{_standing_words(standing)}"
        case NullMx(standing):
            return f"null MX: this domain takes no mail (RFC 7505){_standing_words(standing)}"
        case NoRecords(standing):
            return (
                f"no MX record: the domain itself is the host (implicit MX, RFC 5321 §5.1){_standing_words(standing)}"
            )
        case NoSuchName(standing):
            return f"no such domain (NXDOMAIN){_standing_words(standing)}"
        case DnsTrouble(detail):
            return f"no usable answer: {plain(detail)}"
        case _:
            assert_never(answer)


def _standing_words(standing: Standing) -> str:
    """What an answer is worth; nothing of one that holds for no time."""
    if not standing.ttl:
        return ""
    return f" (TTL {standing.ttl.total_seconds():.0f} s, {'signed' if standing.authenticated else 'not signed'})"


def _sts_sentence(found: KeptPolicy | NoStsPolicy) -> str:
    if isinstance(found, NoStsPolicy):
        return f"none in force: {plain(found.detail)}"
    return f"{found.id}: {', '.join(found.policy.lines)}"


def _resolved(record: MxRecord, answer: AddressAnswer, left_out: str) -> ResolvedHost:
    match answer:
        case Addresses(addresses, standing):
            trouble = f"left out: {left_out}" if left_out else ""
            ttl, signed = standing.ttl.total_seconds(), standing.authenticated
            return ResolvedHost(record.host, record.preference, addresses, trouble, ttl, signed)
        case NoRecords():
            return ResolvedHost(record.host, record.preference, (), "has no address")
        case NoSuchName():
            return ResolvedHost(record.host, record.preference, (), "does not exist (NXDOMAIN)")
        case DnsTrouble(detail):
            return ResolvedHost(record.host, record.preference, (), f"could not be looked up: {plain(detail)}")
        case _:
            assert_never(answer)
