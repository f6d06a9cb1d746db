"""Which way mail goes (`service.mode`), and what a listener demands and permits; `explain` says the same."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest

from tests.config.test_config import GOOD, LISTENER, SERVICE, refused
from tests.deliver.peer import Peer
from tests.scenarios import whole as scene
from tests.scenarios.test_recipients import rcpt
from tests.scenarios.whole import STRANGER, US, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.admin.explanation import Question
from waypost.queue.memory import MemoryStorage

HOST = "192.0.2.1"
OURS = to_host("ours.example", HOST)
FAR = to_host("*", HOST)


def base(service: str = "", listener: str = "") -> str:
    """The ground of all scenarios with more settings of its sections."""
    return scene.BASE.replace("[service]", f"[service]\n{service}").replace("[[listener]]", f"[[listener]]\n{listener}")


@virtual
async def test_outbound_takes_the_mail_of_our_own_clients_alone() -> None:
    only_relay = to_host("ours.example", HOST, 'accept_from = "relay"')
    text = base('mode = "outbound"').replace('to = "capture:"', 'to = "capture:"\naccept_from = "relay"')
    with patch.object(scene, "BASE", text):
        async with whole(only_relay + FAR, {HOST: Peer()}) as service:
            stranger = await service.client(STRANGER)
            said = await stranger.say("MAIL FROM:<x@far.example>")
            assert said == "550 5.7.1 this address takes mail from our own clients only"
            assert (await rcpt(await service.client(US), "x@far.example")).startswith("250 ")
            answer = await service.running.operations.explain(Question(("a@ours.example",), client=STRANGER))
            assert not answer.is_taken
            assert [fact.text for fact in answer.facts if fact.stops] == [
                (
                    "outbound: our own clients' mail alone is taken: 550 5.7.1 this address takes mail from our own "
                    "clients only"
                )
            ]


@virtual
async def test_flush_takes_nothing_and_delivers_what_waits() -> None:
    storage, peer = MemoryStorage(), Peer()
    async with whole(OURS, {}, storage=lambda _: storage) as service:
        await service.take("a@ours.example")
        await asyncio.sleep(1)
        assert len(await service.queue()) == 1
    with patch.object(scene, "BASE", base('mode = "flush"')):
        async with whole(OURS, {HOST: peer}, storage=lambda _: storage) as service:
            client = await service.connect(US)
            assert (await client.hear()).startswith("421 4.3.2 this service takes no mail any more")
            await asyncio.sleep(3600)
            assert accepted_by(peer) == ["a@ours.example"]
            assert await service.queue() == []
            status = await service.running.operations.status()
            assert status.not_ready == ('no mail is taken: service.mode is "flush"',)
            answer = await service.running.operations.explain(Question(("a@ours.example",)))
            assert next((fact.step, fact.stops) for fact in answer.facts) == ("mode", True)


@pytest.mark.parametrize(
    ("mode", "route", "key", "problem"),
    [
        ("inbound", 'domains = ["*"]\nto = "mx:"', "route.to", '"*" leads out'),
        ("inbound", 'domains = ["x.example"]\nto = "mx:x.example"', "route.to", '"x.example" leads out'),
        ("outbound", 'domains = ["x.example"]\nto = "lmtp:///run/x"', "route.accept_from", "is for anyone's mail"),
    ],
)
def test_a_route_whose_direction_is_off_is_an_error_with_its_line_and_remedy(
    mode: str, route: str, key: str, problem: str
) -> None:
    (complaint,) = refused(f'{SERVICE}mode = "{mode}"\n{LISTENER}[[route]]\n{route}\n')
    assert complaint.key == key
    assert problem in complaint.problem
    assert 'mode = "both"' in complaint.remedy
    assert complaint.line > 6


@virtual
async def test_inbound_takes_mail_for_our_own_domains_and_knows_no_way_out() -> None:
    peer = Peer()
    with patch.object(scene, "BASE", base('mode = "inbound"')):
        async with whole(OURS, {HOST: peer}) as service:
            assert (await rcpt(await service.client(US), "x@far.example")).startswith("550 5.1.2 ")
            assert (await (await service.client(STRANGER)).letter("a@ours.example")).startswith("250 ")
            await asyncio.sleep(1)
            assert accepted_by(peer) == ["a@ours.example"]


@virtual
async def test_who_reaches_an_address_of_ours_may_relay_there() -> None:
    with patch.object(scene, "BASE", base(listener='relay = "always"')):
        async with whole(FAR, {HOST: Peer()}) as service:
            assert (await rcpt(await service.client(STRANGER), "x@far.example")).startswith("250 ")
            answer = await service.running.operations.explain(Question(("x@far.example",), client=STRANGER))
            assert answer.journeys[0].is_taken
            assert (
                "whoever reaches it may send anywhere"
                in next(fact for fact in answer.facts if fact.step == "listener").text
            )


@virtual
async def test_where_nobody_may_relay_not_even_our_own_network_may() -> None:
    with patch.object(scene, "BASE", base(listener='relay = "never"')):
        async with whole(FAR, {HOST: Peer()}) as service:
            assert (await rcpt(await service.client(US), "x@far.example")).startswith("550 5.7.1 relaying denied")
            answer = await service.running.operations.explain(Question(("x@far.example",)))
            assert not answer.journeys[0].is_taken


@virtual
async def test_a_listener_demands_a_login_of_all_but_its_exempt_networks() -> None:
    demands = base(listener=f'auth = "required"\nexempt = ["{STRANGER}"]') + '[auth]\nusers = "users"\n'
    with patch.object(scene, "BASE", demands):
        async with whole(OURS, {HOST: Peer()}) as service:
            client = await service.client(US)
            assert (await client.say("MAIL FROM:<a@x.example>")).startswith("530 5.7.0 authentication required")
            assert (await (await service.client(STRANGER)).letter("a@ours.example")).startswith("250 ")
            assert not (await service.running.operations.explain(Question(("a@ours.example",), client=US))).is_taken
            assert (await service.running.operations.explain(Question(("a@ours.example",), client=STRANGER))).is_taken


@virtual
async def test_a_listener_has_limits_of_its_own() -> None:
    with patch.object(scene, "BASE", base(listener='message_size = "64K"\nrecipients = 1')):
        async with whole(OURS, {HOST: Peer()}) as service:
            client = await service.client(STRANGER)
            assert b"SIZE 65536\r\n" in client.said
            await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<a@ours.example>")
            assert (await client.say("RCPT TO:<b@ours.example>")).startswith("452 4.5.3 ")


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('auth = "required"\n', "listener.auth", "needs accounts"),
        ('address = "0.0.0.0:26"\nrelay = "always"\n', "listener.relay", "open relay"),
        ('address = "192.88.99.1:26"\nrelay = "always"\n', "listener.relay", "open relay"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    text = text if "address" in text else f'address = "127.0.0.1:26"\n{text}'
    (complaint,) = refused(f"{GOOD}[[listener]]\n{text}")
    assert complaint.key == key
    assert problem in complaint.problem


@virtual
async def test_without_a_mode_strangers_mail_comes_in_and_our_clients_goes_out() -> None:
    peer = Peer()
    async with whole(FAR, {HOST: peer}) as service:
        assert (await (await service.client(STRANGER)).letter("alice@home.example")).startswith("250 ")
        assert (await (await service.client(US)).letter("x@far.example")).startswith("250 ")
        await asyncio.sleep(1)
        assert len(await service.inbox()) == 1
        assert accepted_by(peer) == ["x@far.example"]
