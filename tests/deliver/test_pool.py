from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.deliver.peer import ROUTE, Peer, World, Wrong, lease, recipient
from tests.virtual import virtual
from waypost.deliver.pool import PoolLimits
from waypost.mail.outcome import Deferred, Delivered, Rejected
from waypost.route.route import Limits
from waypost.smtp.extension import MailParameters


@virtual
async def test_the_next_message_reuses_the_connection() -> None:
    peer = Peer()
    world = World(peer)
    for _ in range(3):
        assert isinstance((await world.attempt())[0], Delivered)
    assert [verbs.count("MAIL") for verbs in peer.verbs] == [3]
    assert "reusing" in str(world.transcript)
    await world.close()
    assert peer.verbs[0][-1] == "QUIT"


@virtual
async def test_a_connection_idle_for_five_seconds_is_left_with_quit() -> None:
    peer = Peer()
    world = World(peer)
    await world.attempt()
    assert len(world.pool) == 1
    await asyncio.sleep(7)
    assert len(world.pool) == 0
    assert peer.verbs[0][-1] == "QUIT"
    await world.close()


@virtual
async def test_a_connection_that_is_old_is_not_used_again() -> None:
    peer = Peer()
    world = World(peer, pool_limits=PoolLimits(age=timedelta(seconds=10)))
    for _ in range(5):
        await world.attempt()
        await asyncio.sleep(3)
    assert [verbs.count("MAIL") for verbs in peer.verbs] == [4, 1]
    await world.close()


@virtual
async def test_a_connection_carries_no_more_transactions_than_its_route_allows() -> None:
    peer = Peer()
    world = World(peer, route=replace(ROUTE, limits=Limits(messages=2)))
    for _ in range(5):
        await world.attempt()
    assert [verbs.count("MAIL") for verbs in peer.verbs] == [2, 2, 1]
    await world.close()


@virtual
async def test_a_full_pool_takes_leave_of_what_comes_back() -> None:
    peer = Peer()
    world = World(peer, pool_limits=PoolLimits(connections=1))
    await asyncio.gather(world.attempt(), world.attempt())
    assert len(world.pool) == 1
    await world.close()
    assert len(world.pool) == 0


@virtual
async def test_messages_that_need_smtputf8_and_others_do_not_share_a_connection() -> None:
    peer = Peer()
    world = World(peer)
    await world.attempt()
    await world.attempt(lease(parameters=MailParameters(smtputf8=True)))
    assert len(peer.connections) == 2
    await world.close()


@pytest.mark.parametrize("wrong", [Wrong.FIN, Wrong.RST, "421 4.3.2 going down"])
@virtual
async def test_a_reused_connection_that_died_is_replaced_at_the_same_host_at_once(wrong: Wrong | str) -> None:
    peer, second = Peer(plan={"MAIL": ["", wrong]}), Peer()
    world = World(peer, second)
    await world.attempt()
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered), str(world.transcript)
    assert (len(peer.connections), len(peer.accepted), second.connections) == (2, 2, [])
    await world.close()


@virtual
async def test_a_fresh_connection_that_dies_at_mail_is_not_replaced() -> None:
    peer = Peer(always={"MAIL": Wrong.FIN})
    world = World(peer)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert len(peer.connections) == 1
    await world.close()


@virtual
async def test_a_reused_connection_that_was_answered_before_it_died_is_not_taken_for_stale() -> None:
    peer, second = Peer(plan={"RCPT": ["", Wrong.FIN]}, extensions=()), Peer()
    world = World(peer, second)
    await world.attempt()
    assert isinstance((await world.attempt())[0], Delivered)
    assert (len(peer.connections), len(second.accepted)) == (1, 1)
    await world.close()


@virtual
async def test_a_kept_connection_gone_silent_is_replaced_within_a_second_and_makes_no_double() -> None:
    """The whole group up to DATA had been said to it; whatever it makes of that later, it got no body and no dot."""
    peer = Peer(pauses={"MAIL": 0.05}, plan={"MAIL": ["", Wrong.STALL]})
    world = World(peer)
    await world.attempt()
    began = world.clock.monotonic()
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered), str(world.transcript)
    assert world.clock.monotonic() - began == pytest.approx(1.05)
    assert peer.verbs[0][-1] == "MAIL"
    assert (len(peer.connections), len(peer.accepted)) == (2, 2)
    await world.close()


@pytest.mark.parametrize(("pause", "connections"), [(0.9, 1), (2.0, 1), (19.0, 1), (30.0, 2)])
@virtual
async def test_a_host_that_is_slow_by_habit_keeps_its_connection_unless_it_is_very_slow(
    pause: float, connections: int
) -> None:
    peer = Peer(pauses={"MAIL": pause})
    world = World(peer)
    for _ in range(2):
        assert isinstance((await world.attempt())[0], Delivered)
    assert (len(peer.connections), len(peer.accepted)) == (connections, 2)
    await world.close()


@virtual
async def test_a_silent_rset_holds_up_no_settlement() -> None:
    peer = Peer(plan={"RCPT": ["550 5.1.1 nobody"], "RSET": [Wrong.STALL]}, extensions=())
    world = World(peer)
    assert isinstance((await world.attempt())[0], Rejected)
    assert world.clock.monotonic() == pytest.approx(1)
    await world.close()


@virtual
async def test_a_connection_the_peer_closed_while_idle_is_thrown_away_unasked() -> None:
    class Hasty(Peer):
        async def __call__(self, stream: object) -> None:
            task = asyncio.ensure_future(Peer.__call__(self, stream))  # type: ignore[arg-type]  # a Stream, seen as an object
            await asyncio.wait([task], timeout=1)
            task.cancel()

    peer = Hasty()
    world = World(peer)
    await world.attempt()
    await asyncio.sleep(2)
    assert isinstance((await world.attempt())[0], Delivered)
    assert len(peer.connections) == 2
    assert "not reusing the connection" in str(world.transcript)
    assert "of no more use" not in str(world.transcript)
    await world.close()


@virtual
async def test_a_refused_recipient_does_not_cost_the_connection() -> None:
    peer = Peer(plan={"RCPT": ["550 5.1.1 nobody"]})
    world = World(peer)
    assert isinstance((await world.attempt())[0], Rejected)
    assert isinstance((await world.attempt(lease([recipient(0, "other@example.com")])))[0], Delivered)
    assert len(peer.connections) == 1
    await world.close()
