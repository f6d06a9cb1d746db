"""Recipients verified at RCPT by asking the store: in the whole service, with a store that a test scripts."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.deliver.peer import Peer, Wrong
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.whole import MINUTE, STRANGER, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.maps.call_ahead import REST

STORE = "192.0.2.1"
TEXT = to_host("ours.example", STORE) + (
    '[[map]]\nname = "store"\ncall_ahead = "smtp://192.0.2.1:25"\n'
    '[[domain]]\nnames = ["ours.example"]\nusers = ["store"]\nsubaddress = "+"\n'
)
NOBODY = "550 5.1.1 no such user"


def asked(peer: Peer) -> list[str]:
    """The recipients the store was asked about, call by call."""
    return [line for lines in peer.connections for line in lines if "RCPT TO" in line]


@virtual
async def test_who_the_store_does_not_know_is_refused_at_rcpt_and_no_message_is_begun_for_it() -> None:
    store = Peer(recipients={"nobody@ours.example": NOBODY})
    async with whole(TEXT, {STORE: store}) as service:
        client = await service.client(STRANGER)
        assert (await rcpt(client, "nobody@ours.example")).startswith("550 5.1.1 ")
        assert (await client.say("RCPT TO:<alice@ours.example>")).startswith("250 ")
        assert not any("DATA" in line for lines in store.connections for line in lines)
        await client.say("RSET")
        assert (await client.letter("alice@ours.example")).startswith("250 ")
        await asyncio.sleep(1)
        assert accepted_by(store) == ["alice@ours.example"]


@virtual
async def test_an_answer_is_remembered_and_many_clients_are_one_call() -> None:
    store = Peer(recipients={"nobody@ours.example": NOBODY})
    async with whole(TEXT, {STORE: store}) as service:
        clients = [await service.client(f"203.0.113.{number}") for number in range(1, 20)]
        replies = await asyncio.gather(*(rcpt(client, "nobody@ours.example") for client in clients))
        assert all(reply.startswith("550 5.1.1 ") for reply in replies)
        assert len(asked(store)) == 1
        await asyncio.sleep(2 * MINUTE)
        assert (await clients[0].say("RCPT TO:<nobody@ours.example>")).startswith("550 ")
        assert len(asked(store)) == 2


@pytest.mark.parametrize("fault", [Wrong.FIN, Wrong.STALL, Wrong.GARBAGE, "421 4.3.2 not now", "450 4.2.1 later"])
@pytest.mark.parametrize("state", ["RCPT", "MAIL"])
@virtual
async def test_a_store_that_gives_no_answer_makes_the_client_wait(state: str, fault: Wrong | str) -> None:
    async with whole(TEXT, {STORE: Peer(always={state: fault})}) as service:
        assert (await rcpt(await service.client(STRANGER), "alice@ours.example")).startswith("451 4.4.3 ")


@virtual
async def test_where_so_configured_it_costs_nobody_his_mail() -> None:
    text = TEXT.replace('25"\n[[domain]]', '25"\naccept_when_down = true\n[[domain]]')
    async with whole(text, {STORE: Peer(always={"MAIL": "421 4.3.2 not now"})}) as service:
        assert (await rcpt(await service.client(STRANGER), "alice@ours.example")).startswith("250 ")


@virtual
async def test_a_store_that_cannot_be_reached_is_left_alone_for_a_while() -> None:
    async with whole(TEXT, {}) as service:
        client = await service.client(STRANGER)
        await client.say("MAIL FROM:<a@far.example>")
        for number in range(10):
            assert (await client.say(f"RCPT TO:<user{number}@ours.example>")).startswith("451 4.4.3 ")
        assert len(service.network.dialled) == 1
        await asyncio.sleep((REST + timedelta(seconds=1)).total_seconds())
        await client.say("RCPT TO:<user@ours.example>")
        assert len(service.network.dialled) == 2
