"""From one spool to another, message by message, with all that is known of each: `waypost spool move`.

**Nothing is lost or doubled, wherever it is cut off.** Each message passes three steps, each one transaction:

    mark     at the source: held, so that nobody there tries it any more, whoever dies
    put      at the destination: all its rows, read back and compared by digest before they count
    remove   from the source

A move that is begun again finds marked messages first. One that has been put already is only removed; where it has been
delivered meanwhile, or is done, that shows at the destination, too. Not marked is what somebody delivers just now, or a
report is due of that somebody may be writing: its turn comes later.

Not here: how rows are read and written (moving_sqlite.py, postgres/moving.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

import msgspec

from waypost.net.clock import Clock, Instant
from waypost.queue import ids

#: Before the reason why a recipient is held (or nothing), while it is on its way.
MARK: Final = "it is being moved to another spool: run `waypost spool move` again to end that. "
#: Messages asked for at once.
PAGE: Final = 200
#: Before what could not be marked is looked at again.
PAUSE: Final = timedelta(milliseconds=500)


class RecipientPart(NamedTuple):
    """What moves of a row of `recipients`; leases do not."""

    number: int
    address: str
    domain: str
    next_hop: str
    parameters: str
    attempts: int
    delay_reported: bool
    doubt: str
    due_at: Instant
    priority: int
    held: str
    last_outcome: str
    pinned: bool


class BinnedPart(NamedTuple):
    """A row of the bin."""

    number: int
    at: Instant
    why: str
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


class ReportPart(NamedTuple):
    """A report that is due: what it says of each recipient, by number."""

    notice: str
    recipients: tuple[tuple[int, str], ...]


class EventPart(NamedTuple):
    """A row of the history."""

    at: Instant
    kind: str
    text: str
    details: str


class DonePart(NamedTuple):
    """The end of a message."""

    at: Instant
    received_at: Instant
    envelope: str
    attempt: str


class StoredPart(NamedTuple):
    """What is there while somebody needs the octets."""

    received_at: Instant
    size: int
    envelope: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that a spool knows of a message. `stored` and `done` have one element, or none."""

    id: int
    stored: tuple[StoredPart, ...] = ()
    recipients: tuple[RecipientPart, ...] = ()
    reports: tuple[ReportPart, ...] = ()
    captured: tuple[tuple[Instant, str], ...] = ()
    events: tuple[EventPart, ...] = ()
    done: tuple[DonePart, ...] = ()
    binned: tuple[BinnedPart, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        """Whether something is left to do for it."""
        return bool(self.recipients or self.reports)

    @property
    def size(self) -> int:
        """Its octets, as far as they are there."""
        return sum(len(part.octets) for part in self.stored)

    def digest(self) -> bytes:
        """What stands for all of it."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).digest()

    def unmarked(self) -> Parcel:
        """As it was before its recipients were marked."""
        recipients = (part._replace(held=part.held.removeprefix(MARK)) for part in self.recipients)
        return replace(self, recipients=tuple(recipients))


class Marked(Enum):
    """What became of marking."""

    DONE = auto()
    BUSY = auto()  # somebody delivers it, or reports on it: later
    GONE = auto()


class MoveError(Exception):
    """The move cannot go on; what was moved is moved, and the rest is where it was."""


class Source(Protocol):
    """A spool that is emptied."""

    async def names(self, after: int, limit: int) -> Sequence[int]:
        """The ids of messages it knows, ascending."""
        ...

    async def mark(self, message: int) -> Marked:
        """Keep everybody from trying it."""
        ...

    async def parcel(self, message: int) -> Parcel:
        """All that is known of it."""
        ...

    async def remove(self, message: int) -> None:
        """Forget it."""
        ...

    async def kept(self) -> Sequence[tuple[str, str, bytes, Instant]]:
        """All that is on the shelf: space, key, value, end."""
        ...


class Destination(Protocol):
    """A spool that is filled."""

    async def has(self, message: int) -> bool:
        """Whether it knows the message already."""
        ...

    async def put(self, parcel: Parcel) -> None:
        """Write it all down, if and only if it reads back alike. Raises: MoveError."""
        ...

    async def keep_absent(self, kept: Sequence[tuple[str, str, bytes, Instant]]) -> None:
        """Put on the shelf what is not there."""
        ...


@dataclass(slots=True)
class Tally:
    """What was moved. `digest`: of all parcels in no order, so that two moves of the same tell the same."""

    messages: int = 0
    unfinished: int = 0
    recipients: int = 0
    octets: int = 0
    found: int = 0  # at the destination already: an earlier move had put them there
    digest: int = 0

    def add(self, parcel: Parcel) -> None:
        """Count one."""
        self.messages += 1
        self.unfinished += parcel.is_unfinished
        self.recipients += len(parcel.recipients)
        self.octets += parcel.size
        self.digest ^= int.from_bytes(parcel.digest(), "big")

    def include(self, other: Tally) -> None:
        """Count what another move came to."""
        self.messages += other.messages
        self.unfinished += other.unfinished
        self.recipients += other.recipients
        self.octets += other.octets
        self.found += other.found
        self.digest ^= other.digest


async def move(
    source: Source, destination: Destination, clock: Clock, tell: Callable[[Tally], Awaitable[None]]
) -> Tally:
    """Move all there is, until a pass finds nothing more. Raises: MoveError, StorageError."""
    tally = Tally()
    await destination.keep_absent(await source.kept())
    while busy_or_moved := await _pass(source, destination, tally, tell):
        if busy_or_moved is Marked.BUSY:
            await clock.sleep(PAUSE)
    return tally


async def _pass(
    source: Source, destination: Destination, tally: Tally, tell: Callable[[Tally], Awaitable[None]]
) -> Marked | None:
    """Over all messages once; BUSY: some have to be come back to, DONE: others may have come meanwhile."""
    after, result = -1, None
    while names := await source.names(after, PAGE):
        for name in names:
            moved = await _move_one(source, destination, name, tally)
            result = moved if moved is Marked.BUSY or result is None else result
        after = names[-1]
        await tell(tally)
    return result


async def _move_one(source: Source, destination: Destination, message: int, tally: Tally) -> Marked:
    marked = await source.mark(message)
    if marked is not Marked.DONE:
        return marked
    parcel = (await source.parcel(message)).unmarked()
    if await destination.has(message):
        tally.found += 1
    else:
        await destination.put(parcel)
    await source.remove(message)
    tally.add(parcel)
    return Marked.DONE


def compared(parcel: Parcel, there: Parcel) -> None:
    """Raises: MoveError, where what reads back is not what was to be put."""
    if parcel.digest() != there.digest():
        raise MoveError(
            f"{ids.from_number(parcel.id)} does not read back from the destination as it was at the source; it stays "
            "at the source, held. Look at both, and run the move again"
        )
