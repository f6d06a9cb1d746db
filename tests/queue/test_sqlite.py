"""What is SQLite's own: groups, failures, full disks, damaged files, and processes killed at any statement."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from tests.contract.letters import HOP, NOW, accept, claim_one, envelope, name, read, settlement, to
from waypost.mail.envelope import InMemory, MessageId, NextHop
from waypost.queue import database, ids, reads
from waypost.queue.database import fault_of
from waypost.queue.octets import CHUNK
from waypost.queue.sqlite import SqliteStorage, _Open
from waypost.queue.storage import Counts, Selection, StorageError, Stored, StoreFault, StoreFaultKind
from waypost.queue.writes import Writes
from waypost.smtp.extension import MailParameters, Return

FIRST = (MessageId(""), -1)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="test")
    yield storage
    await storage.close()


def opened(storage: SqliteStorage) -> _Open:
    assert isinstance(storage._state, _Open)
    return storage._state


async def execute(storage: SqliteStorage, statement: str) -> Sequence[tuple[object, ...]]:
    def run(writes: Writes) -> Sequence[tuple[object, ...]]:
        return writes.connection.execute(statement).fetchall()

    return await opened(storage).writer.submit(run)


async def in_queue(storage: SqliteStorage) -> list[MessageId]:
    return [entry.id for entry in await storage.entries(Selection(), after=FIRST, limit=999, now=NOW)]


# ---- groups
async def test_many_accepts_share_a_commit(storage: SqliteStorage) -> None:
    before = storage.commits
    await asyncio.gather(*(accept(storage, number) for number in range(100)))
    assert storage.commits - before < 20
    assert await storage.counts() == Counts(100, 100, 0, 0)


async def test_many_settlements_share_a_commit_and_a_late_one_harms_none(storage: SqliteStorage) -> None:
    leases = [(await accept(storage, number, claim_for=60)).leases[0] for number in range(20)]
    await storage.release(leases[3:5])
    settled = await asyncio.gather(*(storage.settle(settlement(lease)) for lease in leases))
    assert [number for number, is_settled in enumerate(settled) if not is_settled] == [3, 4]
    assert await in_queue(storage) == [name(3), name(4)]
    assert await storage.counts() == Counts(2, 2, 0, 0)


async def test_where_many_come_together_the_next_ones_are_given_a_moment_to_gather(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        def flush(self) -> None:
            pass

    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    writer = database.Writer(tmp_path / "queue.db", lambda _: Nothing())
    begun, go_on = threading.Event(), threading.Event()

    def hold_up(_: Nothing) -> None:
        begun.set()
        go_on.wait()

    alone = writer.submit(hold_up)
    await asyncio.to_thread(begun.wait)
    together = [writer.submit(lambda _: None) for _ in range(database.COMPANY)]
    go_on.set()
    await asyncio.gather(alone, *together)
    assert pauses == []
    await writer.submit(lambda _: None)
    assert pauses == [database.PAUSE.total_seconds()]
    await writer.submit(lambda _: None)
    assert len(pauses) == 1
    await writer.close()


async def test_one_that_fails_leaves_its_neighbours(storage: SqliteStorage) -> None:
    await accept(storage, 5)
    answers = await asyncio.gather(
        *(storage.accept(envelope(), InMemory(b"x"), id=name(number), now=NOW, claim_until=NOW) for number in range(10))
    )
    assert [number for number, answer in enumerate(answers) if isinstance(answer, StoreFault)] == [5]
    assert await storage.counts() == Counts(10, 10, 0, 0)


async def test_an_accept_whose_caller_goes_away_is_carried_out_and_given_back(storage: SqliteStorage) -> None:
    accepting = asyncio.ensure_future(accept(storage, 1, claim_for=3600))
    await asyncio.sleep(0)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    await storage.release([])  # what was handed in before is done when this is
    assert (await claim_one(storage)).message.id == name(1)


async def test_a_claim_whose_caller_goes_away_is_given_back(storage: SqliteStorage) -> None:
    await accept(storage, 1)
    claiming = asyncio.ensure_future(claim_one(storage, lasting=3600))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    await storage.release([])  # the claim is done when this is,
    await storage.release([])  # and this comes behind the giving back
    assert (await claim_one(storage)).message.id == name(1)


# ---- failures
class FailingConnection:
    """A connection on which one COMMIT fails, as when the disk does."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real
        self.commits_tried = 0

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        if statement == "COMMIT":
            self.commits_tried += 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error
        return self.real.execute(statement, parameters)

    def close(self) -> None:
        self.real.close()


