"""docs/reference/replies.md explains every reply the service gives, and no other; the settings it names are there."""

import re

import pytest

from tests.cli.replies import ROOT, replies
from waypost.config import reference

PAGE = (ROOT / "docs" / "reference" / "replies.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(\d{3} [^`]*)` \| (.+ \| .+) \|$", PAGE, re.MULTILINE))


def test_every_reply_of_the_program_is_explained_and_none_that_it_does_not_give() -> None:
    assert set(replies()) == set(ROWS)


@pytest.mark.parametrize(("reply", "said"), ROWS.items())
def test_each_has_a_cause_and_a_remedy(reply: str, said: str) -> None:
    cause, _, remedy = said.partition(" | ")
    assert cause.endswith(".")
    assert remedy.endswith(".")
    assert cause != remedy, reply


def test_the_settings_that_remedies_name_are_there() -> None:
    settings, known = reference(), 0
    for section, key in re.findall(r"`(service|limits|auth|relay)\.([a-z_]+)`", PAGE):
        part = settings.partition(f"## `[{section}]`")[2].partition("\n## ")[0]
        assert f"| `{key}`" in part, f"{section}.{key}"
        known += 1
    assert known > 10
