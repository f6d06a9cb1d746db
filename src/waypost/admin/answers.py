"""What administrators ask and what they are told, as values: one vocabulary for the API, the CLI and the page.

All can be written as JSON and read back (`to_json`, `from_json`); instants are seconds since 1970, sizes octets. Not
here: where questions are put (desk.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import msgspec

from waypost.mail.envelope import MessageId
from waypost.net.clock import Instant
from waypost.queue.frost import Frozen
from waypost.queue.storage import BinnedEntry, CapturedMessage, HistoryEvent, QueueEntry, Selection
from waypost.queue.watching import Watched
from waypost.route.state import DestinationState

Value = TypeVar("Value")

#: What can be done to recipients in the queue.
ACTIONS: Final = ("retry", "delete", "hold", "release", "bounce", "reroute")


class FailureKind(Enum):
    """Whose fault it is that a question went unanswered."""

    BAD_REQUEST = "bad request"  # the asker's
    NOT_FOUND = "not found"  # nobody's
    REFUSED = "refused"  # of who wrote what was to be put in force
    UNAUTHENTICATED = "unauthenticated"  # nobody knows who asks
    FORBIDDEN = "forbidden"  # the asker came by a way that is shut
    UNAVAILABLE = "unavailable"  # ours: the storage, the service, this machine


class OperationError(Exception):
    """What was asked cannot be done; `error` says why, `remedy` what to do about it, each a sentence."""

    def __init__(self, kind: FailureKind, error: str, remedy: str) -> None:
        super().__init__(f"{error} — {remedy}")
        self.kind = kind
        self.error = error
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """One address that takes mail."""

    role: str
    address: str


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What stays the same while the service runs. Where it does not, its configuration tells, and nothing listens."""

    version: str
    hostname: str
    spool: str
    durability: str
    listeners: tuple[ListenerFacts, ...]
    started_at: Instant
    is_running: bool = True
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """The service at a glance. `not_ready`: why it is not fit to serve, a sentence each; empty when it is.

    `warnings`: what somebody should see to, though it serves.
    """

    service: ServiceFacts
    at: Instant
    messages: int
    recipients: int
    held: int
    reports_due: int
    not_ready: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Queue entries in order; `next` is what to pass as `after` for those that follow, empty at the end."""

    entries: tuple[QueueEntry, ...]
    next: str


@dataclass(frozen=True, slots=True)
class Destinations:
    """Next hops the service has to do with at this moment, those in trouble first. `more`: there are others.

    Where no service runs, nothing is delivered, and there are none.
    """

    at: Instant
    is_running: bool
    destinations: tuple[DestinationState, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """Where a message came from: "with" of RFC 3848, the client's address, its EHLO name, the listener's address."""

    protocol: str
    client_host: str
    client_name: str
    listener: str


@dataclass(frozen=True, slots=True)
class QueuedDetail:
    """One message in the queue. `header`: its header section as text, cut at 64 KiB."""

    id: str
    reverse_path: str
    origin: OriginFacts
    received_at: Instant
    size: int
    entries: tuple[QueueEntry, ...]
    header: str


@dataclass(frozen=True, slots=True)
class ActBody:
    """What is asked for: which recipients (each field narrows), who asks, and why.

    `to`: for `reroute`, a next hop the route table knows, or a route's name. `dry_run`: only count. `limit` above 0:
    act on the messages of so many recipients after `after`, and say where to go on.
    """

    ids: tuple[MessageId, ...] = ()
    address: str = ""
    domain: str = ""
    next_hop: str = ""
    state: str = ""
    text: str = ""
    received_before: Instant = 0.0
    everything: bool = False
    by: str = "admin API"
    reason: str = ""
    to: str = ""
    dry_run: bool = False
    after: str = ""
    limit: int = 0

    @property
    def selection(self) -> Selection:
        """Which recipients are meant."""
        return Selection(
            self.ids, self.address, self.domain, self.next_hop, self.state, self.text, self.received_before
        )


@dataclass(frozen=True, slots=True)
class Acted:
    """How many recipients an operation changed, or with `dry_run` would.

    `next`: what to pass as `after` for those that follow; empty at the end.
    """

    action: str
    recipients: int
    dry_run: bool = False
    next: str = ""


@dataclass(frozen=True, slots=True)
class BinPage:
    """What operators took out of the queue, in order; `next` is what to pass as `after`, empty at the end."""

    entries: tuple[BinnedEntry, ...]
    next: str


class Limiting(Enum):
    """The one thing a recipient waits for."""

    IN_DELIVERY = "in delivery"
    NOT_RUNNING = "service"  # nothing is delivered
    HOLD = "hold"
    WINDOW = "window"  # its route delivers at times, and not now
    FROZEN = "frozen"
    AUTHORISATION = "authorisation"
    BREAKER = "breaker"  # its destination rests
    QUOTA = "quota"  # what may be sent by its route in a time is spent
    RATE = "rate"  # its route lets messages go one after another, at a pace
    CONCURRENCY = "concurrency"
    TURN = "turn"
    RELEASE = "release"  # its author wants it held until then (RFC 4865)
    DNS = "DNS"
    TLS = "TLS policy"
    ROUTE = "route"  # none leads there
    RETRY = "retry time"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why one recipient waits. `clears_at`: when that ends by itself; 0 where nobody can tell. `remedy`: what to do."""

    entry: QueueEntry
    limiting: Limiting
    text: str
    clears_at: Instant
    remedy: str


