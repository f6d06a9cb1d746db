"""How much mail has flowed lately: a sample every few seconds, kept for some hours, for the dashboard's charts.

In memory alone: a restart begins anew, and the metrics are for those who want to know more, and for longer.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from waypost.admin.answers import OperationError
from waypost.net.clock import Clock, Instant
from waypost.queue.storage import Counts, StorageError

#: Between two samples, and how many are kept: six hours.
EVERY: Final = timedelta(seconds=10)
KEPT: Final = 2160
#: Points of a chart.
POINTS: Final = 120

Totals: TypeAlias = Callable[[], Awaitable[Mapping[str, float]]]
"""What was counted since the start, by the names of a Sample's fields; and the sessions open now."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The counts at one moment; all but the last three are totals since the start."""

    at: Instant
    received: float = 0.0
    octets: float = 0.0
    delivered: float = 0.0
    deferred: float = 0.0
    rejected: float = 0.0
    in_doubt: float = 0.0
    refused: float = 0.0
    sessions: float = 0.0
    queued: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """Samples in order, oldest first; at most POINTS, evenly spread."""

    samples: tuple[Sample, ...]


async def no_totals() -> Mapping[str, float]:
    """Nothing is counted."""
    return {}


class FlowKeeper:
    """Takes samples while `run` runs."""

    def __init__(self, totals: Totals, counts: Callable[[], Awaitable[Counts]], clock: Clock) -> None:
        self._totals = totals
        self._counts = counts
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    async def run(self) -> None:
        """Take samples, for ever."""
        while True:
            # A gap in the chart, where the store or a worker is in trouble: those who need them tell of it.
            with contextlib.suppress(StorageError, OperationError):
                self._samples.append(await self.now())
            await self._clock.sleep(EVERY)

    async def now(self) -> Sample:
        """A sample of this moment. Raises: StorageError."""
        counts = await self._counts()
        return Sample(self._clock.now(), **await self._totals(), queued=counts.recipients, held=counts.held)

    def since(self, span: timedelta) -> Flow:
        """The samples of that time until now."""
        begin = self._clock.now() - span.total_seconds()
        return Flow(tuple(_spread([sample for sample in self._samples if sample.at >= begin])))


def _spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most POINTS of them, the last one included."""
    step = -(-len(samples) // POINTS) or 1
    return samples[::-1][::step][::-1]
