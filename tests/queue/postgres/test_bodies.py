"""Octets of large messages in an object store: there before their message is, gone after it, whatever fails between."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.contract.letters import BUSY, HOP, NOW, claim_one, envelope, name, settlement, to, wait
from tests.postgres import Server, forget_signs_of_life, kill, look
from tests.queue.postgres.store import Door, door, make_bucket
from waypost.mail.envelope import InMemory
from waypost.net import s3
from waypost.net.clock import Instant, SystemClock
from waypost.net.s3 import S3, S3Error
from waypost.queue.moving import move
from waypost.queue.moving_sqlite import SqliteEnd
from waypost.queue.postgres import bodies
from waypost.queue.postgres.bodies import OBJECT, YOUNG, Sweeper
from waypost.queue.postgres.moving import PostgresEnd
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Lease, StorageError, Stored, StoreFault, StoreFaultKind

LARGE = b"0123456789abcdef" * (OBJECT * 5 // 2 // 16)
_PREFIXES = itertools.count(1)

Node = Callable[..., Awaitable[PostgresStorage]]


@pytest.fixture
async def front() -> AsyncIterator[Door]:
    async with door() as one:
        yield one


@pytest.fixture
async def store(front: Door) -> AsyncIterator[S3]:
    """As the test itself sees it: a prefix of its own."""
    one = front.store(SystemClock(), "queue", f"test{next(_PREFIXES)}")
    await make_bucket(one)
    yield one
    await one.close()


@pytest.fixture
async def dsn(postgres_server: Server) -> str:
    return await postgres_server.emptied()


@pytest.fixture
async def node(dsn: str, store: S3) -> AsyncIterator[Node]:
    opened: list[PostgresStorage] = []

    async def make(owner: str = "one:1", inline: int = 1000) -> PostgresStorage:
        own = S3(store.bucket, store._keys, SystemClock())
        one = PostgresStorage(dsn, SystemClock(), connections=4, stores=[own], inline=inline)
        await one.open(owner=owner)
        opened.append(one)
        return one

    yield make
    for one in opened:
        await one.close()


async def accept(storage: PostgresStorage, octets: bytes = LARGE, number: int = 0) -> Stored | StoreFault:
    letter = envelope(to("a@example.org"))
    return await storage.accept(letter, InMemory(octets), id=name(number), now=NOW, claim_until=NOW)


async def objects(store: S3) -> list[str]:
    return [found.name async for page in store.listed() for found in page]


async def read(lease: Lease) -> bytes:
    if isinstance(lease.octets, InMemory):
        return lease.octets.octets
    return b"".join([octets async for octets in lease.octets])


async def none_is_left(store: S3) -> None:
    async with asyncio.timeout(30):
        while not await _is_empty(store):  # noqa: ASYNC110 - a store rings no bell
            await asyncio.sleep(0.05)


async def _is_empty(store: S3) -> bool:
    try:
        return not await objects(store)
    except S3Error:  # the door refuses us, too
        return False


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in trouble is asked again at once, and swept all the time."""
    monkeypatch.setattr(bodies, "SWEEP", timedelta(milliseconds=20))
    monkeypatch.setattr(s3, "PAUSE", timedelta(milliseconds=5))


async def test_large_octets_are_in_the_store_until_their_message_has_gone(node: Node, store: S3) -> None:
    one = await node()
    assert isinstance(await accept(one), Stored)
    assert isinstance(await accept(one, b"x" * 1000, 1), Stored)

    assert len(await objects(store)) == 3
    leases = await one.claim(HOP, now=NOW, until=NOW + 60, messages=2)
    assert [await read(lease) for lease in leases] == [LARGE, b"x" * 1000]
    for lease in leases:
        assert await one.settle(settlement(lease))
    await none_is_left(store)


async def test_a_draft_goes_to_the_store_as_it_comes_and_is_read_by_any_node(node: Node, store: S3) -> None:
    one, two = await node("one:1"), await node("two:2")
    draft = await one.draft()
    for start in range(0, len(LARGE), 300_000):
        await draft.write(LARGE[start : start + 300_000])
    assert len(await objects(store)) == 2
    taken = await one.accept(envelope(to("a@example.org")), draft, id=name(0), now=NOW, claim_until=NOW)
    assert isinstance(taken, Stored)

    assert await read(await claim_one(two)) == LARGE


