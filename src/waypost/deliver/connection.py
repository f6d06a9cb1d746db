"""One session with one host: the stream, the engine that speaks over it, and a tap that writes the dialogue down.

Every wait ends: each reply has the time-out of its stage (RFC 5321 §4.5.3.2) as an absolute deadline, so that a reply
that drips in is cut off as one that never comes.

Not here: what follows when a session cannot be opened (opening.py, opener.py) or a transaction fails (transaction.py).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never

from waypost.auth.client import mechanisms
from waypost.deliver.opening import Approach
from waypost.mail.attempt import Transcript
from waypost.mail.outcome import Host
from waypost.net import dane
from waypost.net.binding import bindings_of
from waypost.net.clock import Clock, Instant
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault, FaultKind, Flushed, Stream
from waypost.net.tls import TlsFacts
from waypost.route.level import TlsDemand, TlsLevel
from waypost.route.route import AS_OURSELVES, Manner
from waypost.smtp.client import Attributes, ClientSession
from waypost.smtp.event import (
    Asked,
    ChunkDue,
    ClientEvent,
    DataAnswered,
    DotAnswered,
    HandshakeDue,
    MailAnswered,
    Opened,
    OpeningRefused,
    PeerClosing,
    RcptAnswered,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import Extensions
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.stage import Stage


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """How long each step may take; the defaults are the minima of RFC 5321 §4.5.3.2, or ours where it names none."""

    connect: timedelta = timedelta(seconds=30)
    greeting: timedelta = timedelta(minutes=5)
    hello: timedelta = timedelta(minutes=5)
    starttls: timedelta = timedelta(minutes=2)
    handshake: timedelta = timedelta(seconds=60)
    auth: timedelta = timedelta(minutes=2)
    mail: timedelta = timedelta(minutes=5)
    rcpt: timedelta = timedelta(minutes=5)
    data: timedelta = timedelta(minutes=2)
    block: timedelta = timedelta(minutes=3)
    #: A spurious time-out here makes copies (RFC 1047), so it is long.
    dot: timedelta = timedelta(minutes=10)
    rset: timedelta = timedelta(seconds=20)
    quit: timedelta = timedelta(seconds=5)

    def of(self, stage: Stage) -> timedelta:
        """How long the reply awaited at `stage` may take."""
        name = _TIME_OUT_OF.get(stage, "mail")
        found: timedelta = getattr(self, name)
        return found


_TIME_OUT_OF: Final = {
    Stage.GREETING: "greeting",
    Stage.EHLO: "hello",
    Stage.HELO: "hello",
    Stage.LHLO: "hello",
    Stage.STARTTLS: "starttls",
    Stage.HANDSHAKE: "handshake",
    Stage.XCLIENT: "hello",
    Stage.AUTH: "auth",
    Stage.MAIL: "mail",
    Stage.RCPT: "rcpt",
    Stage.DATA: "data",
    Stage.BODY: "block",
    Stage.DOT: "dot",
    Stage.RSET: "rset",
    Stage.QUIT: "quit",
}

#: Where only the connection is lost by giving it up (it was kept, and may be dead without a sign; or all that is due is
#: the reply to RSET), a reply has this long, or `SLOWER` times what the slowest one on it took so far.
SOON: Final = timedelta(seconds=1)
SLOWER: Final = 10

#: Characters of a line that has not ended yet which the tap keeps back; more of it is written down as it comes.
_TAP: Final = Transcript.WIDTH


class Connection:
    """An SMTP or LMTP session. One attempt at a time uses it, and lends it its transcript for that time."""

    __slots__ = (
        "_clock",
        "_partial",
        "_slowest",
        "_time_outs",
        "approach",
        "awaited",
        "bindings",
        "host",
        "idle_since",
        "opened_at",
        "place",
        "secured",
        "session",
        "starttls_offered",
        "stream",
        "transactions",
        "transcript",
    )

    def __init__(
        self,
        host: Host,
        stream: Stream,
        session: ClientSession,
        *,
        approach: Approach,
        clock: Clock,
        time_outs: TimeOuts,
        transcript: Transcript,
        bindings: dict[str, bytes],
    ) -> None:
        self.host = host
        #: The host as a log names it.
        self.place = str(host)
        self.stream = stream
        self.session = session
        self.approach = approach
        self.transcript = transcript
        self.opened_at = clock.monotonic()
        self.idle_since = self.opened_at
        #: The stage whose reply was waited for last.
        self.awaited = session.awaiting
        #: Transactions begun on it so far.
        self.transactions = 0
        self.secured = False
        #: Whether any EHLO reply here offered STARTTLS; what TLS hides afterwards does not unsay it.
        self.starttls_offered = False
        #: What ties a login to this connection (RFC 5929), once it is under TLS.
        self.bindings = bindings
        self._clock = clock
        self._time_outs = time_outs
        self._partial = b""
        self._slowest = 0.0  # seconds that a reply took

    @property
    def extensions(self) -> Extensions:
        """What its last EHLO offered."""
        return self.session.extensions

    def say(self) -> None:
        """Write what the session wants said."""
        octets = self.session.octets_to_send()
        if octets:
            self.stream.write(octets)
            self._note_said(self._clock.monotonic())

    async def hear(self, *, soon: bool = False) -> Sequence[ClientEvent] | Fault:
        """Say what is to be said, then wait for the next events; a Fault where the reply due does not come in time.

        `soon`: the time is short (`SOON`).
        """
        session, clock = self.session, self._clock
        stage = self.awaited = session.awaiting
        within = whole = self._short(stage) if soon else self._time_outs.of(stage)
        began = clock.monotonic()
        while True:
            self.say()
            octets = await self.stream.read(within)
            if isinstance(octets, Fault):
                return self._lost(_too_late(whole) if octets.kind is FaultKind.TIMED_OUT else octets)
            now = clock.monotonic()
            events = self._take(octets, now)
            if events:
                self._slowest = max(self._slowest, now - began)
                return events
            if session.awaiting is not stage:  # a reply ended that is no event: the greeting, an AUTH challenge …
                stage = self.awaited = session.awaiting
                whole = self._time_outs.of(stage)
                began = now
            within = whole - timedelta(seconds=now - began)
            if within <= timedelta():
                return self._lost(_too_late(whole))

    def _short(self, stage: Stage) -> timedelta:
        """The time for a reply that only the connection depends on; never more than RSET has."""
        return min(
            self._time_outs.of(stage), self._time_outs.rset, max(SOON, SLOWER * timedelta(seconds=self._slowest))
        )

    async def overhear(self) -> Sequence[ClientEvent] | Fault:
        """The events of what has come already, without waiting: a peer may refuse a body while it is being sent."""
        come = self.stream.pending()
        if isinstance(come, bytes):
            come = await self.stream.read(self._time_outs.block)
        if isinstance(come, Flushed):
            return ()
        return self._lost(come) if isinstance(come, Fault) else self._take(come, self._clock.monotonic())

    async def send(self, octets: bytes) -> Flushed | Fault:
        """Write part of a body; waits while the peer takes none."""
        self.awaited = Stage.BODY
        self.stream.write(octets)
        flushed = await self.stream.flush(self._time_outs.block)
        return flushed if isinstance(flushed, Flushed) else self._lost(flushed)

    def send_last(self, octets: bytes, size: int) -> None:
        """Write the end of a body of `size` octets, with its final dot; the reply is waited for by `hear`."""
        self.stream.write(octets)
        at = self._clock.monotonic()
        self.transcript.add(at, "*", f"body of {size} octets sent")
        self._note_said(at)

    async def handshake(self, dialer: Dialer, context: ssl.SSLContext, demand: TlsDemand) -> Flushed | Fault:
        """Take the connection into TLS, after 220 to STARTTLS or before the first octet; what DANE pins is verified."""
        name = demand.names[0] if demand.names else self.host.name
        stream = await dialer.start_tls(self.stream, context, name, self._time_outs.handshake)
        if isinstance(stream, Fault):
            return self._lost(stream)
        self.stream = stream
        if demand.level is TlsLevel.DANE:
            verdict = dane.verify(_shown(stream), demand.tlsa, demand.names, self._clock.now())
            if isinstance(verdict, dane.Mismatched):
                return self._lost(Fault(FaultKind.TLS, f"DANE: {verdict.detail}"))
            self.note(f"the certificate is the one that TLSA {verdict.record} names")
        self.secured = True
        self.bindings.update(bindings_of(stream.tls))
        self.note("TLS started")
        return Flushed()

    @property
    def now(self) -> Instant:
        """The time of day."""
        return self._clock.now()

    def note(self, text: str) -> None:
        """Write down what happened beside the dialogue."""
        self.transcript.add(self._clock.monotonic(), "*", text)

    def abort(self) -> None:
        """Drop the connection: it is dead, or out of step."""
        self.stream.abort()

    async def leave(self) -> None:
        """Say QUIT where the session still stands, and close; its answer is not waited for."""
        if self.session.awaiting is Stage.READY:
            self.session.quit()
        self.say()
        await self.stream.close()

    def _take(self, octets: bytes, at: float) -> Sequence[ClientEvent]:
        self._note_heard(octets, at)
        return self.session.receive(octets)

    def _lost(self, fault: Fault) -> Fault:
        if self._partial:
            self._note_heard(b"\n", self._clock.monotonic())
        self.note(f"{self.session.awaiting.value}: {fault}")
        return fault

    def _note_said(self, at: float) -> None:
        said = self.session.said()  # the engine leaves secrets out
        if said:
            self.transcript.add(at, "C", "\n".join(said))

    def _note_heard(self, octets: bytes, at: float) -> None:
        """Write down what the peer said as it said it, in whole lines: also what is no reply."""
        whole, newline, rest = (self._partial + octets).rpartition(b"\n")
        if len(rest) > _TAP:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._partial = rest
        if newline:
            text = whole.decode("utf-8", "backslashreplace")
            self.transcript.add(at, "S", text.replace("\r\n", "\n").rstrip("\r"))


def _too_late(within: timedelta) -> Fault:
    return Fault(FaultKind.TIMED_OUT, f"no whole reply within {within.total_seconds():g} s")


def _shown(stream: Stream) -> tuple[bytes, ...]:
    """The certificates the server showed, its own first."""
    tls = stream.tls
    return tls.certificates if isinstance(tls, TlsFacts) else ()


@dataclass(frozen=True, slots=True)
class NotDialled:
    """No connection came to be."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class NotOpened:
    """A connection came to be, but no session: `failure` says how it ended, while at `stage`."""

    stage: Stage
    failure: Fault | Violation | PeerClosing | OpeningRefused
    secured: bool
    starttls_offered: bool


