"""Mail that is submitted, through the whole service: who is named as its author (RFC 6409)."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from tests.scenarios.whole import AUTHOR, Client, Whole, whole
from tests.virtual import virtual
from waypost.auth.users import hashed, save_users

FOREIGN = b"From: eve@elsewhere.example\r\nSubject: x\r\n\r\nx\r\n"


def house(base: Path, rule: str) -> str:
    save_users(base / "users", {AUTHOR: hashed(AUTHOR, "sesame")})
    listener = '[[listener]]\naddress = "127.0.0.1:0"\nrole = "submission"\n'
    return f'[auth]\nusers = "users"\nfrom_field = "{rule}"\n{listener}'


async def logged_in(service: Whole) -> Client:
    service.door = service.doors[1]
    client = await service.client()
    secret = b64encode(f"\0{AUTHOR}\0sesame".encode()).decode()
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
