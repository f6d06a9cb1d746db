"""What is asked of PostgreSQL: each function a question. Nothing here writes. As reads.py, in the database's own words.

SQL is put together of this file's constants alone; whatever comes from outside is a parameter.
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Any, Final

from waypost.mail.envelope import MessageId, NextHop, QueuedMessage
from waypost.net.clock import Instant
from waypost.queue import ids, record
from waypost.queue.entries import (
    ANY,
    LAST,
    binned_entry_of,
    captured_of,
    end_of,
    entry_of,
    first_after,
    life_of,
    number_of,
)
from waypost.queue.operating import Act, Restore
from waypost.queue.postgres.database import Connection
from waypost.queue.postgres.writes import text
from waypost.queue.rows import Key
from waypost.queue.searching import AFTER_ALL, Searched
from waypost.queue.shelf import Absent
from waypost.queue.storage import (
    BinnedEntry,
    CapturedMessage,
    Counts,
    HistoryEvent,
    Never,
    Notice,
    Passed,
    QueueEntry,
    ReadyHop,
    RecipientState,
    ReportedRecipient,
    Search,
    Selection,
)

#: The distinct next hops, found by leaping from one to the next in the index: a million recipients of ten cost ten.
_HOPS: Final = """
    WITH RECURSIVE hop (name) AS (
        (SELECT min(next_hop) FROM recipients WHERE held = '')
        UNION ALL
        SELECT (SELECT min(next_hop) FROM recipients WHERE held = '' AND next_hop > hop.name)
        FROM hop WHERE hop.name IS NOT NULL
    )"""
_READY: Final = f"""{_HOPS}
    SELECT name, since FROM (
        SELECT name, (SELECT min(ready_at) FROM recipients WHERE held = '' AND next_hop = name) AS since
        FROM hop WHERE name IS NOT NULL
    ) AS hops WHERE since <= $1 ORDER BY since, name LIMIT $2"""
_NEXT_DUE: Final = f"""{_HOPS}
    SELECT min((SELECT min(ready_at) FROM recipients WHERE held = '' AND next_hop = name AND ready_at > $1))
    FROM hop WHERE name IS NOT NULL"""
#: The periods in which an address may stand, found by the same leaps.
_PERIODS: Final = """
    WITH RECURSIVE period (value) AS (
        (SELECT max(period) FROM addresses)
        UNION ALL
        SELECT (SELECT max(a.period) FROM addresses AS a WHERE a.period < period.value)
        FROM period WHERE period.value IS NOT NULL
    )"""
_FIND: Final = f"""{_PERIODS}
    SELECT message FROM period JOIN addresses ON addresses.period = period.value AND address = $1
    ORDER BY message DESC LIMIT $2"""
_ADDRESSED: Final = f"""{_PERIODS}
    SELECT message FROM period JOIN addresses ON addresses.period = period.value AND address = $1
    WHERE message < $2 ORDER BY message DESC LIMIT $3"""
#: Messages in the queue and done, as a search reads them.
_RECORDS: Final = """
    SELECT id, received_at, envelope, '' AS attempt FROM messages
    WHERE NOT EXISTS (SELECT 1 FROM done WHERE message = id)
    UNION ALL
    SELECT message, received_at, envelope, attempt FROM done"""
_ENTRIES: Final = """
    SELECT r.message, number, address, next_hop, held, lease, ready_at, attempts, due_at, last_outcome,
           m.received_at, m.size, m.envelope
    FROM recipients AS r JOIN messages AS m ON m.id = r.message"""


# ---- for the dispatcher
async def ready(connection: Connection, now: Instant, limit: int) -> list[ReadyHop]:
    """The next hops with something due."""
    return [ReadyHop(NextHop(row["name"]), row["since"]) for row in await connection.fetch(_READY, now, limit)]


async def next_due(connection: Connection, now: Instant) -> Instant | Never:
    """When something next falls due."""
    at = await connection.fetchval(_NEXT_DUE, now)
    return Never() if at is None else float(at)


async def chunk(connection: Connection, message: int, draft: int, number: int) -> bytes:
    """A chunk of a message's octets; empty where it has gone."""
    if draft:
        select = "SELECT octets FROM chunks WHERE draft = $1 AND number = $2"
        return await connection.fetchval(select, draft, number) or b""
    return await connection.fetchval("SELECT octets FROM messages WHERE id = $1", message) or b""


