"""Relays as people use them, in the whole service: chosen by sender, in turn, with limits and manners of their own."""

from __future__ import annotations

import asyncio
import itertools
import re

import pytest

from tests.deliver.peer import Peer
from tests.scenarios.whole import HOUR, MINUTE, Whole, to_host, whole
from tests.virtual import virtual
from waypost.admin.answers import ActBody, Limiting
from waypost.admin.explanation import Question
from waypost.net.stream import Endpoint, Stream
from waypost.queue.memory import MemoryStorage
from waypost.route.state import Phase

GENERAL, BULK, ANN, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
BY_SENDER = (
    to_host("*", GENERAL)
    + to_host("*", BULK, 'name = "bulk"', 'senders = ["news.example", "=home.example"]')
    + to_host("*", ANN, 'name = "ann"', 'senders = ["ann@home.example"]')
    + to_host("inner.example", OTHER)
)


class Counting(Peer):
    """Knows how many connections it had at once."""

    open = most = 0

    async def __call__(self, stream: Stream) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await super().__call__(stream)
        finally:
            self.open -= 1


def peers(*hosts: str) -> dict[str, Peer]:
    return {host: Peer() for host in hosts}


async def route_of(service: Whole, recipient: str, sender: str) -> str:
    """What explain says the route is."""
    answer = await service.running.operations.explain(Question((recipient,), reverse_path=sender))
    return next(fact.text for fact in answer.journeys[0].legs[0].facts if fact.step == "route")


@virtual
async def test_a_route_is_chosen_by_the_sender_and_explain_says_which() -> None:
    hosts = peers(GENERAL, BULK, ANN, OTHER)
    async with whole(BY_SENDER, hosts) as service:
        for sender, host in (
            ("x@far.example", GENERAL),
            ("x@a.news.example", BULK),
            ("bob@home.example", BULK),
            ("x@sub.home.example", GENERAL),
            ("Ann@home.example", ANN),
        ):
            before = len(hosts[host].accepted)
            await service.take("you@world.example", author=sender)
            await asyncio.sleep(5)
            assert len(hosts[host].accepted) == before + 1, sender
            assert host in await route_of(service, "you@world.example", sender)


@virtual
async def test_a_more_specific_domain_goes_before_the_sender() -> None:
    hosts = peers(GENERAL, BULK, ANN, OTHER)
    async with whole(BY_SENDER, hosts) as service:
        await service.take("you@inner.example", author="ann@home.example")
        await asyncio.sleep(5)
        assert len(hosts[OTHER].accepted) == 1


@virtual
async def test_mail_queued_for_a_senders_route_stays_there_after_a_restart() -> None:
    storage = MemoryStorage()
    async with whole(BY_SENDER, {}, storage=lambda _: storage) as service:
        await service.take("you@world.example", author="ann@home.example")
        await asyncio.sleep(5)
    hosts = peers(GENERAL, ANN)
    async with whole(BY_SENDER, hosts, storage=lambda _: storage):
        await asyncio.sleep(HOUR)
    assert [len(hosts[host].accepted) for host in (GENERAL, ANN)] == [0, 1]


@virtual
async def test_one_recipient_may_go_another_way_than_his_domain() -> None:
    hosts = peers(GENERAL, OTHER)
    vip = f'[[route]]\nname = "vip"\naddresses = ["ann@world.example"]\nto = "smtp://{OTHER}:25"\n'
    async with whole(to_host("*", GENERAL) + vip, hosts) as service:
        await service.take("Ann@world.example", "bob@world.example")
        await asyncio.sleep(5)
    assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 1]


@virtual
async def test_by_mx_a_sender_may_have_manners_of_its_own() -> None:
    hosts = peers(GENERAL)
    text = (
        '[[route]]\ndomains = ["*"]\nto = "mx:"\n'
        '[[route]]\nname = "bulk"\ndomains = ["*"]\nto = "mx:"\nsenders = ["news.example"]\nhelo = "bulk.example.net"\n'
    )
    zone = "world.example. 300 MX 10 a.world.example.\na.world.example. 300 A 192.0.2.1\n"
    async with whole(text, hosts, zone=zone) as service:
        await service.take("you@world.example", author="x@news.example")
        await service.take("you@world.example")
        await asyncio.sleep(5)
        (hello, other) = (lines[0] for lines in hosts[GENERAL].connections)
        assert {hello, other} == {"EHLO bulk.example.net", "EHLO mx.example.net"}


