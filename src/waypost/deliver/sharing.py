"""What a route allows one next hop, shared by all workers, or all nodes: each has its part, and together never more.

The parts. Those that have something for a next hop divide its `concurrency` between them, and its rate; what the
division leaves over goes round: among workers, to those whose last attempt began longest ago; among nodes, from one to
the next every `SLOT`. Who has less than his part may begin, as long as all together are below the limit. So one with a
long backlog does not keep out another that has a single message, and a limit of 1 goes round.

The error. Among workers it is that of net/shared.py. Nodes see one another as they were a round or two ago
(queue/exchange.py), so a node that has just got something for a next hop has, until all know, what each would have if
all had: the limit divided by the number of nodes, 1 at least. What N nodes may go beyond a limit, for two rounds and
until the attempts begun in them end, is that for each node that begins in the same moment; with more nodes than the
limit counts, N less the limit. Once the rounds have told, they keep to it exactly.

Not here: the window that grows and shrinks with success, which is each one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from waypost.deliver.destination import Destination, May
from waypost.mail.envelope import NextHop
from waypost.net.clock import Clock, Instant
from waypost.net.shared import Numbers, SharedNumbers
from waypost.queue.exchange import ExchangedNumbers
from waypost.queue.schedule import RetryPolicy
from waypost.route.route import NoRoute, Route

#: What times are counted in: with whole milliseconds a number would overflow within a month.
_TICKS: Final = 100
_MOST: Final = 1 << 31
#: How long what is left over stays with a node. At each change nobody has it for a round or two.
SLOT: Final = timedelta(seconds=15)


def part(limit: int, order: Sequence[int], own: int) -> int:
    """How many of `limit` are for `own`, of those in `order`; the first get what is left over. All add up to it."""
    each, rest = divmod(limit, len(order))
    return each + (own in order[:rest])


class Sharing(Protocol):
    """How those who deliver to the same next hops share them."""

    @property
    def numbers(self) -> Numbers:
        """Who has how many attempts under way."""
        ...

    def wants(self, next_hop: NextHop, *, now: bool) -> None:
        """Whether there is something for it here."""
        ...

    def began(self, next_hop: NextHop, at: float) -> None:
        """An attempt begins here at `at` (monotonic)."""
        ...

    def sharers(self, next_hop: NextHop) -> int:
        """How many have something for it, or may have: 1 at least."""
        ...

    def part(self, next_hop: NextHop, limit: int) -> int:
        """How many attempts at once are for us, of so many."""
        ...


@dataclass(frozen=True, slots=True)
class Shares:
    """Among the workers of one machine. `own`: which worker this is."""

    numbers: SharedNumbers
    own: int

    def destination(
        self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant
    ) -> Destination:
        """One whose limit is that of all."""
        return SharedDestination(next_hop, route, policy, since, self)

    def wants(self, next_hop: NextHop, *, now: bool) -> None:
        self.numbers.set(f"wanting {next_hop}", int(now))

    def began(self, next_hop: NextHop, at: float) -> None:
        self.numbers.set(f"began {next_hop}", int(at * _TICKS) % _MOST)

    def sharers(self, next_hop: NextHop) -> int:
        return max(1, self.numbers.total(f"wanting {next_hop}"))

    def part(self, next_hop: NextHop, limit: int) -> int:
        wanting, began = self.numbers.of_all(f"wanting {next_hop}"), self.numbers.of_all(f"began {next_hop}")
        order = sorted((row for row, wants in enumerate(wanting) if wants), key=lambda row: (began[row], row))
        return part(limit, order, self.own)


@dataclass(frozen=True, slots=True)
class NodeShares:
    """Among the nodes of a cluster."""

    numbers: ExchangedNumbers
    clock: Clock
    _since: dict[NextHop, int] = field(default_factory=dict)  # rounds that had ended when something came for it

    def destination(
        self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant
    ) -> Destination:
        """One whose limit is that of all."""
        return SharedDestination(next_hop, route, policy, since, self)

    def wants(self, next_hop: NextHop, *, now: bool) -> None:
        self.numbers.set(f"wanting {next_hop}", int(now))
        if now:
            self._since.setdefault(next_hop, self.numbers.rounds)
        else:
            self._since.pop(next_hop, None)

    def began(self, next_hop: NextHop, at: float) -> None:
        """It is the clock that says whose turn it is."""

    def sharers(self, next_hop: NextHop) -> int:
        if not self._is_known(next_hop):
            return self.numbers.processes
        return max(1, self.numbers.total(f"wanting {next_hop}"))

    def part(self, next_hop: NextHop, limit: int) -> int:
        if not self._is_known(next_hop):
            return max(1, limit // self.numbers.processes)
        wanting = [row for row, wants in enumerate(self.numbers.of_all(f"wanting {next_hop}")) if wants]
        first = int(self.clock.now() // SLOT.total_seconds()) % len(wanting)
        return part(limit, wanting[first:] + wanting[:first], self.numbers.row)

    def _is_known(self, next_hop: NextHop) -> bool:
        """Whether a round began and ended since something came for it."""
        return self.numbers.rounds >= self._since.get(next_hop, self.numbers.rounds) + 2


class SharedDestination(Destination):
    """A next hop that others deliver to, too."""

    __slots__ = ("_asked_at", "_own_pace", "_running", "_sharing")

    def __init__(
        self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant, sharing: Sharing
    ) -> None:
        self._asked_at = 0.0
        self._running = 0
        self._sharing = sharing
        super().__init__(next_hop, route, policy, since)

    @property
    def running(self) -> int:
        """Attempts of ours under way."""
        return self._running

    @running.setter
    def running(self, count: int) -> None:
        self._sharing.numbers.add(f"running {self.next_hop}", count - self._running)
        if count > self._running:
            self._sharing.began(self.next_hop, self._asked_at)
        self._running = count
        if not count and not self.waiting:
            self._sharing.wants(self.next_hop, now=False)

    @property
    def pace(self) -> float:
        """Seconds from one attempt of ours to the next, so that all together keep to the route's rate."""
        return self._own_pace * self._sharing.sharers(self.next_hop) if self._own_pace else 0.0

    @pace.setter
    def pace(self, seconds: float) -> None:
        self._own_pace = seconds

    def may(self, now: float) -> May:
        """What may be done with its next lease, as far as the others leave room."""
        may, self._asked_at = super().may(now), now
        if may is May.START:
            self._sharing.wants(self.next_hop, now=True)
            return May.START if self._has_room() else May.OTHERS
        if not self._running:  # it rests, or is held: its part is for the others
            self._sharing.wants(self.next_hop, now=False)
        return may

    def _has_room(self) -> bool:
        limit = self.limit
        ours = self._sharing.part(self.next_hop, limit)
        return self._running < ours and self._sharing.numbers.total(f"running {self.next_hop}") < limit
