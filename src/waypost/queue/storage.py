"""The one interface to the queue. Receiving, delivering and reporting meet here and nowhere else.

Invariants, judged by one contract suite for every storage (tests/contract):
- When `accept` returns Stored, octets, envelope and recipients are durable, all or none (RFC 5321 §4.2.5, §6.1).
- A recipient leaves the queue only through `settle`, by the holder of its lease, or by an operator's `delete` or
  `bounce`, into the bin.
- A lease has an owner, an epoch and an end. After its end, or under a newer epoch, another may claim, and a late
  `settle` changes nothing (fencing).
- A message's octets live as long as one recipient, in the queue or in the bin, one report that is due, or one captured
  copy needs them.
- Memory does not grow with the backlog.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum, auto
from typing import Final, Protocol, TypeAlias

from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Doubt, Envelope, InMemory, MessageId, NextHop, Octets, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Outcome
from waypost.net.clock import Instant
from waypost.queue.shelf import Shelf


class StoreFaultKind(Enum):
    """Why a store refused; receive/ chooses its reply by it."""

    FULL = "no space left"  # 452 4.3.1
    FAILED = "storage failed"  # 451 4.3.0
    DAMAGED = "storage is damaged"  # 451 4.3.0
    CLOSED = "storage is closed"  # 451 4.3.0


@dataclass(frozen=True, slots=True)
class StoreFault:
    """Nothing was stored, nothing half-stored."""

    kind: StoreFaultKind
    detail: str


class StorageError(Exception):
    """The storage could not do what was asked; the queue is as it was before. Not the caller's fault."""

    def __init__(self, fault: StoreFault) -> None:
        super().__init__(f"{fault.kind.value}: {fault.detail}")
        self.fault = fault


class Durability(StrEnum):
    """What a 250 is worth; stated in the log and a metric."""

    MEMORY = "memory"  # lost with the process: tests and demonstrations
    DELAYED = "delayed"  # the last moments before a crash of the database may be lost: it was set up so
    FSYNC = "fsync"
    REPLICATED = "replicated"


class Draft(Protocol):
    """The octets of a large message on their way into the spool; not a message until it is accepted."""

    async def write(self, octets: bytes) -> None:
        """Append. Raises: StorageError; then the draft is gone."""
        ...

    async def discard(self) -> None:
        """Throw it away; safe to call at any time, more than once, and after `accept`."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to try these recipients of one message, all for one next hop, until `until` (wall clock).

    `token` tells two claims of the same recipients apart; no two leases of one epoch have the same.
    """

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    next_hop: NextHop
    octets: Octets
    owner: str
    epoch: int
    until: Instant
    token: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """The message is durable. `leases`: those asked for with `claim_until`, one a next hop; else empty, all due now."""

    id: MessageId
    leases: tuple[Lease, ...]


# ---- what settling says of each recipient
class Notice(Enum):
    """The report that is due about a recipient (RFC 3464 Action)."""

    NONE = auto()
    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Gone:
    """Leaves the queue. `captured`: a copy goes to the inbox the service keeps."""

    captured: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Stays, due again at `until`."""

    until: Instant
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Hold:
    """Stays, and is not tried until somebody releases it. `reason` is a sentence."""

    reason: str


Next: TypeAlias = Gone | Wait | Hold


@dataclass(frozen=True, slots=True)
class Settled:
    """One recipient's fate after an attempt. `retry_until`: when trying ends, for the report of a delay."""

    recipient: QueuedRecipient
    outcome: Outcome
    next: Next
    notice: Notice
    retry_until: Instant = 0.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """All of one lease's recipients after one attempt, with the attempt for the history."""

    lease: Lease
    attempt: Attempt
    recipients: tuple[Settled, ...]


