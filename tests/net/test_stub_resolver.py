"""The resolver against a real DNS server on loopback; its memory against a clock that the test holds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dns.message
import pytest
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from tests.net.dns_server import DnsServer, Misbehaviour
from waypost.net.clock import SystemClock
from waypost.net.machine import hosts_file
from waypost.net.resolver import (
    Addresses,
    Alias,
    DnsTrouble,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    NullMx,
    Standing,
    Texts,
    TlsaRecord,
    TlsaRecords,
)
from waypost.net.stream import Endpoint
from waypost.net.stub_resolver import DnspythonResolver, ResolverSettings

ZONE = """
example.org.        300 MX    10 MX1.example.org.
example.org.        300 MX    5  mx0.example.org.
mx1.example.org.    300 A     192.0.2.1
mx1.example.org.    300 A     192.0.2.2
mx1.example.org.    300 AAAA  2001:db8::1
only4.example.org.  300 A     192.0.2.4
text.example.org.   300 TXT   hello
null.example.org.   300 MX    0 .
mixed.example.org.  300 MX    0 .
mixed.example.org.  300 MX    9 mx.example.org.
alias.example.org.  300 CNAME only4.example.org.
dangling.example.   300 CNAME nowhere.example.org.
bare.example.       300 CNAME text.example.org.
circle.example.     300 CNAME circle2.example.
circle2.example.    300 CNAME circle.example.
short.example.      7   A     192.0.2.7
zero.example.       0   A     192.0.2.8
long.example.       9999999 A 192.0.2.9
"""
CHAIN = "\n".join(f"c{n}.example. 300 CNAME c{n + 1}.example." for n in range(20)) + "\nc20.example. 300 A 192.0.2.20"


class HeldClock(SystemClock):
    """A monotonic clock that moves when it is told to."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class World:
    server: DnsServer
    clock: HeldClock
    resolver: DnspythonResolver


def settings(*servers: Endpoint, **changes: object) -> ResolverSettings:
    return ResolverSettings(servers, timeout=timedelta(milliseconds=200), **{"attempts": 1, **changes})  # type: ignore[arg-type]  # each test names real fields


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with DnsServer(f"{ZONE.strip()}\n{CHAIN}") as server:
        clock = HeldClock()
        yield World(server, clock, DnspythonResolver(settings(server.endpoint), clock))


