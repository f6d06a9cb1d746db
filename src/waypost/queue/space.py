"""Whether there is room for new mail, and a place: looked at once a second.

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
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

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


class SpoolGoneError(StorageError):
    """What is written now is nowhere that a next start would find it."""


def identity(file: Path) -> tuple[int, int]:
    """By what one file differs from all others, whatever its name; (0, 0): there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def gone(database: Path) -> SpoolGoneError:
    """The error of a database that is open, and has its place no more."""
    why = (
        f"{database} was deleted, or another was put in its place, while process {os.getpid()} works with it; what "
        "waits is in that process alone, and gone with it: new mail is refused, delivery goes on. Let it deliver, or "
        f"copy the files out of /proc/{os.getpid()}/fd, before you stop it"
    )
    return SpoolGoneError(StoreFault(StoreFaultKind.FAILED, why))


class Room:
    """Whether new mail is to be refused. `floor`: octets that have to be free of what `measure` tells."""

    __slots__ = ("_clock", "_floor", "_measure", "gone", "is_low")

    def __init__(self, measure: Callable[[], Awaitable[int]], floor: int, clock: Clock) -> None:
        self._measure = measure
        self._floor = floor
        self._clock = clock
        self.is_low = False
        self.gone = ""  # why there is no place at all for new mail

    @property
    def why(self) -> str:
        """What to say while new mail is refused; empty while it is not."""
        if self.gone or not self.is_low:
            return self.gone
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
        except SpoolGoneError as error:
            self._lost(error.fault.detail)
            return
        except (OSError, StorageError):
            return
        self.gone = ""
        was_low, self.is_low = self.is_low, free < self._floor
        if self.is_low and not was_low:
            structlog.get_logger().error("the disk is low", reason=self.why, free=free)
        if was_low and not self.is_low:
            structlog.get_logger().warning("the disk has room again: new mail is taken", free=free)

    def _lost(self, why: str) -> None:
        if not self.gone:
            structlog.get_logger().error("the spool is gone: new mail is refused", reason=why)
        self.gone = why
