"""Run the fuzzer: `python -m fuzz [--seconds N] [TARGET …]`. Needs atheris (the dependency group `fuzz`).

Each target runs in a process of its own for so long, from its kept corpus; what it finds is left as
`fuzz/found/TARGET-…`, and the exit status is 1. To play an input again: `python -m fuzz TARGET FILE`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz.targets import NAMES, ROOT, corpus, target

FOUND = ROOT / "found"
#: Octets of an input: more than any limit of a line, so that limits are met.
LONGEST = 80_000
_TRIED = re.compile(r"number_of_executed_units: (\d+)")


def main() -> int:
    arguments = _arguments()
    files = [Path(name) for name in arguments.targets if name not in NAMES]
    names = [name for name in arguments.targets if name in NAMES] or list(NAMES)
    if files:
        for file in files:
            target(names[0])(file.read_bytes())
        return 0
    FOUND.mkdir(exist_ok=True)
    return max(_fuzz(name, arguments.seconds) for name in names)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; or a file to play again")
    return parser.parse_args()


def _fuzz(name: str, seconds: int) -> int:
    """One target, in a process of its own: libFuzzer ends the process it runs in."""
    with tempfile.TemporaryDirectory() as new:
        command = [sys.executable, "-m", "fuzz.one", name, new, str(corpus(name))]
        options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-artifact_prefix={FOUND}/{name}-"]
        ended = _run([*command, *options, "-timeout=10", "-rss_limit_mb=1000", "-print_final_stats=1"])
    tried = _TRIED.search(ended.stderr)
    if ended.returncode or not tried:
        end_of_it = ended.stderr[-3000:]
        print(ended.stdout, end_of_it, f"==== {name}: FAILED; see fuzz/found", sep="\n", flush=True)
        return 1
    print(f"{name}: {tried[1]} inputs in {seconds} s, no promise broken", flush=True)
    return 0


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        command, check=False, cwd=ROOT.parent, capture_output=True, encoding="utf-8", errors="replace"
    )


if __name__ == "__main__":
    sys.exit(main())
