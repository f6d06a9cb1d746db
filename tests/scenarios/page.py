"""docs/scenarios.md: forty ways in which a mail service of 1999 failed, and what holds each of them off here.

A test that plays one wears `@scenario(number)`; the first line of its docstring tells the failure, its name what is
right. The page is printed from the tests (`python -m tests.scenarios.page`), and a test holds it to them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import tests.scenarios

P = ParamSpec("P")
T = TypeVar("T")

NUMBERS: Final = range(1, 41)
PAGE: Final = Path(__file__).parents[2] / "docs" / "scenarios.md"
INTRODUCTION: Final = """\
# Forty failures, played again

A mail service that was widely used around the year 2000 left a long record of how a mail service fails: in the field,
with real peers. Forty of those situations are played here against Waypost, whole and in one process: clients, next
hops, DNS and time are scripted (`tests/scenarios/whole.py`).

This page is printed from the tests (`python -m tests.scenarios.page`); a test holds it to them.

| # | What went wrong then | What is right | Held by |
|--:|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Played:
    """A test that plays a failure."""

    number: int
    failure: str
    right: str
    test: str


def scenario(number: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Say of a test which failure it plays."""

    def mark(test: Callable[P, T]) -> Callable[P, T]:
        vars(test)["scenario"] = number
        return test

    return mark


def played() -> list[Played]:
    """Every scenario test, by number and then as it stands in its file."""
    found = []
    for module in pkgutil.iter_modules(tests.scenarios.__path__):
        if module.name.startswith("test_"):
            contents = vars(importlib.import_module(f"tests.scenarios.{module.name}"))
            found += [_played(module.name, name, test) for name, test in contents.items() if "scenario" in _marks(test)]
    return sorted(found, key=lambda one: one.number)


def _marks(thing: object) -> dict[str, int]:
    return getattr(thing, "__dict__", {}) if callable(thing) else {}


def _played(module: str, name: str, test: object) -> Played:
    failure = (test.__doc__ or "").strip().partition("\n")[0]
    right = name.removeprefix("test_").replace("_", " ")
    return Played(_marks(test)["scenario"], failure, right, f"{module}.py::{name}")


def page() -> str:
    """The page as it has to be."""
    rows = [f"| {one.number} | {one.failure} | {right(one.right)} | `{one.test}` |" for one in played()]
    return INTRODUCTION + "\n".join(rows) + "\n"


_PROPER: Final = {name.lower(): name for name in ("EHLO", "HELO", "STARTTLS", "TLS", "DNS")}


def right(sentence: str) -> str:
    """A test's name as a sentence of prose."""
    words = [_PROPER.get(word, word) for word in sentence.split()]
    prose = " ".join(words).replace(" s ", "'s ")
    return prose[:1].upper() + prose[1:] + "."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
