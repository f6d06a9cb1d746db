"""One attempt over SMTP or LMTP: host after host, until every recipient is answered or no host is left.

Not here: how a session is opened (opener.py), what happens in it (transaction.py), when to try again (the queue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.deliver.connection import Connection
from waypost.deliver.dots import UNMARKED, Dots, LeaseEndedError
from waypost.deliver.fates import Fates, Open, deferred
from waypost.deliver.opener import Needs, Opener, Unopened
from waypost.deliver.pool import Nothing, Pool
from waypost.deliver.tls_watch import NoListener, TlsListener, TlsWatch, tell_barred
from waypost.deliver.transaction import After, transact
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import Origin, PossiblyAt, QueuedRecipient
from waypost.mail.explain import describe_cause
from waypost.mail.outcome import Cause, DnsFailed, Host, LocalTrouble, NoSuchHost, PolicyRefused, Rejected
from waypost.mail.tls_report import ORIGIN
from waypost.net.clock import Clock, Instant
from waypost.net.x509 import Authorities
from waypost.queue.record import domain_of
from waypost.queue.storage import Lease
from waypost.route.level import ENCRYPTION_NEEDED, Barred, Choice, Chosen, describe_choice, fixed, is_fixed
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Route, SmtpMx, SmtpServers, TlsPolicy
from waypost.smtp.client import Attributes
from waypost.smtp.extension import Extensions
from waypost.smtp.login import NoCredentials

#: How long one attempt may go on to another host, or another transaction; a time-out on each of many adds up.
BUDGET: Final = timedelta(minutes=30)
_NOBODY: Final = NoListener()
#: Octets of a value that XCLIENT tells: with two such the command keeps to its length (RFC 5321 §4.5.3.1.4).
LONGEST_VALUE: Final = 150


class Finder(Protocol):
    """Where hosts come from (waypost.route.hosts.HostFinder)."""

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer: ...


class Health(Protocol):
    """Who knows which of several servers ail (waypost.deliver.health.HostHealth)."""

    def in_order(self, hosts: Sequence[Host]) -> Sequence[Host]: ...
    def failed(self, host: Host, why: str) -> None: ...
    def recovered(self, host: Host) -> None: ...


class Unwatched:
    """Nobody watches: hosts are tried in their order."""

    def in_order(self, hosts: Sequence[Host]) -> Sequence[Host]:
        return hosts

    def failed(self, host: Host, why: str) -> None:
        pass

    def recovered(self, host: Host) -> None:
        pass


_UNWATCHED: Final = Unwatched()


class Chooser(Protocol):
    """Where the TLS level for a host comes from (waypost.route.level.TlsChooser)."""

    async def choose(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice: ...
    async def choose_tagged(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice: ...


# ---- what an attempt tells of the destination, beside what became of the recipients
@dataclass(frozen=True, slots=True)
class Reached:
    """A session was had with one of its hosts, or nothing that happened speaks against it."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No session with any of its hosts: the next message would fare no better."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """It refuses the route's credentials: so it will with the next message."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class AuthorisationEnded:
    """The route's OAuth authorisation is over: its mail is held until somebody has logged in."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The route's account has spent its quota: nothing goes before `until` (wall clock), and its mail stays queued."""

    cause: Cause
    until: Instant


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another was asked in its place, or nobody: nothing is known of it."""


Reach: TypeAlias = Reached | Unreachable | CredentialsRefused | AuthorisationEnded | Exhausted


