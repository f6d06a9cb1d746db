"""A spool in a directory as the source or the destination of a move (moving.py): rows of its tables.

It is this process's alone meanwhile, so nobody delivers from it. Not here: the order of steps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from waypost.net.clock import Instant
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
from waypost.queue.octets import CHUNK, chunks_of
from waypost.queue.rows import address_row
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.writes import Writes

_NAMES: Final = """
    SELECT id FROM (SELECT id FROM (SELECT id FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2)
    UNION SELECT message FROM (SELECT message FROM done WHERE message > ?1 ORDER BY message LIMIT ?2))
    ORDER BY id LIMIT ?2"""
_QUEUED: Final = (
    "SELECT id FROM messages WHERE id IN (SELECT message FROM recipients UNION SELECT message FROM reports) ORDER BY id"
)
_RECIPIENT: Final = ", ".join(RecipientPart._fields)
_BINNED: Final = ", ".join(BinnedPart._fields)


def queued_in(directory: Path) -> Iterator[Parcel]:
    """What waits in a spool, as it is at one moment, while whoever has it goes on. Raises: sqlite3.Error."""
    where = f"file:{directory / 'queue.db'}?mode=ro"
    with closing(sqlite3.connect(where, uri=True, timeout=30, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        for (message,) in reading.execute(_QUEUED).fetchall():
            yield parcel_of(reading, message)


class SqliteEnd:
    """One end of a move. The storage is open."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage

    async def names(self, after: int, limit: int) -> Sequence[int]:
        return await self._storage.in_transaction(partial(_names, after, limit))

    async def mark(self, message: int) -> Marked:
        return await self._storage.in_transaction(partial(_mark, message))

    async def parcel(self, message: int) -> Parcel:
        return await self._storage.in_transaction(lambda writes: parcel_of(writes.connection, message))

    async def remove(self, message: int) -> None:
        await self._storage.in_transaction(partial(_remove, message))

    async def kept(self) -> Sequence[tuple[str, str, bytes, Instant]]:
        return await self._storage.in_transaction(
            lambda writes: writes.connection.execute("SELECT space, key, value, until FROM kept").fetchall()
        )

    async def has(self, message: int) -> bool:
        return await self._storage.in_transaction(partial(_has, message))

    async def put(self, parcel: Parcel) -> None:
        draft = self._storage.next_draft()
        await self._storage.in_transaction(partial(_put, parcel, draft))

    async def keep_absent(self, kept: Sequence[tuple[str, str, bytes, Instant]]) -> None:
        await self._storage.in_transaction(
            lambda writes: writes.connection.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)", kept)
        )


def _names(after: int, limit: int, writes: Writes) -> list[int]:
    return [message for (message,) in writes.connection.execute(_NAMES, (after, limit))]


def _has(message: int, writes: Writes) -> bool:
    found = "SELECT 1 FROM messages WHERE id = ?1 UNION SELECT 1 FROM done WHERE message = ?1"
    return bool(writes.connection.execute(found, (message,)).fetchall())


def _mark(message: int, writes: Writes) -> Marked:
    connection = writes.connection
    free = "SELECT count(*) FROM recipients WHERE message = ? AND held = ''"
    (new,) = connection.execute(free, (message,)).fetchone()
    connection.execute(
        "UPDATE recipients SET held = ?1 || held, lease = 0, ready_at = due_at"
        " WHERE message = ?2 AND substr(held, 1, length(?1)) <> ?1",
        (MARK, message),
    )
    connection.execute("UPDATE counts SET held = held + ?", (new,))
    return Marked.DONE


def parcel_of(connection: sqlite3.Connection, message: int) -> Parcel:
    """All that is known of a message."""
    captured = connection.execute("SELECT at, recipients FROM captured WHERE message = ? ORDER BY number", (message,))
    return Parcel(
        message,
        tuple(_stored(connection, message)),
        tuple(_recipients(connection, message)),
        tuple(_reports(connection, message)),
        tuple((at, recipients) for at, recipients in captured),
        tuple(
            EventPart(*row)
            for row in connection.execute(
                "SELECT at, kind, text, details FROM events WHERE message = ? ORDER BY number", (message,)
            )
        ),
        tuple(
            DonePart(*row)
            for row in connection.execute(
                "SELECT at, received_at, envelope, attempt FROM done WHERE message = ?", (message,)
            )
        ),
        tuple(_binned(connection, message)),
    )


def _stored(connection: sqlite3.Connection, message: int) -> list[StoredPart]:
    rows = connection.execute(
        "SELECT received_at, size, envelope, draft, octets FROM messages WHERE id = ?", (message,)
    ).fetchall()
    return [
        StoredPart(received_at, size, envelope, _chunks(connection, draft) if draft else bytes(octets))
        for received_at, size, envelope, draft, octets in rows
    ]


def _chunks(connection: sqlite3.Connection, draft: int) -> bytes:
    rows = connection.execute(
        "SELECT octets FROM chunks WHERE position BETWEEN ? AND ? ORDER BY position",
        (draft << 20, (draft + 1 << 20) - 1),
    )
    return b"".join(octets for (octets,) in rows)


