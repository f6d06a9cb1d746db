"""Several nodes on one database: who may act, who takes over, and that nothing is lost or doubled when one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta

import asyncpg
import pytest
import structlog

from tests.contract.letters import HOP, NOW, accept, claim_one, envelope, name, settlement, to
from tests.postgres import Server, forget_signs_of_life, kill, look, until
from waypost.mail.envelope import InMemory, NextHop
from waypost.net.clock import SystemClock
from waypost.queue.postgres import cluster, storage
from waypost.queue.postgres.database import Connection, migrations
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.storage import Counts, Durability, Lease, Selection, StorageError, StoreFault

#: A node that lives for so long: silence shows soon, and a busy machine does not make one.
SHORT = timedelta(seconds=1.5)


@pytest.fixture
async def dsn(postgres_server: Server) -> str:
    return await postgres_server.emptied()


@pytest.fixture
async def node(dsn: str) -> AsyncIterator[Callable[..., Awaitable[PostgresStorage]]]:
    """Makes nodes, which are closed at the end."""
    opened: list[PostgresStorage] = []

    async def make(owner: str, *, dsn: str = dsn, time_to_live: timedelta = timedelta(seconds=60)) -> PostgresStorage:
        one = PostgresStorage(dsn, SystemClock(), connections=4, time_to_live=time_to_live)
        await one.open(owner=owner)
        opened.append(one)
        return one

    yield make
    for one in opened:
        await one.close()


Node = Callable[..., Awaitable[PostgresStorage]]


async def test_two_nodes_that_claim_at_once_get_each_message_once(node: Node) -> None:
    one, two = await node("one:1"), await node("two:2")
    for number in range(30):
        await accept(one, number, to("a@example.org"), to("b@example.org"))

    async def claim(storage: PostgresStorage) -> list[tuple[str, int]]:
        leases = await storage.claim(HOP, now=NOW, until=NOW + 60, messages=4)
        return [(lease.message.id, one.number) for lease in leases for one in lease.recipients]

    taken = [pair for pairs in await asyncio.gather(*(claim(s) for s in (one, two) * 8)) for pair in pairs]
    while rest := await claim(one):
        taken += rest

    assert sorted(taken) == [(name(number), recipient) for number in range(30) for recipient in (0, 1)]


async def test_two_nodes_that_remove_the_last_recipients_at_once_leave_no_message_behind(node: Node) -> None:
    one, two = await node("one:1"), await node("two:2")
    hops = [f"mx:{number}" for number in range(8)]
    for number in range(10):
        await accept(one, number, *(to(f"{hop[3:]}@example.org", hop) for hop in hops))
    leases = [(s, await claim_all(s, hop)) for s, hop in zip((one, two) * 4, hops, strict=True)]

    settled = await asyncio.gather(*(s.settle(settlement(lease)) for s, of_hop in leases for lease in of_hop))

    assert all(settled)
    assert await one.counts() == await two.counts() == Counts(0, 0, 0, 0)
    assert [(await two.history(name(number)))[-1].kind for number in range(10)] == ["done"] * 10


async def claim_all(storage: PostgresStorage, hop: str) -> Sequence[Lease]:
    return await storage.claim(NextHop(hop), now=NOW, until=NOW + 60, messages=100)


async def test_what_a_dead_node_had_leased_is_anothers_at_once_when_its_silence_is_found(node: Node, dsn: str) -> None:
    dead, heir = await node("dead:1"), await node("heir:2")
    (lease,) = (await accept(dead, 1, claim_for=3600)).leases
    assert await heir.ready(NOW, limit=9) == []

    await kill(dead)
    await forget_signs_of_life(dsn)
    await look(heir)

    assert (await claim_one(heir)).message.id == lease.message.id


async def test_the_history_of_what_was_taken_over_says_so_once_and_that_it_may_come_twice(node: Node, dsn: str) -> None:
    one, two = await node("one:1"), await node("two:2")
    await accept(one, 0, to("a@example.org"), to("b@example.org"), claim_for=3600)
    await accept(one, 1, to("a@example.org"))
    await kill(one)
    await forget_signs_of_life(dsn)
    for _ in range(2):
        await look(two)

    events = [event for event in await two.history(name(0)) if event.kind == "operator"]
    assert [event.text for event in events] == [
        "taken over from one:1, which fell silent; if it was just sending this, a second copy may arrive"
    ]
    assert events[0].details["recipients"] == ["a@example.org", "b@example.org"]
    assert [event.kind for event in await two.history(name(1))] == ["received"]


async def test_a_node_that_dies_is_found_out_without_anybody_asking(node: Node) -> None:
    dead, heir = await node("dead:1", time_to_live=SHORT), await node("heir:2", time_to_live=SHORT)
    told = asyncio.Event()
    heir.news = told.set
    await accept(dead, 1, claim_for=3600)

    await kill(dead)

    async with asyncio.timeout(30):
        while not await heir.ready(NOW, limit=9):
            told.clear()
            await told.wait()


async def test_a_node_that_stalls_past_its_time_neither_sends_nor_settles_what_another_has_taken(
    node: Node, dsn: str
) -> None:
    stalled, heir = await node("stalled:1"), await node("heir:2")
    (lease,) = (await accept(stalled, 1, claim_for=3600)).leases
    assert stalled.holds(lease)

    stalled._opened().members._alive_until = 0.0  # its own clock has run on, as it does under SIGSTOP
    assert not stalled.holds(lease)
    await forget_signs_of_life(dsn)
    await look(heir)
    newer = await claim_one(heir)

    assert not await stalled.settle(settlement(lease))
    assert heir.holds(newer)
    assert await heir.settle(settlement(newer))


async def test_a_node_that_stalled_may_settle_what_nobody_has_taken_yet(node: Node, dsn: str) -> None:
    stalled, heir = await node("stalled:1"), await node("heir:2")
    (lease,) = (await accept(stalled, 1, claim_for=3600)).leases
    await forget_signs_of_life(dsn)
    await look(heir)

    assert await stalled.settle(settlement(lease))
    assert await heir.counts() == Counts(0, 0, 0, 0)


async def test_a_node_taken_for_dead_begins_anew_under_another_epoch(node: Node, dsn: str) -> None:
    stalled, heir = await node("stalled:1", time_to_live=SHORT), await node("heir:2")
    (lease,) = (await accept(stalled, 1, claim_for=3600)).leases
    await forget_signs_of_life(dsn)
    await look(heir)

    await until(lambda: stalled._opened().members.epoch != lease.epoch)

    assert not stalled.holds(lease)
    (newer,) = (await accept(stalled, 2, claim_for=3600)).leases
    assert stalled.holds(newer)


async def test_a_node_stopped_within_a_transaction_holds_nobody_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, heir = await node("stopped:1", time_to_live=SHORT), await node("heir:2", time_to_live=SHORT)
    (lease,) = (await accept(stopped, 1, claim_for=3600)).leases
    opened = stopped._opened()
    assert opened.database._pool is not None
    within = await opened.database._pool.acquire()
    await within.execute("BEGIN")
    await within.execute("SELECT 1 FROM recipients FOR UPDATE")
    opened.beating.cancel()  # and it says no more
    lost: list[bool] = []
    monkeypatch.setattr(heir._opened().members, "lost", lambda: lost.append(True))
    told = asyncio.Event()
    heir.news = told.set

    async with asyncio.timeout(30):
        while not await heir.ready(NOW, limit=9):
            told.clear()
            await told.wait()

    assert (await claim_one(heir)).message.id == lease.message.id
    assert lost == []
    await kill(stopped)


async def test_a_node_begins_anew_though_what_it_had_cannot_be_taken_over_yet(node: Node, dsn: str) -> None:
    stalled, heir = await node("stalled:1", time_to_live=SHORT), await node("heir:2")
    (lease,) = (await accept(stalled, 1, claim_for=3600)).leases
    holds = await asyncpg.connect(dsn)

    with structlog.testing.capture_logs() as log:
        await holds.execute("BEGIN")
        await holds.execute("SELECT 1 FROM recipients FOR UPDATE")
        await heir._opened().database.run(_bury_all)
        await until(lambda: any("it begins anew" in str(line["event"]) for line in log))
    assert stalled._opened().members.may_act
    assert not stalled.holds(lease)
    await holds.close()


async def _bury_all(connection: Connection) -> None:
    await connection.execute("UPDATE nodes SET ended_at = extract(epoch FROM now())")


async def test_leaving_gives_all_back_at_once(node: Node) -> None:
    leaves, stays = await node("leaves:1"), await node("stays:2")
    await accept(leaves, 1, claim_for=3600)
    await leaves.close()
    assert (await claim_one(stays)).message.id == name(1)


async def test_what_one_node_leaves_undelivered_wakes_the_others(node: Node) -> None:
    one, two = await node("one:1"), await node("two:2")
    told = asyncio.Event()
    two.news = told.set
    await until(lambda: two._opened().members.is_listening)

    await accept(one, 1)  # unclaimed: whoever has room may take it

    await asyncio.wait_for(told.wait(), 30)
    assert (await claim_one(two)).message.id == name(1)


async def test_a_drained_node_takes_no_new_work_and_its_mail_is_the_others(node: Node, dsn: str) -> None:
    one, two = await node("one:1", time_to_live=SHORT), await node("two:2", time_to_live=SHORT)
    assert await cluster.drain(dsn, "one") == 1
    await until(lambda: one._opened().members.is_drained)

    stored = await accept(one, 1, claim_for=3600)

    assert stored.leases == ()
    assert await one.ready(NOW, limit=9) == []
    assert await one.claim(HOP, now=NOW, until=NOW + 60, messages=9) == []
    assert (await claim_one(two)).message.id == name(1)
    assert await cluster.undrain(dsn, "one") == 1
    await until(lambda: not one._opened().members.is_drained)


async def test_the_status_tells_nodes_their_leases_and_who_is_silent(node: Node, dsn: str) -> None:
    one, two = await node("one:1"), await node("two:2")
    await accept(one, 1, claim_for=3600)
    await kill(two)
    await forget_signs_of_life(dsn)
    await one._opened().database.run(one._opened().members._sign)
    await cluster.drain(dsn, "two")

    status = await cluster.status(dsn)

    assert [(n.owner, n.state, n.leases) for n in status.nodes] == [("one:1", "alive", 1), ("two:2", "silent", 0)]
    assert status.nodes[0].version
    assert status.drained == ("two",)
    assert (status.schema_version, status.counts) == (len(migrations()), Counts(1, 1, 0, 0))


async def test_drafts_of_a_dead_node_are_dropped_and_cannot_become_messages(node: Node, dsn: str) -> None:
    stalled, heir = await node("stalled:1"), await node("heir:2")
    draft = await stalled.draft()
    await draft.write(bytes(600_000))
    await forget_signs_of_life(dsn)
    await look(heir)

    refused = await stalled.accept(envelope(), draft, id=name(1), now=NOW, claim_until=NOW)

    assert hasattr(refused, "detail"), "a message without its octets was taken"
    assert await heir.counts() == Counts(0, 0, 0, 0)
    assert await rows(dsn, "chunks") == 0


async def rows(dsn: str, table: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - ours
    finally:
        await connection.close()


async def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    storage = PostgresStorage("postgresql://me:secret@127.0.0.1:1/nothing", SystemClock())
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1/nothing is not to be reached") as caught:
        await storage.open(owner="one")
    assert "secret" not in str(caught.value)


async def test_large_octets_go_with_their_message(node: Node, dsn: str) -> None:
    one = await node("one:1")
    (lease,) = (await accept(one, 1, octets=InMemory(bytes(700_000)), claim_for=60)).leases
    assert await rows(dsn, "chunks") == 3
    await one.settle(settlement(lease))
    assert await rows(dsn, "chunks") == 0


# ---- who is no node
async def test_a_visitor_is_no_node_and_what_it_changes_the_nodes_hear_of(node: Node, dsn: str) -> None:
    one = await node("one:1")
    await accept(one, 0, to("a@example.org"))
    heard: list[bool] = []
    one.news = lambda: heard.append(True)
    await until(lambda: one._opened().members.is_listening)
    visitor = PostgresStorage(dsn, SystemClock(), connections=4, visits=True)
    await visitor.open(owner="command line 7")
    heard.clear()

    assert [found.owner for found in (await cluster.status(dsn)).nodes] == ["one:1"]
    assert await visitor.hold(Selection(), reason="to look at it", now=NOW) == 1
    assert await visitor.unhold(Selection(), now=NOW) == 1
    assert (await visitor.counts()).held == 0
    await visitor.close()
    await until(lambda: bool(heard))
    assert [found.owner for found in (await cluster.status(dsn)).nodes] == ["one:1"]
    assert len(await claim_all(one, HOP)) == 1


async def test_a_visitor_takes_nothing_in_and_claims_nothing(node: Node, dsn: str) -> None:
    await accept(await node("one:1"), 0, to("a@example.org"))
    visitor = PostgresStorage(dsn, SystemClock(), connections=4, visits=True)
    await visitor.open(owner="command line 7")
    try:
        taken = await visitor.accept(envelope(to("a@example.org")), InMemory(b"x"), id=name(5), now=NOW, claim_until=0)
        assert isinstance(taken, StoreFault)
        with pytest.raises(StorageError, match="a node does"):
            await claim_all(visitor, HOP)
    finally:
        await visitor.close()


async def test_a_visitor_makes_no_queue_where_there_is_none(postgres_server: Server) -> None:
    visitor = PostgresStorage(postgres_server.database(), SystemClock(), visits=True)
    with pytest.raises(StorageError, match="holds no queue; start a node on it first"):
        await visitor.open(owner="command line 7")


async def test_what_a_commit_is_worth_is_asked_again_while_the_node_runs(
    node: Node, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await node("one:1")
    before = one.durability
    found = Durability.REPLICATED if before is not Durability.REPLICATED else Durability.FSYNC

    async def changed(connection: object) -> Durability:
        return found

    monkeypatch.setattr(storage, "durability", changed)
    await until(lambda: one.durability is found)


async def test_a_database_without_a_queue_has_no_status_and_nobody_is_drained_there(postgres_server: Server) -> None:
    empty = postgres_server.database()
    for asked in (cluster.status(empty), cluster.drain(empty, "one")):
        with pytest.raises(StorageError, match="holds no queue; start a node on it first"):
            await asked
