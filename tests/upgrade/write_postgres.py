"""Writes a queue in PostgreSQL of this release's schema, for later ones to open.

`python -m tests.upgrade.write_postgres`, when the schema is new.
"""

import asyncio
import gzip
import re
from pathlib import Path

from tests.contract.letters import NO_SUCH_USER, accept, settlement, to
from tests.postgres import Server, run, server
from waypost.net.clock import SystemClock
from waypost.queue.postgres.database import migrations
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.storage import Notice

HERE = Path(__file__).parent
HOP = "smtp://192.0.2.1:25"
THEN = 1_790_000_000.0


async def fill(dsn: str) -> None:
    """Two messages that wait, one of them in chunks, and one that a report is due of."""
    storage = PostgresStorage(dsn, SystemClock())
    await storage.open(owner="an earlier release")
    await accept(storage, 1, to("bert@example.org", HOP), octets=b"Subject: old 1\r\n\r\nhello\r\n", now=THEN)
    draft = await storage.draft()
    await draft.write(b"Subject: old 2\r\n\r\n" + b"0123456789" * 30_000 + b"\r\n")
    await accept(storage, 2, to("carl@example.org", HOP), octets=draft, now=THEN)
    (lease,) = (await accept(storage, 3, to("dora@example.org", HOP), now=THEN, claim_for=60)).leases
    assert await storage.settle(settlement(lease, outcome=NO_SUCH_USER, notice=Notice.FAILED, at=THEN + 1))
    await storage.keep("a space", "a key", b"kept", until=2 * THEN)
    await storage.close()


def dump(one: Server, dsn: str) -> bytes:
    """The database as the statements that make it, without settings that another version of the server may not know."""
    file = one.folder / "dump.sql"
    run("pg_dump", "--no-owner", "--no-privileges", "-f", str(file), dsn)
    return re.sub(rb"(?m)^(SET |SELECT pg_catalog\.set_config|\\(un)?restrict ).*\n", b"", file.read_bytes())


def main() -> None:
    """Write the file beside this one."""
    with server() as one:
        dsn = one.database()
        asyncio.run(fill(dsn))
        packed = gzip.compress(dump(one, dsn), mtime=0)
    (HERE / f"postgres-{len(migrations())}.sql.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
