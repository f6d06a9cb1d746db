"""What a route makes of messages in the whole service: only where it is asked for, and never in silence."""

from __future__ import annotations

import asyncio

import pytest

from tests.config.test_config import GOOD, refused
from tests.deliver.peer import Peer
from tests.mail.test_content import DATA, letter, parts, uuencoded
from tests.scenarios.whole import bodies, to_host, whole
from tests.virtual import virtual
from waypost.admin.explanation import Question

HOST, OTHER = "192.0.2.1", "192.0.2.2"
OUT_OF_OFFICE = b"Auto-Submitted: auto-replied\r\nSubject: away\r\n\r\nI am away.\r\n"


@virtual
async def test_content_is_made_over_for_the_route_that_asks_and_no_other() -> None:
    asked, other = Peer(), Peer()
    text = to_host("ours.example", HOST, "uuencode = true", "wrap = 60") + to_host("other.example", OTHER)
    octets = letter(f"Look:\n{uuencoded(DATA)}Bye\n")
    async with whole(text, {HOST: asked, OTHER: other}) as service:
        name = await service.take("a@ours.example", "b@other.example", octets=octets)
        await asyncio.sleep(10)
        (made,) = bodies(asked)
        assert [part.get_payload(decode=True) for part in parts(made)] == [b"Look:\r\nBye\r\n", DATA]
        assert bodies(other) == [octets]
        told = [str(event.details.get("transcript", "")) for event in await service.history(name)]
        assert any("attachments in a text were made parts: a file.bin" in one for one in told)
        answer = await service.running.operations.explain(Question(("a@ours.example",)))
        (fact,) = [fact for fact in answer.journeys[0].legs[0].facts if fact.step == "content"]
        assert fact.text == "uuencode to MIME; lines of 60"
        assert fact.place.startswith("waypost.toml:")


@virtual
async def test_automatic_replies_go_no_further_where_a_route_suppresses_them_and_it_is_told() -> None:
    peer, other = Peer(), Peer()
    text = to_host("ours.example", HOST, 'auto_replies = "suppress"') + to_host("other.example", OTHER)
    async with whole(text, {HOST: peer, OTHER: other}) as service:
        name = await service.take("a@ours.example", "b@other.example", octets=OUT_OF_OFFICE)
        await service.take("a@ours.example")
        await asyncio.sleep(10)
        assert len(bodies(peer)) == 1
        assert bodies(other) == [OUT_OF_OFFICE]
        assert await service.queue() == []
        told = [event.text for event in await service.history(name)]
        assert any("suppresses automatic replies (waypost.toml:" in one for one in told)


@virtual
async def test_a_report_passes_though_automatic_replies_are_suppressed() -> None:
    peer = Peer()
    text = to_host("ours.example", HOST, 'auto_replies = "suppress"')
    report = b"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b--\r\n"
    async with whole(text, {HOST: peer}) as service:
        await service.take("a@ours.example", octets=report)
        await asyncio.sleep(10)
        assert bodies(peer) == [report]


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('charset = "klingon"', "route.charset", "no character set"),
        ('charset = "base64"', "route.charset", "no character set"),
        ("wrap = 9999", "route.wrap", "too much"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    (complaint,) = refused(f'{GOOD}[[route]]\ndomains = ["x.example"]\nto = "smtp://192.0.2.1"\n{text}\n')
    assert complaint.key == key
    assert problem in complaint.problem


def test_what_a_route_that_keeps_mail_wishes_has_no_effect() -> None:
    (complaint,) = refused(f'{GOOD}[[route]]\ndomains = ["x.example"]\nto = "discard:"\nuuencode = true\n')
    assert "has no effect on discard:" in complaint.problem
