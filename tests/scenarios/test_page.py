"""The page of scenarios tells of the tests there are, and of all forty failures."""

from __future__ import annotations

from tests.scenarios.page import NUMBERS, PAGE, page, played


def test_the_page_is_as_the_tests_have_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.scenarios.page`"


def test_every_failure_is_played() -> None:
    assert {one.number for one in played()} == set(NUMBERS)


def test_every_scenario_tells_its_failure_in_a_sentence() -> None:
    assert [one.test for one in played() if not one.failure.endswith(".")] == []
