"""One next hop as the dispatcher sees it: what waits for it, how many attempts it may have at once, whether it rests.

Feedback: concurrency begins small, grows by one for each full round of successes, and halves when no session can be
had. When that happens twice in a row the destination rests: what is due for it meanwhile is deferred with the same
cause and without an attempt, so that ten thousand messages do not each wait for a time-out of their own. After the rest
one attempt goes ahead alone and decides for the others. Pure: the caller brings the time.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from waypost.mail.envelope import InMemory, NextHop
from waypost.mail.outcome import Cause, LocalTrouble
from waypost.queue.schedule import RetryPolicy
from waypost.queue.storage import Lease
from waypost.route.route import NoRoute, Route

#: Attempts at once with which a destination begins.
FIRST_WINDOW: Final = 5.0
#: Failures in a row that make it rest.
PATIENCE: Final = 2
#: The longest rest; the retry schedule says the shorter ones.
LONGEST_REST: Final = timedelta(minutes=15)
#: A rest is over a little before the messages that met its cause are due again.
SHORTER: Final = 0.9


class Held:
    """A lease in memory; `lease` is replaced when it is renewed."""

    __slots__ = ("lease", "octets")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        #: What it costs in memory.
        self.octets = lease.octets.size if isinstance(lease.octets, InMemory) else 0


class May(Enum):
    """What may be done with the next lease that waits."""

    START = auto()
    DEFER = auto()
    NOT_YET = auto()


class Destination:
    """The state of one next hop."""

    __slots__ = (
        "_failures",
        "_policy",
        "_rests",
        "_window",
        "cause",
        "has_more",
        "in_turn",
        "low_water",
        "next_hop",
        "rests_until",
        "route",
        "running",
        "used_at",
        "waiting",
    )

    def __init__(self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy) -> None:
        self.next_hop = next_hop
        self.route = route
        self.waiting: deque[Held] = deque()
        #: Attempts under way; an attempt that only waits to be written down no longer counts.
        self.running = 0
        #: Whether the dispatcher has it in its round.
        self.in_turn = False
        #: Whether the queue holds more that is due than there was room for.
        self.has_more = False
        #: So few waiting that the queue is asked for more.
        self.low_water = 0
        #: Monotonic seconds.
        self.used_at = 0.0
        self.rests_until = 0.0
        #: Why it rests; of no meaning when it does not.
        self.cause: Cause = LocalTrouble("nothing has happened yet")
        self._policy = policy
        self._window = min(FIRST_WINDOW, float(self.limit))
        self._failures = 0
        self._rests = 0

    @property
    def limit(self) -> int:
        """Attempts at once, as the route allows."""
        return self.route.limits.concurrency if isinstance(self.route, Route) else 1

    def may(self, now: float) -> May:
        """What may be done with its next lease at `now` (monotonic)."""
        if now < self.rests_until:
            return May.DEFER
        return May.START if self.running < int(self._window) else May.NOT_YET

    def succeeded(self) -> None:
        """A session was had."""
        self._failures = self._rests = 0
        if self._window < self.limit:
            self._window += 1 / self._window

    def failed(self, cause: Cause, now: float) -> timedelta:
        """No session could be had. The rest that begins now; none (zero) at the first failure, or while it rests."""
        if now < self.rests_until:
            return timedelta()
        self._window = max(1.0, self._window / 2)
        self._failures += 1
        if self._failures < PATIENCE:
            return timedelta()
        pauses = self._policy.schedule
        return self.rest(cause, min(pauses[min(self._rests, len(pauses) - 1)], LONGEST_REST) * SHORTER, now)

    def rest(self, cause: Cause, duration: timedelta, now: float) -> timedelta:
        """Try nothing for so long."""
        self.cause = cause
        self.rests_until = now + duration.total_seconds()
        self._rests += 1
        self._window = 1.0
        return duration

    def is_forgettable(self, now: float, after: timedelta) -> bool:
        """Whether nothing waits, runs or rests here, and has not for a while."""
        idle = not (self.waiting or self.running or self.in_turn or self.has_more)
        return idle and now >= max(self.rests_until, self.used_at) + after.total_seconds()
