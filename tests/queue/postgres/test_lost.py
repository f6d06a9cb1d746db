"""The database lost while a message is taken: what its client is told, and that it enters once or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.letters import NOW, accept, claim_one, envelope, name, settlement
from tests.postgres import Server, until
from tests.queue.postgres.proxy import Proxy, proxy
from waypost.mail.envelope import InMemory
from waypost.net.clock import SystemClock
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.storage import Counts, StorageError, Stored, StoreFault, StoreFaultKind

SHORT = timedelta(seconds=1.5)


@pytest.fixture
async def line(postgres_server: Server) -> AsyncIterator[Proxy]:
    await postgres_server.emptied()
    async with proxy(Path(postgres_server.folder) / ".s.PGSQL.5432") as one:
        yield one


def _node(postgres_server: Server, line: Proxy, patience: float = 20.0) -> PostgresStorage:
    database = postgres_server._shared.partition("?")[0].rpartition("/")[2]
    dsn = f"postgresql://waypost@127.0.0.1:{line.port}/{database}?sslmode=disable"
    clock = SystemClock()
    return PostgresStorage(dsn, clock, connections=4, time_to_live=SHORT, patience=timedelta(seconds=patience))


async def _take(storage: PostgresStorage, number: int = 1) -> Stored | StoreFault:
    return await storage.accept(envelope(), InMemory(b"x"), id=name(number), now=NOW, claim_until=NOW + 3600)


async def test_a_commit_whose_answer_was_lost_is_recognised_and_the_message_enters_once(
    postgres_server: Server, line: Proxy
) -> None:
    storage = _node(postgres_server, line)
    await storage.open(owner="one:1")
    await accept(storage, 1)  # the statement is prepared now, and what follows is its execution alone

    line.cuts_after = lambda octets: line.cut == 0 and name_of_second in octets
    stored = await _take(storage, 2)

    assert line.cut == 1
    assert isinstance(stored, Stored)
    assert await storage.counts() == Counts(2, 2, 0, 0)
    (lease,) = stored.leases
    assert await storage.settle(settlement(lease))
    await storage.close()


name_of_second = (int(NOW * 1000) + 2 << 21).to_bytes(8, "big")


async def test_a_database_that_stays_away_is_a_451_and_what_it_had_stored_is_dropped_when_it_is_back(
    postgres_server: Server, line: Proxy
) -> None:
    storage = _node(postgres_server, line, patience=0.5)
    await storage.open(owner="one:1")
    await accept(storage, 1)

    def cuts(octets: bytes) -> bool:
        found = line.cut == 0 and name_of_second in octets
        if found:
            line.is_open = False
        return found

    line.cuts_after = cuts
    refused = await _take(storage, 2)

    assert isinstance(refused, StoreFault)
    assert refused.kind is StoreFaultKind.FAILED
    other = PostgresStorage(postgres_server._shared, SystemClock(), connections=4)
    await other.open(owner="two:2")
    assert await other.counts() == Counts(2, 2, 0, 0)  # it had been stored, though nobody was told

    line.is_open = True
    await until(lambda: not storage._opened().members.refused)

    assert await other.counts() == Counts(1, 1, 0, 0)
    assert await other.find("bert@example.org", limit=9) == [name(1)]
    await other.close()
    await storage.close()


async def test_a_node_that_is_cut_off_holds_nothing_and_comes_back(postgres_server: Server, line: Proxy) -> None:
    storage = _node(postgres_server, line)
    await storage.open(owner="one:1")
    (lease,) = (await accept(storage, 1, claim_for=3600)).leases
    assert storage.holds(lease)
    back = asyncio.Event()
    await until(lambda: storage._opened().members.is_listening)

    line.cut_off()
    await until(lambda: not storage.holds(lease))
    with pytest.raises(StorageError):
        await storage.counts()
    storage.news = back.set
    line.is_open = True

    await asyncio.wait_for(back.wait(), 30)
    assert await storage.settle(settlement(lease))
    await storage.close()


async def test_a_frozen_line_is_noticed_within_a_nodes_time_to_live(postgres_server: Server, line: Proxy) -> None:
    storage = _node(postgres_server, line)
    await storage.open(owner="one:1")
    (lease,) = (await accept(storage, 1, claim_for=3600)).leases

    line.thawed.clear()
    await until(lambda: not storage.holds(lease))
    line.thawed.set()

    await until(lambda: storage._opened().members.may_act)
    await storage.close()


async def test_after_a_restart_of_the_server_work_goes_on(postgres_server: Server, line: Proxy) -> None:
    storage = _node(postgres_server, line)
    await storage.open(owner="one:1")
    await accept(storage, 1)

    line.cut_off()
    taking = asyncio.create_task(_take(storage, 2))
    await until(lambda: not storage._opened().members.may_act)
    line.is_open = True

    assert isinstance(await taking, Stored)
    assert (await claim_one(storage)).message.id == name(1)
    await storage.close()
