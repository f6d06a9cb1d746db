"""A man in the middle who lets everything through until the client says STARTTLS, and breaks what comes of it.

`starttls:502` (any code) and `starttls:close` spoil the reply to the command; `handshake:close`, `reset`, `garbage`
and `stall` come after a 220. What it knows nothing of is TLS: it never completes a handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from waypost.net.stream import Endpoint


@contextlib.asynccontextmanager
async def tls_breaker(fault: str, host: str, behind: Endpoint) -> AsyncIterator[Endpoint]:
    """Listens on `host` with `fault` for each STARTTLS; all else the server `behind` says, who offers it."""
    sessions: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.ensure_future(_Session(fault, reader, writer).run(behind))
        sessions.add(session)
        await asyncio.wait([session])

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield Endpoint(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)


class _Session:
    """One client."""

    def __init__(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._state, _, self._way = fault.partition(":")
        self._reader = reader
        self._writer = writer

    async def run(self, behind: Endpoint) -> None:
        """Serve to the end. A client that has said all it wants to say may still be waiting for replies."""
        replies, commands = await asyncio.open_connection(behind.host, behind.port)
        backwards = asyncio.ensure_future(_copy(replies, self._writer))
        try:
            if await self._passes_on(commands):
                commands.write_eof()
                await backwards
        except ConnectionError:
            pass  # either side went: so does the other
        finally:
            backwards.cancel()
            commands.close()
            self._writer.close()

    async def _passes_on(self, commands: asyncio.StreamWriter) -> bool:
        """Pass on what the client says, up to its end; False: the connection was broken before."""
        while line := await self._reader.readline():
            if line.strip().upper() != b"STARTTLS":
                commands.write(line)
            elif not await self._go_on_after_starttls():
                return False
        return True

    async def _go_on_after_starttls(self) -> bool:
        """Break what is to be broken; False: the connection has ended."""
        if self._way.isdigit():
            self._writer.write(f"{self._way} as planned\r\n".encode())
            return True
        if self._state == "handshake":
            self._writer.write(b"220 2.0.0 go ahead\r\n")
            await self._reader.read(65536)  # the client's first record
            await self._break_handshake()
        return False

    async def _break_handshake(self) -> None:
        match self._way:
            case "reset":
                self._writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self._writer.transport.abort()
            case "garbage":
                self._writer.write(b"454 4.7.0 there is no TLS here after all\r\n")
                await self._reader.read()
            case "stall":
                while await self._reader.read(65536):
                    pass
            case _:
                return  # close: hang up


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while octets := await source.read(65536):
            target.write(octets)
            await target.drain()
    target.close()
