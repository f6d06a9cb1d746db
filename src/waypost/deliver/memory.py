"""What is remembered of each host from one session to the next: whether it fails on EHLO, whether it offered STARTTLS.

A hint, not the truth: it is lost with the process, and then each host is asked with EHLO again.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from waypost.net.clock import Clock
from waypost.net.stream import Endpoint

#: How long a host is remembered; then it is asked with EHLO again.
TIME_TO_LIVE: Final = timedelta(hours=24)
#: Hosts remembered at once, some 200 octets each; beyond it the one longest unused is forgotten.
CAPACITY: Final = 20_000


class Habit(Enum):
    """What a host is known for."""

    UNKNOWN = auto()
    HELO_ONLY = auto()  # it broke on EHLO, and opened with HELO
    OFFERED_STARTTLS = auto()  # so whoever makes it fail on EHLO may be stripping TLS: never HELO


class HostMemory:
    """The habits of the hosts met lately, by address and port."""

    def __init__(self, clock: Clock, *, time_to_live: timedelta = TIME_TO_LIVE, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._time_to_live = time_to_live.total_seconds()
        self._capacity = capacity
        self._known: OrderedDict[Endpoint, tuple[Habit, float]] = OrderedDict()

    def recall(self, endpoint: Endpoint) -> Habit:
        """The habit noted for `endpoint`, while it lasts."""
        habit, until = self._known.get(endpoint, (Habit.UNKNOWN, 0.0))
        if habit is Habit.UNKNOWN:
            return habit
        if self._clock.monotonic() >= until:
            del self._known[endpoint]
            return Habit.UNKNOWN
        self._known.move_to_end(endpoint)
        return habit

    def note(self, endpoint: Endpoint, habit: Habit) -> None:
        """Remember `habit` from now on; what was known before is replaced."""
        if habit is Habit.UNKNOWN:
            self._known.pop(endpoint, None)
            return
        self._known[endpoint] = (habit, self._clock.monotonic() + self._time_to_live)
        self._known.move_to_end(endpoint)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def opened_with_ehlo(self, endpoint: Endpoint) -> None:
        """EHLO was answered 250: HELO alone is a thing of the past."""
        if self.recall(endpoint) is Habit.HELO_ONLY:
            del self._known[endpoint]
