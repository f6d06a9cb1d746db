"""What is asked of the spool: each function a question to one connection, in one snapshot. Nothing here writes.

SQL is put together of this file's constants alone; whatever comes from outside is a parameter.
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
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
from waypost.queue.rows import PERIOD_SHIFT, Key
from waypost.queue.searching import Searched
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
        SELECT min(next_hop) FROM recipients WHERE held = ''
        UNION ALL
        SELECT (SELECT min(next_hop) FROM recipients WHERE held = '' AND next_hop > hop.name)
        FROM hop WHERE hop.name IS NOT NULL
    )"""
_READY: Final = f"""{_HOPS}
    SELECT name, since FROM (
        SELECT name, (SELECT min(ready_at) FROM recipients WHERE held = '' AND next_hop = name) AS since
        FROM hop WHERE name IS NOT NULL
    ) WHERE since <= ? ORDER BY since, name LIMIT ?"""
_NEXT_DUE: Final = f"""{_HOPS}
    SELECT min((SELECT min(ready_at) FROM recipients WHERE held = '' AND next_hop = name AND ready_at > ?))
    FROM hop WHERE name IS NOT NULL"""
#: The periods in which an address may stand, found by the same leaps.
_PERIODS: Final = """
    WITH RECURSIVE period (value) AS (
        SELECT max(period) FROM addresses
        UNION ALL
        SELECT (SELECT max(period) FROM addresses WHERE period < period_before.value)
        FROM period AS period_before WHERE period_before.value IS NOT NULL
    )"""
_FIND: Final = f"""{_PERIODS}
    SELECT message FROM period CROSS JOIN addresses ON addresses.period = period.value AND address = ?
    ORDER BY message DESC LIMIT ?"""
#: The messages of an address, and of those the recipients that it is meant by.
_OF_ADDRESS: Final = (
    f"r.message IN ({_PERIODS} SELECT message FROM period CROSS JOIN addresses"
    " ON addresses.period = period.value AND addresses.address = ? AND addresses.message BETWEEN ? AND ?)"
    " AND (lowered(r.address) = ? OR EXISTS (SELECT 1 FROM messages WHERE id = r.message"
    " AND lowered(json_extract(envelope, '$.reverse_path')) = ?))"
)
_ADDRESSED: Final = f"""{_PERIODS}
    SELECT message FROM period CROSS JOIN addresses ON addresses.period = period.value AND address = ?
    WHERE message < ? ORDER BY message DESC LIMIT ?"""
#: Messages in the queue and done, as a search reads them: id, received_at, envelope, last attempt.
_NEWEST: Final = """
    SELECT id, received_at, envelope, '' AS attempt FROM messages
    WHERE id < ? AND id >= ? AND NOT EXISTS (SELECT 1 FROM done WHERE message = id)
    UNION ALL
    SELECT message, received_at, envelope, attempt FROM done WHERE message < ? AND message >= ?
    ORDER BY 1 DESC"""
_RECORDS: Final = """
    SELECT id, received_at, envelope, attempt FROM (
        SELECT id, received_at, envelope, '' AS attempt FROM messages
        WHERE NOT EXISTS (SELECT 1 FROM done WHERE message = id)
        UNION ALL
        SELECT message, received_at, envelope, attempt FROM done
    )"""
_ENTRIES: Final = """
    SELECT r.message, number, address, next_hop, held, lease, ready_at, attempts, due_at, last_outcome,
           m.received_at, m.size, m.envelope
    FROM recipients AS r CROSS JOIN messages AS m ON m.id = r.message"""


#: What LIKE takes for more than itself.
_ESCAPED: Final = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\"})


# ---- for the dispatcher
def ready(connection: sqlite3.Connection, now: Instant, limit: int) -> list[ReadyHop]:
    """The next hops with something due."""
    return [ReadyHop(NextHop(name), since) for name, since in connection.execute(_READY, (now, limit))]


def next_due(connection: sqlite3.Connection, now: Instant) -> Instant | Never:
    """When something next falls due."""
    (at,) = connection.execute(_NEXT_DUE, (now,)).fetchone()
    return Never() if at is None else float(at)


def chunk(connection: sqlite3.Connection, message: int, draft: int, number: int) -> bytes:
    """A chunk of a message's octets; empty where it has gone."""
    if draft:
        row = connection.execute("SELECT octets FROM chunks WHERE position = ?", (draft << 20 | number,)).fetchone()
    else:
        row = connection.execute("SELECT octets FROM messages WHERE id = ?", (message,)).fetchone()
    return bytes(row[0]) if row else b""


