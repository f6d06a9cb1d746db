"""The one thing a recipient waits for, and when that ends. Pure: operations/reasons.py brings what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from waypost.admin.answers import Limiting, Waiting
from waypost.net.clock import Instant
from waypost.queue.frost import ROUTE
from waypost.queue.storage import HistoryEvent, QueueEntry, RecipientState
from waypost.route.onward import QUOTA_SPENT
from waypost.route.state import DestinationState, Phase

_RELEASE: Final = "waypost queue release --id {}"
_RETRY: Final = "to try it now: waypost queue retry --id {}"
_OPEN: Final = "to open it until nothing is due: waypost queue retry --next-hop '{}'"
_THAW: Final = "waypost queue thaw '{}'"
_QUOTA: Final = "raise the quota, name a fallback in its [[route]], or see how it stands: waypost explain ADDRESS"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dispatcher has nothing to do with that next hop at present."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known about a recipient that waits. `last`: what its last attempt came to, as the history has it."""

    now: Instant
    is_running: bool
    state: DestinationState | Unknown
    no_route: str  # why no route leads there; empty where one does
    frozen: Mapping[str, str]  # by whom and why, by place
    route: str  # its name
    last: Mapping[str, object]
    released_at: Instant
    window: str = ""  # the delivery window it waits for; empty where it waits for none
    opens_at: Instant = 0.0


def limiting(entry: QueueEntry, facts: Circumstances) -> Waiting:
    """Why it waits."""
    if entry.state is RecipientState.HELD:
        return Waiting(entry, Limiting.HOLD, f"held: {entry.reason}", 0.0, _RELEASE.format(entry.id))
    if not facts.is_running:
        return Waiting(entry, Limiting.NOT_RUNNING, "the service is not running", 0.0, "start it: waypost serve")
    for place in (entry.next_hop, ROUTE + facts.route):
        if place in facts.frozen:
            text = f"{place} is {facts.frozen[place]}"
            return Waiting(entry, Limiting.FROZEN, text, 0.0, _THAW.format(place))
    if facts.no_route:
        remedy = "write a [[route]] for its domain, or use waypost queue reroute, bounce or delete"
        return Waiting(entry, Limiting.ROUTE, facts.no_route, 0.0, remedy)
    if facts.window:
        return Waiting(entry, Limiting.WINDOW, facts.window, facts.opens_at, _OPEN.format(entry.next_hop))
    return _by_state(entry, facts)


def _by_state(entry: QueueEntry, facts: Circumstances) -> Waiting:
    match entry.state:
        case RecipientState.WAITING:
            return _for_a_time(entry, facts)
        case RecipientState.DUE | RecipientState.IN_DELIVERY if isinstance(facts.state, DestinationState):
            return _for_its_destination(entry, facts.state, facts.now)
        case RecipientState.IN_DELIVERY:
            return Waiting(entry, Limiting.IN_DELIVERY, "an attempt is under way", 0.0, "see what comes of it")
        case RecipientState.DUE:
            return Waiting(entry, Limiting.TURN, "it is due, and will be taken up in its turn", facts.now, "")
        case RecipientState.HELD:
            raise ValueError("a held recipient waits for nobody else")
        case _:
            assert_never(entry.state)


def _for_a_time(entry: QueueEntry, facts: Circumstances) -> Waiting:
    """Its next attempt has a time: what had it wait is named, where that is neither the host nor the schedule."""
    if facts.released_at > facts.now:
        text = "its author wants it held until then (RFC 4865)"
        return Waiting(entry, Limiting.RELEASE, text, facts.released_at, _RETRY.format(entry.id))
    state = facts.state
    if isinstance(state, DestinationState) and state.phase is Phase.RESTING and state.rests_until > entry.due_at:
        return _resting(entry, state)
    text = entry.last_outcome or "it was not tried yet"
    kind = _kind(facts.last)
    return Waiting(entry, kind, text, entry.due_at, _QUOTA if kind is Limiting.QUOTA else _RETRY.format(entry.id))


