"""A spool that an earlier release wrote is opened, and its mail is delivered."""

from __future__ import annotations

import contextlib
import gzip
import re
import sqlite3
from pathlib import Path

import pytest

from tests.contract.letters import read, settlement
from waypost.mail.envelope import NextHop
from waypost.queue.database import APPLICATION, migrations, prepare
from waypost.queue.sqlite import SqliteStorage

HERE = Path(__file__).parent
SPOOLS = {path.name: path.read_bytes() for path in sorted(HERE.glob("schema-*.db.gz"))}
HOP = NextHop("smtp://192.0.2.1:25")
LATER = 1_790_001_000.0


@pytest.mark.parametrize("written", SPOOLS)
async def test_a_spool_of_an_earlier_release_opens_and_its_mail_is_delivered(written: str, tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(gzip.decompress(SPOOLS[written]))
    storage = SqliteStorage(tmp_path)
    await storage.open(owner="this release")
    try:
        leases = await storage.claim(HOP, now=LATER, until=LATER + 60, messages=9)
        bodies = [await read(lease.octets) for lease in leases]
        assert [re.match(rb"Subject: old (\d)\r\n", body) is not None for body in bodies] == [True, True]
        assert sorted(map(len, bodies))[1] > 256 * 1024
        for lease in leases:
            assert await storage.settle(settlement(lease, at=LATER + 1))
        assert (await storage.counts()).messages == 0
        assert [event.kind for event in await storage.history(leases[0].message.id)] == ["received", "attempt", "done"]
    finally:
        await storage.close()


def test_every_schema_there_was_is_among_them_and_the_one_there_is() -> None:
    """Whoever adds a schema writes a spool of it (write.py): the next release has to open that."""
    kept = {int(re.findall(r"\d+", name)[0]) for name in SPOOLS}
    assert kept == set(range(2, len(migrations()) + 1))


def test_reports_that_an_earlier_release_left_stay_and_new_kinds_are_kept_beside_them(tmp_path: Path) -> None:
    """Schema 6 copies the table of reports, for SQLite changes no CHECK."""
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as connection:
        for step in migrations()[:5]:
            connection.executescript(step)
        connection.executescript(f"PRAGMA user_version = 5; PRAGMA application_id = {APPLICATION};")
        for number in (7, 9):
            connection.execute("INSERT INTO reports VALUES (?, ?, 'failed')", (number, number))
        connection.commit()
    prepare(tmp_path / "queue.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as connection:
        connection.execute("INSERT INTO reports (message, notice) VALUES (7, 'expanded')")
        rows = connection.execute("SELECT number, message, notice FROM reports ORDER BY number").fetchall()
        assert rows == [(7, 7, "failed"), (9, 9, "failed"), (10, 7, "expanded")]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO reports (message, notice) VALUES (7, 'unheard of')")
