"""Who may have room where many want it at once: workers, and leases in memory. Pure: the caller brings the time.

The theory. Room is plenty until a quarter is used. Beyond that, destinations that fail or stall share half of it, with
one attempt each, those not known yet have a quarter more, and the rest is for those that have proven themselves. So a
hundred dead destinations cost the living nothing.

Not here: who is asked for room, and when (dispatch.py), and how far a destination is trusted (destination.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never

from waypost.deliver.destination import Destination, Held, Standing
from waypost.queue.storage import Lease

#: How often it is looked who may give way, while somebody had to wait.
RELIEF: Final = timedelta(seconds=0.25)
#: Leases that a destination in doubt may hold while others want the room.
FEW: Final = 20


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much is done and held at once."""

    #: Workers: attempts on the network, and those that wait to be written down.
    attempts: int = 500
    #: Of these, only for destinations that have none.
    reserve: int = 100
    #: Leases in memory, and the octets of their messages.
    leases: int = 2000
    octets: int = 128 * 1024 * 1024
    #: Leases in memory for one destination.
    leases_each: int = 200

    @property
    def calm(self) -> int:
        """With fewer workers than this nobody is in another's way."""
        return max(1, self.attempts // 4)

    def allows(self, running: int, standing: Standing, load: Load) -> bool:
        """Whether a destination that has `running` attempts may begin another, where it is not calm."""
        half = max(1, self.attempts // 2)
        match standing:
            case Standing.PROVEN:
                return not running or load.workers < self.attempts - self.reserve
            case Standing.NEW:
                return load.unproven < self.calm or (not running and load.unproven < half + half // 2)
            case Standing.DOUBTFUL:
                return not running and load.doubtful < half
            case _:
                assert_never(standing)


@dataclass(slots=True)
class Load:
    """How busy the dispatcher is: workers, and attempts at destinations that are not proven, or in doubt."""

    workers: int = 0
    unproven: int = 0
    doubtful: int = 0


class Crowd:
    """Shares out the workers. `everybody`: all destinations, as they come and go."""

    def __init__(self, capacity: Capacity, everybody: Collection[Destination]) -> None:
        self._capacity = capacity
        self._everybody = everybody
        self._load = Load()
        self._counted_at = float("-inf")

    def admits(self, destination: Destination, busy: int, now: float) -> bool:
        """Whether it may begin an attempt although others want to, too; `busy` workers, at `now` (monotonic)."""
        if busy < self._capacity.calm:
            return True
        if now - self._counted_at >= RELIEF.total_seconds():
            self._count(now)
        standing, load = destination.standing(now), self._load
        load.workers = busy
        if not self._capacity.allows(destination.running, standing, load):
            return False
        load.unproven += standing is not Standing.PROVEN
        load.doubtful += standing is Standing.DOUBTFUL
        return True

    def recount(self) -> None:
        """Let the next question be answered by what is so then."""
        self._counted_at = float("-inf")

    def giving_way(self, in_doubt: Iterable[Destination], busy: int) -> Iterator[tuple[Destination, int]]:
        """Who is to be cut short where workers grow short, and how many attempts each may keep.

        One attempt each for those in doubt, and half of all workers for all of them.
        """
        half = self._capacity.attempts // 2
        if busy < half:
            return
        for place, destination in enumerate(one for one in in_doubt if one.running):
            keep = 1 if place < half else 0
            if destination.running > keep:
                yield destination, keep

    def _count(self, now: float) -> None:
        self._load, self._counted_at = Load(), now
        for destination in self._everybody:
            if destination.running and (standing := destination.standing(now)) is not Standing.PROVEN:
                self._load.unproven += destination.running
                self._load.doubtful += destination.running if standing is Standing.DOUBTFUL else 0


class Memory:
    """The leases in memory, and who may bring more of them."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._held: set[Held] = set()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held)

    def add(self, held: Held) -> None:
        """Hold one more."""
        self._held.add(held)
        self._octets += held.octets

    def forget(self, gone: Sequence[Held]) -> None:
        """Hold these no longer."""
        self._held.difference_update(gone)
        self._octets -= sum(held.octets for held in gone)

    @property
    def has_room(self) -> bool:
        """Whether anything more may be held."""
        return len(self._held) < self._capacity.leases and self._octets < self._capacity.octets

    def is_below(self, share: float) -> bool:
        """Whether less than this share of the memory is taken."""
        capacity = self._capacity
        return len(self._held) < capacity.leases * share and self._octets < capacity.octets * share

    def room(self, destination: Destination, now: float) -> int:
        """Leases to claim for it: a share of what is free, so that a few that stall cannot take all of it."""
        capacity, held = self._capacity, len(self._held)
        if not self.has_room:
            return 0
        if destination.standing(now) is Standing.PROVEN:
            return min(capacity.leases_each, max(1, (capacity.leases - held) // 4)) - len(destination.waiting)
        if self.is_below(0.5):
            return min(FEW, capacity.leases_each, max(1, (capacity.leases // 2 - held) // 4)) - len(destination.waiting)
        return int(not destination.waiting and not destination.running and self.is_below(0.75))

    def may_wait(self, destination: Destination, lease: Lease, now: float) -> bool:
        """Whether a lease handed over for it may wait in memory."""
        waiting, each = len(destination.waiting), self._capacity.leases_each
        if waiting < min(FEW, each) and self.is_below(0.5):
            return True
        if destination.standing(now) is not Standing.PROVEN:
            return not waiting and self.is_below(0.75)
        # Beyond its share, one lease for each reverse-path that has none: fresh mail is not to wait behind a backlog.
        return waiting < each or (waiting < 2 * each and not destination.waiting.has_from(lease.message.reverse_path))
