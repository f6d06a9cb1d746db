"""A byte stream to one peer, and the faults that can befall it, as values.

Not here: opening one (dialer.py, listener.py) or what the octets mean (waypost.smtp).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from ipaddress import ip_address
from math import inf
from typing import Final, Protocol, TypeAlias, cast, runtime_checkable

from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState, explain_failure, facts_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: a numeric address (no brackets) and a port; or a Unix socket's path, and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host[:1] in ("", "/"):
            return self.host or "local socket"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_local(peer: Endpoint) -> bool:
    """Whether nobody can listen in: the peer is on loopback, or a local socket."""
    return peer.host[:1] in ("", "/") or ip_address(peer.host.partition("%")[0]).is_loopback


class FaultKind(Enum):
    """What went wrong on the wire, as a reader of a log wants it called."""

    REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    CLOSED = "closed by the peer"
    RESET = "reset by the peer"
    TLS = "TLS failed"
    GARBLED = "answer not understood"  # octets came, but nothing that could be acted on
    LOCAL = "local failure"  # no descriptor, no port, no permission: not the peer's doing


@dataclass(frozen=True, slots=True)
class Fault:
    """An I/O error, with what the system said of it."""

    kind: FaultKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value


@dataclass(frozen=True, slots=True)
class Flushed:
    """All that was written has been handed to the system."""


FLUSHED: Final = Flushed()

Hear: TypeAlias = Callable[[bytes], timedelta]
"""Takes octets as they come, and says how long the peer has for more; no time (zero or less) ends the listening."""


class Speaks(Enum):
    """Whether a peer that is being left still speaks.

    What meets a closed end is answered with a reset, and a reset can take from the peer what it has not read yet: our
    last reply.
    """

    NO = auto()  # it has said its last word
    PERHAPS = auto()  # it shows by octets that wait already
    YES = auto()  # it may be in the midst of it


class Stream(Protocol):
    """One connection. After a Fault nothing but `abort` is useful; one task reads and writes at a time."""

    @property
    def peer(self) -> Endpoint: ...

    @property
    def local(self) -> Endpoint: ...

    @property
    def tls(self) -> TlsState:
        """What protects it; worked out anew each time."""
        ...

    async def read(self, within: timedelta) -> bytes | Fault:
        """At least one octet, or why there is none; end of stream is a Fault of kind CLOSED."""
        ...

    async def listen(self, hear: Hear, within: timedelta) -> Flushed | Fault:
        """Give `hear` what comes, as it comes: a dialogue of short answers needs no switch of tasks for each.

        Flushed: `hear` ended it, or what it wrote has to be flushed first. What it raises is raised here. `within`: for
        the first octets.
        """
        ...

    def pending(self) -> bytes | Fault | Flushed:
        """What has come already, without waiting: octets (the next read has them too), a fault, or Flushed: nothing."""
        ...

    def stand_for(self, peer: Endpoint, unread: bytes) -> None:
        """A proxy has said whose connection this is: that is its peer from now on; `unread` is read once more."""
        ...

    def write(self, octets: bytes) -> None:
        """Hand octets over; a fault shows at the next flush or read."""
        ...

    async def flush(self, within: timedelta) -> Flushed | Fault:
        """Wait until little enough is buffered that memory stays bounded (at once, in the common case)."""
        ...

    async def accept_tls(
        self, context: ssl.SSLContext, within: timedelta, *, implicit: bool = False
    ) -> TlsFacts | Fault:
        """The server's handshake, in place; on a Fault the connection is gone.

        `implicit`: octets that have come begin it. Else they came in clear: a Fault of kind TLS (RFC 3207 §4.2).
        """
        ...

    async def close(self, peer_speaks: Speaks = Speaks.PERHAPS) -> None:
        """Send what is buffered, then close; never raises, waits at most a few seconds: for a peer that speaks, too."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...


# ---- from the system's words to ours
_KINDS: Final = {
    errno.ECONNREFUSED: FaultKind.REFUSED,
    errno.ENOENT: FaultKind.REFUSED,  # a Unix socket that nobody has made yet
    errno.EHOSTUNREACH: FaultKind.UNREACHABLE,
    errno.ENETUNREACH: FaultKind.UNREACHABLE,
    errno.EHOSTDOWN: FaultKind.UNREACHABLE,
    errno.ENETDOWN: FaultKind.UNREACHABLE,
    errno.ETIMEDOUT: FaultKind.TIMED_OUT,
    errno.ECONNRESET: FaultKind.RESET,
    errno.ECONNABORTED: FaultKind.RESET,
    errno.EPIPE: FaultKind.RESET,
    errno.ESHUTDOWN: FaultKind.RESET,
}


