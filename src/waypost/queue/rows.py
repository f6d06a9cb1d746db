"""Rows: what is written to a database of what others hand in. Alike in every database; pure.

Not here: the statements that write them (writes.py, postgres/writes.py), and the records inside them (record.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, assert_never

from waypost.mail.envelope import Envelope, NextHop, QueuedRecipient
from waypost.mail.explain import describe
from waypost.net.clock import Instant
from waypost.queue import ids, record
from waypost.queue.storage import Gone, HistoryEvent, Hold, Lease, Notice, Settled, Settlement, Wait

#: A row's place in `recipients`.
Key = tuple[int, int]


class MessageRow(NamedTuple):
    """A row of `messages`."""

    id: int
    received_at: Instant
    size: int
    envelope: str
    draft: int
    octets: bytes


class RecipientRow(NamedTuple):
    """A row of `recipients`, as it begins."""

    message: int
    number: int
    address: str
    domain: str
    next_hop: str
    parameters: str
    due_at: Instant
    ready_at: Instant
    lease: int
    priority: int


class ChunkRow(NamedTuple):
    """A row of `chunks`."""

    position: int
    octets: bytes


class AddressRow(NamedTuple):
    """A row of `addresses`."""

    period: int
    address: str
    message: int


class EventRow(NamedTuple):
    """A row of `events`."""

    message: int
    at: Instant
    kind: str
    text: str
    details: str


class NoticeRow(NamedTuple):
    """A recipient a report is due about."""

    notice: Notice
    number: int
    details: str


class WaitRow(NamedTuple):
    """A recipient that stays in the queue after an attempt."""

    attempts: int
    delay_reported: bool
    doubt: str
    due_at: Instant
    ready_at: Instant
    held: str
    last_outcome: str
    message: int
    number: int
    lease: int


class BinnedRow(NamedTuple):
    """What the bin keeps of a row of `recipients`."""

    message: int
    number: int
    address: str
    domain: str
    next_hop: str
    parameters: str
    attempts: int
    delay_reported: bool
    doubt: str
    last_outcome: str
    priority: int
    pinned: bool


class Claimed(NamedTuple):
    """What a claim got of one message: rows as they stand in the tables."""

    message: int
    token: int
    recipients: list[tuple[Any, ...]]  # number, address, parameters, attempts, delay_reported, doubt
    row: tuple[Any, ...] = ()  # received_at, size, envelope, draft, octets; empty where it cannot be read


@dataclass(slots=True)
class Accepting:
    """All that a new message writes; `chunks` are those of its draft that are not in the spool yet."""

    message: MessageRow
    recipients: list[RecipientRow]
    addresses: list[AddressRow]
    chunks: list[ChunkRow]


@dataclass(slots=True)
class Settling:
    """All that a settlement writes."""

    message: int
    token: int
    at: Instant
    attempt: str
    gone: list[int]
    waiting: list[WaitRow]
    notices: list[NoticeRow]
    captured: list[str]


#: The period of a message's addresses is its number's upper bits: some 70 minutes.
PERIOD_SHIFT: Final = 43


# ---- from what others hand in to rows
def address_row(message: int, address: str) -> AddressRow:
    """Where an address's row for a message stands."""
    return AddressRow(message >> PERIOD_SHIFT, address, message)


def recipient_rows(
    message: int,
    envelope: Envelope,
    now: Instant,
    groups: Mapping[NextHop, Sequence[QueuedRecipient]],
    leases: Sequence[Lease],
) -> list[RecipientRow]:
    """The recipients of a new message: due, or claimed by those of `leases` that are for their next hop."""
    claims = {lease.next_hop: (lease.until, lease.token) for lease in leases}
    recipients = []
    due, priority = max(now, envelope.released_at), envelope.parameters.priority
    for next_hop, group in groups.items():
        ready_at, token = claims.get(next_hop, (due, 0))
        recipients += [_recipient_row(message, one, next_hop, due, ready_at, token, priority) for one in group]
    return recipients


def _recipient_row(
    message: int,
    recipient: QueuedRecipient,
    next_hop: NextHop,
    due_at: Instant,
    ready_at: Instant,
    token: int,
    priority: int,
) -> RecipientRow:
    path = recipient.forward_path
    return RecipientRow(
        message,
        recipient.number,
        record.address_of(path),
        record.domain_of(path),
        next_hop,
        record.encode_parameters(recipient.parameters),
        due_at,
        ready_at,
        token,
        priority,
    )


def settling_of(settlement: Settlement) -> Settling:
    """What a settlement writes."""
    lease, at = settlement.lease, settlement.attempt.ended_at
    message = ids.to_number(lease.message.id)
    settling = Settling(
        message,
        lease.token,
        at,
        record.encode(record.attempt_details(settlement.attempt, settlement.recipients)),
        [],
        [],
        [],
        [],
    )
    for settled in settlement.recipients:
        _add(settling, settled, at)
    return settling


def _add(settling: Settling, settled: Settled, at: Instant) -> None:
    match settled.next:
        case Gone(captured):
            settling.gone.append(settled.recipient.number)
            if captured:
                settling.captured.append(record.address_of(settled.recipient.forward_path))
        case Wait(until):
            settling.waiting.append(_wait_row(settling, settled, until, ""))
        case Hold(reason):
            settling.waiting.append(_wait_row(settling, settled, at, reason))
        case _:
            assert_never(settled.next)
    if settled.notice is not Notice.NONE:
        details = record.encode_reported(record.reported(settled, record.after(settled), at))
        settling.notices.append(NoticeRow(settled.notice, settled.recipient.number, details))


def _wait_row(settling: Settling, settled: Settled, due_at: Instant, held: str) -> WaitRow:
    recipient = record.after(settled)
    return WaitRow(
        recipient.attempts,
        recipient.delay_reported,
        record.doubt_of(recipient),
        due_at,
        due_at,
        held,
        describe(settled.outcome),
        settling.message,
        recipient.number,
        settling.token,
    )


def event_row(event: HistoryEvent) -> EventRow:
    """Where an event stands in the history."""
    return EventRow(ids.to_number(event.id), event.at, event.kind, event.text, record.encode(event.details))


def operator_events(recipients: Iterable[tuple[int, str]], now: Instant, text: str) -> list[EventRow]:
    """What an operator did to recipients, each a message and an address: one event a message."""
    addresses: dict[int, list[str]] = {}
    for message, address in recipients:
        addresses.setdefault(message, []).append(address)
    return [
        EventRow(message, now, "operator", text, record.encode({"recipients": listed}))
        for message, listed in addresses.items()
    ]


def bounce_notices(binned: BinnedRow, envelope: str, reason: str, now: Instant) -> list[NoticeRow]:
    """What its author is told of a recipient an operator has given up: one notice, or none where none is wanted."""
    recipient = record.decode_recipient(
        binned.number, binned.address, binned.parameters, binned.attempts, binned.delay_reported, binned.doubt
    )
    if not record.is_told_of_failure(recipient, record.reverse_path_of(record.reverse_path_in(envelope))):
        return []
    details = record.encode_reported(record.bounced(recipient, reason, now))
    return [NoticeRow(Notice.FAILED, binned.number, details)]