# ---- for reports
def due_reports(
    connection: sqlite3.Connection, limit: int
) -> list[tuple[int, QueuedMessage, int, Notice, tuple[ReportedRecipient, ...]]]:
    """(number, message, draft, notice, recipients) of reports that are due."""
    rows = connection.execute(
        "SELECT number, message, notice FROM reports ORDER BY number LIMIT ?", (limit,)
    ).fetchall()
    due = []
    for number, message, notice in rows:
        with contextlib.suppress(KeyError, ValueError):  # a row that makes no sense must not keep the others waiting
            stored, draft = stored_message(connection, message)
            due.append((number, stored, draft, Notice(notice), _reported(connection, number)))
    return due


def _reported(connection: sqlite3.Connection, report: int) -> tuple[ReportedRecipient, ...]:
    rows = connection.execute("SELECT details FROM reported WHERE report = ? ORDER BY number", (report,))
    return tuple(record.decode_reported(details) for (details,) in rows)


# ---- for people
def stored_message(connection: sqlite3.Connection, message: int) -> tuple[QueuedMessage, int]:
    """A message that is stored, and its draft. Raises: KeyError."""
    row = connection.execute(
        "SELECT envelope, received_at, size, draft FROM messages WHERE id = ?", (message,)
    ).fetchone()
    if row is None:
        raise KeyError(message)
    envelope, received_at, size, draft = row
    return record.decode_message(ids.from_number(message), envelope, received_at, size), draft


def entries(
    connection: sqlite3.Connection, selection: Selection, after: Key, limit: int, now: Instant
) -> list[QueueEntry]:
    """A page of queue entries."""
    where, parameters = _where(_clauses(selection, now), after)
    rows = connection.execute(f"{_ENTRIES}{where} ORDER BY r.message, r.number LIMIT ?", (*parameters, limit))
    return [entry_of(row, now) for row in rows]


