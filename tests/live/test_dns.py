"""Mail exchangers from a real DNS: who is tried first, who next, and what each way of not knowing leads to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.live.knot import knot
from tests.live.mail import MESSAGES, send, to_port
from tests.live.process import free_port
from tests.live.service import Service, waypost, without_trace
from tests.live.sink import Sink, sink
from tests.live.waiting import outcome_of_the_first_attempt

pytestmark = pytest.mark.live

TWO = "@ MX 10 first\n@ MX 20 second\nfirst A 127.0.0.2\nsecond A 127.0.0.3\n"
LOOPBACK = "allow_loopback_mx = true\n"


@contextlib.asynccontextmanager
async def by_mx(place: Path, dns_place: Path, home: Sink, port: int, zones: dict[str, str]) -> AsyncIterator[Service]:
    """A service that sends by MX to `port`, with Knot as its DNS; reports go home."""
    routes = f'\n[[route]]\ndomains = ["*"]\nto = ["mx::{port}"]\n' + to_port(home.port, domain="origin.test")
    async with knot(dns_place, zones) as dns, waypost(place, routes + dns.settings + LOOPBACK) as service:
        yield service


async def test_the_exchanger_of_the_lowest_preference_gets_the_mail(place: Path, peer_place: Path) -> None:
    async with (
        sink(host="127.0.0.2") as first,
        sink(host="127.0.0.3", port=first.port) as second,
        by_mx(place, peer_place, first, first.port, {"example.test": TWO}) as service,
    ):
        await asyncio.to_thread(send, service, MESSAGES["plain"])

        taken = (await first.messages(1))[0]
        assert without_trace(taken.octets) == MESSAGES["plain"]
        assert second.taken == []


async def test_where_nobody_listens_the_next_exchanger_gets_it_in_the_same_attempt(
    place: Path, peer_place: Path
) -> None:
    async with (
        sink(host="127.0.0.3") as second,
        by_mx(place, peer_place, second, second.port, {"example.test": TWO}) as service,
    ):
        await asyncio.to_thread(send, service, MESSAGES["plain"])

        await second.messages(1)
        trace = await service.cli("trace", "bob@example.test")
        assert "127.0.0.2" in trace.output, trace.output
        assert "127.0.0.3" in trace.output, trace.output


@pytest.mark.parametrize(
    ("records", "domain", "status"),
    [("@ MX 0 .\n", "example.test", "5.1.10"), ("@ A 127.0.0.2\n", "nowhere.example.test", "5.1.2")],
    ids=["null MX", "no such domain"],
)
async def test_a_domain_that_takes_no_mail_is_reported_at_once(
    records: str, domain: str, status: str, place: Path, peer_place: Path
) -> None:
    async with sink() as home, by_mx(place, peer_place, home, free_port(), {"example.test": records}) as service:
        await asyncio.to_thread(send, service, MESSAGES["plain"], f"bob@{domain}")

        report = (await home.messages(1))[0]
        assert report.reverse_path == ""
        assert f"Status: {status}\r\n".encode() in report.octets


async def test_a_dns_that_fails_bounces_nothing(place: Path, peer_place: Path) -> None:
    async with sink() as home, by_mx(place, peer_place, home, free_port(), {"example.test": "-"}) as service:
        await asyncio.to_thread(send, service, MESSAGES["plain"])

        said = await outcome_of_the_first_attempt(service)
        assert "SERVFAIL" in said, said
        assert home.taken == []


async def test_a_dns_that_says_nothing_bounces_nothing(place: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        dns = f'\n[dns]\nservers = ["127.0.0.1:{port}"]\ntimeout = "200ms"\nattempts = 1\nhosts_file = false\n'
        async with sink() as home:
            routes = '\n[[route]]\ndomains = ["*"]\nto = ["mx:"]\n' + to_port(home.port, domain="origin.test")
            async with waypost(place, routes + dns) as service:
                await asyncio.to_thread(send, service, MESSAGES["plain"])

                said = await outcome_of_the_first_attempt(service)
                assert "DNS" in said, said
                assert home.taken == []
