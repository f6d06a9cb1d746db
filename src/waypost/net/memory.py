"""Connections that never leave the process: for tests, and for trying a session without a socket.

Both ends behave as sockets do (half-close, reset, a window that fills), and wait by the running loop's clock, so that a
virtual clock rules them. TLS is a pretence: whoever says `CLIENT_HELLO` has shaken hands.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import TypeAlias

from waypost.net.stream import FLUSHED, Endpoint, Fault, FaultKind, Flushed, Hear, Speaks, Stream
from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState

HERE = Endpoint("127.0.0.1", 25)
THERE = Endpoint("192.0.2.1", 49152)  # RFC 5737: an address for examples
#: What a client in memory says for its part of the handshake.
CLIENT_HELLO = b"\x16\x03\x01pretended"
_LEFT = Fault(FaultKind.CLOSED, "by this side")


class MemoryStream:
    """One end. `segment`: a read gives so many octets at most (0: all there are), as a network may cut them."""

    #: Octets the other end may leave unread before `flush` waits: a socket's buffers hold about as much.
    WINDOW = 64 * 1024

    def __init__(self, peer: Endpoint, local: Endpoint, segment: int = 0) -> None:
        self.peer = peer
        self.local = local
        self.segment = segment
        self.tls: TlsState = IN_CLEAR
        self._other = self
        self._unread = bytearray()
        self._read_end: Fault | Flushed = FLUSHED  # Flushed: nothing is wrong
        self._write_end: Fault | Flushed = FLUSHED
        self._gone = False
        self._changed = asyncio.Event()

    async def read(self, within: timedelta) -> bytes | Fault:
        if not await self._until(lambda: bool(self._unread) or isinstance(self._read_end, Fault), within):
            return Fault(FaultKind.TIMED_OUT, f"nothing came for {within.total_seconds():g} s")
        if not self._unread:
            return self._read_end if isinstance(self._read_end, Fault) else Fault(FaultKind.CLOSED)
        cut = self.segment or len(self._unread)
        octets = bytes(self._unread[:cut])
        del self._unread[:cut]
        self._other.wake()
        return octets

    async def listen(self, hear: Hear, within: timedelta) -> Flushed | Fault:
        while within > timedelta() and self._other.has_room:
            octets = await self.read(within)
            if isinstance(octets, Fault):
                return octets
            within = hear(octets)
        return FLUSHED

    def pending(self) -> bytes | Fault | Flushed:
        return bytes(self._unread) if self._unread else self._read_end

    def stand_for(self, peer: Endpoint, unread: bytes) -> None:
        self.peer = peer
        self._unread[:0] = unread

    def write(self, octets: bytes) -> None:
        if isinstance(self._write_end, Flushed):
            self._other.feed(octets)

    async def flush(self, within: timedelta) -> Flushed | Fault:
        if not await self._until(lambda: isinstance(self._write_end, Fault) or self._other.has_room, within):
            return Fault(FaultKind.TIMED_OUT, f"the peer took too little for {within.total_seconds():g} s")
        return self._write_end

    async def accept_tls(
        self,
        context: ssl.SSLContext,  # noqa: ARG002 - nothing is encrypted here
        within: timedelta,
        *,
        implicit: bool = False,
    ) -> TlsFacts | Fault:
        if self._unread and not implicit:
            self.abort()
            return Fault(FaultKind.TLS, "the peer spoke in clear between STARTTLS and the handshake")
        said = b""
        while len(said) < len(CLIENT_HELLO):
            octets = await self.read(within)
            if isinstance(octets, Fault):
                self.abort()
                return octets
            said += octets
            if not CLIENT_HELLO.startswith(said[: len(CLIENT_HELLO)]):
                self.abort()
                return Fault(FaultKind.TLS, "WRONG_VERSION_NUMBER")
        self._unread[:0] = said[len(CLIENT_HELLO) :]
        self.tls = shaken = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        return shaken

    async def close(self, peer_speaks: Speaks = Speaks.PERHAPS) -> None:  # noqa: ARG002 - nothing is lost here by a reset
        self._leave()
        self._other.hear_end()

    def abort(self) -> None:
        self._leave()
        self._other.hear_reset()

    def half_close(self) -> None:
        """End what this side says, and go on listening: shutdown(SHUT_WR)."""
        self._write_end = _LEFT
        self._other.hear_end()

    def _leave(self) -> None:
        self._gone = True
        self._unread.clear()
        self._read_end = self._write_end = _LEFT
        self.wake()

    # -- what the other end does to this one
    @property
    def has_room(self) -> bool:
        """Whether this end has read enough of what came."""
        return len(self._unread) <= self.WINDOW

    def feed(self, octets: bytes) -> None:
        """Octets arrive. Those for an end that is gone are answered as TCP does, with a reset."""
        if self._gone:
            self._other.hear_reset()
            return
        self._unread += octets
        self.wake()

    def hear_end(self) -> None:
        """The other end will say no more."""
        if isinstance(self._read_end, Flushed):
            self._read_end = Fault(FaultKind.CLOSED)
        self.wake()

    def hear_reset(self) -> None:
        """The other end is gone: nothing will come, and nothing can be said."""
        if not self._gone:
            self._read_end = self._write_end = Fault(FaultKind.RESET)
            self.wake()

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()

    def join(self, other: MemoryStream) -> None:
        """Make `other` the other end."""
        self._other = other

    async def _until(self, condition: Callable[[], bool], within: timedelta) -> bool:
        if condition():
            return True
        try:
            async with asyncio.timeout(within.total_seconds()):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


def connected_pair(
    *, client: Endpoint = THERE, server: Endpoint = HERE, segment: int = 0
) -> tuple[MemoryStream, MemoryStream]:
    """The client's end and the server's end of one connection; `segment` cuts what the server reads."""
    near, far = MemoryStream(server, client), MemoryStream(client, server, segment)
    near.join(far)
    far.join(near)
    return near, far


Host: TypeAlias = Callable[[Stream], Coroutine[object, object, None]]
"""A server in memory: what it does with one connection."""


class MemoryDialer:
    """A Dialer to servers in memory. An endpoint not among `hosts` refuses; one that is a Fault answers with it."""

    def __init__(self, hosts: Mapping[Endpoint, Host | Fault], handshake: Flushed | Fault = FLUSHED) -> None:
        self.hosts = dict(hosts)
        self.handshake = handshake
        self.dialled: list[Endpoint] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self, endpoint: Endpoint, within: timedelta, source: str = "") -> Stream | Fault:  # noqa: ARG002 - an answer at once needs no limit
        self.dialled.append(endpoint)
        host = self.hosts.get(endpoint, Fault(FaultKind.REFUSED))
        if isinstance(host, Fault):
            return host
        near, far = connected_pair(server=endpoint)
        task = asyncio.get_running_loop().create_task(self._serve(host, far))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _serve(self, host: Host, stream: MemoryStream) -> None:
        try:
            await host(stream)
        finally:
            await stream.close()

    async def start_tls(
        self,
        stream: Stream,
        context: ssl.SSLContext,  # noqa: ARG002 - nothing is encrypted here
        server_name: str,  # noqa: ARG002
        within: timedelta,  # noqa: ARG002
    ) -> Stream | Fault:
        """What was set at the start: the stream itself as if under TLS, or the Fault of a handshake that fails."""
        match stream.pending():
            case bytes():
                stream.abort()
                return Fault(FaultKind.TLS, "the peer spoke in clear between its reply to STARTTLS and the handshake")
            case Fault() as fault:
                return fault
            case Flushed():
                pass
        if isinstance(self.handshake, Fault):
            stream.abort()
            return self.handshake
        return stream
