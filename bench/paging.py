"""What a page of the queue costs with a million recipients in it, by filter; and counting, and changing nearly all.

The queue is filled as bench.backlog does, then a few recipients are made rare: in a domain, by a next hop, held, by a
text. Each filter is asked through the desk (what the API and the command line ask), for its first page and, page by
page, for all that it finds.

    python -m bench.paging               1,000,000 recipients (some five minutes)
    python -m bench.paging --size 100000 fewer; writes nothing

Writes bench/results/paging.json and docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import results
from bench.backlog import fill
from tests.live.process import open_directory
from waypost.admin.answers import ActBody
from waypost.admin.desk import Desk
from waypost.admin.offline import offline
from waypost.config import Config, parse
from waypost.mail.envelope import MessageId, NextHop
from waypost.net.clock import SystemClock
from waypost.queue.ids import from_number
from waypost.queue.storage import Selection

SIZE: Final = 1_000_000
#: Recipients that are unlike the others.
FEW: Final = 20
DEAD: Final = NextHop("smtp://127.0.0.1:9")
RUNS: Final = 5
SETTINGS: Final = """
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
allow_ephemeral = true
[[listener]]
address = "127.0.0.1:0"
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:9"
"""


@dataclass(frozen=True, slots=True)
class Paged:
    """One filter. `first`: the slowest first page of some, in ms; `pages` until all is found, in `whole` ms."""

    what: str
    first: float
    pages: int
    whole: float
    found: int


def make_few_rare(spool: Path) -> MessageId:
    """Give all a last outcome, and a few what no other has; the last message's id."""
    with sqlite3.connect(spool / "queue.db") as database:
        database.execute("UPDATE recipients SET attempts = 1, last_outcome = ?", ("deferred: 450 4.2.1 try later",))
        some = "(message, number) IN (SELECT message, number FROM recipients ORDER BY message DESC LIMIT ?)"
        rare = "domain = 'rare.test', next_hop = 'mx:rare.test', last_outcome = '450 4.7.1 Greylisted, come again'"
        database.execute(f"UPDATE recipients SET {rare} WHERE {some}", (FEW,))
        held = f"UPDATE recipients SET held = 'why not' WHERE {some}"
        database.execute(held, (FEW // 2,))
        database.execute("UPDATE counts SET held = ?", (FEW // 2,))
        (last,) = database.execute("SELECT max(message) FROM recipients").fetchone()
        return from_number(last)


async def paged(desk: Desk, what: str, selection: Selection) -> Paged:
    """The first page some times, then all."""
    first, page = 0.0, await desk.queue(selection)
    for _ in range(RUNS):
        began = time.perf_counter()
        page = await desk.queue(selection)
        first = max(first, time.perf_counter() - began)
    pages, found, began = 1, len(page.entries), time.perf_counter()
    while page.next and found < 100:
        page = await desk.queue(selection, after=page.next)
        pages, found = pages + 1, found + len(page.entries)
    return Paged(what, first * 1000, pages, first * 1000 + (time.perf_counter() - began) * 1000, found)


async def counted(desk: Desk, what: str, selection: Selection) -> Paged:
    """A dry run, as the command line and the dashboard make it: part after part, each telling how far it is."""
    pages, found, after, slowest, began = 0, 0, "", 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        body = ActBody(text=selection.text, domain=selection.domain, dry_run=True, limit=1000, after=after)
        acted = await desk.act("retry", body)
        slowest = max(slowest, time.perf_counter() - asked)
        pages, found, after = pages + 1, found + acted.recipients, acted.next
        if not after:
            return Paged(what, slowest * 1000, pages, (time.perf_counter() - began) * 1000, found)


async def measure(directory: Path, size: int) -> list[Paged]:
    """All filters."""
    spool = directory / "spool"
    spool.mkdir(mode=0o700, exist_ok=True)
    if not (spool / "queue.db").exists():
        await fill(spool, DEAD, size, SystemClock().now() + 86_400)
    last = make_few_rare(spool)
    config = parse(SETTINGS, where="bench", base=directory)
    if not isinstance(config, Config):
        raise SystemExit(str(config))
    asked = {
        "no filter": Selection(),
        "a common domain": Selection(domain="dead.test"),
        "a rare domain": Selection(domain="rare.test"),
        "a domain of nobody": Selection(domain="nobody.test"),
        "a rare next hop": Selection(next_hop="mx:rare.test"),
        "a rare state (held)": Selection(state="held"),
        "a state of nobody (in delivery)": Selection(state="in delivery"),
        "an address of 20,000": Selection(address="from7@example.net"),
        "an address of one": Selection(address="u7.1@dead.test"),
        "a rare text": Selection(text="greylisted"),
        "a text of nobody": Selection(text="nobody says so"),
        "older than a minute": Selection(received_before=SystemClock().now() - 60),
        "one message": Selection(ids=(last,)),
    }
    async with offline(config, spool=True) as desk:
        found = [await paged(desk, what, selection) for what, selection in asked.items()]
        found.append(await counted(desk, "a dry run of nearly all, by domain", Selection(domain="dead.test")))
        found.append(await counted(desk, "a dry run of nearly all, by text", Selection(text="try later")))
    return found


def table(found: Sequence[Paged]) -> str:
    """As the page has it."""
    head = "| filter | first page, ms (slowest) | answers until all found | all, ms | found |\n|---|--:|--:|--:|--:|\n"
    return head + "\n".join(
        f"| {one.what} | {one.first:.0f} | {one.pages} | {one.whole:.0f} | {one.found:,} |" for one in found
    )


async def main(arguments: argparse.Namespace) -> None:
    """Measure, print, write down."""
    with open_directory() as directory:
        found = await measure(Path(arguments.at) if arguments.at else directory, arguments.size)
    print(table(found))
    if arguments.size == SIZE:
        facts = await results.facts()
        written = {"facts": facts, "filters": [dataclasses.asdict(one) for one in found]}
        results.write_down("paging", written, table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--at", default="", help="a directory to fill, or filled before")
    asyncio.run(main(parser.parse_args()))