@virtual
async def test_servers_with_weights_are_tried_first_in_turn() -> None:
    hosts = peers(GENERAL, BULK)
    text = (
        f'[[route]]\ndomains = ["*"]\nto = ["smtp://{GENERAL}:25", "smtp://{BULK}:25"]\nweights = [3, 1]\n'
        "messages = 1\n"
    )
    async with whole(text, hosts) as service:
        for _ in range(8):
            await service.take("you@world.example")
            await asyncio.sleep(1)
        assert [len(hosts[host].accepted) for host in (GENERAL, BULK)] == [6, 2]


@virtual
async def test_a_rate_spreads_messages_evenly_and_holds_nobody_elses_up() -> None:
    hosts = peers(GENERAL, OTHER)
    async with whole(to_host("*", GENERAL, 'rate = "30/1m"') + to_host("inner.example", OTHER), hosts) as service:
        for _ in range(10):
            await service.take("you@world.example")
        await service.take("you@inner.example")
        await asyncio.sleep(9)
        assert len(hosts[OTHER].accepted) == 1
        assert 4 <= len(hosts[GENERAL].accepted) <= 5
        await asyncio.sleep(12)
        assert len(hosts[GENERAL].accepted) == 10


@virtual
async def test_a_message_too_large_for_its_way_is_refused_at_rcpt_or_reported() -> None:
    hosts = peers(GENERAL)
    async with whole(to_host("*", GENERAL, 'size = "1K"'), hosts) as service:
        client = await service.client()
        await client.say("MAIL FROM:<alice@home.example> SIZE=5000")
        assert (await client.say("RCPT TO:<you@world.example>")).startswith("552 5.3.4 ")
        await service.take(
            "you@world.example", octets=b"Subject: large\r\n\r\n" + b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n"
        )
        await asyncio.sleep(5)
        (report,) = await service.inbox()
        assert b"5.3.4" in report
        assert re.search(rb"has \d{4} octets, and its\s+route takes no more than\s+1024", report)
        assert hosts[GENERAL].accepted == []


@virtual
async def test_a_route_may_have_retry_times_of_its_own() -> None:
    text = to_host("*", GENERAL, 'schedule = ["10s"]', 'expire = "1m"') + to_host("inner.example", OTHER)
    async with whole(text, {}) as service:
        await service.take("you@world.example")
        slow = await service.take("you@inner.example")
        await asyncio.sleep(2 * MINUTE)
        (report,) = await service.inbox()
        assert b"within 1 minute" in report
        assert [entry.id for entry in await service.queue()] == [slow]


@virtual
async def test_a_destination_within_a_route_by_mx_has_its_own_limits() -> None:
    hosts = peers(GENERAL, OTHER)
    text = (
        '[[route]]\ndomains = ["*"]\nto = "mx:"\n'
        '[[destination]]\ndomains = ["slow.example"]\nrate = "6/1m"\nhelo = "slow.example.net"\nexpire = "1h"\n'
    )
    zone = "\n".join(
        f"{name}.example. 300 MX 10 a.{name}.example.\na.{name}.example. 300 A {host}"
        for name, host in (("slow", OTHER), ("world", GENERAL))
    )
    async with whole(text, hosts, zone=zone) as service:
        for _ in range(3):
            await service.take("you@slow.example")
            await service.take("you@world.example")
        await asyncio.sleep(5)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [3, 1]
        assert hosts[OTHER].connections[0][0] == "EHLO slow.example.net"
        answer = await service.running.operations.explain(Question(("x@slow.example",)))
        facts = {fact.step: fact for fact in answer.journeys[0].legs[0].facts}
        assert "one every 10 s" in facts["limits"].text
        assert any("1 hour" in detail or "1h" in detail for detail in facts["retries"].details)