# ---- what can be asked
@dataclass(frozen=True, slots=True)
class ReadyHop:
    """A next hop with recipients due now and claimed by nobody."""

    next_hop: NextHop
    since: Instant  # the earliest due time among them


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing waits for a time."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report that is due: one message, one kind of notice, the recipients it speaks of."""

    number: int
    message: QueuedMessage
    octets: Octets
    notice: Notice
    recipients: tuple[ReportedRecipient, ...]


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """What a report says of one recipient; plain text and codes, as they were written down at settlement."""

    recipient: QueuedRecipient
    status: str  # "5.1.1"
    diagnostic: str  # "smtp; 550 5.1.1 no such user", or "" (RFC 3464 §2.3.6)
    remote_mta: str  # "dns; mx.example.net", or ""
    explanation: str  # a sentence for a person
    last_attempt: Instant
    retry_until: Instant  # for delays: when we give up


class RecipientState(Enum):
    """Where a queued recipient stands, as a person is shown it."""

    DUE = "due"
    WAITING = "waiting"
    IN_DELIVERY = "in delivery"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One recipient in the queue, as `queue list` shows it."""

    id: MessageId
    number: int
    reverse_path: str
    forward_path: str
    next_hop: NextHop
    state: RecipientState
    attempts: int
    due_at: Instant
    received_at: Instant
    size: int
    last_outcome: str  # a sentence; "" before the first attempt
    reason: str = ""  # why it is held


@dataclass(frozen=True, slots=True)
class Selection:
    """Which queue entries: each field narrows, an empty one does not. Addresses match whole, case-insensitively."""

    ids: tuple[MessageId, ...] = ()
    address: str = ""  # reverse-path or forward-path
    domain: str = ""  # of the forward-path
    next_hop: str = ""
    state: str = ""  # a RecipientState's value
    text: str = ""  # part of the last outcome, or of why it is held; in any case
    received_before: Instant = 0.0


#: An entry of the queue by message and number: entries are in this order.
Place: TypeAlias = tuple[MessageId, int]
#: Before the first entry; as a `next`, behind the last.
EDGE: Final[Place] = (MessageId(""), -1)


@dataclass(frozen=True, slots=True)
class Looked:
    """What fits in a stretch of the queue, in order. `next`: after where to look on; EDGE, where nothing is left."""

    entries: tuple[QueueEntry, ...]
    next: Place


@dataclass(frozen=True, slots=True)
class Tallied:
    """How many fit in a stretch of the queue; `next` as of Looked."""

    recipients: int
    next: Place


@dataclass(frozen=True, slots=True)
class BinnedEntry:
    """One recipient that an operator took out of the queue, and that can be brought back. `why`: a sentence."""

    id: MessageId
    number: int
    at: Instant
    why: str
    reverse_path: str
    forward_path: str
    next_hop: NextHop
    attempts: int
    received_at: Instant
    size: int
    last_outcome: str


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that happened to a message: received, attempt, report, operator's act. Oldest first in a listing."""

    at: Instant
    id: MessageId
    kind: str  # "received" | "attempt" | "report" | "operator" | "done"
    text: str  # a sentence
    details: dict[str, object]  # JSON-able: envelope, outcomes, transcript lines …


@dataclass(frozen=True, slots=True)
class Passed:
    """A recipient of a message that is done, and where the message came from; "" for what its origin does not say."""

    reverse_path: str
    forward_path: str
    next_hop: NextHop
    client_host: str
    account: str


@dataclass(frozen=True, slots=True)
class Search:
    """Which messages, in the queue or done: each field narrows, an empty one does not. Texts match in any case."""

    address: str = ""  # reverse-path or forward-path, whole
    domain: str = ""  # of a forward-path
    message_id: str = ""  # as it stands in the header, with or without its brackets
    next_hop: str = ""
    outcome: str = ""  # delivered, deferred, rejected, in doubt
    text: str = ""  # part of an outcome's text: what a host replied
    since: Instant = 0.0  # received then or later
    until: Instant = 0.0  # received before then


