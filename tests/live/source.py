"""A client that sends many messages, each with an identity of its own, and keeps the ledger of what was promised.

It survives what happens to the server: a connection refused or lost costs one message its certainty, never the run.
A message whose fate is unknown is never sent again under the same identity, so that a double is always the server's.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import dataclass, field

IDENTITY = b"X-Live-Id: "
"""The header line by which the sink knows a message again."""


@dataclass(slots=True)
class Ledger:
    """What the source knows of each identity; times are loop time."""

    promised: dict[int, float] = field(default_factory=dict)  # got 250 to the final dot, and when
    in_doubt: set[int] = field(default_factory=set)  # the final dot went out, no reply came
    refused: dict[int, str] = field(default_factory=dict)  # any other reply
    lost_connections: int = 0


@dataclass(slots=True)
class Source:
    """Sends until `count` messages have been promised, `sessions` at a time, a new connection for each."""

    port: int
    count: int = sys.maxsize
    sessions: int = 20
    size: int = 4096
    recipient: str = "bob@example.test"
    ledger: Ledger = field(default_factory=Ledger)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _under_way: int = 0

    async def run(self) -> Ledger:
        """Send; returns when as many as asked for have been promised."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.sessions):
                group.create_task(self._sender())
        return self.ledger

    def enough(self) -> None:
        """Finish what is under way, then end."""
        self.count = 0

    async def _sender(self) -> None:
        while len(self.ledger.promised) + self._under_way < self.count:
            self._under_way += 1
            try:
                await self._send(next(self._numbers))
            except (OSError, EOFError):
                self.ledger.lost_connections += 1
                await asyncio.sleep(0.02)  # the server is down; it comes back
            finally:
                self._under_way -= 1

    async def _send(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await _expect(reader, b"220")
            for command, code in (
                (b"HELO source.test", b"250"),
                (b"MAIL FROM:<source@origin.test>", b"250"),
                (f"RCPT TO:<{self.recipient}>".encode(), b"250"),
                (b"DATA", b"354"),
            ):
                writer.write(command + b"\r\n")
                await _expect(reader, code)
            writer.write(message(number, self.size) + b".\r\n")
            await self._settle(number, reader)
            writer.write(b"QUIT\r\n")
        except UnexpectedReplyError as refusal:
            self.ledger.refused[number] = str(refusal)
        finally:
            writer.close()

    async def _settle(self, number: int, reader: asyncio.StreamReader) -> None:
        self.ledger.in_doubt.add(number)
        try:
            await _expect(reader, b"250")
        except UnexpectedReplyError:
            self.ledger.in_doubt.discard(number)  # refused: no doubt about that
            raise
        self.ledger.in_doubt.discard(number)
        self.ledger.promised[number] = asyncio.get_running_loop().time()


class UnexpectedReplyError(Exception):
    """The server said something else than it should; the text is its reply."""


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line:
            raise EOFError("the server hung up")
        if line[3:4] != b"-":
            break
    if not line.startswith(code):
        raise UnexpectedReplyError(line.decode("utf-8", "replace").strip())


def message(number: int, size: int) -> bytes:
    """A message of about `size` octets that carries its identity."""
    head = (
        b"From: source@origin.test\r\nTo: bob@example.test\r\nSubject: live %d\r\n"
        b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%d@source.test>\r\n%s%d\r\n\r\n"
    ) % (number, number, IDENTITY, number)
    line = b"0123456789" * 7 + b"\r\n"
    return head + line * ((size - len(head)) // len(line))


def identity(octets: bytes) -> bytes:
    """The identity of a message as it arrived; all a sink needs to keep of it."""
    start = octets.index(IDENTITY) + len(IDENTITY)
    return octets[start : octets.index(b"\r\n", start)]
