"""The table of the old service's settings names tests that exist, and owns up to what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/internet-mail-service.md"


def rows() -> list[tuple[str, str, str]]:
    """The rows of all tables: the old setting, ours, and what shows it."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    return [(row[0], row[1], row[2]) for row in cells if row[0] != "There"]


@pytest.mark.parametrize(("there", "here", "shown"), rows(), ids=[row[0] for row in rows()])
def test_each_row_is_shown_by_a_test_or_says_why_not(there: str, here: str, shown: str) -> None:
    if shown == "none":
        assert here.startswith(("not yet", "no:")), f"{there}: nothing shows it, and no reason is given"
        return
    named = re.findall(r"`([^`]+)`", shown)
    assert named, f"{there}: no test is named"
    assert [name for name in named if not _exists(name)] == []


def _exists(name: str) -> bool:
    """Whether there is such a test, or such a script that is played (tests/dialogue)."""
    if name.startswith("dialogue/"):
        return (ROOT / "tests/dialogue/scripts" / f"{name.removeprefix('dialogue/')}.dialogue").exists()
    file, _, function = name.partition("::")
    return bool(re.search(rf"^(async )?def {function}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE))


def test_the_table_has_rows() -> None:
    assert len(rows()) > 50
