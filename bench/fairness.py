"""What a live destination notices of those in trouble: latency, 250 to 250, at 100 messages a second.

The service as its users run it, with real sockets and its spool on disk; the client, the live destination and those in
trouble are in this process, so that one clock times both 250s: the one the service gives, and the one it gets.

    python -m bench.fairness [--seconds 15] [--only alone|dead|backlog|fifty|crowd|mountain|graveyard]

Prints a table, and writes it to docs/trouble.md and bench/results/fairness.json. It takes five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from bench.processes import cpu_of_tree
from tests.live.process import free_port, open_directory
from tests.live.service import prepare, running
from waypost import __version__

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results/fairness.json"
PAGE = ROOT / "docs/trouble.md"
BEGIN, END = "<!-- bench.fairness writes from here -->", "<!-- to here -->"

RATE = 100
SESSIONS = 10
#: Messages a session: less than any server has enough of.
A_SESSION = 100
BODY = (b"x" * 78 + b"\r\n") * 12
WARM_UP = 2.0
BACKLOG = 10_000
STALLED = 50
#: As many as would take all attempts that are allowed, had each its five.
CROWD = 300
#: Messages a second to those in trouble while the others are measured, beside what waits for them already.
TRICKLE = 20
PATIENCE = 60.0
#: The load average above which a machine is not fit for a benchmark.
QUIET = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario. Latencies in milliseconds; `waiting`: recipients queued in the end; `cpu`: 1 is a processor."""

    name: str
    messages: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    waiting: int
    cpu: float


