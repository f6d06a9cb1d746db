"""Whose dialogues are written to the log, for a while: an operator looks over a peer's shoulder.

Kept on the shelf with an end, so that nobody forgets to switch it off, and every process of a queue hears of it. Also
the dialogues of clients that were watched, by the messages they brought; those of attempts are in the history anyway.
Not here: who writes them (report/journal.py, receive/overheard.py), and who may say so (admin/).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

import msgspec

from waypost.mail.envelope import MessageId
from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import Absent, Shelf

SPACE: Final = "watched"
SAID: Final = "dialogues"
#: How long it lasts where nothing else is said, and at most.
FOR: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Watched:
    """A peer whose dialogues are logged: a next hop, a host's name, its numeric address or network; or a listener."""

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
        watched = {}
        for peer, value in found:
            with contextlib.suppress(msgspec.DecodeError):  # another release's
                watched[peer] = msgspec.json.decode(value, type=Watched)
        return watched


#: Seconds since the session began, a mark (`C` the client, `S` we, `*` an event), a line.
Line: TypeAlias = tuple[float, str, str]


@dataclass(frozen=True, slots=True)
class Dialogues:
    """What was said in the sessions that brought messages, of clients that were watched. Methods raise StorageError."""

    shelf: Shelf
    clock: Clock

    async def keep(self, id: MessageId, lines: Sequence[Line]) -> None:  # noqa: A002 - the field's own name
        """Keep what was said until a message was taken, as long as anybody may be watched."""
        until = self.clock.now() + LONGEST.total_seconds()
        await self.shelf.keep(SAID, id, msgspec.json.encode(lines), until=until)

    async def of(self, id: MessageId) -> Sequence[Line]:  # noqa: A002 - the field's own name
        """What was said; empty where nobody listened."""
        kept = await self.shelf.kept(SAID, id, now=self.clock.now())
        return () if isinstance(kept, Absent) else msgspec.json.decode(kept, type=list[Line])
