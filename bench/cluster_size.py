"""What a load needs of a database, by what one message is measured to leave behind: rows, WAL, syncs, and what stays.

The measure: so many messages are accepted and settled through the storage itself, on a real server, and the server's
own counters are read before and after. The computation: those, times the load. What is not measured is said with its
assumption in `Load`.

    python -m bench.cluster_size                              the load of docs/cluster.md, written into it
    python -m bench.cluster_size --messages 5e6 --octets 8e3  another; written nowhere
"""

from __future__ import annotations

import argparse
import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg

from tests.contract.letters import accept, settlement
from tests.postgres import server
from waypost.net.clock import SystemClock
from waypost.queue.postgres.storage import PostgresStorage

SAMPLE: Final = 2000
PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "cluster.md"
DAY: Final = timedelta(days=1).total_seconds()


@dataclass(frozen=True, slots=True)
class Load:
    """`peak`: of the average. `queued`: how long a message stays on average, most for seconds, some for days.

    `history`: how long what became of a message is kept.
    """

    messages: float = 100e6  # a day
    octets: float = 30e3
    nodes: int = 10
    peak: float = 3.0
    queued: timedelta = timedelta(minutes=10)
    history: timedelta = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one message of `octets` leaves: octets of WAL, transactions, and octets that stay in tables and indexes."""

    octets: int
    wal: float
    transactions: float
    stays: float


async def measure(octets: int) -> Trace:
    """Accept and settle, 50 at a time, as a busy node does."""
    with server(settings=("shared_buffers=256MB", "max_wal_size=4GB", "autovacuum=off")) as database:
        storage = PostgresStorage(database.dsn(), SystemClock())
        await storage.open(owner="bench:1")
        watcher = await asyncpg.connect(database.dsn())
        await _through(storage, 0, 200, octets)
        before = await _counters(watcher)
        await _through(storage, 200, SAMPLE, octets)
        after = await _counters(watcher)
        await watcher.close()
        await storage.close()
    wal, transactions, stays = (late - early for early, late in zip(before, after, strict=True))
    return Trace(octets, wal / SAMPLE, transactions / SAMPLE, stays / SAMPLE)


async def _through(storage: PostgresStorage, first: int, count: int, octets: int) -> None:
    async def one(number: int) -> None:
        (lease,) = (await accept(storage, number, octets=bytes(octets), claim_for=60)).leases
        await storage.settle(settlement(lease))

    for start in range(first, first + count, 50):
        await asyncio.gather(*(one(number) for number in range(start, start + 50)))


async def _counters(connection: asyncpg.Connection) -> tuple[float, float, float]:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await connection.fetchrow(
        "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, (SELECT xact_commit FROM pg_stat_database"
        " WHERE datname = current_database()), (SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relname IN ('done', 'events', 'addresses'))"
    )
    assert row is not None
    return float(row[0]), float(row[1]), float(row[2])


def table(load: Load, small: Trace, large: Trace) -> str:
    """What the load needs, as Markdown."""
    per_octet = (large.wal - small.wal) / (large.octets - small.octets)
    wal = small.wal + per_octet * (load.octets - small.octets)
    rate = load.messages / DAY
    peak = rate * load.peak
    queue = rate * load.queued.total_seconds() * (load.octets * 1.1 + 2000)
    history = load.messages * (load.history / timedelta(days=1)) * small.stays
    rows = (
        ("messages a second, average and peak", f"{rate:,.0f}, {peak:,.0f}"),
        ("of these, each of the nodes at the peak", f"{peak / load.nodes:,.0f}"),
        ("commits a second at the peak, 50 messages at a time", f"{peak * small.transactions:,.0f}"),
        ("WAL a message", f"{wal / 1e3:,.1f} kB"),
        ("WAL a second at the peak, on the primary and to each replica", f"{peak * wal / 1e6:,.0f} MB"),
        ("WAL a day (what an archive keeps)", f"{load.messages * wal / 1e12:,.1f} TB"),
        (f"queue, a message staying {load.queued.total_seconds() / 60:.0f} minutes", f"{queue / 1e9:,.0f} GB"),
        (f"history of {load.history.days} days, {small.stays:,.0f} octets a message", f"{history / 1e9:,.0f} GB"),
        ("writes of 8 KiB a second at the peak, WAL and twice into tables", f"{peak * wal * 3 / 8192:,.0f}"),
    )
    return "| what | how much |\n|---|--:|\n" + "".join(f"| {what} | {much} |\n" for what, much in rows)


async def main() -> None:
    """Measure, compute, print; write the page for the load it speaks of."""
    options = argparse.ArgumentParser(description=__doc__)
    usual = Load()
    options.add_argument("--messages", type=float, default=usual.messages)
    options.add_argument("--octets", type=float, default=usual.octets)
    options.add_argument("--nodes", type=int, default=usual.nodes)
    asked = options.parse_args()
    load = Load(asked.messages, asked.octets, asked.nodes)
    said = table(load, await measure(1000), await measure(60_000))
    print(said)
    if load == usual:
        begin, end = "<!-- bench.cluster_size writes from here -->\n", "<!-- to here -->"
        page = PAGE.read_text()
        PAGE.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{said}{end}", page, flags=re.DOTALL))


if __name__ == "__main__":
    asyncio.run(main())
