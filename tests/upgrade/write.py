"""Writes a spool of this release's schema, for later ones to open: `python -m tests.upgrade.write`, when it is new."""

import asyncio
import gzip
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from tests.contract.letters import accept, to
from waypost.queue.sqlite import SqliteStorage

HOP = "smtp://192.0.2.1:25"
THEN = 1_790_000_000.0


async def fill(spool: Path) -> None:
    """Two messages that wait, one of them in chunks."""
    storage = SqliteStorage(spool, allow_ephemeral=True)
    await storage.open(owner="an earlier release")
    await accept(storage, 1, to("bert@example.org", HOP), octets=b"Subject: old 1\r\n\r\nhello\r\n", now=THEN)
    draft = await storage.draft()
    await draft.write(b"Subject: old 2\r\n\r\n" + b"0123456789" * 30_000 + b"\r\n")
    await accept(storage, 2, to("carl@example.org", HOP), octets=draft, now=THEN)
    await storage.close()


def main() -> None:
    """Write the file beside this one."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(fill(Path(directory)))
        database = Path(directory, "queue.db")
        with closing(sqlite3.connect(database)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("VACUUM")
        packed = gzip.compress(database.read_bytes(), mtime=0)
        Path(__file__).with_name(f"schema-{version}.db.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
