"""How fast mail is relayed: smtp-source → X → smtp-sink, for X = Waypost and X = Postfix, in the same run.

Where `make compiled` has been run, Waypost takes part a second time, compiled.

Both keep the same promise (250 to the final dot only after fsync), on the same disk, with the same load: 4 kB
messages, 20 sessions, a new connection for each message. They take turns in the order A B, B A, A B …, so that a
machine that warms up or is disturbed is so for both. Measured up to the moment the far end has the last message.

    python -m bench.relay [--runs 3] [--messages 10000] [--only waypost|compiled|postfix|wire] [--profile]

Writes bench/results/relay.json and the table in docs/performance.md. Needs root and Debian's `postfix` package, which
also brings smtp-source and smtp-sink (tests/live/setup.sh installs it).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_of_machine, cpu_of_tree, memory_of_tree
from tests.live.postfix import postfix, relay_to
from tests.live.process import CouldNotRunError, answers, free_port, must_run, open_directory, until
from tests.live.service import prepare, running
from waypost import __version__

ROOT = Path(__file__).resolve().parent.parent
COMPILED = ROOT / ".compiled"
RESULTS = ROOT / "bench/results/relay.json"
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- bench.relay writes from here -->", "<!-- to here -->"

SESSIONS = 20
OCTETS = 4096
WARM_UP = 500
PATIENCE = 120.0
QUIET = 0.5
"""The load average above which a machine is not fit for a benchmark."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A system under test that runs: where it takes mail, and the process all its others descend from."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. CPU in milliseconds a message: of the relay's own processes, and of the whole machine; memory in MiB."""

    name: str
    messages_per_second: float
    cpu_ms: float
    machine_cpu_ms: float
    memory_mib: float


@contextlib.asynccontextmanager
async def waypost_relay(sink_port: int, profile: Path | None, *, compiled: bool = False) -> AsyncIterator[Relay]:
    """Waypost on its embedded spool, everything else as it comes."""
    routes = f'[[route]]\ndomains = ["*"]\nto = ["smtp://127.0.0.1:{sink_port}"]\n'
    with open_directory() as directory:
        service = prepare(directory, routes, pause="1m")
        if profile is not None:
            service.wrapper = ("-m", "cProfile", "-o", str(profile), "-m", "waypost")
        if compiled:
            service.environment = {"PYTHONPATH": str(COMPILED)}
        async with running(service):
            yield Relay("compiled" if compiled else "waypost", service.port, service.pid)


@contextlib.asynccontextmanager
async def postfix_relay(sink_port: int) -> AsyncIterator[Relay]:
    """Postfix with tests/live/postfix.py's settings: what hampers it on a benchmark's loopback is removed."""
    with open_directory() as directory:
        async with postfix(directory, relay_to(sink_port)) as instance:
            yield Relay("postfix", instance.port, instance.master)


@contextlib.asynccontextmanager
async def no_relay(sink_port: int) -> AsyncIterator[Relay]:
    """Nothing in between: what the load and the sink can do themselves."""
    yield Relay("wire", sink_port, os.getpid())


class Sink:
    """smtp-sink as the far end; it counts on its standard output: `sess=7 quit=6 mesg=5` and a CR."""

    def __init__(self, process: asyncio.subprocess.Process, words: asyncio.StreamReader) -> None:
        self._process = process
        self._words = words

    async def has(self, messages: int) -> None:
        """Return once it has taken so many messages since its start."""
        heard = b""
        while _count(heard) < messages:
            chunk = await self._words.read(65536)
            if not chunk:
                raise CouldNotRunError(f"smtp-sink ended with {await self._process.wait()}")
            # Nobody needs each count: to look a hundred times a second leaves the processors to those measured.
            heard = (heard + chunk)[-200:]
            await asyncio.sleep(0.01)


def _count(heard: bytes) -> int:
    counts = re.findall(rb"mesg=(\d+)\s", heard)
    return int(counts[-1]) if counts else 0


@contextlib.asynccontextmanager
async def sink(port: int) -> AsyncIterator[Sink]:
    """A far end on a port of our choice."""
    process = await asyncio.create_subprocess_exec(
        *("smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{port}", "1000"), stdout=asyncio.subprocess.PIPE
    )
    if process.stdout is None:
        raise CouldNotRunError("smtp-sink was started without a pipe to count on")
    try:
        await until(lambda: answers(port), "smtp-sink greets")
        yield Sink(process, process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def push(relay: Relay, far_end: Sink, messages: int, *, before: int) -> float:
    """Send so many messages through; seconds from the first to the moment the far end has the last."""
    load = ("-s", SESSIONS, "-l", OCTETS, "-m", messages, "-f", "a@origin.test", "-t", "b@example.test")
    began = time.perf_counter()
    source = await asyncio.create_subprocess_exec("smtp-source", *map(str, load), f"127.0.0.1:{relay.port}")
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        # Both at once: a sink whose counting nobody reads comes to a stop when the pipe is full.
        group.create_task(far_end.has(before + messages))
        if await source.wait() != 0:
            raise CouldNotRunError(f"smtp-source ended with {source.returncode}")
    return time.perf_counter() - began


async def measure(relay: Relay, far_end: Sink, messages: int) -> Measured:
    """One run, after a short one that warms up."""
    await push(relay, far_end, WARM_UP, before=0)
    own, machine = cpu_of_tree(relay.pid), cpu_of_machine()
    seconds = await push(relay, far_end, messages, before=WARM_UP)
    return Measured(
        relay.name,
        messages / seconds,
        (cpu_of_tree(relay.pid) - own) * 1000 / messages,
        (cpu_of_machine() - machine) * 1000 / messages,
        memory_of_tree(relay.pid),
    )


def turns(names: Sequence[str], runs: int) -> list[str]:
    """Who runs when: A B, B A, A B, and so on."""
    return [name for run in range(runs) for name in (names if run % 2 == 0 else tuple(reversed(names)))]


async def compare(names: Sequence[str], runs: int, messages: int, profile: Path | None) -> list[Measured]:
    """All runs, each on a fresh relay with an empty queue."""
    found = []
    for name in turns(names, runs):
        sink_port = free_port()
        relays: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Relay]]] = {
            "waypost": lambda port=sink_port: waypost_relay(port, profile),  # type: ignore[misc]
            "compiled": lambda port=sink_port: waypost_relay(port, profile, compiled=True),  # type: ignore[misc]
            "postfix": lambda port=sink_port: postfix_relay(port),  # type: ignore[misc]
            "wire": lambda port=sink_port: no_relay(port),  # type: ignore[misc]
        }
        async with sink(sink_port) as far_end, relays[name]() as relay:
            measured = await measure(relay, far_end, messages)
        print(row(measured), flush=True)
        found.append(measured)
    return found