def test_a_disk_without_room_for_the_log_s_index_is_told_as_a_full_one(tmp_path: Path) -> None:
    """It was told as an I/O error, at a start on a disk that others had filled."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    fault = fault_of(error, tmp_path / "queue.db")
    assert (fault.kind, fault.detail) == (StoreFaultKind.FULL, f"no space left for the spool {tmp_path}")


async def test_a_commit_that_failed_is_not_tried_again_and_the_file_is_opened_anew(storage: SqliteStorage) -> None:
    writer = opened(storage).writer
    failing = FailingConnection(writer._connection)
    writer._connection = cast("sqlite3.Connection", failing)
    failed = await asyncio.gather(
        *(storage.accept(envelope(), InMemory(b""), id=name(n), now=NOW, claim_until=NOW) for n in range(3))
    )
    assert {one.kind for one in failed if isinstance(one, StoreFault)} == {StoreFaultKind.FAILED}
    assert "disk I/O error" in failed[0].detail if isinstance(failed[0], StoreFault) else False
    assert failing.commits_tried == 1

    await accept(storage, 7)
    assert await in_queue(storage) == [name(7)]


async def test_a_full_disk_stores_nothing_half_and_recovers(storage: SqliteStorage) -> None:
    await accept(storage, 0)
    (limit,) = (await execute(storage, "PRAGMA page_count"))[0]
    await execute(storage, f"PRAGMA max_page_count = {int(str(limit)) + 4}")
    answers = [
        await storage.accept(envelope(), InMemory(bytes(9000)), id=name(number), now=NOW, claim_until=NOW)
        for number in range(1, 9)
    ]
    taken = [answer.id for answer in answers if isinstance(answer, Stored)]
    refused = [answer for answer in answers if isinstance(answer, StoreFault)]
    assert refused
    assert {one.kind for one in refused} == {StoreFaultKind.FULL}
    assert await in_queue(storage) == [name(0), *taken]

    draft = await storage.draft()
    with pytest.raises(StorageError) as caught:
        await draft.write(bytes(3 * CHUNK))
    assert caught.value.fault.kind is StoreFaultKind.FULL
    assert await execute(storage, "SELECT 1 FROM drafts") == []

    await execute(storage, "PRAGMA max_page_count = 1000000")
    await accept(storage, 20)
    assert (await storage.counts()).messages == len(taken) + 2


async def test_accepting_stops_before_the_disk_is_full_and_settling_goes_on(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="test")
    (lease,) = (await accept(storage, 1, claim_for=60)).leases
    await storage.close()
    storage = SqliteStorage(tmp_path / "spool", reserve=2**60)
    await storage.open(owner="test")
    answers = await asyncio.gather(
        storage.accept(envelope(), InMemory(b""), id=name(2), now=NOW, claim_until=NOW),
        storage.claim(HOP, now=NOW, until=NOW + 9, messages=1),
    )
    assert isinstance(answers[0], StoreFault)
    assert answers[0].kind is StoreFaultKind.FULL
    (lease,) = answers[1]
    assert await storage.settle(settlement(lease))
    assert await storage.counts() == Counts(0, 0, 0, 0)
    await storage.close()


# ---- large messages
async def test_large_octets_are_kept_and_read_in_chunks_and_go_with_the_message(storage: SqliteStorage) -> None:
    draft = await storage.draft()
    for number in range(40):
        await draft.write(bytes([number]) * 65536)
    (lease,) = (await accept(storage, 1, octets=draft, claim_for=60)).leases

    sizes = [len(chunk) async for chunk in lease.octets]
    assert max(sizes) <= CHUNK
    assert sum(sizes) == 40 * 65536
    await storage.settle(settlement(lease))
    assert await execute(storage, "SELECT 1 FROM chunks") == []
    with pytest.raises(StorageError, match="not whole in the spool"):
        await read(lease.octets)


async def test_drafts_nobody_accepted_are_gone_after_a_restart(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="test")
    kept, lost = await storage.draft(), await storage.draft()
    for draft in (kept, lost):
        await draft.write(bytes(600_000))
    await accept(storage, 1, octets=kept)
    await storage.close()

    await storage.open(owner="test")
    assert await execute(storage, "SELECT DISTINCT position >> 20 FROM chunks") == [(1,)]
    assert await execute(storage, "SELECT 1 FROM drafts") == []
    newer = await storage.draft()
    await newer.write(bytes(600_000))
    await accept(storage, 2, octets=newer)
    assert len(await read((await storage.message(name(1)))[1])) == 600_000
    await storage.close()


# ---- opening
async def test_the_files_are_for_us_alone(storage: SqliteStorage, tmp_path: Path) -> None:
    await accept(storage, 1)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "spool").iterdir()}
    assert modes == dict.fromkeys(["lock", "queue.db", "queue.db-shm", "queue.db-wal"], 0o600)


async def test_what_a_250_is_worth(storage: SqliteStorage) -> None:
    assert await execute(storage, "PRAGMA synchronous") == [(2,)]
    assert await execute(storage, "PRAGMA journal_mode") == [("wal",)]


async def test_a_spool_is_one_storages_alone(storage: SqliteStorage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is in use by process"):
        await SqliteStorage(tmp_path / "spool").open(owner="other")
    with pytest.raises(StorageError, match="is open already"):
        await storage.open(owner="test")


async def closed_with(path: Path, statement: str) -> SqliteStorage:
    storage = SqliteStorage(path)
    await storage.open(owner="test")
    await storage.close()
    connection = sqlite3.connect(path / "queue.db", isolation_level=None)
    connection.execute(statement)
    connection.close()
    return storage


async def test_a_spool_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    storage = await closed_with(tmp_path / "spool", "PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=r"was written by a later release \(schema 99, this one knows \d+\)"):
        await storage.open(owner="test")


async def test_a_strangers_database_is_left_alone(tmp_path: Path) -> None:
    storage = await closed_with(tmp_path / "spool", "PRAGMA application_id = 1")
    with pytest.raises(StorageError, match="no spool of ours"):
        await storage.open(owner="test")


@pytest.mark.parametrize("at", [0, 40_000])
async def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, at: int) -> None:
    storage = await closed_with(tmp_path / "spool", "PRAGMA user_version")
    with (tmp_path / "spool" / "queue.db").open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 20_000)
    with pytest.raises(StorageError, match=r"queue\.db is damaged .* restore it from a backup"):
        await storage.open(owner="test")
    with pytest.raises(StorageError, match="damaged"):  # and the lock was given back
        await storage.open(owner="test")


def test_each_migration_is_run_once_in_order(tmp_path: Path) -> None:
    database.prepare(tmp_path / "queue.db")
    database.prepare(tmp_path / "queue.db")
    connection = sqlite3.connect(tmp_path / "queue.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(database.migrations()),)
    connection.close()


_OF_THE_FIRST_FORM = (
    """INSERT INTO messages VALUES (:id, 1000.0, 6,
        '{"reverse_path": "a@example.net", "origin": {"protocol": "ESMTP"}, "size": 6,
          "recipients": [{"forward_path": "b@example.org", "next_hop": "hop"}],
          "parameters": {"size": 6, "ret": "HDRS"}}',
        0, CAST('body' || x'0d0a' AS BLOB))""",
    "INSERT INTO recipients VALUES (:id, 0, 'b@example.org', 'example.org', 'hop', '', 1, 0, '', 9, 9, 0, '', '')",
    "UPDATE counts SET messages = 1, recipients = 1",
)


async def test_a_spool_of_the_first_form_opens_and_its_mail_goes_on(tmp_path: Path) -> None:
    """As an earlier release left it: no column for priorities, and no key for what envelopes have learned since."""
    (tmp_path / "spool").mkdir()
    database.create(tmp_path / "spool" / "queue.db", 1)
    connection = sqlite3.connect(tmp_path / "spool" / "queue.db", isolation_level=None)
    for statement in _OF_THE_FIRST_FORM:
        connection.execute(statement, {"id": ids.to_number(name(1))})
    connection.close()

    storage = SqliteStorage(tmp_path / "spool", allow_ephemeral=True)
    await storage.open(owner="test")
    (lease,) = await storage.claim(NextHop("hop"), now=NOW, until=NOW + 60, messages=10)
    await storage.close()

    assert lease.message.parameters == MailParameters(size=6, ret=Return.HEADERS)
    assert (lease.message.began_at, await read(lease.octets)) == (1000.0, b"body\r\n")


# ---- cost
async def plans(storage: SqliteStorage, statement: str) -> str:
    rows = await execute(storage, f"EXPLAIN QUERY PLAN {statement}")
    return "\n".join(str(row[3]) for row in rows)


@pytest.mark.parametrize(
    "statement",
    [
        reads._READY.replace("?", "1"),
        reads._NEXT_DUE.replace("?", "1"),
        reads._FIND.replace("?", "1"),
    ],
)
async def test_no_question_of_the_dispatchers_walks_a_table(storage: SqliteStorage, statement: str) -> None:
    plan = await plans(storage, statement)
    assert "SEARCH recipients" in plan or "SEARCH addresses" in plan
    assert "SCAN recipients" not in plan
    assert "SCAN addresses" not in plan


async def test_what_is_ready_costs_by_hops_and_a_page_by_its_length(storage: SqliteStorage) -> None:
    """Counted in steps of SQLite's machine, so that no clock decides."""
    recipients = [to(f"user{n}@example.org", f"mx:{n % 4}") for n in range(1000)]
    for number in range(10):
        await accept(storage, number, *recipients)

    def steps(connection: sqlite3.Connection) -> tuple[int, int]:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        connection.set_progress_handler(count, 10)
        try:
            assert len(reads.ready(connection, NOW, 9)) == 4
            of_ready, counted = counted, 0
            assert len(reads.entries(connection, Selection(), (0, 0), 20, NOW)) == 20
            return of_ready, counted
        finally:
            connection.set_progress_handler(None, 0)

    of_ready, of_page = await opened(storage).people.run(steps)
    assert of_ready < 60
    assert of_page < 200


