"""SIGHUP before anybody can hear it: unhandled it ends a process, so a reload while it starts would be its end.

It is kept back from the first moment on, and delivered once what it asks for can be done; none is lost. Not here: what
it asks for (serving.py, supervisor.py).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HANGUP: Final = {signal.SIGHUP}


def keep_back() -> None:
    """From now on it waits, here and in processes that are begun from here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP)


def let_come() -> None:
    """There is a handler: one that waited comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANGUP)


@contextmanager
def kept_back() -> Iterator[None]:
    """A process that is begun within hears none until it lets them come."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