@dataclass(frozen=True, slots=True)
class Found:
    """Messages, newest first. `next`: where to search on, in older mail; empty where there is none left."""

    ids: tuple[MessageId, ...]
    next: str


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """A message in the inbox that `capture:` keeps."""

    number: int
    id: MessageId
    reverse_path: str
    recipients: tuple[str, ...]
    captured_at: Instant
    size: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue in numbers; cheap enough for a metrics scrape."""

    messages: int
    recipients: int
    held: int
    reports_due: int


class Storage(Shelf, Protocol):
    """See the module's invariants. Methods other than `accept` raise StorageError when the storage fails."""

    durability: Durability
    #: Called where something may have become due that came of another process; set by whoever is to ask then.
    news: Callable[[], None]

    async def open(self, *, owner: str) -> None:
        """Open or create, take it for this process alone, begin a new epoch (older leases end), drop stale drafts.

        Raises: StorageError, with a sentence that names the place and the remedy.
        """
        ...

    async def close(self) -> None:
        """Finish what was handed in, then close."""
        ...

    async def draft(self) -> Draft:
        """A place for the octets of a large message."""
        ...

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        """Take responsibility for a message, durably. Never cancelled halfway: shielded inside.

        `claim_until` > `now`: the caller gets it leased to itself up to then, without a second write;
        otherwise all recipients are simply due. With `envelope.held` they are held at once, and leased to nobody.
        """
        ...

    async def ready(self, now: Instant, *, limit: int) -> Sequence[ReadyHop]:
        """The next hops with something due, longest waiting first. Cost grows with hops, not with recipients."""
        ...

    async def next_due(self, now: Instant) -> Instant | Never:
        """The earliest moment after `now` at which something falls due (or a lease ends)."""
        ...

    async def claim(self, next_hop: NextHop, *, now: Instant, until: Instant, messages: int) -> Sequence[Lease]:
        """Lease what is due for `next_hop`, oldest due first, at most so many messages."""
        ...

    def holds(self, lease: Lease) -> bool:
        """Whether the lease may be acted on: nobody else can have it by now, as far as can be told without asking.

        False: this process was silent for so long that others may have taken it for dead, or it is cut off from them.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, until: Instant) -> Sequence[Lease]:
        """The leases that could be prolonged, prolonged."""
        ...

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give leases back untried: their recipients are due as before."""
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """Write down what an attempt came to. False: the lease was no longer ours and nothing was changed.

        A lease that has ended, but was not claimed again, is still ours: what came of the attempt is worth knowing.
        """
        ...

    async def reports(self, *, limit: int) -> Sequence[Report]:
        """Reports that are due, oldest first."""
        ...

    async def file_report(
        self,
        report: Report,
        envelope: Envelope,
        octets: InMemory,
        *,
        id: MessageId,  # noqa: A002 - the field's own name for it
        now: Instant,
    ) -> None:
        """Queue the report's message and strike the report off, in one transaction.

        A report that was struck off before is not queued again.
        """
        ...

    async def drop_report(self, report: Report, *, why: str, now: Instant) -> None:
        """Strike a report off unsent (a `<>` message, NOTIFY=NEVER), with its reason in the history."""
        ...

    async def entries(self, selection: Selection, *, after: Place, limit: int, now: Instant) -> Sequence[QueueEntry]:
        """Queue entries by (id, number) ascending, after the given one (("", -1) for the first page)."""
        ...

    async def look(self, selection: Selection, *, after: Place, limit: int, stretch: int, now: Instant) -> Looked:
        """At most `limit` entries after `after` that fit, of the `stretch` recipients that follow there.

        It may be fewer than `limit`, even none, and yet there is a `next`: what it costs has a bound, whatever fits.
        """
        ...

    async def message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        """A message still stored. Raises: KeyError."""
        ...

    async def retry(self, selection: Selection, *, now: Instant, by: str = "", reason: str = "") -> int:
        """Make waiting recipients due now; the number made so. The history tells it where somebody did it (`by`)."""
        ...

    async def tally(self, selection: Selection, *, after: Place, stretch: int, now: Instant) -> Tallied:
        """How many recipients fit, of the `stretch` that follow after `after`."""
        ...

    async def delete(self, selection: Selection, *, now: Instant, by: str, reason: str = "") -> int:
        """Move recipients nobody is just delivering to the bin, without a report; the number moved."""
        ...

    async def bounce(self, selection: Selection, *, reason: str, now: Instant, by: str) -> int:
        """The same, with a report to the author that says `reason`, where RCPT's NOTIFY does not forbid it."""
        ...

    async def reroute(self, selection: Selection, next_hop: NextHop, *, now: Instant, by: str, reason: str = "") -> int:
        """Let recipients that nobody is just delivering go to another next hop, due now; the number moved.

        `rehop` leaves them there from now on. Who is held stays so.
        """
        ...

    async def hold(self, selection: Selection, *, reason: str, now: Instant, by: str = "") -> int:
        """Set recipients aside that nobody is just delivering; the number held."""
        ...

    async def unhold(self, selection: Selection, *, now: Instant, by: str = "", reason: str = "") -> int:
        """Let held recipients be due now; the number released."""
        ...

    async def binned(self, selection: Selection, *, after: tuple[MessageId, int], limit: int) -> Sequence[BinnedEntry]:
        """What is in the bin, in the order of `entries`. The selection's state means nothing here."""
        ...

    async def restore(self, selection: Selection, *, now: Instant, by: str, reason: str = "") -> int:
        """Bring recipients back from the bin, due now; the number brought back."""
        ...

    async def empty_bin(self, *, before: Instant, limit: int) -> int:
        """Let go of at most `limit` recipients that have been in the bin since before then; the number let go."""
        ...

    async def rehop(self, old: NextHop, domain: str, new: NextHop) -> int:
        """Move recipients of `domain` from one next hop to another (the route table changed); the number moved.

        An attempt under way goes on; what it leaves waiting, waits for the new next hop. Recipients that `reroute`
        moved stay.
        """
        ...

    async def hops(self) -> Sequence[tuple[NextHop, str]]:
        """The distinct (next hop, recipient domain) pairs in the queue."""
        ...

    async def backlog(self) -> Sequence[tuple[NextHop, str, int]]:
        """The same pairs, each with its recipients counted."""
        ...

    async def traffic(self, *, since: Instant, limit: int) -> Sequence[Passed]:
        """Recipients of messages that are done since then, of the newest messages; at most so many."""
        ...

    async def history(self, id: MessageId) -> Sequence[HistoryEvent]:  # noqa: A002 - the field's own name
        """What happened to a message, oldest first; empty when unknown."""
        ...

    async def find(self, address: str, *, limit: int) -> Sequence[MessageId]:
        """Messages from or to an address, newest first, done ones included while history is kept."""
        ...

    async def search(self, search: Search, *, before: str, limit: int) -> Found:
        """Messages that fit, newest first, older than `before` ("": from the newest).

        Looks through a bounded number of messages at a time: there may be fewer than `limit`, and yet a `next`.
        """
        ...

    async def forget(self, *, before: Instant, limit: int) -> int:
        """Drop history of at most `limit` messages that are done since before then; the number of events dropped."""
        ...

    async def captured(self, *, before: int, limit: int) -> Sequence[CapturedMessage]:
        """The inbox, newest first, numbers below `before` (0: from the newest)."""
        ...

    async def captured_octets(self, number: int) -> Octets:
        """The octets of a captured message. Raises: KeyError."""
        ...

    async def discard_captured(self, *, keep: int) -> int:
        """Drop all but the newest `keep` captured messages; the number dropped."""
        ...

    async def counts(self) -> Counts:
        """The queue in numbers."""
        ...

    async def room(self) -> int:
        """Octets that can still be stored: what is free on the disk, and what deliveries freed in the storage."""
        ...


#: How long a claim lasts unless renewed: longer than one attempt's budget over all hosts (30 min, deliver/).
CLAIM = timedelta(minutes=40)
