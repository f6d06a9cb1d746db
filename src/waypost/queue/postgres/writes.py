"""What is written to PostgreSQL: sets of rows, each by one statement, whatever their number.

**Accepting** is a single statement, so that it costs one round trip. Each accepting has a number of its own
(`acceptance`): one whose answer was lost is handed in again, and finds its own row if it had been done after all.

**Settling** first locks the messages, in the order of their ids, and the recipients under them: then the statements
that follow see what every other settlement has left, and whoever removes a message's last recipient knows it. Nobody
waits for a recipient he has not locked the message of; claims never wait at all (SKIP LOCKED).

Each function runs on the caller's connection; those that say so, in the caller's transaction. SQL is put together of
this file's constants alone; whatever comes from outside is a parameter. Not here: what operators do (acts.py).
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.postgres.database import Connection
from waypost.queue.rows import (
    AddressRow,
    Claimed,
    EventRow,
    Key,
    NoticeRow,
    RecipientRow,
    Settling,
    address_row,
    operator_events,
)

_COUNT: Final = """
    INSERT INTO counts AS c (shard, messages, recipients, held, reports) {rows}
    ON CONFLICT (shard) DO UPDATE SET messages = c.messages + excluded.messages,
        recipients = c.recipients + excluded.recipients, held = c.held + excluded.held,
        reports = c.reports + excluded.reports"""
#: Objects that are needed no longer: see bodies.py.
_UNWANTED: Final = "INSERT INTO unwanted SELECT draft, size FROM {rows} WHERE draft < 0 ON CONFLICT DO NOTHING"
_ACCEPT: Final = f"""
    WITH whole AS (DELETE FROM drafts WHERE number = ANY($5::bigint[]) AND number <> 0 RETURNING number),
    m AS (
        INSERT INTO messages (id, received_at, size, sender, draft, envelope, acceptance, octets)
        SELECT id, received_at, size, sender, draft, envelope, acceptance, octets
        FROM unnest($1::bigint[], $2::float8[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
            $8::bytea[]) AS u (id, received_at, size, sender, draft, envelope, acceptance, octets)
        WHERE draft = 0 OR draft IN (SELECT number FROM whole)
        ON CONFLICT (id) DO NOTHING RETURNING id
    ), r AS (
        INSERT INTO recipients
            (message, number, address, domain, next_hop, parameters, due_at, ready_at, lease, priority)
        SELECT u.* FROM unnest($9::bigint[], $10::int[], $11::text[], $12::text[], $13::text[], $14::text[],
            $15::float8[], $16::float8[], $17::bigint[], $18::smallint[])
            AS u (message, number, address, domain, next_hop, parameters, due_at, ready_at, lease, priority)
        JOIN m ON m.id = u.message RETURNING 1
    ), a AS (
        INSERT INTO addresses (period, address, message)
        SELECT u.* FROM unnest($19::bigint[], $20::text[], $21::bigint[]) AS u (period, address, message)
        JOIN m ON m.id = u.message ON CONFLICT DO NOTHING
    ), n AS ({_COUNT.format(rows="SELECT $22::bigint, (SELECT count(*) FROM m), (SELECT count(*) FROM r), 0, 0")})
    SELECT id FROM m"""
_FIRST_CHUNK: Final = """
    WITH d AS (INSERT INTO drafts VALUES ($1)) INSERT INTO chunks VALUES ($1, $2, $3) RETURNING 1"""
_CHUNK: Final = """
    WITH d AS (SELECT number FROM drafts WHERE number = $1 FOR KEY SHARE)
    INSERT INTO chunks SELECT d.number, $2, $3 FROM d RETURNING 1"""
_RECOGNISE: Final = """
    SELECT u.id FROM unnest($1::bigint[], $2::bigint[]) AS u (id, acceptance)
    WHERE EXISTS (SELECT 1 FROM messages AS m WHERE m.id = u.id AND m.acceptance = u.acceptance)
    OR EXISTS (SELECT 1 FROM done WHERE message = u.id)"""
#: What was refused to its client, though it turned out to be here: it goes as if it had never come.
_DISOWN: Final = f"""
    WITH m AS (
        DELETE FROM messages USING unnest($1::bigint[], $2::bigint[]) AS u (name, number)
        WHERE id = name AND acceptance = number RETURNING id, draft, size
    ), r AS (DELETE FROM recipients USING m WHERE message = m.id RETURNING 1),
    a AS (DELETE FROM addresses USING m WHERE period = m.id >> 43 AND message = m.id),
    c AS (DELETE FROM chunks USING m WHERE chunks.draft = m.draft AND m.draft > 0),
    o AS ({_UNWANTED.format(rows="m")}),
    n AS ({_COUNT.format(rows="SELECT 0::bigint, -(SELECT count(*) FROM m), -(SELECT count(*) FROM r), 0, 0")})
    SELECT id FROM m"""
#: Who is claimed before whom.
_DUE: Final = """
        SELECT message, number, priority, ready_at FROM recipients
        WHERE held = '' AND next_hop = $1 AND ready_at <= $2 AND {clause}
        ORDER BY {order}ready_at, message, number LIMIT greatest(0, $3::int{taken}) FOR UPDATE SKIP LOCKED"""
_TAKEN: Final = " - (SELECT count(DISTINCT message)::int FROM {})"
_HIGH: Final = _DUE.format(clause="priority > 0 AND priority <> 0", order="priority DESC, ", taken="")
_PLAIN: Final = _DUE.format(clause="priority = 0", order="", taken=_TAKEN.format("high"))
_LOW: Final = _DUE.format(
    clause="priority < 0 AND priority <> 0",
    order="priority DESC, ",
    taken=_TAKEN.format("high") + _TAKEN.format("plain"),
)
_CLAIM: Final = f"""
    WITH high AS ({_HIGH}), plain AS ({_PLAIN}), low AS ({_LOW}),
    chosen AS (
        SELECT message, row_number() OVER (ORDER BY max(priority) DESC, min(ready_at), message) AS place
        FROM (SELECT * FROM high UNION ALL SELECT * FROM plain UNION ALL SELECT * FROM low) AS found
        GROUP BY message ORDER BY 2 LIMIT $3
    ), free AS (
        SELECT r.message, r.number, place FROM recipients AS r JOIN chosen ON chosen.message = r.message
        WHERE held = '' AND next_hop = $1 AND ready_at <= $2 FOR UPDATE OF r SKIP LOCKED
    )
    UPDATE recipients AS r SET lease = $4::bigint + free.place, ready_at = $5 FROM free
    WHERE r.message = free.message AND r.number = free.number
    RETURNING r.message, r.lease, r.number, address, parameters, attempts, delay_reported, doubt"""
_BODIES: Final = """
    SELECT id, received_at, size, envelope, draft, CASE WHEN draft = 0
        AND sum(CASE draft WHEN 0 THEN size ELSE 0 END) OVER (ORDER BY place) <= $2 THEN octets ELSE ''::bytea END
    FROM unnest($1::bigint[]) WITH ORDINALITY AS u (name, place) JOIN messages ON id = name"""
_LOCK: Final = """
    WITH m AS MATERIALIZED (
        SELECT id FROM messages WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
    )
    SELECT r.message, r.number FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS u (message, number, lease)
    JOIN m ON m.id = u.message
    JOIN recipients AS r ON r.message = u.message AND r.number = u.number AND r.lease = u.lease
    FOR UPDATE OF r"""
_DELETE: Final = """
    DELETE FROM recipients AS r USING unnest($1::bigint[], $2::int[]) AS u (message, number)
    WHERE r.message = u.message AND r.number = u.number"""
_WAIT: Final = """
    UPDATE recipients AS r SET attempts = u.attempts, delay_reported = u.delay_reported, doubt = u.doubt,
        due_at = u.due_at, ready_at = u.due_at, held = u.held, last_outcome = u.last_outcome, lease = 0
    FROM unnest($1::int[], $2::bool[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::bigint[], $8::int[])
        AS u (attempts, delay_reported, doubt, due_at, held, last_outcome, message, number)
    WHERE r.message = u.message AND r.number = u.number"""
_NEW_REPORTS: Final = """
    INSERT INTO reports (message, notice) SELECT DISTINCT * FROM unnest($1::bigint[], $2::text[])
    ON CONFLICT DO NOTHING RETURNING 1"""
_REPORTED: Final = """
    INSERT INTO reported (report, number, details) SELECT reports.number, u.number, u.details
    FROM unnest($1::bigint[], $2::text[], $3::int[], $4::text[]) AS u (message, notice, number, details)
    JOIN reports ON reports.message = u.message AND reports.notice = u.notice
    ON CONFLICT (report, number) DO UPDATE SET details = excluded.details"""
_IS_NEEDED: Final = """(EXISTS (SELECT 1 FROM recipients WHERE recipients.message = m.id)
        OR EXISTS (SELECT 1 FROM reports WHERE reports.message = m.id))"""
_FINISH: Final = f"""
    WITH ended AS (
        SELECT m.id, u.at, m.received_at, m.envelope, u.attempt
        FROM unnest($1::bigint[], $2::float8[], $3::text[]) AS u (id, at, attempt) JOIN messages AS m ON m.id = u.id
        WHERE NOT {_IS_NEEDED}
    ), d AS (
        INSERT INTO done (message, at, received_at, envelope, attempt) SELECT id, at, received_at, envelope, attempt
        FROM ended ON CONFLICT (message) DO UPDATE SET at = excluded.at, attempt = excluded.attempt
    ), buried AS (
        DELETE FROM messages USING ended WHERE messages.id = ended.id
        AND NOT EXISTS (SELECT 1 FROM captured WHERE captured.message = ended.id)
        AND NOT EXISTS (SELECT 1 FROM binned WHERE binned.message = ended.id) RETURNING messages.draft, messages.size
    ), c AS (DELETE FROM chunks USING buried WHERE chunks.draft = buried.draft AND buried.draft > 0),
    o AS ({_UNWANTED.format(rows="buried")}),
    n AS ({_COUNT.format(rows="SELECT $4::bigint, -(SELECT count(*) FROM ended), $5::bigint, $6::bigint, $7::bigint")})
    SELECT id FROM ended"""
BURY: Final = f"""
    WITH buried AS (
        DELETE FROM messages AS m WHERE m.id = ANY($1::bigint[]) AND NOT {_IS_NEEDED}
        AND NOT EXISTS (SELECT 1 FROM captured WHERE captured.message = m.id)
        AND NOT EXISTS (SELECT 1 FROM binned WHERE binned.message = m.id) RETURNING m.draft, m.size
    ), o AS ({_UNWANTED.format(rows="buried")})
    DELETE FROM chunks USING buried WHERE chunks.draft = buried.draft AND buried.draft > 0"""
_EVENTS: Final = """
    INSERT INTO events (message, at, kind, text, details)
    SELECT * FROM unnest($1::bigint[], $2::float8[], $3::text[], $4::text[], $5::text[])"""
LOCK_MESSAGES: Final = "SELECT id FROM messages WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
KEYS: Final = "unnest($1::bigint[], $2::int[]) AS u (message, number)"
OF_KEYS: Final = "r.message = u.message AND r.number = u.number"


class MessageRow(NamedTuple):
    """A row of `messages`."""

    id: int
    received_at: Instant
    size: int
    sender: str
    draft: int
    envelope: str
    acceptance: int
    octets: bytes


class Accepting(NamedTuple):
    """All that a new message writes; the chunks of its draft are there already."""

    message: MessageRow
    recipients: list[RecipientRow]
    addresses: list[AddressRow]


def text(said: str) -> str:
    """What somebody said, as the database can keep it: PostgreSQL has no U+0000, and no halves of surrogates."""
    return said.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode()


# ---- receiving
async def accept(connection: Connection, group: Sequence[Accepting], shard: int) -> set[int]:
    """Take messages in; the ids of those that were: the others' are taken, or their draft has gone."""
    recipients = [row for one in group for row in one.recipients]
    addresses = [row for one in group for row in one.addresses]
    rows = await connection.fetch(
        _ACCEPT,
        *columns_of([one.message for one in group], 8),
        *columns_of(recipients, 10),
        *columns_of(addresses, 3),
        shard,
    )
    return {row["id"] for row in rows}


async def recognise(connection: Connection, group: Sequence[Accepting]) -> set[int]:
    """Those that had been taken in by the very same accepting, whose answer was lost."""
    asked = [one.message for one in group]
    rows = await connection.fetch(_RECOGNISE, [one.id for one in asked], [one.acceptance for one in asked])
    return {row["id"] for row in rows}


async def disown(connection: Connection, refused: Sequence[tuple[int, int]]) -> list[int]:
    """Drop messages whose clients were told that they were not taken; the ids of those that had been."""
    return [row["id"] for row in await connection.fetch(_DISOWN, *columns_of(refused, 2))]


async def write_chunk(connection: Connection, draft: int, number: int, octets: bytes) -> bool:
    """Put down a chunk of a draft; False: the draft has been dropped, and with it the chunks before."""
    return bool(await connection.fetch(_CHUNK if number else _FIRST_CHUNK, draft, number, octets))


async def register(connection: Connection, draft: int) -> None:
    """Say that there will be objects of a draft, before there are."""
    await connection.execute("INSERT INTO drafts VALUES ($1)", draft)


async def take_unwanted(connection: Connection, limit: int) -> list[tuple[int, int]]:
    """Drafts whose objects are to be deleted, with their sizes: nobody else takes them."""
    rows = await connection.fetch(
        "DELETE FROM unwanted WHERE draft IN (SELECT draft FROM unwanted LIMIT $1 FOR UPDATE SKIP LOCKED)"
        " RETURNING draft, size",
        limit,
    )
    return [(row["draft"], row["size"]) for row in rows]


async def put_back_unwanted(connection: Connection, rows: Sequence[tuple[int, int]]) -> None:
    """They could not be deleted now."""
    await connection.execute(
        "INSERT INTO unwanted SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING",
        *columns_of(rows, 2),
    )


async def discard(connection: Connection, drafts: Sequence[int]) -> None:
    """Drop drafts and their chunks."""
    await connection.execute(
        "WITH d AS (DELETE FROM drafts WHERE number = ANY($1::bigint[]) RETURNING number),"
        " o AS (INSERT INTO unwanted SELECT number, -1 FROM d WHERE number < 0 ON CONFLICT DO NOTHING)"
        " DELETE FROM chunks USING d WHERE draft = d.number",
        drafts,
    )


# ---- delivering
async def claim(
    connection: Connection, next_hop: str, *, now: Instant, until: Instant, messages: int, token: int
) -> list[Claimed]:
    """Claim what is due and nobody else is just claiming, at most so many messages; tokens follow on `token`."""
    claimed: list[Claimed] = []
    while len(claimed) < messages:
        wanted = messages - len(claimed)
        rows = await connection.fetch(_CLAIM, next_hop, now, wanted, token + len(claimed), until)
        claimed += _claimed(rows)
        if len(rows) < wanted:  # a message of many recipients counts as many rows: there may be more
            break
    return claimed


def _claimed(rows: Iterable[Any]) -> list[Claimed]:
    found: dict[int, Claimed] = {}
    for message, lease, *recipient in sorted(rows, key=lambda row: (row["lease"], row["number"])):
        found.setdefault(lease, Claimed(message, lease, [])).recipients.append(tuple(recipient))
    return list(found.values())


async def bodies(connection: Connection, messages: Sequence[int], inline: int) -> dict[int, tuple[Any, ...]]:
    """Their rows by their ids, as of Claimed; octets among them until there are `inline` of them."""
    rows = await connection.fetch(_BODIES, messages, inline)
    return {id_: tuple(row) for id_, *row in rows}


async def hold_claimed(connection: Connection, message: int, token: int, reason: str, now: Instant) -> None:
    """Set aside what a claim got of a message that cannot be read. In a transaction."""
    held = await connection.fetch(
        "UPDATE recipients SET held = $1, lease = 0, ready_at = due_at WHERE message = $2 AND lease = $3"
        " RETURNING message, address",
        reason,
        message,
        token,
    )
    await count(connection, held=len(held))
    await operated(connection, [tuple(row) for row in held], now, f"held: {reason}")


async def renew(connection: Connection, holds: Sequence[tuple[int, int, int]], until: Instant) -> set[tuple[int, int]]:
    """Prolong leases, (message, number, token) each; those recipients that still have it, as (token, number)."""
    rows = await connection.fetch(
        "UPDATE recipients AS r SET ready_at = $4 FROM unnest($1::bigint[], $2::int[], $3::bigint[])"
        f" AS u (message, number, lease) WHERE {OF_KEYS} AND r.lease = u.lease RETURNING r.lease, r.number",
        *columns_of(holds, 3),
        until,
    )
    return {(row["lease"], row["number"]) for row in rows}


async def release(connection: Connection, holds: Sequence[tuple[int, int, int]]) -> None:
    """Let recipients be due as they were before the claim."""
    await connection.execute(
        "UPDATE recipients AS r SET lease = 0, ready_at = r.due_at FROM unnest($1::bigint[], $2::int[], $3::bigint[])"
        f" AS u (message, number, lease) WHERE {OF_KEYS} AND r.lease = u.lease",
        *columns_of(holds, 3),
    )


@dataclass(slots=True)
class Ending:
    """What a group of settlements comes to, gathered over them."""

    gone: list[Key] = field(default_factory=list)
    waits: list[tuple[Any, ...]] = field(default_factory=list)
    notices: list[tuple[int, NoticeRow]] = field(default_factory=list)
    captured: list[tuple[int, Instant, str]] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    ended: dict[int, tuple[Instant, str]] = field(default_factory=dict)
    held: int = 0

    def add(self, one: Settling) -> None:
        self.gone += [(one.message, number) for number in one.gone]
        for row in one.waiting:
            said = (text(row.doubt), row.due_at, text(row.held), text(row.last_outcome), row.message, row.number)
            self.waits.append((row.attempts, row.delay_reported, *said))
            self.held += row.held != ""
        self.notices += [(one.message, notice) for notice in one.notices]
        if one.captured:
            self.captured.append((one.message, one.at, record.encode_list(one.captured)))
        if one.gone:
            self._end(one)
        else:
            self.events.append(EventRow(one.message, one.at, "attempt", "", one.attempt))

    def _end(self, one: Settling) -> None:
        """Something of a message ended; whether all of it did, the database tells."""
        if one.message in self.ended:
            earlier_at, earlier = self.ended[one.message]
            self.events.append(EventRow(one.message, earlier_at, "attempt", "", earlier))
        self.ended[one.message] = (one.at, one.attempt)


async def settle(connection: Connection, group: Sequence[Settling], shard: int) -> list[bool]:
    """Write settlements down; False for one whose lease was not its own any longer. In a transaction."""
    wanted = [_places(one) for one in group]
    locked = await connection.fetch(_LOCK, *columns_of([place for places in wanted for place in places], 3))
    ours = {(row["message"], row["number"]) for row in locked}
    ending, written = Ending(), []
    for one, places in zip(group, wanted, strict=True):
        keys = {(message, number) for message, number, _ in places}
        written.append(keys <= ours)
        if keys <= ours:
            ours -= keys
            ending.add(one)
    if any(written):
        await _write_ending(connection, ending, shard)
    return written


def _places(one: Settling) -> list[tuple[int, int, int]]:
    return [(one.message, number, one.token) for number in [*one.gone, *(row.number for row in one.waiting)]]


async def _write_ending(connection: Connection, ending: Ending, shard: int) -> None:
    if ending.gone:
        await connection.execute(_DELETE, *columns_of(ending.gone, 2))
    if ending.waits:
        await connection.execute(_WAIT, *columns_of(ending.waits, 8))
    reports = await add_notices(connection, ending.notices)
    if ending.captured:
        await connection.execute(
            "INSERT INTO captured (message, at, recipients) SELECT * FROM"
            " unnest($1::bigint[], $2::float8[], $3::text[])",
            *columns_of(ending.captured, 3),
        )
    await finish(connection, ending, shard=shard, recipients=-len(ending.gone), held=ending.held, reports=reports)


async def add_notices(connection: Connection, notices: Sequence[tuple[int, NoticeRow]]) -> int:
    """Let reports be due; the number of reports that are new."""
    if not notices:
        return 0
    rows = {(message, row.notice.value, row.number): row.details for message, row in notices}
    columns = columns_of([(*key, details) for key, details in rows.items()], 4)
    new = await connection.fetch(_NEW_REPORTS, columns[0], columns[1])
    await connection.execute(_REPORTED, *columns)
    return len(new)


async def finish(
    connection: Connection, ending: Ending, *, shard: int = 0, recipients: int = 0, held: int = 0, reports: int = 0
) -> None:
    """Write down which messages nothing is left to do for, what was attempted otherwise, and the counts."""
    if ending.ended or recipients or held or reports:
        rows = [(message, *last) for message, last in ending.ended.items()]
        finished = await connection.fetch(_FINISH, *columns_of(rows, 3), shard, recipients, held, reports)
        for (id_,) in finished:
            del ending.ended[id_]
    events = [EventRow(message, at, "attempt", "", last) for message, (at, last) in ending.ended.items() if last]
    await add_events(connection, [*ending.events, *events])


async def add_events(connection: Connection, events: Sequence[EventRow]) -> None:
    """Rows of the history."""
    if events:
        rows = [(one.message, one.at, one.kind, text(one.text), one.details) for one in events]
        await connection.execute(_EVENTS, *columns_of(rows, 5))


async def count(
    connection: Connection, *, messages: int = 0, recipients: int = 0, held: int = 0, reports: int = 0
) -> None:
    """Add to the queue's numbers, as those do who seldom come."""
    changes = (messages, recipients, held, reports)
    if any(changes):
        rows = "VALUES (0, $1::bigint, $2::bigint, $3::bigint, $4::bigint)"
        await connection.execute(_COUNT.format(rows=rows), *changes)


# ---- reporting
async def strike_off(connection: Connection, report: int, numbers: Sequence[int], event: EventRow) -> bool:
    """Strike recipients off a report that is due; False: it was struck off before. In a transaction."""
    await connection.execute(LOCK_MESSAGES, [event.message])
    struck = await connection.fetch(
        "DELETE FROM reported WHERE report = $1 AND number = ANY($2::int[]) RETURNING 1", report, numbers
    )
    if not struck:
        return False
    over = await connection.fetch(
        "DELETE FROM reports WHERE number = $1 AND NOT EXISTS (SELECT 1 FROM reported WHERE report = $1) RETURNING 1",
        report,
    )
    await finish(connection, Ending(events=[event], ended={event.message: (event.at, "")}), reports=-len(over))
    return True


# ---- what was done to recipients, as the history has it
def in_order(rows: Iterable[Any]) -> list[tuple[int, str]]:
    """Messages and addresses of recipients, in the order of the queue."""
    ordered = sorted(rows, key=lambda row: (row["message"], row["number"]))
    return [(row["message"], row["address"]) for row in ordered]


async def operated(connection: Connection, rows: Iterable[tuple[int, str]], now: Instant, said: str) -> list[int]:
    """Write one event a message; the messages."""
    events = operator_events(rows, now, said)
    await add_events(connection, events)
    return [event.message for event in events]


# ---- forgetting: each in a transaction
async def forget(connection: Connection, before: Instant, limit: int) -> int:
    """Drop the history of messages done before then, at most so many; the number of events dropped."""
    old = await connection.fetch(
        "DELETE FROM done WHERE message IN (SELECT message FROM done WHERE at < $1 ORDER BY at, message LIMIT $2"
        " FOR UPDATE SKIP LOCKED) RETURNING message, envelope, attempt <> '' AS was_attempted",
        before,
        limit,
    )
    events = await connection.fetch(
        "DELETE FROM events WHERE message = ANY($1::bigint[]) RETURNING 1", [row["message"] for row in old]
    )
    found = [address_row(row["message"], one) for row in old for one in record.addresses_in(row["envelope"])]
    await connection.execute(
        "DELETE FROM addresses AS a USING unnest($1::bigint[], $2::text[], $3::bigint[])"
        " AS u (period, address, message)"
        " WHERE a.period = u.period AND a.address = u.address AND a.message = u.message",
        *columns_of(found, 3),
    )
    return len(events) + sum(3 if row["was_attempted"] else 2 for row in old)


async def discard_captured(connection: Connection, keep: int) -> int:
    """Drop all but the newest captured messages; the number dropped."""
    rows = await connection.fetch(
        "DELETE FROM captured WHERE number <= (SELECT number FROM captured ORDER BY number DESC LIMIT 1 OFFSET $1)"
        " RETURNING message",
        keep,
    )
    messages = sorted({row["message"] for row in rows})
    await connection.execute(LOCK_MESSAGES, messages)
    await connection.execute(BURY, messages)
    return len(rows)


def columns_of(rows: Sequence[Sequence[Any]], number: int) -> list[list[Any]]:
    """Rows as the lists that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(number)]
