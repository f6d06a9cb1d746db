"""Opening a session with one host: connection after connection as the tables bid (opening.py), and what it teaches.

Not here: which host, and what follows when none opens (smtp.py).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol, assert_never

from waypost.auth.keeper import Token, TokenAnswer, Unavailable
from waypost.auth.tokens import Dead
from waypost.deliver.connection import Connection, Ends, NotDialled, NotOpened, open_connection
from waypost.deliver.fates import deferred
from waypost.deliver.memory import Habit, HostMemory
from waypost.deliver.opening import (
    Approach,
    At,
    Slip,
    Step,
    after,
    first_approach,
    implicit_tls_approach,
    lmtp_approach,
    slip_of,
    where,
)
from waypost.deliver.tls_watch import TlsWatch
from waypost.mail.attempt import Transcript
from waypost.mail.explain import describe_cause
from waypost.mail.outcome import (
    Answered,
    Cause,
    ConnectionLost,
    Deferred,
    Host,
    LocalTrouble,
    Misbehaved,
    NotConnected,
    PolicyRefused,
)
from waypost.net.stream import Fault, FaultKind
from waypost.net.tls import client_context, context_showing
from waypost.route.level import TlsDemand, TlsLevel
from waypost.route.route import AS_OURSELVES, HeloFallback, Manner
from waypost.smtp.client import Attributes
from waypost.smtp.event import OpeningRefused, PeerClosing, Violation
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.reply import EnhancedStatus
from waypost.smtp.stage import Opening


class Needs(NamedTuple):
    """What a session must have to be of use. Sessions with equal needs and the same host may stand for each other."""

    tls: TlsDemand
    credentials: Credentials | NoCredentials
    smtputf8: bool
    lmtp: bool
    manner: Manner = AS_OURSELVES
    #: Whose mail it carries, where the host is to hear that (XCLIENT): no other client's goes over the same session.
    client: Attributes = ()

    @property
    def extension(self) -> str:
        """The extension that HELO could not offer, in words; empty where none is needed."""
        if self.tls.level.is_strict:
            return "TLS"
        return self.without_tls

    @property
    def without_tls(self) -> str:
        """The same, of the extensions that there are without TLS and under it."""
        if isinstance(self.credentials, Credentials):
            return "AUTH"
        return "SMTPUTF8" if self.smtputf8 else ""


@dataclass(frozen=True, slots=True)
class Unopened:
    """No session came to be with this host. `otherwise`: what that means for a recipient when no host is left."""

    otherwise: Deferred
    #: The peer refused our credentials: not a word to any other host of the route, and somebody has to look.
    credentials_refused: bool = False
    #: The OAuth authorisation of the route is over: nothing is to be tried until somebody has logged in.
    authorisation_ended: bool = False
    #: Nothing to hold against the destination: no descriptor, no port, no route on this machine.
    our_fault: bool = False
    #: TLS was demanded, and this host has none, or none that can be trusted; nothing that passes by itself.
    lacks_tls: bool = False


@dataclass(frozen=True, slots=True)
class NotShown:
    """A certificate of ours that a route is to show, and that cannot be read now; `why` names the file."""

    why: str


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """The client's two: one that encrypts to whoever answers, one that checks who that is.

    `showing` keeps those that show a certificate of ours: by level, files, and when these were changed.
    """

    unverified: ssl.SSLContext
    verified: ssl.SSLContext
    showing: dict[tuple[bool, str, str, int], ssl.SSLContext] = field(default_factory=dict)

    @classmethod
    def system(cls) -> TlsContexts:
        """With the roots this machine trusts."""
        return cls(client_context(verified=False), client_context())

    def of(self, level: TlsLevel, manner: Manner = AS_OURSELVES) -> ssl.SSLContext | NotShown:
        """The context for a level. Under DANE nothing that `ssl` could verify counts: see Connection.handshake."""
        if manner.certificate:
            return self._showing(manner, is_verified=level is TlsLevel.VERIFIED)
        return self.verified if level is TlsLevel.VERIFIED else self.unverified

    def _showing(self, manner: Manner, *, is_verified: bool) -> ssl.SSLContext | NotShown:
        try:
            changed = max(Path(file).stat().st_mtime_ns for file in (manner.certificate, manner.key))
            name = (is_verified, manner.certificate, manner.key, changed)
            if name not in self.showing:
                for old in [each for each in self.showing if each[:3] == name[:3]]:
                    del self.showing[old]
                self.showing[name] = context_showing(manner.certificate, manner.key, verified=is_verified)
        except OSError as error:  # SSLError is one: a key that is another certificate's
            return NotShown(f"the client certificate {manner.certificate} cannot be used: {error}")
        return self.showing[name]


class Authorisations(Protocol):
    """Where access tokens come from (waypost.auth.keeper.Keeper)."""

    async def token(self, name: str) -> TokenAnswer:
        """A token that is good for a while yet."""
        ...

    async def renew(self, name: str, stale: str) -> TokenAnswer:
        """A new one, because a server refuses `stale`."""
        ...

    async def refused(self, name: str, why: str) -> None:
        """A server refuses a token granted just now."""
        ...


class NoAuthorisations:
    """There are none."""

    async def token(self, name: str) -> TokenAnswer:
        return Dead(f"there is no [[oauth]] named {name}")

    async def renew(self, name: str, stale: str) -> TokenAnswer:  # noqa: ARG002 - there was none
        return await self.token(name)

    async def refused(self, name: str, why: str) -> None:
        pass


class Opener:
    """Opens sessions, and remembers of each host how it went."""

    def __init__(
        self,
        ends: Ends,
        memory: HostMemory,
        contexts: TlsContexts,
        authorisations: Authorisations | None = None,
    ) -> None:
        self._authorisations = authorisations or NoAuthorisations()
        self._ends = ends
        self._memory = memory
        self._contexts = contexts

    async def open(self, host: Host, needs: Needs, watch: TlsWatch, transcript: Transcript) -> Connection | Unopened:
        """A session with `host`; where an access token is needed, with one that is good, as far as can be known."""
        credentials = needs.credentials
        if not (isinstance(credentials, Credentials) and credentials.oauth):
            return await self._open(host, needs, credentials, watch, transcript)
        name = credentials.oauth
        token = await self._authorisations.token(name)
        opened = await self._with_token(token, host, needs, watch, transcript)
        if isinstance(opened, Connection) or not (opened.credentials_refused and isinstance(token, Token)):
            return opened
        if not token.is_fresh:  # it may have been revoked, and the authorisation be as good as ever
            token = await self._authorisations.renew(name, token.access)
            opened = await self._with_token(token, host, needs, watch, transcript)
        if isinstance(opened, Unopened) and opened.credentials_refused:
            why = f"a fresh token is refused: {describe_cause(opened.otherwise.cause)}"
            await self._authorisations.refused(name, why)
            return await self._with_token(Dead(why), host, needs, watch, transcript)
        return opened

    async def _with_token(
        self, token: TokenAnswer, host: Host, needs: Needs, watch: TlsWatch, transcript: Transcript
    ) -> Connection | Unopened:
        if not isinstance(needs.credentials, Credentials):
            raise TypeError("a token without somebody whose it is")
        name = needs.credentials.oauth
        match token:
            case Token(access):
                credentials = replace(needs.credentials, password=access)
                return await self._open(host, needs, credentials, watch, transcript)
            case Dead(why):
                text = f"the OAuth authorisation {name} has ended ({why}); log in with `waypost oauth login {name}`"
                transcript.add(self._ends.clock.monotonic(), "*", text)
                cause = PolicyRefused(text, EnhancedStatus(4, 7, 0))
                return Unopened(deferred(cause), authorisation_ended=True)
            case Unavailable(why):
                text = f"no access token for the OAuth authorisation {name}: {why}"
                transcript.add(self._ends.clock.monotonic(), "*", text)
                return Unopened(deferred(PolicyRefused(text, EnhancedStatus(4, 7, 0))))
            case _:
                assert_never(token)

    async def _open(
        self,
        host: Host,
        needs: Needs,
        credentials: Credentials | NoCredentials,
        watch: TlsWatch,
        transcript: Transcript,
    ) -> Connection | Unopened:
        """A session on the first connection, or on one the tables allow after it."""
        context = self._contexts.of(needs.tls.level, needs.manner)
        if isinstance(context, NotShown):
            transcript.add(self._ends.clock.monotonic(), "*", context.why)
            return Unopened(deferred(LocalTrouble(context.why)), our_fault=True)
        approach = self._first(host, needs)
        while True:
            opened = await open_connection(
                host,
                approach,
                ends=self._ends,
                credentials=credentials,
                context=context,
                demand=needs.tls,
                transcript=transcript,
                manner=needs.manner,
                client=needs.client,
            )
            match opened:
                case Connection():
                    self._learn_success(opened)
                    watch.opened(opened)
                    return opened
                case NotDialled(fault):
                    return _not_dialled(host, fault)
                case NotOpened():
                    at = where(opened.stage, approach.opening, secured=opened.secured)
                    self._learn_failure(host, approach, opened, at)
                    watch.failed(host, at, opened)
                    follows = after(approach, at, slip_of(opened.failure))
                    if isinstance(follows, Step):
                        return Unopened(
                            _meaning(host, needs, approach, opened, at),
                            follows is Step.HOLD_ROUTE,
                            lacks_tls=needs.tls.level.is_strict and _lacks_tls(at, opened.failure),
                        )
                    transcript.add(self._ends.clock.monotonic(), "*", f"{at.value} failed: {follows.taken[-1].value}")
                    approach = follows
                case _:
                    assert_never(opened)

    def _first(self, host: Host, needs: Needs) -> Approach:
        if needs.lmtp:
            return lmtp_approach()
        if host.implicit_tls:
            needed = bool(needs.without_tls) or needs.manner.fallback is HeloFallback.NEVER
            return implicit_tls_approach(self._memory.recall(host.endpoint), needs_extension=needed)
        return first_approach(
            needs.tls.level,
            self._memory.recall(host.endpoint),
            needs_extension=bool(needs.extension),
            fallback=needs.manner.fallback,
        )

    def _learn_success(self, connection: Connection) -> None:
        endpoint, approach = connection.host.endpoint, connection.approach
        if connection.starttls_offered:
            self._memory.note(endpoint, Habit.OFFERED_STARTTLS)
        elif Step.HELO_NEW_CONNECTION in approach.taken:
            self._memory.note(endpoint, Habit.HELO_ONLY)
        elif connection.extensions.offered:
            self._memory.opened_with_ehlo(endpoint)
        # HELO by memory alone does not renew the memory: when it expires, EHLO is tried again.

    def _learn_failure(self, host: Host, approach: Approach, failed: NotOpened, at: At) -> None:
        if failed.starttls_offered:
            self._memory.note(host.endpoint, Habit.OFFERED_STARTTLS)
        elif at is At.HELO and not approach.taken:  # what was remembered no longer helps
            self._memory.note(host.endpoint, Habit.UNKNOWN)


def _not_dialled(host: Host, fault: Fault) -> Unopened:
    if fault.kind is FaultKind.LOCAL:
        return Unopened(
            deferred(LocalTrouble(f"no connection to {host} could be made: {fault.detail}")), our_fault=True
        )
    return Unopened(deferred(NotConnected(host, fault)))


def _cause(host: Host, failed: NotOpened) -> Cause:
    stage = failed.stage.value
    match failed.failure:
        case Fault() as fault:
            return ConnectionLost(host, stage, fault)
        case Violation(_, detail, heard):
            return Misbehaved(host, stage, f"{detail}: {heard}" if heard else detail)
        case PeerClosing(reply):
            return Answered(host, stage, reply)
        case OpeningRefused(_, reply, why):
            if reply.is_positive:
                return PolicyRefused(f"{host}: {why}; not downgraded", EnhancedStatus(4, 7, 4))
            return Answered(host, stage, reply)
        case _:
            assert_never(failed.failure)


#: Failures at EHLO that HELO might have mended, had the route or the host allowed it.
_MENDABLE: Final = {Slip.CUT, Slip.STALLED, Slip.GARBLED, Slip.PERMANENT, Slip.ODD}


#: Where it failed, and how, because the host knows no TLS.
_NO_TLS: Final = {
    (At.EHLO, Slip.PERMANENT),
    (At.EHLO, Slip.LACKING),
    (At.STARTTLS, Slip.PERMANENT),
    (At.STARTTLS, Slip.ODD),
}


def _lacks_tls(at: At, failure: Fault | Violation | PeerClosing | OpeningRefused) -> bool:
    if at is At.HANDSHAKE:
        return isinstance(failure, Fault) and failure.kind is FaultKind.TLS
    return (at, slip_of(failure)) in _NO_TLS


def _never_helo(needs: Needs) -> str:
    if needs.manner.fallback is HeloFallback.NEVER:
        return 'the route never says HELO (helo_fallback = "never")'
    return "this host has offered STARTTLS before, which HELO would give up"


def _meaning(host: Host, needs: Needs, approach: Approach, failed: NotOpened, at: At) -> Deferred:
    """What a failed opening means where no host is left; one that HELO might have mended says why it was not tried."""
    cause = _cause(host, failed)
    mendable = at in {At.EHLO, At.EHLO_AFTER_TLS} and slip_of(failed.failure) in _MENDABLE
    if not mendable or approach.opening is not Opening.EHLO_ONLY:
        return deferred(cause)
    reason = f"this needs {needs.extension}, which HELO cannot offer" if needs.extension else _never_helo(needs)
    status = EnhancedStatus(4, 6, 7) if needs.extension == "SMTPUTF8" else EnhancedStatus(4, 7, 4)
    return Deferred(PolicyRefused(f"{describe_cause(cause)}; {reason}; not downgraded", status), status)
