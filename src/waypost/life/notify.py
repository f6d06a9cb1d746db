"""Telling systemd how it stands (sd_notify(3)): ready, reloading, stopping, a status line, and that it is alive.

Nothing is told where nobody asked: NOTIFY_SOCKET and WATCHDOG_USEC come from the unit. Not here: sockets that systemd
hands over (net/sockets.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

#: How long a manager may take to listen. What changes it must hear of: it ends a service that is never ready.
PATIENCE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Notifier:
    """`address`: where to tell, "" for nobody; `watchdog`: how often a sign of life is due, zero for never."""

    address: str = ""
    watchdog: timedelta = timedelta()

    @classmethod
    def of(cls, environment: Mapping[str, str], process: int) -> Notifier:
        """As the unit asks of this process."""
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(process)) == str(process)
        due = int(usec) if ours and usec.isascii() and usec.isdigit() else 0
        return cls(environment.get("NOTIFY_SOCKET", ""), timedelta(microseconds=due))

    def ready(self, status: str) -> None:
        """It serves."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Another configuration is being put in force; `ready` ends it."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000  # systemd's own clock, not ours to replace
        self._tell("RELOADING=1", f"MONOTONIC_USEC={usec}")

    def stopping(self, status: str) -> None:
        """It ends, and what is under way may."""
        self._tell("STOPPING=1", f"STATUS={_line(status)}")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1", within=timedelta())

    def _tell(self, *lines: str, within: timedelta = PATIENCE) -> None:
        """A manager that cannot be told is none of the mail's business."""
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.settimeout(within.total_seconds())
            telling.sendto("\n".join(lines).encode(), address)


def _line(text: str) -> str:
    """All complaints about a configuration are many lines; the log has them."""
    return " ".join(text.split())[:500]


def from_environment() -> Notifier:
    """The notifier of this process."""
    return Notifier.of(os.environ, os.getpid())