# ---- quotas and fallbacks
@virtual
async def test_a_spent_quota_makes_mail_wait_until_there_is_room_and_the_queue_says_until_when() -> None:
    hosts = peers(GENERAL)
    async with whole(to_host("*", GENERAL, 'quota = ["3/1h"]'), hosts) as service:
        for _ in range(6):
            await service.take("you@world.example")
            await asyncio.sleep(1)
        assert len(hosts[GENERAL].accepted) == 3
        for waits in (await service.running.operations.why("you@world.example")).recipients:
            assert waits.limiting is Limiting.QUOTA
            assert 'the quota of the route "*", 3 messages in 1 hour, is spent' in waits.text
            assert 50 * MINUTE < waits.clears_at - service.clock.now() < 2 * HOUR
        await asyncio.sleep(30 * MINUTE)
        waiting = await service.queue()
        assert [entry.attempts for entry in waiting] == [0, 0, 0]  # nothing goes round in the queue meanwhile
        await asyncio.sleep(90 * MINUTE)
        assert len(hosts[GENERAL].accepted) > 3
        await asyncio.sleep(4 * HOUR)
        assert len(hosts[GENERAL].accepted) == 6


@virtual
async def test_a_message_too_large_for_what_is_left_of_a_quota_waits_alone() -> None:
    hosts = peers(GENERAL)
    async with whole(to_host("*", GENERAL, 'quota = ["5 recipients/1h"]'), hosts) as service:
        await service.take("a@world.example", "b@world.example", "c@world.example")
        await asyncio.sleep(1)
        large = await service.take("d@world.example", "e@world.example", "f@world.example")
        await asyncio.sleep(1)
        await service.take("g@world.example")
        await asyncio.sleep(1)
        assert len(hosts[GENERAL].accepted) == 2
        assert {entry.id for entry in await service.queue()} == {large}


@virtual
async def test_an_operator_may_ask_again_before_a_spent_quota_has_room() -> None:
    hosts = peers(GENERAL)
    async with whole(to_host("*", GENERAL, 'quota = ["1/1h"]'), hosts) as service:
        for _ in range(2):
            await service.take("you@world.example")
            await asyncio.sleep(1)
        (entry,) = await service.queue()
        await service.running.operations.act("retry", ActBody(ids=(entry.id,)))
        await asyncio.sleep(5)
        (waits,) = (await service.running.operations.why("you@world.example")).recipients
        assert waits.limiting is Limiting.QUOTA
        assert len(hosts[GENERAL].accepted) == 1


@virtual
async def test_where_the_fallback_s_quota_is_spent_too_all_waits_for_the_first_that_has_room() -> None:
    hosts = peers(GENERAL, OTHER)
    text = to_host("*", GENERAL, 'quota = ["1/1d"]', 'fallback = ["second"]')
    text += f'[[route]]\nname = "second"\nto = "smtp://{OTHER}:25"\nquota = ["1/1h"]\n'
    async with whole(text, hosts) as service:
        for _ in range(4):
            await service.take("you@world.example")
            await asyncio.sleep(1)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 1]
        for waits in (await service.running.operations.why("you@world.example")).recipients:
            assert waits.limiting is Limiting.QUOTA
            assert "and so is its fallback" in waits.text
            assert waits.clears_at - service.clock.now() < 2 * HOUR
        assert [entry.attempts for entry in await service.queue()] == [0, 0]
        await asyncio.sleep(5 * HOUR)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 3]


@virtual
async def test_a_fallback_keeps_to_its_own_concurrency_whoever_sends_there() -> None:
    hosts = peers(GENERAL)
    slow = hosts[OTHER] = Counting(pauses={"banner": 5.0})
    text = to_host("*", GENERAL, 'quota = ["1/1d"]', 'fallback = ["second"]', "concurrency = 10")
    text += f'[[route]]\nname = "second"\nto = "smtp://{OTHER}:25"\nconcurrency = 2\nmessages = 1\n'
    async with whole(text, hosts) as service:
        for _ in range(9):
            await service.take("you@world.example")
        await asyncio.sleep(MINUTE)
        assert slow.most == 2
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 8]


