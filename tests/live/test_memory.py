"""Memory does not grow with a message or with the queue. The bounds are loose; the figures are printed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.processes import memory_of_tree, peak_of
from tests.live.mail import HEADER, send, to_port
from tests.live.process import free_port, until
from tests.live.service import Service, waypost, without_trace
from tests.live.sink import sink
from tests.live.source import Source

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

LARGE = '\n[limits]\nmessage_size = "200M"\n'


async def test_a_message_of_a_hundred_megabytes_passes_through_little_memory(
    place: Path, say: Callable[[str], None]
) -> None:
    octets = HEADER + (b"x" * 98 + b"\r\n") * 1_000_000
    whole = hashlib.sha256(octets).digest()

    def digest(arrived: bytes) -> bytes:
        return hashlib.sha256(without_trace(arrived)).digest()

    async with sink(keep=digest) as far_end, waypost(place, to_port(far_end.port) + LARGE) as service:
        before = peak_of(service.pid)

        await asyncio.to_thread(send, service, octets)
        taken = (await far_end.messages(1, within=120))[0]

        after = peak_of(service.pid)
        say(f"100 MB in and out: peak {before:.0f} MiB before, {after:.0f} MiB after")
        assert taken.octets == whole
        assert after - before < 150


async def test_a_queue_of_twenty_thousand_costs_disk_and_not_memory(place: Path, say: Callable[[str], None]) -> None:
    nobody = free_port()
    async with waypost(place, to_port(nobody), pause="1h") as service:
        first = await Source(service.port, 1000).run()
        await counted(service, len(first.promised))
        before = memory_of_tree(service.pid)

        second = await Source(service.port, 19_000).run()
        await counted(service, len(first.promised) + len(second.promised))

        after = memory_of_tree(service.pid)
        say(f"1,000 in the queue: {before:.0f} MiB; 20,000 in the queue: {after:.0f} MiB")
        assert after - before < 100


async def counted(service: Service, messages: int) -> None:
    """Return once the service says that so many messages are in its queue."""

    async def holds() -> bool:
        return f'"messages": {messages},' in (await service.cli("status", "--json")).output

    await until(holds, f"{messages} messages in the queue", log=service.log)
