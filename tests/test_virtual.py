"""The virtual clock that other tests rely on is tested first."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from tests.virtual import START, DeadlockError, VirtualClock, elapsed, run_virtual, virtual


@virtual
async def test_hours_pass_at_once() -> None:
    _, seconds = await elapsed(asyncio.sleep(7200))
    assert seconds == pytest.approx(7200)


@virtual
async def test_timers_fire_in_the_order_of_their_times() -> None:
    fired: list[int] = []

    async def fire(after: int) -> None:
        await asyncio.sleep(after)
        fired.append(after)

    await asyncio.gather(*(fire(after) for after in (30, 10, 20)))
    assert fired == [10, 20, 30]


@virtual
async def test_the_wall_clock_moves_with_the_loop_and_can_be_stepped_alone() -> None:
    clock = VirtualClock()
    assert clock.now() == START
    await clock.sleep(timedelta(minutes=5))
    assert clock.now() == pytest.approx(START + 300)
    clock.step(timedelta(hours=-1))
    assert clock.now() == pytest.approx(START - 3300)
    assert clock.monotonic() == pytest.approx(300)


@virtual
async def test_time_stands_still_while_a_thread_works() -> None:
    gate = threading.Event()
    loop = asyncio.get_running_loop()
    waiting = loop.run_in_executor(None, gate.wait)
    loop.call_soon(gate.set)
    async with asyncio.timeout(0.5):
        assert await waiting


@virtual
async def test_sockets_on_loopback_work() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    writer.close()
    server.close()


def test_a_test_that_waits_for_ever_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual.DEADLOCK", 0.01)

    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run_virtual(forever())
