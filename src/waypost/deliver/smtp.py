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
from waypost.deliver.dots import UNMARKED, Dots
from waypost.deliver.fates import Fates, Open, deferred
from waypost.deliver.opener import Needs, Opener, Unopened
from waypost.deliver.pool import Nothing, Pool
from waypost.deliver.transaction import After, transact
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import PossiblyAt, QueuedRecipient
from waypost.mail.outcome import Cause, DnsFailed, Host, LocalTrouble, NoSuchHost, Rejected
from waypost.net.clock import Clock
from waypost.queue.record import domain_of
from waypost.queue.storage import Lease
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Route, SmtpMx, SmtpServers, TlsPolicy
from waypost.smtp.client import NoCredentials
from waypost.smtp.extension import Extensions, MailParameters

#: How long one attempt may go on to another host, or another transaction; a time-out on each of many adds up.
BUDGET: Final = timedelta(minutes=30)


class Finder(Protocol):
    """Where hosts come from (waypost.route.hosts.HostFinder)."""

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer: ...


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


Reach: TypeAlias = Reached | Unreachable | CredentialsRefused | AuthorisationEnded


class SmtpDelivery:
    """Attempts over SMTP and LMTP; what they share is the pool of idle connections and the memory of hosts."""

    def __init__(self, finder: Finder, opener: Opener, pool: Pool, clock: Clock, dots: Dots = UNMARKED) -> None:
        self._dots = dots
        self._finder = finder
        self._opener = opener
        self._pool = pool
        self._clock = clock

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
                attempt = _Attempt(self._opener, self._pool, self._clock, self._dots, lease, route, fates, transcript)
                return await attempt.over(_possible_holders_first(hosts, lease.recipients))
            case NoSuchHost():
                _record_all(fates, Rejected(found, found.status))
                return Reached()
            case DnsFailed():
                _record_all(fates, Open(deferred(found)))
                return Unreachable(found)
            case _:
                assert_never(found)


def _record_all(fates: Fates, fate: Rejected | Open) -> None:
    for recipient in fates.open():
        fates.record(recipient, fate)


def _possible_holders_first(hosts: Sequence[Host], recipients: Sequence[QueuedRecipient]) -> Sequence[Host]:
    """A host that may hold the message already can recognise it by its Message-ID, so it is asked before any other."""
    holders = {recipient.doubt.host for recipient in recipients if isinstance(recipient.doubt, PossiblyAt)}
    if not holders:
        return hosts
    return sorted(hosts, key=lambda host: str(host.endpoint) not in holders)


class _Attempt:
    """One attempt while it runs."""

    def __init__(
        self,
        opener: Opener,
        pool: Pool,
        clock: Clock,
        dots: Dots,
        lease: Lease,
        route: Route,
        fates: Fates,
        transcript: Transcript,
    ) -> None:
        self._opener = opener
        self._pool = pool
        self._clock = clock
        self._leaving = partial(dots.leaving, lease)
        self._lease = lease
        self._limits = route.limits
        self._fates = fates
        self._transcript = transcript
        self._ends = clock.monotonic() + BUDGET.total_seconds()
        self._needs = _needs(route, lease.message.parameters)

    async def over(self, hosts: Sequence[Host]) -> Reach:
        """Host after host, while a recipient is open."""
        reach: Reach = Reached()
        failed = 0
        for host in hosts:
            reached = await self._at(host)
            match reached:
                case Reached():
                    pass
                case Unreachable():
                    failed += 1
                    reach = reached
                case CredentialsRefused() | AuthorisationEnded():
                    return reached
                case _:
                    assert_never(reached)
            if not self._fates.has_open or self._time_is_up():
                break
        return reach if failed == len(hosts) else Reached()

    async def _at(self, host: Host) -> Reach:
        """Transaction after transaction with one host, each recipient once: open ones are left to the next host."""
        due = self._fates.open()
        connection = self._pool.take(host.endpoint, self._needs, self._transcript)
        while due and not self._time_is_up():
            if isinstance(connection, Nothing):
                opened = await self._opener.open(host, self._needs, self._transcript)
                if isinstance(opened, Unopened):
                    return self._not_at(due, opened)
                connection = opened
            batch, due = self._batch(due, connection.extensions)
            message, octets = self._lease.message, self._lease.octets
            ended = await transact(connection, message, batch, octets, self._fates, self._leaving)
            due = [*ended.split, *due]
            match ended.after:
                case After.REUSABLE:
                    connection = self._worth_keeping(connection) if due else connection
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
            self._pool.give(self._needs, connection, transactions=self._most_messages(connection))
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

    def _worth_keeping(self, connection: Connection) -> Connection | Nothing:
        """The connection for the next of several transactions, unless it has carried all it may."""
        most = self._most_messages(connection)
        if connection.transactions < most:
            return connection
        self._pool.give(self._needs, connection, transactions=most)
        return Nothing()

    def _leave_with(self, batch: Sequence[QueuedRecipient], due: list[QueuedRecipient]) -> None:
        """Where a lost connection left some of `batch` open, those still `due` leave this host with them."""
        for fate in self._fates.left_open(batch)[:1]:
            for recipient in due:
                self._fates.record(recipient, fate)
            due.clear()

    def _transcript_note(self, text: str) -> None:
        self._transcript.add(self._clock.monotonic(), "*", text)

    def _not_at(self, due: Sequence[QueuedRecipient], unopened: Unopened) -> Reach:
        for recipient in due:
            self._fates.record(recipient, Open(unopened.otherwise))
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


def _least(ours: int, theirs: int) -> int:
    """Our limit, or theirs where it is set and lower."""
    return min(ours, theirs) if theirs else ours


def _needs(route: Route, parameters: MailParameters) -> Needs:
    """What a session must have for a message; REQUIRETLS is more than any route asks for (RFC 8689 §4.2.1)."""
    if isinstance(route.transport, LmtpServers):
        return Needs(TlsPolicy.NONE, NoCredentials(), parameters.smtputf8, lmtp=True)
    tls = TlsPolicy.VERIFY if parameters.requiretls else route.tls
    return Needs(tls, route.credentials, parameters.smtputf8, lmtp=False)
