"""The server's side of a session: what a client says, what may be said when, and the replies that are ours alone.

INTERFACE SKETCH (the engine's author replaces this text): octets in through `receive`, events out through
`next_event`, replies in through `reply`, octets out through `octets_to_send`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.path import ForwardPath, ReversePath
from waypost.smtp.reply import Reply


# ---- events. Those marked (reply) wait for `session.reply(...)` before `next_event` may be called again.
@dataclass(frozen=True, slots=True)
class Hello:
    """(reply) EHLO, HELO or LHLO. Answer with `session.hello_reply()` to accept, or any 4yz/5yz to refuse."""

    verb: str
    client_name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """(reply) MAIL FROM."""

    reverse_path: ReversePath
    parameters: MailParameters


@dataclass(frozen=True, slots=True)
class Rcpt:
    """(reply) RCPT TO."""

    forward_path: ForwardPath
    parameters: RcptParameters


@dataclass(frozen=True, slots=True)
class DataStart:
    """(reply) DATA with at least one accepted recipient; 354 opens the body."""


@dataclass(frozen=True, slots=True)
class DataChunk:
    """Octets of the body, dot-stuffing removed; the final CRLF is the last chunk's end."""

    octets: bytes


class BodyFault(Enum):
    """Why a body cannot be taken, though it was read to its true end so that the dialogue stays in step."""

    NONE = auto()
    BARE_NEWLINE = auto()  # a CR or LF not part of CRLF: SMTP smuggling
    TOO_LARGE = auto()  # beyond the session's size limit; octets past it were thrown away
    LINE_TOO_LONG = auto()
    NUL = auto()


@dataclass(frozen=True, slots=True)
class DataEnd:
    """(reply; under LMTP one a recipient, in order) The final dot came. `size`: octets of the body."""

    size: int
    fault: BodyFault


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


@dataclass(frozen=True, slots=True)
class NeedOctets:
    """Nothing more can be told from what came so far: flush, then read."""


Event: TypeAlias = (
    Hello | Mail | Rcpt | DataStart | DataChunk | DataEnd | TransactionReset | Refused | Closing | NeedOctets
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a listener offers and allows. Sizes in octets. The engine's author adds limits with their origin."""

    hostname: str
    size_limit: int = 50 * 1024 * 1024
    lmtp: bool = False
    smtputf8: bool = True
    dsn: bool = True
    max_recipients: int = 1000
    max_errors: int = 20


class ServerSession:
    """One client's session, from the banner to its end."""

    def __init__(self, settings: ServerSettings) -> None: ...

    def greet(self, reply: Reply) -> None:
        """Open with the banner: 220, or 421/554 to turn the client away (then only QUIT is taken)."""

    def receive(self, octets: bytes) -> None:
        """Take what was read, in any segmentation."""

    def next_event(self) -> Event:
        """The next event. Raises: LocalProtocolError, when the last event still waits for its reply."""

    def hello_reply(self) -> Reply:
        """The 250 that accepts a Hello, with the extensions on offer."""

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits. The code decides the state: a refused MAIL opens no transaction."""

    def say_goodbye(self, reply: Reply) -> None:
        """Close from our side, unasked: 421 on time-out or shutdown (RFC 5321 §3.8)."""

    def octets_to_send(self) -> bytes:
        """What is to be written now, once; empty when nothing is."""
