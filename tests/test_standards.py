"""The page of claims (docs/standards.md): each has a verdict, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "standards.md"
ROW = re.compile(r"\| (?P<clause>[^|]+) \| (?P<asks>[^|]+) \| (?P<verdict>[^|]*) \|(?P<shown>[^|]*)\|")
NAMED = re.compile(r"`([^`]+)`")
CLAIMED = {
    *("5321", "2920", "1870", "6152", "3030", "2034", "3461", "3463", "3464", "6531", "6533", "2033", "9422", "4865"),
    *("2852", "6698", "7671", "7672", "8460", "8461", "6710", "1985", "2645", "7505", "3848", "3207", "8314", "8689"),
}


def rows() -> list[re.Match[str]]:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    found = [ROW.fullmatch(line) for line in lines if not line.startswith("| Clause ")]
    assert None not in found, "a row of the page has not its four columns"
    return [row for row in found if row]


@cache
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def exists(name: str) -> bool:
    if name.startswith("dialogue/"):
        return (TESTS / "dialogue" / "scripts" / f"{name.removeprefix('dialogue/')}.dialogue").is_file()
    file, _, function = name.partition("::")
    return (TESTS / file).is_file() and function in functions(TESTS / file)


def test_each_standard_has_its_part() -> None:
    headings = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("## ")]
    assert set(re.findall(r"RFC (\d+)", " ".join(headings))) >= CLAIMED


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['clause']} {row['asks']}"[:60])
def test_each_claim_has_a_verdict_and_tests_that_exist(row: re.Match[str]) -> None:
    word = row["verdict"].partition(":")[0].strip()
    assert word in {"yes", "partly", "no"}
    named = NAMED.findall(row["shown"])
    assert [name for name in named if not exists(name)] == []
    assert bool(named) is (word != "no"), "what is claimed is shown, and what is not claimed names no test"
