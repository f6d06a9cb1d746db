"""What hooks are asked and what they may answer: frozen values, and nothing that could change the service by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from enum import Enum
from typing import TypeAlias

from waypost.mail.envelope import MessageId, NextHop
from waypost.mail.header import first_field, header_of
from waypost.mail.outcome import Outcome
from waypost.smtp.path import ForwardPath, Mailbox, ReversePath
from waypost.smtp.reply import EnhancedStatus, Reply


class Point(Enum):
    """When a hook is asked; the value is the name of its coroutine."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    ROUTE = "route"
    DATA = "data"
    BEFORE_DELIVERY = "before_delivery"
    AFTER_OUTCOME = "after_outcome"


# ---- what is asked
@dataclass(frozen=True, slots=True)
class Client:
    """Who brings mail. `host`: its numeric address, "" for a program on this machine; `name`: what it said in EHLO.

    `account`: who has logged in, "" for nobody; `tls`: version and cipher suite, "" in clear; `listener`: where it is.
    `rehearsal`: there is no client: somebody asks what would become of such a message (`waypost explain`).
    """

    host: str = ""
    name: str = ""
    account: str = ""
    tls: str = ""
    listener: str = ""
    rehearsal: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """A client has connected, and was not greeted yet."""

    client: Client


@dataclass(frozen=True, slots=True)
class MailFrom:
    """A client wants to send. `size`: the octets it has announced, 0 for none."""

    client: Client
    reverse_path: ReversePath
    size: int = 0


@dataclass(frozen=True, slots=True)
class RcptTo:
    """A client names a recipient."""

    client: Client
    reverse_path: ReversePath
    forward_path: ForwardPath


@dataclass(frozen=True, slots=True)
class Routing:
    """A recipient, after aliases were followed, and the route it would take: its name, and its next hop's key."""

    client: Client
    reverse_path: ReversePath
    forward_path: ForwardPath
    route: str
    next_hop: NextHop


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came: its lines end in CRLF, and our trace is not yet on top of it."""

    octets: bytes

    @property
    def header(self) -> bytes:
        """The header section, without the empty line behind it."""
        return header_of(self.octets)

    @property
    def body(self) -> bytes:
        """All behind the empty line."""
        return self.octets[len(self.header) + 2 :]

    def field(self, name: str) -> str:
        """The first field of that name as a person reads it, unfolded and decoded (RFC 2047); "": there is none."""
        raw = first_field(self.header, name.lower().encode("ascii", "ignore")).decode("utf-8", "replace")
        try:
            return str(make_header(decode_header(raw)))
        except (LookupError, ValueError):  # a charset nobody knows, or what is no encoding
            return raw


@dataclass(frozen=True, slots=True)
class Data:
    """A whole message, about to be taken. `quarantine` and `tags`: what a hook before this one has decided."""

    client: Client
    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    message: Message
    quarantine: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt that is about to begin. `attempts`: those that ended before, for the recipient with the most."""

    id: MessageId
    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    next_hop: NextHop
    attempts: int
    size: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended and is written down: what became of each recipient."""

    id: MessageId
    reverse_path: ReversePath
    next_hop: NextHop
    outcomes: tuple[tuple[ForwardPath, Outcome], ...]


Event: TypeAlias = Connect | MailFrom | RcptTo | Routing | Data | Delivery | Ended


# ---- what is answered
@dataclass(frozen=True, slots=True)
class Pass:
    """Go on."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, for good: the client hears a 5yz. Raises: ValueError, where `code` or `status` is not of that class."""

    text: str
    code: int = 550
    status: str = "5.7.1"

    def __post_init__(self) -> None:
        _judge(self.code, self.status, 5)

    @property
    def reply(self) -> Reply:
        """As the client hears it."""
        return _reply(self.code, self.status, self.text)


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now: the client hears a 4yz, and comes again. Raises: ValueError, as Refuse does."""

    text: str
    code: int = 451
    status: str = "4.7.1"

    def __post_init__(self) -> None:
        _judge(self.code, self.status, 4)

    @property
    def reply(self) -> Reply:
        """As the client hears it."""
        return _reply(self.code, self.status, self.text)


@dataclass(frozen=True, slots=True)
class Redirect:
    """These instead of the recipient, at least one. Each is looked up and routed as if the client had named it."""

    to: tuple[Mailbox, ...]


@dataclass(frozen=True, slots=True)
class Via:
    """The route of that name instead."""

    route: str


@dataclass(frozen=True, slots=True)
class Change:
    """Take the message, but changed.

    In this order:

    `remove`: names of fields, each with all that have it; `rename`: old name → new; `add`: fields put on top, in order;
    `body`: all behind the header, in place of what is there, or () for no change; `drop` and `also`: recipients who
    do not get it, and others who do, unseen; `quarantine`: the route without domains that all go by instead;
    `tags`: words for a field X-Waypost-Tags, which hooks and routes further on can read.
    """

    remove: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    add: tuple[tuple[str, str], ...] = ()
    body: bytes | tuple[()] = ()
    drop: tuple[ForwardPath, ...] = ()
    also: tuple[Mailbox, ...] = ()
    quarantine: str = ""
    tags: tuple[str, ...] = ()


Turned: TypeAlias = Refuse | Defer
Verdict: TypeAlias = Pass | Refuse | Defer | Redirect | Via | Change

#: What may be answered when.
ALLOWED: dict[Point, tuple[type, ...]] = {
    Point.CONNECT: (Pass, Refuse, Defer),
    Point.MAIL: (Pass, Refuse, Defer),
    Point.RCPT: (Pass, Refuse, Defer, Redirect),
    Point.ROUTE: (Pass, Refuse, Defer, Via),
    Point.DATA: (Pass, Refuse, Defer, Change),
    Point.BEFORE_DELIVERY: (Pass, Refuse, Defer),
    Point.AFTER_OUTCOME: (Pass,),
}


def _judge(code: int, status: str, kind: int) -> None:
    if code // 100 != kind or not status.startswith(f"{kind}."):
        raise ValueError(f"{code} {status} is no {kind}yz; write such as {kind}50 and {kind}.7.1")


def _reply(code: int, status: str, text: str) -> Reply:
    words = "".join(char if " " <= char <= "~" else "?" for char in text)[:400]
    return Reply.of(code, status, words)


def status_of(turned: Turned) -> EnhancedStatus:
    """The enhanced status code of a verdict, for an outcome."""
    return turned.reply.status
