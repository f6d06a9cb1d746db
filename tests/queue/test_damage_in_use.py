"""Damage that shows while the spool is in use: one message's is that message's, the spool's is mended on the spot."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.letters import BUSY, HOP, NO_SUCH_USER, NOW, accept, claim_one, name, read, settlement, wait
from waypost.mail.envelope import MessageId
from waypost.queue import ids, salvage, sqlite
from waypost.queue.sqlite import SqliteStorage, _Open
from waypost.queue.storage import Notice, QueueEntry, Selection, StorageError, StoreFaultKind
from waypost.queue.writes import Writes

FIRST = (MessageId(""), -1)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "spool", salvages=True)
    await storage.open(owner="test")
    yield storage
    await storage.close()


async def execute(storage: SqliteStorage, statement: str, *values: object) -> None:
    assert isinstance(storage._state, _Open)
    await storage._state.writer.submit(lambda writes: writes.connection.execute(statement, values))


async def entry(storage: SqliteStorage, number: int) -> QueueEntry:
    (found,) = await storage.entries(Selection(ids=(name(number),)), after=FIRST, limit=9, now=NOW)
    return found


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("UPDATE messages SET envelope = '{\"reverse' WHERE id = ?", "envelope"),
        ("UPDATE recipients SET parameters = 'x' WHERE message = ?", "parameters"),
        ("DELETE FROM messages WHERE id = ?", "row"),
    ],
)
async def test_a_message_that_makes_no_sense_is_held_and_its_neighbours_go(
    storage: SqliteStorage, statement: str, column: str
) -> None:
    for number in range(3):
        await accept(storage, number)
    await execute(storage, statement, ids.to_number(name(1)))
    leases = await storage.claim(HOP, now=NOW, until=NOW + 9, messages=9)
    assert [lease.message.id for lease in leases] == [name(0), name(2)]
    assert (await storage.counts()).held == 1
    if column != "row":
        assert "cannot be read from the spool" in (await entry(storage, 1)).reason
    assert await storage.delete(Selection(ids=(name(1),)), now=NOW, by="test") == 1


async def test_a_report_that_makes_no_sense_keeps_no_other_waiting(storage: SqliteStorage) -> None:
    for number in range(3):
        await accept(storage, number)
    for lease in await storage.claim(HOP, now=NOW, until=NOW + 9, messages=9):
        await storage.settle(settlement(lease, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    await execute(storage, "UPDATE messages SET envelope = '{' WHERE id = ?", ids.to_number(name(1)))
    assert [report.message.id for report in await storage.reports(limit=9)] == [name(0), name(2)]


async def test_a_body_that_is_not_whole_is_held_after_the_attempt_that_found_it(storage: SqliteStorage) -> None:
    await accept(storage, 1, octets=bytes(600_000))
    await accept(storage, 2, octets=bytes(600_000))
    await execute(storage, "DELETE FROM chunks WHERE position & 1048575 = 1 AND position >> 20 = 1")
    first, second = await storage.claim(HOP, now=NOW, until=NOW + 9, messages=9)
    with pytest.raises(StorageError, match="are not whole in the spool"):
        await read(first.octets)
    assert len(await read(second.octets)) == 600_000
    for lease in (first, second):
        assert await storage.settle(settlement(lease, outcome=BUSY, then=wait(NOW + 60)))
    assert "its octets cannot be read" in (await entry(storage, 1)).reason
    assert (await entry(storage, 2)).reason == ""


def corrupt(_: Writes) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorname = "SQLITE_CORRUPT"
    raise error


async def mended(storage: SqliteStorage) -> None:
    await asyncio.gather(*storage._mending)


async def test_a_damaged_tree_is_mended_while_the_service_runs(storage: SqliteStorage, tmp_path: Path) -> None:
    for number in range(40):
        await accept(storage, number)
    (late,) = await storage.claim(HOP, now=NOW, until=NOW + 9, messages=1)
    spoil(tmp_path / "spool" / "queue.db", "recipients_ready")
    assert isinstance(storage._state, _Open)
    with pytest.raises(StorageError) as caught:
        await storage._state.writer.submit(corrupt)
    assert caught.value.fault.kind is StoreFaultKind.DAMAGED
    await mended(storage)

    assert len(salvage.reports(tmp_path / "spool")) == 1
    assert not await storage.settle(settlement(late)), "its lease ended with the old file"
    assert len(await storage.claim(HOP, now=NOW, until=NOW + 9, messages=99)) == 40
    await accept(storage, 100)


def spoil(database: Path, name: str) -> None:
    """Overwrite the root of a tree in the file, behind SQLite's back."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    connection.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


async def test_a_false_alarm_loses_nothing_and_sets_nothing_aside(storage: SqliteStorage, tmp_path: Path) -> None:
    await accept(storage, 1)
    assert isinstance(storage._state, _Open)
    with pytest.raises(StorageError):
        await storage._state.writer.submit(corrupt)
    await mended(storage)
    assert (await claim_one(storage)).message.id == name(1)
    assert salvage.reports(tmp_path / "spool") == []


async def test_it_is_not_mended_again_and_again(storage: SqliteStorage) -> None:
    for times in (1, 0):
        assert isinstance(storage._state, _Open)
        with pytest.raises(StorageError):
            await storage._state.writer.submit(corrupt)
        assert len(storage._mending) == times
        await mended(storage)


async def test_a_spool_that_is_closed_while_it_is_mended_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SqliteStorage(tmp_path / "spool", salvages=True)
    await storage.open(owner="test")
    monkeypatch.setattr(sqlite, "make_ready", failing)
    assert isinstance(storage._state, _Open)
    with pytest.raises(StorageError):
        await storage._state.writer.submit(corrupt)
    await asyncio.sleep(0.05)
    await storage.close()
    monkeypatch.undo()
    await storage.open(owner="test")
    await storage.close()


def failing(*_: object, **__: object) -> None:
    raise StorageError(sqlite._CLOSED)
