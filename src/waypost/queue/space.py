"""Whether there is room for new mail: looked at once a second.

Below the floor new mail is refused at MAIL, before a client has sent anything, while delivery goes on and makes room.
Who asks reads an attribute: no question to the disk is on the way of a message, and a disk that hangs holds up only the
one who watches it. Not here: the reserve that is kept for settling (writes.py), which holds even between two looks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from waypost.net.clock import Clock
from waypost.queue.storage import StorageError

#: Between two looks.
EVERY: Final = timedelta(seconds=1)


def room(spool: Path, connection: sqlite3.Connection, enough: int = -1) -> int:
    """Octets that can still be stored: free ones of the file system, and free pages of the database.

    A spool never shrinks: once a backlog has filled the disk, its own free pages are the only room there is. They are
    not counted where the disk alone has `enough`. Raises: OSError, sqlite3.Error.
    """
    disk = os.statvfs(spool)
    free: int = disk.f_bavail * disk.f_frsize
    if 0 <= enough <= free:
        return free
    (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return free + int(pages) * int(size)


class Room:
    """Whether new mail is to be refused. `floor`: octets that have to be free of what `measure` tells."""

    __slots__ = ("_clock", "_floor", "_measure", "is_low")

    def __init__(self, measure: Callable[[], Awaitable[int]], floor: int, clock: Clock) -> None:
        self._measure = measure
        self._floor = floor
        self._clock = clock
        self.is_low = False

    @property
    def why(self) -> str:
        """What to say while it is low."""
        return f"less than {self._floor >> 20} MiB are free for the spool: new mail is refused (452 4.3.1)"

    async def watch(self) -> None:
        """Look, and look again; told in the log when it changes. Runs until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """One look. A storage that does not answer is told of by those who need it."""
        try:
            free = await self._measure()
        except (OSError, StorageError):
            return
        was_low, self.is_low = self.is_low, free < self._floor
        if self.is_low and not was_low:
            structlog.get_logger().error("the disk is low", reason=self.why, free=free)
        if was_low and not self.is_low:
            structlog.get_logger().warning("the disk has room again: new mail is taken", free=free)
