"""A spool is one service's. Another that is started on it, by mistake or too early, touches nothing of what is there.

Each process locks the part of the spool that it writes to (queue/spool.py). This lock is the whole service's, from
before it opens or removes anything to the end of its first process, however that ends.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from waypost.net.clock import Clock
from waypost.queue.spool import SpoolInUseError, hold, make, unfit

#: How long to wait for a service that has just ended, and that the system is still clearing away.
PATIENCE: Final = timedelta(seconds=2)
PAUSE: Final = timedelta(seconds=0.05)


def see_that_nobody_has(spool: Path, clock: Clock) -> None:
    """Look before a listening socket is opened: it could take clients from the service that is there.

    Nothing is made: whose the spool is to be is not settled yet. Raises: StorageError, with a sentence.
    """
    try:
        if (spool / "service").exists():
            os.close(_hold(spool, clock))
    except OSError as error:
        raise unfit(spool, error) from error


def claim(spool: Path, clock: Clock) -> None:
    """Have the spool, to the end of this process. Raises: StorageError, with a sentence."""
    try:
        make(spool)
        _hold(spool, clock)
    except OSError as error:
        raise unfit(spool, error) from error


def _hold(spool: Path, clock: Clock) -> int:
    """The lock. Raises: SpoolInUseError, once that has lasted; OSError."""
    ends_at = clock.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            return hold(spool / "service")
        except SpoolInUseError:
            if clock.monotonic() > ends_at:
                raise
        time.sleep(PAUSE.total_seconds())  # noqa: TID251 - there is no loop yet, nor anything else to do
