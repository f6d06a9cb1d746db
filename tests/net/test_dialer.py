"""Where a connection to a next hop comes from: the address its route names, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
import uvloop

from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint, Fault, Stream

SOON = timedelta(seconds=5)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


async def come(source: str) -> tuple[Fault | Stream, list[str]]:
    """Dial a server of our own; what came of it, and the addresses it saw."""
    seen: list[str] = []

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.write(b"220 here\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = await AsyncioDialer().dial(Endpoint("127.0.0.1", port), SOON, source)
        if not isinstance(stream, Fault):
            assert await stream.read(SOON) == b"220 here\r\n"
            stream.abort()
    return stream, seen


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_comes_from_the_address_that_is_named(loop: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(come("127.0.0.9"))[1] == ["127.0.0.9"]
        assert runner.run(come(""))[1] == ["127.0.0.1"]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_that_is_not_this_machine_s_is_a_fault_that_says_so(loop: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        found, seen = runner.run(come("192.0.2.1"))
    assert isinstance(found, Fault)
    assert "assign" in found.detail
    assert seen == []
