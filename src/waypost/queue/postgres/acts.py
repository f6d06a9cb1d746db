"""What operators do (../operating.py) in PostgreSQL: each act, and the bin, in the caller's transaction.

SQL is put together of constants alone; whatever comes from outside is a parameter.
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from waypost.net.clock import Instant
from waypost.queue.operating import Act, Bin, MakeDue, Reroute, Restore, SetAside, Unhold
from waypost.queue.postgres.database import Connection
from waypost.queue.postgres.writes import (
    BURY,
    KEYS,
    LOCK_MESSAGES,
    OF_KEYS,
    Ending,
    add_events,
    add_notices,
    columns_of,
    count,
    finish,
    in_order,
    operated,
    text,
)
from waypost.queue.rows import BinnedRow, EventRow, Key, bounce_notices

#: What the bin keeps of a recipient.
_BINNED: Final = ", ".join(BinnedRow._fields)
_BINNED_OF_R: Final = ", ".join(f"r.{column}" for column in BinnedRow._fields)
_PLACES: Final = ", ".join(f"${number}" for number in range(2, 14))
_BIN: Final = f"""
    INSERT INTO binned (at, why, {_BINNED}) VALUES ($1, {", ".join(f"${number}" for number in range(2, 15))})
    ON CONFLICT (message, number) DO UPDATE SET at = excluded.at, why = excluded.why"""


async def operate(connection: Connection, keys: Sequence[Key], act: Act) -> int:
    """Carry out an act; the recipients changed."""
    match act:
        case MakeDue(now, said):
            return await retry(connection, keys, now, said)
        case Bin(now, why, reason):
            return await delete(connection, keys, now, why, reason)
        case Restore(now, said):
            return await restore(connection, keys, now, said)
        case Reroute(now, next_hop, said):
            return await reroute(connection, keys, next_hop, now, said)
        case SetAside(now, reason, said):
            return await hold(connection, keys, now, reason, said)
        case Unhold(now, said):
            return await unhold(connection, keys, now, said)
        case _:
            assert_never(act)


async def retry(connection: Connection, keys: Sequence[Key], now: Instant, said: str = "") -> int:
    """Make waiting recipients due; the history has it where something is `said`."""
    due = await connection.fetch(
        f"UPDATE recipients AS r SET due_at = $3, ready_at = $3 FROM {KEYS}"
        f" WHERE {OF_KEYS} AND lease = 0 AND held = '' AND due_at > $3"
        " RETURNING r.message, r.number, address",
        *columns_of(keys, 2),
        now,
    )
    if said:
        await operated(connection, in_order(due), now, said)
    return len(due)


async def delete(connection: Connection, keys: Sequence[Key], now: Instant, why: str, reason: str = "") -> int:
    """Move recipients nobody is delivering to the bin; with a `reason`, their authors are told."""
    await connection.execute(LOCK_MESSAGES, sorted({message for message, _ in keys}))
    removed = await connection.fetch(
        f"DELETE FROM recipients AS r USING {KEYS} WHERE {OF_KEYS} AND (lease = 0 OR ready_at <= $3)"
        f" RETURNING held, {_BINNED_OF_R}",
        *columns_of(keys, 2),
        now,
    )
    binned = sorted(BinnedRow(*tuple(row)[1:]) for row in removed)
    await connection.executemany(_BIN, [(now, text(why), *row) for row in binned])
    reports = await _report_bounced(connection, binned, now, reason) if reason else 0
    messages = await operated(connection, [(row.message, row.address) for row in binned], now, why)
    held = -sum(row["held"] != "" for row in removed)
    ending = Ending(ended=dict.fromkeys(messages, (now, "")))
    await finish(connection, ending, recipients=-len(binned), held=held, reports=reports)
    return len(binned)


async def _report_bounced(connection: Connection, binned: Sequence[BinnedRow], now: Instant, reason: str) -> int:
    found = await connection.fetch(
        "SELECT id, envelope FROM messages WHERE id = ANY($1::bigint[])", sorted({row.message for row in binned})
    )
    envelopes = {row["id"]: row["envelope"] for row in found}
    return await add_notices(
        connection,
        [
            (row.message, notice)
            for row in binned
            for notice in bounce_notices(row, envelopes[row.message], reason, now)
        ],
    )


async def restore(connection: Connection, keys: Sequence[Key], now: Instant, said: str) -> int:
    """Bring recipients back from the bin."""
    await connection.execute(LOCK_MESSAGES, sorted({message for message, _ in keys}))
    rows = await connection.fetch(
        f"DELETE FROM binned AS r USING {KEYS} WHERE {OF_KEYS} RETURNING {_BINNED_OF_R}", *columns_of(keys, 2)
    )
    back = sorted(BinnedRow(*row) for row in rows)
    await connection.executemany(
        f"INSERT INTO recipients (due_at, ready_at, lease, {_BINNED}) VALUES ($1, $1, 0, {_PLACES})",
        [(now, *row) for row in back],
    )
    again = await _begin_again(connection, sorted({row.message for row in back}))
    await operated(connection, [(row.message, row.address) for row in back], now, said)
    await count(connection, messages=again, recipients=len(back))
    return len(back)


async def _begin_again(connection: Connection, messages: Sequence[int]) -> int:
    """Messages that were done have something to do again: how many were; what their ends told becomes an event."""
    ended = await connection.fetch(
        "DELETE FROM done WHERE message = ANY($1::bigint[]) RETURNING message, at, attempt", messages
    )
    await add_events(
        connection,
        [EventRow(message, at, "attempt", "", attempt) for message, at, attempt in ended if attempt],
    )
    return len(ended)


async def empty_bin(connection: Connection, before: Instant, limit: int) -> int:
    """Let go of what has been in the bin since before then; the number let go."""
    rows = await connection.fetch(
        "DELETE FROM binned WHERE (message, number) IN (SELECT message, number FROM binned WHERE at < $1"
        " ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING message",
        before,
        limit,
    )
    messages = sorted({row["message"] for row in rows})
    await connection.execute(LOCK_MESSAGES, messages)
    await connection.execute(BURY, messages)
    return len(rows)


async def reroute(connection: Connection, keys: Sequence[Key], next_hop: str, now: Instant, said: str) -> int:
    """Let recipients nobody is delivering go elsewhere, and stay on that way."""
    moved = await connection.fetch(
        f"UPDATE recipients AS r SET next_hop = $4, pinned = true, lease = 0, due_at = $3, ready_at = $3 FROM {KEYS}"
        f" WHERE {OF_KEYS} AND next_hop <> $4 AND (lease = 0 OR ready_at <= $3)"
        " RETURNING r.message, r.number, address",
        *columns_of(keys, 2),
        now,
        text(next_hop),
    )
    await operated(connection, in_order(moved), now, said)
    return len(moved)


async def hold(connection: Connection, keys: Sequence[Key], now: Instant, reason: str, said: str) -> int:
    """Set aside recipients nobody is delivering."""
    held = await connection.fetch(
        f"UPDATE recipients AS r SET held = $4, lease = 0, ready_at = r.due_at FROM {KEYS}"
        f" WHERE {OF_KEYS} AND held = '' AND (lease = 0 OR ready_at <= $3) RETURNING r.message, r.number, address",
        *columns_of(keys, 2),
        now,
        text(reason),
    )
    await count(connection, held=len(held))
    await operated(connection, in_order(held), now, said)
    return len(held)


async def unhold(connection: Connection, keys: Sequence[Key], now: Instant, said: str) -> int:
    """Let held recipients be due."""
    released = await connection.fetch(
        f"UPDATE recipients AS r SET held = '', due_at = $3, ready_at = $3 FROM {KEYS}"
        f" WHERE {OF_KEYS} AND held <> '' RETURNING r.message, r.number, address",
        *columns_of(keys, 2),
        now,
    )
    await count(connection, held=-len(released))
    await operated(connection, in_order(released), now, said)
    return len(released)


async def rehop(connection: Connection, keys: Sequence[Key], old: str, new: str) -> int:
    """Move recipients to another next hop."""
    rows = await connection.fetch(
        f"UPDATE recipients AS r SET next_hop = $4 FROM {KEYS} WHERE {OF_KEYS} AND next_hop = $3"
        " AND NOT pinned RETURNING 1",
        *columns_of(keys, 2),
        old,
        new,
    )
    return len(rows)
