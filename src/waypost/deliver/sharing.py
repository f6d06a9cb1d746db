"""What a route allows one next hop, shared by all workers: each has its part, and together never more.

The parts. The workers that have something for a next hop divide its `concurrency` between them; what the division
leaves over is for those whose last attempt began longest ago. Who has less than his part may begin, as long as all
together are below the limit. So one with a long backlog does not keep out another that has a single message, and a
limit of 1 goes round.

The error is that of net/shared.py. Not here: the window that grows and shrinks with success, which is each worker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from waypost.deliver.destination import Destination, May
from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant
from waypost.net.shared import SharedNumbers
from waypost.queue.schedule import RetryPolicy
from waypost.route.route import NoRoute, Route

#: What times are counted in: with whole milliseconds a number would overflow within a month.
_TICKS: Final = 100
_MOST: Final = 1 << 31


def part(limit: int, began: Mapping[int, int], own: int) -> int:
    """How many of `limit` are for worker `own`; the parts of all add up to it. `began`: worker → its last beginning."""
    each, rest = divmod(limit, len(began))
    patient = sorted(began, key=lambda worker: (began[worker], worker))
    return each + (own in patient[:rest])


@dataclass(frozen=True, slots=True)
class Shares:
    """Makes destinations that know of the other workers. `own`: which worker this is."""

    numbers: SharedNumbers
    own: int

    def destination(
        self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant
    ) -> Destination:
        """One whose limit is that of all."""
        return SharedDestination(next_hop, route, policy, since, self)


class SharedDestination(Destination):
    """A next hop that other workers deliver to, too."""

    __slots__ = ("_asked_at", "_running", "_shares")

    def __init__(
        self, next_hop: NextHop, route: Route | NoRoute, policy: RetryPolicy, since: Instant, shares: Shares
    ) -> None:
        self._asked_at = 0.0
        self._running = 0
        self._shares = shares
        super().__init__(next_hop, route, policy, since)

    @property
    def running(self) -> int:
        """Attempts of this worker under way."""
        return self._running

    @running.setter
    def running(self, count: int) -> None:
        numbers = self._shares.numbers
        numbers.add(f"running {self.next_hop}", count - self._running)
        if count > self._running:
            numbers.set(f"began {self.next_hop}", int(self._asked_at * _TICKS) % _MOST)
        self._running = count
        if not count and not self.waiting:
            self._want(0)

    def may(self, now: float) -> May:
        """What may be done with its next lease, as far as the others leave room."""
        may, self._asked_at = super().may(now), now
        if may is May.START:
            self._want(1)
            return May.START if self._has_room() else May.OTHERS
        if not self._running:  # it rests, or is held: its part is for the others
            self._want(0)
        return may

    def _want(self, wants: int) -> None:
        self._shares.numbers.set(f"wanting {self.next_hop}", wants)

    def _has_room(self) -> bool:
        numbers, limit = self._shares.numbers, self.limit
        wanting, began = numbers.of_all(f"wanting {self.next_hop}"), numbers.of_all(f"began {self.next_hop}")
        ours = part(limit, {row: began[row] for row, wants in enumerate(wanting) if wants}, self._shares.own)
        return self._running < ours and numbers.total(f"running {self.next_hop}") < limit
