"""The fault this service exists for: the next hop that does not survive an EHLO. As real processes, end to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.mail import MESSAGES, send, to_port
from tests.live.process import PATIENCE, daemon, free_port, until
from tests.live.service import Service, waypost

pytestmark = pytest.mark.live

QUICK = '\n[timeouts]\nehlo = "500ms"\n'


@dataclass(frozen=True, slots=True)
class Peer:
    """`waypost peer` as a process, and the log of what it heard and said."""

    port: int
    log: Path

    def events(self) -> list[dict[str, str]]:
        """What has happened at it so far."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [event for event in lines if "mark" in event]

    def commands(self) -> list[str]:
        """The first word of each command it was given, over all connections."""
        return [event["text"].split()[0].upper() for event in self.events() if event["mark"] == "C"]

    async def accepted(self, count: int) -> None:
        """Return once it has accepted so many messages."""

        async def there() -> bool:
            return sum(event["mark"] == "*" and event["text"] == "accepted" for event in self.events()) >= count

        await until(there, f"{count} messages accepted by the peer", within=PATIENCE, log=self.log)


@contextlib.asynccontextmanager
async def peer(directory: Path, *faults: str, name: str = "peer") -> AsyncIterator[Peer]:
    """A peer with these faults."""
    log, port = directory / f"{name}.log", free_port()
    planned = [word for fault in faults for word in ("--fault", fault)]
    command = (sys.executable, "-m", "waypost", "peer", "--json", "--port", str(port), *planned)

    async def listens() -> bool:
        return "listening" in log.read_text()

    async with daemon(*command, log=log):
        await until(listens, "the peer listens", log=log)
        yield Peer(port, log)


@pytest.mark.parametrize("fault", ["close", "reset", "stall", "garbage", "truncated", "endless", "long"])
async def test_a_peer_that_breaks_on_ehlo_gets_the_message_by_helo_in_the_same_attempt(
    fault: str, place: Path, peer_place: Path
) -> None:
    async with (
        peer(peer_place, f"ehlo:{fault}") as next_hop,
        # A pause of a day: whatever arrives, arrives in the first attempt.
        waypost(place, to_port(next_hop.port) + QUICK, pause="1d") as service,
    ):
        await asyncio.to_thread(send, service, MESSAGES["plain"])

        await next_hop.accepted(1)
        assert next_hop.commands()[:2] == ["EHLO", "HELO"]
        assert (await service.cli("status")).code == 0


async def test_the_second_message_goes_straight_to_helo(place: Path, peer_place: Path) -> None:
    async with (
        peer(peer_place, "ehlo:close", "idle:close") as next_hop,
        waypost(place, to_port(next_hop.port), pause="1d") as service,
    ):
        await asyncio.to_thread(send, service, MESSAGES["plain"])
        await next_hop.accepted(1)

        await asyncio.to_thread(send, service, MESSAGES["plain"])

        await next_hop.accepted(2)
        hellos = [command for command in next_hop.commands() if command in {"EHLO", "HELO"}]
        assert hellos == ["EHLO", "HELO", "HELO"]


async def test_a_route_that_needs_tls_waits_and_says_why_instead_of_going_on_in_clear(
    place: Path, peer_place: Path
) -> None:
    async with peer(peer_place, "ehlo:close") as next_hop:
        routes = to_port(next_hop.port, extra='tls = "required"')
        async with waypost(place, routes, pause="1d") as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])

            (entry,) = await tried_entries(service)
            assert "TLS" in str(entry["last_outcome"]), entry
            assert "HELO" not in next_hop.commands()
            traced = await service.cli("trace", str(entry["id"]))
            assert "EHLO" in traced.output, traced.output


async def test_one_broken_peer_delays_nobody_else(place: Path, peer_place: Path) -> None:
    async with peer(peer_place, "banner:stall") as broken, peer(peer_place, name="good") as good:
        routes = to_port(broken.port, domain="broken.test") + to_port(good.port, domain="good.test")
        async with waypost(place, routes + '\n[timeouts]\ngreeting = "10s"\n', pause="1d") as service:
            for number in range(50):
                await asyncio.to_thread(send, service, MESSAGES["plain"], f"user{number}@broken.test")

            await asyncio.to_thread(send, service, MESSAGES["plain"], "bob@good.test")

            await asyncio.wait_for(good.accepted(1), 5)


async def tried_entries(service: Service) -> list[dict[str, object]]:
    """The queue, once every recipient in it was tried."""
    found: list[dict[str, object]] = []

    async def tried() -> bool:
        found[:] = await service.queue()
        return bool(found) and all(entry["attempts"] for entry in found)

    await until(tried, "an attempt", log=service.log)
    return found