# ---- killed
CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.contract.letters import *
from waypost.queue.sqlite import SqliteStorage

async def main(path, last):
    storage = SqliteStorage(path)
    await storage.open(owner="victim")
    statements = 0
    def trace(statement):
        nonlocal statements
        statements += 1
        if statements == last:
            os.kill(os.getpid(), signal.SIGKILL)
    storage._state.writer._connection.set_trace_callback(trace)
    async def session(first):
        for number in range(first, first + 40, 4):
            octets = b"%d" % number * 3000
            stored = await accept(storage, number, octets=octets, claim_for=60)
            os.write(1, b"accepted %d\\n" % number)
            if number % 2:
                await storage.settle(settlement(stored.leases[0]))
                os.write(1, b"settled %d\\n" % number)
    await asyncio.gather(*map(session, range(4)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.parametrize("statement", [2, 3, 4, 5, 6, 11, 17, 38, 59, 80])
async def test_a_process_killed_at_any_statement_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, statement: int
) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "spool"), str(statement)]
    child = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    told = [line.split() for line in child.stdout.splitlines()]
    accepted = {int(number) for what, number in told if what == "accepted"}
    settled = {int(number) for what, number in told if what == "settled"}

    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="heir")
    left = await in_queue(storage)
    assert len(left) == len(set(left))
    numbers = {number for number in range(40) if name(number) in left}
    assert not numbers & settled
    assert {number for number in accepted if number % 2 == 0} <= numbers
    for number in accepted - numbers:  # settled, though the answer may not have got out
        assert [event.kind for event in await storage.history(name(number))] == ["received", "attempt", "done"]
    leases = await storage.claim(HOP, now=NOW + 1, until=NOW + 60, messages=99)
    assert {lease.message.id for lease in leases} == set(left)
    for number in numbers:
        _, octets = await storage.message(name(number))
        assert await read(octets) == b"%d" % number * 3000
    assert await storage.counts() == Counts(len(left), len(left), 0, 0)
    await storage.close()
