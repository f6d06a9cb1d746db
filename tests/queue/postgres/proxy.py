"""A way to the database that a test can cut: a TCP (or Unix) relay between a node and its server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path


def _never(_: bytes) -> bool:
    return False


@dataclass(eq=False)
class Proxy:
    """`cuts_after`: a judge of what a client has sent; where it says so, the server gets it and its answer is lost."""

    socket: Path
    cuts_after: Callable[[bytes], bool] = _never
    is_open: bool = True  # for new connections
    thawed: asyncio.Event = field(default_factory=asyncio.Event)  # else nothing passes, and nobody is told
    cut: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if self.is_open:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self.socket))
        answers = asyncio.ensure_future(self._answers(there, writer))
        try:
            while octets := await reader.read(65536):
                await self.thawed.wait()
                cuts = self.cuts_after(octets)
                if cuts:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    self.cut += 1
                back.write(octets)
                await back.drain()
                if cuts:
                    await there.read(65536)  # the server has answered: it is done
                    return
        finally:
            answers.cancel()
            back.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(65536):
                await self.thawed.wait()
                writer.write(octets)
                await writer.drain()
            writer.close()

    def cut_off(self) -> None:
        """End all connections, and let no new ones in."""
        self.is_open = False
        for task in self.tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def proxy(socket: Path) -> AsyncIterator[Proxy]:
    """A relay to the server behind a Unix socket, on a free port of loopback."""
    one = Proxy(socket)
    one.thawed.set()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        one.cut_off()
        server.close()
        await asyncio.gather(*one.tasks, return_exceptions=True)
