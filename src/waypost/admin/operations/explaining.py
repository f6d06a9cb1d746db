"""What would become of a message, step by step: the session, the gate, each recipient, and each way it would go.

Asked of the code that live mail runs, and nothing is sent. Not here: what the configuration has to say to each step
(journey.py), and where a way leads (ways.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from waypost.admin.answers import FailureKind, OperationError
from waypost.admin.explanation import Explanation, Journey, Question
from waypost.admin.journey import MAX_ASKED, Explainer, NotRunning, forward_path, reverse_path
from waypost.admin.journey_retries import priority_of
from waypost.admin.operations.in_force import InForce
from waypost.admin.operations.questions import storage_trouble
from waypost.admin.operations.ways import Ways
from waypost.admin.strangers import at_the_gate, of_recipient
from waypost.net.clock import Clock
from waypost.policy.gate import Screened
from waypost.policy.hooked import Hooked
from waypost.route.onward import Onward
from waypost.route.route import Route
from waypost.route.state import DestinationState

#: Ways of one recipient that are shown.
SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Explaining:
    """Asks one after another. `delivering` tells what destinations do now, `used` how much of a route's quotas is."""

    in_force: InForce
    ways: Ways
    hooked: Hooked
    delivering: Callable[[], Sequence[DestinationState] | NotRunning]
    used: Callable[[Onward], Awaitable[Sequence[str]]]
    clock: Clock

    async def explain(self, question: Question) -> Explanation:
        """Of up to MAX_ASKED recipients."""
        if not 0 < len(question.recipients) <= MAX_ASKED:
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"{len(question.recipients)} recipients are asked about",
                f"name 1 to {MAX_ASKED}",
            )
        now = self.in_force
        explainer = Explainer(now.config, now.admission, self.clock.now(), self.hooked, now.rewritings)
        facts, trusted = await asyncio.to_thread(explainer.session, question)  # it may read the users' file
        facts = (*facts, *await explainer.hooks(question))
        reverse = reverse_path(question.reverse_path)
        more, screened = await at_the_gate(now.gate, question, reverse, trusted=trusted)
        facts += more
        journeys = [await self._journey(explainer, each, question, trusted=trusted) for each in question.recipients]
        journeys = [await self._gated(question, journey, screened, trusted=trusted) for journey in journeys]
        return Explanation(question, facts, not any(fact.stops for fact in facts), tuple(journeys))

    async def _gated(self, question: Question, journey: Journey, screened: Screened, *, trusted: bool) -> Journey:
        """With what the gate says of a recipient that would be taken else."""
        if not journey.is_taken:
            return journey
        paths = reverse_path(question.reverse_path), forward_path(journey.recipient)
        facts, reply = await of_recipient(self.in_force.gate, question, paths, screened, trusted=trusted)
        return replace(
            journey,
            facts=journey.facts + facts,
            reply=reply or journey.reply,
            is_taken=not reply,
            legs=() if reply else journey.legs,
        )

    async def _journey(self, explainer: Explainer, asked: str, question: Question, *, trusted: bool) -> Journey:
        journey, destined = await explainer.recipient(asked, question, trusted=trusted)
        states = self.delivering()
        legs = [
            explainer.leg(
                one,
                await self.ways.by(one.route, str(one.recipient.forward_path)),
                states,
                used=await self._used(one.route),
                turns=await explainer.turns(one.route, question, asked),
                size=question.message.size,
                priority=priority_of(question, trusted=trusted),
            )
            for one in destined[:SHOWN]
        ]
        return replace(journey, legs=tuple(legs))

    async def _used(self, route: Route) -> Sequence[str]:
        """How much of the route's quotas is used, as the service counts it."""
        if not route.onward.quotas:
            return ()
        with storage_trouble():
            return await self.used(route.onward)
