"""Rates, lists in DNS, greylisting and the quarantine in the whole service; and `explain` says the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import Peer
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.whole import STRANGER, US, Whole, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.admin.answers import ActBody
from waypost.admin.explanation import Question
from waypost.queue.memory import MemoryStorage

HOST, LISTED = "192.0.2.1", "198.51.100.66"
OURS = to_host("ours.example", HOST)
ZONE = f"""\
2.0.0.127.bl.example. 300 A 127.0.0.2
{".".join(reversed(LISTED.split(".")))}.bl.example. 300 A 127.0.0.2
"""
LIST = '[[dns_list]]\nzone = "bl.example"\nscore = 5\n'


async def explained(service: Whole, client: str, to: str = "a@ours.example") -> tuple[bool, str, list[str]]:
    """Whether it would be taken, the reply, and the facts, each with its line."""
    answer = await service.running.operations.explain(Question((to,), client=client, reverse_path="x@far.example"))
    facts = [*answer.facts, *answer.journeys[0].facts]
    told = [f"{fact.step}: {fact.text} [{fact.place}]" for fact in facts]
    return answer.is_taken and answer.journeys[0].is_taken, answer.journeys[0].reply, told


@virtual
async def test_too_many_messages_are_put_off_and_the_client_hears_until_when() -> None:
    text = OURS + '[[rate]]\nof = "messages"\nlimit = 2\nper = "1m"\nexempt = ["127.0.0.0/8"]\n'
    async with whole(text, {HOST: Peer()}) as service:
        client = await service.client(STRANGER)
        for _ in range(2):
            assert (await client.letter("a@ours.example")).startswith("250 ")
        assert await client.say("MAIL FROM:<x@far.example>") == (
            "450 4.7.1 too many messages from you; come back in 30 seconds"
        )
        assert (await (await service.client(US)).letter("a@ours.example")).startswith("250 ")
        taken, _, told = await explained(service, STRANGER)
        assert not taken
        assert any(
            one.startswith("rate: 2 messages a client in 60 s: 0 left now for 203.0.113.9/32 [waypost.toml:")
            for one in told
        )
        await asyncio.sleep(30)
        assert (await client.letter("a@ours.example")).startswith("250 ")


@virtual
async def test_too_many_connections_hear_421_in_place_of_the_banner() -> None:
    text = OURS + '[[rate]]\nof = "connections"\nby = "network"\nlimit = 1\nper = "1m"\n'
    async with whole(text, {HOST: Peer()}) as service:
        await service.client(STRANGER)
        other = await service.connect("203.0.113.77")
        assert await other.hear() == "421 4.7.1 too many connections from you; come back in 60 seconds"


@virtual
async def test_too_many_recipients_are_put_off_one_by_one_and_counted_in_the_spool() -> None:
    text = OURS + '[[rate]]\nof = "recipients"\nlimit = 1\nper = "1h"\nkept_in = "spool"\n'
    storage = MemoryStorage()
    async with whole(text, {HOST: Peer()}, storage=lambda _: storage) as service:
        client = await service.client(STRANGER)
        await client.say("MAIL FROM:<x@far.example>", "RCPT TO:<a@ours.example>")
        assert (await client.say("RCPT TO:<b@ours.example>")).startswith("450 4.7.1 too many recipients from you")
    async with whole(text, {HOST: Peer()}, storage=lambda _: storage) as service:
        assert (await rcpt(await service.client(STRANGER), "a@ours.example")).startswith("450 4.7.1 ")


@virtual
async def test_a_stranger_is_greylisted_and_passes_when_it_comes_back() -> None:
    text = OURS + '[greylist]\nmode = "all"\ndelay = "5m"\n'
    peer = Peer()
    async with whole(text, {HOST: peer}) as service:
        client = await service.client(STRANGER)
        said = await client.letter("a@ours.example", author="x@far.example")
        client = await service.client(STRANGER)
        said = await rcpt(client, "a@ours.example")
        assert said.startswith("451 4.7.1 greylisted: you are new here; come back in ")
        taken, reply, told = await explained(service, STRANGER)
        assert not taken
        assert reply.startswith("451 4.7.1 greylisted")
        assert "greylist: new here: put off until" in told[-1]
        assert "[waypost.toml:" in told[-1]
        await asyncio.sleep(300)
        client = await service.client(STRANGER)
        assert (await client.letter("a@ours.example", author="x@far.example")).startswith("250 ")
        taken, _, told = await explained(service, STRANGER)
        assert taken
        assert any("greylist: passes" in one for one in told)


@virtual
async def test_greylisting_stops_neither_our_own_clients_nor_mail_to_the_postmaster() -> None:
    text = OURS + '[greylist]\nmode = "all"\n'
    async with whole(text, {HOST: Peer()}) as service:
        assert (await rcpt(await service.client(US), "a@ours.example")).startswith("250 ")
        assert (await rcpt(await service.client(STRANGER), "Postmaster@ours.example")).startswith("250 ")
        assert (await rcpt(await service.client(STRANGER), "Postmaster")).startswith("250 ")


@virtual
async def test_a_listed_client_is_refused_but_may_write_to_the_postmaster() -> None:
    text = OURS + LIST + "[screening]\nrefuse = 5\n"
    async with whole(text, {HOST: Peer()}, zone=ZONE) as service:
        client = await service.client(LISTED)
        assert await rcpt(client, "a@ours.example") == (
            f"550 5.7.1 no mail is taken from [{LISTED}]: it, or a domain it names, is listed in bl.example"
        )
        assert (await client.say("RCPT TO:<postmaster@ours.example>")).startswith("250 ")
        assert (await rcpt(await service.client(STRANGER), "a@ours.example")).startswith("250 ")
        taken, reply, told = await explained(service, LISTED)
        assert not taken
        assert reply.startswith("550 5.7.1 no mail is taken from")
        assert any(one.startswith("lists: score +5: its recipients are refused") for one in told)


@virtual
async def test_suspects_are_greylisted_and_others_are_not() -> None:
    text = OURS + LIST + '[screening]\ngreylist = 5\n[greylist]\nmode = "suspects"\n'
    async with whole(text, {HOST: Peer()}, zone=ZONE) as service:
        assert (await rcpt(await service.client(LISTED), "a@ours.example")).startswith("451 4.7.1 ")
        assert (await rcpt(await service.client(STRANGER), "a@ours.example")).startswith("250 ")


@virtual
async def test_a_tagged_message_tells_its_score_to_who_filters_later() -> None:
    text = OURS + LIST + "[screening]\ntag = 1\n"
    peer = Peer()
    async with whole(text, {HOST: peer}, zone=ZONE) as service:
        assert (await (await service.client(LISTED)).letter("a@ours.example")).startswith("250 ")
        await asyncio.sleep(1)
        ((_, octets),) = peer.accepted
        assert f"X-Waypost-Lists: score +5 (bl.example lists {LISTED}: +5)\r\n".encode() in octets


@pytest.mark.parametrize("act", ["release", "delete"])
@virtual
async def test_mail_in_quarantine_waits_until_it_is_released_or_deleted(act: str) -> None:
    text = OURS + LIST + "[screening]\nquarantine = 3\n"
    peer = Peer()
    async with whole(text, {HOST: peer}, zone=ZONE) as service:
        assert (await (await service.client(LISTED)).letter("a@ours.example")).startswith("250 ")
        await asyncio.sleep(300)
        desk = service.running.operations
        (held,) = (await desk.quarantine()).entries
        assert held.reason.startswith(f"quarantine: score +5 (bl.example lists {LISTED}: +5) (waypost.toml:")
        assert b"Subject: hello" in await desk.octets(held.id)
        assert accepted_by(peer) == []
        assert (await desk.act(act, ActBody(ids=(held.id,), by="me"))).recipients == 1
        await asyncio.sleep(60)
        assert accepted_by(peer) == (["a@ours.example"] if act == "release" else [])
        assert (await desk.quarantine()).entries == ()
        assert await service.queue() == []
        assert await service.inbox() == []  # nobody is told


@virtual
async def test_what_nobody_looked_at_is_deleted_from_the_quarantine_after_its_time() -> None:
    text = OURS + '[senders]\nblock = ["spam.example"]\nquarantine = "hold"\n[screening]\nkeep = "10m"\n'
    async with whole(text, {HOST: Peer()}) as service:
        client = await service.client(STRANGER)
        assert (await client.letter("a@ours.example", author="x@spam.example")).startswith("250 ")
        await asyncio.sleep(300)
        assert [entry.reason for entry in await service.queue()] == [
            "quarantine: mail from <x@spam.example> is blocked"
        ]
        await asyncio.sleep(900)
        assert await service.queue() == []


@virtual
async def test_a_list_that_is_dead_is_told_in_the_status() -> None:
    text = OURS + LIST + "[screening]\nrefuse = 5\n"
    async with whole(text, {HOST: Peer()}, zone="x.example. 300 A 192.0.2.1") as service:
        await asyncio.sleep(60)
        status = await service.running.operations.status()
        assert any("the list bl.example is ignored" in warning for warning in status.warnings)
        assert (await rcpt(await service.client(LISTED), "a@ours.example")).startswith("250 ")


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('[[rate]]\nof = "connections"\nby = "account"\nlimit = 1\n', "rate.by", "nobody has logged in"),
        ('[[rate]]\nof = "connections"\nkept_in = "spool"\nlimit = 1\n', "rate.kept_in", "a write to the disk"),
        ("[screening]\nrefuse = 1\n", "screening.refuse", "without lists"),
        ('[greylist]\nmode = "suspects"\n', "greylist.mode", "nobody is a suspect"),
        (LIST, "dns_list.zone", "nothing follows"),
        (LIST + LIST + "[screening]\nrefuse = 1\n", "dns_list.zone", "already"),
        (LIST + "[screening]\ngreylist = 1\n", "screening.greylist", "greylisting is off"),
        (LIST + 'answers = {"10.0.0.x" = 1}\n[screening]\ntag = 1\n', "dns_list.answers", "10.0.0.x"),
        (LIST + 'answers = {"127.0.0.2" = "x"}\n[screening]\ntag = 1\n', "dns_list.answers", "whole number"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    complaint = refused(GOOD + text)[0]
    assert complaint.key == key
    assert problem in complaint.problem
