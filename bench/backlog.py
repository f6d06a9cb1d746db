"""What a backlog costs: start, memory, and what a message to a live destination costs beside so many queued recipients.

The queue is filled by the storage's own `accept`, for a destination that refuses connections and is due in a day; then
the service starts on it, and smtp-source sends to a live one.

    python -m bench.backlog              1,000 to 1,000,000 recipients (some ten minutes)
    python -m bench.backlog --quick      1,000 to 100,000 (two minutes)
    python -m bench.backlog --due        they are due at once: the service has to defer them all meanwhile

Writes bench/results/backlog.json, docs/performance.md and its pictures. Needs Debian's `postfix` for smtp-source.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import random
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import results
from bench.chart import draw
from bench.load import Load, push, sink
from bench.processes import cpu_of_tree, memory_of_tree
from tests.live.process import free_port, open_directory
from tests.live.service import Service, prepare
from waypost.mail.envelope import Envelope, InMemory, NextHop, Origin, Recipient
from waypost.net.clock import SystemClock
from waypost.queue.ids import MessageIds
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StoreFault
from waypost.smtp.path import DomainName, Mailbox

SIZES: Final = (1000, 10_000, 100_000, 1_000_000)
QUICK: Final = (1000, 10_000, 100_000)
#: Recipients of each queued message, as a list's mail has some.
EACH: Final = 4
BODY: Final = InMemory((b"x" * 78 + b"\r\n") * 10)
A_DAY: Final = 86_400.0
LOAD: Final = Load("live", messages=2000)
RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """One size. Seconds to fill it, and from the start to "ready"; memory in MiB, and milliseconds of CPU a message."""

    queued: int
    filled_in: float
    ready_in: float
    memory_mib: float
    messages_per_second: float
    cpu_ms: float
    spool_mib: float


async def fill(path: Path, next_hop: NextHop, queued: int, released_at: float) -> None:
    """Put so many recipients into the queue."""
    storage = SqliteStorage(path)
    await storage.open(owner="bench")
    clock = SystemClock()
    ids, numbers = MessageIds(clock, random.Random(1)), iter(range(queued // EACH))
    origin = Origin("ESMTP", "192.0.2.7", "client.example.net", "192.0.2.2:25")

    async def some() -> None:
        for number in numbers:
            to = [Mailbox(f"u{number}.{one}", DomainName("dead.test")) for one in range(EACH)]
            envelope = Envelope(
                Mailbox(f"from{number % 50}", DomainName("example.net")),
                tuple(Recipient(one, next_hop) for one in to),
                origin,
                released_at=released_at + number % 3600 if released_at else 0.0,
            )
            now = clock.now()
            stored = await storage.accept(envelope, BODY, id=ids.make(), now=now, claim_until=now)
            if isinstance(stored, StoreFault):
                raise SystemExit(stored.detail)

    await asyncio.gather(*(some() for _ in range(200)))
    await storage.close()


async def measure(queued: int, *, due: bool) -> Measured:
    """One size, on a spool of its own."""
    live, dead = free_port(), free_port()
    routes = f"""
[[route]]
domains = ["dead.test"]
to = "smtp://127.0.0.1:{dead}"
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:{live}"
"""
    with open_directory() as directory:
        service = prepare(directory, routes, pause="1h")
        began = time.perf_counter()
        at = 0.0 if due else SystemClock().now() + A_DAY
        await fill(directory / "spool", NextHop(f"smtp://127.0.0.1:{dead}"), queued, at)
        filled = time.perf_counter() - began
        spool = sum(file.stat().st_size for file in (directory / "spool").iterdir()) / 2**20
        began = time.perf_counter()
        await service.start()
        ready = time.perf_counter() - began
        try:
            rate, cpu = await deliver(service, live)
            memory = memory_of_tree(service.pid)
        finally:
            await service.stop()
            shutil.rmtree(directory / "spool")
    return Measured(queued, filled, ready, memory, rate, cpu, spool)


async def deliver(service: Service, live: int) -> tuple[float, float]:
    """Messages a second to the live destination and CPU a message, the medians of some runs."""
    rates, costs = [], []
    async with sink(live) as far_end:
        await push(service.port, LOAD, far_end, LOAD.messages // 4)
        for _ in range(RUNS):
            own = cpu_of_tree(service.pid)
            rates.append(LOAD.messages / await push(service.port, LOAD, far_end, LOAD.messages))
            costs.append((cpu_of_tree(service.pid) - own) * 1000 / LOAD.messages)
    return statistics.median(rates), statistics.median(costs)


def summary(found: Sequence[Measured], facts: dict[str, str], *, due: bool) -> str:
    """The paragraph and table that go into the documentation."""
    rows = [
        f"| {one.queued:,} | {one.ready_in:.1f} | {one.memory_mib:.0f} | {one.messages_per_second:,.0f} "
        f"| {one.cpu_ms:.3f} | {one.spool_mib:,.0f} |"
        for one in found
    ]
    what = "are due at once, and refused a connection" if due else "are due tomorrow"
    return "\n".join(
        [
            f"Recipients in the queue, {EACH} a message, that {what}; medians of {RUNS} runs of {LOAD.messages:,}",
            f"messages to a live destination. Waypost {facts['waypost']} on Python {facts['python']};",
            f"{facts['processor']}.",
            "",
            "| queued | start, s | memory, MiB | messages/s | CPU ms a message | spool, MiB |",
            "|--:|--:|--:|--:|--:|--:|",
            *rows,
            *results.caution(facts),
            "",
            "![CPU a message by recipients queued](pictures/backlog-cpu.svg)",
            "![Memory by recipients queued](pictures/backlog-memory.svg)",
        ]
    )


async def main() -> None:
    """Measure, print, draw, write down."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="up to 100,000")
    parser.add_argument("--sizes", type=int, action="append", help="recipients queued; writes nothing")
    parser.add_argument("--due", action="store_true", help="they are due at once; writes nothing")
    asked = parser.parse_args()
    facts, found = await results.facts(), []
    for queued in asked.sizes or (QUICK if asked.quick else SIZES):
        found.append(await measure(queued, due=asked.due))
        print(found[-1], flush=True)
    text = summary(found, facts, due=asked.due)
    print(f"\n{text}")
    if not asked.sizes and not asked.due:
        cpu, memory = [[(one.queued, figure(one)) for one in found] for figure in (_cpu, _memory)]
        draw(results.PICTURES / "backlog-cpu.svg", "CPU a message", "recipients queued", "ms", {"Waypost": cpu})
        draw(results.PICTURES / "backlog-memory.svg", "Memory", "recipients queued", "MiB", {"Waypost": memory})
        results.write_down("backlog", {"facts": facts, "sizes": [dataclasses.asdict(one) for one in found]}, text)


def _cpu(one: Measured) -> float:
    return one.cpu_ms


def _memory(one: Measured) -> float:
    return one.memory_mib


if __name__ == "__main__":
    asyncio.run(main())