@dataclass(frozen=True, slots=True)
class Ends:
    """What every connection of a service shares."""

    dialer: Dialer
    clock: Clock
    hello_name: str
    time_outs: TimeOuts


async def open_connection(
    host: Host,
    approach: Approach,
    *,
    ends: Ends,
    credentials: Credentials | NoCredentials,
    context: ssl.SSLContext,
    demand: TlsDemand,
    transcript: Transcript,
    manner: Manner = AS_OURSELVES,
    client: Attributes = (),
) -> Connection | NotDialled | NotOpened:
    """One connection to `host` and the opening of its session, tried once; whatever fails is closed.

    `client`: whose mail it carries, where the host is to hear that by XCLIENT.
    """
    source = manner.source(host.endpoint.host) if manner.sources else ""
    transcript.add(ends.clock.monotonic(), "*", f"connecting to {host}{f' from {source}' if source else ''}")
    stream = await ends.dialer.dial(host.endpoint, ends.time_outs.connect, source)
    if isinstance(stream, Fault):
        transcript.add(ends.clock.monotonic(), "*", f"not connected: {stream}")
        return NotDialled(stream)
    bindings: dict[str, bytes] = {}
    session = ClientSession(
        manner.helo or ends.hello_name,
        opening=approach.opening,
        tls=approach.tls,
        credentials=credentials,
        mechanisms=lambda who: mechanisms(who, bindings, Endpoint(host.name, host.endpoint.port)),
        client=client,
    )
    connection = Connection(
        host,
        stream,
        session,
        approach=approach,
        clock=ends.clock,
        time_outs=ends.time_outs,
        transcript=transcript,
        bindings=bindings,
    )
    try:
        return await _open_session(connection, ends.dialer, context, demand)
    except BaseException:
        connection.abort()
        raise