class SmtpDelivery:
    """Attempts over SMTP and LMTP; what they share is the pool of idle connections and the memory of hosts."""

    def __init__(
        self,
        finder: Finder,
        chooser: Chooser,
        opener: Opener,
        pool: Pool,
        clock: Clock,
        listener: TlsListener = _NOBODY,
        dots: Dots = UNMARKED,
        health: Health = _UNWATCHED,
    ) -> None:
        """`listener` hears what TLS comes to with mail exchangers, `health` how each of several servers fares."""
        self._health = health
        self._dots = dots
        self._finder = finder
        self._chooser = chooser
        self._opener = opener
        self._pool = pool
        self._clock = clock
        self._listener = listener
        self._authorities = Authorities()

    async def deliver(
        self,
        lease: Lease,
        route: Route,
        transport: SmtpServers | SmtpMx | LmtpServers,
        fates: Fates,
        transcript: Transcript,
    ) -> Reach:
        """One attempt for `lease`; what became of each recipient is written into `fates`."""
        found = await self._finder.hosts(transport)
        match found:
            case Hosts(hosts):
                health: Health = _UNWATCHED
                if len(hosts) > 1 and not isinstance(transport, SmtpMx):
                    health = self._health
                    hosts = tuple(health.in_order(hosts))
                levels = self._levels(lease, route, transport)
                attempt = _Attempt(
                    self._opener, self._pool, self._clock, self._dots, levels, lease, route, fates, transcript, health
                )
                return await attempt.over(_possible_holders_first(hosts, lease.recipients))
            case NoSuchHost():
                _record_all(fates, Rejected(found, found.status))
                return Reached()
            case DnsFailed():
                _record_all(fates, Open(deferred(found)))
                return Unreachable(found)
            case _:
                assert_never(found)

    def _levels(self, lease: Lease, route: Route, transport: SmtpServers | SmtpMx | LmtpServers) -> _Levels:
        """RFC 8460 §3: a report on TLS goes through whatever the policies say, and is not reported on."""
        message = lease.message
        if message.tls_optional and not message.parameters.requiretls and not is_fixed(route.tls):
            policy = (
                TlsPolicy.OPPORTUNISTIC
            )  # RFC 8689 §4.3: what its recipients' domain asks for is not its author's wish
            return _Levels(self._chooser, policy, transport, _NOBODY, self._authorities, self._clock)
        if lease.message.origin == ORIGIN and not is_fixed(route.tls):
            return _Levels(self._chooser, TlsPolicy.OPPORTUNISTIC, transport, _NOBODY, self._authorities, self._clock)
        listener = self._listener if isinstance(transport, SmtpMx) and lease.message.origin != ORIGIN else _NOBODY
        return _Levels(self._chooser, route.tls, transport, listener, self._authorities, self._clock)


def _record_all(fates: Fates, fate: Rejected | Open) -> None:
    for recipient in fates.open():
        fates.record(recipient, fate)


def _possible_holders_first(hosts: Sequence[Host], recipients: Sequence[QueuedRecipient]) -> Sequence[Host]:
    """A host that may hold the message already can recognise it by its Message-ID, so it is asked before any other."""
    holders = {recipient.doubt.host for recipient in recipients if isinstance(recipient.doubt, PossiblyAt)}
    if not holders:
        return hosts
    return sorted(hosts, key=lambda host: str(host.endpoint) not in holders)


class _Levels:
    """The TLS level of each host of one attempt. LMTP goes to a neighbour, in clear."""

    def __init__(
        self,
        chooser: Chooser,
        policy: TlsPolicy,
        transport: SmtpServers | SmtpMx | LmtpServers,
        listener: TlsListener,
        authorities: Authorities,
        clock: Clock,
    ) -> None:
        self._chooser = chooser
        self._policy = policy
        self._transport = transport
        self._listener = listener
        self._authorities = authorities
        self._clock = clock

    @property
    def lmtp(self) -> bool:
        return isinstance(self._transport, LmtpServers)

    async def of(self, host: Host, *, requiretls: bool) -> Choice:
        if isinstance(self._transport, LmtpServers):
            return _LMTP
        choose = self._chooser.choose_tagged if requiretls else self._chooser.choose
        choice = await choose(self._policy, self._transport, host)
        if isinstance(choice, Barred) and not choice.for_good:  # what one message asks for is no domain's failure
            tell_barred(self._listener, host, choice)
        return choice

    def watch(self, chosen: Chosen) -> TlsWatch:
        """Who is told of the sessions with a host."""
        return TlsWatch(self._listener, chosen, self._authorities, self._clock)


_LMTP: Final = fixed(TlsPolicy.NONE, "")


