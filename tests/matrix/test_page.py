"""docs/fault-matrix.md says what the grid says, and all of it."""

from __future__ import annotations

from tests.matrix.grid import GRID, LEGEND, ROWS, Code, Never, State, Trouble
from tests.matrix.page import PAGE, TABLES, page


def test_the_page_is_that_of_the_grid() -> None:
    assert PAGE.read_text() == page(), "python -m tests.matrix.page > docs/fault-matrix.md"


def test_every_fault_has_its_column_on_the_page_once() -> None:
    columns = [trouble for _, troubles in TABLES for trouble in troubles]
    assert len(columns) == len(set(columns))
    assert set(columns) == set(Trouble)


def test_the_legend_explains_every_mark_and_every_row_and_every_mark_is_used() -> None:
    assert set(LEGEND) == {*Code, *Never} == set(GRID.values())
    assert set(ROWS) == set(State)
