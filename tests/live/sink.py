"""An SMTP (or LMTP) server that takes everything and remembers it: the far end of a live test, and its judge.

Written apart from the service's own engine on purpose: one mistake must not hide in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.live.process import PATIENCE

EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 209715200", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
"""What EHLO is told unless a test says otherwise."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One message: its envelope, its octets with the dots as they were, and when (loop time) the 250 was written."""

    reverse_path: str
    forward_paths: tuple[str, ...]
    octets: bytes
    at: float
    under_tls: bool = False


class Attack(Enum):
    """What somebody on the way, or a broken server, does to TLS."""

    NONE = "none"
    STRIPS_STARTTLS = "STARTTLS is stripped from the EHLO reply"
    REFUSES_STARTTLS = "STARTTLS is answered 454"
    BREAKS_HANDSHAKE = "garbage comes in the handshake"
    RESETS_AT_EHLO = "the connection is reset at EHLO"


@dataclass(slots=True)
class StartTls:
    """A sink's TLS. `attack` may be changed at any time."""

    context: ssl.SSLContext
    attack: Attack = Attack.NONE


@dataclass(slots=True)
class Sink:
    """What came in. `keep`: what is kept of each message's octets (all of them, unless a test has millions)."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    keep: Callable[[bytes], bytes] = bytes
    extensions: tuple[str, ...] = EXTENSIONS
    starttls: StartTls | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[asyncio.WriteTransport] = field(default_factory=set)

    async def until(self, holds: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
        """Wait, message by message, until `holds`. Raises: AssertionError, with what came instead."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            raise AssertionError(f"waited {within:.0f} s in vain: {what}; {len(self.taken)} messages came") from None

    async def messages(self, count: int, *, within: float = PATIENCE) -> list[Taken]:
        """The messages, once there are `count` of them."""
        await self.until(lambda: len(self.taken) >= count, f"{count} messages", within=within)
        return self.taken

    def take(self, message: Taken) -> None:
        """Remember a message."""
        self.taken.append(message)
        self.arrived.set()


@contextlib.asynccontextmanager
async def sink(
    *,
    keep: Callable[[bytes], bytes] = bytes,
    extensions: tuple[str, ...] = EXTENSIONS,
    starttls: StartTls | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Sink]:
    """A sink that listens on `host`, on a port of its own choice unless told one."""
    record = Sink(keep=keep, extensions=extensions, starttls=starttls)
    server = await asyncio.get_running_loop().create_server(lambda: _Session(record), host, port, backlog=1000)
    record.port = server.sockets[0].getsockname()[1]
    try:
        yield record
    finally:
        server.close()
        for connection in record.connections:
            connection.abort()


class _Session(asyncio.Protocol):
    """One client. Commands are answered in the order they come, pipelined or not."""

    def __init__(self, record: Sink) -> None:
        self.record = record
        self.buffer = bytearray()
        self.in_body = False
        self.seen = 0  # octets of the body already searched for its end
        self.reverse_path = ""
        self.forward_paths: list[str] = []
        self.under_tls = False
        self.is_securing = False  # octets may come under TLS before we hear that the handshake is done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError(f"a TCP transport can be written to; {transport!r} cannot")
        self.transport = transport
        self.record.connections.add(transport)
        transport.write(b"220 sink.test ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.record.connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._work()

    def _work(self) -> None:
        while not self.is_securing and (self._body() if self.in_body else self._command()):
            pass

    def _command(self) -> bool:
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line = self.buffer[:end].decode("utf-8", "surrogateescape")
        del self.buffer[: end + 2]
        attack = self.record.starttls.attack if self.record.starttls else Attack.NONE
        if line[:4].upper() in {"EHLO", "HELO"} and attack is Attack.RESETS_AT_EHLO:
            self.record.verbs.append(line[:4].upper())
            self.transport.abort()
            return False
        self.transport.write(self._answer(line))
        if line.upper() == "QUIT":
            self.transport.close()
        return True

    def _answer(self, line: str) -> bytes:
        verb = line[:4].upper()
        self.record.verbs.append(verb)
        if verb in {"EHLO", "LHLO"}:
            offers = self.record.starttls and self.record.starttls.attack is not Attack.STRIPS_STARTTLS
            starttls = ("STARTTLS",) if offers and not self.under_tls else ()
            lines = ("sink.test", *starttls, *self.record.extensions)
            return "".join(f"250{' ' if text is lines[-1] else '-'}{text}\r\n" for text in lines).encode()
        if verb == "STAR" and self.record.starttls:
            return self._start_tls(self.record.starttls)
        if verb == "MAIL":
            self.reverse_path, self.forward_paths = _path(line), []
        if verb == "RCPT":
            self.forward_paths.append(_path(line))
        if verb == "DATA":
            self.in_body, self.seen = True, 0
            return b"354 go on\r\n"
        return b"221 bye\r\n" if verb == "QUIT" else b"250 2.0.0 ok\r\n"

    def _start_tls(self, starttls: StartTls) -> bytes:
        match starttls.attack:
            case Attack.REFUSES_STARTTLS:
                return b"454 4.7.0 not now\r\n"
            case Attack.BREAKS_HANDSHAKE:
                return b"220 go\r\nwhat is this?\r\n"
            case _:
                self.transport.write(b"220 go\r\n")
                self.is_securing = True
                self.securing = asyncio.get_running_loop().create_task(self._secure(starttls.context))
                return b""

    async def _secure(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # a client that does not like our certificate
            transport = await loop.start_tls(self.transport, self, context, server_side=True)
            if transport is not None:
                self.transport, self.under_tls = transport, True
                self.record.connections.add(transport)
                self.is_securing = False
                self._work()

    def _body(self) -> bool:
        if self.buffer.startswith(b".\r\n"):
            octets, rest = b"", 3
        else:
            end = self.buffer.find(b"\r\n.\r\n", max(0, self.seen - 4))
            if end < 0:
                self.seen = len(self.buffer)
                return False
            octets, rest = bytes(self.buffer[: end + 2]), end + 5
        del self.buffer[:rest]
        self.in_body = False
        self.transport.write(b"250 2.0.0 taken\r\n")
        octets = octets.removeprefix(b".") if octets.startswith(b"..") else octets
        kept = self.record.keep(octets.replace(b"\r\n..", b"\r\n."))
        at = asyncio.get_running_loop().time()
        self.record.take(Taken(self.reverse_path, tuple(self.forward_paths), kept, at, self.under_tls))
        return True


def _path(line: str) -> str:
    return line[line.index("<") + 1 : line.index(">")]
