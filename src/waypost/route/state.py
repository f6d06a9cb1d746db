"""What a next hop is doing, as those who deliver tell those who ask: the admin's answers and the metrics.

Not here: how it comes to be so (deliver/destination.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant


class Phase(Enum):
    """What a destination does now."""

    IDLE = "idle"  # nothing is due for it
    WAITING = "waiting"  # mail is due, and it waits for its turn
    DELIVERING = "delivering"
    STALLED = "stalled"  # attempts run, and for a while none of them has ended
    PROBING = "probing"  # the last attempt found no session: one goes ahead, and decides for the others
    FROZEN = "frozen"  # an operator wants nothing tried, nor given up, until it is thawed
    HELD = "held"  # its authorisation has ended: nothing is tried, nor given up, until somebody logs in
    SHUT = "shut"  # its delivery window is: nothing is tried, nor given up, until it opens
    RESTING = "resting"  # nothing is tried; what is due meanwhile is deferred for the same cause


@dataclass(frozen=True, slots=True)
class LastReply:
    """What one of the last attempts came to for one recipient. `text`: a sentence, with the host's reply."""

    at: Instant
    outcome: str  # delivered, deferred, rejected, in doubt
    text: str


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the recipients tried there since `since`, and the last few of them, newest first."""

    since: Instant
    delivered: int = 0
    deferred: int = 0
    rejected: int = 0
    in_doubt: int = 0
    last: tuple[LastReply, ...] = ()


_NOTHING_YET: Final = Tally(0.0)


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
    tally: Tally = _NOTHING_YET
    route: str = ""  # the route's name
    pace: float = 0.0  # seconds from one attempt to the next, as the route's rate says; 0: it has none
    paced_until: Instant = 0.0  # when the next may begin by it; in the past, or 0, where it keeps nothing waiting
    status: str = ""  # the enhanced status of `cause`, where a rule of ours and no host gave it


#: Phases, trouble first.
_CALM: Final = (
    Phase.FROZEN,
    Phase.HELD,
    Phase.SHUT,
    Phase.RESTING,
    Phase.PROBING,
    Phase.STALLED,
    Phase.WAITING,
    Phase.DELIVERING,
    Phase.IDLE,
)
#: Replies that are told of several workers'.
_LAST: Final = 5


def trouble_first(state: DestinationState) -> tuple[int, int, str]:
    """The order in which a person is shown destinations."""
    return _CALM.index(state.phase), -state.waiting, state.next_hop


def together(states: Sequence[DestinationState]) -> DestinationState:
    """What several workers do for one next hop: the phase of the one in most trouble, and the sum of the rest."""
    worst = min(states, key=trouble_first)
    return DestinationState(
        next_hop=worst.next_hop,
        phase=worst.phase,
        waiting=sum(state.waiting for state in states),
        more=any(state.more for state in states),
        running=sum(state.running for state in states),
        window=min(worst.limit, sum(state.window for state in states)),
        limit=worst.limit,
        cause=worst.cause,
        rests_until=worst.rests_until,
        tally=_added([state.tally for state in states]),
        route=worst.route,
        pace=worst.pace,
        paced_until=max(state.paced_until for state in states),
        status=worst.status,
    )


def _added(tallies: Sequence[Tally]) -> Tally:
    last = sorted((reply for tally in tallies for reply in tally.last), key=lambda reply: reply.at, reverse=True)
    return Tally(
        since=min(tally.since for tally in tallies),
        delivered=sum(tally.delivered for tally in tallies),
        deferred=sum(tally.deferred for tally in tallies),
        rejected=sum(tally.rejected for tally in tallies),
        in_doubt=sum(tally.in_doubt for tally in tallies),
        last=tuple(last[:_LAST]),
    )


@dataclass(frozen=True, slots=True)
class BeingCalledFor:
    """A next hop's mail is being sent to another call just now (ATRN)."""
