"""The shelf (shelf.py) as rows of a table in SQLite. Each function runs in the transaction of its caller.

`RowShelf` is the Shelf of whoever has such a table, and says how an operation gets there.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from waypost.net.clock import Instant
from waypost.queue.shelf import Absent

T = TypeVar("T")


def kept(connection: sqlite3.Connection, space: str, key: str, now: Instant) -> bytes | Absent:
    """What is kept there."""
    select = "SELECT value FROM kept WHERE space = ? AND key = ? AND until > ?"
    rows = connection.execute(select, (space, key, now)).fetchall()
    return bytes(rows[0][0]) if rows else Absent()


def all_kept(connection: sqlite3.Connection, space: str, now: Instant) -> list[tuple[str, bytes]]:
    """All that a space has."""
    select = "SELECT key, value FROM kept WHERE space = ? AND until > ? ORDER BY key"
    return connection.execute(select, (space, now)).fetchall()


def keep(connection: sqlite3.Connection, space: str, key: str, value: bytes, until: Instant) -> None:
    """Keep a value in place of another."""
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", (space, key, value, until))


def keep_new(connection: sqlite3.Connection, space: str, key: str, value: bytes, until: Instant, now: Instant) -> bool:
    """Keep a value where there is none."""
    if not isinstance(kept(connection, space, key, now), Absent):
        return False
    keep(connection, space, key, value, until)
    return True


def add(connection: sqlite3.Connection, space: str, key: str, amount: int, until: Instant, now: Instant) -> int:
    """Add to a number; the sum. Raises: ValueError, where there is something else."""
    before = kept(connection, space, key, now)
    if isinstance(before, Absent):
        keep(connection, space, key, b"%d" % amount, until)
        return amount
    total = int(before) + amount
    connection.execute("UPDATE kept SET value = ? WHERE space = ? AND key = ?", (b"%d" % total, space, key))
    return total


def drop(connection: sqlite3.Connection, space: str, key: str) -> bool:
    """Take a value away."""
    return connection.execute("DELETE FROM kept WHERE space = ? AND key = ?", (space, key)).rowcount > 0


def clear(connection: sqlite3.Connection, now: Instant, limit: int) -> int:
    """Drop what has come to its end."""
    over = "SELECT space, key FROM kept WHERE until <= ? LIMIT ?"
    return connection.execute(f"DELETE FROM kept WHERE (space, key) IN ({over})", (now, limit)).rowcount  # noqa: S608 - a constant


class RowShelf(ABC):
    """A shelf of rows. All raise StorageError."""

    @abstractmethod
    async def _change_shelf(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """In a transaction that writes."""

    @abstractmethod
    async def _look_at_shelf(self, question: Callable[[sqlite3.Connection], T], *, is_long: bool) -> T:
        """In one that reads; one that `is_long` must not keep others waiting."""

    async def keep(self, space: str, key: str, value: bytes, *, until: Instant) -> None:
        await self._change_shelf(lambda connection: keep(connection, space, key, value, until))

    async def keep_new(self, space: str, key: str, value: bytes, *, until: Instant, now: Instant) -> bool:
        return await self._change_shelf(lambda connection: keep_new(connection, space, key, value, until, now))

    async def kept(self, space: str, key: str, *, now: Instant) -> bytes | Absent:
        return await self._look_at_shelf(lambda connection: kept(connection, space, key, now), is_long=False)

    async def all_kept(self, space: str, *, now: Instant) -> Sequence[tuple[str, bytes]]:
        return await self._look_at_shelf(lambda connection: all_kept(connection, space, now), is_long=True)

    async def add(self, space: str, key: str, amount: int, *, until: Instant, now: Instant) -> int:
        return await self._change_shelf(lambda connection: add(connection, space, key, amount, until, now))

    async def drop(self, space: str, key: str) -> bool:
        return await self._change_shelf(lambda connection: drop(connection, space, key))

    async def clear_shelf(self, *, now: Instant, limit: int) -> int:
        return await self._change_shelf(lambda connection: clear(connection, now, limit))
