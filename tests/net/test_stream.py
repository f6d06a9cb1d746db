"""SocketStream on real sockets, on asyncio's loop and on uvloop: what each fault of the wire becomes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.virtual import VirtualLoop
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import FLUSHED, Endpoint, Fault, FaultKind, SocketStream, Speaks, Stream, endpoint_of, fault_of

SOON = timedelta(seconds=5)
AT_ONCE = timedelta(milliseconds=30)

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as it:
            it.run(main)

    return runner


Run = Callable[[Coroutine[Any, Any, None]], None]


class Peer:
    """A plain blocking socket at the other end, whose calls are short."""

    def __init__(self) -> None:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.conn = self.door

    @property
    def endpoint(self) -> Endpoint:
        return endpoint_of(self.door.getsockname())

    def reset(self) -> None:
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.conn.close()


@asynccontextmanager
async def dialled() -> AsyncIterator[tuple[Stream, Peer]]:
    peer = Peer()
    stream = await AsyncioDialer().dial(peer.endpoint, SOON)
    assert not isinstance(stream, Fault)
    peer.conn, _ = peer.door.accept()
    peer.conn.settimeout(5)
    try:
        yield stream, peer
    finally:
        stream.abort()
        await asyncio.sleep(0)
        peer.conn.close()
        peer.door.close()


def test_a_read_gives_everything_that_came(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b"220 one\r\n")
            assert await stream.read(SOON) == b"220 one\r\n"
            peer.conn.sendall(b"250-two\r\n")
            await asyncio.sleep(0.01)
            peer.conn.sendall(b"250 three\r\n")
            await asyncio.sleep(0.01)
            assert stream.pending() == b"250-two\r\n250 three\r\n"
            assert await stream.read(SOON) == b"250-two\r\n250 three\r\n"
            assert stream.pending() == FLUSHED

    run(main())


def test_a_silent_peer_is_a_time_out_and_the_stream_is_as_it_was(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            assert await stream.read(AT_ONCE) == Fault(FaultKind.TIMED_OUT, "nothing came for 0.03 s")
            peer.conn.sendall(b"late")
            assert await stream.read(SOON) == b"late"

    run(main())


def test_a_short_time_out_after_a_long_one_holds_and_a_long_one_after_a_short_one_too(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b"x")
            assert await stream.read(timedelta(hours=1)) == b"x"
            assert isinstance(await stream.read(AT_ONCE), Fault)
            asyncio.get_running_loop().call_later(0.1, peer.conn.sendall, b"y")
            assert await stream.read(SOON) == b"y"

    run(main())


# ---- listening
def test_a_listener_answers_piece_after_piece_until_it_has_heard_enough(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            heard: list[bytes] = []

            def hear(octets: bytes) -> timedelta:
                heard.append(octets)
                stream.write(b"250 %d\r\n" % len(heard))
                return timedelta() if octets == b"QUIT" else SOON

            def talk() -> list[bytes]:
                answers = []
                for line in (b"EHLO", b"NOOP", b"QUIT"):
                    peer.conn.sendall(line)
                    answers.append(peer.conn.recv(100))
                return answers

            talking = asyncio.create_task(asyncio.to_thread(talk))
            assert await stream.listen(hear, SOON) == FLUSHED
            assert heard == [b"EHLO", b"NOOP", b"QUIT"]
            assert await talking == [b"250 1\r\n", b"250 2\r\n", b"250 3\r\n"]
            peer.conn.sendall(b"more")
            assert await stream.read(SOON) == b"more"

    run(main())


def test_a_listener_is_given_first_what_came_before_it_listened(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b"early")
            peer.conn.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.02)
            assert stream.pending() == b"early"
            heard: list[bytes] = []

            def hear(octets: bytes) -> timedelta:
                heard.append(octets)
                return SOON

            assert await stream.listen(hear, SOON) == Fault(FaultKind.CLOSED)
            assert heard == [b"early"]

    run(main())


def test_the_time_a_listener_gives_counts_from_what_it_heard_last(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b"x")
            fault = await stream.listen(lambda _: AT_ONCE, timedelta(hours=1))
            assert isinstance(fault, Fault)
            assert fault.kind is FaultKind.TIMED_OUT
            peer.conn.sendall(b"late")
            assert await stream.read(SOON) == b"late"

    run(main())


def test_what_a_listener_raises_is_raised_where_it_listens_and_the_stream_lives_on(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):

            def fail(_: bytes) -> timedelta:
                raise ZeroDivisionError

            asyncio.get_running_loop().call_later(0.01, peer.conn.sendall, b"x")
            with pytest.raises(ZeroDivisionError):
                await stream.listen(fail, SOON)
            stream.write(b"421")
            assert await asyncio.to_thread(peer.conn.recv, 100) == b"421"

    run(main())


def test_a_listener_whose_peer_does_not_read_has_to_flush_before_it_hears_more(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):

            def hear(_: bytes) -> timedelta:
                stream.write(b"x" * 50_000_000)
                return SOON

            peer.conn.sendall(b"HELP")
            assert await stream.listen(hear, SOON) == FLUSHED
            assert await stream.listen(hear, SOON) == FLUSHED
            assert isinstance(await stream.flush(AT_ONCE), Fault)

    run(main())


def test_a_listener_that_is_cancelled_is_told_nothing_more(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            heard: list[bytes] = []

            def hear(octets: bytes) -> timedelta:
                heard.append(octets)
                return SOON

            listening = asyncio.create_task(stream.listen(hear, SOON))
            await asyncio.sleep(0)
            listening.cancel()
            peer.conn.sendall(b"x")
            with pytest.raises(asyncio.CancelledError):
                await listening
            assert await stream.read(SOON) == b"x"
            assert heard == []

    run(main())


def test_an_end_of_stream_loses_nothing_that_came_before_it_and_we_may_still_answer(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b".\r\n")
            peer.conn.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.02)
            assert await stream.read(SOON) == b".\r\n"
            assert await stream.read(SOON) == Fault(FaultKind.CLOSED)
            stream.write(b"250 2.0.0 Ok\r\n")
            assert await stream.flush(SOON) == FLUSHED
            await stream.close()
            assert await asyncio.to_thread(peer.conn.recv, 100) == b"250 2.0.0 Ok\r\n"

    run(main())


def test_a_reset_is_told_from_an_end(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.reset()
            fault = await stream.read(SOON)
            assert isinstance(fault, Fault)
            assert fault.kind is FaultKind.RESET

    run(main())


def test_the_last_words_before_a_reset_are_heard_though_a_write_fails_first(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            for _ in range(70):  # more than the stream holds, so that it has stopped reading
                peer.conn.send(b"x" * 1024)
            await asyncio.sleep(0.02)
            first = await stream.read(SOON)
            assert isinstance(first, bytes)
            # Now the reply and the reset arrive together, before the loop looks again.
            peer.conn.sendall(b"421 4.3.2 going down\r\n")
            peer.reset()
            stream.write(b"body" * 1000)
            heard = b""
            while isinstance(got := await stream.read(SOON), bytes):
                heard += got
            assert (first + heard).endswith(b"421 4.3.2 going down\r\n")
            assert got.kind is FaultKind.RESET

    run(main())


def test_a_peer_that_does_not_read_makes_flush_wait_and_then_time_out(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            block = b"x" * 262144
            outcome = await stream.flush(AT_ONCE)
            for _ in range(200):
                stream.write(block)
                outcome = await stream.flush(AT_ONCE)
                if outcome != FLUSHED:
                    break
            assert isinstance(outcome, Fault)
            assert outcome.kind is FaultKind.TIMED_OUT

            def swallow() -> None:
                while peer.conn.recv(1 << 20):
                    pass

            reader = asyncio.create_task(asyncio.to_thread(swallow))
            assert await stream.flush(SOON) == FLUSHED
            await stream.close()
            await reader

    run(main())


def test_a_peer_that_floods_is_held_back(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.setblocking(False)
            sent = 0
            for _ in range(2000):
                try:
                    sent += peer.conn.send(b"x" * 65536)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                    if sent > 2 * SocketStream.BOUND:
                        break
            held = stream.pending()
            assert isinstance(held, bytes)
            assert len(held) <= SocketStream.BOUND + 262144  # one more loop turn's worth at most
            peer.conn.setblocking(True)
            got = 0
            while got < sent:
                chunk = await stream.read(SOON)
                assert isinstance(chunk, bytes)
                got += len(chunk)

    run(main())


def test_an_abort_is_a_reset_so_that_half_a_message_never_looks_whole(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            stream.write(b"DATA")
            await asyncio.sleep(0.01)
            stream.abort()
            await asyncio.sleep(0.01)
            with pytest.raises(ConnectionResetError):
                _read_all(peer.conn)
            assert isinstance(await stream.read(SOON), Fault)
            assert isinstance(await stream.flush(SOON), Fault)

    run(main())


def test_closing_sends_what_is_buffered_and_may_be_done_twice(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            size = 3_000_000
            stream.write(b"x" * size)
            got = asyncio.create_task(asyncio.to_thread(_read_all, peer.conn))
            await stream.close()
            await stream.close()
            assert len(await got) == size

    run(main())


def _read_all(conn: socket.socket) -> bytes:
    octets = b""
    while chunk := conn.recv(1 << 20):
        octets += chunk
    return octets


def test_small_writes_leave_at_once(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, _):
            assert isinstance(stream, SocketStream)
            connection = stream._transport.get_extra_info("socket")
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


def test_a_cancelled_read_loses_nothing(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            reading = asyncio.create_task(stream.read(SOON))
            await asyncio.sleep(0)
            peer.conn.sendall(b"kept")
            while stream.pending() == FLUSHED:  # noqa: ASYNC110 - it is the stream that is watched here
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert await stream.read(SOON) == b"kept"

    run(main())


def test_one_timer_serves_all_reads_of_a_connection() -> None:
    loop = VirtualLoop()
    armed = 0
    call_at = loop.call_at

    def counting(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        nonlocal armed
        armed += 1
        return call_at(*args, **kwargs)

    async def main() -> None:
        async with dialled() as (stream, peer):
            loop.call_at = counting  # type: ignore[method-assign,assignment]  # counts what the stream asks for
            for _ in range(100):
                asyncio.get_running_loop().call_soon(peer.conn.sendall, b"NOOP\r\n")
                assert await stream.read(timedelta(minutes=5)) == b"NOOP\r\n"
            assert armed == 1

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_nothing_is_timed_for_a_read_that_was_cancelled() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        async with dialled() as (stream, _):
            reading = asyncio.create_task(stream.read(timedelta(days=365)))
            await asyncio.sleep(1)
            reading.cancel()
            await asyncio.wait([reading])
            armed = 0
            call_at = loop.call_at

            def counting(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
                nonlocal armed
                armed += 1
                return call_at(when, *args, **kwargs)

            loop.call_at = counting  # type: ignore[method-assign,assignment]  # counts what the stream asks for
            await asyncio.sleep(3600)
            assert armed == 1  # our own sleep

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


# ---- dialling
def test_a_closed_port_is_a_refusal(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            endpoint = endpoint_of(door.getsockname())
        fault = await AsyncioDialer().dial(endpoint, SOON)
        assert isinstance(fault, Fault)
        assert fault.kind is FaultKind.REFUSED

    run(main())


def test_a_peer_that_does_not_answer_a_syn_is_a_time_out(run: Run) -> None:
    async def main() -> None:
        door = socket.socket()
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # fill the backlog: Linux then drops the next SYN
            one.setblocking(False)
            one.connect_ex(door.getsockname())
        await asyncio.sleep(0.02)
        fault = await AsyncioDialer().dial(endpoint_of(door.getsockname()), timedelta(milliseconds=50))
        assert fault == Fault(FaultKind.TIMED_OUT, "no connection within 0.05 s")
        for one in (*waiting, door):
            one.close()

    run(main())


def test_an_address_of_no_network_is_unreachable_or_local(run: Run) -> None:
    async def main() -> None:
        fault = await AsyncioDialer().dial(Endpoint("255.255.255.255", 25), SOON)
        assert isinstance(fault, Fault)
        assert fault.kind in {FaultKind.LOCAL, FaultKind.UNREACHABLE}

    run(main())


def test_a_unix_socket_is_dialled_by_its_path(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "lmtp")
        missing = await AsyncioDialer().dial(Endpoint(path, 0), SOON)
        assert isinstance(missing, Fault)
        assert missing.kind is FaultKind.REFUSED
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(path)
            door.listen()
            stream = await AsyncioDialer().dial(Endpoint(path, 0), SOON)
            assert not isinstance(stream, Fault)
            assert stream.peer == Endpoint(path, 0)
            conn, _ = door.accept()
            conn.sendall(b"220 lmtp\r\n")
            assert await stream.read(SOON) == b"220 lmtp\r\n"
            await stream.close()
            conn.close()

    run(main())


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, FaultKind.REFUSED),
        (errno.EHOSTUNREACH, FaultKind.UNREACHABLE),
        (errno.ENETUNREACH, FaultKind.UNREACHABLE),
        (errno.ETIMEDOUT, FaultKind.TIMED_OUT),
        (errno.ECONNRESET, FaultKind.RESET),
        (errno.EPIPE, FaultKind.RESET),
        (errno.EMFILE, FaultKind.LOCAL),
        (errno.ENFILE, FaultKind.LOCAL),
        (errno.EADDRNOTAVAIL, FaultKind.LOCAL),
        (errno.EPERM, FaultKind.LOCAL),
        (errno.EACCES, FaultKind.LOCAL),
        (errno.ENOBUFS, FaultKind.LOCAL),
    ],
)
def test_each_errno_is_blamed_on_the_peer_or_on_us(number: int, kind: FaultKind) -> None:
    assert fault_of(OSError(number, os.strerror(number))) == Fault(kind, os.strerror(number))


def test_an_exception_nobody_knows_blames_nobody() -> None:
    assert fault_of(ZeroDivisionError("oops")) == Fault(FaultKind.LOCAL, "ZeroDivisionError: oops")
    assert fault_of(ssl.SSLError(1, "bad record")).kind is FaultKind.TLS
    assert fault_of(TimeoutError()).kind is FaultKind.TIMED_OUT
    assert fault_of(ConnectionAbortedError("gone")).kind is FaultKind.RESET


def test_an_ipv4_client_of_an_ipv6_listener_is_seen_by_its_ipv4_address() -> None:
    assert endpoint_of(("::ffff:192.0.2.1", 25, 0, 0)) == Endpoint("192.0.2.1", 25)
    assert endpoint_of(("2001:db8::1", 25, 0, 0)) == Endpoint("2001:db8::1", 25)
    assert endpoint_of("") == Endpoint("", 0)


def test_a_last_reply_reaches_a_peer_whose_words_wait_already(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):
            peer.conn.sendall(b"x")
            assert isinstance(await stream.read(SOON), bytes)
            stream.write(b"421 4.7.0 enough\r\n")
            peer.conn.sendall(b"x")
            peer.conn.shutdown(socket.SHUT_WR)
            await stream.close()
            assert await asyncio.to_thread(_read_all, peer.conn) == b"421 4.7.0 enough\r\n"

    run(main())


def test_a_last_reply_reaches_a_peer_that_still_speaks(run: Run) -> None:
    async def main() -> None:
        async with dialled() as (stream, peer):

            def talk_on() -> bytes:
                peer.conn.sendall(b"x" * 2_000_000)
                peer.conn.shutdown(socket.SHUT_WR)
                return _read_all(peer.conn)

            talking = asyncio.create_task(asyncio.to_thread(talk_on))
            assert isinstance(await stream.read(SOON), bytes)
            stream.write(b"421 4.7.0 enough\r\n")
            await stream.close(Speaks.YES)
            assert await talking == b"421 4.7.0 enough\r\n"

    run(main())
