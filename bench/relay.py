"""How fast mail is relayed: smtp-source → X → smtp-sink, for X = Waypost and X = Postfix, in the same run.

All keep the same promise (250 to the final dot only after fsync) on the same disk, with the same load. The first table
is the anchor: 4 kB messages, 20 sessions, a new connection for each message. The grid changes one thing of it at a
time. Relays take turns in the order A B, B A, A B …, each on a fresh instance with an empty queue, so that a machine
that warms up or is disturbed is so for all. Measured up to the moment the far end has the last message.

    python -m bench.relay                  the anchor, and the grid (half an hour)
    python -m bench.relay --quick          three runs a cell, a fifth of the messages (eight minutes)
    python -m bench.relay --cells anchor   some cells, or "all"; without the anchor nothing is written
    python -m bench.relay --with exim --with opensmtpd   others, too, in the anchor (after bench/peers.sh)
    python -m bench.relay --with workers                 Waypost with a process for each processor, too
    python -m bench.relay --only waypost --profile FILE  one alone, under cProfile; writes nothing
    python -m bench.relay --python /usr/bin/python3      Waypost on another interpreter than this one

Where `make compiled` has been run, Waypost takes part a second time, compiled. Writes bench/results/relay.json and the
tables in docs/performance.md. Needs root and the peers of tests/live/setup.sh.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import results
from bench.contestants import CONTESTANTS, Setting
from bench.load import Load, Sink, push, sink, under_tls
from bench.processes import cpu_of_machine, cpu_of_tree, memory_of_tree
from tests.live.process import free_port, must_run

ANCHOR: Final = Load("anchor")
GRID: Final = (
    Load("1 session", sessions=1, messages=1000),
    Load("200 sessions", sessions=200),
    Load("1 kB", octets=1000),
    Load("100 kB", octets=100_000, messages=1000),
    Load("10 MB", octets=10_000_000, messages=40),
    Load("many a connection", many=True),
    Load("1 session, many", sessions=1, messages=1000, many=True),
    Load("200 sessions, many", sessions=200, many=True),
    Load("50 recipients", messages=500, recipients=50),
    Load("TLS", messages=3000, tls=True),
    Load("TLS, many", messages=3000, many=True, tls=True),
)


SUBJECTS: Final = {
    "waypost": "Waypost",
    "compiled": "Compiled ([how](howto/compile.md)), it",
    "workers": "With a process for each processor ([how](howto/workers.md)), it",
    "compiled workers": "With both, it",
}
#: Who takes part unasked (compiled: where it is built).
ALWAYS: Final = ("waypost", "compiled", "postfix")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. CPU in milliseconds a message: of the relay's own processes, and of the whole machine; memory in MiB."""

    cell: str
    name: str
    messages_per_second: float
    cpu_ms: float
    machine_cpu_ms: float
    memory_mib: float