class _Attempt:
    """One attempt while it runs."""

    def __init__(
        self,
        opener: Opener,
        pool: Pool,
        clock: Clock,
        dots: Dots,
        levels: _Levels,
        lease: Lease,
        route: Route,
        fates: Fates,
        transcript: Transcript,
        health: Health,
    ) -> None:
        self._health = health
        self._opener = opener
        self._pool = pool
        self._clock = clock
        self._dots = dots
        self._leaving = partial(dots.leaving, lease)
        self._levels = levels
        self._credentials = route.credentials
        self._manner = route.manner
        self._lease = lease
        self._limits = route.limits
        self._fates = fates
        self._transcript = transcript
        self._ends = clock.monotonic() + BUDGET.total_seconds()
        self._parameters = lease.message.parameters

    async def over(self, hosts: Sequence[Host]) -> Reach:
        """Host after host, while a recipient is open."""
        reach: Reach = Reached()
        failed = 0
        for host in hosts:
            reached = await self._at(host)
            match reached:
                case Reached():
                    if self._health is not _UNWATCHED:
                        self._health.recovered(host)
                case Unreachable(cause):
                    failed += 1
                    reach = reached
                    self._health.failed(host, describe_cause(cause))
                case CredentialsRefused() | AuthorisationEnded() | Exhausted():
                    return reached
                case _:
                    assert_never(reached)
            if not self._fates.has_open or self._time_is_up():
                break
        return reach if failed == len(hosts) else Reached()

    async def _at(self, host: Host) -> Reach:
        """Transaction after transaction with one host, each recipient once: open ones are left to the next host."""
        due = self._fates.open()
        chosen = await self._levels.of(host, requiretls=self._parameters.requiretls)
        if isinstance(chosen, Barred):
            return self._barred_from(host, due, chosen)
        needs, watch = self._needs(chosen), self._levels.watch(chosen)
        connection = self._pool.take(host.endpoint, needs, self._transcript)
        while due and not self._time_is_up():
            if isinstance(connection, Nothing):
                opened = await self._opener.open(host, needs, watch, self._transcript)
                if isinstance(opened, Unopened):
                    return self._not_at(due, opened)
                connection = opened
            if not self._dots.may_begin(self._lease):
                connection.abort()
                raise LeaseEndedError
            batch, due = self._batch(due, connection.extensions)
            message, octets = self._lease.message, self._lease.octets
            ended = await transact(connection, message, batch, octets, self._fates, self._leaving)
            due = [*ended.split, *due]
            match ended.after:
                case After.REUSABLE:
                    connection = self._worth_keeping(needs, connection) if due else connection
                case After.SPENT:
                    connection = Nothing()
                    self._leave_with(batch, due)
                case After.STALE:
                    self._transcript_note("of no more use since the last message: the same again on a fresh connection")
                    connection = Nothing()
                    due = [*batch, *due]
                case _:
                    assert_never(ended.after)
        if isinstance(connection, Connection):
            self._pool.give(needs, connection, transactions=self._most_messages(connection))
        return Reached()

    def _batch(
        self, due: Sequence[QueuedRecipient], extensions: Extensions
    ) -> tuple[list[QueuedRecipient], list[QueuedRecipient]]:
        """The recipients of the next transaction, and the rest: as the route and the host (RFC 9422) limit it."""
        most = _least(self._limits.recipients, extensions.limit("RCPTMAX"))
        most_domains = extensions.limit("RCPTDOMAINMAX")
        if not most_domains:
            return list(due[:most]), list(due[most:])
        batch, rest, domains = list[QueuedRecipient](), list[QueuedRecipient](), set[str]()
        for recipient in due:
            domain = domain_of(recipient.forward_path)
            if len(batch) < most and len(domains | {domain}) <= most_domains:
                domains.add(domain)
                batch.append(recipient)
            else:
                rest.append(recipient)
        return batch, rest

    def _most_messages(self, connection: Connection) -> int:
        """Transactions on this connection at most."""
        return _least(self._limits.messages, connection.extensions.limit("MAILMAX"))

    def _worth_keeping(self, needs: Needs, connection: Connection) -> Connection | Nothing:
        """The connection for the next of several transactions, unless it has carried all it may."""
        most = self._most_messages(connection)
        if connection.transactions < most:
            return connection
        self._pool.give(needs, connection, transactions=most)
        return Nothing()

    def _needs(self, chosen: Chosen) -> Needs:
        if self._levels.lmtp:
            return Needs(chosen.demand, NoCredentials(), self._parameters.smtputf8, lmtp=True, manner=self._manner)
        if self._parameters.requiretls or not is_fixed(chosen.why.policy):
            self._transcript_note(describe_choice(chosen)[0])
        client = _client_of(self._lease.message.origin) if self._manner.xclient else ()
        return Needs(
            chosen.demand, self._credentials, self._parameters.smtputf8, lmtp=False, manner=self._manner, client=client
        )

    def _barred_from(self, host: Host, due: Sequence[QueuedRecipient], barred: Barred) -> Reach:
        self._transcript_note(f"{host}: {describe_choice(barred)[0]}")
        otherwise = Rejected(barred.cause, ENCRYPTION_NEEDED) if barred.for_good else deferred(barred.cause)
        for recipient in due:
            self._fates.record(recipient, Open(otherwise))
        return Reached() if barred.for_good else Unreachable(barred.cause)

    def _leave_with(self, batch: Sequence[QueuedRecipient], due: list[QueuedRecipient]) -> None:
        """Where a lost connection left some of `batch` open, those still `due` leave this host with them."""
        for fate in self._fates.left_open(batch)[:1]:
            for recipient in due:
                self._fates.record(recipient, fate)
            due.clear()

    def _transcript_note(self, text: str) -> None:
        self._transcript.add(self._clock.monotonic(), "*", text)

    def _not_at(self, due: Sequence[QueuedRecipient], unopened: Unopened) -> Reach:
        lacks_tls = unopened.lacks_tls and self._parameters.requiretls
        otherwise = _encryption_needed(unopened.otherwise.cause) if lacks_tls else unopened.otherwise
        for recipient in due:
            self._fates.record(recipient, Open(otherwise))
        if lacks_tls:
            return Reached()  # other messages may ask for less
        if unopened.authorisation_ended:
            return AuthorisationEnded(unopened.otherwise.cause)
        if unopened.credentials_refused:
            return CredentialsRefused(unopened.otherwise.cause)
        return Reached() if unopened.our_fault else Unreachable(unopened.otherwise.cause)

    def _time_is_up(self) -> bool:
        if self._clock.monotonic() < self._ends:
            return False
        minutes = BUDGET.total_seconds() / 60
        trouble = LocalTrouble(f"this attempt used up its {minutes:g} minutes, over several hosts or transactions")
        for recipient in self._fates.open():
            self._fates.record(recipient, Open(deferred(trouble)))
        return True