def median(name: str, found: Sequence[Measured]) -> Measured:
    """The medians of a relay's runs, each figure for itself."""
    runs = [dataclasses.astuple(run)[1:] for run in found if run.name == name]
    return Measured(name, *(statistics.median(column) for column in zip(*runs, strict=True)))


def row(run: Measured) -> str:
    """One run as a row of the table."""
    return (
        f"| {run.name:<8} | {run.messages_per_second:8,.0f} | {run.cpu_ms:6.3f} "
        f"| {run.machine_cpu_ms:6.3f} | {run.memory_mib:6.0f} |"
    )


def table(medians: Sequence[Measured]) -> str:
    """The medians as Markdown."""
    head = (
        "| relay    | messages/s | CPU ms a message | machine's CPU ms a message | memory, MiB |\n|---|--:|--:|--:|--:|"
    )
    return "\n".join([head, *map(row, medians)])


def processor() -> str:
    """How many processors of which kind."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kind = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors, {kind}"


async def versions() -> dict[str, str]:
    """What was compared, and on what."""
    mail_version = await must_run("postconf", "-d", "-h", "mail_version")
    return {
        "waypost": __version__,
        "postfix": mail_version.output.strip(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": processor(),
        "load_before": f"{os.getloadavg()[0]:.1f}",
    }


def write_down(found: Sequence[Measured], medians: Sequence[Measured], facts: dict[str, str], text: str) -> None:
    """The results as JSON, and the table in the documentation."""
    RESULTS.parent.mkdir(exist_ok=True)
    as_json = {
        "versions": facts,
        "load": {"sessions": SESSIONS, "octets": OCTETS},
        "medians": [dataclasses.asdict(run) for run in medians],
        "runs": [dataclasses.asdict(run) for run in found],
    }
    RESULTS.write_text(json.dumps(as_json, indent=2) + "\n")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def summary(medians: Sequence[Measured], facts: dict[str, str], runs: int, messages: int) -> str:
    """The paragraph and table that go into the documentation."""
    by_name = {run.name: run for run in medians}
    lines = [
        f"Medians of {runs} runs of {messages:,} messages, {OCTETS} octets each, {SESSIONS} sessions,",
        f"a new connection for each message. Waypost {facts['waypost']} on Python {facts['python']},",
        f"Postfix {facts['postfix']}; {facts['processor']}, Linux {facts['kernel']}.",
        "",
        table(medians),
    ]
    if float(facts["load_before"]) > QUIET:
        lines += [
            "",
            f"The machine had other work (load average {facts['load_before']} before): these figures are too low.",
        ]
    if {"waypost", "postfix"} <= by_name.keys():
        ratio = by_name["waypost"].messages_per_second / by_name["postfix"].messages_per_second
        lines += ["", f"Waypost relays **{ratio:.2f} times** as many messages a second as Postfix."]
    if {"compiled", "postfix"} <= by_name.keys():
        ratio = by_name["compiled"].messages_per_second / by_name["postfix"].messages_per_second
        lines += [f"Compiled ([how](howto/compile.md)), it relays **{ratio:.2f} times** as many."]
    return "\n".join(lines)


def is_built() -> bool:
    """Whether there is a compiled build of these very sources. An older one would be measured under this one's name."""
    made = COMPILED / ".ready"
    sources = max(path.stat().st_mtime for path in (ROOT / "src").rglob("*.py"))
    return made.exists() and made.stat().st_mtime > sources


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each relay (default 3)")
    parser.add_argument("--messages", type=int, default=10_000, help="messages a run (default 10000)")
    parser.add_argument(
        "--only",
        action="append",
        choices=("waypost", "compiled", "postfix", "wire"),
        help="measure this; writes nothing",
    )
    parser.add_argument(
        "--profile", type=Path, help="run Waypost under cProfile, write its statistics here; writes no results"
    )
    return parser.parse_args()


async def main() -> None:
    """Measure, print, write down."""
    asked = arguments()
    every = ["waypost", *(["compiled"] if is_built() else []), "postfix"]
    names = asked.only or (["waypost"] if asked.profile else every)
    facts = await versions()
    print(json.dumps(facts), file=sys.stderr)
    if float(facts["load_before"]) > QUIET:
        print("this machine is busy with something else: the figures will be too low", file=sys.stderr)
    if not asked.only and not asked.profile:
        await compare(["wire"], 1, asked.messages, None)
    found = await compare(names, asked.runs, asked.messages, asked.profile)
    medians = [median(name, found) for name in dict.fromkeys(names)]
    text = summary(medians, facts, asked.runs, asked.messages)
    print(f"\n{text}")
    if not asked.only and not asked.profile:
        write_down(found, medians, facts, text)


if __name__ == "__main__":
    asyncio.run(main())
