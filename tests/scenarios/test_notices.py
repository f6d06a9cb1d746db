"""Notices to administrators in the whole service."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from pathlib import Path

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import Peer
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.test_submission import house
from tests.scenarios.whole import MINUTE, STRANGER, Whole, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.queue.memory import MemoryStorage

HOST, OTHER = "192.0.2.1", "192.0.2.2"
OURS = to_host("ours.example", HOST)
NOTICES = '[notices]\nto = ["admin@home.example"]\n'


@virtual
async def test_a_bounce_and_a_refusal_are_told_at_most_once_an_hour() -> None:
    peer = Peer(recipients={"a@ours.example": "550 5.1.1 no such user"})
    async with whole(OURS + NOTICES, {HOST: peer}) as service:
        for _ in range(3):
            await service.take("a@ours.example")
        assert (await rcpt(await service.client(STRANGER), "x@far.example")).startswith("550 5.7.1 ")
        await asyncio.sleep(2 * MINUTE)
        notices = [body for body in await service.inbox() if b"Subject: Notice of mx.example.net" in body]
        assert len(notices) == 1
        assert b"3 messages that came back" in notices[0]
        assert b"(user) " in notices[0]
        assert b"relaying denied" in notices[0]
        await service.take("a@ours.example")
        await asyncio.sleep(30 * MINUTE)
        assert sum(b"Subject: Notice" in body for body in await service.inbox()) == 1
        await asyncio.sleep(35 * MINUTE)
        assert sum(b"Subject: Notice" in body for body in await service.inbox()) == 2


@virtual
async def test_each_class_is_told_to_who_is_named_for_it(tmp_path: Path) -> None:
    peer = Peer(recipients={"a@ours.example": "550 5.1.1 no such user"})
    named = "".join(f'{name} = ["{name}@home.example"]\n' for name in ("bounces", "policy", "auth", "delays"))
    text = house(tmp_path, "any") + OURS + to_host("down.example", OTHER) + "[notices]\n" + named
    async with whole(text, {HOST: peer}, base=tmp_path) as service:
        await service.take("a@ours.example")
        for _ in range(3):
            await service.take("a@down.example")
        assert (await rcpt(await service.client(STRANGER), "x@far.example")).startswith("550 5.7.1 ")
        service.door = service.doors[1]
        client = await service.client()
        assert (await client.say(f"AUTH PLAIN {b64encode(b'!x!wrong'.replace(b'!', bytes(1))).decode()}")).startswith(
            "535"
        )
        await asyncio.sleep(30 * MINUTE)
        notices = [body for body in await service.inbox() if b"Subject: Notice of mx.example.net" in body]
        told = {found[1].decode(): body for body in notices if (found := re.search(rb"To: <?(\w+)@home", body))}
        assert b"came back" in told["bounces"]
        assert b"relaying denied" in told["policy"]
        assert b"login" in told["auth"]
        assert f"smtp://{OTHER}:25".encode() in told["delays"]
        assert b"relaying denied" not in told["bounces"] + told["auth"] + told["delays"]


@virtual
async def test_only_the_kinds_of_bounces_that_are_asked_for_are_told() -> None:
    peer = Peer(recipients={"a@ours.example": "550 5.1.1 no such user"})
    text = OURS + '[notices]\nbounces = ["admin@home.example"]\nbounce_kinds = ["size"]\n'
    async with whole(text, {HOST: peer}) as service:
        await service.take("a@ours.example")
        await asyncio.sleep(2 * MINUTE)
        assert not [body for body in await service.inbox() if b"Subject: Notice" in body]


@virtual
async def test_of_a_host_that_is_down_another_route_tells() -> None:
    other = Peer()
    text = OURS + (
        f'[notices]\ndelays = ["admin@ours.example"]\nroute = "other"\n[[route]]\nname = "other"\nto = "smtp://{OTHER}:25"\n'
    )
    async with whole(text, {OTHER: other}) as service:
        for _ in range(3):
            await service.take("a@ours.example")
        await asyncio.sleep(5 * MINUTE)
        assert accepted_by(other) == ["admin@ours.example"]
        ((_, octets),) = other.accepted
        assert f"smtp://{HOST}:25 rests until".encode() in octets


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('[notices]\nevery = "2h"\n', "notices.every", "nobody to tell"),
        ('[notices]\nto = ["x"]\n', "notices.to", "no mailbox"),
        (NOTICES + 'route = "x"\n', "notices.route", "has the name 'x'"),
        (NOTICES + 'bounce_kinds = ["x"]\n', "notices.bounce_kinds", "not among"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    (complaint,) = refused(GOOD + text)
    assert complaint.key == key
    assert problem in complaint.problem


@virtual
async def test_what_was_gathered_when_the_service_stops_is_told_at_once_or_by_the_next_process() -> None:
    storage, text = MemoryStorage(), OURS + '[notices]\npolicy = ["admin@home.example"]\n'

    async def refused_once(service: Whole, domain: str) -> None:
        assert (await rcpt(await service.client(STRANGER), f"x@{domain}")).startswith("550 5.7.1 ")

    async with whole(text, {HOST: Peer()}, storage=lambda _: storage) as service:
        await refused_once(service, "first.example")  # and the service stops in the same second
    async with whole(text, {HOST: Peer()}, storage=lambda _: storage) as service:
        await asyncio.sleep(5)
        (told,) = [body for body in await service.inbox() if b"Subject: Notice" in body]
        assert b"first.example" in told
        await refused_once(service, "second.example")
    async with whole(text, {HOST: Peer()}, storage=lambda _: storage) as service:
        await asyncio.sleep(5)
        assert sum(b"Subject: Notice" in body for body in await service.inbox()) == 1  # not within the hour
        await asyncio.sleep(62 * MINUTE)
        _, later = [body for body in await service.inbox() if b"Subject: Notice" in body]
        assert b"second.example" in later
