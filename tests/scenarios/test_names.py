"""DNS, mail exchangers and routes: where mail goes next, and what becomes of it when nobody says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from unittest.mock import patch

import pytest

from tests.deliver.peer import Peer, Wrong
from tests.net.dns_server import Misbehaviour
from tests.scenarios import whole as scene
from tests.scenarios.page import scenario
from tests.scenarios.whole import (
    BY_MX,
    DAY,
    HOUR,
    LETTER,
    MINUTE,
    SCHEDULE,
    SMART_HOST,
    STRANGER,
    Whole,
    accepted_by,
    bodies,
    to_host,
    whole,
)
from tests.virtual import virtual
from waypost.net.stream import Endpoint, Fault, FaultKind

ONE, TWO, THREE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
THREE_EXCHANGERS = """
far.example. 300 MX 10 mx1.far.example.
far.example. 300 MX 20 mx2.far.example.
far.example. 300 MX 30 mx3.far.example.
mx1.far.example. 300 A 192.0.2.1
mx2.far.example. 300 A 192.0.2.2
mx3.far.example. 300 A 192.0.2.3
"""
REFUSED = Fault(FaultKind.REFUSED)


def zone_without(service: Whole, *names: str) -> None:
    """Take names out of the zone."""
    service.dns.records = {key: value for key, value in service.dns.records.items() if key[0] not in names}


@scenario(17)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Peer(always={"banner": "554 not you"}), REFUSED),
        (REFUSED, Peer(always={"EHLO": "550 no", "HELO": "550 no"})),
        (Peer(always={"MAIL": "451 4.3.0 later"}), REFUSED),
        (Fault(FaultKind.UNREACHABLE), Peer(always={"RCPT": "450 4.2.1 later"})),
    ],
    ids=["554-refused", "refused-550", "451-refused", "unreachable-450"],
)
@virtual
async def test_one_exchanger_that_may_yet_take_the_mail_is_reason_enough_to_keep_it(
    first: Peer | Fault, second: Peer | Fault
) -> None:
    """One exchanger refused and another was down; the mail was dropped or returned, and not tried again."""
    third = Peer()
    async with whole(BY_MX, {ONE: first, TWO: second}, zone=THREE_EXCHANGERS) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(HOUR)
        assert await service.inbox() == []
        assert [entry.attempts for entry in await service.queue()] == [5]
        service.network.hosts[Endpoint(THREE, 25)] = third
        await asyncio.sleep(2 * HOUR)
        assert bodies(third) == [LETTER]


@scenario(17)
@virtual
async def test_mail_that_an_exchanger_refuses_for_good_is_returned_and_not_offered_to_the_next() -> None:
    """One exchanger refused and another was down; the mail was dropped or returned, and not tried again."""
    no_such_user, second = Peer(always={"RCPT": "550 5.1.1 no such user"}), Peer()
    async with whole(BY_MX, {ONE: no_such_user, TWO: second}, zone=THREE_EXCHANGERS) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        (report,) = await service.inbox()
        assert b"550 5.1.1 no such user" in report
        assert second.connections == []


@scenario(18)
@virtual
async def test_a_list_of_exchangers_that_shrinks_to_nothing_between_tries_leaves_the_mail_waiting() -> None:
    """With each try a host fewer was left, until the service read past the end of its list and crashed."""
    async with whole(BY_MX, zone=THREE_EXCHANGERS.replace("300", "5")) as service:
        name = await service.take("bob@far.example")
        for lost in ("mx3.far.example", "mx1.far.example"):
            await asyncio.sleep(30 * MINUTE)
            zone_without(service, lost)
        await asyncio.sleep(HOUR)
        service.dns.misbehave["*"] = Misbehaviour.SERVFAIL
        await asyncio.sleep(DAY)
        (entry,) = await service.queue()
        assert "SERVFAIL" in entry.last_outcome
        assert await service.attempts(name) > 20
        service.dns.misbehave.clear()
        service.network.hosts[Endpoint(TWO, 25)] = peer = Peer()
        await asyncio.sleep(2 * HOUR)
        assert bodies(peer) == [LETTER]


@scenario(19)
@virtual
async def test_exchangers_of_one_preference_share_the_mail() -> None:
    """Exchangers of one preference were poorly shuffled, and the queue to large sites grew."""
    zone = "".join(
        f"far.example. 300 MX 10 mx{number}.far.example.\nmx{number}.far.example. 300 A 192.0.2.{number}\n"
        for number in range(1, 5)
    )
    peers = {f"192.0.2.{number}": Peer() for number in range(1, 5)}
    async with whole(BY_MX, peers, zone=zone) as service:
        for _ in range(80):
            await service.take("bob@far.example")
            await asyncio.sleep(10 * MINUTE)
    share = Counter({host: len(peer.accepted) for host, peer in peers.items()})
    assert share.total() == 80
    assert min(share.values()) >= 6  # of 20; fewer has a chance of one in thousands


@scenario(20)
@virtual
async def test_mail_whose_best_exchanger_is_ourselves_is_returned_as_a_loop() -> None:
    """Our own host was not taken out of the list of exchangers, and mail went round in circles."""
    zone = """
        far.example. 300 MX 10 mx.example.net.
        far.example. 300 MX 20 mx2.far.example.
        mx2.far.example. 300 A 192.0.2.2
    """
    second = Peer()
    async with whole(BY_MX, {TWO: second}, zone=zone) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        (report,) = await service.inbox()
        assert b"5.4.6" in report
        assert second.connections == []


@scenario(20)
@virtual
async def test_while_a_better_exchanger_is_down_mail_waits_and_never_comes_back_to_ourselves() -> None:
    """Our own host was not taken out of the list of exchangers, and mail went round in circles."""
    zone = THREE_EXCHANGERS.replace("mx2.far.example.\n", "mx.example.net.\n", 1)
    third = Peer()
    async with whole(BY_MX, {ONE: REFUSED, THREE: third}, zone=zone) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(HOUR)
        assert {endpoint.host for endpoint in service.network.dialled} == {ONE}
        assert third.connections == []
        assert [entry.attempts for entry in await service.queue()] == [5]


@scenario(20)
@virtual
async def test_a_message_with_a_hundred_trace_lines_is_refused() -> None:
    """Our own host was not taken out of the list of exchangers, and mail went round in circles."""
    async with whole() as service:
        client = await service.client()
        reply = await client.letter("bob@home.example", octets=b"Received: from a by b; now\r\n" * 100 + LETTER)
        assert reply.startswith("554 5.4.6")
        assert await service.inbox() == []


@scenario(21)
@pytest.mark.parametrize(
    "zone",
    [
        "far.example. 5 CNAME a.example.\na.example. 5 CNAME far.example.",
        "far.example. 5 CNAME c1.example.\n"
        + "".join(f"c{n}.example. 5 CNAME c{n + 1}.example.\n" for n in range(1, 20)),
    ],
    ids=["circle", "long"],
)
@virtual
async def test_a_chain_of_aliases_without_end_is_named_while_mail_waits_and_the_mail_is_returned_in_the_end(
    zone: str,
) -> None:
    """A chain of aliases that was too long counted as trouble in the network, and mail was tried for ever."""
    async with whole(BY_MX, zone=zone, schedule=SCHEDULE + 'expire = "1d"\n') as service:
        await service.take("bob@far.example")
        await asyncio.sleep(MINUTE / 2)
        (entry,) = await service.queue()
        assert "CNAMEs run in a circle" in entry.last_outcome
        await asyncio.sleep(DAY + HOUR)
        assert await service.queue() == []
        delayed, failed = await service.inbox()
        assert b"Action: delayed" in delayed
        assert b"Action: failed" in failed
        assert b"CNAMEs run in a circle" in failed


@scenario(22)
@virtual
async def test_names_are_asked_for_as_they_stand_and_never_with_a_suffix() -> None:
    """Names were completed by a search list; behind a wildcard the service found itself everywhere."""
    zone = """
        *.example.net. 300 MX 0 mx.example.net.
        far.example. 300 MX 10 mx1.far.example.
        mx1.far.example. 300 A 192.0.2.1
    """
    peer = Peer()
    async with whole(BY_MX, {ONE: peer}, zone=zone) as service:
        await service.take("bob@far.example", "carol@gone.example")
        await asyncio.sleep(1)
        assert bodies(peer) == [LETTER]
        assert len(await service.inbox()) == 1
        asked = {"far.example", "mx1.far.example", "_mta-sts.far.example", "gone.example"}
        assert {name for name, _, _ in service.dns.asked} == asked


@scenario(23)
@pytest.mark.parametrize("path", ["bob", "bob@", "@", "bob@.", "bob@far..example", "bob@-.example", "bob@[]", "bob@#1"])
@virtual
async def test_an_address_without_a_proper_domain_is_refused_and_no_name_is_looked_up(path: str) -> None:
    """An address without a domain was looked up as the root, and its mail went to a strange host."""
    async with whole(BY_MX) as service:
        client = await service.client()
        reply = await client.say("MAIL FROM:<alice@home.example>", f"RCPT TO:<{path}>")
        assert reply.startswith("501 5.1.3"), reply
        assert (await client.say("DATA")).startswith("503 5.5.1")
        assert service.dns.asked == []


@scenario(24)
@virtual
async def test_a_smart_host_that_moves_is_found_when_its_time_to_live_has_ended() -> None:
    """The smart host was looked up once, at the start; when it moved, mail went on to the old address."""
    before, after = Peer(), Peer()
    route = '[[route]]\ndomains = ["*"]\nto = "smtp://relay.example:25"\n'
    async with whole(route, {ONE: before, TWO: after}, zone="relay.example. 60 A 192.0.2.1") as service:
        await service.take("a@far.example")
        await asyncio.sleep(MINUTE / 2)
        service.dns.serve("relay.example. 60 A 192.0.2.2")
        await service.take("b@far.example")
        await asyncio.sleep(MINUTE)
        await service.take("c@far.example")
        await asyncio.sleep(1)
        assert accepted_by(before) == ["a@far.example", "b@far.example"]
        assert accepted_by(after) == ["c@far.example"]


@scenario(25)
@pytest.mark.parametrize("kind", [Misbehaviour.NO_EDNS, Misbehaviour.TRUNCATED, Misbehaviour.STRAY_FIRST])
@virtual
async def test_every_legal_form_of_an_answer_is_understood(kind: Misbehaviour) -> None:
    """Answers without an additional section were misread, and their domains could not be reached."""
    peer = Peer()
    async with whole(BY_MX, {ONE: peer}, zone=THREE_EXCHANGERS) as service:
        service.dns.misbehave["*"] = kind
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        assert bodies(peer) == [LETTER]


@scenario(25)
@pytest.mark.parametrize("kind", [Misbehaviour.GARBAGE, Misbehaviour.CUT_OFF, Misbehaviour.REFERRAL])
@virtual
async def test_an_answer_that_is_none_bounces_nothing(kind: Misbehaviour) -> None:
    """Answers without an additional section were misread, and their domains could not be reached."""
    peer = Peer()
    async with whole(BY_MX, {ONE: peer}, zone=THREE_EXCHANGERS) as service:
        service.dns.misbehave["*"] = kind
        await service.take("bob@far.example")
        await asyncio.sleep(2)
        assert len(await service.queue()) == 1
        service.dns.misbehave.clear()
        await asyncio.sleep(10 * MINUTE)
        assert bodies(peer) == [LETTER]
        assert await service.inbox() == []


@scenario(26)
@virtual
async def test_a_route_of_one_domain_changes_nothing_for_the_others() -> None:
    """A route for one domain changed the state of all, and the smart host was never used again."""
    smart_host, stuck = Peer(), Peer(always={"banner": Wrong.STALL})
    async with whole(SMART_HOST + to_host("stuck.example", TWO), {ONE: smart_host, TWO: stuck}) as service:
        for number in range(5):
            await service.take(f"user{number}@far.example", f"user{number}@stuck.example")
            await asyncio.sleep(HOUR)
        assert accepted_by(smart_host) == [f"user{number}@far.example" for number in range(5)]
        assert {entry.forward_path for entry in await service.queue()} == {
            f"user{number}@stuck.example" for number in range(5)
        }
        client = await service.client(STRANGER)
        assert (await client.letter("bob@stuck.example")).startswith("250 2.0.0")


@virtual
async def test_we_are_called_by_the_name_that_is_set_wherever_we_are_named() -> None:
    peer = Peer(recipients={"gone@far.example": "550 5.1.1 no such user"})
    with patch.object(scene, "BASE", scene.BASE.replace("mx.example.net", "relay7.house.example")):
        async with whole(SMART_HOST, {ONE: peer}) as service:
            client = await service.connect()
            assert await client.hear() == "220 relay7.house.example ESMTP"
            await service.take("bob@far.example", "gone@far.example")
            await asyncio.sleep(1)
            assert peer.connections[0][0] == "EHLO relay7.house.example"
            assert b" by relay7.house.example " in peer.accepted[0][1].replace(b"\r\n\t", b" ")
            (report,) = await service.inbox()
            assert b"@relay7.house.example>\r\n" in report.partition(b"Message-ID: ")[2][:80]
            assert b"Reporting-MTA: dns; relay7.house.example" in report
