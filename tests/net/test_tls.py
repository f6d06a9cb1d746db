"""The client's TLS handshake on real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import trustme
import uvloop

from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import FLUSHED, Fault, FaultKind, Stream, endpoint_of

SOON = timedelta(seconds=5)
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as it:
            it.run(main)

    return runner


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def upgraded(session: Session, context: ssl.SSLContext, within: timedelta = SOON) -> Stream | Fault:
    """Dial a server that runs `session` in clear first, read its one line, then shake hands."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await session(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    dialer = AsyncioDialer()
    stream = await dialer.dial(endpoint_of(server.sockets[0].getsockname()), SOON)
    assert not isinstance(stream, Fault)
    assert await stream.read(SOON) == b"220 go\r\n"
    stream.write(b"!")
    await asyncio.sleep(0.02)
    secured = await dialer.start_tls(stream, context, "mx.example.net", within)
    server.close()
    await asyncio.sleep(0)
    return secured


def server_side(authority: trustme.CA) -> Session:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.example.net").configure_cert(context)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 go\r\n")
        await reader.readexactly(1)
        await writer.start_tls(context)
        writer.write(b"250 " + await reader.readexactly(4) + b"\r\n")
        await writer.drain()
        await reader.read()

    return session


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_stream_goes_on_under_tls(run: Run, authority: trustme.CA) -> None:
    async def main() -> None:
        stream = await upgraded(server_side(authority), trusting(authority))
        assert not isinstance(stream, Fault)
        stream.write(b"EHLO")
        assert await stream.flush(SOON) == FLUSHED
        assert await stream.read(SOON) == b"250 EHLO\r\n"
        assert stream.pending() == FLUSHED
        await stream.close()
        await asyncio.sleep(0.02)

    run(main())


def test_a_certificate_nobody_vouches_for_is_a_tls_fault(run: Run, authority: trustme.CA) -> None:
    async def main() -> None:
        fault = await upgraded(server_side(authority), ssl.create_default_context())
        assert fault == Fault(FaultKind.TLS, "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate")
        await asyncio.sleep(0.02)

    run(main())


def test_a_peer_that_talks_in_clear_instead_of_shaking_hands_is_a_tls_fault(run: Run, authority: trustme.CA) -> None:
    async def clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 go\r\n")
        await reader.readexactly(2)
        writer.write(b"500 5.5.1 what?\r\n")
        await writer.drain()
        await reader.read()

    async def main() -> None:
        fault = await upgraded(clear, trusting(authority))
        assert isinstance(fault, Fault)
        assert fault.kind is FaultKind.TLS

    run(main())


def test_octets_that_came_in_clear_before_the_handshake_end_the_connection(run: Run, authority: trustme.CA) -> None:
    async def injecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 go\r\n")
        await reader.readexactly(1)
        writer.write(b"250 injected\r\n")
        await writer.drain()
        await reader.read()

    async def main() -> None:
        fault = await upgraded(injecting, trusting(authority))
        assert fault == Fault(FaultKind.TLS, "the peer spoke in clear between its reply to STARTTLS and the handshake")

    run(main())


def test_a_peer_that_hangs_up_in_the_handshake_is_a_lost_connection(run: Run, authority: trustme.CA) -> None:
    async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 go\r\n")
        await reader.readexactly(2)

    async def main() -> None:
        fault = await upgraded(hanging_up, trusting(authority))
        assert isinstance(fault, Fault)
        assert fault.kind in {FaultKind.CLOSED, FaultKind.RESET, FaultKind.TLS}

    run(main())


def test_a_handshake_that_stalls_has_a_limit(run: Run, authority: trustme.CA) -> None:
    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 go\r\n")
        await reader.read()

    async def main() -> None:
        fault = await upgraded(stalling, trusting(authority), timedelta(milliseconds=50))
        assert fault == Fault(FaultKind.TIMED_OUT, "no TLS handshake within 0.05 s")

    run(main())
