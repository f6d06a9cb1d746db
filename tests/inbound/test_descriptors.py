"""A process with no descriptor left: new clients are let go at once, those that are served go on, and it passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import uvloop

from tests.receive.house import HOSTNAME, MESSAGE, make_house
from waypost.net.stream import Endpoint
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

CROWD = 20


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Every descriptor this process may have is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, len(list(Path("/proc/self/fd").iterdir())) + 200), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def heard(client: socket.socket) -> bytes:
    """The next segment; nothing where the connection has ended."""
    try:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(client, 1000)
    except ConnectionError:
        return b""


async def say(client: socket.socket, octets: bytes) -> bytes:
    await asyncio.get_running_loop().sock_sendall(client, octets)
    return await heard(client)


async def connect(client: socket.socket, to: Endpoint) -> None:
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (to.host, to.port))


async def crowded() -> None:
    house = make_house()
    await house.storage.open(owner="test")
    receiver = Receiver([Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))], house)
    await receiver.start()
    (address,) = receiver.endpoints
    with contextlib.ExitStack() as stack:
        first, last, *crowd = [stack.enter_context(socket.socket()) for _ in range(CROWD + 2)]
        await connect(first, address)
        assert (await heard(first)).startswith(b"220")
        with no_descriptor_left():
            for client in crowd:
                await connect(client, address)
            assert {await heard(client) for client in crowd} == {b""}
            before = os.times()
            await asyncio.sleep(0.2)
            assert os.times().user + os.times().system - before.user - before.system < 0.1  # no spinning on accept
            await say(first, b"EHLO us.example\r\n")
            for line in (b"MAIL FROM:<a@us.example>\r\n", b"RCPT TO:<b@ours.example>\r\n", b"DATA\r\n"):
                await say(first, line)
            assert (await say(first, MESSAGE + b".\r\n")).startswith(b"250 2.0.0 Ok")
        await connect(last, address)
        assert (await heard(last)).startswith(b"220")
    await receiver.stop(timedelta(seconds=1))


def test_without_descriptors_new_clients_are_let_go_and_the_served_go_on_until_there_are_some_again() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(crowded())
