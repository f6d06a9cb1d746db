"""A spool that was damaged, anyhow: what can be read goes on, what cannot is held or named, and nothing stops."""
# ruff: noqa: ASYNC240, S311, S603 - files are what is tested; the dice are to fall alike each time; the child is ours

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.contract.letters import HOP, NO_SUCH_USER, NOW, accept, claim_one, name, read, settlement, to
from waypost.mail.envelope import MessageId
from waypost.queue import salvage
from waypost.queue.pages import PAGE, read_log
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Notice, QueueEntry, Selection, StorageError, StoreFaultKind

FIRST = (MessageId(""), -1)
COUNT = 60
LARGE = range(50, COUNT)
DONE = range(5)


def body(number: int) -> bytes:
    """Small ones stand within a page, some on overflow pages, large ones in chunks; their octets tell them apart."""
    size = 300_000 if number in LARGE else 200 + 500 * (number % 20)
    return b"Subject: %d\r\n\r\n" % number + random.Random(number).randbytes(size)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool as a killed process left it: much in the file, more in the log. Sixty messages, the first five done."""
    place = tmp_path_factory.mktemp("sound")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(place / "spool")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    return place / "spool"


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.contract.letters import *
from tests.queue.test_salvage import *

async def main(path):
    storage = SqliteStorage(path)
    for half in (range(COUNT // 2), range(COUNT // 2, COUNT)):
        await storage.open(owner="victim")
        for number in half:
            await accept(storage, number, to(f"user{number}@example.org"), octets=body(number))
        if 0 in half:
            for lease in await storage.claim(HOP, now=NOW, until=NOW + 60, messages=len(DONE)):
                await storage.settle(settlement(lease))
            await storage.close()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def spool(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "spool"))


@asynccontextmanager
async def opened(spool: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(spool, salvages=True)
    await storage.open(owner="heir")
    try:
        yield storage
    finally:
        await storage.close()


async def entries(storage: SqliteStorage) -> dict[MessageId, QueueEntry]:
    return {entry.id: entry for entry in await storage.entries(Selection(), after=FIRST, limit=999, now=NOW + 1)}


async def left(spool: Path, *, intact: bool = True) -> tuple[set[int], set[int], set[int]]:
    """Which messages are in the queue whole, which are held, and which the reports name as lost.

    `intact`: their octets must be those that were sent; SQLite cannot tell where some within a body were changed.
    """
    async with opened(spool) as storage:
        found = await entries(storage)
        numbers = {number for number in range(COUNT) if name(number) in found}
        held = {number for number in numbers if found[name(number)].reason}
        for number in numbers - held:
            octets = await read((await storage.message(name(number)))[1])
            assert len(octets) == len(body(number))
            assert octets == body(number) or not intact
        assert (await storage.counts()).recipients == len(found)
        assert not set(DONE) & numbers
        leases = await storage.claim(HOP, now=NOW + 1, until=NOW + 60, messages=999)
        assert {lease.message.id for lease in leases} == {name(number) for number in numbers - held}
    told = "\n".join(report.read_text() for report in spool.glob("*.txt"))
    return numbers - held, held, {number for number in range(COUNT) if name(number) in told}


def overwrite(file: Path, at: int, octets: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(octets)


def checkpointed(spool: Path) -> Path:
    """The database, with all of its log taken into it."""
    with closing(sqlite3.connect(spool / "queue.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return spool / "queue.db"


def in_the_queue() -> set[int]:
    return set(range(COUNT)) - set(DONE)


# ---- what kind of damage
async def test_a_sound_spool_is_not_touched(spool: Path) -> None:
    assert await left(spool) == (in_the_queue(), set(), set())
    assert salvage.reports(spool) == []


@pytest.mark.parametrize("octets", [b"\0" * 100, b"\xff" * 16, b"\x5a" * PAGE], ids=["zeros", "magic", "page 1"])
async def test_a_damaged_header_costs_nothing(spool: Path, octets: bytes) -> None:
    overwrite(checkpointed(spool), 0, octets)
    whole, held, lost = await left(spool)
    assert whole == in_the_queue()
    assert (held, lost) == (set(), set())


async def test_an_empty_file_with_a_log_costs_what_was_in_the_file(spool: Path) -> None:
    (spool / "queue.db").write_bytes(b"")
    whole, _, _ = await left(spool)
    assert whole >= set(range(COUNT // 2, COUNT))
    assert "it is empty" in salvage.reports(spool)[0]


async def test_a_missing_file_with_a_log_is_no_new_spool(spool: Path) -> None:
    (spool / "queue.db").unlink()
    whole, _, _ = await left(spool)
    assert whole >= set(range(COUNT // 2, COUNT))


async def test_a_file_that_is_empty_and_alone_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "queue.db").touch()
    with pytest.raises(StorageError, match=r"queue\.db is damaged \(it is empty\)"):
        await SqliteStorage(tmp_path).open(owner="heir")
    async with opened(tmp_path) as storage:
        await accept(storage, 1)
    assert len(salvage.reports(tmp_path)) == 1


async def test_a_truncated_file_costs_what_was_behind_the_cut(spool: Path) -> None:
    with (spool / "queue.db").open("r+b") as file:
        file.truncate((spool / "queue.db").stat().st_size // 2)
    (spool / "queue.db-wal").unlink()
    whole, held, lost = await left(spool)
    assert whole
    assert (whole | held | lost) == set(range(5, COUNT // 2))


# ---- the log
async def test_one_wrong_octet_in_the_log_is_not_taken_for_its_end(spool: Path) -> None:
    """SQLite would open this file without a word, and without most of the messages."""
    log = spool / "queue.db-wal"
    frames = len(read_log(log).frames)
    overwrite(log, 32 + (frames // 3) * (24 + PAGE) + 1000, b"\xa5\x5a")
    with pytest.raises(StorageError, match="is damaged in what had been synced") as caught:
        await SqliteStorage(spool).open(owner="heir")
    assert caught.value.fault.kind is StoreFaultKind.DAMAGED
    whole, held, lost = await left(spool)
    assert len(whole) >= len(in_the_queue()) - 2
    assert (whole | held | lost) == in_the_queue()


async def test_a_damaged_header_of_the_log_costs_nothing(spool: Path) -> None:
    overwrite(spool / "queue.db-wal", 0, b"\xa5" * 32)
    whole, _, _ = await left(spool)
    assert whole == in_the_queue()


async def test_a_torn_tail_of_the_log_is_no_damage(spool: Path) -> None:
    """It was being written when the power went, and nobody was told that it was safe."""
    log = spool / "queue.db-wal"
    commits = [number for number, frame in enumerate(read_log(log).frames) if frame.commits]
    overwrite(log, 32 + (commits[-2] + 1) * (24 + PAGE) + 100, b"\xa5" * 50)
    async with opened(spool) as storage:
        assert set(await entries(storage)) == {name(number) for number in in_the_queue() - {COUNT - 1}}
    assert salvage.reports(spool) == []


# ---- anywhere
@pytest.mark.parametrize("seed", range(15))
async def test_whatever_is_damaged_each_message_is_whole_or_held_or_named(spool: Path, seed: int) -> None:
    dice = random.Random(seed)
    file = checkpointed(spool)
    pages = file.stat().st_size // PAGE
    for _ in range(dice.randint(1, 5)):
        page = dice.randrange(1, pages)
        overwrite(file, page * PAGE, dice.randbytes(dice.choice([8, 100, PAGE])))
    whole, held, lost = await left(spool, intact=False)
    assert in_the_queue() - whole - held - lost == set()
    assert len(whole) > COUNT // 3
    async with opened(spool) as storage:
        await accept(storage, 1000)


async def test_what_is_held_names_its_reason_and_can_be_given_up(spool: Path) -> None:
    with closing(sqlite3.connect(checkpointed(spool))) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'recipients'").fetchone()
    overwrite(spool / "queue.db", (page - 1) * PAGE, b"\xa5" * PAGE)
    async with opened(spool) as storage:
        found = await entries(storage)
        held = [entry for entry in found.values() if entry.reason]
        assert all(entry.reason in {salvage.RECIPIENTS_LOST, salvage.BODY_LOST} for entry in held)
        assert await storage.unhold(Selection(), now=NOW) == len(held)
        assert {one.message.id for one in await storage.claim(HOP, now=NOW + 9, until=NOW + 99, messages=999)} == set(
            found
        )


# ---- the policy, and the act
async def test_where_salvage_is_not_wanted_the_files_stay_as_they_are(spool: Path) -> None:
    overwrite(checkpointed(spool), 0, b"\xff" * 100)
    before = {file.name: file.read_bytes() for file in spool.glob("queue.db*")}
    with pytest.raises(StorageError, match=r"restore it from a backup, or set service\.on_damage"):
        await SqliteStorage(spool).open(owner="heir")
    assert {file.name: file.read_bytes() for file in spool.glob("queue.db*")} == before


async def test_what_was_set_aside_is_kept_and_told_of_until_it_is_removed(spool: Path) -> None:
    overwrite(checkpointed(spool), 0, b"\xff" * 100)
    before = (spool / "queue.db").read_bytes()
    async with opened(spool):
        pass
    (told,) = salvage.reports(spool)
    assert "55 messages with 55 recipients are in the queue again" in told
    assert [file.read_bytes() for file in spool.glob("queue.db.damaged-*Z")] == [before]
    for file in spool.glob("queue.db.damaged-*"):
        file.unlink()
    assert salvage.reports(spool) == []


@pytest.mark.parametrize("step", ["set aside", "log left behind", "half written"])
async def test_killed_while_it_is_salvaged_it_begins_anew(spool: Path, step: str) -> None:
    overwrite(spool / "queue.db", 0, b"\xff" * 100)
    aside = salvage.set_aside(spool / "queue.db")
    if step != "log left behind":
        (spool / "queue.db-wal").rename(aside.with_name(f"{aside.name}-wal"))
    if step == "half written":
        (spool / "queue.db.new").write_bytes(b"half")
    whole, _, _ = await left(spool)
    assert whole == in_the_queue()
    assert len(salvage.reports(spool)) == 1


async def test_reports_that_are_due_and_captured_mail_go_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as storage:
        await accept(storage, 1, to("a@example.org"))
        lease = await claim_one(storage)
        await storage.settle(settlement(lease, outcome=NO_SUCH_USER, notice=Notice.FAILED))
    overwrite(tmp_path / "spool" / "queue.db", 0, b"\xff" * 100)
    async with opened(tmp_path / "spool") as storage:
        (report,) = await storage.reports(limit=9)
        assert report.message.id == name(1)
        assert [event.kind for event in await storage.history(name(1))] == ["received", "attempt"]