async def unknown_drafts(connection: Connection, drafts: Sequence[int]) -> list[int]:
    """Those of which there is no message, and none on its way. May read every message's row."""
    rows = await connection.fetch(
        "SELECT draft FROM unnest($1::bigint[]) AS u (draft) EXCEPT SELECT draft FROM messages WHERE draft < 0"
        " EXCEPT SELECT number FROM drafts",
        drafts,
    )
    return [row["draft"] for row in rows]


# ---- for reports
async def due_reports(
    connection: Connection, limit: int
) -> list[tuple[int, QueuedMessage, int, Notice, tuple[ReportedRecipient, ...]]]:
    """(number, message, draft, notice, recipients) of reports that are due."""
    rows = await connection.fetch("SELECT number, message, notice FROM reports ORDER BY number LIMIT $1", limit)
    due = []
    for number, message, notice in rows:
        with contextlib.suppress(KeyError, ValueError):  # a row that makes no sense must not keep the others waiting
            stored, draft = await stored_message(connection, message)
            due.append((number, stored, draft, Notice(notice), await _reported(connection, number)))
    return due


async def _reported(connection: Connection, report: int) -> tuple[ReportedRecipient, ...]:
    rows = await connection.fetch("SELECT details FROM reported WHERE report = $1 ORDER BY number", report)
    return tuple(record.decode_reported(details) for (details,) in rows)


# ---- for people
async def stored_message(connection: Connection, message: int) -> tuple[QueuedMessage, int]:
    """A message that is stored, and its draft. Raises: KeyError."""
    row = await connection.fetchrow("SELECT envelope, received_at, size, draft FROM messages WHERE id = $1", message)
    if row is None:
        raise KeyError(message)
    envelope, received_at, size, draft = row
    return record.decode_message(ids.from_number(message), envelope, received_at, size), draft


async def entries(
    connection: Connection, selection: Selection, after: Key, limit: int, now: Instant
) -> list[QueueEntry]:
    """A page of queue entries."""
    where, parameters = _where(_clauses(selection, now), after)
    rows = await connection.fetch(f"{_ENTRIES}{where} ORDER BY r.message, r.number LIMIT {limit:d}", *parameters)
    return [entry_of(row, now) for row in rows]


