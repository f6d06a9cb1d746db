"""What is remembered of each host from one session to the next: whether it fails on EHLO, whether it offered STARTTLS.

A hint, not the truth: where no other process of the queue knows it, it is lost with this one, and then each host is
asked with EHLO again.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from enum import Enum, auto
from typing import Final, NamedTuple

from waypost.net.clock import Clock, Instant
from waypost.net.stream import Endpoint
from waypost.queue.exchange import NO_OTHERS, Exchange, Telling

#: How long a host is remembered; then it is asked with EHLO again.
TIME_TO_LIVE: Final = timedelta(hours=24)
#: Hosts remembered at once, some 200 octets each; beyond it the one longest unused is forgotten.
CAPACITY: Final = 20_000


class Habit(Enum):
    """What a host is known for."""

    UNKNOWN = auto()
    HELO_ONLY = auto()  # it broke on EHLO, and opened with HELO
    OFFERED_STARTTLS = auto()  # so whoever makes it fail on EHLO may be stripping TLS: never HELO


#: What habits are told as.
KIND: Final = "habit"


class _Told(NamedTuple):
    """A habit, as the processes of a queue tell it. `until`: when (wall clock) it is believed no longer."""

    host: str
    port: int
    habit: str
    until: Instant


class _Known(NamedTuple):
    """A habit, until when (monotonic) it is believed here, and until when by the others, who were told or told us."""

    habit: Habit
    until: float
    told: float


_NOTHING: Final = _Known(Habit.UNKNOWN, 0.0, 0.0)


class HostMemory:
    """The habits of the hosts met lately, by address and port."""

    def __init__(self, clock: Clock, *, time_to_live: timedelta = TIME_TO_LIVE, capacity: int = CAPACITY) -> None:
        self._others: Telling = NO_OTHERS
        self._clock = clock
        self._time_to_live = time_to_live.total_seconds()
        self._capacity = capacity
        self._known: OrderedDict[Endpoint, _Known] = OrderedDict()

    def recall(self, endpoint: Endpoint) -> Habit:
        """The habit noted for `endpoint`, while it lasts."""
        known = self._known.get(endpoint, _NOTHING)
        if known is _NOTHING:
            return Habit.UNKNOWN
        if self._clock.monotonic() >= known.until:
            del self._known[endpoint]
            return Habit.UNKNOWN
        self._known.move_to_end(endpoint)
        return known.habit

    def note(self, endpoint: Endpoint, habit: Habit) -> None:
        """Remember `habit` from now on; what was known before is replaced.

        The others are told what is new, and again when half the time is over for which they know it.
        """
        before, now = self.recall(endpoint), self._clock.monotonic()
        told = self._known.get(endpoint, _NOTHING).told
        if habit is not before or (habit is not Habit.UNKNOWN and told < now + self._time_to_live / 2):
            told, until = now + self._time_to_live, self._clock.now() + self._time_to_live
            self._others.tell(
                KIND, _Told(endpoint.host, endpoint.port, habit.name, until), key=str(endpoint), until=until
            )
        self._note(endpoint, _Known(habit, now + self._time_to_live, told))

    def opened_with_ehlo(self, endpoint: Endpoint) -> None:
        """EHLO was answered 250: HELO alone is a thing of the past."""
        if self.recall(endpoint) is Habit.HELO_ONLY:
            self.note(endpoint, Habit.UNKNOWN)

    def share(self, exchange: Exchange) -> None:
        """Tell the other processes, and heed them."""
        self._others = exchange
        exchange.listen(KIND, _Told, self._heard)

    def _heard(self, told: _Told) -> None:
        host, port, name, until = told
        if name in Habit.__members__ and until > self._clock.now():
            until = self._clock.monotonic() + min(until - self._clock.now(), self._time_to_live)
            self._note(Endpoint(host, port), _Known(Habit[name], until, until))

    def for_another(self, time_to_live: timedelta) -> HostMemory:
        """What is known, for who remembers it for another time from now on: nothing longer than that."""
        other = HostMemory(self._clock, time_to_live=time_to_live, capacity=self._capacity)
        most = self._clock.monotonic() + time_to_live.total_seconds()
        for endpoint, known in self._known.items():
            other._known[endpoint] = known._replace(until=min(known.until, most))
        return other

    def _note(self, endpoint: Endpoint, known: _Known) -> None:
        if known.habit is Habit.UNKNOWN:
            self._known.pop(endpoint, None)
            return
        self._known[endpoint] = known
        self._known.move_to_end(endpoint)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
