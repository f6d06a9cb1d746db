"""One next hop as the dispatcher sees it: what waits for it, how many attempts it may have at once, whether it rests.

Feedback: concurrency begins small, grows by one for each full round of successes, and halves when no session can be
had. When that happens twice in a row the destination rests: what is due for it meanwhile is deferred with the same
cause and without an attempt, so that ten thousand messages do not each wait for a time-out of their own. After the rest
one attempt goes ahead alone and decides for the others. Pure: the caller brings the time.

Standing: where many destinations want room at once, one that has just proven itself goes before one that nobody knows
yet, and that before one that fails or from which nothing comes back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from waypost.mail.envelope import InMemory, NextHop
from waypost.mail.explain import as_details, describe_cause
from waypost.mail.outcome import Cause, Deferred, Delivered, InDoubt, LocalTrouble, Outcome, PolicyRefused, Rejected
from waypost.mail.window import ALWAYS, Hourly
from waypost.net.clock import Instant
from waypost.queue.schedule import RetryPolicy
from waypost.queue.storage import Lease
from waypost.route.route import NoRoute, Route
from waypost.route.state import DestinationState, LastReply, Phase, Tally
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import ReversePath

#: Attempts at once with which a destination begins.
FIRST_WINDOW: Final = 5.0
#: Failures in a row that make it rest.
PATIENCE: Final = 2
#: The longest rest; the retry schedule says the shorter ones.
LONGEST_REST: Final = timedelta(minutes=15)
#: A rest is over a little before the messages that met its cause are due again.
SHORTER: Final = 0.9
#: Attempts run, and for so long none of them has ended: the destination has stalled. Healthy ones answer in a second or
#: two; few that delay their greeting on purpose do so for longer.
STALLED: Final = timedelta(seconds=10)
#: Outcomes remembered of each destination, to be shown.
LAST: Final = 5


class Held:
    """A lease in memory; `lease` is replaced when it is renewed."""

    __slots__ = ("lease", "octets")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        #: What it costs in memory.
        self.octets = lease.octets.size if isinstance(lease.octets, InMemory) else 0


class Line:
    """Leases that wait for one destination: by priority (RFC 6710), and within one the reverse-paths take turns.

    One that has much to send does not delay another.
    """

    __slots__ = ("_count", "_lanes")

    def __init__(self) -> None:
        self._lanes: dict[int, OrderedDict[ReversePath, deque[Held]]] = {}  # by priority; none is empty
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Held]:
        for _, lane in sorted(self._lanes.items(), reverse=True):
            for queue in lane.values():
                yield from queue

    def has_from(self, path: ReversePath) -> bool:
        """Whether a lease of this reverse-path waits."""
        return any(path in lane for lane in self._lanes.values())

    def append(self, held: Held) -> None:
        """Behind the others of its priority and reverse-path."""
        message = held.lease.message
        path, lane = message.reverse_path, self._lanes.setdefault(message.parameters.priority, OrderedDict())
        queue = lane.get(path)
        if queue is None:
            lane[path] = deque((held,))
        else:
            queue.append(held)
        self._count += 1

    def first(self) -> Held:
        """The one whose turn it is. Raises: IndexError, where none waits."""
        for held in self:
            return held
        raise IndexError("nothing waits")

    def take(self) -> Held:
        """That one, no longer waiting; the next turn is another reverse-path's. Raises: IndexError."""
        held = self.first()
        priority = held.lease.message.parameters.priority
        lane = self._lanes[priority]
        path, queue = lane.popitem(last=False)
        queue.popleft()
        if queue:
            lane[path] = queue
        elif not lane:
            del self._lanes[priority]
        self._count -= 1
        return held

    def take_if(self, condition: Callable[[Held], bool]) -> list[Held]:
        """Those for which the condition holds, no longer waiting."""
        taken, kept = list[Held](), list[Held]()
        for held in self:
            (taken if condition(held) else kept).append(held)
        if taken:
            self._lanes.clear()
            self._count = 0
            for held in kept:
                self.append(held)
        return taken


class Standing(Enum):
    """How far a destination is trusted with room that others want too."""

    PROVEN = auto()  # its last attempt had a session, and attempts end
    NEW = auto()  # not yet known
    DOUBTFUL = auto()  # its last attempt had none, or it has stalled


class May(Enum):
    """What may be done with the next lease that waits."""

    START = auto()
    DEFER = auto()
    NOT_YET = auto()
    OTHERS = auto()  # other workers have all that the route allows: look again soon


