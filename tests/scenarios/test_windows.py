"""Delivery windows in the whole service: mail waits untried, nothing expires by it, and all are told until when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import EXTENSIONS, Peer
from tests.scenarios.whole import AUTHOR, HOUR, LETTER, MINUTE, Whole, accepted_by, to_host, whole
from tests.virtual import virtual
from waypost.admin.answers import ActBody, Limiting
from waypost.admin.explanation import Question
from waypost.mail.envelope import NextHop
from waypost.queue.storage import Selection

HOST = "192.0.2.1"
#: The virtual clock begins on Thursday, 2026-01-01, at midnight UTC.
MORNING = to_host("ours.example", HOST, 'hours = ["01:00-02:00"]')
HOP = NextHop(f"smtp://{HOST}:25")


async def reasons(service: Whole) -> list[str]:
    page = await service.running.operations.queue(Selection())
    return [entry.reason for entry in page.entries]


@virtual
async def test_mail_waits_untried_until_the_window_opens_and_names_it() -> None:
    peer = Peer()
    async with whole(MORNING, {HOST: peer}) as service:
        name = await service.take("a@ours.example")
        await asyncio.sleep(30 * MINUTE)
        assert await reasons(service) == [
            "waits for its delivery window, 01:00-02:00 UTC (waypost.toml:23): opens 2026-01-01 01:00 UTC"
        ]
        assert await service.attempts(name) == 0
        (why,) = (await service.running.operations.why(name)).recipients
        assert why.limiting is Limiting.WINDOW
        assert why.text == (await reasons(service))[0]
        (state,) = (await service.running.operations.destinations()).destinations
        assert state.phase.value == "shut"
        answer = await service.running.operations.explain(Question(("a@ours.example",)))
        (fact,) = [fact for fact in answer.journeys[0].legs[0].facts if fact.step == "window"]
        assert fact.place == "waypost.toml:23"
        assert "opens 2026-01-01 01:00 UTC" in fact.text
        await asyncio.sleep(31 * MINUTE)
        assert accepted_by(peer) == ["a@ours.example"]
        await service.take("b@ours.example")
        await asyncio.sleep(1)
        assert accepted_by(peer) == ["a@ours.example", "b@ours.example"]
        await asyncio.sleep(HOUR)
        await service.take("c@ours.example")
        await asyncio.sleep(10 * MINUTE)
        assert len(accepted_by(peer)) == 2


@virtual
async def test_a_shut_window_burns_no_retries_and_gives_nobody_up() -> None:
    schedule = '[retry]\nschedule = ["10m"]\nexpire = "90m"\njitter = 0.0\n'
    async with whole(MORNING, {}, schedule=schedule) as service:
        name = await service.take("a@ours.example")
        await asyncio.sleep(2 * HOUR)
        made = await service.attempts(name)
        assert 5 <= made <= 7
        (entry,) = await service.queue()
        assert datetime.fromtimestamp(entry.due_at, UTC).strftime("%d %H:%M") == "02 01:00"
        await asyncio.sleep(3 * HOUR)
        assert await service.attempts(name) == made
        assert len(await service.queue()) == 1


@virtual
async def test_what_its_author_wants_back_comes_back_in_time_though_the_window_is_shut() -> None:
    peer = Peer(always={"banner": "421 not now"}, extensions=(*EXTENSIONS, "DELIVERBY"))
    async with whole(MORNING, {HOST: peer}) as service:
        await asyncio.sleep(HOUR + 50 * MINUTE)
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}> BY=3600;R", "RCPT TO:<a@ours.example>", "DATA")
        assert (await client.send(LETTER + b".\r\n")).startswith("250 2.0.0 Ok")
        await asyncio.sleep(59 * MINUTE)
        tried = len(peer.connections)
        assert await service.inbox() == []
        await asyncio.sleep(2 * MINUTE)
        (report,) = await service.inbox()
        assert b"Status: 5.4.7" in report
        assert len(peer.connections) == tried
        assert await service.queue() == []


@virtual
async def test_a_window_opens_when_mail_has_waited_and_shuts_when_it_is_gone() -> None:
    peer = Peer()
    async with whole(to_host("ours.example", HOST, 'open_after = "30m"'), {HOST: peer}) as service:
        await service.take("a@ours.example")
        await asyncio.sleep(20 * MINUTE)
        await service.take("b@ours.example")
        assert accepted_by(peer) == []
        assert "on demand" in (await reasons(service))[0]
        await asyncio.sleep(11 * MINUTE)
        assert sorted(accepted_by(peer)) == ["a@ours.example", "b@ours.example"]
        await asyncio.sleep(2 * MINUTE)
        await service.take("c@ours.example")
        await asyncio.sleep(20 * MINUTE)
        assert len(accepted_by(peer)) == 2


@virtual
async def test_a_window_opens_when_enough_messages_wait() -> None:
    peer = Peer()
    text = to_host("ours.example", HOST, 'hours = ["12:00-13:00"]', "open_at = 3")
    async with whole(text, {HOST: peer}) as service:
        for name in ("a", "b"):
            await service.take(f"{name}@ours.example")
        await asyncio.sleep(5 * MINUTE)
        assert accepted_by(peer) == []
        await service.take("c@ours.example")
        await asyncio.sleep(MINUTE)
        assert len(accepted_by(peer)) == 3


@virtual
async def test_an_operator_opens_a_window_by_naming_its_next_hop() -> None:
    peer = Peer()
    async with whole(MORNING, {HOST: peer}) as service:
        await service.take("a@ours.example")
        await asyncio.sleep(MINUTE)
        desk = service.running.operations
        await desk.act("retry", ActBody(everything=True))
        await asyncio.sleep(MINUTE)
        assert accepted_by(peer) == []
        await desk.act("retry", ActBody(next_hop=HOP))
        await asyncio.sleep(MINUTE)
        assert accepted_by(peer) == ["a@ours.example"]


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('hours = ["8-18"]', "route.hours", "are no hours"),
        ('hours = ["08:00-09:00"]\ntime_zone = "Mars/Olympus"', "route.time_zone", "no time zone"),
        ('time_zone = "Europe/Berlin"', "route.time_zone", "no effect without hours"),
        ("open_at = 5", "route.open_at", "wait for ever"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    (complaint,) = refused(f'{GOOD}[[route]]\ndomains = ["x.example"]\nto = "smtp://192.0.2.1"\n{text}\n')
    assert complaint.key == key
    assert problem in complaint.problem


def test_hours_of_a_route_that_delivers_nothing_have_no_effect() -> None:
    (complaint,) = refused(f'{GOOD}[[route]]\ndomains = ["x.example"]\nto = "discard:"\nhours = ["08:00-09:00"]\n')
    assert "has no effect on discard:" in complaint.problem


@pytest.mark.parametrize(
    ("by", "reply"),
    [
        ("1800;R", "550 5.4.7 this recipient's way opens only when BY is over"),
        ("7200;R", "250 "),
        ("1800;N", "250 "),
    ],
)
@virtual
async def test_what_would_come_back_before_the_window_opens_is_refused_at_once(by: str, reply: str) -> None:
    async with whole(MORNING, {HOST: Peer()}) as service:
        client = await service.client()
        said = await client.say(f"MAIL FROM:<{AUTHOR}> BY={by}", "RCPT TO:<a@ours.example>")
        assert said.startswith(reply)


@virtual
async def test_where_mail_may_open_the_window_itself_nobody_knows_that_it_is_too_late() -> None:
    text = to_host("ours.example", HOST, 'hours = ["01:00-02:00"]', 'open_after = "10m"')
    peer = Peer(extensions=(*EXTENSIONS, "DELIVERBY"))
    async with whole(text, {HOST: peer}) as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}> BY=1800;R", "RCPT TO:<a@ours.example>", "DATA")
        await client.send(LETTER + b".\r\n")
        await asyncio.sleep(11 * MINUTE)
        assert accepted_by(peer) == ["a@ours.example"]
