"""What the log is written with: at once, or by a thread that may wait for its reader while the service does not.

A log that cannot be written (disk full, reader gone or asleep) never costs a message: lines are lost, counted, and
owned up to. Not here: what a line says, and how long it gathers (log.py).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import BinaryIO, Final, Protocol

#: Octets that wait for a reader who does not keep up; some thousand messages' lines.
BACKLOG: Final = 1024 * 1024
#: How long the end of the service waits for that reader.
LAST_WORDS: Final = timedelta(seconds=2)


class Pen(Protocol):
    """Writes lines; never raises."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Write them, in this order, or count them as lost."""
        ...

    def close(self) -> None:
        """See what was handed over written, as far as that is possible."""
        ...


class AtOnce:
    """Writes in the caller's own time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.lost = 0  # lines

    def write(self, lines: Sequence[bytes]) -> None:
        owned_up = self.lost
        confession = [b'{"level":"warning","event":"log lines lost","lines":%d}\n' % owned_up] if owned_up else []
        try:
            self._stream.write(b"".join([*lines, *confession]))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: somebody has closed the stream
            self.lost += len(lines)
        else:
            self.lost -= owned_up

    def close(self) -> None:
        return


class Outlet(Protocol):
    """Where lines leave the process, in whatever time that takes."""

    lost: int

    def write(self, lines: Sequence[bytes]) -> None:
        """Write them; never raises, and counts as `lost` what could not be written."""
        ...


class Aside:
    """Writes in a thread of its own. What comes while `BACKLOG` octets wait is lost, and counted."""

    def __init__(self, outlet: Outlet) -> None:
        self._pen = outlet
        self._lines: list[bytes] = []
        self._octets = 0  # of those that wait or are being written
        self._missed = 0  # lines
        self._changed = threading.Condition()
        self._runs = False

    def write(self, lines: Sequence[bytes]) -> None:
        size = sum(map(len, lines))
        with self._changed:
            if self._octets and self._octets + size > BACKLOG:
                self._missed += len(lines)
                return
            self._lines += lines
            self._octets += size
            if not self._runs:
                self._runs = True
                # A daemon: a reader who never reads must not keep the process from its end.
                threading.Thread(target=self._run, name="log", daemon=True).start()
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._octets, LAST_WORDS.total_seconds())

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines, self._lines = self._lines, []
                size = sum(map(len, lines))
                self._pen.lost, self._missed = self._pen.lost + self._missed, 0
            self._pen.write(lines)
            with self._changed:
                self._octets -= size
                self._changed.notify_all()