class Destination:
    """The state of one next hop."""

    __slots__ = (
        "_ended",
        "_failures",
        "_is_known",
        "_is_stuck",
        "_policy",
        "_rests",
        "_since",
        "_window",
        "cause",
        "counts",
        "frozen",
        "guests",
        "has_more",
        "has_window",
        "in_turn",
        "is_held",
        "is_opened",
        "last",
        "low_water",
        "moved_at",
        "next_hop",
        "pace",
        "paced_until",
        "rests_until",
        "route",
        "running",
        "stays_until",
        "used_at",
        "waiting",
    )

    def __init__(self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant = 0.0) -> None:
        self.next_hop = next_hop
        self.route = route
        self.waiting = Line()
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
        #: When an attempt last ended of itself, or began with no other running.
        self.moved_at = 0.0
        self.rests_until = 0.0
        #: Whether it may deliver only at times, and whether somebody, or much mail, has opened it meanwhile.
        self.has_window = isinstance(route, Route) and isinstance(route.window, Hourly)
        self.is_opened = False
        #: Seconds from one attempt to the next (0: none), and when the next may begin.
        self.pace = route.limits.pace if isinstance(route, Route) else 0.0
        self.paced_until = 0.0
        #: Whether its mail stays in the queue, neither tried nor deferred, until `let_go` or `thaw`.
        self.is_held = False
        #: By whom it is frozen, and why; empty where it is not.
        self.frozen = ""
        #: When its mail may go again that stays in the queue for a time; 0: for none.
        self.stays_until = 0.0
        #: Attempts of other next hops' mail that wait for a place here, the longest waiting first.
        self.guests: deque[asyncio.Future[None]] = deque()
        self._ended = False  # an authorisation that it needs
        self._since = since
        #: What came of recipients, and of the last ones; who writes an attempt down adds to both.
        self.counts: dict[type[Outcome], int] = dict.fromkeys((Delivered, Deferred, Rejected, InDoubt), 0)
        self.last: deque[tuple[Instant, Outcome]] = deque(maxlen=LAST)
        #: Why the last attempt found no session; of no meaning once one was had.
        self.cause: Cause = LocalTrouble("nothing has happened yet")
        self._policy = policy
        self._window = min(FIRST_WINDOW, float(self.limit))
        self._failures = 0
        self._rests = 0
        self._is_known = False
        self._is_stuck = False

    def adopt(self, route: Route | NoRoute, policy: RetryPolicy) -> None:
        """The route has changed, or the schedule; what was learnt of the hosts stays."""
        self.route, self._policy = route, policy
        self.pace = route.limits.pace if isinstance(route, Route) else 0.0
        self._window = min(self._window, float(self.limit))

    @property
    def limit(self) -> int:
        """Attempts at once, as the route allows."""
        return self.route.limits.concurrency if isinstance(self.route, Route) else 1

    def is_shut(self, at: Instant) -> bool:
        """Whether its mail stays in the queue because its delivery window is shut at `at` (wall clock)."""
        window = self.route.window if isinstance(self.route, Route) else ALWAYS
        return isinstance(window, Hourly) and not self.is_opened and not window.is_open(at)

    def wants_open(self, since: Instant, waiting: int, at: Instant) -> bool:
        """Whether its mail opens it: due `since`, so many messages."""
        window = self.route.window if isinstance(self.route, Route) else ALWAYS
        if not isinstance(window, Hourly):
            return False
        has_waited = bool(window.waited) and at - since >= window.waited.total_seconds()
        return has_waited or 0 < window.messages <= waiting

    @property
    def counts_to(self) -> int:
        """So many messages waiting open it; 0: their number opens nothing."""
        window = self.route.window if isinstance(self.route, Route) else ALWAYS
        return window.messages if isinstance(window, Hourly) else 0

    @property
    def authorisation(self) -> str:
        """The OAuth authorisation that its mail needs, or ""."""
        credentials = self.route.credentials if isinstance(self.route, Route) else NoCredentials()
        return credentials.oauth if isinstance(credentials, Credentials) else ""

    def may(self, now: float) -> May:
        """What may be done with its next lease at `now` (monotonic)."""
        if self.is_held:
            return May.NOT_YET
        if now < self.rests_until:
            return May.DEFER
        if self.pace and now < self.paced_until:
            return May.NOT_YET
        return May.START if self.running < int(self._window) else May.NOT_YET

    def standing(self, now: float) -> Standing:
        """How far it is trusted at `now` (monotonic)."""
        if self.is_held or self._failures or self._rests or self._is_stuck or self._has_stalled(now):
            return Standing.DOUBTFUL
        return Standing.PROVEN if self._is_known else Standing.NEW

    def _has_stalled(self, now: float) -> bool:
        return self.running > 0 and now - self.moved_at >= STALLED.total_seconds()

    def cut_short(self) -> None:
        """Attempts that had stalled were given up for the sake of others: it stays in doubt until one ends."""
        self._is_stuck = True

    def succeeded(self) -> bool:
        """A session was had; whether it had begun to rest since the last one."""
        has_rested = self._rests > 0
        self._failures = self._rests = 0
        self._is_known, self._is_stuck = True, False
        if self._window < self.limit:
            self._window += 1 / self._window
        return has_rested

    def failed(self, cause: Cause, now: float) -> timedelta:
        """No session could be had. The rest that begins now; none (zero) at the first failure, or while it rests."""
        if now < self.rests_until:
            return timedelta()
        self.cause = cause
        self._is_stuck = False
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

    def hold(self, cause: Cause) -> None:
        """Try nothing until `let_go`, and defer nothing either: no attempt is counted, and nobody's time runs out."""
        self.cause = cause
        self._ended = self.is_held = True

    def stay(self, cause: Cause, until: float) -> None:
        """The same for a time, up to `until` (monotonic)."""
        self.cause = cause
        self.stays_until, self.is_held = until, True

    def resume(self, now: float) -> None:
        """Its mail may go again, where it was only for a time that it stayed."""
        if self.stays_until and now >= self.stays_until:
            self.stays_until = 0.0
            self.is_held = self._ended or bool(self.frozen)

    def let_go(self) -> None:
        """What it was held for is mended."""
        self._ended, self.stays_until = False, 0.0
        self.is_held = bool(self.frozen)

    def freeze(self, why: str) -> None:
        """Try nothing until `thaw` (or `freeze("")`), and give nothing up."""
        self.frozen = why
        self.is_held = self._ended or bool(why) or self.stays_until > 0

    def state(self, now: float, at: Instant) -> DestinationState:
        """What it is doing; `at` is what the wall clock says at `now` (monotonic)."""
        in_trouble = self._ended or self._failures > 0 or self._rests > 0 or self.stays_until > 0
        rests_until = self.stays_until or self.rests_until
        return DestinationState(
            next_hop=self.next_hop,
            phase=Phase.SHUT if self.has_window and self.is_shut(at) else self._phase(now, in_trouble=in_trouble),
            waiting=len(self.waiting),
            more=self.has_more,
            running=self.running,
            window=int(self._window),
            limit=self.limit,
            cause=self.frozen or (describe_cause(self.cause) if in_trouble else ""),
            rests_until=at + rests_until - now if in_trouble and rests_until else 0.0,
            tally=self._tally(),
            route=self.route.name if isinstance(self.route, Route) else "",
            pace=self.pace,
            paced_until=at + self.paced_until - now if self.pace and self.paced_until else 0.0,
            status=str(self.cause.status) if in_trouble and isinstance(self.cause, PolicyRefused) else "",
        )

    def _tally(self) -> Tally:
        return Tally(
            self._since,
            self.counts[Delivered],
            self.counts[Deferred],
            self.counts[Rejected],
            self.counts[InDoubt],
            tuple(_reply(at, outcome) for at, outcome in reversed(self.last)),
        )

    def _phase(self, now: float, *, in_trouble: bool) -> Phase:
        if self.frozen:
            return Phase.FROZEN
        if self.is_held:
            return Phase.HELD if self._ended else Phase.RESTING
        if now < self.rests_until:
            return Phase.RESTING
        if not self.running:
            return Phase.WAITING if self.waiting or self.has_more else Phase.IDLE
        if in_trouble:
            return Phase.PROBING
        return Phase.STALLED if self._has_stalled(now) else Phase.DELIVERING

    def end_rest(self, now: float) -> None:
        """Let the next attempt be made now; it decides for the others as it would have later."""
        self.rests_until = min(self.rests_until, now)

    def is_forgettable(self, now: float, after: timedelta) -> bool:
        """Whether nothing waits, runs or rests here, and has not for a while."""
        idle = not (self.waiting or self.running or self.in_turn or self.has_more or self.is_held or self.is_opened)
        return idle and now >= max(self.rests_until, self.used_at) + after.total_seconds()


def _reply(at: Instant, outcome: Outcome) -> LastReply:
    details = as_details(outcome)
    return LastReply(at, str(details["outcome"]), str(details["text"]))