def _recipients(connection: sqlite3.Connection, message: int) -> list[RecipientPart]:
    rows = connection.execute(
        f"SELECT {_RECIPIENT} FROM recipients WHERE message = ? ORDER BY number",  # noqa: S608 - a constant
        (message,),
    )
    parts = (RecipientPart(*row) for row in rows)
    return [part._replace(delay_reported=bool(part.delay_reported), pinned=bool(part.pinned)) for part in parts]


def _binned(connection: sqlite3.Connection, message: int) -> list[BinnedPart]:
    rows = connection.execute(
        f"SELECT {_BINNED} FROM binned WHERE message = ? ORDER BY number",  # noqa: S608 - a constant
        (message,),
    )
    parts = (BinnedPart(*row) for row in rows)
    return [part._replace(delay_reported=bool(part.delay_reported), pinned=bool(part.pinned)) for part in parts]


def _reports(connection: sqlite3.Connection, message: int) -> list[ReportPart]:
    rows = connection.execute("SELECT number, notice FROM reports WHERE message = ? ORDER BY notice", (message,))
    return [
        ReportPart(
            notice,
            tuple(
                connection.execute("SELECT number, details FROM reported WHERE report = ? ORDER BY number", (number,))
            ),
        )
        for number, notice in rows.fetchall()
    ]


def _put(parcel: Parcel, draft: int, writes: Writes) -> None:
    connection, message = writes.connection, parcel.id
    for stored in parcel.stored:
        _put_stored(connection, message, stored, draft)
    connection.executemany(
        f"INSERT INTO recipients (message, ready_at, lease, {_RECIPIENT})"  # noqa: S608 - a constant
        " VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(message, part.due_at, *part) for part in parcel.recipients],
    )
    for report in parcel.reports:
        number = connection.execute(
            "INSERT INTO reports (message, notice) VALUES (?, ?)", (message, report.notice)
        ).lastrowid
        connection.executemany(
            "INSERT INTO reported VALUES (?, ?, ?)", [(number, *recipient) for recipient in report.recipients]
        )
    connection.executemany(
        "INSERT INTO captured (message, at, recipients) VALUES (?, ?, ?)", [(message, *one) for one in parcel.captured]
    )
    connection.executemany(
        "INSERT INTO events (message, at, kind, text, details) VALUES (?, ?, ?, ?, ?)",
        [(message, *event) for event in parcel.events],
    )
    connection.executemany(
        f"INSERT INTO binned (message, {_BINNED}) VALUES ({', '.join('?' * 14)})",  # noqa: S608 - constants
        [(message, *one) for one in parcel.binned],
    )
    connection.executemany("INSERT INTO done VALUES (?, ?, ?, ?, ?)", [(message, *done) for done in parcel.done])
    connection.executemany("INSERT OR IGNORE INTO addresses VALUES (?, ?, ?)", addresses_of(parcel))
    _count(connection, parcel, 1)
    compared(parcel, parcel_of(connection, message))


def _put_stored(connection: sqlite3.Connection, message: int, stored: StoredPart, draft: int) -> None:
    is_large = len(stored.octets) > CHUNK
    connection.execute(
        "INSERT INTO messages (id, received_at, size, envelope, draft, octets) VALUES (?, ?, ?, ?, ?, ?)",
        (
            message,
            stored.received_at,
            stored.size,
            stored.envelope,
            draft if is_large else 0,
            b"" if is_large else stored.octets,
        ),
    )
    if is_large:
        chunks = [(draft << 20 | number, chunk) for number, chunk in chunks_of(stored.octets)]
        connection.executemany("INSERT INTO chunks VALUES (?, ?)", chunks)


def addresses_of(parcel: Parcel) -> list[tuple[int, str, int]]:
    """The rows of `addresses` by which it is found."""
    envelopes = [*(part.envelope for part in parcel.stored), *(part.envelope for part in parcel.done)]
    return [address_row(parcel.id, one) for envelope in envelopes[:1] for one in sorted(record.addresses_in(envelope))]


def _remove(message: int, writes: Writes) -> None:
    connection = writes.connection
    parcel = parcel_of(connection, message)
    reports = connection.execute("SELECT number FROM reports WHERE message = ?", (message,)).fetchall()
    connection.executemany("DELETE FROM reported WHERE report = ?", reports)
    for table, column in (
        ("recipients", "message"),
        ("reports", "message"),
        ("captured", "message"),
        ("binned", "message"),
        ("events", "message"),
        ("done", "message"),
        ("messages", "id"),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (message,))  # noqa: S608 - constants
    connection.executemany("DELETE FROM addresses WHERE (period, address, message) = (?, ?, ?)", addresses_of(parcel))
    _count(connection, parcel, -1)


def _count(connection: sqlite3.Connection, parcel: Parcel, sign: int) -> None:
    held = sum(part.held != "" for part in parcel.recipients)
    changes = (parcel.is_unfinished, len(parcel.recipients), held, len(parcel.reports))
    connection.execute(
        "UPDATE counts SET messages = messages + ?, recipients = recipients + ?, held = held + ?,"
        " reports = reports + ?",
        [sign * change for change in changes],
    )
