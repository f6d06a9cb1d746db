"""Two whole services on one PostgreSQL: what one learns, the other knows, and what a route allows is for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from tests.postgres import Server, until
from waypost import app
from waypost.config import Config, parse
from waypost.net.stream import Endpoint
from waypost.queue import exchange

pytestmark = pytest.mark.timeout(120)

#: Two rounds of the exchange and more, with the pause between them that tests have.
ROUNDS = 0.5


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EVERY", timedelta(milliseconds=50))


SETTINGS = """\
[service]
hostname = "{name}.example.net"
spool = "{dsn}"
state = "{name}"
postmaster = "postmaster@ours.example"
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
[[rate]]
of = "messages"
by = "client"
limit = 60
per = "1h"
[retry]
schedule = ["1s"]
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:{port}"
tls = "none"
concurrency = {concurrency}
messages = 1
"""


@dataclass
class FarEnd:
    """A server that knows no EHLO: it hangs up. Takes `seconds` for each message."""

    seconds: float = 0.0
    ehlos: int = 0
    taken: int = 0
    at_once: int = 0
    most: int = 0
    port: int = 0
    _sessions: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[FarEnd]:
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._sessions:
                task.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 far.example\r\n")
            while line := await reader.readline():
                if line.startswith(b"EHLO"):
                    self.ehlos += 1
                    return
                if line.startswith(b"MAIL"):
                    self.at_once += 1
                    self.most = max(self.most, self.at_once)
                    await asyncio.sleep(self.seconds)
                if line.startswith(b"DATA"):
                    writer.write(b"354 go on\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    self.taken += 1
                    self.at_once -= 1
                writer.write(b"250 fine\r\n")
        finally:
            writer.close()


def config(place: Path, name: str, dsn: str, port: int, concurrency: int) -> Config:
    text = SETTINGS.format(name=name, dsn=dsn, port=port, concurrency=concurrency)
    found = parse(text, where=str(place / "waypost.toml"), base=place)
    assert isinstance(found, Config), str(found)
    return found


async def send(end: Endpoint, count: int = 1) -> list[str]:
    """Messages in one session; the replies to MAIL."""
    reader, writer = await asyncio.open_connection(end.host, end.port)
    await reader.readline()

    async def say(line: bytes) -> str:
        writer.write(line + b"\r\n")
        return (await reader.readline()).decode()

    await say(b"HELO us.example")
    replies = []
    for _ in range(count):
        replies.append(await say(b"MAIL FROM:<a@us.example>"))
        if replies[-1].startswith("250"):
            await say(b"RCPT TO:<b@far.example>")
            await say(b"DATA")
            assert (await say(b"Subject: x\r\n\r\nx\r\n.")).startswith("250")
    writer.close()
    return replies


@asynccontextmanager
async def nodes(place: Path, dsn: str, far_end: FarEnd, concurrency: int = 20) -> AsyncIterator[list[app.Running]]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(far_end.listening())
        yield [
            await stack.enter_async_context(app.running(config(place, name, dsn, far_end.port, concurrency)))
            for name in ("one", "two")
        ]


async def test_what_one_node_learns_of_a_host_the_other_knows(tmp_path: Path, postgres_server: Server) -> None:
    far_end = FarEnd()
    async with nodes(tmp_path, await postgres_server.emptied(), far_end) as (one, two):
        await send(one.receive_endpoints[0])
        await until(lambda: far_end.taken == 1)
        assert far_end.ehlos == 1
        await asyncio.sleep(ROUNDS)
        await send(two.receive_endpoints[0])
        await until(lambda: far_end.taken == 2)
        assert far_end.ehlos == 1


async def test_a_rate_of_clients_is_counted_by_both(tmp_path: Path, postgres_server: Server) -> None:
    far_end = FarEnd()
    async with nodes(tmp_path, await postgres_server.emptied(), far_end) as (one, two):
        replies = await send(one.receive_endpoints[0], 40)
        assert all(reply.startswith("250") for reply in replies)
        await asyncio.sleep(ROUNDS)
        replies = await send(two.receive_endpoints[0], 40)
        assert [reply[:3] for reply in replies].count("250") == 20
        assert replies[-1].startswith("450 4.7.1")


async def test_the_concurrency_of_a_route_is_for_both(tmp_path: Path, postgres_server: Server) -> None:
    far_end = FarEnd(seconds=0.2)
    async with nodes(tmp_path, await postgres_server.emptied(), far_end, concurrency=4) as both:
        await asyncio.sleep(ROUNDS)  # the first knows of the second
        await asyncio.gather(*(send(node.receive_endpoints[0], 30) for node in both))
        await until(lambda: far_end.taken == 60)
        assert far_end.most <= 4