async def test_a_draft_that_is_thrown_away_leaves_nothing(node: Node, store: S3) -> None:
    one = await node()
    draft = await one.draft()
    await draft.write(LARGE)
    await draft.discard()
    await none_is_left(store)


async def test_a_store_in_trouble_refuses_large_mail_and_takes_small(node: Node, store: S3, front: Door) -> None:
    one = await node()
    front.refuses = 99
    fault = await accept(one)
    assert isinstance(fault, StoreFault)
    assert fault.kind is StoreFaultKind.FAILED
    assert "the store answered 503" in fault.detail
    assert isinstance(await accept(one, b"x", 1), Stored)
    front.refuses = 0
    await none_is_left(store)


async def test_an_answer_lost_after_a_put_costs_nothing(node: Node, front: Door) -> None:
    one = await node()
    front.loses = 2
    assert isinstance(await accept(one), Stored)
    assert await read(await claim_one(one)) == LARGE


async def test_a_read_that_fails_is_tried_again_later_and_one_whose_object_is_lost_is_held(
    node: Node, store: S3, front: Door
) -> None:
    one = await node()
    await accept(one)
    lease = await claim_one(one)
    front.refuses = 99
    with pytest.raises(StorageError, match="503"):
        await read(lease)
    front.refuses = 0
    assert await read(lease) == LARGE

    await store.delete((await objects(store))[1])
    with pytest.raises(StorageError, match="are not whole in the store"):
        await read(lease)
    await one.settle(settlement(lease, outcome=BUSY, then=wait(NOW + 60)))
    assert (await one.counts()).held == 1


async def test_what_a_dead_node_had_begun_to_write_is_deleted_by_another(node: Node, dsn: str, store: S3) -> None:
    one, two = await node("one:1"), await node("two:2")
    draft = await one.draft()
    await draft.write(LARGE)
    assert await objects(store)
    await kill(one)
    await forget_signs_of_life(dsn)
    await look(two)
    await none_is_left(store)


async def test_objects_that_nobody_knows_are_found_once_they_are_old(node: Node, dsn: str, store: S3) -> None:
    one = await node()
    await accept(one)
    kept = await objects(store)
    await store.put("00000000000000ff/000000", b"of a node that died")
    await store.put("somebody else's", b"and no business of ours")

    class Later(SystemClock):
        def now(self) -> Instant:
            return super().now() + YOUNG.total_seconds() + 60

    database = one._opened().database
    assert await Sweeper(database, store, SystemClock()).look_through() == 0
    assert await Sweeper(database, store, Later()).look_through() == 1
    assert await objects(store) == sorted([*kept, "somebody else's"])


async def test_what_could_not_be_deleted_is_deleted_later(node: Node, dsn: str, store: S3, front: Door) -> None:
    one = await node()
    await accept(one)
    lease = await claim_one(one)
    front.refuses = 9
    assert await one.settle(settlement(lease))
    await none_is_left(store)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM unwanted") == 0
    await connection.close()


async def test_who_goes_for_good_deletes_what_is_not_needed_before(
    node: Node, store: S3, front: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SWEEP", timedelta(hours=1))
    one = await node()
    await asyncio.sleep(0)
    await accept(one)
    assert await one.settle(settlement(await claim_one(one)))
    front.refuses = 99
    with pytest.raises(StorageError, match="503"):
        await one.sweep()
    front.refuses = 0
    await one.sweep()
    assert await objects(store) == []


async def test_a_node_without_the_store_says_what_it_lacks(node: Node, dsn: str) -> None:
    await accept(await node())
    bare = PostgresStorage(dsn, SystemClock(), connections=4)
    await bare.open(owner="bare:1")
    with pytest.raises(StorageError, match=r"in an object store; name it as the nodes do"):
        await read(await claim_one(bare))
    await bare.close()


async def test_a_move_takes_octets_from_the_store_and_they_go_from_there(node: Node, store: S3, tmp_path: Path) -> None:
    one = await node()
    await accept(one)
    there = SqliteStorage(tmp_path / "spool")
    await there.open(owner="move")

    async def progress(_: object) -> None:
        pass

    moved = await move(PostgresEnd(one, SystemClock()), SqliteEnd(there), SystemClock(), progress)
    assert moved.messages == 1
    assert await read((await there.claim(HOP, now=NOW, until=NOW + 60, messages=1))[0]) == LARGE
    await there.close()
    await none_is_left(store)
