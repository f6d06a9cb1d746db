"""Lists in DNS, asked of a real server: what counts, and that a list that is dead or answers all counts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network

import pytest

from tests.net.dns_server import DnsServer, Misbehaviour
from waypost.net.clock import SystemClock
from waypost.net.stub_resolver import DnspythonResolver, ResolverSettings
from waypost.policy import dns_lists
from waypost.policy.dns_lists import DnsList, DnsLists, Subject, backwards
from waypost.smtp.path import NullPath, parse_mailbox

ALIVE = """\
2.0.0.127.bl.example. 300 A 127.0.0.2
1.2.0.192.bl.example. 300 A 127.0.0.4
1.2.0.192.wl.example. 300 A 127.0.0.9
2.0.0.127.wl.example. 300 A 127.0.0.2
test.dbl.example. 300 A 127.0.1.2
spam.example.dbl.example. 300 A 127.0.1.2
2.0.0.127.parked.example. 300 A 203.0.113.5
1.2.0.192.parked.example. 300 A 203.0.113.5
2.0.0.127.quota.example. 300 A 127.255.255.254
1.2.0.192.quota.example. 300 A 127.255.255.254
2.0.0.127.any.example. 300 A 127.0.0.2
1.0.0.127.any.example. 300 A 127.0.0.2
1.2.0.192.any.example. 300 A 127.0.0.2
"""
BL, WL = DnsList("bl.example", Subject.CLIENT, 5), DnsList("wl.example", Subject.CLIENT, -3)
DBL = DnsList("dbl.example", Subject.DOMAIN, 4)
NONE = timedelta()
ANN = parse_mailbox("ann@far.example")


@dataclass
class Log:
    said: list[str] = field(default_factory=list)

    def list_ignored(self, zone: str, why: str) -> None:
        self.said.append(f"{zone} ignored: {why}")

    def list_heeded(self, zone: str) -> None:
        self.said.append(f"{zone} heeded")


@asynccontextmanager
async def asking(*lists: DnsList, zone: str = ALIVE) -> AsyncIterator[tuple[DnsLists, DnsServer, Log]]:
    async with DnsServer(zone, negative_ttl=0) as server:
        clock, log = SystemClock(), Log()
        settings = ResolverSettings(
            (server.endpoint,), timeout=timedelta(seconds=0.2), attempts=1, min_ttl=NONE, trouble_ttl=NONE
        )
        resolver = DnspythonResolver(settings, clock)
        yield DnsLists(lists, resolver, clock, log, timeout=timedelta(seconds=1)), server, log
        await resolver.close()


async def test_scores_of_several_lists_are_added() -> None:
    async with asking(BL, WL, DBL) as (lists, _, _):
        found = await lists.ask("192.0.2.1", "mail.far.example", ANN)
        assert found.score == 2
        assert [hit.text for hit in found.hits] == ["bl.example lists 192.0.2.1: +5", "wl.example lists 192.0.2.1: -3"]


async def test_the_domain_of_the_reverse_path_and_the_name_in_ehlo_are_looked_up() -> None:
    async with asking(DBL) as (lists, server, _):
        assert (await lists.ask("192.0.2.1", "x.example", parse_mailbox("a@spam.example"))).score == 4
        assert (await lists.ask("192.0.2.1", "spam.example", NullPath())).score == 4
        assert (await lists.ask("192.0.2.1", "[192.0.2.1]", ANN)).score == 0
        assert [name for name, _, _ in server.asked if "192" in name] == []


async def test_an_answer_may_count_more_than_another() -> None:
    some = DnsList("bl.example", Subject.CLIENT, 1, {IPv4Network("127.0.0.4/30"): 7, IPv4Network("127.0.0.2"): 2})
    assert [some.worth(f"127.0.0.{last}") for last in (2, 3, 4, 7, 8)] == [2, 0, 7, 7, 0]
    async with asking(some) as (lists, _, _):
        assert (await lists.ask("192.0.2.1", "x", ANN)).score == 7


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("parked.example", "it answers its test entry with 203.0.113.5, which is no listing"),
        ("quota.example", "it answers its test entry with 127.255.255.254, which is no listing"),
        ("any.example", "it lists what no list may: it answers everything"),
        ("gone.example", "it does not have its test entry"),
    ],
)
async def test_a_list_that_is_dead_or_answers_everything_is_ignored_and_told(zone: str, why: str) -> None:
    async with asking(DnsList(zone, Subject.CLIENT, 5)) as (lists, _, log):
        await lists.probe()
        assert log.said[0].startswith(f"{zone} ignored: {why}")
        found = await lists.ask("192.0.2.1", "x", ANN)
        assert found.score == 0
        assert lists.ignored[0].startswith(f"the list {zone} is ignored: {why}")
        await lists.probe()
        assert len(log.said) == 1


async def test_what_is_no_listing_counts_nothing_even_before_a_probe() -> None:
    lists = [DnsList(zone, Subject.CLIENT, 5) for zone in ("parked.example", "quota.example")]
    async with asking(*lists) as (asked, _, _):
        assert (await asked.ask("192.0.2.1", "x", ANN)).score == 0


async def test_a_list_that_comes_to_life_is_heeded_again() -> None:
    async with asking(BL, zone="bl.example. 300 A 192.0.2.1") as (lists, server, log):
        await lists.probe()
        server.serve(ALIVE)
        await lists.probe()
        assert [one.partition(":")[0] for one in log.said] == ["bl.example ignored", "bl.example heeded"]
        assert (await lists.ask("192.0.2.1", "x", ANN)).score == 5


async def test_a_list_that_fails_again_and_again_is_not_asked_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dns_lists, "PATIENCE", 2)
    async with asking(BL) as (lists, server, log):
        server.misbehave["*"] = Misbehaviour.SERVFAIL
        for _ in range(3):
            assert (await lists.ask("192.0.2.1", "x", ANN)).score == 0
        assert server.count("1.2.0.192.bl.example", "A") <= 2
        assert "failed 2 times in a row" in log.said[0]
        server.misbehave.clear()
        await lists.probe()
        assert (await lists.ask("192.0.2.1", "x", ANN)).score == 5


async def test_a_silent_list_costs_no_more_than_the_time_out() -> None:
    async with asking(BL) as (lists, server, _):
        server.misbehave["*"] = Misbehaviour.SILENCE
        began = asyncio.get_running_loop().time()
        found = await lists.ask("192.0.2.1", "x", ANN)
        assert found.score == 0
        assert asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.99", "99.2.0.192"),
        ("::ffff:192.0.2.99", "99.2.0.192"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2"),
    ],
)
def test_addresses_are_written_backwards(host: str, name: str) -> None:
    assert backwards(host) == name
