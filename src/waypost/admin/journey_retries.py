"""The priority a message would have, and when it would be tried again, told late and given up, with what says so.

Pure: the times are those that an attempt would have settled by (policy/retries.py). Not here: a delivery window, and
what a next hop does now (journey.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from waypost.admin.explanation import Fact, Question
from waypost.config import Config
from waypost.config.units import format_duration
from waypost.policy.retries import policy_on
from waypost.queue.schedule import RetryPolicy
from waypost.route.route import OnCall, Route

#: The line of a route's setting, by its key; "default", where it is not written.
Lines = Callable[[str], str]


class Urgency(Enum):
    """What a priority comes to (RFC 6710 §5.3); the value begins the keys of its settings."""

    USUAL = ""
    URGENT = "urgent_"
    NON_URGENT = "non_urgent_"


#: A priority of each.
_PRIORITY: Final = {Urgency.USUAL: 0, Urgency.URGENT: 1, Urgency.NON_URGENT: -1}
_MAIL: Final = {
    Urgency.USUAL: "mail of priority 0",
    Urgency.URGENT: "urgent mail (priority above 0)",
    Urgency.NON_URGENT: "mail that is not urgent (priority below 0)",
}


def priority_of(question: Question, *, trusted: bool) -> int:
    """The priority the message would have: what MAIL says, else its header; raised by clients alone that may relay."""
    said, marked = question.priority, question.message.priority
    said = said if said <= 0 or trusted else 0
    return said or (marked if marked <= 0 or trusted else 0)


def asked_priority(question: Question, *, trusted: bool, relay: str) -> Iterator[Fact]:
    """What becomes of the priority that MAIL or the header asks for; nothing is said where neither asks.

    `relay`: the line that says who may relay.
    """
    said, marked = question.priority, question.message.priority
    if said > 0 and not trusted:
        yield Fact("priority", f"{said} is lowered to 0, for only who may relay raises it: 250 2.3.6", relay)
        said = 0
    if said:
        yield Fact("priority", f"{said}: {_turn(said)}", "the question")
    elif marked > 0 and not trusted:
        yield Fact("priority", f"MT-Priority: {marked} in the header counts of those alone who may relay", relay)
    elif marked:
        yield Fact("priority", f"{marked} by its header: {_turn(marked)}", "the message")


def _turn(priority: int) -> str:
    return "urgent, it goes before other mail" if priority > 0 else "not urgent, it goes behind other mail"


def retries(route: Route, priority: int, config: Config, line: Lines) -> Iterator[Fact]:
    """The times that the message would have, then those that mail of other priorities has, where they differ."""
    policy = policy_on(config.retry_policy(), route.retries)
    policy = policy.until_called() if _calls(route) else policy
    own = _urgency(priority)
    whose = f"for priority {priority}, {_word(own)}: " if priority else ""
    yield _times("retries", whose, own, route, policy, config, line)
    known = [policy.of(_PRIORITY[own])]
    for other in Urgency:
        times = policy.of(_PRIORITY[other])
        if times not in known:
            yield _times("otherwise", f"{_MAIL[other]}: ", other, route, policy, config, line)
            known.append(times)


def _urgency(priority: int) -> Urgency:
    if not priority:
        return Urgency.USUAL
    return Urgency.URGENT if priority > 0 else Urgency.NON_URGENT


def _word(urgency: Urgency) -> str:
    return "urgent" if urgency is Urgency.URGENT else "not urgent"


def _times(
    step: str, whose: str, urgency: Urgency, route: Route, policy: RetryPolicy, config: Config, line: Lines
) -> Fact:
    """One policy in words; each of its times with the line that says it."""
    times = policy.of(_PRIORITY[urgency])

    def place(key: str) -> str:
        return _place(key, urgency, route, config, line)

    expiry = f"given up after {format_duration(times.expire)} ({place('expire')})"
    notice = f"told of a delay after {format_duration(times.delay_notice)} ({place('delay_notice')})"
    late = (expiry,) if times.delay_notice > times.expire else (notice, expiry)
    if calls := _calls(route):
        return Fact(step, f"{whose}{calls}", line("to" if isinstance(route.transport, OnCall) else "deliver"), late)
    pauses = [format_duration(pause) for pause in times.schedule]
    return Fact(step, f"{whose}after {', '.join(pauses)}, then every {pauses[-1]}", place("schedule"), late)


def _calls(route: Route) -> str:
    """What mail waits for that is not tried by the clock; "" where it is."""
    if isinstance(route.transport, OnCall):
        return f"none: it waits until {route.transport.account} calls (ATRN)"
    return "none: it waits until its host calls (ETRN)" if route.on_demand else ""


def _place(key: str, urgency: Urgency, route: Route, config: Config, line: Lines) -> str:
    """Who says it: of a priority its route, then `[retry]`; else what is usual, in the same order."""
    if urgency is not Urgency.USUAL:
        own = urgency.value + key
        if getattr(route.retries, own):
            return line(own)
        if getattr(config.retry, own):
            return config.places.of("retry", own)
    return line(key) if getattr(route.retries, key) else config.places.of("retry", key)
