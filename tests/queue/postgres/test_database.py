"""The schema's versions, what a commit is worth, and that nobody needs any of it who has a directory."""

from __future__ import annotations

import subprocess
import sys

import asyncpg
import pytest

from tests.contract.letters import accept, claim_one, settlement
from tests.postgres import Server
from waypost.net.clock import SystemClock
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.storage import Durability, StorageError

LATER = (
    "ALTER TABLE recipients ADD COLUMN colour text NOT NULL DEFAULT 'none'; INSERT INTO schema_versions VALUES (99, {})"
)


async def _later(postgres_server: Server, oldest: int) -> str:
    """A database as a later release leaves it: with a column that we do not know."""
    dsn = postgres_server.database()
    first = PostgresStorage(dsn, SystemClock(), connections=4)
    await first.open(owner="one:1")
    await first.close()
    connection = await asyncpg.connect(dsn)
    await connection.execute(LATER.format(oldest))
    await connection.close()
    return dsn


async def test_the_last_releases_code_works_on_the_next_ones_schema(postgres_server: Server) -> None:
    storage = PostgresStorage(await _later(postgres_server, 1), SystemClock(), connections=4)
    await storage.open(owner="one:1")
    await accept(storage, 1)
    assert await storage.settle(settlement(await claim_one(storage)))
    await storage.close()


async def test_a_schema_that_needs_later_code_is_left_alone(postgres_server: Server) -> None:
    storage = PostgresStorage(await _later(postgres_server, 99), SystemClock(), connections=4)
    with pytest.raises(StorageError, match="written by a later release"):
        await storage.open(owner="one:1")


@pytest.mark.parametrize(
    ("setting", "worth"),
    [("?synchronous_commit=off", Durability.DELAYED), ("?synchronous_commit=on", Durability.DELAYED)],
    ids=["not synchronous", "a server that does not sync"],
)
async def test_a_250_is_worth_what_the_database_says(postgres_server: Server, setting: str, worth: Durability) -> None:
    dsn = postgres_server.database().replace("?", f"{setting}&")
    storage = PostgresStorage(dsn, SystemClock(), connections=4)
    await storage.open(owner="one:1")
    assert storage.durability is worth
    await storage.close()


def test_a_service_on_a_directory_imports_nothing_of_postgresql() -> None:
    imported = "import sys, waypost.app, waypost.__main__; waypost.__main__.program(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)  # noqa: S603
    modules = done.stdout.split()
    assert "waypost.queue.sqlite" in modules
    assert [one for one in modules if one.startswith(("asyncpg", "waypost.queue.postgres"))] == []
