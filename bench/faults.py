"""What Waypost, Postfix and Exim each do when the next hop misbehaves: the same faults, one relay after the other.

Each cell is a fault (bench/fault_cells.py) and one next hop or two; each has a domain and addresses of its own, so
that all cells of a relay run at once and none disturbs another. Everything is seen from outside: what the next hops
got, what the relay's own queue says, what reports it sent.

    python -m bench.faults [--only waypost|postfix|exim …] [--match TEXT]

Writes bench/results/faults.json and the table in docs/side-by-side.md, if all relays and cells were played; then
`python -m tests.matrix.page > docs/fault-matrix.md` takes the figures over. Needs root and what tests/live/setup.sh
installs. Loopback only (127.0.0.0/8); some four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import platform
import smtplib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from bench.fault_cells import CONTROL, SCENARIOS, Cell, cells
from bench.fault_relays import (
    TIMEOUT,
    Queue,
    Relay,
    Waiting,
    exim_relay,
    missing,
    postfix_relay,
    settle,
    waypost_relay,
)
from bench.fault_town import AUTHOR, Copy, Place, Town, message, town
from bench.fault_verdicts import Arrival, Fate, Findings, Kind
from tests.live.process import CouldNotRunError

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "bench/results/faults.json"
PAGE: Final = ROOT / "docs/side-by-side.md"
BEGIN, END = "<!-- bench.faults writes from here -->", "<!-- to here -->"

RELAYS: Final[Mapping[str, Callable[[Town], contextlib.AbstractAsyncContextManager[Relay]]]] = {
    "waypost": waypost_relay,
    "postfix": postfix_relay,
    "exim": exim_relay,
}
AT_ONCE: Final = 8
NEXT_AFTER: Final = 1.5
"""Seconds from a first message's connection to the second message: who keeps connections keeps them that long."""
PATIENCE: Final = 45.0
"""Seconds for all attempts to end: below the shortest pause of any relay, so that no second attempt blurs the first."""
PATIENCE_WITH_FLOODS: Final = 20.0
AFTERTHOUGHT: Final = 2.0
"""Seconds in which a report or a late copy may still come."""


class Run:
    """One relay against all cells."""

    def __init__(self, relay: Relay, around: Town) -> None:
        self._relay = relay
        self._town = around
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._taken: dict[str, float] = {}  # when the relay took the message that counts, by domain

    async def play(self) -> dict[str, Fate]:
        """The fate of each cell's message, by domain. What floods this machine is played when all else is over."""
        places = list(self._town.places.values())
        calm = [place for place in places if not place.cell.scenario.floods]
        floods = [place for place in places if place.cell.scenario.floods]
        fates = await self._wave(calm, within=PATIENCE)
        if floods:
            fates |= await self._wave(floods, within=PATIENCE_WITH_FLOODS)
        await self._still_serves()
        return fates

    async def _wave(self, places: Sequence[Place], *, within: float) -> dict[str, Fate]:
        await asyncio.gather(*map(self._mail, places))
        self._say(f"{len(places)} cells under way")
        waiting = await settle(self._relay, frozenset(_recipient(place.cell) for place in places), within=within)
        await asyncio.sleep(AFTERTHOUGHT)
        queue, reported = await self._relay.queue(), self._town.reported()
        queue = Queue(queue.under_way, {who: waiting.get(who, now) for who, now in queue.waiting.items()})
        return {place.cell.domain: self._fate(place, queue, reported) for place in places}

    async def _mail(self, place: Place) -> None:
        """Send a cell's message; where a second one counts, that one 1.5 s after the first went on."""
        if place.cell.scenario.second:
            await self._send(place, 1)
            await place.faulty.peer.until(lambda peer: bool(peer.dialogues))
            await asyncio.sleep(NEXT_AFTER)
        await self._send(place, place.cell.counts)

    async def _send(self, place: Place, number: int) -> None:
        async with self._turns:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                await asyncio.to_thread(_submit, self._relay.port, place.cell, number)
                if number == place.cell.counts:
                    self._taken[place.cell.domain] = asyncio.get_running_loop().time()

    def _fate(self, place: Place, queue: Queue, reported: Mapping[str, str]) -> Fate:
        domain = place.cell.domain
        if domain not in self._taken:
            return Fate(Kind.NOT_TAKEN)
        recipient = _recipient(place.cell)
        arrivals = tuple(self._arrival(copy, domain) for copy in place.copies(place.cell.counts))
        kind = _kind(arrivals, recipient, queue, reported)
        why = queue.waiting.get(recipient, Waiting(0.0, reported.get(recipient, "")))
        return Fate(kind, arrivals, round(why.pause), why.reason, place.connections)

    def _arrival(self, copy: Copy, domain: str) -> Arrival:
        return Arrival(copy.host, max(0.0, round(copy.at - self._taken[domain], 1)), copy.acknowledged)

    async def _still_serves(self) -> None:
        """Raises: CouldNotRunError, where one more message for a healthy host does not get through."""
        for place in self._town.places.values():
            if place.cell.scenario is CONTROL:
                await self._send(place, 3)
                await place.faulty.peer.until(lambda _, place=place: bool(place.copies(3)))  # type: ignore[misc]
        self._say("still serves")

    def _say(self, what: str) -> None:
        print(f"{self._relay.name} {self._relay.version}: {what}", flush=True)


