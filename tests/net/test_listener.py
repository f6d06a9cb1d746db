"""Listener: addresses it opens, complaints it makes, and what no connection can do to it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from waypost.net.listener import Listener, ListenError, _explain, bind, foresee
from waypost.net.stream import Endpoint, Fault, Stream

SOON = timedelta(seconds=5)
ANY = Endpoint("127.0.0.1", 0)


async def echo(stream: Stream) -> None:
    while not isinstance(got := await stream.read(SOON), Fault):
        stream.write(got)
    await stream.close()


async def said_to(listener: Listener, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(listener.endpoint.host, listener.endpoint.port)
    writer.write(octets)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_each_connection_runs_a_coroutine_of_its_own() -> None:
    listener = await Listener.open(ANY, echo)
    assert listener.endpoint.port > 0
    assert await asyncio.gather(*(said_to(listener, b"%d" % n) for n in range(10))) == [b"%d" % n for n in range(10)]
    await listener.close()


async def test_an_ipv6_address_and_a_unix_path_are_opened_too(tmp_path: Path) -> None:
    six = await Listener.open(Endpoint("::1", 0), echo)
    assert await said_to(six, b"six") == b"six"
    await six.close()

    path = tmp_path / "lmtp"
    unix = await Listener.open(Endpoint(str(path), 0), echo)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"unix")
    assert await reader.readexactly(4) == b"unix"
    writer.close()
    await unix.close()
    assert not path.exists()


async def test_a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    live = await Listener.open(Endpoint(str(path), 0), echo)
    with pytest.raises(ListenError, match="another process listens there already"):
        await Listener.open(Endpoint(str(path), 0), echo)
    await live.close()


async def test_a_file_in_the_place_of_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("precious")
    with pytest.raises(ListenError, match="the file is no socket"):
        await Listener.open(Endpoint(str(path), 0), echo)
    assert path.read_text() == "precious"


async def test_an_address_in_use_is_named_with_the_way_to_find_who_has_it() -> None:
    listener = await Listener.open(ANY, echo)
    taken = Endpoint(listener.endpoint.host, listener.endpoint.port)
    with pytest.raises(ListenError, match=rf"cannot listen on {taken}: another process .* `ss -lptn"):
        await Listener.open(taken, echo)
    await listener.close()


async def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: this machine has no such address"):
        await Listener.open(Endpoint("192.0.2.1", 0), echo)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="must exist and be writable"):
        await Listener.open(Endpoint(str(tmp_path / "no" / "lmtp"), 0), echo)


def test_what_could_be_had_is_told_of_an_address_before_its_owner_gives_it_up() -> None:
    """A service that was to replace another ended it, and then could not have the address that was mistyped."""
    with bind(Endpoint("127.0.0.1", 0)) as taken:
        foresee(Endpoint("127.0.0.1", taken.getsockname()[1]))
    foresee(Endpoint("127.0.0.1", 0))
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        foresee(Endpoint("192.0.2.1", 0))


def test_a_privileged_port_is_refused_with_the_remedy() -> None:
    # Asked of the sentence itself: whether port 25 is forbidden depends on the machine.
    text = _explain(Endpoint("0.0.0.0", 25), PermissionError(13, "Permission denied"))
    assert "0.0.0.0:25" in text
    assert "CAP_NET_BIND_SERVICE" in text
    assert "2525" in text


async def test_a_session_that_raises_harms_no_other() -> None:
    async def raising(stream: Stream) -> None:
        got = await stream.read(SOON)
        stream.abort()
        raise RuntimeError(repr(got))

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context["exception"])))
    listener = await Listener.open(ANY, raising)
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            await said_to(listener, b"boom")
    await listener.close()
    assert complaints == ["b'boom'"] * 3


async def test_no_connection_is_taken_after_the_stop_and_open_ones_go_on() -> None:
    listener = await Listener.open(ANY, echo)
    reader, writer = await asyncio.open_connection(listener.endpoint.host, listener.endpoint.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    listener.stop_accepting()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(listener.endpoint.host, listener.endpoint.port)
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    assert listener.connections == 1
    writer.close()
    await listener.drain(5)
    assert listener.connections == 0
    await listener.close()


async def test_closing_cancels_what_still_runs() -> None:
    listener = await Listener.open(ANY, echo)
    reader, writer = await asyncio.open_connection(listener.endpoint.host, listener.endpoint.port)
    writer.write(b"one")
    await reader.readexactly(3)
    await listener.drain(0.01)
    assert listener.connections == 1
    await listener.close()
    assert listener.connections == 0
    writer.close()


#: Run in a process of its own, whose descriptors are taken away under it and then given back.
STARVED = """
import asyncio, os, resource, socket, sys, time
from datetime import timedelta
from waypost.net.listener import Listener
from waypost.net.stream import Endpoint, Fault

async def hold(stream):
    stream.write(b"220 hi\\r\\n")
    while not isinstance(await stream.read(timedelta(seconds=20)), Fault):
        pass
    await stream.close()

async def main():
    listener = await Listener.open(Endpoint("127.0.0.1", 0), hold)
    port = listener.endpoint.port
    clients = [socket.socket() for _ in range(12)]
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(12)]
    highest = max(spare[-1], clients[-1].fileno())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    before = time.process_time()
    await asyncio.sleep(0.5)
    print("spun" if time.process_time() - before > 0.25 else "calm")
    for one in (*spare, *(c.detach() for c in clients)):
        os.close(one)
    for _ in range(30):
        await asyncio.sleep(0.1)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            line = await reader.readline()
            writer.close()
        except OSError:
            continue
        if line:
            print("served again")
            break
    await listener.close()

if sys.argv[1] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
else:
    factory = asyncio.new_event_loop
import logging; logging.disable()
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_running_out_of_descriptors_neither_spins_nor_ends_the_listener(loop: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program, above
        [sys.executable, "-c", textwrap.dedent(STARVED), loop], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split("\n")[:2] == ["calm", "served again"], done.stderr
