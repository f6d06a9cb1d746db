"""Listening sockets that another process opened for us."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from waypost.net.listener import Listener, bind
from waypost.net.sockets import LONGEST, Sockets, from_systemd, socket_path
from waypost.net.stream import Endpoint, Stream, endpoint_of

ANY = Endpoint("127.0.0.1", 0)


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        first = stack.enter_context(bind(ANY, shared=True))
        second = stack.enter_context(bind(endpoint_of(first.getsockname()), shared=True))
        yield [first, second, stack.enter_context(bind(ANY))]


def test_an_address_gets_all_its_sockets_once(opened: list[socket.socket]) -> None:
    sockets, where = Sockets(opened), endpoint_of(opened[0].getsockname())

    assert sockets.take(where) == opened[:2]
    assert sockets.take(where) == []
    assert len(sockets) == 1


def test_port_0_takes_one_that_is_there(opened: list[socket.socket]) -> None:
    sockets = Sockets(opened[2:])

    assert sockets.take(Endpoint("127.0.0.9", 0)) == []
    assert sockets.take(ANY) == opened[2:]


def test_what_nobody_takes_is_closed(opened: list[socket.socket]) -> None:
    Sockets(opened[2:]).close()

    assert opened[2].fileno() == -1


async def test_a_listener_serves_the_sockets_it_is_given(opened: list[socket.socket]) -> None:
    served = asyncio.Event()

    async def serve(stream: Stream) -> None:
        served.set()
        stream.abort()

    listener = await Listener.open(ANY, serve, opened[2:])
    assert listener.endpoint == endpoint_of(opened[2].getsockname())
    with socket.create_connection((listener.endpoint.host, listener.endpoint.port)):
        await served.wait()
    await listener.close()


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "7", "LISTEN_FDS": "1"}])
def test_sockets_for_nobody_or_for_another_process_are_not_ours(environment: dict[str, str]) -> None:
    assert from_systemd(environment, 8) == []


def test_a_long_path_gets_a_name_that_fits(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    name = socket_path(directory / "handover")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(name)
        listening.listen()
        client.connect(socket_path(directory / "handover"))

    assert len(os.fsencode(name)) <= LONGEST
    assert socket_path(Path("/run/waypost/handover")) == "/run/waypost/handover"