def _recipient(cell: Cell) -> str:
    """Who the message is for whose fate counts."""
    return cell.recipient(cell.counts)


def _kind(arrivals: Sequence[Arrival], recipient: str, queue: Queue, reported: Mapping[str, str]) -> Kind:
    if len(arrivals) > 1:
        return Kind.TWICE
    if recipient in queue.under_way:
        return Kind.STUCK
    if recipient in queue.waiting:
        return Kind.WAITS
    if recipient in reported:
        return Kind.RETURNED
    if not arrivals:
        return Kind.LOST
    return Kind.ONCE if arrivals[0].acknowledged else Kind.PRESUMED


def _submit(port: int, cell: Cell, number: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail(AUTHOR, [cell.recipient(number)], message(cell, number))


async def compare(names: Iterable[str], played: Sequence[Cell]) -> tuple[Findings, dict[str, str]]:
    """All findings, and the version of each relay."""
    fates, versions = {}, {}
    for name in names:
        async with town(played) as around, RELAYS[name](around) as relay:
            fates[relay.name] = await Run(relay, around).play()
            versions[relay.name] = relay.version
    return Findings(played, fates), versions


def summary(findings: Findings, versions: dict[str, str]) -> str:
    """What came of it all, in figures; it goes into docs/fault-matrix.md too (tests/matrix/page.py)."""
    of_what = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [
            f"{len(findings.cells)} cells; {of_what}; Python {platform.python_version()}, Linux {platform.release()}.",
            "",
            findings.totals(),
            "",
            *(f"- {findings.score(name)}" for name in findings.fates if name != "Waypost"),
            "",
            *findings.where_better(),
            "",
        ]
    )


def write_down(findings: Findings, versions: dict[str, str], told: str) -> None:
    """The results as JSON, and the page with the table."""
    rows = [
        {
            "fault": cell.scenario.name,
            "next_hops": cell.hosts,
            **{relay: _as_json(fates[cell.domain]) for relay, fates in findings.fates.items()},
        }
        for cell in findings.cells
    ]
    results = {"versions": versions, "timeout_s": TIMEOUT, "summary": told, "cells": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{told}\n{findings.table()}\n{END}{rest.split(END)[1]}")


def _as_json(fate: Fate) -> dict[str, object]:
    plain = dataclasses.asdict(fate)
    return {name: value.value if isinstance(value, Enum) else value for name, value in plain.items() if value != ""}


def main() -> None:
    parser = argparse.ArgumentParser(description="Waypost, Postfix and Exim against the same faulty next hops.")
    parser.add_argument("--only", nargs="+", choices=RELAYS, default=list(RELAYS))
    parser.add_argument("--match", default="", help="only faults whose name has this in it")
    asked = parser.parse_args()
    if absent := missing():
        sys.exit(f"bench.faults needs {', '.join(absent)}; install them with: sudo tests/live/setup.sh")
    played = cells(scenario for scenario in SCENARIOS if asked.match in scenario.name or scenario is CONTROL)
    findings, versions = asyncio.run(compare(asked.only, played))
    if "Waypost" not in findings.fates:
        raise CouldNotRunError("without Waypost there is nothing to compare with; add waypost to --only")
    told = summary(findings, versions)
    print(told, findings.table(), sep="\n")
    if len(asked.only) == len(RELAYS) and not asked.match:
        write_down(findings, versions, told)


if __name__ == "__main__":
    main()