def fault_of(error: BaseException) -> Fault:
    """The Fault an exception stands for; one that is not known to come from the peer is LOCAL, and blames nobody."""
    match error:
        case ssl.SSLError():
            return Fault(FaultKind.TLS, explain_failure(error))
        case TimeoutError(errno=None):
            return Fault(FaultKind.TIMED_OUT)
        case OSError(errno=int(number)):
            return Fault(_KINDS.get(number, FaultKind.LOCAL), os.strerror(number))
        case ConnectionError():
            return Fault(FaultKind.RESET, str(error))
        case _:
            return Fault(FaultKind.LOCAL, f"{type(error).__name__}: {error}")


def endpoint_of(address: object) -> Endpoint:
    """A socket's address as an Endpoint; a Unix socket's is its path (empty at a client's end) and port 0."""
    match address:
        case (str(host), int(port), *_):
            # An IPv4 client of an IPv6 listener is shown, and judged, by its IPv4 address (RFC 4291 §2.5.5.2).
            return Endpoint(host.removeprefix("::ffff:") if "." in host else host, port)
        case bytes():
            return Endpoint(os.fsdecode(address), 0)
        case _:
            return Endpoint(str(address or ""), 0)


# ---- the asyncio form
class SocketStream(asyncio.Protocol):
    """A Stream over an asyncio transport: TCP or a Unix socket, bare or under TLS, on asyncio's loop or uvloop's.

    Leaner than asyncio.StreamReader where a relay feels it: no search for lines, and one timer a connection, which is
    moved and not made anew with every read.
    """

    __slots__ = (
        "_chunks",
        "_deadline",
        "_hear",
        "_held",
        "_loop",
        "_lost",
        "_paused",
        "_peer",
        "_read_end",
        "_reading",
        "_secured",
        "_timer",
        "_timer_at",
        "_tls",
        "_transport",
        "_waiter",
        "_waiting",
        "_write_end",
    )

    #: Octets held for a reader before the peer is made to wait; a pipelined group (RFC 2920) fits in many times over.
    BOUND: Final = 64 * 1024
    #: How long `close` waits for what is buffered to leave, and for a peer that still speaks to stop.
    PATIENCE: Final = timedelta(seconds=5)
    #: Seconds after which the timer looks whether the deadline has passed, though it is later.
    LOOK: Final = 60.0
    #: Timers are good to a millisecond (uvloop); a deadline this near has passed.
    RESOLUTION: Final = 0.001

    _transport: asyncio.Transport  # from connection_made on
    _waiter: asyncio.Future[None]  # where _waiting
    _timer: asyncio.TimerHandle  # where _timer_at < inf

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tls = False  # or about to be
        self._secured = False
        self._lost = False
        # What came and was not yet read.
        self._chunks: list[bytes] = []
        self._held = 0
        self._reading = True
        self._read_end: Fault | Flushed = FLUSHED  # Flushed: nothing is wrong
        # What was written and has not left.
        self._paused = False
        self._write_end: Fault | Flushed = FLUSHED
        # The one task that waits for either.
        self._waiting = False
        self._deadline = inf
        self._timer_at = inf
        # Who takes octets as they come, while that task waits.
        self._hear: Hear = _nobody

    @property
    def peer(self) -> Endpoint:
        return self._peer

    @property
    def tls(self) -> TlsState:
        return facts_of(self._transport.get_extra_info("ssl_object")) if self._secured else IN_CLEAR

    @property
    def local(self) -> Endpoint:
        return endpoint_of(self._transport.get_extra_info("sockname"))

    # -- what the transport tells
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no common class
        self._peer: Endpoint = endpoint_of(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        if self._waiting and self._hear is not _nobody and not self._waiter.done():
            self._tell(data)
            return
        self._chunks.append(data)
        self._held += len(data)
        if self._held > self.BOUND and self._reading:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._read_end = Fault(FaultKind.CLOSED)
        self._wake()
        # The peer may only have shut down its sending side, and wait for our reply. TLS knows no such half-close.
        return not self._tls

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._paused = False
        if exc is not None and not self._tls:
            self._salvage()
        fault = Fault(FaultKind.CLOSED) if exc is None else fault_of(exc)
        if isinstance(self._read_end, Flushed):
            self._read_end = fault
        if isinstance(self._write_end, Flushed):
            self._write_end = fault
        self._disarm()
        self._wake()

    def _salvage(self) -> None:
        """Read what lies behind a failed write: a peer that says 421 and closes is to be heard (RFC 5321 §3.8)."""
        try:
            last = os.read(self._transport.get_extra_info("socket").fileno(), self.BOUND)
        except OSError:
            return
        if last:
            self._chunks.append(last)
            self._held += len(last)

    # -- what the session asks
    async def read(self, within: timedelta) -> bytes | Fault:
        if self._chunks:
            return self._take()
        deadline = self._loop.time() + within.total_seconds()
        while isinstance(self._read_end, Flushed):
            if self._loop.time() >= deadline - self.RESOLUTION:
                return Fault(FaultKind.TIMED_OUT, f"nothing came for {within.total_seconds():g} s")
            await self._wait(deadline)
            if self._chunks:
                return self._take()
        return self._read_end

    async def listen(self, hear: Hear, within: timedelta) -> Flushed | Fault:
        self._deadline = self._loop.time() + within.total_seconds()
        self._hear = hear
        try:
            while self._hear is not _nobody and not self._paused:
                if self._chunks:
                    self._pass_on(self._take())
                elif isinstance(self._read_end, Fault):
                    return self._read_end
                elif self._loop.time() >= self._deadline - self.RESOLUTION:
                    return Fault(FaultKind.TIMED_OUT, "what was to come did not come in time")
                else:
                    await self._wait(self._deadline)
        finally:
            self._hear = _nobody
        return FLUSHED

    def pending(self) -> bytes | Fault | Flushed:
        return b"".join(self._chunks) if self._chunks else self._read_end

    def stand_for(self, peer: Endpoint, unread: bytes) -> None:
        self._peer = peer
        if unread:
            self._chunks.insert(0, unread)
            self._held += len(unread)

    def write(self, octets: bytes) -> None:
        if isinstance(self._write_end, Flushed):
            self._transport.write(octets)

    async def flush(self, within: timedelta) -> Flushed | Fault:
        deadline = self._loop.time() + within.total_seconds() if self._paused else inf
        while self._paused:
            if self._loop.time() >= deadline - self.RESOLUTION:
                return Fault(FaultKind.TIMED_OUT, f"the peer took too little for {within.total_seconds():g} s")
            await self._wait(deadline)
        return self._write_end

    async def close(self, peer_speaks: Speaks = Speaks.PERHAPS) -> None:
        if self._lost:
            return
        deadline = self._loop.time() + self.PATIENCE.total_seconds()
        if peer_speaks is Speaks.YES or (peer_speaks is Speaks.PERHAPS and (self._chunks or self._octets_waiting())):
            await self._hear_out(deadline)
        unsent = self._transport.get_write_buffer_size()
        self._end(Fault(FaultKind.CLOSED, "by this side"))
        self._transport.close()
        while unsent and not self._lost:
            if self._loop.time() >= deadline - self.RESOLUTION:
                self.abort()
                return
            await self._wait(deadline)

    def _octets_waiting(self) -> int:
        """Octets that the system holds for us, unread."""
        if self._tls or self._transport.is_closing():
            return 0
        try:
            found = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(found, sys.byteorder)

    async def _hear_out(self, deadline: float) -> None:
        """End what we say, and drop what still comes.

        Closing upon unread octets would reset the connection, and the peer might never see our last reply.
        """
        if self._tls or isinstance(self._write_end, Fault):
            return
        self._write_end = Fault(FaultKind.CLOSED, "by this side")
        self._transport.write_eof()
        while isinstance(self._read_end, Flushed) and self._loop.time() < deadline - self.RESOLUTION:
            if self._chunks:
                self._take()
            await self._wait(deadline)

    def abort(self) -> None:
        if self._lost:
            return
        self._end(Fault(FaultKind.CLOSED, "by this side"))
        # A reset, not an end of stream: half a message must never look like a whole one, and nothing lingers.
        if not self._transport.is_closing():  # after a failed handshake its descriptor may be another's already
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    async def start_tls(self, context: ssl.SSLContext, server_name: str, within: timedelta) -> Fault | Flushed:
        """The client's handshake, in place (dialer.py says when). On a Fault the connection is gone."""
        if self._chunks:
            # RFC 3207 §4.2 and its abuse (CVE-2011-0411): what was said in clear must not count as said under TLS.
            self.abort()
            return Fault(FaultKind.TLS, "the peer spoke in clear between its reply to STARTTLS and the handshake")
        return await self._handshake(context, server_name, within, server_side=False)

    async def accept_tls(
        self, context: ssl.SSLContext, within: timedelta, *, implicit: bool = False
    ) -> TlsFacts | Fault:
        if self._chunks and not implicit:
            self.abort()
            return Fault(FaultKind.TLS, "the peer spoke in clear between STARTTLS and the handshake")
        shaken = await self._handshake(context, "", within, server_side=True)
        return shaken if isinstance(shaken, Fault) else facts_of(self._transport.get_extra_info("ssl_object"))

    async def _handshake(
        self, context: ssl.SSLContext, server_name: str, within: timedelta, *, server_side: bool
    ) -> Fault | Flushed:
        if isinstance(self._read_end, Fault):
            self.abort()
            return self._read_end
        self._tls = True
        try:
            async with asyncio.timeout(within.total_seconds()):
                shaking = self._loop.create_task(
                    self._loop.start_tls(
                        self._transport,
                        self,
                        context,
                        server_side=server_side,
                        server_hostname=server_name or None,
                        # Ours is the deadline; this one, which the loop insists on, only has to be later.
                        ssl_handshake_timeout=within.total_seconds() + 1,
                    )
                )
                await asyncio.sleep(0)  # it takes our place at the transport
                self._loop.call_soon(self._give_back)
                transport = await shaking
        except TimeoutError:
            self.abort()
            return Fault(FaultKind.TIMED_OUT, f"no TLS handshake within {within.total_seconds():g} s")
        except (OSError, ValueError) as error:
            self.abort()
            return _handshake_fault(error)
        except BaseException:
            self.abort()  # cut off in the middle of it: no more can be said, in clear or under TLS
            raise
        if transport is None:
            return Fault(FaultKind.TLS, "the peer closed during the handshake")
        self._transport = transport
        self._secured = True
        return FLUSHED

    def _give_back(self) -> None:
        """Hand octets that came before the handshake to it: a client of implicit TLS does not wait for us."""
        taker: asyncio.BaseProtocol = self._transport.get_protocol()
        while self._chunks and isinstance(taker, _Buffered):
            octets = self._chunks.pop(0)
            room = taker.get_buffer(len(octets))[: len(octets)]
            room[:] = octets[: len(room)]
            taker.buffer_updated(len(room))
            if len(room) < len(octets):
                self._chunks.insert(0, octets[len(room) :])
        self._held = 0

    # -- the parts
    def _tell(self, octets: bytes) -> None:
        """Let the listener have octets that just came; its task goes on only where it has to."""
        try:
            self._pass_on(octets)
        except Exception as error:  # noqa: BLE001 - the listener's, and raised where it listens
            self._waiting = False
            self._waiter.set_exception(error)
            return
        if self._hear is _nobody or self._paused:
            self._wake()
        elif self._deadline < self._timer_at:
            self._arm()

    def _pass_on(self, octets: bytes) -> None:
        within = self._hear(octets).total_seconds()
        if within > 0:
            self._deadline = self._loop.time() + within
        else:
            self._hear = _nobody

    def _take(self) -> bytes:
        octets = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if not self._reading and not self._lost:
            self._reading = True
            self._transport.resume_reading()
        return octets

    def _end(self, fault: Fault) -> None:
        if isinstance(self._read_end, Flushed):
            self._read_end = fault
        if isinstance(self._write_end, Flushed):
            self._write_end = fault

    def _wait(self, deadline: float) -> asyncio.Future[None]:
        """What is done once something happens, or at the deadline (loop time). The caller looks which."""
        self._waiter = self._loop.create_future()
        self._waiting = True
        self._deadline = deadline
        if deadline < self._timer_at:
            self._arm()
        return self._waiter

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            if not self._waiter.done():  # cancelled, with the task that waited
                self._waiter.set_result(None)

    def _arm(self) -> None:
        self._disarm()
        # Not at the deadline if that is far: deadlines that change from wait to wait need no new timer then.
        self._timer_at = min(self._deadline, self._loop.time() + self.LOOK)
        self._timer = self._loop.call_at(self._timer_at, self._timer_fired)

    def _disarm(self) -> None:
        if self._timer_at < inf:
            self._timer.cancel()
            self._timer_at = inf

    def _timer_fired(self) -> None:
        self._timer_at = inf
        if not self._waiting or self._waiter.done():
            return  # the next wait arms it again
        if self._loop.time() >= self._deadline - self.RESOLUTION:
            self._wake()
        else:
            self._arm()


@runtime_checkable
class _Buffered(Protocol):
    """What both loops put in our place during and after a handshake: asyncio.BufferedProtocol."""

    def get_buffer(self, sizehint: int, /) -> memoryview: ...

    def buffer_updated(self, nbytes: int, /) -> None: ...


def _nobody(_: bytes) -> timedelta:
    """Nobody listens."""
    return timedelta()


#: struct linger { on, 0 seconds }: close sends RST (socket(7)).
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def _handshake_fault(error: OSError | ValueError) -> Fault:
    fault = fault_of(error)
    match fault.kind:
        case FaultKind.RESET | FaultKind.CLOSED:
            return Fault(fault.kind, f"{fault.detail} during the TLS handshake".strip())
        case FaultKind.LOCAL:
            return Fault(FaultKind.TLS, str(error))  # a server name that no certificate can hold, and the like
        case _:
            return fault
