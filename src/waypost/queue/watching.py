"""Whose dialogues are written to the log, for a while: an operator looks over a peer's shoulder.

Kept on the shelf with an end, so that nobody forgets to switch it off, and every process of a queue hears of it. Not
here: who writes them (report/journal.py), and who may say so (admin/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import Shelf

SPACE: Final = "watched"
#: How long it lasts where nothing else is said, and at most.
FOR: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Watched:
    """A peer whose dialogues are logged: a next hop, a host's name, or its numeric address."""

    peer: str
    by: str
    until: Instant


@dataclass(frozen=True, slots=True)
class Watching:
    """Who is watched. Methods raise StorageError."""

    shelf: Shelf
    clock: Clock

    async def begin(self, peer: str, *, by: str, lasting: timedelta = FOR) -> None:
        """Watch a peer, for so long from now on."""
        until = self.clock.now() + min(lasting, LONGEST).total_seconds()
        watched = Watched(peer.lower(), by, until)
        await self.shelf.keep(SPACE, watched.peer, msgspec.json.encode(watched), until=until)

    async def end(self, peer: str) -> bool:
        """Whether it was watched."""
        return await self.shelf.drop(SPACE, peer.lower())

    async def all(self) -> Mapping[str, Watched]:
        """All that are, by peer."""
        found = await self.shelf.all_kept(SPACE, now=self.clock.now())
        return {peer: msgspec.json.decode(value, type=Watched) for peer, value in found}
