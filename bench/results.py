"""Where results go: JSON in bench/results, a section of a page between two marks, and what has to be said with them.

A section begins at `<!-- bench.NAME writes from here -->` and ends at the next `<!-- to here -->`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.live.process import must_run
from waypost import __version__

ROOT: Final = Path(__file__).resolve().parent.parent
COMPILED: Final = ROOT / ".compiled"
RESULTS: Final = ROOT / "bench/results"
PERFORMANCE: Final = ROOT / "docs/performance.md"
PICTURES: Final = ROOT / "docs/pictures"
#: The load average above which a machine is not fit for a benchmark.
QUIET: Final = 0.5


@dataclass(frozen=True, slots=True)
class Build:
    """How Waypost is run: the interpreter, and what its imports find first."""

    python: str = sys.executable
    compiled: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What the interpreter is told: an interpreter that is not this one's finds this one's libraries."""
        own = [] if self.python == sys.executable else [str(ROOT / "src"), *_libraries()]
        path = [*([str(COMPILED)] if self.compiled else []), *own]
        return {"PYTHONPATH": os.pathsep.join(path)} if path else {}


def _libraries() -> list[str]:
    return [one for one in sys.path if one.endswith("site-packages")]


def is_built() -> bool:
    """Whether there is a compiled build of these very sources. An older one would be measured under this one's name."""
    made = COMPILED / ".ready"
    sources = max(path.stat().st_mtime for path in (ROOT / "src").rglob("*.py"))
    return made.exists() and made.stat().st_mtime > sources


async def version_of(python: str) -> str:
    """An interpreter's version."""
    return (await must_run(python, "-c", "import platform; print(platform.python_version())")).output.strip()


async def facts(build: Build | None = None) -> dict[str, str]:
    """What was measured, and on what."""
    return {
        "waypost": __version__,
        "python": await version_of((build or Build()).python),
        "kernel": platform.release(),
        "processor": processor(),
        "load_before": f"{os.getloadavg()[0]:.1f}",
    }


def processor() -> str:
    """How many processors of which kind."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kind = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors, {kind}"


def caution(found: Mapping[str, str]) -> list[str]:
    """What is to be said of figures from a machine that had other work."""
    if float(found["load_before"]) <= QUIET:
        return []
    return ["", f"The machine had other work (load average {found['load_before']} before): these figures are too low."]


def write_down(name: str, found: object, text: str, *, page: Path = PERFORMANCE) -> None:
    """The results as bench/results/NAME.json, and `text` in the page's section."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    begin, end = f"<!-- bench.{name} writes from here -->", "<!-- to here -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
