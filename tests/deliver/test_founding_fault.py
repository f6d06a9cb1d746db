"""A host that breaks on EHLO: the fault this service was founded on (RFC 5321 §3.2, §3.8)."""

from __future__ import annotations

import pytest

from tests.deliver.peer import Peer, World, Wrong
from tests.virtual import virtual
from waypost.mail.outcome import Delivered

BROKEN = [wrong for wrong in Wrong]


@pytest.mark.parametrize("wrong", BROKEN)
@virtual
async def test_a_single_host_that_breaks_on_ehlo_gets_the_mail_by_helo_in_the_same_attempt(wrong: Wrong) -> None:
    peer = Peer(always={"EHLO": wrong})
    world = World(peer)
    outcomes = await world.attempt()
    print(world.transcript)
    assert isinstance(outcomes[0], Delivered), outcomes
    assert peer.verbs[0] == ["EHLO"]
    assert peer.verbs[1][:3] == ["HELO", "MAIL", "RCPT"]
    assert len(peer.accepted) == 1
    await world.close()
