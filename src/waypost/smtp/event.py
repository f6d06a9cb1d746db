"""What the two sessions tell their callers: the events of `ServerSession`, then those of `ClientSession`.

An event marked (reply) waits: the caller answers with `session.reply(...)` before `next_event` may be called again. The
commands `Hello`, `Auth`, `Mail`, `Rcpt`, `Etrn`, `Atrn` and `Xclient` are such events too, and stand in command.py.

Not here: when an event comes (server.py, client.py), and what a caller makes of it (receive/, deliver/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from waypost.smtp.body import BodyFault
from waypost.smtp.command import Atrn, Auth, Etrn, Hello, Mail, Rcpt, Verb, Xclient
from waypost.smtp.extension import Extensions
from waypost.smtp.reply import Reply
from waypost.smtp.stage import Stage

# ---- of a server: what the client has said


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """(reply, or `challenge`) What the client answered to a challenge, decoded; shown by no repr, so never logged."""

    octets: bytes

    def __repr__(self) -> str:
        return "AuthResponse(…)"


@dataclass(frozen=True, slots=True)
class StartTls:
    """(reply) STARTTLS; 220 leads to TlsGranted, 454 says that TLS cannot be had now (RFC 3207 §4)."""


@dataclass(frozen=True, slots=True)
class TlsGranted:
    """220 to STARTTLS was queued: flush, do the handshake on the connection, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class DataStart:
    """(reply) DATA, or the first BDAT, with at least one accepted recipient; 354 opens the body.

    `chunked`: it was BDAT, whose client never hears the 354, and hears a refusal behind its chunk.
    """

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class DataChunk:
    """Octets of the body, as they are to be kept; under DATA the final CRLF is the last one's end."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class DataEnd:
    """(`replies` of them) The final dot or last chunk came. `size`: octets of the body.

    Under LMTP each accepted recipient is answered, in order; under PRDR too, and then the message as a whole.
    """

    size: int
    fault: BodyFault
    replies: int = 1


@dataclass(frozen=True, slots=True)
class TransactionReset:
    """RSET, or EHLO again: whatever the transaction had gathered is to be forgotten. Already answered."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The session itself refused a command (syntax, order, length); already answered. For the log and counters."""

    line: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Closing:
    """QUIT was answered 221, or too many errors 421: flush, then close. `reason` is for the log."""

    reason: str

    @property
    def is_asked(self) -> bool:
        """Whether the client asked for it, and so has no more to say."""
        return self.reason == Verb.QUIT.value


@dataclass(frozen=True, slots=True)
class Turned:
    """250 to ATRN was queued: flush; the connection is the caller's from then on, and the client is the server."""


@dataclass(frozen=True, slots=True)
class NeedOctets:
    """Nothing more can be told from what came so far: flush, then read."""


#: Those that wait for a reply.
Request: TypeAlias = Hello | Etrn | Atrn | Xclient | StartTls | Auth | AuthResponse | Mail | Rcpt | DataStart | DataEnd

Event: TypeAlias = Request | TlsGranted | Turned | DataChunk | TransactionReset | Refused | Closing | NeedOctets

# Those that say the same each time are made once.
START_TLS: Final = StartTls()
TLS_GRANTED: Final = TlsGranted()
DATA_START: Final = DataStart()
CHUNKS_START: Final = DataStart(chunked=True)
TRANSACTION_RESET: Final = TransactionReset()
TURNED: Final = Turned()
NEED_OCTETS: Final = NeedOctets()


# ---- of a client: what the server has answered


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
class ChunkDue:
    """All recipients are answered, and the body may go by BDAT: `send_body`, then `end_body`."""


@dataclass(frozen=True, slots=True)
class DotAnswered:
    """The reply to the final dot or the last chunk: for all accepted recipients, or under LMTP for one alone."""

    reply: Reply
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """The reply to `ask`; READY again."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """Nothing of the transaction (or `reset`) is outstanding any more; at READY again if the session can be reused."""

    reusable: bool


@dataclass(frozen=True, slots=True)
class PeerClosing:
    """421 or 521-like words outside their turn, or any reply nobody asked for: the session is over."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Violation:
    """What came is no reply, or one that cannot come here: the session is over. `heard`: a short excerpt."""

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
    | ChunkDue
    | DotAnswered
    | Asked
    | TransactionEnded
    | PeerClosing
    | Violation
)
