"""A queue in PostgreSQL as the source or the destination of a move (../moving.py); nodes may be at work on it.

Not here: the order of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from waypost.net.clock import Clock, Instant
from waypost.net.s3 import S3
from waypost.queue import record
from waypost.queue.moving import (
    MARK,
    BinnedPart,
    DonePart,
    EventPart,
    Marked,
    Parcel,
    RecipientPart,
    ReportPart,
    StoredPart,
    compared,
)
from waypost.queue.moving_sqlite import addresses_of
from waypost.queue.octets import CHUNK, chunks_of
from waypost.queue.postgres import writes
from waypost.queue.postgres.bodies import in_store
from waypost.queue.postgres.database import Connection
from waypost.queue.postgres.storage import PostgresStorage

_NAMES: Final = """
    SELECT id FROM ((SELECT id FROM messages WHERE id > $1 ORDER BY id LIMIT $2)
    UNION (SELECT message FROM done WHERE message > $1 ORDER BY message LIMIT $2)) AS both_ ORDER BY id LIMIT $2"""
_BUSY: Final = """
    SELECT EXISTS (SELECT 1 FROM recipients WHERE message = $1 AND lease > 0 AND ready_at > $2)
    OR (EXISTS (SELECT 1 FROM reports WHERE message = $1)
        AND EXISTS (SELECT 1 FROM nodes WHERE ended_at = 0 AND epoch <> $3))"""
_RECIPIENT: Final = ", ".join(RecipientPart._fields)
_BINNED: Final = ", ".join(BinnedPart._fields)


class PostgresEnd:
    """One end of a move. The storage is open."""

    def __init__(self, storage: PostgresStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def names(self, after: int, limit: int) -> Sequence[int]:
        return await self._storage.in_transaction(partial(_names, after=after, limit=limit))

    async def mark(self, message: int) -> Marked:
        return await self._storage.in_transaction(
            partial(_mark, message=message, now=self._clock.now(), epoch=self._storage.epoch)
        )

    async def parcel(self, message: int) -> Parcel:
        parcel = partial(_parcel, message=message, stores=self._storage.stores)
        return await self._storage.in_transaction(parcel)

    async def remove(self, message: int) -> None:
        await self._storage.in_transaction(partial(_remove, message=message, stores=self._storage.stores))

    async def kept(self) -> Sequence[tuple[str, str, bytes, Instant]]:
        return await self._storage.in_transaction(_kept)

    async def has(self, message: int) -> bool:
        return await self._storage.in_transaction(partial(_has, message=message))

    async def put(self, parcel: Parcel) -> None:
        draft = self._storage.next_draft()
        await self._storage.in_transaction(partial(_put, parcel=parcel, draft=draft))
        self._storage.tell()

    async def keep_absent(self, kept: Sequence[tuple[str, str, bytes, Instant]]) -> None:
        await self._storage.in_transaction(partial(_keep_absent, kept=kept))


async def _names(connection: Connection, after: int, limit: int) -> list[int]:
    return [row["id"] for row in await connection.fetch(_NAMES, after, limit)]


async def _has(connection: Connection, message: int) -> bool:
    found = "SELECT 1 FROM messages WHERE id = $1 UNION SELECT 1 FROM done WHERE message = $1"
    return bool(await connection.fetch(found, message))


async def _mark(connection: Connection, message: int, now: Instant, epoch: int) -> Marked:
    await connection.execute("SELECT 1 FROM messages WHERE id = $1 FOR UPDATE", message)
    await connection.execute("SELECT 1 FROM recipients WHERE message = $1 ORDER BY number FOR UPDATE", message)
    if not await _has(connection, message):
        return Marked.GONE
    if await connection.fetchval(_BUSY, message, now, epoch):
        return Marked.BUSY
    new = await connection.fetchval("SELECT count(*) FROM recipients WHERE message = $1 AND held = ''", message)
    await connection.execute(
        "UPDATE recipients SET held = $1 || held, lease = 0, ready_at = due_at"
        " WHERE message = $2 AND NOT starts_with(held, $1)",
        MARK,
        message,
    )
    await writes.count(connection, held=new)
    return Marked.DONE


async def _parcel(connection: Connection, message: int, stores: Sequence[S3] = ()) -> Parcel:
    recipients = await connection.fetch(
        f"SELECT {_RECIPIENT} FROM recipients WHERE message = $1 ORDER BY number",  # noqa: S608 - a constant
        message,
    )
    captured = await connection.fetch("SELECT at, recipients FROM captured WHERE message = $1 ORDER BY number", message)
    events = await connection.fetch(
        "SELECT at, kind, text, details FROM events WHERE message = $1 ORDER BY number", message
    )
    done = await connection.fetch("SELECT at, received_at, envelope, attempt FROM done WHERE message = $1", message)
    binned = await connection.fetch(
        f"SELECT {_BINNED} FROM binned WHERE message = $1 ORDER BY number",  # noqa: S608 - a constant
        message,
    )
    return Parcel(
        message,
        await _stored(connection, message, stores),
        tuple(RecipientPart(*row) for row in recipients),
        await _reports(connection, message),
        tuple((at, addresses) for at, addresses in captured),
        tuple(EventPart(*row) for row in events),
        tuple(DonePart(*row) for row in done),
        tuple(BinnedPart(*row) for row in binned),
    )


async def _stored(connection: Connection, message: int, stores: Sequence[S3]) -> tuple[StoredPart, ...]:
    rows = await connection.fetch(
        "SELECT received_at, size, envelope, draft, octets FROM messages WHERE id = $1", message
    )
    return tuple(
        [
            StoredPart(received_at, size, envelope, await _chunks(connection, draft, stores) if draft else octets)
            for received_at, size, envelope, draft, octets in rows
        ]
    )


async def _chunks(connection: Connection, draft: int, stores: Sequence[S3]) -> bytes:
    if draft < 0:
        return b"".join([octets async for octets in in_store(stores, draft)])
    rows = await connection.fetch("SELECT octets FROM chunks WHERE draft = $1 ORDER BY number", draft)
    return b"".join(row["octets"] for row in rows)


async def _reports(connection: Connection, message: int) -> tuple[ReportPart, ...]:
    rows = await connection.fetch("SELECT number, notice FROM reports WHERE message = $1 ORDER BY notice", message)
    parts = []
    for number, notice in rows:
        said = await connection.fetch("SELECT number, details FROM reported WHERE report = $1 ORDER BY number", number)
        parts.append(ReportPart(notice, tuple((one, details) for one, details in said)))
    return tuple(parts)


async def _put(connection: Connection, parcel: Parcel, draft: int) -> None:
    message = parcel.id
    for stored in parcel.stored:
        await _put_stored(connection, message, stored, draft)
    await connection.executemany(
        f"INSERT INTO recipients (message, ready_at, lease, {_RECIPIENT})"  # noqa: S608 - a constant
        " VALUES ($1, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        [(message, part.due_at, *part) for part in parcel.recipients],
    )
    for report in parcel.reports:
        number = await connection.fetchval(
            "INSERT INTO reports (message, notice) VALUES ($1, $2) RETURNING number", message, report.notice
        )
        await connection.executemany(
            "INSERT INTO reported VALUES ($1, $2, $3)", [(number, *recipient) for recipient in report.recipients]
        )
    await connection.executemany(
        "INSERT INTO captured (message, at, recipients) VALUES ($1, $2, $3)",
        [(message, *one) for one in parcel.captured],
    )
    await connection.executemany(
        "INSERT INTO events (message, at, kind, text, details) VALUES ($1, $2, $3, $4, $5)",
        [(message, *event) for event in parcel.events],
    )
    places = ", ".join(f"${number}" for number in range(1, 15))
    await connection.executemany(
        f"INSERT INTO binned (message, {_BINNED}) VALUES ({places})",  # noqa: S608 - constants
        [(message, *one) for one in parcel.binned],
    )
    await connection.executemany(
        "INSERT INTO done VALUES ($1, $2, $3, $4, $5)", [(message, *done) for done in parcel.done]
    )
    await connection.executemany(
        "INSERT INTO addresses VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", addresses_of(parcel)
    )
    await _count(connection, parcel, 1)
    compared(parcel, await _parcel(connection, message))


async def _put_stored(connection: Connection, message: int, stored: StoredPart, draft: int) -> None:
    is_large = len(stored.octets) > CHUNK
    await connection.execute(
        "INSERT INTO messages (id, received_at, size, sender, envelope, draft, acceptance, octets)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        message,
        stored.received_at,
        stored.size,
        writes.text(record.reverse_path_in(stored.envelope).lower()),
        stored.envelope,
        draft if is_large else 0,
        draft,
        b"" if is_large else stored.octets,
    )
    if is_large:
        chunks = [(draft, number, chunk) for number, chunk in chunks_of(stored.octets)]
        await connection.executemany("INSERT INTO chunks VALUES ($1, $2, $3)", chunks)


async def _remove(connection: Connection, message: int, stores: Sequence[S3]) -> None:
    await connection.execute("SELECT 1 FROM messages WHERE id = $1 FOR UPDATE", message)
    parcel = await _parcel(connection, message, stores)
    await connection.execute(
        "INSERT INTO unwanted SELECT draft, size FROM messages WHERE id = $1 AND draft < 0 ON CONFLICT DO NOTHING",
        message,
    )
    await connection.execute(
        "DELETE FROM reported WHERE report IN (SELECT number FROM reports WHERE message = $1)", message
    )
    await connection.execute(
        "DELETE FROM chunks WHERE draft IN (SELECT draft FROM messages WHERE id = $1 AND draft > 0)", message
    )
    for table, column in (
        ("recipients", "message"),
        ("reports", "message"),
        ("captured", "message"),
        ("binned", "message"),
        ("events", "message"),
        ("done", "message"),
        ("messages", "id"),
    ):
        await connection.execute(f"DELETE FROM {table} WHERE {column} = $1", message)  # noqa: S608 - constants
    await connection.executemany(
        "DELETE FROM addresses WHERE period = $1 AND address = $2 AND message = $3", addresses_of(parcel)
    )
    await _count(connection, parcel, -1)


async def _count(connection: Connection, parcel: Parcel, sign: int) -> None:
    held = sum(part.held != "" for part in parcel.recipients)
    await writes.count(
        connection,
        messages=sign * parcel.is_unfinished,
        recipients=sign * len(parcel.recipients),
        held=sign * held,
        reports=sign * len(parcel.reports),
    )


async def _kept(connection: Connection) -> list[tuple[str, str, bytes, Instant]]:
    rows = await connection.fetch("SELECT space, key, value, until FROM kept")
    return [(space, key, value, until) for space, key, value, until in rows]


async def _keep_absent(connection: Connection, kept: Sequence[tuple[str, str, bytes, Instant]]) -> None:
    await connection.executemany("INSERT INTO kept VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", kept)
