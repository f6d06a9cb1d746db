"""Connections in memory behave as sockets do, so that what a test sees of one holds for the other."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

from tests.virtual import elapsed, virtual
from waypost.net.memory import HERE, MemoryDialer, MemoryStream, connected_pair
from waypost.net.stream import FLUSHED, Endpoint, Fault, FaultKind, Stream

MINUTE = timedelta(minutes=1)


@virtual
async def test_octets_pass_both_ways() -> None:
    client, server = connected_pair()
    client.write(b"EHLO")
    assert await server.read(MINUTE) == b"EHLO"
    server.write(b"250")
    assert await client.read(MINUTE) == b"250"
    assert (client.peer, client.local) == (server.local, server.peer)


@virtual
async def test_a_silent_peer_is_a_time_out_by_the_virtual_clock() -> None:
    client, _ = connected_pair()
    fault, seconds = await elapsed(client.read(MINUTE))
    assert fault == Fault(FaultKind.TIMED_OUT, "nothing came for 60 s")
    assert seconds == 60


@virtual
async def test_a_network_may_cut_what_is_read_anywhere() -> None:
    client, server = connected_pair(segment=3)
    client.write(b"EHLO x")
    assert server.pending() == b"EHLO x"
    assert [await server.read(MINUTE), await server.read(MINUTE)] == [b"EHL", b"O x"]
    assert server.pending() == FLUSHED


@virtual
async def test_a_listener_answers_until_it_has_heard_enough_or_the_window_is_full() -> None:
    client, server = connected_pair()

    def hear(octets: bytes) -> timedelta:
        server.write(octets * MemoryStream.WINDOW if octets == b"HELP" else b"250")
        return timedelta() if octets == b"QUIT" else MINUTE

    listening = asyncio.ensure_future(server.listen(hear, MINUTE))
    for line, answer in ((b"NOOP", b"250"), (b"QUIT", b"250")):
        client.write(line)
        assert await client.read(MINUTE) == answer
    assert await listening == FLUSHED
    client.write(b"HELP")
    assert await server.listen(hear, MINUTE) == FLUSHED
    await client.read(MINUTE)
    fault, seconds = await elapsed(server.listen(hear, MINUTE))
    assert fault == Fault(FaultKind.TIMED_OUT, "nothing came for 60 s")
    assert seconds == 60


@virtual
async def test_a_half_closed_end_still_hears() -> None:
    client, server = connected_pair()
    client.write(b".\r\n")
    client.half_close()
    assert await server.read(MINUTE) == b".\r\n"
    assert await server.read(MINUTE) == Fault(FaultKind.CLOSED)
    server.write(b"250")
    assert await server.flush(MINUTE) == FLUSHED
    assert await client.read(MINUTE) == b"250"


@virtual
async def test_writing_to_an_end_that_is_closed_is_a_reset() -> None:
    client, server = connected_pair()
    await client.close()
    assert await server.read(MINUTE) == Fault(FaultKind.CLOSED)
    server.write(b"250")
    assert await server.flush(MINUTE) == Fault(FaultKind.RESET)


@virtual
async def test_an_abort_is_a_reset_for_whoever_waits() -> None:
    client, server = connected_pair()
    waiting = asyncio.ensure_future(server.read(MINUTE))
    await asyncio.sleep(1)
    client.abort()
    assert await waiting == Fault(FaultKind.RESET)
    assert await client.read(MINUTE) == Fault(FaultKind.CLOSED, "by this side")


@virtual
async def test_a_full_window_makes_flush_wait_until_the_peer_reads() -> None:
    client, server = connected_pair()
    client.write(b"x" * (MemoryStream.WINDOW + 1))
    assert await client.flush(MINUTE) == Fault(FaultKind.TIMED_OUT, "the peer took too little for 60 s")
    asyncio.get_running_loop().call_later(10, lambda: asyncio.ensure_future(server.read(MINUTE)))
    outcome, seconds = await elapsed(client.flush(MINUTE))
    assert (outcome, seconds) == (FLUSHED, 10)


@virtual
async def test_a_dialler_finds_hosts_refusals_and_faults() -> None:
    async def banner(stream: Stream) -> None:
        stream.write(b"220 hi\r\n")
        await stream.read(MINUTE)

    slow = Endpoint("192.0.2.9", 25)
    dialer = MemoryDialer({HERE: banner, slow: Fault(FaultKind.TIMED_OUT)})
    stream = await dialer.dial(HERE, MINUTE)
    assert not isinstance(stream, Fault)
    assert await stream.read(MINUTE) == b"220 hi\r\n"
    stream.write(b"QUIT\r\n")
    assert await stream.read(MINUTE) == Fault(FaultKind.CLOSED)
    assert await dialer.dial(slow, MINUTE) == Fault(FaultKind.TIMED_OUT)
    assert await dialer.dial(Endpoint("192.0.2.10", 25), MINUTE) == Fault(FaultKind.REFUSED)
    assert len(dialer.dialled) == 3


@virtual
async def test_the_handshake_in_memory_refuses_injected_octets_as_the_real_one_does() -> None:
    async def injecting(stream: Stream) -> None:
        stream.write(b"250 injected\r\n")
        await stream.read(MINUTE)

    dialer = MemoryDialer({HERE: injecting})
    stream = await dialer.dial(HERE, MINUTE)
    assert not isinstance(stream, Fault)
    await asyncio.sleep(1)
    fault = await dialer.start_tls(stream, ssl.create_default_context(), "mx.example.net", MINUTE)
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.TLS