async def dead_server() -> Endpoint:
    """A port of loopback where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return Endpoint("127.0.0.1", taken.getsockname()[1])


# ---- what names hold
async def test_mx_records_come_in_lower_case_without_the_final_dot(world: World) -> None:
    answer = await world.resolver.mx("Example.ORG.")
    assert isinstance(answer, MxRecords)
    assert set(answer.records) == {MxRecord(10, "mx1.example.org"), MxRecord(5, "mx0.example.org")}


async def test_ipv6_addresses_come_before_ipv4_addresses(world: World) -> None:
    answer = await world.resolver.addresses("mx1.example.org")
    assert isinstance(answer, Addresses)
    assert answer.addresses[0] == "2001:db8::1"
    assert set(answer.addresses[1:]) == {"192.0.2.1", "192.0.2.2"}


async def test_a_null_mx_says_that_no_mail_is_taken(world: World) -> None:
    assert await world.resolver.mx("null.example.org") == NullMx()


async def test_a_null_mx_beside_a_real_one_is_ignored(world: World) -> None:
    assert await world.resolver.mx("mixed.example.org") == MxRecords((MxRecord(9, "mx.example.org"),))


async def test_no_such_name_and_no_such_record_are_two_answers(world: World) -> None:
    assert await world.resolver.mx("nobody.example.org") == NoSuchName()
    assert await world.resolver.mx("text.example.org") == NoRecords()
    assert await world.resolver.addresses("nobody.example.org") == NoSuchName()
    assert await world.resolver.addresses("text.example.org") == NoRecords()


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "é.example", ""])
async def test_a_name_dns_cannot_hold_is_trouble_without_a_question(world: World, name: str) -> None:
    answer = await world.resolver.mx(name)
    assert name == "" or isinstance(answer, DnsTrouble)
    assert world.server.asked == [] or name == ""


async def test_a_backslash_in_a_name_is_no_escape(world: World) -> None:
    assert await world.resolver.mx("a\\.b.example") == NoSuchName()


# ---- aliases
@pytest.mark.parametrize("links", [100, 1])
async def test_an_alias_is_followed_whether_or_not_the_server_did(world: World, links: int) -> None:
    world.server.links_a_response = links
    assert await world.resolver.addresses("alias.example.org") == Addresses(("192.0.2.4",))


async def test_an_alias_to_nowhere_is_no_such_name(world: World) -> None:
    assert await world.resolver.addresses("dangling.example") == NoSuchName()


async def test_an_alias_to_a_name_without_the_record_has_none(world: World) -> None:
    assert await world.resolver.mx("bare.example") == NoRecords()


@pytest.mark.parametrize("links", [100, 2, 1])
@pytest.mark.parametrize("name", ["circle.example", "c0.example", "c11.example"])
async def test_aliases_in_a_circle_or_without_end_are_trouble(world: World, name: str, links: int) -> None:
    world.server.links_a_response = links
    answer = await world.resolver.addresses(name)
    assert isinstance(answer, DnsTrouble)
    assert "CNAMEs run in a circle" in answer.detail
    assert name in answer.detail
    assert len(world.server.asked) <= 2 * 10


@pytest.mark.parametrize("links", [100, 1])
async def test_eight_aliases_are_followed(world: World, links: int) -> None:
    world.server.links_a_response = links
    assert await world.resolver.addresses("c12.example") == Addresses(("192.0.2.20",))


# ---- trouble
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Misbehaviour.SERVFAIL, "answered SERVFAIL"),
        (Misbehaviour.REFUSED, "answered REFUSED"),
        (Misbehaviour.SILENCE, "timed out after 0.2 s (UDP)"),
        (Misbehaviour.GARBAGE, "sent what is no DNS answer"),
        (Misbehaviour.REFERRAL, "does no recursion"),
        (Misbehaviour.CUT_OFF, "closed the connection before its answer was whole (TCP)"),
        (Misbehaviour.NXDOMAIN_WITH_ANSWER, "contradicts itself"),
    ],
)
async def test_trouble_is_never_taken_for_absence_and_names_its_cause(
    world: World, how: Misbehaviour, words: str
) -> None:
    world.server.misbehave["*"] = how
    answer = await world.resolver.mx("example.org")
    assert isinstance(answer, DnsTrouble)
    assert answer.detail.startswith("MX of example.org: ")
    assert words in answer.detail


async def test_trouble_names_each_server_once(world: World) -> None:
    dead = await dead_server()
    world.server.misbehave["*"] = Misbehaviour.SERVFAIL
    resolver = DnspythonResolver(settings(dead, world.server.endpoint, attempts=3), world.clock)
    answer = await resolver.mx("example.org")
    assert isinstance(answer, DnsTrouble)
    assert answer.detail.count(f"{dead} cannot be asked: Connection refused (UDP)") == 1
    assert answer.detail.count(f"{world.server.endpoint} answered SERVFAIL") == 1
    assert world.server.count("example.org", "MX") == 3


async def test_without_a_server_the_trouble_says_so() -> None:
    answer = await DnspythonResolver(settings(), HeldClock()).mx("example.org")
    assert answer == DnsTrouble("MX of example.org: no DNS server is configured")


async def test_the_next_server_is_asked_and_then_preferred(world: World) -> None:
    async with DnsServer(ZONE) as broken:
        broken.misbehave["*"] = Misbehaviour.SERVFAIL
        resolver = DnspythonResolver(settings(broken.endpoint, world.server.endpoint), world.clock)
        assert isinstance(await resolver.mx("example.org"), MxRecords)
        assert await resolver.mx("null.example.org") == NullMx()
        assert broken.asked == [("example.org", "MX", "UDP")]


async def test_a_server_that_knows_no_edns_is_asked_without(world: World) -> None:
    world.server.misbehave["*"] = Misbehaviour.NO_EDNS
    assert isinstance(await world.resolver.mx("example.org"), MxRecords)
    assert world.server.count("example.org", "MX") == 2


async def test_a_truncated_answer_is_asked_for_over_tcp(world: World) -> None:
    world.server.misbehave["*"] = Misbehaviour.TRUNCATED
    assert isinstance(await world.resolver.mx("example.org"), MxRecords)
    assert world.server.asked == [("example.org", "MX", "UDP"), ("example.org", "MX", "TCP")]


async def test_answers_to_other_questions_are_ignored(world: World) -> None:
    world.server.misbehave["*"] = Misbehaviour.STRAY_FIRST
    assert isinstance(await world.resolver.mx("example.org"), MxRecords)


class NoIpv6Server(DnsServer):
    """Breaks down whenever it is asked for an AAAA record."""

    def answers(self, wire: bytes, transport: str) -> Sequence[bytes]:
        is_aaaa = dns.message.from_wire(wire).question[0].rdtype == RdataType.AAAA
        self.misbehave = {"*": Misbehaviour.SERVFAIL} if is_aaaa else {}
        return super().answers(wire, transport)


async def test_one_family_in_trouble_hides_no_address_of_the_other() -> None:
    """And where the other has none, the whole is trouble: an address may yet be found."""
    async with NoIpv6Server(ZONE) as server:
        resolver = DnspythonResolver(settings(server.endpoint), HeldClock())
        assert await resolver.addresses("only4.example.org") == Addresses(("192.0.2.4",))
        assert isinstance(await resolver.addresses("text.example.org"), DnsTrouble)
        assert isinstance(await resolver.addresses("nobody.example.org"), DnsTrouble)


# ---- DNSSEC, as a resolver that validates tells of it
SIGNED = """
signed.example.           300  MX    10 mx.signed.example.
mx.signed.example.        300  A     192.0.2.1
_25._tcp.mx.signed.example. 60 TLSA  3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
_25._tcp.mx.signed.example. 60 TLSA  2 0 0 abcd
over.signed.example.      300  CNAME host.plain.example.
host.plain.example.       300  A     192.0.2.2
_smtp._tls.signed.example. 30  TXT   "v=TLSRPTv1;" "rua=mailto:a@b.example"
"""


@pytest.fixture
async def signed(world: World) -> World:
    """A world with a signed zone, and a resolver that trusts its server."""
    world.server.serve(SIGNED)
    world.server.signed = ("signed.example",)
    server = world.server.endpoint
    return World(world.server, world.clock, DnspythonResolver(settings(server, trusted={server}), world.clock))


async def test_an_answer_tells_its_ttl_and_that_it_was_validated(signed: World) -> None:
    answer = await signed.resolver.mx("signed.example")
    assert isinstance(answer, MxRecords)
    assert answer.standing == Standing(timedelta(seconds=300), authenticated=True)


async def test_the_ad_bit_of_a_server_that_is_not_trusted_counts_for_nothing(signed: World) -> None:
    resolver = DnspythonResolver(settings(signed.server.endpoint), signed.clock)
    answer = await resolver.mx("signed.example")
    assert isinstance(answer, MxRecords)
    assert not answer.standing.authenticated


async def test_absence_is_authenticated_too(signed: World) -> None:
    answer = await signed.resolver.tlsa("_26._tcp.mx.signed.example")
    assert isinstance(answer, NoSuchName)
    assert answer.standing == Standing(timedelta(seconds=60), authenticated=True)


async def test_tlsa_records_are_read_whole(signed: World) -> None:
    answer = await signed.resolver.tlsa("_25._tcp.mx.signed.example")
    assert isinstance(answer, TlsaRecords)
    octets = bytes.fromhex("00112233445566778899aabbccddeeff" * 2)
    assert set(answer.records) == {TlsaRecord(3, 1, 1, octets), TlsaRecord(2, 0, 0, b"\xab\xcd")}
    assert answer.standing == Standing(timedelta(seconds=60), authenticated=True)


async def test_the_strings_of_a_text_record_are_joined(signed: World) -> None:
    assert await signed.resolver.texts("_smtp._tls.signed.example") == Texts((b"v=TLSRPTv1;rua=mailto:a@b.example",))


@pytest.mark.parametrize("links", [100, 1])
async def test_an_alias_out_of_the_signed_zone_is_itself_signed_and_its_end_is_not(signed: World, links: int) -> None:
    signed.server.links_a_response = links
    answer = await signed.resolver.addresses("over.signed.example")
    assert isinstance(answer, Addresses)
    assert not answer.standing.authenticated
    assert answer.canonical == "host.plain.example"
    alias = await signed.resolver.alias("over.signed.example")
    assert isinstance(alias, Alias)
    assert alias.target == "host.plain.example"
    assert alias.standing.authenticated


async def test_what_a_trusted_server_finds_bogus_is_asked_of_no_other(signed: World) -> None:
    """Else whoever forges an answer has it believed by way of the next server in the list, which does not validate."""
    signed.server.misbehave["*"] = Misbehaviour.SERVFAIL
    async with DnsServer(SIGNED) as careless:
        servers = (signed.server.endpoint, careless.endpoint)
        resolver = DnspythonResolver(settings(*servers, trusted={servers[0]}, attempts=2), signed.clock)
        answer = await resolver.mx("signed.example")
        assert isinstance(answer, DnsTrouble)
        assert careless.asked == []


# ---- memory
async def test_an_answer_is_remembered_for_its_ttl(world: World) -> None:
    for moment in (0.0, 299.0, 301.0):
        world.clock.seconds = moment
        await world.resolver.mx("example.org")
    assert world.server.count("example.org", "MX") == 2


@pytest.mark.parametrize(
    ("name", "still", "gone"), [("short.example", 6, 8), ("zero.example", 4, 6), ("long.example", 86399, 86401)]
)
async def test_a_ttl_is_kept_between_its_bounds(world: World, name: str, still: float, gone: float) -> None:
    await world.resolver.addresses(name)
    world.clock.seconds = still
    await world.resolver.addresses(name)
    assert world.server.count(name, "A") == 1
    world.clock.seconds = gone
    await world.resolver.addresses(name)
    assert world.server.count(name, "A") == 2


@pytest.mark.parametrize(("soa", "still", "gone"), [(60, 59, 61), (86400, 599, 601), (0, 4, 6)])
@pytest.mark.parametrize("name", ["nobody.example.org", "text.example.org"])
async def test_absence_is_remembered_as_long_as_its_soa_says_but_not_for_long(
    world: World, name: str, soa: int, still: float, gone: float
) -> None:
    world.server.negative_ttl = soa
    for moment in (0.0, still, gone):
        world.clock.seconds = moment
        await world.resolver.mx(name)
    assert world.server.count(name, "MX") == 2


async def test_trouble_is_remembered_for_moments_only(world: World) -> None:
    world.server.misbehave["*"] = Misbehaviour.SERVFAIL
    for moment in (0.0, 4.0):
        world.clock.seconds = moment
        assert isinstance(await world.resolver.mx("example.org"), DnsTrouble)
    assert world.server.count("example.org", "MX") == 1
    world.server.misbehave.clear()
    world.clock.seconds = 6.0
    assert isinstance(await world.resolver.mx("example.org"), MxRecords)


async def test_identical_questions_asked_at_once_go_out_once(world: World) -> None:
    answers = await asyncio.gather(*(world.resolver.mx("example.org") for _ in range(50)))
    assert len(set(map(repr, answers))) == 1
    assert world.server.count("example.org", "MX") == 1


async def test_a_caller_that_is_cancelled_leaves_the_question_to_the_others(world: World) -> None:
    first = asyncio.create_task(world.resolver.mx("example.org"))
    second = asyncio.create_task(world.resolver.mx("example.org"))
    await world.server.was_asked.wait()
    first.cancel()
    assert isinstance(await second, MxRecords)
    assert first.cancelled()
    assert world.server.count("example.org", "MX") == 1


async def test_memory_is_bounded_and_keeps_what_was_used_last(world: World) -> None:
    resolver = DnspythonResolver(settings(world.server.endpoint, cache_size=2), world.clock)
    for domain in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
        await resolver.mx(domain)
    assert [world.server.count(f"{letter}.example", "MX") for letter in "abc"] == [1, 2, 1]


async def test_closing_drops_the_questions_under_way(world: World) -> None:
    world.server.misbehave["*"] = Misbehaviour.SILENCE
    waiting = asyncio.create_task(world.resolver.mx("example.org"))
    await world.server.was_asked.wait()
    await world.resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# ---- what is known without DNS
async def test_localhost_is_loopback_without_a_question(world: World) -> None:
    """RFC 6761 §6.3."""
    assert await world.resolver.addresses("localhost") == Addresses(("::1", "127.0.0.1"))
    assert await world.resolver.addresses("mx.localhost.") == Addresses(("::1", "127.0.0.1"))
    assert await world.resolver.mx("localhost") == NoRecords()
    assert world.server.asked == []


async def test_the_hosts_file_goes_before_dns(world: World, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "# ours\n192.0.2.99 MX1.example.org mx1 # inner\n2001:db8::99 mx1.example.org\nnonsense x\n\n127.0.0.1\n"
    )
    resolver = DnspythonResolver(settings(world.server.endpoint, hosts=hosts_file(file)), world.clock)
    assert await resolver.addresses("mx1.example.org") == Addresses(("2001:db8::99", "192.0.2.99"))
    assert await resolver.addresses("mx1") == Addresses(("192.0.2.99",))
    assert await resolver.addresses("x") == NoSuchName()


@dataclass
class Babbler(DnsServer):
    """Answers with any octets at all, after the question's own id or not."""

    babble: Sequence[bytes] = ()
    keeps_id: bool = True

    def answers(self, wire: bytes, transport: str) -> Sequence[bytes]:
        return [(wire[:2] if self.keeps_id else b"") + octets for octets in self.babble]


