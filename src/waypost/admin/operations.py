"""Each operation of an administrator once, answered at the source: storage, route table, DNS.

The API (http.py) and the command line (cli.py) are two faces of it; what it answers are the values of answers.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from waypost.admin.answers import (
    Acted,
    CapturedDetail,
    Destinations,
    FailureKind,
    HostTls,
    InboxPage,
    OperationError,
    OriginFacts,
    QueuedDetail,
    QueuePage,
    Resolution,
    ResolvedHost,
    ServiceFacts,
    Status,
    Trace,
    Traces,
)
from waypost.admin.explanation import Explanation, Journey, Question
from waypost.admin.journey import MAX_ASKED, Explainer, NotRunning
from waypost.admin.reading import taken_apart
from waypost.config import Config
from waypost.mail.envelope import MessageId, Octets, QueuedMessage
from waypost.mail.explain import plain
from waypost.net.clock import Clock
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
from waypost.queue.ids import to_number
from waypost.queue.storage import QueueEntry, Selection, Storage, StorageError
from waypost.route.domain import host_name, literal
from waypost.route.hosts import HostFinder, describe_hosts
from waypost.route.level import Chosen, NoStsPolicy, StsPolicies, TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.route import Hosts, LmtpServers, NoRoute, Route, SmtpMx, SmtpServers, Webhook
from waypost.route.state import DestinationState, Phase
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
#: MX records that are shown; live mail looks at twenty.
SHOWN: Final = 50
ACTIONS: Final = ("retry", "delete", "hold", "release")


def _nobody() -> None:
    """Nobody waits to be told."""


def _no_destinations() -> Sequence[DestinationState]:
    """Nobody delivers."""
    return ()


async def _nothing() -> Sequence[str]:
    """Nothing to warn of."""
    return ()


@dataclass(frozen=True, slots=True)
class Operations:
    """The desk itself."""

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
    warnings: Readiness = _nothing
    changed: Callable[[], None] = _nobody  # told when recipients may have become due
    retried: Callable[[], None] = _nobody  # told when somebody wants mail tried now, whatever rests
    delivering: Callable[[], Sequence[DestinationState]] = _no_destinations

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
        page = min(max(limit, 1), PAGE)
        entries = await self._entries(_known(selection), after=_position(after), limit=page + 1)
        if len(entries) <= page:
            return QueuePage(tuple(entries), "")
        last = entries[page - 1]
        return QueuePage(tuple(entries[:page]), f"{last.id}:{last.number}")

    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        message, octets = await self._message(_message_id(id))
        with _storage_trouble():
            head = await _first(octets, HEADER)
        entries = await self._entries(Selection(ids=(message.id,)), after=_START, limit=ENTRIES)
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

    async def act(self, action: str, selection: Selection, *, everything: bool, by: str, reason: str = "") -> Acted:
        if action not in ACTIONS:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"no operation {action!r} on the queue", f"use {', '.join(ACTIONS)}"
            )
        if selection == Selection() and not everything:
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"{action} without a selection would mean the whole queue",
                "give an id, an address, a domain or a next hop, or say that all is meant",
            )
        with _storage_trouble():
            acted = Acted(action, await self._act(action, _known(selection), by, reason))
        (self.retried if action == "retry" else self.changed)()
        return acted

    async def _act(self, action: str, selection: Selection, by: str, reason: str) -> int:
        now = self.clock.now()
        if action == "retry":
            return await self.storage.retry(selection, now=now)
        if action == "release":
            return await self.storage.unhold(selection, now=now)
        if action == "hold":
            return await self.storage.hold(selection, reason=reason or f"held by {by}", now=now)
        return await self.storage.delete(selection, now=now, by=by)

    async def _entries(self, selection: Selection, *, after: tuple[MessageId, int], limit: int) -> Sequence[QueueEntry]:
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

    async def destinations(self, *, limit: int = 100) -> Destinations:
        page = min(max(limit, 1), PAGE)
        found = sorted(self.delivering(), key=lambda one: (_CALM.index(one.phase), -one.waiting, one.next_hop))
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

    async def _trace(self, id: MessageId) -> Trace:  # noqa: A002 - the field's own name
        events = await self.storage.history(id)
        waiting = await self._entries(Selection(ids=(id,)), after=_START, limit=ENTRIES)
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
        explainer = Explainer(self.config, self.admission)
        facts, trusted = await asyncio.to_thread(explainer.session, question)  # it may read the users' file
        journeys = [await self._journey(explainer, each, question, trusted=trusted) for each in question.recipients]
        return Explanation(question, facts, not any(fact.stops for fact in facts), tuple(journeys))

    async def _journey(self, explainer: Explainer, asked: str, question: Question, *, trusted: bool) -> Journey:
        journey, destined = await explainer.recipient(asked, question, trusted=trusted)
        states = self.delivering() if self.facts.is_running else NotRunning()
        legs = [
            explainer.leg(one, await self._resolution(str(one.recipient.forward_path), one.route), states)
            for one in destined[:SHOWN]
        ]
        return replace(journey, legs=tuple(legs))

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

    async def _captured(self, number: int) -> Octets:
        try:
            return await self.storage.captured_octets(number)
        except KeyError:
            raise _no_captured(number) from None


#: What a destination does, trouble first.
_CALM: Final = (Phase.HELD, Phase.RESTING, Phase.PROBING, Phase.STALLED, Phase.WAITING, Phase.DELIVERING, Phase.IDLE)
_START: Final = (MessageId(""), -1)


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


def _known(selection: Selection) -> Selection:
    """The selection, its ids checked."""
    for id in selection.ids:  # noqa: A001 - the field's own name
        _message_id(id)
    return selection


def _position(after: str) -> tuple[MessageId, int]:
    if not after:
        return _START
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