def _client_of(origin: Origin) -> Attributes:
    """Whose mail it is, as XCLIENT tells it; nobody's, where it is our own. What cannot be said in it is left out."""
    if not origin.client_host[:1].isalnum() and ":" not in origin.client_host:
        return ()
    address = f"IPV6:{origin.client_host}" if ":" in origin.client_host else origin.client_host
    protocol = "ESMTP" if "ESMTP" in origin.protocol or "UTF8SMTP" in origin.protocol else "SMTP"
    known = (
        ("NAME", "[UNAVAILABLE]"),
        ("ADDR", address),
        ("PROTO", protocol),
        ("HELO", origin.client_name),
        ("LOGIN", origin.account),
    )
    return tuple((name, value) for name, value in known if 0 < len(value) <= LONGEST_VALUE and _is_plain(value))


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _encryption_needed(cause: Cause) -> Rejected:
    """RFC 8689 §4.2.1: the author hears of it at once, for a host does not learn TLS within days."""
    said = f"the message asks for REQUIRETLS, and TLS as it demands cannot be had: {describe_cause(cause)}"
    return Rejected(PolicyRefused(said, ENCRYPTION_NEEDED), ENCRYPTION_NEEDED)


def _least(ours: int, theirs: int) -> int:
    """Our limit, or theirs where it is set and lower."""
    return min(ours, theirs) if theirs else ours
