"""Which destinations are frozen: an operator wants nothing tried there, and nothing given up, until it is thawed.

Kept on the shelf, so that it outlasts a restart and holds for every process of a queue. Not here: who heeds it
(deliver/dispatch.py), and who may say so (admin/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import FOR_EVER, Shelf

SPACE: Final = "frozen"
#: Stands before a route's name, where all its next hops are meant.
ROUTE: Final = "route "
#: By whom, where what is kept cannot be read: nothing is tried there all the same, for somebody wanted that.
UNKNOWN: Final = "another release of Waypost"


@dataclass(frozen=True, slots=True)
class Frozen:
    """One that is. `place`: a next hop, or `route ` and a route's name."""

    place: str
    by: str
    reason: str
    at: Instant

    def __str__(self) -> str:
        return f"frozen by {self.by}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Frost:
    """What is frozen. Methods raise StorageError."""

    shelf: Shelf
    clock: Clock

    async def freeze(self, place: str, *, by: str, reason: str) -> Frozen:
        """Freeze it; who did it before is forgotten."""
        frozen = Frozen(place, by, reason, self.clock.now())
        await self.shelf.keep(SPACE, place, msgspec.json.encode(frozen), until=FOR_EVER)
        return frozen

    async def thaw(self, place: str) -> bool:
        """Whether it was frozen."""
        return await self.shelf.drop(SPACE, place)

    async def all(self) -> Mapping[str, Frozen]:
        """All that are, by place; also where another release has written by whom."""
        found = await self.shelf.all_kept(SPACE, now=self.clock.now())
        return {place: _read(place, value) for place, value in found}


def _read(place: str, value: bytes) -> Frozen:
    try:
        return msgspec.json.decode(value, type=Frozen)
    except msgspec.DecodeError:
        return Frozen(place, UNKNOWN, "", 0.0)
