"""Every line that docs/troubleshooting.md explains is one the program can say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)


def words_of_the_program() -> str:
    """Its source, with texts that stand on several lines joined, and what is filled in left open."""
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    return re.sub(r"\{[^{}\n]*\}", "…", joined)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_explained_can_be_said(line: str) -> None:
    said = words_of_the_program()
    text = re.sub(r"^\d{3} \d\.\d\.\d ", "", line)
    for part in text.split("…"):
        assert part.strip() in said, line


def test_there_are_lines() -> None:
    assert len(LINES) > 20
