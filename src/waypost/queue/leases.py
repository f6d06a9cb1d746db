"""Leases, and the rows of recipients they stand for. Pure, and alike in every database.

Not here: who claims, and for how long (a storage, and whoever asks it).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Final, TypeAlias

from waypost.mail.envelope import InMemory, NextHop, Octets
from waypost.net.clock import Instant
from waypost.queue import ids, record
from waypost.queue.rows import Claimed
from waypost.queue.storage import Draft, Hold, Lease, Settlement, Wait

#: Octets of bodies one `claim` reads; what goes beyond is read when it is sent.
CLAIMED_OCTETS: Final = 4 * 2**20

#: Octets that are in storage: of a message, by its draft and their size.
StoredAs: TypeAlias = Callable[[int, int, int], Octets]


def unreadable(what: str, place: str) -> str:
    """Why a message is held that was damaged where it is stored."""
    return f"{what} cannot be read from the {place}; delete it, and ask its author to send it again"


def claimed_lease(
    claimed: Claimed, next_hop: NextHop, owner: str, epoch: int, until: Instant, stored: StoredAs
) -> Lease:
    """The lease of what was claimed. Raises: ValueError, where its row is missing, or makes no sense."""
    received_at, size, envelope, draft, inline = claimed.row
    message = record.decode_message(ids.from_number(claimed.message), envelope, received_at, size)
    octets = InMemory(inline) if len(inline) == size else stored(claimed.message, draft, size)
    recipients = tuple(record.decode_recipient(*row) for row in claimed.recipients)
    return Lease(message, recipients, next_hop, octets, owner, epoch, until, claimed.token)


def carried(octets: InMemory | Draft, message: int, draft: int, size: int, inline: bytes, stored: StoredAs) -> Octets:
    """The octets a lease of a message just accepted carries: those in memory, where they are."""
    if isinstance(octets, InMemory):
        return octets
    return stored(message, draft, size) if draft else InMemory(inline)


def prolonged(lease: Lease, numbers: Container[int], until: Instant) -> Lease:
    """The lease of those recipients that it still has."""
    kept = tuple(recipient for recipient in lease.recipients if recipient.number in numbers)
    return replace(lease, recipients=kept, until=until)


def held_in_place(settlement: Settlement, place: str) -> Settlement:
    """What would wait is held: no later attempt will find the octets either."""
    hold = Hold(unreadable("its octets", place))
    settled = (replace(one, next=hold) if isinstance(one.next, Wait) else one for one in settlement.recipients)
    return replace(settlement, recipients=tuple(settled))