class Timed(Peer):
    """Knows when each message began."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def __call__(self, stream: Stream) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await super().__call__(stream)


@pytest.mark.parametrize(("rate", "pause"), [("30/1m", 2.0), ("600/1m", 0.1)])
@virtual
async def test_a_fallback_keeps_to_its_own_rate_for_what_spills_there_and_for_its_own_mail_together(
    rate: str, pause: float
) -> None:
    second = Timed()
    hosts = peers(GENERAL) | {OTHER: second}
    text = to_host("*", GENERAL, 'quota = ["1/1d"]', 'fallback = ["second"]')
    text += f'[[route]]\nname = "second"\nto = "smtp://{OTHER}:25"\naddresses = ["you@inner.example"]\n'
    text += f'rate = "{rate}"\nmessages = 1\n'
    async with whole(text, hosts) as service:
        for number in range(21):
            await service.take("you@inner.example" if number % 3 == 1 else "you@world.example")
        await asyncio.sleep(30 * pause)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 20]
        pauses = [after - before for before, after in itertools.pairwise(second.times)]
        assert min(pauses) >= pause * 0.99


@virtual
async def test_a_fallback_that_is_down_rests_and_is_not_tried_for_each_message() -> None:
    hosts = peers(GENERAL)
    text = to_host("*", GENERAL, 'quota = ["1/1d"]', 'fallback = ["second"]')
    text += f'[[route]]\nname = "second"\nto = "smtp://{OTHER}:25"\n'
    async with whole(text, hosts) as service:
        for _ in range(20):
            await service.take("you@world.example")
        await asyncio.sleep(30)
        states = {state.next_hop: state for state in (await service.running.operations.destinations()).destinations}
        (second,) = [state for hop, state in states.items() if OTHER in hop]
        assert second.phase is Phase.RESTING


@virtual
async def test_a_quota_is_one_for_all_routes_of_a_username_and_outlasts_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    account = ('username = "shop"', 'password_env = "SECRET"', 'tls = "required"', 'quota = ["2 recipients/1d"]')
    storage = MemoryStorage()
    text = to_host("*", GENERAL, *account) + to_host("inner.example", OTHER, *account)
    hosts = {host: Peer(extensions=("STARTTLS", "AUTH PLAIN")) for host in (GENERAL, OTHER)}
    async with whole(text, hosts, storage=lambda _: storage) as service:
        await service.take("a@world.example")
        await service.take("b@inner.example")
        await asyncio.sleep(5)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 1]
    async with whole(text, hosts, storage=lambda _: storage) as service:
        await service.take("c@world.example")
        await asyncio.sleep(5)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [1, 1]
        (entry,) = await service.queue()
        (waits,) = (await service.running.operations.why(entry.id)).recipients
        assert "the quota of shop, 2 recipients in 24 hours, is spent" in waits.text


@virtual
async def test_a_spent_quota_spills_to_the_fallback() -> None:
    hosts = peers(GENERAL, OTHER)
    text = to_host("*", GENERAL, 'quota = ["2/1h"]', 'fallback = ["second"]')
    text += f'[[route]]\nname = "second"\nto = "smtp://{OTHER}:25"\n'
    async with whole(text, hosts) as service:
        names = []
        for _ in range(5):
            names.append(await service.take("you@world.example"))
            await asyncio.sleep(1)
        assert [len(hosts[host].accepted) for host in (GENERAL, OTHER)] == [2, 3]
        assert "by the fallback, second" in str(await service.history(names[-1]))
        answer = await service.running.operations.explain(Question(("x@world.example",)))
        facts = {fact.step: fact for fact in answer.journeys[0].legs[0].facts}
        assert facts["quota"].text == '2 messages in 1 hour, counted for the route "*"'
        assert "second, after 3 attempts, and when the quota is spent" in facts["fallback"].text


@virtual
async def test_what_was_not_sent_does_not_count() -> None:
    hosts: dict[str, Peer] = {}
    async with whole(to_host("*", GENERAL, 'quota = ["1/1d"]'), hosts) as service:
        await service.take("you@world.example")
        await asyncio.sleep(HOUR)
        peer = Peer()
        service.network.hosts[Endpoint(GENERAL, 25)] = peer
        await asyncio.sleep(2 * HOUR)
        assert len(peer.accepted) == 1


@virtual
async def test_after_three_attempts_in_vain_the_fallback_is_asked() -> None:
    hosts = peers(OTHER)
    async with whole(to_host("*", GENERAL, f'fallback = ["smtp://{OTHER}:25"]'), hosts) as service:
        await service.take("you@world.example")
        await asyncio.sleep(5 * MINUTE)
        assert hosts[OTHER].accepted == []
        await asyncio.sleep(HOUR)
        assert len(hosts[OTHER].accepted) == 1
        assert await service.queue() == []


@virtual
async def test_after_a_time_the_fallback_is_asked_though_the_next_hop_rests() -> None:
    hosts = peers(OTHER)
    text = to_host(
        "*", GENERAL, f'fallback = ["smtp://{OTHER}:25"]', 'fallback_after = "10m"', "fallback_attempts = 99"
    )
    async with whole(text, hosts) as service:
        for _ in range(5):
            await service.take("you@world.example")
        await asyncio.sleep(9 * MINUTE)
        assert hosts[OTHER].accepted == []
        await asyncio.sleep(40 * MINUTE)
        assert len(hosts[OTHER].accepted) == 5


@virtual
async def test_where_the_fallback_fails_too_the_next_hop_is_asked_again() -> None:
    hosts: dict[str, Peer] = {}
    async with whole(to_host("*", GENERAL, f'fallback = ["smtp://{OTHER}:25"]'), hosts) as service:
        await service.take("you@world.example")
        await asyncio.sleep(2 * HOUR)
        peer = Peer()
        service.network.hosts[Endpoint(GENERAL, 25)] = peer
        await asyncio.sleep(2 * HOUR)
        assert len(peer.accepted) == 1


@virtual
async def test_a_server_that_fails_is_asked_last_until_it_greets_again() -> None:
    hosts = peers(BULK)
    text = f'[[route]]\ndomains = ["*"]\nto = ["smtp://{GENERAL}:25", "smtp://{BULK}:25"]\nmessages = 1\n'
    async with whole(text, hosts) as service:
        await service.take("you@world.example")
        await asyncio.sleep(5)
        dialled = service.network.dialled.count(Endpoint(GENERAL, 25))
        await service.take("you@world.example")
        await asyncio.sleep(5)
        assert service.network.dialled.count(Endpoint(GENERAL, 25)) == dialled
        first = Peer()
        service.network.hosts[Endpoint(GENERAL, 25)] = first
        await asyncio.sleep(2 * MINUTE)
        await service.take("you@world.example")
        await asyncio.sleep(5)
        assert [len(first.accepted), len(hosts[BULK].accepted)] == [1, 2]


@virtual
async def test_explain_tells_the_limits_of_a_webhook_too() -> None:
    text = '[[route]]\ndomains = ["*"]\nto = "https://app.example/mail"\nconcurrency = 3\n'
    async with whole(text, {}) as service:
        answer = await service.running.operations.explain(Question(("x@world.example",)))
        facts = {fact.step: fact.text for fact in answer.journeys[0].legs[0].facts}
        assert facts["route"].startswith("https://app.example/mail")
        assert facts["limits"].startswith("3 connections at once")


@virtual
async def test_what_spills_into_the_inbox_is_there() -> None:
    """It was called captured, and was nowhere: the route that decided was the one it had spilt from."""
    text = (
        to_host("*", GENERAL, 'quota = ["1/1h"]', 'fallback = ["inbox"]')
        + '[[route]]\nname = "inbox"\nto = "capture:"\n'
    )
    async with whole(text, peers(GENERAL)) as service:
        for _ in range(2):
            await service.take("you@world.example")
            await asyncio.sleep(1)
        assert len(await service.inbox()) == 1