async def _open_session(
    connection: Connection, dialer: Dialer, context: ssl.SSLContext, demand: TlsDemand
) -> Connection | NotOpened:
    if connection.host.implicit_tls:
        secured = await connection.handshake(dialer, context, demand)
        if isinstance(secured, Fault):
            return await _not_opened(connection, Stage.HANDSHAKE, secured)
    while True:
        heard = await connection.hear()
        connection.starttls_offered |= "STARTTLS" in connection.extensions
        if isinstance(heard, Fault):
            return await _not_opened(connection, connection.awaited, heard)
        for event in heard:
            match event:
                case Opened():
                    if connection.session.awaiting is Stage.READY:
                        return connection
                    # else the peer said more in the same breath, and the event behind this one tells how it ended
                case HandshakeDue():
                    secured = await connection.handshake(dialer, context, demand)
                    if isinstance(secured, Fault):
                        return await _not_opened(connection, Stage.HANDSHAKE, secured)
                    connection.session.tls_started()
                case Violation(stage, detail):
                    stage = connection.awaited if stage is Stage.READY else stage
                    connection.note(f"{stage.value}: {detail}")
                    return await _not_opened(connection, stage, event)
                case OpeningRefused(stage):
                    return await _not_opened(connection, stage, event)
                case PeerClosing():
                    return await _not_opened(connection, connection.awaited, event)
                case (
                    MailAnswered()
                    | RcptAnswered()
                    | DataAnswered()
                    | ChunkDue()
                    | DotAnswered()
                    | Asked()
                    | TransactionEnded()
                ):
                    raise AssertionError(f"{event} before a transaction was begun")
                case _:
                    assert_never(event)


async def _not_opened(
    connection: Connection, stage: Stage, failure: Fault | Violation | PeerClosing | OpeningRefused
) -> NotOpened:
    match failure:
        case OpeningRefused() | PeerClosing():
            await connection.leave()
        case Fault() | Violation():
            connection.abort()
        case _:
            assert_never(failure)
    return NotOpened(stage, failure, connection.secured, connection.starttls_offered)
