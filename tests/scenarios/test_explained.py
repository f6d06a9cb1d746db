"""What `explain` says of a recipient is what RCPT is answered, in the same running service."""

from __future__ import annotations

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
