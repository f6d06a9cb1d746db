"""Who may connect, relay and write, in the whole service; and `explain` says the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import Peer
from tests.scenarios import whole as scene
from tests.scenarios.page import scenario
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.whole import AUTHOR, STRANGER, US, Whole, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.admin.answers import ActBody
from waypost.admin.explanation import Question
from waypost.net.clock import SystemClock

HOST = "192.0.2.1"
OURS = to_host("ours.example", HOST)


@scenario(15)
@virtual
async def test_a_network_that_is_rejected_hears_554_in_place_of_the_banner() -> None:
    """Clients on the block list were greeted like all others, and kept trying."""
    text = OURS + f'[access]\nreject = ["203.0.113.0/24"]\naccept = ["{STRANGER}"]\n'
    async with whole(text, {HOST: Peer()}) as service:
        refused_client = await service.connect("203.0.113.10")
        assert await refused_client.hear() == "554 5.7.1 no mail is taken from your address"
        assert (await refused_client.say("EHLO x")).startswith("503 ")
        assert (await (await service.client(STRANGER)).letter("a@ours.example")).startswith("250 ")
        answer = await service.running.operations.explain(Question(("a@ours.example",), client="203.0.113.10"))
        assert not answer.is_taken
        assert "554 5.7.1" in answer.facts[0].text


@virtual
async def test_who_may_never_relay_is_a_stranger_though_its_network_may() -> None:
    inside = "127.0.0.66"
    with patch.object(scene, "BASE", scene.BASE.replace("[relay]", f'[relay]\nnever = ["{inside}"]')):
        async with whole(OURS + to_host("*", HOST), {HOST: Peer()}) as service:
            assert (await rcpt(await service.client(US), "x@far.example")).startswith("250 ")
            assert (await rcpt(await service.client(inside), "x@far.example")).startswith("550 5.7.1 relaying denied")
            answer = await service.running.operations.explain(Question(("x@far.example",), client=inside))
            assert "may never relay" in answer.facts[0].text
            assert not answer.journeys[0].is_taken


@virtual
async def test_a_blocked_reverse_path_is_refused_at_mail() -> None:
    text = OURS + '[senders]\nblock = ["spam.example", "eve@far.example", "<>"]\n'
    async with whole(text, {HOST: Peer()}) as service:
        client = await service.client(STRANGER)
        assert (await client.say("MAIL FROM:<a@x.spam.example>")).startswith("550 5.7.1 mail from <a@x.spam.example>")
        assert (await client.say("MAIL FROM:<>")).startswith("550 5.7.1 ")
        assert (await client.say("MAIL FROM:<Eve@far.example>")).startswith("550 5.7.1 ")
        assert (await client.say("MAIL FROM:<ann@far.example>", "RSET")).startswith("250 ")
        assert (await client.letter("a@ours.example")).startswith("250 ")
        question = Question(("a@ours.example",), client=STRANGER, reverse_path="a@spam.example")
        assert not (await service.running.operations.explain(question)).is_taken


@virtual
async def test_mail_in_quarantine_goes_to_its_route_alone() -> None:
    text = OURS + (
        '[senders]\nblock = ["spam.example"]\nquarantine = "aside"\n'
        '[[route]]\nname = "aside"\nto = "smtp://192.0.2.3:25"\n'
        '[[copy]]\nof = ["*"]\nto = "journal@ours.example"\n'
    )
    inner, aside = Peer(), Peer(recipients={"b@ours.example": "550 5.1.1 no"})
    async with whole(text, {HOST: inner, "192.0.2.3": aside}) as service:
        client = await service.client(STRANGER)
        assert (await client.letter("a@ours.example", "b@ours.example", author="x@spam.example")).startswith("250 ")
        await asyncio.sleep(1)
        assert accepted_by(aside) == ["a@ours.example"]
        assert accepted_by(inner) == []
        assert await service.queue() == []  # and nobody is told of b


@virtual
async def test_a_copy_goes_to_the_journal_unseen() -> None:
    inner = Peer()
    text = OURS + '[[copy]]\nof = ["ours.example"]\nto = "journal@home.example"\n'
    async with whole(text, {HOST: inner}) as service:
        await service.take("a@ours.example", author=AUTHOR)
        await asyncio.sleep(1)
        assert accepted_by(inner) == ["a@ours.example"]
        (copy,) = await service.inbox()
        assert b"journal" not in inner.accepted[0][1]
        assert b"Subject: hello" in copy


@pytest.mark.parametrize("nested", ["u%far.example", "far.example!u", '"u@far.example"'])
@virtual
async def test_an_address_within_an_address_is_followed_for_nobody_and_refused_to_strangers(nested: str) -> None:
    address = f"{nested}@ours.example"
    peer = Peer()
    async with whole(OURS, {HOST: peer}) as service:
        assert (await rcpt(await service.client(STRANGER), address)).startswith("550 5.7.1 ")
        answer = await service.running.operations.explain(Question((address,), client=STRANGER))
        assert [fact.step for fact in answer.journeys[0].facts] == ["nested"]
        await service.take(address)
        await asyncio.sleep(1)
        assert accepted_by(peer) == [address], "passed on as it stands, to where its domain goes"


@virtual
async def test_mail_is_sent_on_for_listed_networks_and_each_refusal_of_others_is_told_logged_and_counted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    inside, peer = "198.51.100.7", Peer()
    listed = scene.BASE.replace("127.0.0.0/8", "198.51.100.0/24")
    with patch.object(scene, "BASE", listed):
        async with whole(OURS + to_host("*", HOST), {HOST: peer}) as service:
            client = await service.client(inside)
            assert (await client.letter("x@far.example", "a@ours.example")).startswith("250 ")
            for stranger in (US, STRANGER, "198.51.101.7"):
                client = await service.client(stranger)
                said = await rcpt(client, "x@far.example")
                assert said.startswith("550 5.7.1 relaying denied: <x@far.example> is not served here")
                assert (await client.say("RCPT TO:<b@ours.example>")).startswith("250 ")
            await asyncio.sleep(1)
            assert accepted_by(peer) == ["x@far.example", "a@ours.example"]
            shown = await metrics(service)
            service.running.log.close()  # a thread writes it
    assert 'waypost_refused_total{code="5yz"} 3' in shown
    refusals = [line for line in capfd.readouterr().err.splitlines() if '"event":"refused"' in line]
    assert len(refusals) == 3
    assert all("relaying denied: <x@far.example>" in line for line in refusals)
    assert STRANGER in refusals[1]


@virtual
async def test_where_no_network_is_listed_nobody_has_mail_sent_on_not_even_this_machine() -> None:
    with patch.object(scene, "BASE", scene.BASE.replace('[relay]\nnetworks = ["127.0.0.0/8"]\n', "")):
        async with whole(OURS + to_host("*", HOST), {HOST: Peer()}) as service:
            for client in (US, STRANGER):
                said = await rcpt(await service.client(client), "x@far.example")
                assert said.startswith("550 5.7.1 relaying denied"), client


@pytest.mark.parametrize("act", ["release", "delete"])
@virtual
async def test_blocked_mail_is_held_where_the_house_would_rather_look_at_it(act: str) -> None:
    peer = Peer()
    text = OURS + '[senders]\nblock = ["spam.example"]\nquarantine = "hold"\n'
    async with whole(text, {HOST: peer}) as service:
        client = await service.client(STRANGER)
        assert (await client.letter("a@ours.example", author="x@spam.example")).startswith("250 ")
        await asyncio.sleep(60)
        assert accepted_by(peer) == []
        desk = service.running.operations
        (held,) = (await desk.quarantine()).entries
        assert "mail from <x@spam.example> is blocked" in held.reason
        assert (await desk.act(act, ActBody(ids=(held.id,)))).recipients == 1
        await asyncio.sleep(60)
        assert accepted_by(peer) == (["a@ours.example"] if act == "release" else [])
        assert await service.queue() == []


@virtual
async def test_an_address_may_be_for_our_own_clients_alone() -> None:
    peer = Peer()
    closed = f'[[route]]\nname = "inside"\nto = "smtp://{HOST}:25"\naddresses = ["all@ours.example"]\n'
    closed += 'accept_from = "relay"\n'
    async with whole(OURS + closed, {HOST: peer}) as service:
        client = await service.client(STRANGER)
        assert (await rcpt(client, "all@ours.example")).startswith("550 5.7.1 ")
        assert (await client.say("RCPT TO:<a@ours.example>")).startswith("250 ")
        await service.take("all@ours.example")
        await asyncio.sleep(1)
        assert accepted_by(peer) == ["all@ours.example"]


async def test_copies_of_all_mail_may_go_into_a_directory(tmp_path: Path) -> None:
    peer = Peer()
    text = OURS + (
        '[[copy]]\nof = ["*"]\nto = "archive@archive.example"\n'
        f'[[route]]\ndomains = ["archive.example"]\nto = "maildir:{tmp_path}/%u"\n'
    )
    async with whole(text, {HOST: peer}, clock=SystemClock) as service:
        await service.take("a@ours.example")
        await service.take("b@ours.example")
        async with asyncio.timeout(30):
            while await service.queue():  # noqa: ASYNC110 - the service tells nobody in particular
                await asyncio.sleep(0.01)
    kept = [file.read_bytes() for file in (tmp_path / "archive" / "new").iterdir()]
    assert len(kept) == 2
    assert all(b"Subject: hello" in octets for octets in kept)


async def metrics(service: Whole) -> str:
    """What a scrape shows."""
    where = service.running.admin_endpoint
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n".encode())
    shown = await reader.read()
    writer.close()
    return shown.decode()


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("[access]\nreject = ['x']\n", "access.reject", "no network"),
        ("[senders]\nblock = ['*']\n", "senders.block", "refuse all mail"),
        ("[senders]\nquarantine = 'x'\n", "senders.quarantine", "has the name 'x'"),
        ("[[copy]]\nof = ['x.example']\nto = 'x'\n", "copy.to", "no mailbox"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    (complaint,) = refused(GOOD + text)
    assert complaint.key == key
    assert problem in complaint.problem
