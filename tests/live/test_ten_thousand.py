"""Ten thousand messages at once: all arrive, each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.process import must_run
from tests.live.service import waypost
from tests.live.sink import sink

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

COUNT = 10_000
MANY_CLIENTS = "\n[limits]\nconnections_per_client = 200\n"


async def test_ten_thousand_messages_from_fifty_sessions_all_arrive_once(
    place: Path, say: Callable[[str], None]
) -> None:
    async with (
        sink(keep=nothing) as far_end,
        waypost(place, to_port(far_end.port) + MANY_CLIENTS) as service,
    ):
        load = ("-s", "50", "-l", "4096", "-m", str(COUNT), "-N", "-f", "alice@origin.test", "-t", "bob@example.test")
        began = asyncio.get_running_loop().time()

        # -N gives every message a recipient of its own: its identity.
        await must_run("/usr/sbin/smtp-source", *load, f"127.0.0.1:{service.port}")
        await far_end.messages(COUNT, within=120)

        seconds = asyncio.get_running_loop().time() - began
        arrived = Counter(path for message in far_end.taken for path in message.forward_paths)
        assert len(arrived) == COUNT
        assert set(arrived.values()) == {1}
        assert await service.queue() == []
        say(f"{COUNT} messages in {seconds:.1f} s, each once")


def nothing(_octets: bytes) -> bytes:
    """What is kept of each message: its envelope is enough."""
    return b""