@dataclass(frozen=True, slots=True)
class Why:
    """Why mail waits, a recipient each, and the destinations it waits for. `more`: there are others."""

    asked: str
    at: Instant
    recipients: tuple[Waiting, ...]
    destinations: tuple[DestinationState, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class FreezeBody:
    """What is to be frozen or thawed: a next hop, or `route ` and a route's name; who asks, and why."""

    place: str
    by: str = "admin API"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Froze:
    """All that is frozen now."""

    frozen: tuple[Frozen, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration that is in force now. `said`: what a person should know of the change, a sentence each."""

    revision: str
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A configuration that is or was in force. `id` follows from its text; `at`: when it last came into force."""

    id: str
    at: Instant
    by: str  # "start", or who asked for it
    where: str  # the file it was read from


@dataclass(frozen=True, slots=True)
class Revisions:
    """Those that are kept, newest first: the first is in force."""

    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True)
class RevisionText:
    """One of them, whole."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to be judged. `where`: its file, beside which relative paths begin; `hours`: of traffic."""

    text: str
    where: str
    hours: float = 24.0


@dataclass(frozen=True, slots=True)
class Shift:
    """What a proposal does to some mail: recipients of `domain` that go to `was` now, and what becomes of them.

    `fate`: "elsewhere", "refused", or "stranded" (no route would lead there); `detail`: the new next hop, or why.
    `route`: the rule that has them now.
    """

    domain: str
    route: str
    was: str
    fate: str
    detail: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a proposal would do. `looked_at`: recipients of the queue, and of traffic since `since`.

    `needs_restart`: what a reload would refuse it for. `cut`: there was more traffic than was looked at.
    """

    revision: str
    needs_restart: tuple[str, ...]
    queue: tuple[Shift, ...]
    traffic: tuple[Shift, ...]
    queue_looked_at: int
    traffic_looked_at: int
    since: Instant
    cut: bool


@dataclass(frozen=True, slots=True)
class ReloadBody:
    """Who asks."""

    by: str = "admin API"


@dataclass(frozen=True, slots=True)
class Trace:
    """The life of one message: all events, oldest first, and its recipients that still wait."""

    id: str
    events: tuple[HistoryEvent, ...]
    waiting: tuple[QueueEntry, ...]


@dataclass(frozen=True, slots=True)
class Traces:
    """The messages a question matched, newest first. `more`: there may be older ones; of a search, behind `next`."""

    asked: str
    traces: tuple[Trace, ...]
    more: bool
    next: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedHost:
    """A name that DNS gave, its addresses in order, and for those without use the reason.

    `ttl` in seconds, of its addresses; `signed`: a resolver that is trusted has validated them.
    """

    name: str
    preference: int
    addresses: tuple[str, ...]
    trouble: str  # a sentence; "" when it is used
    ttl: float = 0.0
    signed: bool = False


@dataclass(frozen=True, slots=True)
class HostTls:
    """The TLS a session with a host would have to have. `level`: "" where it would not be tried; `why`: a sentence.

    `published`: what it rests on, as it stands in DNS or in the MTA-STS policy.
    """

    host: str
    level: str
    why: str
    published: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where mail for a domain goes now; `hosts` are tried in this order.

    `dns`: a sentence on the MX answer; "" where the route does not go by MX records.
    """

    domain: str
    dns: str
    exchangers: tuple[ResolvedHost, ...]
    rule: str
    next_hop: str
    hosts: tuple[str, ...]
    is_local: bool  # mail stays on this machine: no host is needed
    trouble: str  # why there is no host to try; "" when there is
    tls: tuple[HostTls, ...] = ()
    mta_sts: str = ""  # a sentence on the domain's MTA-STS policy; "" where the route does not go by MX records


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Captured messages, newest first; `next` is what to pass as `before` for older ones, 0 at the end."""

    messages: tuple[CapturedMessage, ...]
    next: int


@dataclass(frozen=True, slots=True)
class CapturedDetail:
    """A captured message, taken apart for reading. `text`: its text/plain part; `html`: that part's source.

    `cut`: the message was too large to be read whole here; the raw octets are complete (`inbox_octets`).
    """

    message: CapturedMessage
    header: tuple[tuple[str, str], ...]
    text: str
    html: str
    attachments: tuple[str, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class WatchBody:
    """Whose dialogues are to be logged, or no more, for how many minutes.

    `peer`: a next hop, a host's name, an address or a network (of a host or a client), or a configured listener.
    """

    peer: str
    on: bool = True
    minutes: int = 60
    by: str = "admin API"


@dataclass(frozen=True, slots=True)
class WatchedPeers:
    """All whose dialogues are logged now."""

    watched: tuple[Watched, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """How many captured messages were dropped; asked of the API, how many are kept."""

    messages: int = 0


@dataclass(frozen=True, slots=True)
class Login:
    """What an administrator shows. Shown by no repr."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name!r}, …)"


@dataclass(frozen=True, slots=True)
class Expiring:
    """Something that ends. `days` left, rounded down; below 0: it has ended. `trouble`: a sentence, or ""."""

    kind: str  # certificate, authorisation
    name: str
    about: str
    ends: Instant  # 0: not known
    days: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Expiries:
    """All that ends, what ends first first."""

    items: tuple[Expiring, ...]


@dataclass(frozen=True, slots=True)
class Alive:
    """The process lives."""

    alive: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether it is fit to serve, and why not, a sentence each."""

    ready: bool
    reasons: tuple[str, ...]


def to_json(value: object) -> bytes:
    """`value` as JSON text in UTF-8."""
    return msgspec.json.encode(value)


def from_json(text: bytes, kind: type[Value]) -> Value:
    """The value back. Raises: ValueError, where `text` does not hold one of `kind`."""
    return msgspec.json.decode(text, type=kind)
