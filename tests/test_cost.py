"""What a message costs in function calls, held below a ceiling: a count is the same on any machine, however busy."""

from __future__ import annotations

import cProfile

import uvloop

from bench.pipeline import calls, measure

ROUNDS = 3
#: Calls of functions and methods a message, the bench's own client included, as Python 3.11 counts them (later ones
#: count fewer: their comprehensions are no functions). Lower it with what you save; raise it only for a reason.
CEILING = 1355


def test_a_message_costs_no_more_calls_than_it_did() -> None:
    profile = cProfile.Profile()
    uvloop.run(measure(profile, ROUNDS))
    assert calls(profile, ROUNDS) <= CEILING
