"""What rates, lists in DNS and greylisting would say of a client, asked of the gate that live mail passes.

Lists are asked as live mail asks them; nothing is counted, and nobody becomes known by it. Not here: the rest of the
way (journey.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, assert_never

from waypost.admin.explanation import Fact, Question
from waypost.admin.words import when
from waypost.policy.gate import Action, OpenGate, Screened, Visitor, WatchedGate, is_postmaster, not_wanted, put_off
from waypost.policy.greylist import Known, PutOff
from waypost.policy.rates import Kind
from waypost.queue.storage import StorageError
from waypost.smtp.path import ForwardPath, ReversePath


async def at_the_gate(
    gate: WatchedGate | OpenGate, question: Question, reverse: ReversePath, *, trusted: bool
) -> tuple[tuple[Fact, ...], Screened]:
    """What counts for the whole session; nothing is said where nobody watches."""
    if isinstance(gate, OpenGate):
        return (), Screened()
    visitor = Visitor(question.client, "", question.account, trusted)
    facts = list(_rates(gate, visitor))
    if not gate.lists.lists:
        return tuple(facts), Screened()
    if gate.is_exempt(visitor):
        return (*facts, Fact("lists", "not asked: it may relay, or is exempt", "screening.exempt")), Screened()
    screened = gate.manners.follows(await gate.lists.ask(visitor.host, visitor.hello, reverse))
    details = tuple(f"{hit.text} [{hit.list.place}]" for hit in screened.found.hits)
    text = f"score {screened.found.score:+}: {_FOLLOWS[screened.action]}"
    return (*facts, Fact("lists", text, screened.place, details)), screened


def _rates(gate: WatchedGate, visitor: Visitor) -> Iterator[Fact]:
    for kind in Kind:
        for rate, left in gate.meter.left(kind, visitor.sender):
            room = "counted in the spool" if math.isnan(left) else f"{int(left)} left now"
            share = rate.share_of(visitor.sender)
            yield Fact("rate", f"{rate}: {room} for {share}", rate.place, stops=left < 1)


#: What follows from a score, in words.
_FOLLOWS: Final = {
    Action.PASS: "it passes",
    Action.TAG: "it is tagged",
    Action.GREYLIST: "it is greylisted",
    Action.QUARANTINE: "it is held in quarantine",
    Action.REFUSE: "its recipients are refused, but the postmaster",
}


async def of_recipient(
    gate: WatchedGate | OpenGate,
    question: Question,
    paths: tuple[ReversePath, ForwardPath],
    screened: Screened,
    *,
    trusted: bool,
) -> tuple[tuple[Fact, ...], str]:
    """What the gate says of one recipient, and the reply it gives; "" where it gives none."""
    reverse, forward = paths
    visitor = Visitor(question.client, "", question.account, trusted)
    if isinstance(gate, OpenGate):
        return (), ""
    if screened.action is Action.REFUSE and not is_postmaster(forward):
        reply = not_wanted(screened, visitor.host)
        return (Fact("lists", screened.words, screened.place, stops=True),), str(reply)
    if not gate.greys(visitor, forward, screened):
        return (), ""
    place = gate.manners.greylist_place
    try:
        grey = await gate.greylist.look(visitor.host, reverse, forward, gate.clock.now())
    except StorageError as error:
        return (Fact("greylist", f"passes: the spool does not answer ({error})", place),), ""
    match grey:
        case Known(why):
            return (Fact("greylist", f"passes: {why}", place),), ""
        case PutOff(until):
            text = f"new here: put off until {when(until)}"
            return (Fact("greylist", text, place, stops=True),), str(put_off(grey, gate.clock))
        case _:
            assert_never(grey)
