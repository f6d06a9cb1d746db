"""Behaviour under trouble, on virtual time: the end while peers stall, destinations that die, come back, or crowd."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.deliver.peer import Peer, Wrong
from tests.deliver.town import Town
from tests.virtual import elapsed, virtual
from waypost.mail.envelope import MessageId
from waypost.mail.outcome import Rejected
from waypost.queue.storage import QueueEntry, RecipientState, Selection

PATIENCE = timedelta(seconds=30)


async def entries(town: Town) -> list[QueueEntry]:
    return list(await town.storage.entries(Selection(), after=(MessageId(""), -1), limit=2000, now=town.clock.now()))


# ---- the end
@pytest.mark.parametrize("state", ["banner", "EHLO", "MAIL", "RCPT", "DATA"])
@virtual
async def test_an_attempt_that_has_sent_no_body_is_cut_off_at_once_and_given_back_untried(state: str) -> None:
    town = Town(Peer(always={state: Wrong.STALL}))
    async with town:
        began = town.clock.now()
        await town.queue("hop0", 3, hand_over=True)
        await asyncio.sleep(5)
        _, took = await elapsed(town.dispatcher.stop(PATIENCE))
        assert took < 1
        after = await entries(town)
        assert [entry.state for entry in after] == [RecipientState.DUE] * 3
        assert [entry.attempts for entry in after] == [0] * 3
        assert [entry.due_at for entry in after] == [began] * 3
        assert town.notes.attempts == []


@virtual
async def test_the_end_waits_for_a_body_on_its_way_and_for_nothing_else() -> None:
    slow, stuck = Peer(pauses={"dot": 10}), Peer(always={"banner": Wrong.STALL})
    town = Town(slow, stuck)
    async with town:
        await town.queue("hop0", 2, hand_over=True)
        await town.queue("hop1", 2, hand_over=True)
        await asyncio.sleep(4)
        _, took = await elapsed(town.dispatcher.stop(PATIENCE))
        assert len(slow.accepted) == 2
        assert 5 < took < 7
        assert [entry.next_hop for entry in await entries(town)] == ["hop1"] * 2


@virtual
async def test_what_was_answered_before_the_cut_stays_answered() -> None:
    peer = Peer(recipients={"no@example.com": "550 5.1.1 nobody"}, always={"DATA": Wrong.STALL})
    town = Town(peer)
    async with town:
        await town.queue("hop0", to=("no@example.com", "yes@example.com"), hand_over=True)
        await asyncio.sleep(4)
        await town.dispatcher.stop(PATIENCE)
        ((_, settled),) = town.notes.attempts
        assert isinstance(settled[0].outcome, Rejected)
        assert [entry.forward_path for entry in await entries(town)] == ["yes@example.com"]
