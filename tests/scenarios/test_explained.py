"""What `explain` says of a recipient is what RCPT is answered, in the same running service."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.deliver.peer import Peer
from tests.scenarios.test_recipients import ROUTES, TEAM, rcpt
from tests.scenarios.whole import AUTHOR, STRANGER, US, whole
from tests.virtual import virtual
from waypost.admin.explanation import Question

ADDRESSES = (
    "team@ours.example",
    "alice@ours.example",
    "nobody@ours.example",
    "carol@far.example",
    "postmaster@ours.example",
    "postmaster",
)


@pytest.mark.parametrize("client", [US, STRANGER])
@virtual
async def test_explain_says_of_each_recipient_what_rcpt_is_answered(client: str) -> None:
    async with whole(ROUTES + TEAM, {"192.0.2.1": Peer(), "192.0.2.2": Peer()}) as service:
        question = Question(ADDRESSES, client=client, reverse_path=AUTHOR)
        answer = await service.running.operations.explain(question)
        for journey in answer.journeys:
            session = await service.client(client)
            reply = await rcpt(session, journey.recipient)
            assert reply.startswith(journey.reply[:9]), journey
            await session.say("QUIT")


@pytest.mark.parametrize("client", [US, STRANGER])
@pytest.mark.parametrize("priority", [0, 4, -4])
@virtual
async def test_explain_says_of_a_priority_what_mail_is_answered_and_when_it_is_tried_again(
    priority: int, client: str
) -> None:
    schedule = '[retry]\njitter = 0.0\nurgent_schedule = ["7s"]\n'
    route = '[[route]]\ndomains = ["ours.example"]\nto = "smtp://192.0.2.1:25"\naccept_from = "anyone"\n'
    route += 'schedule = ["11s"]\nnon_urgent_schedule = ["13s"]\n'
    async with whole(route, {"192.0.2.1": Peer(always={"MAIL": "451 not now"})}, schedule=schedule) as service:
        question = Question(("bob@ours.example",), client, reverse_path=AUTHOR, priority=priority)
        answer = await service.running.operations.explain(question)
        session = await service.client(client)
        reply = await session.say(f"MAIL FROM:<{AUTHOR}> MT-PRIORITY={priority}")
        assert ("2.3.6" in reply) is any("2.3.6" in fact.text for fact in answer.facts)
        await session.say("RCPT TO:<bob@ours.example>", "DATA")
        await session.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        await asyncio.sleep(1)
        (entry,) = await service.queue()
        (told,) = [fact.text for fact in answer.journeys[0].legs[0].facts if fact.step == "retries"]
        pause = int(re.findall(r"after (\d+)s,", told)[0])
        assert entry.due_at - service.clock.now() == pytest.approx(pause, abs=1.5)