async def keys(connection: Connection, selection: Selection, now: Instant, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what is selected."""
    where, parameters = _where(_clauses(selection, now), after)
    statement = f"SELECT message, number FROM recipients AS r{where} ORDER BY message, number LIMIT {limit:d}"
    return [(row["message"], row["number"]) for row in await connection.fetch(statement, *parameters)]


async def keys_for(connection: Connection, selection: Selection, act: Act, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what an act is to change."""
    if isinstance(act, Restore):
        return await binned_keys(connection, selection, after, limit)
    return await keys(connection, selection, act.now, after, limit)


async def look(
    connection: Connection, selection: Selection, after: Key, limit: int, stretch: int, now: Instant
) -> tuple[list[QueueEntry], Key]:
    """What fits of the recipients that follow, and after which of them to look on; `LAST`, where none is left."""
    last = await _end_of_stretch(connection, selection, after, stretch)
    where, parameters = _within(_clauses(selection, now, (after[0], last[0])), after, last)
    rows = await connection.fetch(f"{_ENTRIES}{where} ORDER BY r.message, r.number LIMIT {limit:d}", *parameters)
    found = [tuple(row) for row in rows]
    return [entry_of(row, now) for row in found], last if len(found) < limit else found[-1][:2]


async def tally(
    connection: Connection, selection: Selection, after: Key, stretch: int, now: Instant
) -> tuple[int, Key]:
    """How many fit of the recipients that follow, and after which to count on."""
    last = await _end_of_stretch(connection, selection, after, stretch)
    where, parameters = _within(_clauses(selection, now, (after[0], last[0])), after, last)
    return int(await connection.fetchval(f"SELECT count(*) FROM recipients AS r{where}", *parameters)), last


async def _end_of_stretch(connection: Connection, selection: Selection, after: Key, stretch: int) -> Key:
    """The last of the recipients to be looked at: those of named messages are found by index, and so are held ones."""
    if selection.ids:
        return LAST
    if selection.address:
        message = await connection.fetchval(
            f"{_PERIODS} SELECT message FROM period JOIN addresses ON addresses.period = period.value"
            " AND address = $1 AND message >= $2 ORDER BY message LIMIT 1 OFFSET $3",
            text(selection.address.lower()),
            first_after(after),
            stretch - 1,
        )
        return LAST if message is None else (message, LAST[1])
    held = " AND held <> ''" if selection.state == RecipientState.HELD.value else ""
    row = await connection.fetchrow(
        f"SELECT message, number FROM recipients WHERE (message, number) > ($1, $2){held}"
        " ORDER BY message, number LIMIT 1 OFFSET $3",
        *after,
        stretch - 1,
    )
    return LAST if row is None else (row["message"], row["number"])


def _within(narrowing: Iterable[tuple[str, object]], after: Key, last: Key) -> tuple[str, list[object]]:
    where, parameters = _where(narrowing, after)
    count = len(parameters)
    return f"{where} AND (r.message, r.number) <= (${count + 1}, ${count + 2})", [*parameters, *last]


async def binned(connection: Connection, selection: Selection, after: Key, limit: int) -> list[BinnedEntry]:
    """A page of the bin."""
    where, parameters = _where(_clauses_of_any(selection, held="''", span=ANY), after)
    rows = await connection.fetch(
        "SELECT r.message, number, at, why, address, next_hop, attempts, last_outcome,"
        f" m.received_at, m.size, m.envelope FROM binned AS r JOIN messages AS m ON m.id = r.message{where}"
        f" ORDER BY r.message, r.number LIMIT {limit:d}",
        *parameters,
    )
    return [binned_entry_of(row) for row in rows]


async def binned_keys(connection: Connection, selection: Selection, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what is selected in the bin."""
    where, parameters = _where(_clauses_of_any(selection, held="''", span=ANY), after)
    statement = f"SELECT message, number FROM binned AS r{where} ORDER BY message, number LIMIT {limit:d}"
    return [(row["message"], row["number"]) for row in await connection.fetch(statement, *parameters)]


async def keys_of_hop(connection: Connection, next_hop: str, domain: str, after: Key, limit: int) -> list[Key]:
    """A page of the keys of a domain's recipients that wait for a next hop."""
    rows = await connection.fetch(
        "SELECT message, number FROM recipients"
        " WHERE (message, number) > ($1, $2) AND next_hop = $3 AND domain = $4 AND NOT pinned"
        " ORDER BY message, number LIMIT $5",
        *after,
        next_hop,
        domain,
        limit,
    )
    return [(row["message"], row["number"]) for row in rows]


def _where(narrowing: Iterable[tuple[str, object]], after: Key) -> tuple[str, list[object]]:
    clauses, parameters = [" WHERE (r.message, r.number) > ($1, $2)"], list[object](after)
    for clause, value in narrowing:
        parameters.append(value)
        clauses.append(clause.format(f"${len(parameters)}"))
    return " AND ".join(clauses), parameters


_LEASED: Final = "(lease > 0 AND ready_at > {0}::float8)"
#: What each state is in a row; in step with ../entries.py.
_IN_STATE: Final = {
    RecipientState.HELD.value: "held <> '' AND {0}::float8 > 0",
    RecipientState.IN_DELIVERY.value: f"held = '' AND {_LEASED}",
    RecipientState.DUE.value: f"held = '' AND NOT {_LEASED} AND due_at <= {{0}}::float8",
    RecipientState.WAITING.value: f"held = '' AND NOT {_LEASED} AND due_at > {{0}}::float8",
}


def _of_address(span: tuple[int, int]) -> str:
    """The messages of an address, of these; and of those the recipients that it is meant by."""
    low, high = span
    return (
        f"r.message IN ({_PERIODS} SELECT message FROM period JOIN addresses ON addresses.period = period.value"
        f" AND addresses.address = {{0}} AND addresses.message BETWEEN {low:d} AND {high:d})"
        ' AND (lower(r.address COLLATE "default") = {0}'
        " OR EXISTS (SELECT 1 FROM messages WHERE id = r.message AND sender = {0}))"
    )


def _clauses(selection: Selection, now: Instant, span: tuple[int, int] = ANY) -> Iterator[tuple[str, object]]:
    if selection.state:
        yield _IN_STATE.get(selection.state, "{0}::float8 < 0"), now
    yield from _clauses_of_any(selection, held="held", span=span)


def _clauses_of_any(selection: Selection, *, held: str, span: tuple[int, int]) -> Iterator[tuple[str, object]]:
    """What the queue and the bin have in common; `held`: the column that says why it is held, in SQL."""
    if selection.text:
        lowered = 'position({{0}} in lower({} COLLATE "default")) > 0'
        yield f"({lowered.format('last_outcome')} OR {lowered.format(held)})", text(selection.text.lower())
    if selection.received_before:
        yield "(SELECT received_at FROM messages WHERE id = r.message) < {}", selection.received_before
    if selection.ids:
        yield "r.message = ANY({}::bigint[])", [number_of(one) for one in selection.ids]
    if selection.address:
        yield _of_address(span), text(selection.address.lower())
    if selection.domain:
        yield "r.domain = {}", text(selection.domain.lower())
    if selection.next_hop:
        yield "r.next_hop = {}", text(selection.next_hop)


async def hops(connection: Connection) -> list[tuple[NextHop, str]]:
    """The pairs of next hop and domain. Reads every recipient."""
    rows = await connection.fetch(
        "SELECT DISTINCT next_hop, domain FROM recipients WHERE NOT pinned ORDER BY next_hop, domain"
    )
    return [(NextHop(next_hop), domain) for next_hop, domain in rows]


async def backlog(connection: Connection) -> list[tuple[NextHop, str, int]]:
    """The same, counted."""
    rows = await connection.fetch(
        "SELECT next_hop, domain, count(*) FROM recipients WHERE NOT pinned GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [(NextHop(next_hop), domain, count) for next_hop, domain, count in rows]


async def traffic(connection: Connection, since: Instant, limit: int) -> list[Passed]:
    """Recipients of what is done, the newest messages first."""
    rows = await connection.fetch("SELECT envelope FROM done WHERE at >= $1 ORDER BY at DESC LIMIT $2", since, limit)
    return [one for row in rows for one in record.passed(record.decode(row["envelope"]))][:limit]


async def history(connection: Connection, message: int) -> list[HistoryEvent]:
    """The life of a message: its receipt, the events, and its end, which also tells the last attempt."""
    done = await connection.fetchrow("SELECT received_at, envelope, at, attempt FROM done WHERE message = $1", message)
    if done is not None:
        received_at, envelope, at, attempt = done
        events = await _events(connection, message)
        return [*life_of(message, received_at, envelope, events), *end_of(message, at, attempt)]
    queued = await connection.fetchrow(
        "SELECT received_at, envelope FROM messages WHERE id = $1"
        " AND (EXISTS (SELECT 1 FROM recipients WHERE message = id)"
        " OR EXISTS (SELECT 1 FROM reports WHERE message = id))",
        message,
    )
    if queued is None:
        return []
    received_at, envelope = queued
    return life_of(message, received_at, envelope, await _events(connection, message))


async def _events(connection: Connection, message: int) -> list[Any]:
    return await connection.fetch(
        "SELECT at, kind, text, details FROM events WHERE message = $1 ORDER BY number", message
    )


async def find(connection: Connection, address: str, limit: int) -> list[MessageId]:
    """Messages by an address, newest first."""
    rows = await connection.fetch(_FIND, text(address.lower()), limit)
    return [ids.from_number(row["message"]) for row in rows]


async def addressed(connection: Connection, address: str, before: int, few: int) -> list[int]:
    """Messages of an address older than `before`, newest first."""
    rows = await connection.fetch(_ADDRESSED, text(address.lower()), before, few)
    return [row["message"] for row in rows]


async def search(connection: Connection, wanted: Search, before: int, looked_at: Sequence[int], few: int) -> Searched:
    """Of the `few` newest messages older than `before` (of those `looked_at`, where there are any), those that fit."""
    floor = ids.first_number(wanted.since) if wanted.since else 0
    only = "id = ANY($3::bigint[])" if looked_at else "cardinality($3::bigint[]) = 0"
    rows = await connection.fetch(
        f"SELECT * FROM ({_RECORDS}) AS found WHERE id < $1 AND id >= $2 AND {only} ORDER BY id DESC LIMIT {few:d}",
        AFTER_ALL if looked_at else before,
        0 if looked_at else floor,
        list(looked_at),
    )
    meant = [row for row in rows if wanted.since <= row["received_at"] < (wanted.until or inf)]
    attempts = await _attempts(connection, [row["id"] for row in meant])
    fitting = [
        row["id"]
        for row in meant
        if record.fits(wanted, row["envelope"].lower(), [row["attempt"].lower(), *attempts.get(row["id"], ())])
    ]
    return Searched(fitting, rows[-1]["id"] if rows else before, is_end=len(rows) < (len(looked_at) or few))


async def _attempts(connection: Connection, messages: Sequence[int]) -> dict[int, list[str]]:
    rows = await connection.fetch(
        "SELECT message, details FROM events WHERE message = ANY($1::bigint[]) AND kind = 'attempt'", list(messages)
    )
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["message"], []).append(row["details"].lower())
    return found


async def captured(connection: Connection, before: int, limit: int) -> list[CapturedMessage]:
    """A page of the inbox, newest first."""
    rows = await connection.fetch(
        "SELECT number, message, at, recipients, size, envelope FROM captured JOIN messages ON id = message"
        " WHERE number < $1 ORDER BY number DESC LIMIT $2",
        before or 2**62,
        limit,
    )
    return [captured_of(row) for row in rows]


async def captured_message(connection: Connection, number: int) -> tuple[QueuedMessage, int]:
    """A captured message and its draft. Raises: KeyError."""
    message = await connection.fetchval("SELECT message FROM captured WHERE number = $1", number)
    if message is None:
        raise KeyError(number)
    return await stored_message(connection, message)


async def counts(connection: Connection) -> Counts:
    """The queue in numbers."""
    row = await connection.fetchrow(
        "SELECT sum(messages)::bigint, sum(recipients)::bigint, sum(held)::bigint, sum(reports)::bigint FROM counts"
    )
    return Counts(*row) if row else Counts(0, 0, 0, 0)


# ---- the shelf
async def kept(connection: Connection, space: str, key: str, now: Instant) -> bytes | Absent:
    """What is kept there."""
    select = "SELECT value FROM kept WHERE space = $1 AND key = $2 AND until > $3"
    row = await connection.fetchrow(select, space, key, now)
    return Absent() if row is None else row["value"]


async def all_kept(connection: Connection, space: str, now: Instant) -> list[tuple[str, bytes]]:
    """All that a space has."""
    rows = await connection.fetch(
        "SELECT key, value FROM kept WHERE space = $1 AND until > $2 ORDER BY key", space, now
    )
    return [(row["key"], row["value"]) for row in rows]
