"""What is written to the shelf (../shelf.py) in PostgreSQL: a statement each. What is asked of it: reads.py."""

from __future__ import annotations

from typing import Final

import asyncpg

from waypost.net.clock import Instant
from waypost.queue.postgres.database import Connection

_KEEP: Final = """
    INSERT INTO kept (space, key, value, until) VALUES ($1, $2, $3, $4)
    ON CONFLICT (space, key) DO UPDATE SET value = excluded.value, until = excluded.until"""
_KEEP_NEW: Final = f"{_KEEP} WHERE kept.until <= $5 RETURNING 1"
_ADD: Final = """
    INSERT INTO kept (space, key, value, until) VALUES ($1, $2, convert_to($3::bigint::text, 'UTF8'), $4)
    ON CONFLICT (space, key) DO UPDATE SET
        value = CASE WHEN kept.until <= $5 THEN excluded.value
            ELSE convert_to((convert_from(kept.value, 'UTF8')::bigint + $3)::text, 'UTF8') END,
        until = CASE WHEN kept.until <= $5 THEN excluded.until ELSE kept.until END
    RETURNING convert_from(value, 'UTF8')::bigint"""


async def keep(connection: Connection, space: str, key: str, value: bytes, until: Instant) -> None:
    """Keep a value in place of another."""
    await connection.execute(_KEEP, space, key, value, until)


async def keep_new(connection: Connection, space: str, key: str, value: bytes, until: Instant, now: Instant) -> bool:
    """Keep a value where there is none."""
    return bool(await connection.fetch(_KEEP_NEW, space, key, value, until, now))


async def add(connection: Connection, space: str, key: str, amount: int, until: Instant, now: Instant) -> int:
    """Add to a number; the sum. Raises: ValueError, where there is something else."""
    try:
        return int(await connection.fetchval(_ADD, space, key, amount, until, now))
    except asyncpg.DataError as error:
        raise ValueError(str(error)) from error


async def drop(connection: Connection, space: str, key: str) -> bool:
    """Take a value away."""
    return bool(await connection.fetch("DELETE FROM kept WHERE space = $1 AND key = $2 RETURNING 1", space, key))


async def clear(connection: Connection, now: Instant, limit: int) -> int:
    """Drop what has come to its end."""
    rows = await connection.fetch(
        "DELETE FROM kept WHERE (space, key) IN (SELECT space, key FROM kept WHERE until <= $1 LIMIT $2"
        " FOR UPDATE SKIP LOCKED) AND until <= $1 RETURNING 1",
        now,
        limit,
    )
    return len(rows)
