"""What operators do to recipients: acts as values, with the words that the history has for them.

Every storage derives from `Operating` and carries acts out in its own way; databases, a slice at a time (`in_slices`).
Not here: who may act (admin/), and what is to be told to whom afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.entries import BEFORE_ALL
from waypost.queue.rows import Key
from waypost.queue.storage import Selection

#: Recipients an act changes in one transaction, so that mail is not kept waiting by a large one.
SLICE: Final = 500


@dataclass(frozen=True, slots=True)
class MakeDue:
    """Waiting recipients fall due; the history has it where something is `said`."""

    now: Instant
    said: str = ""


@dataclass(frozen=True, slots=True)
class Bin:
    """Recipients nobody is delivering go to the bin; with a `reason`, their authors are told."""

    now: Instant
    why: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """Recipients come back from the bin, due."""

    now: Instant
    said: str


@dataclass(frozen=True, slots=True)
class Reroute:
    """Recipients nobody is delivering go to another next hop, due, and stay on that way."""

    now: Instant
    next_hop: NextHop
    said: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """Recipients nobody is delivering are held."""

    now: Instant
    reason: str
    said: str


@dataclass(frozen=True, slots=True)
class Unhold:
    """Held recipients fall due."""

    now: Instant
    said: str


Act: TypeAlias = MakeDue | Bin | Restore | Reroute | SetAside | Unhold


class Operating(ABC):
    """The part of a storage (storage.py) that operators need, in terms of acts."""

    @abstractmethod
    async def operate(self, selection: Selection, act: Act) -> int:
        """Carry it out on what is selected, in the queue or (Restore) in the bin; the recipients changed."""

    async def retry(self, selection: Selection, *, now: Instant, by: str = "", reason: str = "") -> int:
        return await self.operate(selection, MakeDue(now, record.retried_by(by, reason)))

    async def delete(self, selection: Selection, *, now: Instant, by: str, reason: str = "") -> int:
        return await self.operate(selection, Bin(now, record.done_by("deleted", by, reason)))

    async def bounce(self, selection: Selection, *, reason: str, now: Instant, by: str) -> int:
        return await self.operate(selection, Bin(now, record.done_by("bounced", by, reason), reason))

    async def restore(self, selection: Selection, *, now: Instant, by: str, reason: str = "") -> int:
        return await self.operate(selection, Restore(now, record.done_by("brought back", by, reason)))

    async def reroute(self, selection: Selection, next_hop: NextHop, *, now: Instant, by: str, reason: str = "") -> int:
        return await self.operate(
            selection, Reroute(now, next_hop, record.done_by(f"rerouted to {next_hop}", by, reason))
        )

    async def hold(self, selection: Selection, *, reason: str, now: Instant, by: str = "") -> int:
        return await self.operate(selection, SetAside(now, reason, record.done_by("held", by, reason)))

    async def unhold(self, selection: Selection, *, now: Instant, by: str = "", reason: str = "") -> int:
        return await self.operate(selection, Unhold(now, record.done_by("released", by, reason)))


async def in_slices(
    page: Callable[[Key], Awaitable[Sequence[Key]]], change: Callable[[Sequence[Key]], Awaitable[int]]
) -> int:
    """Change what the pages list, one by one; the number changed. `page`: at most SLICE keys after a key, ascending."""
    changed, after = 0, BEFORE_ALL
    while keys := await page(after):
        changed += await change(keys)
        after = keys[-1]
    return changed
