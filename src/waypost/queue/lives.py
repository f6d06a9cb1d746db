"""A message's life in memory, and where each of its recipients stands; what is selected of them, and how it is shown.

Pure. Not here: what happens to them (memory.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from waypost.mail.envelope import InMemory, MessageId, NextHop, QueuedMessage, QueuedRecipient
from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.entries import state_of
from waypost.queue.storage import (
    BinnedEntry,
    HistoryEvent,
    Notice,
    Place,
    QueueEntry,
    RecipientState,
    ReportedRecipient,
    Search,
    Selection,
)


@dataclass(slots=True)
class Standing:
    """Where one recipient stands. `ready_at`: when it may be claimed, which is its due time or its lease's end."""

    recipient: QueuedRecipient
    next_hop: NextHop
    due_at: Instant
    ready_at: Instant
    token: int = 0
    held: str = ""
    last_outcome: str = ""
    is_pinned: bool = False

    def is_free(self, now: Instant) -> bool:
        return not self.token or self.ready_at <= now

    def is_claimable(self, now: Instant) -> bool:
        return not self.held and self.ready_at <= now

    def wait(self, until: Instant) -> None:
        self.token, self.held, self.due_at, self.ready_at = 0, "", until, until


@dataclass(slots=True)
class Life:
    """One message from its receipt until its history is forgotten."""

    message: QueuedMessage
    octets: InMemory
    places: dict[int, Standing]
    events: list[HistoryEvent]
    addresses: set[str]
    captures: int = 0
    reports: int = 0
    is_done: bool = False
    bin: dict[int, tuple[Standing, Instant, str]] = field(default_factory=dict)  # with since when, and why

    @property
    def is_stored(self) -> bool:
        return not self.is_done or self.captures > 0 or bool(self.bin)


#: Recipients that something is to happen to.
Chosen: TypeAlias = list[tuple[Life, Standing]]


@dataclass(slots=True)
class DueReport:
    """A report that is due, and of whom it speaks."""

    number: int
    id: MessageId
    notice: Notice
    recipients: dict[int, ReportedRecipient] = field(default_factory=dict)


def where(life: Life, place: Standing) -> Place:
    """Its place among all entries."""
    return life.message.id, place.recipient.number


def matches(selection: Selection, life: Life, place: Standing, now: Instant) -> bool:
    """Whether a recipient is selected."""
    if selection.ids and life.message.id not in selection.ids:
        return False
    if selection.address:
        ends = (record.address_of(life.message.reverse_path), record.address_of(place.recipient.forward_path))
        if selection.address.lower() not in (end.lower() for end in ends):
            return False
    if selection.domain and selection.domain.lower() != domain_of(place):
        return False
    if selection.state and selection.state != _state(place, now).value:
        return False
    if selection.text and not any(selection.text.lower() in text.lower() for text in (place.last_outcome, place.held)):
        return False
    if selection.received_before and life.message.received_at >= selection.received_before:
        return False
    return not selection.next_hop or selection.next_hop == place.next_hop


def is_meant(search: Search, life: Life) -> bool:
    """Whether a search is for this message."""
    at = life.message.received_at
    if at < search.since or (search.until and at >= search.until):
        return False
    if search.address and search.address.lower() not in life.addresses:
        return False
    attempts = [record.encode(event.details).lower() for event in life.events if event.kind == "attempt"]
    return record.fits(search, record.encode(life.events[0].details).lower(), attempts)


def domain_of(place: Standing) -> str:
    """The domain of its forward-path, in lower case."""
    return record.domain_of(place.recipient.forward_path)


def by_message(chosen: Iterable[tuple[Life, Standing]]) -> Iterator[tuple[Life, list[str]]]:
    """The addresses among them, a message at a time."""
    addresses: dict[MessageId, tuple[Life, list[str]]] = {}
    for life, place in chosen:
        _, listed = addresses.setdefault(life.message.id, (life, []))
        listed.append(record.address_of(place.recipient.forward_path))
    yield from addresses.values()


def entry(life: Life, place: Standing, now: Instant) -> QueueEntry:
    """A recipient in the queue, as it is listed."""
    message = life.message
    return QueueEntry(
        id=message.id,
        number=place.recipient.number,
        reverse_path=record.address_of(message.reverse_path),
        forward_path=record.address_of(place.recipient.forward_path),
        next_hop=place.next_hop,
        state=_state(place, now),
        attempts=place.recipient.attempts,
        due_at=place.due_at,
        received_at=message.received_at,
        size=message.size,
        last_outcome=place.last_outcome,
        reason=place.held,
    )


def binned_entry(life: Life, place: Standing, at: Instant, why: str) -> BinnedEntry:
    """A recipient in the bin, as it is listed."""
    message = life.message
    return BinnedEntry(
        id=message.id,
        number=place.recipient.number,
        at=at,
        why=why,
        reverse_path=record.address_of(message.reverse_path),
        forward_path=record.address_of(place.recipient.forward_path),
        next_hop=place.next_hop,
        attempts=place.recipient.attempts,
        received_at=message.received_at,
        size=message.size,
        last_outcome=place.last_outcome,
    )


def _state(place: Standing, now: Instant) -> RecipientState:
    return state_of(held=place.held, is_leased=not place.is_free(now), is_due=place.due_at <= now)
