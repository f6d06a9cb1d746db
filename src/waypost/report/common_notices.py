"""Notices of all processes of one queue: one of them tells in a time, and for all. By way of the shelf.

Whose turn it is: who takes the place on the shelf that nobody has, for as long as no other notice may go out. Others
hand what they have gathered over to whoever is next, and so does a process that ends. A process killed after it has
filed a notice, and before that is noted, leaves what it had taken over to be told twice; nothing is told by nobody.
Not here: what a notice says (notices.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

import msgspec

from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import Shelf

#: Whose turn it is, and what was handed over.
TURN: Final = "notices' turn"
HANDED: Final = "notices handed over"
#: Events of a class that are handed over one by one: what stands on the shelf is small.
HANDED_EVENTS: Final = 5
#: What was handed over, and nobody took, is told to nobody after this.
KEPT: Final = timedelta(days=7)


class Class(Enum):
    """What notices are of."""

    BOUNCES = "bounces"
    DELAYS = "delays"
    POLICY = "policy"
    RESOURCES = "resources"
    PROTOCOL = "protocol"
    AUTH = "auth"


@dataclass(slots=True)
class Gathered:
    """What happened of one class since the last notice: how often, and the first events, a line each."""

    count: int = 0
    events: list[str] = field(default_factory=list)


class _Handed(msgspec.Struct, array_like=True):
    since: float
    classes: dict[str, tuple[int, list[str]]]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What others have handed over; `keys`: where it stands until it has been told."""

    keys: Sequence[str]
    since: Instant
    gathered: Sequence[tuple[Class, Gathered]]


class CommonNotices:
    """The processes' arrangement. All methods raise StorageError."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def is_our_turn(self, lasts: timedelta) -> bool:
        """Whether a notice may go out now; then no other may for so long."""
        now = self._clock.now()
        return await self._shelf.keep_new(TURN, "", b"", until=now + lasts.total_seconds(), now=now)

    async def give_back(self) -> None:
        """The turn was of no use."""
        await self._shelf.drop(TURN, "")

    async def hand_over(self, key: str, gathered: Mapping[Class, Gathered], since: Instant) -> None:
        """Let whoever is next tell this. `key`: a name that nothing else has."""
        classes = {of.value: (one.count, one.events[:HANDED_EVENTS]) for of, one in gathered.items()}
        value = msgspec.json.encode(_Handed(since, classes))
        await self._shelf.keep(HANDED, key, value, until=self._clock.now() + KEPT.total_seconds())

    async def taken_over(self) -> TakenOver:
        """All that was handed over, in the order it was; what another release has written otherwise is left for it."""
        handed = dict[str, _Handed]()
        for key, value in await self._shelf.all_kept(HANDED, now=self._clock.now()):
            with contextlib.suppress(msgspec.DecodeError):
                handed[key] = msgspec.json.decode(value, type=_Handed)
        since = min((one.since for one in handed.values()), default=self._clock.now())
        return TakenOver(list(handed), since, [one for each in handed.values() for one in _classes(each)])

    async def told(self, taken: TakenOver) -> None:
        """It need not be told again."""
        for key in taken.keys:
            await self._shelf.drop(HANDED, key)


def _classes(handed: _Handed) -> Iterator[tuple[Class, Gathered]]:
    known = {each.value: each for each in Class}
    for name, (count, events) in handed.classes.items():
        if name in known:  # a later version may have others
            yield known[name], Gathered(count, events)
