"""Mail that is submitted, through the whole service: who is named as its author (RFC 6409)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path

from tests.deliver.peer import Peer
from tests.scenarios.whole import AUTHOR, Client, Whole, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.admin.explanation import Question
from waypost.auth.users import hashed, save_users

GENERAL, SHOP, OFFICE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
NAMES = ("shop", "office", "somebody")
FOREIGN = b"From: eve@elsewhere.example\r\nSubject: x\r\n\r\nx\r\n"


def house(base: Path, rule: str) -> str:
    save_users(base / "users", {AUTHOR: hashed(AUTHOR, "sesame")})
    listener = '[[listener]]\naddress = "127.0.0.1:0"\nrole = "submission"\n'
    return f'[auth]\nusers = "users"\nfrom_field = "{rule}"\n{listener}'


async def logged_in(service: Whole, account: str = AUTHOR) -> Client:
    service.door = service.doors[1]
    client = await service.client()
    secret = b64encode(f"\0{account}\0sesame".encode()).decode()
    assert (await client.say(f"AUTH PLAIN {secret}")).startswith("235")
    return client


@virtual
async def test_a_from_that_is_not_the_account_s_is_refused_where_the_house_says_so(tmp_path: Path) -> None:
    async with whole(house(tmp_path, "refuse"), base=tmp_path) as service:
        client = await logged_in(service)
        said = await client.letter("bob@home.example", octets=FOREIGN)
        assert said == f"554 5.7.1 <eve@elsewhere.example> is no address of {AUTHOR}"
        said = await client.letter("bob@home.example", octets=b"From: Alice <alice@home.example>\r\n\r\nx\r\n")
        assert said.startswith("250")
        assert len(await service.inbox()) == 1


@virtual
async def test_or_a_sender_tells_whose_it_is(tmp_path: Path) -> None:
    async with whole(house(tmp_path, "sender"), base=tmp_path) as service:
        assert (await (await logged_in(service)).letter("bob@home.example", octets=FOREIGN)).startswith("250")
        (octets,) = await service.inbox()
        assert f"\r\nSender: {AUTHOR}\r\n".encode() in octets
        assert octets.endswith(FOREIGN)


@virtual
async def test_or_it_is_taken_as_it_is(tmp_path: Path) -> None:
    async with whole(house(tmp_path, "any"), base=tmp_path) as service:
        assert (await (await logged_in(service)).letter("bob@home.example", octets=FOREIGN)).startswith("250")
        assert b"Sender:" not in (await service.inbox())[0]


def two_accounts(base: Path) -> str:
    """Two accounts, each with a next hop of its own for the same recipients; and one that has none."""
    save_users(base / "users", {f"{name}@home.example": hashed(f"{name}@home.example", "sesame") for name in NAMES})
    return (
        '[auth]\nusers = "users"\n[[listener]]\naddress = "127.0.0.1:0"\nrole = "submission"\n'
        + to_host("*", GENERAL)
        + to_host("*", SHOP, 'name = "shop"', 'accounts = ["shop@home.example"]')
        + to_host("*", OFFICE, 'name = "office"', 'accounts = ["office@home.example"]')
    )


@virtual
async def test_each_account_s_mail_goes_by_its_own_next_hop_whatever_its_recipients(tmp_path: Path) -> None:
    hosts = {host: Peer() for host in (GENERAL, SHOP, OFFICE)}
    async with whole(two_accounts(tmp_path), hosts, base=tmp_path) as service:
        for name, host in zip(NAMES, (SHOP, OFFICE, GENERAL), strict=True):
            account = f"{name}@home.example"
            client = await logged_in(service, account)
            octets = f"From: {account}\r\nSubject: x\r\n\r\nx\r\n".encode()
            assert (await client.letter("bob@far.example", author=account, octets=octets)).startswith("250")
            await asyncio.sleep(2)
            assert accepted_by(hosts[host]) == ["bob@far.example"], name
            desk = service.running.operations
            answer = await desk.explain(Question(("bob@far.example",), account=account, reverse_path=account))
            assert host in answer.journeys[0].legs[0].facts[0].text
        assert [len(peer.accepted) for peer in hosts.values()] == [1, 1, 1]
