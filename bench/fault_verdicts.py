"""What became of a message, as a value; which of two fates is better; and the words for it on the page.

Nothing here runs or asks anything: bench/faults.py gathers what these functions judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from bench.fault_cells import Cell, Says


class Kind(Enum):
    """What became of it by the end of the first attempt."""

    ONCE = "delivered"
    WAITS = "waits"
    STUCK = "under way"  # the attempt had not ended when patience did
    TWICE = "twice"
    RETURNED = "returned"
    PRESUMED = "presumed"  # struck off the queue, though no next hop said that it took it
    LOST = "lost"  # neither delivered, nor in the queue, nor reported
    NOT_TAKEN = "not taken"  # the relay did not accept it from us: the service is down


@dataclass(frozen=True, slots=True)
class Arrival:
    """A whole copy at `host` (1 or 2), so many seconds after the relay had taken it."""

    host: int
    seconds: float
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Fate:
    """A message's fate: its copies, seconds to the next attempt where it waits, why, connections seen."""

    kind: Kind
    arrivals: tuple[Arrival, ...] = ()
    pause: float = 0.0
    reason: str = ""
    connections: int = 0


class Mark(Enum):
    """A peer's fate, seen from Waypost's."""

    BETTER = "▲"
    WORSE = "▽"
    SAME = ""


#: From best to worst, where the next hop refused nothing. A message too late is better than one too many, and that is
#: better than none.
_SCALE: Final = (Kind.ONCE, Kind.WAITS, Kind.STUCK, Kind.TWICE, Kind.RETURNED, Kind.PRESUMED, Kind.LOST, Kind.NOT_TAKEN)
_NOTABLE: Final = 2.0
"""Seconds. Only who waits for a time-out differs by that much, and a real time-out is minutes."""


def rank(fate: Fate, says: Says) -> int:
    """Its place on the scale; 0 is best. What was refused for good is rightly returned."""
    if says is Says.REFUSED and fate.kind is Kind.RETURNED and not fate.arrivals:
        return 0
    return _SCALE.index(fate.kind)


def mark(peer: Fate, ours: Fate, says: Says) -> Mark:
    """How the peer's fate compares with ours; pauses are settings and are not judged."""
    difference = rank(peer, says) - rank(ours, says)
    if difference == 0 and peer.kind is ours.kind is Kind.ONCE:
        later = peer.arrivals[0].seconds - ours.arrivals[0].seconds
        difference = 0 if abs(later) < _NOTABLE else 1 if later > 0 else -1
    return Mark.SAME if difference == 0 else Mark.WORSE if difference > 0 else Mark.BETTER


def words(fate: Fate) -> str:
    """A fate in a few words."""
    match fate.kind:
        case Kind.ONCE:
            (arrival,) = fate.arrivals
            return f"delivered, host {arrival.host}" + (f", {arrival.seconds:.0f} s" if arrival.seconds >= 1 else "")
        case Kind.WAITS:
            return f"waits {duration(fate.pause)}" + ("; host 1 has it" if fate.arrivals else "")
        case Kind.TWICE:
            return f"**{len(fate.arrivals)} copies**: host " + ", host ".join(str(a.host) for a in fate.arrivals)
        case Kind.RETURNED:
            return "returned" + ("; host 1 has it" if fate.arrivals else "")
        case Kind.PRESUMED:
            return "**taken for delivered** unanswered"
        case Kind.STUCK:
            return "attempt goes on and on"
        case Kind.LOST:
            return "**lost**"
        case Kind.NOT_TAKEN:
            return "**service down**"
        case _:
            assert_never(fate.kind)


def duration(seconds: float) -> str:
    """`50 s`, `5 min`."""
    return f"{seconds:.0f} s" if seconds < 45 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True, slots=True)
class Findings:
    """Every cell's fate at every relay, by the relay's name; Waypost's first."""

    cells: Sequence[Cell]
    fates: Mapping[str, Mapping[str, Fate]]  # by relay, by domain

    def marks(self, relay: str) -> dict[Cell, Mark]:
        """How a peer fared, cell by cell."""
        ours = self.fates["Waypost"]
        return {c: mark(self.fates[relay][c.domain], ours[c.domain], c.scenario.says) for c in self.cells}

    def table(self) -> str:
        """All cells as Markdown: a row a scenario and number of next hops."""
        marks = {relay: self.marks(relay) for relay in self.fates}
        head = f"| the next hop's fault | next hops | {' | '.join(self.fates)} |\n|---|--:|{'---|' * len(self.fates)}"
        return "\n".join([head, *(self._row(cell, marks) for cell in self.cells)])

    def _row(self, cell: Cell, marks: Mapping[str, Mapping[Cell, Mark]]) -> str:
        entries = [
            f"{marks[relay][cell].value}{self._footnote(cell, marks[relay][cell])} "
            f"{words(self.fates[relay][cell.domain])}".strip()
            for relay in self.fates
        ]
        return f"| {cell.scenario.name} | {cell.hosts} | {' | '.join(entries)} |"

    def score(self, relay: str) -> str:
        """A peer's row of marks in a sentence."""
        marks = list(self.marks(relay).values())
        worse, better, same = (marks.count(mark) for mark in (Mark.WORSE, Mark.BETTER, Mark.SAME))
        return f"{relay}: as Waypost in {same} cells, worse in {worse}, better in {better}."

    def totals(self) -> str:
        """How often each fate came to each relay, as Markdown."""
        head = f"| | {' | '.join(kind.value for kind in Kind)} |\n|---|{'--:|' * len(Kind)}"
        rows = [
            f"| {relay} | {' | '.join(str(sum(f.kind is kind for f in fates.values())) for kind in Kind)} |"
            for relay, fates in self.fates.items()
        ]
        return "\n".join([head, *rows])

    def where_better(self) -> list[str]:
        """Lines on the cells in which a peer does better: each in full, and the rule it is by, if it is."""
        found = self._better()
        if not found:
            return ["In no cell does a peer do better."]
        unruled = [self._in_full(cell, relay) for cell, relay in found if not cell.scenario.rule]
        ruled = [self._in_full(cell, relay) for cell, relay in found if cell.scenario.rule]
        rules = [f"{number}. {rule}." for number, rule in enumerate(self._rules(), 1)]
        return [
            *(["A peer does better here:", "", *unruled] if unruled else []),
            *(["A peer does better here, and Waypost waits by rule:", "", *ruled, "", *rules] if ruled else []),
        ]

    def _better(self) -> list[tuple[Cell, str]]:
        marks = {relay: self.marks(relay) for relay in self.fates if relay != "Waypost"}
        return [
            (cell, relay) for cell, relay in itertools.product(self.cells, marks) if marks[relay][cell] is Mark.BETTER
        ]

    def _in_full(self, cell: Cell, relay: str) -> str:
        return (
            f"- {cell.scenario.name}, {'one next hop' if cell.hosts == 1 else 'two next hops'}: {relay} "
            f"{words(self.fates[relay][cell.domain])}; Waypost {words(self.fates['Waypost'][cell.domain])}"
            f"{self._footnote(cell, Mark.BETTER)}"
        )

    def _rules(self) -> list[str]:
        """The rules by which Waypost waits where a peer delivers, each once."""
        return list(dict.fromkeys(cell.scenario.rule for cell, _ in self._better() if cell.scenario.rule))

    def _footnote(self, cell: Cell, mark: Mark) -> str:
        rule = cell.scenario.rule
        return f"<sup>{self._rules().index(rule) + 1}</sup>" if mark is Mark.BETTER and rule else ""
