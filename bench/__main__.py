"""All benchmarks whose results stand in docs/performance.md and docs/trouble.md, one after the other, and a summary.

    python -m bench            an hour and a quarter on two processors that have nothing else to do
    python -m bench --quick    twenty minutes
    python -m bench --summary  what the last results say of the goals; measures nothing

Each runs alone, too: `python -m bench.relay`, `.fairness`, `.backlog`, `.memory`, `.destinations`. As root.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.results import RESULTS

#: Programs, and what makes each short, where it can be.
PROGRAMS: Final = {
    "relay": ("--quick",),
    "fairness": ("--seconds", "10"),
    "backlog": ("--quick",),
    "memory": (),
    "paging": ("--size", "100000"),
    "destinations": (),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, out of a program's results, and the bound it is to keep: `least` or `most`."""

    says: str
    program: str
    figure: Callable[[Any], float]
    least: float = 0.0
    most: float = float("inf")


def _times(cell: str, build: str) -> Callable[[Any], float]:
    return lambda found: (
        found["cells"][cell][build]["messages_per_second"] / found["cells"][cell]["postfix"]["messages_per_second"]
    )


def _share(build: str) -> Callable[[Any], float]:
    return lambda found: found["cells"]["anchor"][build]["cpu_ms"] / found["cells"]["anchor"]["postfix"]["cpu_ms"]


def _worst(found: Any) -> float:
    """The worst cell of the grid, by the faster build."""
    return min(
        _times(cell, "compiled" if "compiled" in of else "waypost")(found) for cell, of in found["cells"].items()
    )


def _latency(scenario: str, figure: str) -> Callable[[Any], float]:
    return lambda found: float(next(one[figure] for one in found["scenarios"] if one["name"] == scenario))


def _largest(figure: str) -> Callable[[Any], float]:
    return lambda found: float(found["sizes"][-1][figure])


def _growth(figure: str) -> Callable[[Any], float]:
    return lambda found: found["sizes"][-1][figure] / found["sizes"][0][figure]


def _own(what: str) -> Callable[[Any], float]:
    return lambda found: next(one["after"] - one["before"] for one in found["found"] if what in one["what"])


def _total(what: str) -> Callable[[Any], float]:
    return lambda found: float(next(one["after"] for one in found["found"] if what in one["what"]))


def _slowest(found: Any) -> float:
    return max(float(one["first"]) for one in found["filters"])


GOALS: Final = (
    Goal("times Postfix' rate", "relay", _times("anchor", "waypost"), least=5),
    Goal("times Postfix' rate, compiled", "relay", _times("anchor", "compiled"), least=5),
    Goal("of Postfix' CPU a message", "relay", _share("waypost"), most=0.2),
    Goal("of Postfix' CPU a message, compiled", "relay", _share("compiled"), most=0.2),
    Goal("times Postfix' rate, in the worst cell", "relay", _worst, least=2),
    Goal("ms from 250 to 250, median", "fairness", _latency("alone", "median_ms"), most=15),
    Goal("ms, 99 of 100, beside 100,000 for a dead host", "fairness", _latency("mountain", "p99_ms"), most=100),
    Goal("MiB with the largest backlog", "backlog", _largest("memory_mib"), most=250),
    Goal("s to start on it", "backlog", _largest("ready_in"), most=3),
    Goal("of the rate beside 1,000 queued", "backlog", _growth("messages_per_second"), least=0.9),
    Goal("times the CPU a message beside 1,000 queued", "backlog", _growth("cpu_ms"), most=1.1),
    Goal("ms for the first page of a million, by the slowest filter", "paging", _slowest, most=100),
    Goal("MiB for a message of 100 MB", "memory", _own("100 MB"), most=10),
    Goal("MiB with 5,000 idle sessions", "memory", _total("in clear"), most=150),
    Goal("MiB with 5,000 idle sessions under TLS", "memory", _total("under TLS"), most=300),
)


def verdict(goal: Goal) -> str:
    """What the last results say of a goal, in a line."""
    path = RESULTS / f"{goal.program}.json"
    bound = f"at least {goal.least:g}" if goal.least else f"at most {goal.most:g}"
    try:
        figure = goal.figure(json.loads(path.read_text()))
    except (OSError, KeyError, StopIteration):
        return f"  ?   {'':>9}  {goal.says} ({bound}): not measured"
    kept = "yes" if goal.least <= figure <= goal.most else "NO "
    return f" {kept} {figure:>9.2f}  {goal.says} ({bound})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them, and print the summary; the number of programs that failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="each as short as it can be")
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    asked, failed = parser.parse_args(arguments), 0
    for program, quick in {} if asked.summary else PROGRAMS.items():
        print(f"\n==== bench.{program}", flush=True)
        command = [sys.executable, "-m", f"bench.{program}", *(quick if asked.quick else ())]
        failed += subprocess.run(command, check=False).returncode != 0
    print("\n==== the goals")
    print("\n".join(map(verdict, GOALS)))
    return failed


if __name__ == "__main__":
    sys.exit(main())
