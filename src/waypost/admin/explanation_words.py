"""What would become of a message, as a person reads it: a block a recipient, a line a step, and the line that decided.

Pure; what came from outside is never taken for markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from waypost.admin.explanation import Explanation, Fact, Journey, Leg
from waypost.mail.explain import plain

#: Columns for the name of a step.
_STEP: Final = 11


def explanation(answer: Explanation) -> Iterator[Text]:
    """The client's part, then each recipient's."""
    yield Text("The client", style="bold")
    for fact in answer.facts:
        yield from _fact(fact, "  ")
    if not answer.is_taken:
        yield Text("  It gets no further than this; with the rest it would fare so:", style="bold red")
    for journey in answer.journeys:
        yield Text("")
        yield from _journey(journey)


def _journey(journey: Journey) -> Iterator[Text]:
    style = "green" if journey.is_taken else "red"
    yield Text.assemble((f"<{plain(journey.recipient)}>", "bold"), "  ", (plain(journey.reply), f"bold {style}"))
    for fact in journey.facts:
        yield from _fact(fact, "  ")
    for leg in journey.legs:
        yield from _leg(leg, is_alone=len(journey.legs) == 1 and leg.recipient == journey.recipient)


def _leg(leg: Leg, *, is_alone: bool) -> Iterator[Text]:
    if not is_alone:
        yield Text.assemble("  → ", (f"<{plain(leg.recipient)}>", "bold"))
    for fact in leg.facts:
        yield from _fact(fact, "  " if is_alone else "    ")


def _fact(fact: Fact, indent: str) -> Iterator[Text]:
    yield Text.assemble(
        indent,
        (f"{fact.step:<{_STEP}} ", "cyan"),
        (plain(fact.text), "yellow" if fact.stops else ""),
        (f"  [{plain(fact.place)}]", "dim"),
    )
    for detail in fact.details:
        yield Text(f"{indent}{'':{_STEP}}   {plain(detail)}")