# ---- the peers
@dataclass(slots=True)
class Live:
    """A destination that takes everything; `taken`: the number a message carries, and when its 250 was written."""

    taken: dict[int, float] = field(default_factory=dict)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 live.test ESMTP\r\n")
        while line := await _line(reader):
            match line[:4].upper():
                case b"EHLO":
                    writer.write(b"250-live.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    text = await reader.readuntil(b"\r\n.\r\n")
                    writer.write(b"250 2.0.0 taken\r\n")
                    self.taken[_number(text)] = time.perf_counter()
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 ok\r\n")
        writer.close()


async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A destination that greets, and answers nothing."""
    writer.write(b"220 stuck.test ESMTP\r\n")
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass
    writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except OSError:
        return b""


def _number(text: bytes) -> int:
    return int(text.partition(b"\r\nX-Number: ")[2].partition(b"\r\n")[0])


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """The port of a server on loopback."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    try:
        yield port
    finally:
        server.close()


# ---- the client
class Client:
    """One session with the service, and the next, message after message."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sent = 0

    async def send(self, domain: str, number: int, recipients: int = 1) -> float:
        """Send one message; when its 250 was heard."""
        if self._sent % A_SESSION == 0:
            await self._connect()
        self._sent += 1
        rcpts = "".join(f"RCPT TO:<b{one}@{domain}>\r\n" for one in range(recipients))
        envelope = f"MAIL FROM:<a{number % 7}@origin.test>\r\n{rcpts}DATA\r\n"
        await self._say(envelope.encode(), replies=2 + recipients)
        await self._say(b"Subject: one\r\nX-Number: %d\r\n\r\n" % number + BODY + b".\r\n")
        return time.perf_counter()

    async def close(self) -> None:
        if self._sent:
            await self._say(b"QUIT\r\n")
            self._writer.close()

    async def _connect(self) -> None:
        await self.close()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._reply()
        await self._say(b"EHLO client.test\r\n")

    async def _say(self, octets: bytes, *, replies: int = 1) -> None:
        self._writer.write(octets)
        for _ in range(replies):
            await self._reply()

    async def _reply(self) -> None:
        while True:
            line = await self._reader.readline()
            if line[:1] not in (b"2", b"3"):
                raise SystemExit(f"the service said {line!r}")
            if line[3:4] != b"-":
                return


async def flood(port: int, domains: Sequence[str], messages: int, recipients: int = 1) -> None:
    """Send so many messages as fast as they are taken, each to so many recipients of one domain."""
    numbers = iter(range(messages))
    names = cycle(domains)

    async def one() -> None:
        client = Client(port)
        for number in numbers:
            await client.send(next(names), number, recipients)
        await client.close()

    await asyncio.gather(*(one() for _ in range(SESSIONS)))


async def pour(port: int, domains: Sequence[str], rate: float, seconds: float, first: int) -> dict[int, float]:
    """Send at a steady rate, whatever the service does; when each message's 250 was heard, by its number."""
    heard: dict[int, float] = {}
    numbers = iter(range(first, first + round(rate * seconds)))
    names, began = cycle(domains), time.perf_counter()

    async def one() -> None:
        client = Client(port)
        for number in numbers:
            await asyncio.sleep(began + (number - first) / rate - time.perf_counter())
            heard[number] = await client.send(next(names), number)
        await client.close()

    await asyncio.gather(*(one() for _ in range(SESSIONS)))
    return heard


# ---- one scenario
@dataclass(frozen=True, slots=True)
class Scenario:
    """What is in trouble: so many destinations, with so many messages queued for them all, that stall or refuse."""

    name: str
    says: str
    troubled: int = 0
    queued: int = 0
    refuses: bool = False
    recipients: int = 1  # of each message that is queued


SCENARIOS = (
    Scenario("alone", "nothing else"),
    Scenario("dead", "one that refuses connections, 1,000 queued", troubled=1, queued=1000, refuses=True),
    Scenario("backlog", f"one that stalls at EHLO, {BACKLOG:,} queued", troubled=1, queued=BACKLOG),
    Scenario("fifty", f"{STALLED} that stall at EHLO, 2,000 queued", troubled=STALLED, queued=2000),
    Scenario("crowd", f"{CROWD} that stall at EHLO, 3,000 queued", troubled=CROWD, queued=3000),
    Scenario("mountain", "one that refuses, 100,000 queued", troubled=1, queued=100_000, refuses=True, recipients=50),
    Scenario("graveyard", "1,000 that refuse, 5,000 queued", troubled=1000, queued=5000, refuses=True),
)


async def measure(scenario: Scenario, seconds: float) -> Measured:
    """A fresh service with an empty queue, the trouble, then the live destination's mail."""
    live = Live()
    async with contextlib.AsyncExitStack() as stack:
        live_port = await stack.enter_async_context(listening(live))
        ports = [
            free_port() if scenario.refuses else await stack.enter_async_context(listening(stalling))
            for _ in range(scenario.troubled)
        ]
        troubled = [f"t{number}.test" for number in range(len(ports))]
        routes = {"live.test": live_port, **dict(zip(troubled, ports, strict=True))}
        settings = "".join(
            f'[[route]]\ndomains = ["{domain}"]\nto = ["smtp://127.0.0.1:{port}"]\n' for domain, port in routes.items()
        )
        directory = stack.enter_context(open_directory())
        service = await stack.enter_async_context(running(prepare(directory, settings, pause="1m")))
        await pour(service.port, ["live.test"], RATE, WARM_UP, first=-round(RATE * WARM_UP))
        if troubled:
            await flood(service.port, troubled, scenario.queued // scenario.recipients, scenario.recipients)
        cpu = cpu_of_tree(service.pid)
        heard, *_ = await asyncio.gather(
            pour(service.port, ["live.test"], RATE, seconds, first=0),
            *([pour(service.port, troubled, TRICKLE, seconds, first=1_000_000)] if troubled else []),
        )
        cpu = (cpu_of_tree(service.pid) - cpu) / seconds
        await _taken(live, heard)
        waiting = await _waiting(service.admin_port)
    latencies = sorted((live.taken[number] - at) * 1000 for number, at in heard.items())
    return Measured(
        scenario.name,
        len(latencies),
        statistics.median(latencies),
        latencies[int(len(latencies) * 0.99)],
        latencies[-1],
        waiting,
        cpu,
    )


async def _taken(live: Live, heard: dict[int, float]) -> None:
    """Until the live destination has all of it."""
    async with asyncio.timeout(PATIENCE):
        while not heard.keys() <= live.taken.keys():  # noqa: ASYNC110 - once, at a scenario's end
            await asyncio.sleep(0.05)


async def _waiting(admin_port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
    writer.write(b"GET /api/status HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % admin_port)
    answer = await reader.read()
    writer.close()
    found: int = json.loads(answer.partition(b"\r\n\r\n")[2])["recipients"]
    return found


# ---- the results
def table(found: Sequence[Measured]) -> str:
    """As Markdown."""
    says = {scenario.name: scenario.says for scenario in SCENARIOS}
    rows = [
        f"| {says[one.name]} | {one.median_ms:.1f} | {one.p99_ms:.1f} | {one.worst_ms:.1f} | {one.waiting:,} "
        f"| {one.cpu:.0%} |"
        for one in found
    ]
    head = "| beside the live destination | median, ms | p99, ms | worst, ms | left waiting | CPU |"
    return "\n".join([head, "|---|--:|--:|--:|--:|--:|", *rows])


def summary(found: Sequence[Measured], seconds: float, load: float) -> str:
    """The paragraph and table that go into the documentation."""
    lines = [
        f"{RATE} messages a second for {seconds:g} s to the live destination, {TRICKLE} more to those in trouble, 1 kB",
        f"each. Waypost {__version__} on Python {platform.python_version()}; the client and all peers share its",
        f"{os.cpu_count()} processors; load average {load:.1f} before.",
        "",
        table(found),
    ]
    if load > QUIET:
        lines += ["", "The machine had other work: what the rows differ by is within its noise."]
    return "\n".join(lines)


def write_down(found: Sequence[Measured], seconds: float, load: float) -> None:
    """The results as JSON, and the table in the documentation."""
    as_json = {
        "waypost": __version__,
        "python": platform.python_version(),
        "load_before": round(load, 1),
        "messages_per_second": RATE,
        "seconds": seconds,
        "scenarios": [dataclasses.asdict(one) for one in found],
    }
    RESULTS.write_text(json.dumps(as_json, indent=2) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{summary(found, seconds, load)}\n{END}{rest.split(END)[1]}")


async def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=15, help="of each scenario (default 15)")
    parser.add_argument("--only", choices=[one.name for one in SCENARIOS], help="measure this; writes nothing")
    asked = parser.parse_args()
    load, found = os.getloadavg()[0], []
    for scenario in SCENARIOS:
        if asked.only in (None, scenario.name):
            found.append(await measure(scenario, asked.seconds))
            print(found[-1], flush=True)
    print(f"\n{summary(found, asked.seconds, load)}")
    if not asked.only:
        write_down(found, asked.seconds, load)


if __name__ == "__main__":
    asyncio.run(main())
