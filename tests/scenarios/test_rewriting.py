"""Addresses that become others, in the whole service: what the next hop sees, and where reports go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import Peer
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.whole import MINUTE, STRANGER, to_host, whole
from tests.virtual import virtual
from waypost.admin.explanation import Question

HOST = "192.0.2.1"
LETTER = (
    b"From: Ann Example\r\n <ann@pc7.home.example>\r\nTo: bob@world.example, Carl <carl@old.example>\r\n"
    b"Subject: ann@pc7.home.example\r\n\r\nann@pc7.home.example\r\n"
)
MAPS = (
    '[[map]]\nname = "canonical"\nentries = { "ann@home.example" = "ann.example@home.example", "@old.example" = '
    '"@new.example" }\n'
    '[[map]]\nname = "generic"\nentries = { "ann@home.example" = "shop@brand.example" }\n'
)


async def seen(text: str, *to: str, author: str = "ann@pc7.home.example", letter: bytes = LETTER) -> tuple[Peer, bytes]:
    """The next hop after one message, and what it got."""
    peer = Peer()
    async with whole(to_host("*", HOST) + text if "[[route]]" not in text else text, {HOST: peer}) as service:
        await service.take(*(to or ("bob@world.example",)), author=author, octets=letter)
        await asyncio.sleep(5)
    ((_, octets),) = peer.accepted
    return peer, octets


def mail_of(peer: Peer) -> str:
    return next(line for line in peer.connections[0] if line.startswith("MAIL")).split(">")[0] + ">"


@virtual
async def test_masquerading_hides_hosts_in_envelope_and_header_and_nowhere_else() -> None:
    peer, octets = await seen('[rewriting]\nmasquerade = ["home.example"]\n')
    assert mail_of(peer) == "MAIL FROM:<ann@home.example>"
    assert octets.endswith(LETTER.replace(b"<ann@pc7.home", b"<ann@home"))


@virtual
async def test_canonical_maps_senders_and_recipients_in_envelope_and_header() -> None:
    text = MAPS + '[rewriting]\ncanonical = ["canonical"]\n'
    letter = LETTER.replace(b"pc7.home", b"home")
    peer, octets = await seen(text, "carl@old.example", author="ann@home.example", letter=letter)
    assert mail_of(peer) == "MAIL FROM:<ann.example@home.example>"
    assert any("RCPT TO:<carl@new.example>" in line for line in peer.connections[0])
    assert b"<ann.example@home.example>\r\nTo: bob@world.example, Carl <carl@new.example>\r\n" in octets
    assert b"\r\nSubject: ann@home.example\r\n\r\nann@home.example" in octets


@virtual
async def test_classes_choose_where_it_is_done() -> None:
    text = MAPS + '[rewriting]\ncanonical = ["canonical"]\ncanonical_classes = ["header-recipient"]\n'
    letter = LETTER.replace(b"pc7.home", b"home")
    peer, octets = await seen(text, "carl@old.example", author="ann@home.example", letter=letter)
    assert mail_of(peer) == "MAIL FROM:<ann@home.example>"
    assert any("RCPT TO:<carl@old.example>" in line for line in peer.connections[0])
    assert b"<ann@home.example>\r\nTo: bob@world.example, Carl <carl@new.example>\r\n" in octets


@virtual
async def test_generic_is_for_one_route_alone() -> None:
    inner, outer = Peer(), Peer()
    text = MAPS + to_host("*", HOST, 'generic = ["generic"]') + to_host("inner.example", "192.0.2.2")
    async with whole(text, {HOST: outer, "192.0.2.2": inner}) as service:
        letter = LETTER.replace(b"pc7.home", b"home")
        await service.take("x@world.example", "x@inner.example", author="ann@home.example", octets=letter)
        await asyncio.sleep(5)
    assert mail_of(outer) == "MAIL FROM:<shop@brand.example>"
    assert b"<shop@brand.example>" in outer.accepted[0][1]
    assert mail_of(inner) == "MAIL FROM:<ann@home.example>"
    assert inner.accepted[0][1].endswith(letter)


@virtual
async def test_a_smart_host_that_takes_one_sender_gets_it_and_answers_go_to_the_author() -> None:
    text = to_host("*", HOST, 'rewrite_sender = "relay@brand.example"', 'allowed_senders = ["ok.example"]')
    peer, octets = await seen(text)
    assert mail_of(peer) == "MAIL FROM:<relay@brand.example>"
    assert (
        b"From: Ann Example\r\n <relay@brand.example>\r\nReply-To: Ann Example\r\n <ann@pc7.home.example>\r\nTo:"
    ) in octets
    peer, octets = await seen(text, author="x@ok.example", letter=LETTER.replace(b"pc7.home.example", b"ok.example"))
    assert mail_of(peer) == "MAIL FROM:<x@ok.example>"
    assert b"Reply-To" not in octets
    async with whole(text, {HOST: peer}) as service:
        answer = await service.running.operations.explain(Question(("bob@world.example",)))
        facts = {fact.step: fact for fact in answer.journeys[0].legs[0].facts}
        assert facts["rewriting"].text == "senders become relay@brand.example"


@virtual
async def test_a_report_goes_to_who_sent_it_whatever_the_next_hop_saw() -> None:
    peer = Peer(recipients={"bob@world.example": "550 5.1.1 no such user"})
    text = to_host("*", HOST, 'rewrite_sender = "relay@brand.example"')
    async with whole(text, {HOST: peer}) as service:
        await service.take("bob@world.example")
        await asyncio.sleep(5)
        (report,) = await service.inbox()
        assert b"To: <alice@home.example>" in report or b"alice@home.example" in report


@virtual
async def test_srs_leads_a_report_back_to_the_author_and_a_stranger_may_send_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    peer, far = Peer(), Peer()
    text = (
        '[rewriting]\nsrs_domain = "srs.example.net"\nsrs_secret_file = "secret"\n'
        + to_host("*", HOST, 'rewrite_sender = "srs"')
        + to_host("far.example", "192.0.2.2", 'accept_from = "relay"')
    )
    async with whole(text, {HOST: peer, "192.0.2.2": far}, base=tmp_path) as service:
        await service.take("bob@world.example", author="ann@far.example")
        await asyncio.sleep(5)
        wrapped = mail_of(peer).removeprefix("MAIL FROM:<").removesuffix(">")
        assert wrapped.startswith("SRS0=")
        assert b"From: Ann" not in peer.accepted[0][1]
        stranger = await service.client(STRANGER)
        assert (await rcpt(stranger, "ann@far.example")).startswith("550 5.7.1 relaying denied")
        assert (await (await service.client(STRANGER)).letter(wrapped, author="")).startswith("250 ")
        await asyncio.sleep(5)
        assert far.accepted[0][0] == ("ann@far.example",)
        forged = wrapped.replace("=ann@", "=bob@")
        assert (await rcpt(await service.client(STRANGER), forged)).startswith("550 5.1.1")
        answer = await service.running.operations.explain(Question((wrapped,), client=STRANGER))
        assert answer.journeys[0].facts[0].step == "SRS"


@virtual
async def test_a_map_in_trouble_makes_mail_wait_and_returns_nothing(tmp_path: Path) -> None:
    file = tmp_path / "generic"
    file.write_text("ann@home.example shop@brand.example\n")
    text = '[[map]]\nname = "generic"\nfile = "generic"\n' + to_host("*", HOST, 'generic = ["generic"]')
    peer = Peer()
    async with whole(text, {HOST: peer}, base=tmp_path) as service:
        file.write_text("broken\n")
        await service.take("bob@world.example", author="ann@home.example")
        await asyncio.sleep(5)
        (entry,) = await service.queue()
        assert "its addresses cannot be rewritten: map generic" in entry.last_outcome
        file.write_text("ann@home.example shop@brand.example\n")
        await asyncio.sleep(10 * MINUTE)
        assert mail_of(peer) == "MAIL FROM:<shop@brand.example>"


@virtual
async def test_a_stranger_may_write_to_what_is_ours_and_nobody_else_whatever_is_canonical() -> None:
    text = (
        '[[map]]\nname = "canonical"\nentries = { "info@home.example" = "ann@far.example", "x@far.example" = '
        '"y@far.example" }\n[rewriting]\nrecipient_canonical = ["canonical"]\n' + to_host("*", HOST)
    )
    async with whole(text, {HOST: Peer()}) as service:
        assert (await rcpt(await service.client(STRANGER), "info@home.example")).startswith("250 ")
        assert (await rcpt(await service.client(STRANGER), "x@far.example")).startswith("550 5.7.1 relaying denied")
        assert (await rcpt(await service.client(STRANGER), "z@far.example")).startswith("550 5.7.1 relaying denied")


@virtual
async def test_a_large_message_is_rewritten_without_being_held() -> None:
    letter = LETTER + b"x" * 998 + b"\r\n"
    _, octets = await seen('[rewriting]\nmasquerade = ["home.example"]\n', letter=letter + b"y\r\n" * 300_000)
    assert b"<ann@home.example>" in octets
    assert octets.endswith(b"y\r\n" * 300_000)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('[rewriting]\ncanonical = ["x"]\n', "rewriting.canonical", 'no [[map]] named "x"'),
        ('[rewriting]\nmasquerade = ["a_b!"]\n', "rewriting.masquerade", "a_b!"),
        ('[rewriting]\nsrs_domain = "srs.example.net"\n', "rewriting.srs_domain", "needs one secret"),
        (to_host("*", HOST, 'rewrite_sender = "srs"'), "route.rewrite_sender", "needs a domain"),
        (to_host("*", HOST, 'rewrite_sender = "me"'), "route.rewrite_sender", "no mailbox"),
        (to_host("*", HOST, 'allowed_senders = ["a.example"]'), "route.allowed_senders", "not there"),
        (to_host("*", HOST, 'generic = ["x"]'), "route.generic", 'no [[map]] named "x"'),
    ],
)
def test_what_is_wrong_with_it_is_told(text: str, key: str, problem: str) -> None:
    complaint, *_ = refused(GOOD + text)
    assert complaint.key == key
    assert problem in complaint.problem


@virtual
async def test_canonical_names_that_lead_to_each_other_are_followed_once() -> None:
    entries = '{ "ann@new.example" = "bob@new.example", "bob@new.example" = "ann@new.example" }'
    text = f'[[map]]\nname = "swap"\nentries = {entries}\n[rewriting]\ncanonical = ["swap"]\n'
    letter = b"From: ann@new.example\r\nTo: bob@new.example\r\n\r\nhello\r\n"
    peer, octets = await seen(text, "bob@new.example", author="ann@new.example", letter=letter)
    assert mail_of(peer) == "MAIL FROM:<bob@new.example>"
    assert any("RCPT TO:<ann@new.example>" in line for line in peer.connections[0])
    assert octets.endswith(b"From: bob@new.example\r\nTo: ann@new.example\r\n\r\nhello\r\n")