def _kind(last: Mapping[str, object]) -> Limiting:
    status, cause = str(last.get("status", "")), last.get("cause")
    if cause in {"DNS failed", "no such host"}:
        return Limiting.DNS
    if cause == "policy refused" and status == str(QUOTA_SPENT):
        return Limiting.QUOTA
    if cause == "policy refused" and status.startswith("4.7."):
        return Limiting.TLS
    return Limiting.RETRY


def _for_its_destination(entry: QueueEntry, state: DestinationState, now: Instant) -> Waiting:
    match state.phase:
        case Phase.HELD:
            remedy = "see which has ended, and log in: waypost oauth login"
            return Waiting(entry, Limiting.AUTHORISATION, state.cause, 0.0, remedy)
        case Phase.SHUT:
            text = "its delivery window is shut"
            return Waiting(entry, Limiting.WINDOW, text, 0.0, _OPEN.format(entry.next_hop))
        case Phase.FROZEN:
            return Waiting(entry, Limiting.FROZEN, state.cause, 0.0, _THAW.format(state.next_hop))
        case Phase.RESTING:
            return _resting(entry, state)
        case Phase.DELIVERING | Phase.STALLED | Phase.PROBING if state.waiting and state.running >= state.window:
            text = f"{state.running} attempts run at once, and {state.window} may at present ({state.limit} at most)"
            return Waiting(entry, Limiting.CONCURRENCY, f"{text}; {state.waiting} messages wait", 0.0, _more(state))
        case Phase.WAITING | Phase.DELIVERING | Phase.STALLED | Phase.PROBING if _is_paced(state, now):
            return _paced(entry, state)
        case Phase.DELIVERING | Phase.STALLED | Phase.PROBING:
            return Waiting(entry, Limiting.IN_DELIVERY, "an attempt is under way", 0.0, "see what comes of it")
        case Phase.WAITING | Phase.IDLE:
            return Waiting(entry, Limiting.TURN, "it is due, and will be taken up in its turn", 0.0, "")
        case _:
            assert_never(state.phase)


def _is_paced(state: DestinationState, now: Instant) -> bool:
    return state.pace > 0 and state.waiting > 0 and state.paced_until > now


def _paced(entry: QueueEntry, state: DestinationState) -> Waiting:
    """It clears when the last of those that wait may go: nobody knows which of them this one is."""
    last = state.paced_until + (state.waiting - 1) * state.pace
    others = "" if state.waiting == 1 else f", and {state.waiting} wait"
    more = "; more of them wait on disk" if state.more else ""
    text = f"its route's rate lets one message go every {state.pace:g} s{others}{more}"
    return Waiting(entry, Limiting.RATE, text, last, "raise the rate of its [[route]] or [[destination]], then reload")


def _more(state: DestinationState) -> str:
    if state.window < state.limit:
        return "the window grows with each success; it shrank because sessions could not be had"
    return "raise the route's concurrency, if the host can take it"


def _resting(entry: QueueEntry, state: DestinationState) -> Waiting:
    if state.status == str(QUOTA_SPENT):
        return Waiting(entry, Limiting.QUOTA, state.cause, state.rests_until, _QUOTA)
    text = f"{state.next_hop} rests: {state.cause}"
    remedy = f"to probe it now: waypost queue retry --next-hop '{state.next_hop}'"
    return Waiting(entry, Limiting.BREAKER, text, state.rests_until, remedy)


# ---- out of the history
def last_outcome(events: Sequence[HistoryEvent], number: int) -> Mapping[str, object]:
    """What the last attempt for a recipient came to; empty where it was never tried."""
    for event in reversed(events):
        outcomes = event.details.get("outcomes") if event.kind == "attempt" else None
        for outcome in outcomes if isinstance(outcomes, list) else ():
            if isinstance(outcome, dict) and outcome.get("number") == number:
                return outcome
    return {}


def released_at(events: Sequence[HistoryEvent]) -> Instant:
    """Until when the author wants it held; 0 where that was not said."""
    for event in events:
        match event.details:
            case {"released_at": float() | int() as at}:
                return at
            case _:
                pass
    return 0.0
