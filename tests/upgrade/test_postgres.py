"""A queue in PostgreSQL that an earlier release wrote is opened, its mail is delivered, and its reports stay."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.contract.letters import OK, read, settlement
from tests.postgres import Server, run
from waypost.mail.envelope import NextHop
from waypost.net.clock import SystemClock
from waypost.queue.postgres.database import migrations, schema_version
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.storage import Notice

HERE = Path(__file__).parent
QUEUES = {path.name: path.read_bytes() for path in sorted(HERE.glob("postgres-*.sql.gz"))}
HOP = NextHop("smtp://192.0.2.1:25")
LATER = 1_790_001_000.0


@asynccontextmanager
async def opened(server: Server, written: str) -> AsyncIterator[tuple[PostgresStorage, str]]:
    """A queue of an earlier release, opened by this one, and where it is."""
    dsn, file = server.database(), server.folder / written.removesuffix(".gz")
    file.write_bytes(gzip.decompress(QUEUES[written]))
    run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), "-d", dsn)
    storage = PostgresStorage(dsn, SystemClock(), connections=2)
    await storage.open(owner="this release")
    try:
        yield storage, dsn
    finally:
        await storage.close()


@pytest.mark.parametrize("written", QUEUES)
async def test_a_queue_of_an_earlier_release_opens_and_its_mail_is_delivered(
    postgres_server: Server, written: str
) -> None:
    async with opened(postgres_server, written) as (storage, dsn):
        leases = await storage.claim(HOP, now=LATER, until=LATER + 60, messages=9)
        bodies = [await read(lease.octets) for lease in leases]
        assert [re.match(rb"Subject: old (\d)\r\n", body) is not None for body in bodies] == [True, True]
        assert sorted(map(len, bodies))[1] > 256 * 1024
        for lease in leases:
            assert await storage.settle(settlement(lease, at=LATER + 1))
        counts = await storage.counts()
        assert (counts.messages, counts.recipients, counts.reports_due) == (1, 0, 1)
        assert [event.kind for event in await storage.history(leases[0].message.id)] == ["received", "attempt", "done"]
        assert await storage.kept("a space", "a key", now=LATER) == b"kept"
        connection = await asyncpg.connect(dsn)
        assert await schema_version(connection) == len(migrations())
        await connection.close()


async def test_reports_that_an_earlier_release_left_stay_and_new_kinds_are_kept_beside_them(
    postgres_server: Server,
) -> None:
    """Schema 3 lets the table of reports have a kind more."""
    async with opened(postgres_server, "postgres-2.sql.gz") as (storage, dsn):
        (old,) = await storage.reports(limit=9)
        assert (old.notice, [str(one.recipient.forward_path) for one in old.recipients]) == (
            Notice.FAILED,
            ["dora@example.org"],
        )
        lease, _ = await storage.claim(HOP, now=LATER, until=LATER + 60, messages=2)
        assert await storage.settle(settlement(lease, outcome=OK, notice=Notice.EXPANDED, at=LATER + 1))
        assert [one.notice for one in await storage.reports(limit=9)] == [Notice.FAILED, Notice.EXPANDED]
        await storage.drop_report(old, why="enough", now=LATER + 2)
        assert [one.notice for one in await storage.reports(limit=9)] == [Notice.EXPANDED]

        connection = await asyncpg.connect(dsn)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("INSERT INTO reports (message, notice) VALUES (7, 'unheard of')")
        await connection.close()


def test_every_schema_there_was_is_among_them_and_the_one_there_is() -> None:
    """Whoever adds a schema writes a queue of it (write_postgres.py): the next release has to open that."""
    kept = {int(re.findall(r"\d+", name)[0]) for name in QUEUES}
    assert kept == set(range(1, len(migrations()) + 1))
