"""Recipients that fare differently, reports, and messages that answer each other."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.deliver.peer import Behaviour, Peer, Wrong
from tests.scenarios.page import scenario
from tests.scenarios.whole import HOUR, LETTER, SMART_HOST, accepted_by, to_host, whole
from tests.virtual import virtual

ONE, TWO = "192.0.2.1", "192.0.2.2"
FULL = "552 5.2.2 mailbox full"


@scenario(35)
@virtual
async def test_a_full_mailbox_among_several_is_that_recipient_s_alone() -> None:
    """552 for one recipient's full mailbox was written down for all that came after it."""
    peer = Peer(recipients={"b@far.example": FULL})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take("a@far.example", "b@far.example", "c@far.example")
        await asyncio.sleep(1)
        assert accepted_by(peer) == ["a@far.example", "c@far.example"]
        (report,) = await service.inbox()
        assert report.count(b"Final-Recipient:") == 1
        assert b"Final-Recipient: rfc822; b@far.example" in report
        assert await service.queue() == []


@scenario(36)
@pytest.mark.parametrize("reply", ["452 4.5.3 too many recipients", "552 too many recipients", "552 5.5.3 too many"])
@virtual
async def test_when_a_host_takes_a_hundred_recipients_the_others_follow_at_once_in_further_transactions(
    reply: str,
) -> None:
    """A host that takes a hundred recipients refused the rest, and the message was not delivered."""

    class Hundred(Peer):
        def due(self, state: str) -> Behaviour:
            since_mail = " ".join(self.connections[-1]).rpartition("MAIL FROM")[2].count("RCPT TO")
            return reply if state == "RCPT" and since_mail > 100 else super().due(state)

    peer = Hundred()
    async with whole(to_host("far.example", ONE, "recipients = 1000"), {ONE: peer}) as service:
        await service.take(*(f"user{number}@far.example" for number in range(250)))
        await asyncio.sleep(1)
        assert [len(recipients) for recipients, _ in peer.accepted] == [100, 100, 50]
        assert len(set(accepted_by(peer))) == 250
        assert await service.inbox() == []


@scenario(37)
@virtual
async def test_recipients_beyond_the_limit_are_asked_for_again_and_a_report_on_all_the_others_is_bounded() -> None:
    """Messages to very many recipients stayed behind, were sent again at each start, and no report could be made."""
    peer = Peer(always={"RCPT": "550 5.1.1 no such user"})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        client = await service.client()
        await client.say("MAIL FROM:<alice@home.example>")
        replies = [await client.say(f"RCPT TO:<user{number}@far.example>") for number in range(1010)]
        assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 10
        await client.say("DATA")
        assert (await client.send(LETTER + b".\r\n")).startswith("250 2.0.0")
        await asyncio.sleep(HOUR)
        assert await service.queue() == []
        reports = await service.inbox()
        told = sum(report.count(b"Final-Recipient:") for report in reports)
        assert told == 1000
        assert sum(map(len, reports)) < 1_000_000
        assert sum(command.startswith("RCPT") for said in peer.connections for command in said) == 1000


@scenario(38)
@virtual
async def test_a_message_from_nobody_passes_as_such_and_is_never_answered() -> None:
    """The null reverse-path was lost on the way, and reports answered reports."""
    peer = Peer(recipients={"gone@far.example": "550 5.1.1 no such user"})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take("bob@far.example", "gone@far.example", author="")
        await asyncio.sleep(HOUR)
        assert any(command.startswith("MAIL FROM:<> ") for said in peer.connections for command in said)
        assert accepted_by(peer) == ["bob@far.example"]
        (notice,) = await service.inbox()  # the postmaster is told that a notification was lost; nobody else
        assert b"To: <postmaster@home.example>" in notice


@scenario(38)
@virtual
async def test_a_report_says_that_a_machine_wrote_it_and_one_that_fails_is_not_answered() -> None:
    """The null reverse-path was lost on the way, and reports answered reports."""
    peer = Peer(always={"RCPT": "550 5.1.1 no such user"})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take("bob@far.example")
        await service.take("bob@far.example", author="author@far.example")
        await asyncio.sleep(HOUR)
        reports = await service.inbox()
        assert all(b"Auto-Submitted: auto-replied" in report for report in reports)
        assert [b"To: <alice@home.example>" in report for report in reports] == [True, False]
        assert b"To: <postmaster@home.example>" in reports[1]
        assert await service.queue() == []


@scenario(39)
@virtual
async def test_a_bad_address_is_reported_at_once_while_other_recipients_wait() -> None:
    """The report on a bad address was held back until another host of the same message had timed out."""
    bad, stuck = Peer(always={"RCPT": "550 5.1.1 no such user"}), Peer(always={"banner": Wrong.STALL})
    routes = to_host("bad.example", ONE) + to_host("stuck.example", TWO)
    async with whole(routes, {ONE: bad, TWO: stuck}) as service:
        await service.take("bob@bad.example", "bob@stuck.example")
        await asyncio.sleep(1)
        (report,) = await service.inbox()
        assert b"bob@bad.example" in report
        assert b"Final-Recipient: rfc822; bob@stuck.example" not in report
        stuck.always = {}
        await asyncio.sleep(HOUR)
        assert accepted_by(stuck) == ["bob@stuck.example"]
        assert len(await service.inbox()) == 1


@virtual
async def test_what_the_service_writes_itself_is_signed_where_it_has_a_key(tmp_path: Path) -> None:
    """Reports to authors and notices to administrators; what passes through is not touched."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "dkim.pem").write_bytes(pem)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    zone = {b"one._domainkey.example.net.": b"v=DKIM1; k=rsa; p=" + base64.b64encode(spki)}
    peer = Peer(recipients={"b@far.example": FULL})
    settings = '[dkim]\ndomain = "example.net"\nselector = "one"\nkey = "dkim.pem"\n'
    notices = '[notices]\nbounces = ["admin@home.example"]\n'
    async with whole(SMART_HOST + settings + notices, {ONE: peer}, base=tmp_path) as service:
        await service.take("a@far.example", "b@far.example")
        await asyncio.sleep(120)
        ours = await service.inbox()
        assert len(ours) == 2
        for message in ours:
            octets = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            assert dkim.verify(octets, dnsfunc=lambda name, timeout: zone.get(name)), message  # noqa: ARG005
        ((_, passed_on),) = peer.accepted
        assert b"DKIM-Signature" not in passed_on


@virtual
async def test_who_asks_is_told_that_his_message_has_come_to_its_mailbox() -> None:
    """RFC 3461 §5.2.3: nobody comes behind us who could tell."""
    async with whole() as service:
        client = await service.client()
        await client.say("MAIL FROM:<alice@home.example>", "RCPT TO:<bob@home.example> NOTIFY=SUCCESS", "DATA")
        assert (await client.send(LETTER + b".\r\n")).startswith("250 2.0.0")
        await asyncio.sleep(1)
        _, report = await service.inbox()
        assert b"Action: delivered" in report
        assert b"Final-Recipient: rfc822; bob@home.example" in report
