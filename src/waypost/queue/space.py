"""Whether there is room for new mail: the file system of the spool, looked at once a second.

Below the floor new mail is refused at MAIL, before a client has sent anything, while delivery goes on and makes room.
Who asks reads an attribute: no question to the disk is on the way of a message, and a disk that hangs holds up only the
one who watches it. Not here: the reserve that is kept for settling (writes.py), which holds even between two looks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from waypost.net.clock import Clock

#: Between two looks.
EVERY: Final = timedelta(seconds=1)


def free_octets(path: Path) -> int:
    """Octets that a process without privileges may still write there. Raises: OSError."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


class Room:
    """Whether new mail is to be refused. `floor`: octets that have to be free."""

    __slots__ = ("_clock", "_floor", "_measure", "_path", "is_low")

    def __init__(self, path: Path, floor: int, clock: Clock, *, measure: Callable[[Path], int] = free_octets) -> None:
        self._path = path
        self._floor = floor
        self._clock = clock
        self._measure = measure
        self.is_low = False

    @property
    def why(self) -> str:
        """What to say while it is low."""
        return f"less than {self._floor >> 20} MiB are free for the spool {self._path}: new mail is refused (452 4.3.1)"

    async def watch(self) -> None:
        """Look, and look again; told in the log when it changes. Runs until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """One look. A file system that cannot be asked is left to those who write to it."""
        try:
            free = await asyncio.to_thread(self._measure, self._path)
        except OSError:
            return
        was_low, self.is_low = self.is_low, free < self._floor
        if self.is_low and not was_low:
            structlog.get_logger().error("disk low", reason=self.why, free=free)
        if was_low and not self.is_low:
            structlog.get_logger().warning("disk has room again: new mail is taken", free=free)