async def measure(name: str, load: Load, setting: Setting, far_end: Sink) -> Measured:
    """One run of a fresh relay, after a short one that warms up."""
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(CONTESTANTS[name](setting))
        port = await stack.enter_async_context(under_tls(relay.port)) if load.tls else relay.port
        await push(port, load, far_end, max(1, load.messages // 10))
        own, machine = cpu_of_tree(relay.pid), cpu_of_machine()
        seconds = await push(port, load, far_end, load.messages)
        return Measured(
            load.name,
            name,
            load.messages / seconds,
            (cpu_of_tree(relay.pid) - own) * 1000 / load.messages,
            (cpu_of_machine() - machine) * 1000 / load.messages,
            memory_of_tree(relay.pid),
        )


def turns(names: Sequence[str], runs: int) -> list[str]:
    """Who runs when: A B, B A, A B, and so on."""
    return [name for run in range(runs) for name in (names if run % 2 == 0 else tuple(reversed(names)))]


async def compare(names: Sequence[str], load: Load, runs: int, setting: Setting) -> list[Measured]:
    """All runs of a cell."""
    found = []
    for name in turns(names, runs):
        port = free_port()
        async with sink(port) as far_end:
            measured = await measure(name, load, replace(setting, sink_port=port), far_end)
        print(f"{load.name:18} {row(measured)}", flush=True)
        found.append(measured)
    return found


def medians(found: Sequence[Measured]) -> dict[str, Measured]:
    """The medians of each relay's runs in a cell, each figure for itself."""
    by_name: dict[str, list[Measured]] = {}
    for run in found:
        by_name.setdefault(run.name, []).append(run)
    return {
        name: Measured(
            runs[0].cell,
            name,
            *(
                statistics.median(column)
                for column in zip(*[dataclasses.astuple(run)[2:] for run in runs], strict=True)
            ),
        )
        for name, runs in by_name.items()
    }


# ---- the results
def row(run: Measured) -> str:
    """One run as a row of the anchor's table."""
    return (
        f"| {run.name:<8} | {run.messages_per_second:8,.0f} | {run.cpu_ms:6.3f} "
        f"| {run.machine_cpu_ms:6.3f} | {run.memory_mib:6.0f} |"
    )


def anchor_table(of: Mapping[str, Measured]) -> list[str]:
    """The anchor as Markdown."""
    head = "| relay    | messages/s | CPU ms a message | machine's CPU ms a message | memory, MiB |"
    return [head, "|---|--:|--:|--:|--:|", *map(row, of.values())]


def verdicts(of: Mapping[str, Measured]) -> list[str]:
    """How Waypost compares with Postfix in the anchor, in a sentence each."""
    if "postfix" not in of:
        return []
    theirs, said = of["postfix"], []
    for name, subject in SUBJECTS.items():
        if name in of:
            rate, cpu = _ratios(of[name], theirs)
            said.append(
                f"{subject} relays **{rate:.2f} times** as many messages a second as Postfix, "
                f"at **{cpu:.2f}** of its CPU a message."
            )
    return ["", *said]


def _ratios(ours: Measured, theirs: Measured) -> tuple[float, float]:
    return ours.messages_per_second / theirs.messages_per_second, ours.cpu_ms / max(theirs.cpu_ms, 1e-9)


def grid_table(cells: Mapping[str, Mapping[str, Measured]]) -> list[str]:
    """All cells as Markdown: rates, and Waypost's (the faster build's) in Postfix's."""
    lines = ["| cell | Waypost | compiled | Postfix | times | of its CPU |", "|---|--:|--:|--:|--:|--:|"]
    for name, of in cells.items():
        rates = [
            f"{of[who].messages_per_second:,.0f}" if who in of else "" for who in ("waypost", "compiled", "postfix")
        ]
        ours = of.get("compiled") or of.get("waypost")
        ratios = ("", "")
        if ours and "postfix" in of:
            rate, cpu = _ratios(ours, of["postfix"])
            ratios = (f"**{rate:.2f}**", f"{cpu:.2f}")
        lines.append(f"| {name} | {' | '.join([*rates, *ratios])} |")
    return lines


def summary(
    cells: Mapping[str, Mapping[str, Measured]], facts: Mapping[str, str], runs: int, loads: Sequence[Load]
) -> str:
    """What goes into the documentation."""
    anchor = next(load for load in loads if load.name == ANCHOR.name)
    lines = [
        f"Medians of {runs} runs of {anchor.messages:,} messages, {anchor.octets} octets each,",
        f"{anchor.sessions} sessions, a new connection for each message.",
        f"Waypost {facts['waypost']} on Python {facts['python']}, Postfix {facts['postfix']};",
        f"{facts['processor']}, Linux {facts['kernel']}.",
        "",
        *anchor_table(cells[ANCHOR.name]),
        *results.caution(facts),
        *verdicts(cells[ANCHOR.name]),
    ]
    if len(cells) > 1:
        lines += ["", "Each cell changes of the anchor what its name says; messages a second:", "", *grid_table(cells)]
    return "\n".join(lines)


def chosen(asked: argparse.Namespace) -> list[Load]:
    """The cells to be measured."""
    every = (ANCHOR, *GRID)
    wanted = asked.cells or ["anchor" if asked.only or asked.profile else "all"]
    loads = [load for load in every if "all" in wanted or load.name in wanted]
    messages = asked.messages
    if messages:
        loads = [replace(load, messages=messages) for load in loads]
    elif asked.quick:
        loads = [replace(load, messages=max(load.messages // 5, min(load.messages, 20))) for load in loads]
    return loads


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, help="runs of each relay in each cell (default 5; quick: 3)")
    parser.add_argument("--messages", type=int, help="messages a run (default: each cell has its own)")
    parser.add_argument("--quick", action="store_true", help="three runs, a fifth of the messages")
    parser.add_argument("--cells", action="append", help='cells by name, "anchor", or "all" (the default)')
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        choices=[name for name in CONTESTANTS if name not in ALWAYS],
    )
    parser.add_argument("--only", action="append", choices=[*CONTESTANTS], help="measure this; writes nothing")
    parser.add_argument("--python", default=sys.executable, help="the interpreter Waypost runs on")
    parser.add_argument("--profile", type=Path, help="run Waypost under cProfile, statistics go here; writes nothing")
    return parser.parse_args()


async def main() -> None:
    """Measure, print, write down."""
    asked = arguments()
    build = results.Build(asked.python)
    every = ["waypost", *(["compiled"] if results.is_built() else []), "postfix"]
    names = asked.only or (["waypost"] if asked.profile else every)
    runs, loads = asked.runs or (3 if asked.quick else 5), chosen(asked)
    wrapper = ("-m", "cProfile", "-o", str(asked.profile), "-m", "waypost") if asked.profile else ("-m", "waypost")
    postfix = (await must_run("postconf", "-d", "-h", "mail_version")).output.strip()
    facts = {**await results.facts(build), "postfix": postfix}
    print(json.dumps(facts), file=sys.stderr)
    print("".join(results.caution(facts)), file=sys.stderr)
    found = []
    for load in loads:
        others = asked.others if load == loads[0] and not asked.only else []
        found += await compare([*names, *others], load, runs, Setting(0, build, wrapper))
    cells = {load.name: medians([run for run in found if run.cell == load.name]) for load in loads}
    if ANCHOR.name not in cells:
        print("\n".join(grid_table(cells)))
        return
    text = summary(cells, facts, runs, loads)
    print(f"\n{text}")
    if not asked.only and not asked.profile:
        as_json = {"facts": facts, "cells": {cell: _as_json(of) for cell, of in cells.items()}}
        as_json["runs"] = [dataclasses.asdict(run) for run in found]
        results.write_down("relay", as_json, text)


def _as_json(of: Mapping[str, Measured]) -> dict[str, object]:
    return {name: dataclasses.asdict(one) for name, one in of.items()}


if __name__ == "__main__":
    asyncio.run(main())
