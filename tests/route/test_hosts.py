"""RFC 5321 §5.1, against a resolver whose answers the test writes down."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.route.written import WrittenResolver
from waypost.mail.outcome import DnsFailed, Host, NoSuchHost
from waypost.net.resolver import (
    AddressAnswer,
    Addresses,
    DnsTrouble,
    MxAnswer,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    NullMx,
)
from waypost.net.stream import Endpoint
from waypost.route.hosts import MAX_ADDRESSES, MAX_MX_HOSTS, HostFinder, describe_hosts
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Server, SmtpMx, SmtpServers

TROUBLE = DnsTrouble("A of x: 192.0.2.53:53 timed out")


def finder(resolver: WrittenResolver, *, seed: int = 1, allow_loopback_mx: bool = False) -> HostFinder:
    return HostFinder(
        resolver,
        own_names={"us.example"},
        own_addresses={"192.0.2.250", "127.0.0.1"},
        own_ports={25, 2525},
        dice=random.Random(seed),  # noqa: S311 - dice, not secrets
        allow_loopback_mx=allow_loopback_mx,
    )


def mx(*records: tuple[int, str]) -> MxRecords:
    return MxRecords(tuple(MxRecord(preference, host) for preference, host in records))


def at(*addresses: str) -> Addresses:
    return Addresses(addresses)


async def exchangers(
    answer: MxAnswer, *, allow_loopback_mx: bool = False, seed: int = 1, **addresses: AddressAnswer
) -> HostsAnswer:
    """The hosts for example.org; a keyword `a` is the host a.example."""
    known = {f"{name}.example": value for name, value in addresses.items()}
    resolver = WrittenResolver({"example.org": answer}, known)
    return await finder(resolver, seed=seed, allow_loopback_mx=allow_loopback_mx).hosts(SmtpMx("example.org"))


def names(answer: HostsAnswer) -> list[str]:
    assert isinstance(answer, Hosts)
    return [f"{host.name} {host.endpoint.host}" for host in answer.hosts]


# ---- mail exchangers
async def test_the_lowest_preference_comes_first_with_all_its_addresses() -> None:
    answer = await exchangers(
        mx((20, "b.example"), (10, "a.example")), a=at("2001:db8::1", "192.0.2.1"), b=at("192.0.2.2")
    )
    assert names(answer) == ["a.example 2001:db8::1", "a.example 192.0.2.1", "b.example 192.0.2.2"]


async def test_equal_preferences_share_the_load_evenly() -> None:
    """A poor shuffle once piled up queues for large sites."""
    records = mx(*((10, f"{letter}.example") for letter in "abc"))
    firsts: Counter[str] = Counter()
    for seed in range(600):
        answer = await exchangers(records, seed=seed, a=at("192.0.2.1"), b=at("192.0.2.2"), c=at("192.0.2.3"))
        firsts[names(answer)[0]] += 1
    assert len(firsts) == 3
    assert min(firsts.values()) > 150


async def test_without_mx_records_the_domain_is_its_own_exchanger() -> None:
    resolver = WrittenResolver({"example.org": NoRecords()}, {"example.org": at("192.0.2.9")})
    answer = await finder(resolver).hosts(SmtpMx("example.org", 2626))
    assert answer == Hosts((Host("example.org", Endpoint("192.0.2.9", 2626)),))


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (NullMx(), "5.1.10", "takes no mail"),
        (NoSuchName(), "5.1.2", "there is no domain example.org"),
        (NoRecords(), "5.4.4", "example.org does not exist"),
        (mx((10, "a.example"), (20, "b.example")), "5.4.4", "a.example does not exist; b.example does not exist"),
    ],
)
async def test_what_dns_says_with_authority_is_permanent(answer: MxAnswer, status: str, words: str) -> None:
    found = await exchangers(answer)
    assert isinstance(found, NoSuchHost)
    assert (found.domain, str(found.status)) == ("example.org", status)
    assert words in found.detail


async def test_trouble_with_the_mx_records_is_temporary() -> None:
    assert await exchangers(TROUBLE) == DnsFailed("example.org", TROUBLE.detail)


async def test_an_exchanger_without_an_address_is_passed_over() -> None:
    records = mx((10, "a.example"), (20, "b.example"), (30, "c.example"))
    assert names(await exchangers(records, a=NoRecords(), b=TROUBLE, c=at("192.0.2.3"))) == ["c.example 192.0.2.3"]


async def test_one_exchanger_in_trouble_makes_no_address_at_all_temporary() -> None:
    """Once, mail was returned because one of several exchangers did not exist."""
    found = await exchangers(mx((10, "a.example"), (20, "b.example")), b=TROUBLE)
    assert isinstance(found, DnsFailed)
    assert TROUBLE.detail in found.detail


async def test_a_list_beyond_reason_is_cut() -> None:
    records = MxRecords(tuple(MxRecord(10, f"h{number}.example") for number in range(500)))
    resolver = WrittenResolver({"example.org": records}, {})
    assert isinstance(await finder(resolver).hosts(SmtpMx("example.org")), NoSuchHost)
    assert len(resolver.asked) == 1 + MAX_MX_HOSTS
    answer = await exchangers(mx((1, "a.example")), a=at(*(f"192.0.{n}.1" for n in range(200))))
    assert len(names(answer)) == MAX_ADDRESSES


# ---- ourselves
@pytest.mark.parametrize("us", ["us.example", "other.example"])
async def test_we_and_what_is_no_nearer_are_left_out(us: str) -> None:
    """By our name, whatever its address; or by our address and port, whatever the name."""
    records = mx((10, "a.example"), (20, us), (20, "b.example"), (30, "c.example"))
    answer = await exchangers(
        records,
        a=at("192.0.2.1"),
        b=at("192.0.2.2"),
        c=at("192.0.2.3"),
        us=at("198.51.100.7"),
        other=at("192.0.2.4", "192.0.2.250"),
    )
    assert names(answer) == ["a.example 192.0.2.1"]


@pytest.mark.parametrize("answer", [mx((10, "us.example"), (20, "b.example")), mx((0, "us.example"))])
async def test_a_domain_whose_best_exchanger_we_are_is_a_loop(answer: MxAnswer) -> None:
    found = await exchangers(answer, us=TROUBLE, b=at("192.0.2.2"))
    assert isinstance(found, NoSuchHost)
    assert str(found.status) == "5.4.6"
    assert "example.org" in found.detail


async def test_the_implicit_exchanger_can_be_ourselves_too() -> None:
    resolver = WrittenResolver({"example.org": NoRecords()}, {"example.org": at("192.0.2.250")})
    found = await finder(resolver).hosts(SmtpMx("example.org"))
    assert isinstance(found, NoSuchHost)
    assert str(found.status) == "5.4.6"


async def test_our_address_at_a_port_that_is_not_ours_is_another_service() -> None:
    resolver = WrittenResolver({"example.org": mx((10, "a.example"))}, {"a.example": at("192.0.2.250")})
    answer = await finder(resolver).hosts(SmtpMx("example.org", 2626))
    assert names(answer) == ["a.example 192.0.2.250"]


# ---- addresses that lead nowhere
@pytest.mark.parametrize("address", ["127.0.0.5", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.9", "224.0.0.1"])
async def test_an_exchanger_on_loopback_is_passed_over_unless_allowed(address: str) -> None:
    records = mx((10, "a.example"), (20, "b.example"))
    assert names(await exchangers(records, a=at(address), b=at("192.0.2.2"))) == ["b.example 192.0.2.2"]
    allowed = await exchangers(records, allow_loopback_mx=True, a=at(address), b=at("192.0.2.2"))
    assert names(allowed)[0] == f"a.example {address}"


async def test_a_domain_with_nothing_but_loopback_is_told_so() -> None:
    found = await exchangers(mx((10, "a.example")), a=at("127.0.0.5"))
    assert isinstance(found, NoSuchHost)
    assert str(found.status) == "5.4.4"
    assert "127.0.0.5" in found.detail


# ---- servers the route names
async def test_named_servers_are_tried_in_their_order_with_all_addresses() -> None:
    resolver = WrittenResolver({}, {"b": at("2001:db8::2", "192.0.2.2"), "a": at("192.0.2.1")})
    servers = (Server("b", 25), Server("10.0.0.9", 26), Server("a", 27))
    answer = await finder(resolver).hosts(SmtpServers(servers))
    assert names(answer) == ["b 2001:db8::2", "b 192.0.2.2", "10.0.0.9 10.0.0.9", "a 192.0.2.1"]
    assert [host.endpoint.port for host in answer.hosts if isinstance(answer, Hosts)] == [25, 25, 26, 27]  # type: ignore[union-attr]  # `names` has seen it is Hosts
    assert sorted(resolver.asked) == ["a", "b"]


async def test_a_server_named_twice_is_tried_once() -> None:
    answer = await finder(WrittenResolver({}, {})).hosts(SmtpServers((Server("10.0.0.9", 25),) * 2))
    assert names(answer) == ["10.0.0.9 10.0.0.9"]


async def test_servers_by_address_are_found_at_once_and_servers_by_name_asked_for_each_time() -> None:
    resolver = WrittenResolver({}, {"a.example": at("192.0.2.1")})
    search = finder(resolver)
    literal, mixed = (Server("10.0.0.9", 25),), (Server("10.0.0.9", 25), Server("a.example", 25))
    assert await search.hosts(SmtpServers(literal)) is await search.hosts(SmtpServers(literal))
    for _ in range(2):
        assert names(await search.hosts(SmtpServers(mixed))) == ["10.0.0.9 10.0.0.9", "a.example 192.0.2.1"]
    assert resolver.asked == ["a.example"] * 2


async def test_a_named_server_may_be_on_loopback_but_not_ourselves() -> None:
    search = finder(WrittenResolver({}, {}))
    assert names(await search.hosts(SmtpServers((Server("127.0.0.1", 2626),)))) == ["127.0.0.1 127.0.0.1"]
    loop = await search.hosts(SmtpServers((Server("127.0.0.1", 2525),)))
    assert isinstance(loop, DnsFailed)
    assert "leads back to this service" in loop.detail


@pytest.mark.parametrize("answer", [NoSuchName(), NoRecords(), TROUBLE])
async def test_mail_waits_for_a_named_server_that_cannot_be_found(answer: AddressAnswer) -> None:
    """The route is wrong, not the recipient: nothing is returned to its author for that."""
    found = await finder(WrittenResolver({}, {"typo": answer})).hosts(SmtpServers((Server("typo", 25),)))
    assert isinstance(found, DnsFailed)
    assert found.domain == "typo"


async def test_a_unix_socket_is_its_own_address() -> None:
    answer = await finder(WrittenResolver({}, {})).hosts(LmtpServers((Server("/run/lmtp", 0),)))
    assert answer == Hosts((Host("/run/lmtp", Endpoint("/run/lmtp", 0)),))


async def test_answers_are_described_for_a_person() -> None:
    described = describe_hosts(await exchangers(mx((10, "a.example")), a=at("192.0.2.1", "2001:db8::1")))
    assert described == ["1. a.example at 192.0.2.1:25", "2. a.example at [2001:db8::1]:25"]
    assert "mail is returned" in describe_hosts(await exchangers(NullMx()))[0]
    assert "mail waits" in describe_hosts(await exchangers(TROUBLE))[0]