@given(babble=st.lists(st.binary(max_size=80), max_size=4), keeps_id=st.booleans())
def test_no_octets_from_a_server_are_taken_for_absence(*, babble: list[bytes], keeps_id: bool) -> None:
    async def play() -> object:
        async with Babbler(babble=babble, keeps_id=keeps_id) as server:
            quick = ResolverSettings((server.endpoint,), timeout=timedelta(milliseconds=5), attempts=1)
            return await DnspythonResolver(quick, HeldClock()).mx("example.org")

    assert isinstance(asyncio.run(play()), DnsTrouble)


@dataclass
class Corrupter(DnsServer):
    """Answers truly, but for some octets behind the id."""

    changes: Sequence[tuple[int, int]] = ()

    def answers(self, wire: bytes, transport: str) -> Sequence[bytes]:
        octets = bytearray(super().answers(wire, transport)[0])
        for place, value in self.changes:
            octets[2 + place % (len(octets) - 2)] = value
        return [bytes(octets)]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_corrupted_answer_is_an_answer_of_some_kind_and_never_an_exception(changes: list[tuple[int, int]]) -> None:
    async def play() -> object:
        async with Corrupter(ZONE, changes=changes) as server:
            quick = ResolverSettings((server.endpoint,), timeout=timedelta(milliseconds=5), attempts=1)
            return await DnspythonResolver(quick, HeldClock()).mx("example.org")

    assert isinstance(asyncio.run(play()), MxRecords | NullMx | NoRecords | NoSuchName | DnsTrouble)
