"""Time: the wall clock for schedules, the monotonic clock for time-outs (never the other way round)."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Protocol, TypeAlias

Instant: TypeAlias = float
"""A point on the wall clock: seconds since 1970-01-01T00:00:00Z."""


class Clock(Protocol):
    """What may be asked about time."""

    def now(self) -> Instant:
        """The wall clock: may step when an administrator sets it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Wait, by the monotonic clock."""
        ...


class SystemClock:
    """The machine's clocks, which are asked a dozen times a message: the system's functions themselves."""

    now = staticmethod(time.time)  # noqa: TID251 - the one place that asks the machine
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - likewise; it is what event loops go by

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())
