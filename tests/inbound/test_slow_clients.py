"""Three hundred clients that drip, each on a socket of its own, while mail flows beside them.

The flow is measured with and without them, in turns, in one process on the loop that production uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import uvloop

from tests.scenarios.whole import SCHEDULE, Whole, whole
from waypost.net.clock import SystemClock
from waypost.net.stream import Endpoint

SLOW: Final = 300
SENDERS: Final = 4
EACH: Final = 150
ROUNDS: Final = 3
#: Between two octets of a slow client: much faster than it would be in the field, so that it costs more.
DRIP: Final = 0.25
#: What the flow must keep of its rate, and what a slow client may cost in memory, both its ends together.
SHARE: Final = 0.5
OCTETS_EACH: Final = 30_000

ROUTE: Final = '[[route]]\ndomains = ["far.example"]\nto = "discard:"\n'
LIMITS: Final = "[limits]\nconnections = 500\nconnections_per_client = 500\n"
LETTER: Final = b"Subject: hello\r\n\r\n" + b"How are you?\r\n" * 70
#: Where slow clients stop to drip: a third of them each in a command, in a recipient, in a body.
LEADS: Final[tuple[list[bytes], ...]] = (
    [],
    [b"EHLO slow.example\r\n", b"MAIL FROM:<a@home.example>\r\n"],
    [b"EHLO slow.example\r\n", b"MAIL FROM:<a@home.example>\r\n", b"RCPT TO:<b@far.example>\r\n", b"DATA\r\n"],
)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, endpoint: Endpoint) -> Client:
        client = cls(*await asyncio.open_connection(endpoint.host, endpoint.port))
        assert (await client.hear()).startswith(b"220")
        return client

    async def hear(self) -> bytes:
        line = await self.reader.readline()
        while line[3:4] == b"-":
            line = await self.reader.readline()
        return line

    async def say(self, *lines: bytes) -> bytes:
        reply = b""
        for line in lines:
            self.writer.write(line)
            reply = await self.hear()
        return reply


async def send(endpoint: Endpoint, count: int) -> None:
    client = await Client.to(endpoint)
    await client.say(b"EHLO fast.example\r\n")
    for _ in range(count):
        client.writer.write(b"MAIL FROM:<a@home.example>\r\nRCPT TO:<b@far.example>\r\nDATA\r\n")
        replies = [await client.hear() for _ in range(3)]
        assert replies[2].startswith(b"354"), replies
        assert (await client.say(LETTER + b".\r\n")).startswith(b"250")
    client.writer.close()


async def rate(endpoint: Endpoint) -> float:
    """Messages a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(send(endpoint, EACH) for _ in range(SENDERS)))
    return SENDERS * EACH / (loop.time() - began)


@contextlib.asynccontextmanager
async def slow_clients(endpoint: Endpoint) -> AsyncIterator[list[Client]]:
    """SLOW clients that say an octet each now and then."""
    clients = [await Client.to(endpoint) for _ in range(SLOW)]
    for number, client in enumerate(clients):
        await client.say(*LEADS[number % len(LEADS)])

    async def drip() -> None:
        while True:
            for client in clients:
                client.writer.write(b"x")
                await asyncio.sleep(DRIP / SLOW)

    dripping = asyncio.ensure_future(drip())
    try:
        yield clients
    finally:
        dripping.cancel()
        for client in clients:
            client.writer.transport.abort()


def resident() -> int:
    """Octets of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SLOW + 200:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def measure(service: Whole) -> tuple[list[float], int]:
    """What share of its rate the flow kept beside slow clients, each round; and what these took in memory."""
    (endpoint,) = service.running.receive_endpoints
    shares, grown = [], 0
    await rate(endpoint)  # warms up
    for number in range(ROUNDS):
        alone = await rate(endpoint)
        before = resident()
        async with slow_clients(endpoint) as clients:
            if number == 0:
                grown = resident() - before
            shares.append(await rate(endpoint) / alone)
            assert service.receiver.sessions >= SLOW
            in_body = clients[len(LEADS) - 1]
            assert (await in_body.say(b"\r\n.\r\n")).startswith(b"250")  # slow, and served all the same
    return shares, grown


@pytest.mark.usefixtures("_many_descriptors")
def test_slow_clients_cost_the_others_little_and_hardly_any_memory() -> None:
    async def main() -> tuple[list[float], int]:
        async with whole(ROUTE + LIMITS, schedule=SCHEDULE, clock=SystemClock) as service:
            return await measure(service)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        shares, grown = runner.run(main())
    # The best round counts: a machine that was busy for a moment is no defect of ours.
    assert max(shares) >= SHARE, f"beside {SLOW} slow clients mail flows at {shares} of its rate"
    assert grown < SLOW * OCTETS_EACH, f"{grown / SLOW:.0f} octets a slow client"
