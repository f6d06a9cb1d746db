"""What a next hop is doing, as those who deliver tell those who ask: the admin's answers and the metrics.

Not here: how it comes to be so (deliver/destination.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant


class Phase(Enum):
    """What a destination does now."""

    IDLE = "idle"  # nothing is due for it
    WAITING = "waiting"  # mail is due, and it waits for its turn
    DELIVERING = "delivering"
    STALLED = "stalled"  # attempts run, and for a while none of them has ended
    PROBING = "probing"  # the last attempt found no session: one goes ahead, and decides for the others
    HELD = "held"  # its authorisation has ended: nothing is tried, nor given up, until somebody logs in
    RESTING = "resting"  # nothing is tried; what is due meanwhile is deferred for the same cause


@dataclass(frozen=True, slots=True)
class DestinationState:
    """One next hop at one moment. Counts are messages; `waiting` are those in memory, and `more` wait on disk."""

    next_hop: NextHop
    phase: Phase
    waiting: int
    more: bool
    running: int
    window: int  # attempts at once it may have now
    limit: int  # and at most, as its route says
    cause: str  # a sentence on the failure it has not recovered from; "" where there is none
    rests_until: Instant  # when the next attempt is made; in the past, or 0, where it does not rest
