"""Rows as people are shown them: entries of the queue and of the bin, places among them, a message's life. Pure.

Alike in every database. Not here: the statements that read them (reads.py, postgres/reads.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from waypost.mail.envelope import MessageId, NextHop
from waypost.net.clock import Instant
from waypost.queue import ids, record
from waypost.queue.rows import Key
from waypost.queue.storage import EDGE, BinnedEntry, CapturedMessage, HistoryEvent, Place, QueueEntry, RecipientState

#: Sorts before every key; and above every key.
BEFORE_ALL: Final[Key] = (-1, -1)
LAST: Final[Key] = (2**63 - 1, 2**31 - 1)
#: The span of all messages.
ANY: Final = (-1, LAST[0])


# ---- places
def number_of(id: MessageId) -> int:  # noqa: A002 - the field's own name for it
    """The number of an id a person gave; -1, which no message has, where it cannot be one of ours."""
    try:
        return ids.to_number(id)
    except ValueError:
        return -1


def key_of(place: Place) -> Key:
    """The key behind which a page begins. Raises: ValueError, where its message can be none of ours."""
    message, number = place
    return (ids.to_number(message), number) if message else BEFORE_ALL


def place_of(key: Key) -> Place:
    """Where to look on, as people name it."""
    return EDGE if key == LAST else (ids.from_number(key[0]), key[1])


def first_after(after: Key) -> int:
    """The first message that has a recipient behind that place, or may have."""
    return max(after[0] + (after[1] == LAST[1]), 0)


# ---- entries
def entry_of(row: Iterable[Any], now: Instant) -> QueueEntry:
    """The entry of a row of `recipients` with its message's receipt, size and envelope."""
    message, number, address, next_hop, held, lease, ready_at, attempts, due_at, last_outcome, *of_message = row
    received_at, size, envelope = of_message
    return QueueEntry(
        id=ids.from_number(message),
        number=number,
        reverse_path=record.reverse_path_in(envelope),
        forward_path=address,
        next_hop=NextHop(next_hop),
        state=state_of(held=held, is_leased=lease > 0 and ready_at > now, is_due=due_at <= now),
        attempts=attempts,
        due_at=due_at,
        received_at=received_at,
        size=size,
        last_outcome=last_outcome,
        reason=held,
    )


def state_of(*, held: str, is_leased: bool, is_due: bool) -> RecipientState:
    """Where a recipient stands. `held`: why it is, or nothing."""
    if held:
        return RecipientState.HELD
    if is_leased:
        return RecipientState.IN_DELIVERY
    return RecipientState.DUE if is_due else RecipientState.WAITING


def binned_entry_of(row: Iterable[Any]) -> BinnedEntry:
    """The entry of a row of `binned` with its message's receipt, size and envelope."""
    message, number, at, why, address, next_hop, attempts, last_outcome, received_at, size, envelope = row
    return BinnedEntry(
        id=ids.from_number(message),
        number=number,
        at=at,
        why=why,
        reverse_path=record.reverse_path_in(envelope),
        forward_path=address,
        next_hop=NextHop(next_hop),
        attempts=attempts,
        received_at=received_at,
        size=size,
        last_outcome=last_outcome,
    )


def captured_of(row: Iterable[Any]) -> CapturedMessage:
    """The captured message of a row of `captured` with its message's size and envelope."""
    number, message, at, recipients, size, envelope = row
    addresses = record.decode_list(recipients)
    return CapturedMessage(number, ids.from_number(message), record.reverse_path_in(envelope), addresses, at, size)


# ---- a message's life
def life_of(message: int, received_at: Instant, envelope: str, events: Iterable[Iterable[Any]]) -> list[HistoryEvent]:
    """Its receipt, and what happened since; an event is a row: at, kind, text, details."""
    name = ids.from_number(message)
    return [record.received(name, received_at, record.decode(envelope)), *(_event(name, *row) for row in events)]


def end_of(message: int, at: Instant, attempt: str) -> list[HistoryEvent]:
    """How it ended; that also tells the last attempt, where there was one."""
    name = ids.from_number(message)
    last = [record.attempted(name, at, record.decode(attempt))] if attempt else []
    return [*last, record.done(name, at)]


def _event(name: MessageId, at: Instant, kind: str, text: str, details: str) -> HistoryEvent:
    if kind == "attempt":
        return record.attempted(name, at, record.decode(details))
    return HistoryEvent(at, name, kind, text, record.decode(details))