def keys(connection: sqlite3.Connection, selection: Selection, now: Instant, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what is selected."""
    where, parameters = _where(_clauses(selection, now), after)
    statement = f"SELECT message, number FROM recipients AS r{where} ORDER BY message, number LIMIT ?"
    return list(connection.execute(statement, (*parameters, limit)))


def keys_for(connection: sqlite3.Connection, selection: Selection, act: Act, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what an act is to change."""
    if isinstance(act, Restore):
        return binned_keys(connection, selection, after, limit)
    return keys(connection, selection, act.now, after, limit)


def look(
    connection: sqlite3.Connection, selection: Selection, after: Key, limit: int, stretch: int, now: Instant
) -> tuple[list[QueueEntry], Key]:
    """What fits of the recipients that follow, and after which of them to look on; `LAST`, where none is left."""
    last = _end_of_stretch(connection, selection, after, stretch)
    where, parameters = _within(_clauses(selection, now, (after[0], last[0])), after, last)
    rows = connection.execute(f"{_ENTRIES}{where} ORDER BY r.message, r.number LIMIT ?", (*parameters, limit))
    found = rows.fetchall()
    return [entry_of(row, now) for row in found], last if len(found) < limit else found[-1][:2]


def tally(
    connection: sqlite3.Connection, selection: Selection, after: Key, stretch: int, now: Instant
) -> tuple[int, Key]:
    """How many fit of the recipients that follow, and after which to count on."""
    last = _end_of_stretch(connection, selection, after, stretch)
    where, parameters = _within(_clauses(selection, now, (after[0], last[0])), after, last)
    (number,) = connection.execute(f"SELECT count(*) FROM recipients AS r{where}", parameters).fetchone()
    return int(number), last


def _end_of_stretch(connection: sqlite3.Connection, selection: Selection, after: Key, stretch: int) -> Key:
    """The last of the recipients to be looked at: those of named messages are found by index, and so are held ones."""
    if selection.ids:
        return LAST
    if selection.address:
        return _end_of_address(connection, selection.address.lower(), after, stretch)
    held = " AND held <> ''" if selection.state == RecipientState.HELD.value else ""
    rows = connection.execute(
        f"SELECT message, number FROM recipients WHERE (message, number) > (?, ?){held}"
        " ORDER BY message, number LIMIT 1 OFFSET ?",
        (*after, stretch - 1),
    )
    return next(rows, LAST)


def _end_of_address(connection: sqlite3.Connection, address: str, after: Key, stretch: int) -> Key:
    """The same of an address's messages, period by period, oldest first."""
    left, first = stretch, first_after(after)
    period = first >> PERIOD_SHIFT
    while True:
        found = connection.execute(
            "SELECT message FROM addresses WHERE period = ? AND address = ? AND message >= ? ORDER BY message LIMIT ?",
            (period, address, first, left),
        ).fetchall()
        left -= len(found)
        if not left:
            return found[-1][0], LAST[1]
        (following,) = connection.execute("SELECT min(period) FROM addresses WHERE period > ?", (period,)).fetchone()
        if following is None:
            return LAST
        period = following


def _within(narrowing: Iterable[tuple[str, list[object]]], after: Key, last: Key) -> tuple[str, list[object]]:
    return _where(itertools.chain([("(r.message, r.number) <= (?, ?)", [*last])], narrowing), after)


def binned(connection: sqlite3.Connection, selection: Selection, after: Key, limit: int) -> list[BinnedEntry]:
    """A page of the bin."""
    where, parameters = _where(_clauses_of_any(selection, held="''", span=ANY), after)
    rows = connection.execute(
        "SELECT r.message, number, at, why, address, next_hop, attempts, last_outcome,"
        " m.received_at, m.size, m.envelope"
        f" FROM binned AS r CROSS JOIN messages AS m ON m.id = r.message{where}"
        " ORDER BY r.message, r.number LIMIT ?",
        (*parameters, limit),
    )
    return [binned_entry_of(row) for row in rows]


def binned_keys(connection: sqlite3.Connection, selection: Selection, after: Key, limit: int) -> list[Key]:
    """A page of the keys of what is selected in the bin."""
    where, parameters = _where(_clauses_of_any(selection, held="''", span=ANY), after)
    statement = f"SELECT message, number FROM binned AS r{where} ORDER BY message, number LIMIT ?"
    return list(connection.execute(statement, (*parameters, limit)))


def keys_of_hop(connection: sqlite3.Connection, next_hop: str, domain: str, after: Key, limit: int) -> list[Key]:
    """A page of the keys of a domain's recipients that wait for a next hop."""
    statement = (
        "SELECT message, number FROM recipients"
        " WHERE (message, number) > (?, ?) AND next_hop = ? AND domain = ? AND pinned = 0"
        " ORDER BY message, number LIMIT ?"
    )
    return list(connection.execute(statement, (*after, next_hop, domain, limit)))


def _where(narrowing: Iterable[tuple[str, list[object]]], after: Key) -> tuple[str, list[object]]:
    clauses, parameters = [" WHERE (r.message, r.number) > (?, ?)"], list[object](after)
    for clause, values in narrowing:
        clauses.append(clause)
        parameters += values
    return " AND ".join(clauses), parameters


#: What each state is in a row; in step with entries.py.
_IN_STATE: Final = {
    RecipientState.HELD.value: ("held <> ''", 0),
    RecipientState.IN_DELIVERY.value: ("held = '' AND lease > 0 AND ready_at > ?", 1),
    RecipientState.DUE.value: ("held = '' AND NOT (lease > 0 AND ready_at > ?) AND due_at <= ?", 2),
    RecipientState.WAITING.value: ("held = '' AND NOT (lease > 0 AND ready_at > ?) AND due_at > ?", 2),
}


def _clauses(selection: Selection, now: Instant, span: tuple[int, int] = ANY) -> Iterator[tuple[str, list[object]]]:
    """`span`: of messages beyond which nothing is asked for, so that an address's need not all be gathered."""
    if selection.state:
        clause, times = _IN_STATE.get(selection.state, ("0", 0))
        yield clause, [now] * times
    yield from _clauses_of_any(selection, held="held", span=span)


def _clauses_of_any(selection: Selection, *, held: str, span: tuple[int, int]) -> Iterator[tuple[str, list[object]]]:
    """What the queue and the bin have in common; `held`: the column that says why it is held, in SQL."""
    if selection.text:
        yield _says(selection.text.lower(), held)
    if selection.received_before:
        yield "(SELECT received_at FROM messages WHERE id = r.message) < ?", [selection.received_before]
    if selection.ids:
        yield f"r.message IN ({', '.join('?' * len(selection.ids))})", [number_of(one) for one in selection.ids]
    if selection.address:
        address = selection.address.lower()
        yield _OF_ADDRESS, [address, *span, address, address]
    if selection.domain:
        yield "r.domain = ?", [selection.domain.lower()]
    if selection.next_hop:
        yield "r.next_hop = ?", [selection.next_hop]


def _says(text: str, held: str) -> tuple[str, list[object]]:
    """Whether a recipient's texts contain it: by LIKE, 20 times faster, where that knows upper from lower case."""
    if text.isascii():
        pattern = f"%{text.translate(_ESCAPED)}%"
        return rf"(last_outcome LIKE ? ESCAPE '\' OR {held} LIKE ? ESCAPE '\')", [pattern, pattern]
    return f"(instr(lowered(last_outcome), ?) > 0 OR instr(lowered({held}), ?) > 0)", [text, text]


def hops(connection: sqlite3.Connection) -> list[tuple[NextHop, str]]:
    """The pairs of next hop and domain. Reads every recipient: half a second a million, in a thread of its own."""
    rows = connection.execute(
        "SELECT DISTINCT next_hop, domain FROM recipients WHERE pinned = 0 ORDER BY next_hop, domain"
    )
    return [(NextHop(next_hop), domain) for next_hop, domain in rows]


def backlog(connection: sqlite3.Connection) -> list[tuple[NextHop, str, int]]:
    """The same, counted."""
    rows = connection.execute(
        "SELECT next_hop, domain, count(*) FROM recipients WHERE pinned = 0 GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [(NextHop(next_hop), domain, count) for next_hop, domain, count in rows]


def traffic(connection: sqlite3.Connection, since: Instant, limit: int) -> list[Passed]:
    """Recipients of what is done, the newest messages first."""
    found: list[Passed] = []
    for (envelope,) in connection.execute("SELECT envelope FROM done WHERE at >= ? ORDER BY at DESC", (since,)):
        found += record.passed(record.decode(envelope))
        if len(found) >= limit:
            break
    return found[:limit]


def history(connection: sqlite3.Connection, message: int) -> list[HistoryEvent]:
    """The life of a message: its receipt, the events, and its end, which also tells the last attempt."""
    done = connection.execute(
        "SELECT received_at, envelope, at, attempt FROM done WHERE message = ?", (message,)
    ).fetchall()
    for received_at, envelope, at, attempt in done:
        return [*life_of(message, received_at, envelope, _events(connection, message)), *end_of(message, at, attempt)]
    queued = connection.execute(
        "SELECT received_at, envelope FROM messages WHERE id = ?"
        " AND (EXISTS (SELECT 1 FROM recipients WHERE message = id)"
        " OR EXISTS (SELECT 1 FROM reports WHERE message = id))",
        (message,),
    ).fetchall()
    for received_at, envelope in queued:
        return life_of(message, received_at, envelope, _events(connection, message))
    return []


def _events(connection: sqlite3.Connection, message: int) -> Iterator[tuple[Any, ...]]:
    return connection.execute(
        "SELECT at, kind, text, details FROM events WHERE message = ? ORDER BY number", (message,)
    )


def find(connection: sqlite3.Connection, address: str, limit: int) -> list[MessageId]:
    """Messages by an address, newest first."""
    return [ids.from_number(message) for (message,) in connection.execute(_FIND, (address.lower(), limit))]


def addressed(connection: sqlite3.Connection, address: str, before: int, limit: int) -> list[int]:
    """Messages of an address older than `before`, newest first."""
    rows = connection.execute(_ADDRESSED, (address.lower(), before, limit))
    return [message for (message,) in rows]


def search(connection: sqlite3.Connection, wanted: Search, before: int, looked_at: Sequence[int], few: int) -> Searched:
    """Of the `few` newest messages older than `before` (of those `looked_at`, where there are any), those that fit."""
    floor = ids.first_number(wanted.since) if wanted.since else 0
    if looked_at:
        marks = ", ".join("?" * len(looked_at))
        rows = connection.execute(f"{_RECORDS} WHERE id IN ({marks}) ORDER BY id DESC", looked_at)
    else:
        rows = connection.execute(f"{_NEWEST} LIMIT ?", (before, floor, before, floor, few))
    fitting, last, count = [], before, 0
    for message, received_at, envelope, attempt in rows:
        last, count = message, count + 1
        if received_at >= wanted.since and (not wanted.until or received_at < wanted.until):
            attempts = itertools.chain([attempt.lower()] if attempt else (), _attempts(connection, message))
            if record.fits(wanted, envelope.lower(), attempts):
                fitting.append(message)
    return Searched(fitting, last, is_end=count < (len(looked_at) or few))


def _attempts(connection: sqlite3.Connection, message: int) -> Iterator[str]:
    rows = connection.execute("SELECT details FROM events WHERE message = ? AND kind = 'attempt'", (message,))
    return (details.lower() for (details,) in rows)


def captured(connection: sqlite3.Connection, before: int, limit: int) -> list[CapturedMessage]:
    """A page of the inbox, newest first."""
    rows = connection.execute(
        "SELECT number, message, at, recipients, size, envelope FROM captured CROSS JOIN messages ON id = message"
        " WHERE number < ? ORDER BY number DESC LIMIT ?",
        (before or 2**62, limit),
    )
    return [captured_of(row) for row in rows]


def captured_message(connection: sqlite3.Connection, number: int) -> tuple[QueuedMessage, int]:
    """A captured message and its draft. Raises: KeyError."""
    row = connection.execute("SELECT message FROM captured WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise KeyError(number)
    return stored_message(connection, row[0])


def counts(connection: sqlite3.Connection) -> Counts:
    """The queue in numbers."""
    return Counts(*connection.execute("SELECT messages, recipients, held, reports FROM counts").fetchone())
