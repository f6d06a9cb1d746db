"""The shelf: small things that must outlast the process, and that all processes of a queue see alike.

Counters, what a client was told before, the configuration in force: each has a space (whose it is), a key within it,
and an end, after which it is gone. It is part of every storage (storage.py) and durable as mail is. Not for what each
message needs: a look at the shelf is a look at the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from waypost.net.clock import Instant

#: An end that does not come.
FOR_EVER: Final = Instant(2.0**53)


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing is kept there: nothing ever was, it was dropped, or its end has come."""


class Shelf(Protocol):
    """All raise StorageError where the storage fails. A value is up to a few KiB; a space has one owner."""

    async def keep(self, space: str, key: str, value: bytes, *, until: Instant) -> None:
        """Keep a value up to then, in place of what was there."""
        ...

    async def keep_new(self, space: str, key: str, value: bytes, *, until: Instant, now: Instant) -> bool:
        """Keep a value where there is none; False: another is there, and stays. Of two at once, one gets True."""
        ...

    async def kept(self, space: str, key: str, *, now: Instant) -> bytes | Absent:
        """What is kept there."""
        ...

    async def all_kept(self, space: str, *, now: Instant) -> Sequence[tuple[str, bytes]]:
        """All keys of a space with their values, by key ascending."""
        ...

    async def add(self, space: str, key: str, amount: int, *, until: Instant, now: Instant) -> int:
        """Add to a number, atomically; the sum. One that is absent begins at 0 and ends then; else its end stays.

        Raises: ValueError, where what is kept there is no number.
        """
        ...

    async def drop(self, space: str, key: str) -> bool:
        """Take it away; whether it was there."""
        ...

    async def clear_shelf(self, *, now: Instant, limit: int) -> int:
        """Drop what has come to its end, at most so many; the number dropped."""
        ...


class MemoryShelf:
    """A shelf in memory; its methods do not wait, for a storage to wrap."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[bytes, Instant]] = {}

    def keep(self, space: str, key: str, value: bytes, until: Instant) -> None:
        self._kept[space, key] = (value, until)

    def keep_new(self, space: str, key: str, value: bytes, until: Instant, now: Instant) -> bool:
        if not isinstance(self.kept(space, key, now), Absent):
            return False
        self.keep(space, key, value, until)
        return True

    def kept(self, space: str, key: str, now: Instant) -> bytes | Absent:
        value, until = self._kept.get((space, key), (b"", now))
        return value if until > now else Absent()

    def all_kept(self, space: str, now: Instant) -> list[tuple[str, bytes]]:
        found = [(key, value) for (of, key), (value, until) in self._kept.items() if of == space and until > now]
        return sorted(found)

    def add(self, space: str, key: str, amount: int, until: Instant, now: Instant) -> int:
        before = self.kept(space, key, now)
        if isinstance(before, Absent):
            self.keep(space, key, b"%d" % amount, until)
            return amount
        total = int(before) + amount
        self.keep(space, key, b"%d" % total, self._kept[space, key][1])
        return total

    def drop(self, space: str, key: str) -> bool:
        return bool(self._kept.pop((space, key), ()))

    def clear(self, now: Instant, limit: int) -> int:
        over = [place for place, (_, until) in self._kept.items() if until <= now][:limit]
        for place in over:
            del self._kept[place]
        return len(over)
