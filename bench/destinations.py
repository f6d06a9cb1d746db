"""What many destinations at once cost: a message each for 10,000 of them, against as many for one.

Each has a domain, a route and an address of its own on loopback (127.0.0.0/8), behind which the same smtp-sink listens.

    python -m bench.destinations                10,000 (two minutes)
    python -m bench.destinations --count 1000   fewer; writes nothing

Writes bench/results/destinations.json and docs/performance.md. What a thousand dead ones do to a live one: see
bench.fairness. Needs Debian's `postfix` for smtp-sink.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import results
from bench.fairness import flood
from bench.load import sink
from bench.processes import cpu_of_tree, memory_of_tree
from tests.live.process import free_port, open_directory
from tests.live.service import prepare, running

COUNT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Measured:
    """So many messages for so many destinations, from the first sent to the last taken."""

    destinations: int
    messages_per_second: float
    cpu_ms: float
    memory_mib: float
    ready_in: float


def address(number: int) -> str:
    """One of 16 million addresses of loopback, none of them 127.0.0.1's neighbours."""
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


async def measure(destinations: int, messages: int) -> Measured:
    """Messages for all destinations in turn."""
    port = free_port()
    routes = "".join(
        f'[[route]]\ndomains = ["d{number}.test"]\nto = "smtp://{address(number)}:{port}"\n'
        for number in range(destinations)
    )
    with open_directory() as directory:
        began = time.perf_counter()
        async with sink(port, "0.0.0.0") as far_end, running(prepare(directory, routes)) as service:
            ready = time.perf_counter() - began
            own, began = cpu_of_tree(service.pid), time.perf_counter()
            names = [f"d{number}.test" for number in range(destinations)]
            await asyncio.gather(flood(service.port, names, messages), far_end.has(messages))
            seconds = time.perf_counter() - began
            cpu = (cpu_of_tree(service.pid) - own) * 1000 / messages
            return Measured(destinations, messages / seconds, cpu, memory_of_tree(service.pid), ready)


def summary(found: Sequence[Measured], facts: dict[str, str], messages: int) -> str:
    """The paragraph and table that go into the documentation."""
    return "\n".join(
        [
            f"{messages:,} messages of 1 kB, for all destinations in turn; the client is in Python, and shares the",
            f"processors. Waypost {facts['waypost']} on Python {facts['python']}.",
            "",
            "| destinations | messages/s | CPU ms a message | memory, MiB | start, s |",
            "|--:|--:|--:|--:|--:|",
            *(
                f"| {one.destinations:,} | {one.messages_per_second:,.0f} | {one.cpu_ms:.3f} | {one.memory_mib:.0f} "
                f"| {one.ready_in:.1f} |"
                for one in found
            ),
            *results.caution(facts),
        ]
    )


async def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(prog="python -m bench.destinations", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, help=f"destinations (default {COUNT:,}); writes nothing")
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    facts, count = await results.facts(), asked.count or COUNT
    found = []
    for destinations in (1, count):
        found.append(await measure(destinations, count))
        print(found[-1], flush=True)
    text = summary(found, facts, count)
    print(f"\n{text}")
    if not asked.count:
        results.write_down("destinations", {"facts": facts, "found": [dataclasses.asdict(one) for one in found]}, text)


if __name__ == "__main__":
    asyncio.run(main())
