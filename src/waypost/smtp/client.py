"""The client's side of a session: the opening (greeting, EHLO or HELO, STARTTLS, AUTH) and transactions.

INTERFACE SKETCH (the engine's author replaces this text): octets in through `receive`, which returns the events
they complete; octets out through `octets_to_send`. `awaiting` tells which reply is due, and so which time-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from waypost.smtp.extension import Extensions, MailParameters, RcptParameters
from waypost.smtp.path import ForwardPath, ReversePath
from waypost.smtp.reply import Reply


class Stage(Enum):
    """Where a session stands: the reply it waits for, or what it is free to do. Time-outs are chosen by it."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    AUTH = "AUTH"
    READY = "ready"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "body"
    DOT = "final dot"
    RSET = "RSET"
    QUIT = "QUIT"
    CLOSED = "closed"


class Opening(Enum):
    """Which table opens the session. Policy chooses one; it is never a flag in the loop."""

    EHLO_THEN_HELO = "EHLO, HELO where it is refused"
    EHLO_ONLY = "EHLO, never HELO: the route needs an extension"
    HELO_FIRST = "HELO, for a host that failed on EHLO"
    LHLO = "LHLO (LMTP, RFC 2033)"


class Tls(Enum):
    """What the session does about STARTTLS in its opening."""

    NEVER = "never"
    IF_OFFERED = "if offered"
    REQUIRED = "required"
    ALREADY = "already"  # implicit TLS


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH PLAIN or LOGIN; never shown by repr, so never logged."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class NoCredentials:
    """The route does not authenticate."""


# ---- events
@dataclass(frozen=True, slots=True)
class Opened:
    """READY: a transaction may begin."""

    extensions: Extensions


@dataclass(frozen=True, slots=True)
class OpeningRefused:
    """The peer's reply, or a lack (no STARTTLS, no mechanism of ours), ended the opening; QUIT has been queued.

    `why` is a sentence for the log; `reply` is what the peer last said at `stage`.
    """

    stage: Stage
    reply: Reply
    why: str


@dataclass(frozen=True, slots=True)
class HandshakeDue:
    """220 to STARTTLS: do the handshake on the connection, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class MailAnswered:
    """The reply to MAIL."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class RcptAnswered:
    """The reply to the RCPT of recipient `index` (0 is the first)."""

    index: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class DataAnswered:
    """The reply to DATA. After 354 with a recipient accepted the body is due: `send_body`, then `end_body`."""

    reply: Reply
    body_due: bool


@dataclass(frozen=True, slots=True)
class DotAnswered:
    """The reply to the final dot: for all accepted recipients, or under LMTP for recipient `index` alone."""

    reply: Reply
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """Nothing of the transaction is outstanding any more; at READY again if the session can be reused."""

    reusable: bool


@dataclass(frozen=True, slots=True)
class PeerClosing:
    """421 or 521-like words outside their turn, or any reply nobody asked for: the session is over."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Violation:
    """What came is no reply (garbage, over-long, endless, mixed codes): the session is over. `heard`: a short excerpt."""

    stage: Stage
    detail: str
    heard: str


ClientEvent: TypeAlias = (
    Opened
    | OpeningRefused
    | HandshakeDue
    | MailAnswered
    | RcptAnswered
    | DataAnswered
    | DotAnswered
    | TransactionEnded
    | PeerClosing
    | Violation
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One MAIL with its recipients. Parameters the peer did not offer are left out by the session."""

    reverse_path: ReversePath
    parameters: MailParameters
    recipients: Sequence[tuple[ForwardPath, RcptParameters]]


class ClientSession:
    """One session with one host, from its greeting to QUIT, over any number of transactions."""

    def __init__(
        self,
        hello_name: str,
        *,
        opening: Opening = Opening.EHLO_THEN_HELO,
        tls: Tls = Tls.NEVER,
        credentials: Credentials | NoCredentials = NoCredentials(),
    ) -> None: ...

    @property
    def awaiting(self) -> Stage:
        """Whose reply is due (or READY, BODY, CLOSED)."""

    @property
    def extensions(self) -> Extensions:
        """What the last EHLO offered."""

    def receive(self, octets: bytes) -> Sequence[ClientEvent]:
        """The events that `octets`, in any segmentation, complete. Never raises: a bad peer is a Violation."""

    def tls_started(self) -> None:
        """The handshake is done: forget all the peer said before it (RFC 3207 §4.2), say EHLO again."""

    def begin(self, transaction: Transaction) -> None:
        """Say MAIL; with PIPELINING also every RCPT and DATA at once (RFC 2920). Only at READY."""

    def send_body(self, octets: bytes) -> bytes:
        """`octets` dot-stuffed, ready to be written; chunks may be cut anywhere. Only at BODY."""

    def end_body(self) -> bytes:
        """The final dot (with a CRLF before it where the body lacks one). From here on a loss is in doubt."""

    def reset(self) -> None:
        """Say RSET, to see whether an idle connection still lives."""

    def quit(self) -> None:
        """Say QUIT; nobody waits for the answer."""

    def octets_to_send(self) -> bytes:
        """What is to be written now, once; empty when nothing is."""
