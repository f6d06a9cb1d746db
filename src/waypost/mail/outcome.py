"""What became of one recipient in one attempt. Values: each holds what was known then, and nothing that might be NULL.

Every consumer is a `match` that ends in `assert_never`: no cause can be forgotten, as routing once was on a lost EHLO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from waypost.net.clock import Instant
from waypost.net.stream import Endpoint, Fault
from waypost.smtp.reply import EnhancedStatus, Reply


@dataclass(frozen=True, slots=True)
class Host:
    """One address of a next hop: the name it was found under (or its literal), and where we connect."""

    name: str
    endpoint: Endpoint
    implicit_tls: bool = False  # TLS from the first octet

    def __str__(self) -> str:
        return f"{self.name}[{self.endpoint}]"


# ---- causes
@dataclass(frozen=True, slots=True)
class Answered:
    """The peer said so. `stage` is the command it answered ("RCPT", "final dot")."""

    host: Host
    stage: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class NotConnected:
    """No connection came to be."""

    host: Host
    fault: Fault


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection broke while `stage` was waited for or sent."""

    host: Host
    stage: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The peer sent something that is no SMTP reply."""

    host: Host
    stage: str
    detail: str


@dataclass(frozen=True, slots=True)
class NoSuchHost:
    """DNS says with authority that there is nowhere to go (NXDOMAIN, null MX, only ourselves left)."""

    domain: str
    detail: str
    status: EnhancedStatus


@dataclass(frozen=True, slots=True)
class DnsFailed:
    """DNS gave no usable answer."""

    domain: str
    detail: str


@dataclass(frozen=True, slots=True)
class PolicyRefused:
    """A rule of ours: a route that refuses, an extension the next hop lacks. `detail` is a sentence."""

    detail: str
    status: EnhancedStatus


@dataclass(frozen=True, slots=True)
class LocalTrouble:
    """Something on this machine: a Maildir that cannot be written, an unreadable spool, a bug. `detail` names it."""

    detail: str


@dataclass(frozen=True, slots=True)
class HttpAnswered:
    """A webhook answered so. `where`: its host; `said`: the beginning of what it said, on one line."""

    where: str
    status: int
    said: str


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """A program that was to take the message ended so: `how` is a phrase ("exit status 75, try again later")."""

    program: str
    how: str
    said: str


@dataclass(frozen=True, slots=True)
class Expired:
    """Time is up. `after` says how long was tried, in words; `last` is what came of the last attempt."""

    after: str
    last: Deferred | InDoubt


Cause: TypeAlias = (
    Answered
    | NotConnected
    | ConnectionLost
    | Misbehaved
    | NoSuchHost
    | DnsFailed
    | PolicyRefused
    | LocalTrouble
    | HttpAnswered
    | ProgramEnded
    | Expired
)


# ---- outcomes
@dataclass(frozen=True, slots=True)
class Delivered:
    """Responsibility has passed on. `where` is for a reader; `relayed_without_dsn`: the next hop knows no RFC 3461.

    `final`: we were the last to carry it (Maildir, capture, LMTP), so that a report of success is ours to make.
    `traced`: it had a time to be delivered by, and its author is to hear that another has it now (RFC 2852).
    `expanded`: it was an alias, and goes on to several recipients who are nobody else's to hear of (RFC 3461 §5.2.7).
    """

    where: str
    reply: Reply
    relayed_without_dsn: bool = False
    final: bool = False
    traced: bool = False
    expanded: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: the recipient stays queued. `not_before`: when trying again makes sense, where somebody said so."""

    cause: Cause
    status: EnhancedStatus
    not_before: Instant = 0.0


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never: a report is due."""

    cause: Cause
    status: EnhancedStatus


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The final dot went out and no reply came: the host may hold the message. Deferred; no other host is asked now."""

    host: Host
    fault: Fault


Outcome: TypeAlias = Delivered | Deferred | Rejected | InDoubt
