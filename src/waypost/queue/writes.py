"""What is written to the spool: the operations of one group, gathered so that many rows go down in one statement.

A message that is delivered at once costs a row each in `messages`, `recipients` and `done`, two in `addresses`, and the
deletion of the first two. Each statement costs the thread that runs it the interpreter's lock, taken and given back,
while the event loop wants it too; so the rows of a whole group are gathered and written by a handful of statements.

An operation only touches what was committed before it was handed in, or what it gathers itself (`release` and
`accept_held` are the exceptions, which send down first what was gathered). So gathering changes no operation's answer,
and an operation may be run again in a transaction of its own.

SQL is put together of this file's constants alone; whatever comes from outside is a parameter.
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, assert_never

from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.database import is_corrupt
from waypost.queue.operating import Act, Bin, MakeDue, Reroute, Restore, SetAside, Unhold
from waypost.queue.rows import (
    Accepting,
    AddressRow,
    BinnedRow,
    ChunkRow,
    Claimed,
    EventRow,
    Key,
    MessageRow,
    NoticeRow,
    RecipientRow,
    Settling,
    address_row,
    bounce_notices,
    operator_events,
)
from waypost.queue.space import room
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

_SIZES: Final = (64, 32, *range(16, 0, -1))

_INSERT_MESSAGES: Final = "INSERT INTO messages (id, received_at, size, envelope, draft, octets) VALUES "
_INSERT_RECIPIENTS: Final = (
    "INSERT INTO recipients (message, number, address, domain, next_hop, parameters, due_at, ready_at, lease, priority)"
    " VALUES "
)
_INSERT_ADDRESSES: Final = "INSERT INTO addresses (period, address, message) VALUES "
_INSERT_EVENTS: Final = "INSERT INTO events (message, at, kind, text, details) VALUES "
_DELETE_RECIPIENTS: Final = (
    "DELETE FROM recipients WHERE (message, number, lease) IN (SELECT column1, column2, column3 FROM (VALUES "
)
_IS_NEEDED: Final = (
    "(EXISTS (SELECT 1 FROM recipients WHERE message = messages.id)"
    " OR EXISTS (SELECT 1 FROM reports WHERE message = messages.id))"
)
_FINISH: Final = (
    "INSERT OR REPLACE INTO done (message, at, received_at, envelope, attempt)"
    " SELECT id, column2, received_at, envelope, column3 FROM (VALUES "
)
_FINISH_END: Final = f") CROSS JOIN messages ON id = column1 WHERE NOT {_IS_NEEDED}"
_BURY: Final = "DELETE FROM messages WHERE id IN ("
_BURY_END: Final = (
    f") AND NOT {_IS_NEEDED} AND NOT EXISTS (SELECT 1 FROM captured WHERE message = id)"
    " AND NOT EXISTS (SELECT 1 FROM binned WHERE message = id)"
)
#: What the bin keeps of a recipient.
_KEPT: Final = ", ".join(BinnedRow._fields)
#: Who is claimed before whom: an index, what it is asked for, and the order of the rest.
_TURNS: Final = (
    ("recipients_priority", "priority > 0 AND priority <> 0", "priority DESC, "),
    ("recipients_ready", "priority = 0", ""),
    ("recipients_priority", "priority < 0 AND priority <> 0", "priority DESC, "),
)
_WAIT: Final = (
    "UPDATE recipients SET attempts = ?, delay_reported = ?, doubt = ?, due_at = ?, ready_at = ?, held = ?,"
    " last_outcome = ?, lease = 0 WHERE message = ? AND number = ? AND lease = ?"
)


class LeaseLost(Exception):  # noqa: N818 - an answer inside this package, not a failure
    """A settlement came under a lease that has gone to another; its transaction writes nothing."""


@lru_cache(maxsize=256)
def _statement(head: str, columns: int, rows: int, tail: str) -> str:
    row = f"({', '.join('?' * columns)})" if columns > 1 else "?"
    return head + ", ".join([row] * rows) + tail


@dataclass(slots=True)
class Writes:
    """One transaction of the writer's. `reserve`: octets of the file system that only settling may use."""

    connection: sqlite3.Connection
    spool: Path
    reserve: int
    _room: list[bool] = field(default_factory=list)  # asked of the file system once a transaction
    _messages: list[MessageRow] = field(default_factory=list)
    _recipients: list[RecipientRow] = field(default_factory=list)
    _addresses: list[AddressRow] = field(default_factory=list)
    _gone: list[tuple[int, int, int]] = field(default_factory=list)
    _events: list[EventRow] = field(default_factory=list)
    _ended: dict[int, tuple[Instant, str]] = field(default_factory=dict)
    _new_messages: int = 0
    _new_recipients: int = 0
    _new_held: int = 0
    _new_reports: int = 0

    # ---- receiving
    def accept(self, accepting: Accepting) -> None:
        """Take a message in. Raises: StorageError, where there is no room."""
        self._require_room()
        self._messages.append(accepting.message)
        self._recipients += accepting.recipients
        self._addresses += accepting.addresses
        for chunk in accepting.chunks:
            self._one("INSERT INTO chunks VALUES (?, ?)", *chunk)
        if accepting.message.draft:
            self._one("DELETE FROM drafts WHERE number = ?", accepting.message.draft)
        self._new_messages += 1
        self._new_recipients += len(accepting.recipients)

    def accept_held(self, accepting: Accepting, reason: str, now: Instant) -> None:
        """Take a message in that is set aside at once. Raises: StorageError, where there is no room."""
        self.accept(accepting)
        self._insert()
        self.hold(
            [(row.message, row.number) for row in accepting.recipients], now, reason, record.done_by("held", "", reason)
        )

    def write_chunk(self, draft: int, chunk: ChunkRow) -> None:
        """Put down a chunk of a draft. Raises: StorageError, where there is no room."""
        self._require_room()
        self._one("INSERT OR IGNORE INTO drafts VALUES (?)", draft)
        self._one("INSERT INTO chunks VALUES (?, ?)", *chunk)

    def _require_room(self) -> None:
        """Accepting stops before the disk is full, so that settling, which writes too, can empty the queue."""
        if not self._room:
            self._room.append(room(self.spool, self.connection, enough=self.reserve) >= self.reserve)
        if not self._room[0]:
            detail = f"less than {self.reserve >> 20} MiB are left for the spool {self.spool}"
            raise StorageError(StoreFault(StoreFaultKind.FULL, detail))

    def discard(self, draft: int) -> None:
        """Drop a draft and its chunks."""
        if self._one("DELETE FROM drafts WHERE number = ?", draft):
            self._one("DELETE FROM chunks WHERE position BETWEEN ? AND ?", draft << 20, (draft + 1 << 20) - 1)

    # ---- delivering
    def claim(
        self, next_hop: str, *, now: Instant, until: Instant, tokens: Sequence[int], inline: int
    ) -> list[Claimed]:
        """Claim what is due, at most a message a token; bodies are read until there are `inline` octets of them."""
        claimed = []
        for message, token in zip(self._oldest_due(next_hop, now, len(tokens)), tokens, strict=False):
            recipients = self.connection.execute(
                "UPDATE recipients SET lease = ?, ready_at = ?"
                # The unary plus keeps SQLite on the primary key: by the index it would walk all that is due there.
                " WHERE message = ? AND +next_hop = ? AND held = '' AND ready_at <= ?"
                " RETURNING number, address, parameters, attempts, delay_reported, doubt",
                (token, until, message, next_hop, now),
            ).fetchall()
            row = self._read_message(message, whole=inline > 0)
            inline -= len(row[4]) if row else 0
            claimed.append(Claimed(message, token, sorted(recipients), row))
        return claimed

    def _read_message(self, message: int, *, whole: bool) -> tuple[Any, ...]:
        """Its row; empty where there is none, or where it cannot be read: that is one message's trouble."""
        select = "SELECT received_at, size, envelope, draft, iif(?, octets, x'') FROM messages WHERE id = ?"
        try:
            row: tuple[Any, ...] = self.connection.execute(select, (whole, message)).fetchone() or ()
        except sqlite3.Error as error:
            if not is_corrupt(error):
                raise
            return ()
        return row

    def hold_claimed(self, message: int, token: int, reason: str, now: Instant) -> None:
        """Set aside what a claim got of a message that cannot be read."""
        held = self.connection.execute(
            "UPDATE recipients SET held = ?, lease = 0, ready_at = due_at WHERE message = ? AND lease = ?"
            " RETURNING message, address",
            (reason, message, token),
        ).fetchall()
        self._new_held += len(held)
        self._operated(held, now, f"held: {reason}")

    def _oldest_due(self, next_hop: str, now: Instant, messages: int) -> list[int]:
        """Messages by priority, those of each by the time they fell due."""
        found: dict[int, None] = {}
        for index, clause, order in _TURNS:
            if len(found) >= messages:
                break
            rows = self.connection.execute(
                f"SELECT message FROM recipients INDEXED BY {index}"
                f" WHERE held = '' AND next_hop = ? AND ready_at <= ? AND {clause}"
                f" ORDER BY {order}ready_at, message, number",
                (next_hop, now),
            )
            for (message,) in rows:
                found[message] = None
                if len(found) == messages:
                    break
            rows.close()
        return list(found)

    def renew(self, message: int, token: int, numbers: Iterable[int], until: Instant) -> set[int]:
        """Prolong a lease; the recipients it still has."""
        update = "UPDATE recipients SET ready_at = ? WHERE message = ? AND number = ? AND lease = ?"
        return {number for number in numbers if self._one(update, until, message, number, token)}

    def release(self, message: int, token: int, numbers: Iterable[int]) -> None:
        """Let recipients be due as they were before the claim."""
        self._insert()  # a lease whose caller went away may be given back in the group its message came in
        for number in numbers:
            self._one(
                "UPDATE recipients SET lease = 0, ready_at = due_at WHERE message = ? AND number = ? AND lease = ?",
                message,
                number,
                token,
            )

    def settle(self, settling: Settling) -> None:
        """Write a settlement down. Raises: LeaseLost, here or at `flush`."""
        message = settling.message
        for row in settling.waiting:
            if not self._one(_WAIT, *row):
                raise LeaseLost
            self._new_held += row.held != ""
        for notice in settling.notices:
            self._add_notice(message, notice)
        if settling.captured:
            recipients = record.encode_list(settling.captured)
            self._one(
                "INSERT INTO captured (message, at, recipients) VALUES (?, ?, ?)", message, settling.at, recipients
            )
        if settling.gone:
            self._gone += [(message, number, settling.token) for number in settling.gone]
            self._new_recipients -= len(settling.gone)
            self._end(message, settling.at, settling.attempt)
        else:
            self.add_event(EventRow(message, settling.at, "attempt", "", settling.attempt))

    def _add_notice(self, message: int, notice: NoticeRow) -> None:
        kind = notice.notice.value
        self._new_reports += self._one("INSERT OR IGNORE INTO reports (message, notice) VALUES (?, ?)", message, kind)
        self._one(
            "INSERT OR REPLACE INTO reported SELECT number, ?, ? FROM reports WHERE message = ? AND notice = ?",
            notice.number,
            notice.details,
            message,
            kind,
        )

    # ---- reporting
    def strike_off(self, report: int, numbers: Iterable[int], event: EventRow) -> bool:
        """Strike recipients off a report that is due; False: it was struck off before."""
        struck = [self._one("DELETE FROM reported WHERE report = ? AND number = ?", report, n) for n in numbers]
        if not any(struck):
            return False
        self._new_reports -= self._one(
            "DELETE FROM reports WHERE number = ? AND NOT EXISTS (SELECT 1 FROM reported WHERE report = ?)",
            report,
            report,
        )
        self.add_event(event)
        self._end(event.message, event.at, "")
        return True

    # ---- operating
    def operate(self, keys: Sequence[Key], act: Act) -> int:
        """Carry out an act; the recipients changed."""
        match act:
            case MakeDue(now, said):
                return self.retry(keys, now, said)
            case Bin(now, why, reason):
                return self.delete(keys, now, why, reason)
            case Restore(now, said):
                return self.restore(keys, now, said)
            case Reroute(now, next_hop, said):
                return self.reroute(keys, next_hop, now, said)
            case SetAside(now, reason, said):
                return self.hold(keys, now, reason, said)
            case Unhold(now, said):
                return self.unhold(keys, now, said)
            case _:
                assert_never(act)

    def retry(self, keys: Sequence[Key], now: Instant, text: str = "") -> int:
        """Make waiting recipients due; the history has it where there is a `text`."""
        due = self._each(
            "UPDATE recipients SET due_at = ?, ready_at = ?"
            " WHERE message = ? AND number = ? AND lease = 0 AND held = '' AND due_at > ? RETURNING message, address",
            [(now, now, *key, now) for key in keys],
        )
        if text:
            self._operated(due, now, text)
        return len(due)

    def delete(self, keys: Sequence[Key], now: Instant, why: str, reason: str = "") -> int:
        """Move recipients nobody is delivering to the bin; with a `reason`, their authors are told."""
        removed = self._each(
            "DELETE FROM recipients WHERE message = ? AND number = ? AND (lease = 0 OR ready_at <= ?)"
            f" RETURNING held, {_KEPT}",
            [(*key, now) for key in keys],
        )
        self._new_recipients -= len(removed)
        self._new_held -= sum(held != "" for held, *_ in removed)
        binned = [BinnedRow(*row) for _, *row in removed]
        self._many(f"INSERT OR REPLACE INTO binned (at, why, {_KEPT}) VALUES ", [(now, why, *row) for row in binned])
        if reason:
            self._report_bounced(binned, now, reason)
        for message in self._operated(((row.message, row.address) for row in binned), now, why):
            self._end(message, now, "")
        return len(removed)

    def _report_bounced(self, binned: Sequence[BinnedRow], now: Instant, reason: str) -> None:
        for row in binned:
            (envelope,) = self.connection.execute(
                "SELECT envelope FROM messages WHERE id = ?", (row.message,)
            ).fetchone()
            for notice in bounce_notices(row, envelope, reason, now):
                self._add_notice(row.message, notice)

    def restore(self, keys: Sequence[Key], now: Instant, text: str) -> int:
        """Bring recipients back from the bin."""
        back = self._each(f"DELETE FROM binned WHERE message = ? AND number = ? RETURNING {_KEPT}", keys)
        self._many(
            f"INSERT INTO recipients (due_at, ready_at, lease, {_KEPT}) VALUES ", [(now, now, 0, *row) for row in back]
        )
        self._new_recipients += len(back)
        for message in self._operated(((row[0], row[2]) for row in back), now, text):
            self._begin_again(message)
        return len(back)

    def _begin_again(self, message: int) -> None:
        """A message that was done has something to do again; the events gathered come after what its end told."""
        ended = self.connection.execute(
            "DELETE FROM done WHERE message = ? RETURNING at, attempt", (message,)
        ).fetchall()
        for at, attempt in ended:
            self._new_messages += 1
            if attempt:
                self._one(f"{_INSERT_EVENTS}(?, ?, 'attempt', '', ?)", message, at, attempt)

    def empty_bin(self, before: Instant, limit: int) -> int:
        """Let go of what has been in the bin since before then; the number let go."""
        rows = self.connection.execute(
            "DELETE FROM binned WHERE (message, number) IN"
            " (SELECT message, number FROM binned WHERE at < ? ORDER BY at LIMIT ?) RETURNING message",
            (before, limit),
        ).fetchall()
        self._many(_BURY, sorted({(message,) for (message,) in rows}), _BURY_END)
        return len(rows)

    def reroute(self, keys: Sequence[Key], next_hop: str, now: Instant, text: str) -> int:
        """Let recipients nobody is delivering go elsewhere, and stay on that way."""
        moved = self._each(
            "UPDATE recipients SET next_hop = ?, pinned = 1, lease = 0, due_at = ?, ready_at = ?"
            " WHERE message = ? AND number = ? AND next_hop <> ? AND (lease = 0 OR ready_at <= ?)"
            " RETURNING message, address",
            [(next_hop, now, now, *key, next_hop, now) for key in keys],
        )
        self._operated(moved, now, text)
        return len(moved)

    def hold(self, keys: Sequence[Key], now: Instant, reason: str, text: str) -> int:
        """Set aside recipients nobody is delivering."""
        held = self._each(
            "UPDATE recipients SET held = ?, lease = 0, ready_at = due_at"
            " WHERE message = ? AND number = ? AND held = '' AND (lease = 0 OR ready_at <= ?)"
            " RETURNING message, address",
            [(reason, *key, now) for key in keys],
        )
        self._new_held += len(held)
        self._operated(held, now, text)
        return len(held)

    def unhold(self, keys: Sequence[Key], now: Instant, text: str) -> int:
        """Let held recipients be due."""
        released = self._each(
            "UPDATE recipients SET held = '', due_at = ?, ready_at = ?"
            " WHERE message = ? AND number = ? AND held <> '' RETURNING message, address",
            [(now, now, *key) for key in keys],
        )
        self._new_held -= len(released)
        self._operated(released, now, text)
        return len(released)

    def rehop(self, keys: Sequence[Key], old: str, new: str) -> int:
        """Move recipients to another next hop."""
        update = "UPDATE recipients SET next_hop = ? WHERE message = ? AND number = ? AND next_hop = ? AND pinned = 0"
        return sum(self._one(update, new, *key, old) for key in keys)

    def _operated(self, rows: Iterable[tuple[int, str]], now: Instant, text: str) -> list[int]:
        """Write one event a message; the messages."""
        events = operator_events(rows, now, text)
        self._events += events
        return [event.message for event in events]

    # ---- forgetting
    def forget(self, before: Instant, limit: int) -> int:
        """Drop the history of messages done before then, at most so many; the number of events dropped."""
        rows = self.connection.execute(
            "SELECT message, envelope, attempt <> '' FROM done WHERE at < ? ORDER BY at, message LIMIT ?",
            (before, limit),
        ).fetchall()
        dropped = 0
        for message, envelope, was_attempted in rows:
            dropped += 2 + was_attempted + self._one("DELETE FROM events WHERE message = ?", message)
            self._one("DELETE FROM done WHERE message = ?", message)
            for address in record.addresses_in(envelope):
                self._one(
                    "DELETE FROM addresses WHERE (period, address, message) = (?, ?, ?)", *address_row(message, address)
                )
        return dropped

    def discard_captured(self, keep: int) -> int:
        """Drop all but the newest captured messages; the number dropped."""
        rows = self.connection.execute(
            "DELETE FROM captured WHERE number <= (SELECT number FROM captured ORDER BY number DESC LIMIT 1 OFFSET ?)"
            " RETURNING message",
            (keep,),
        ).fetchall()
        self._many(_BURY, sorted({(message,) for (message,) in rows}), _BURY_END)
        return len(rows)

    # ---- opening
    def first_free_draft(self) -> int:
        """The number of the next draft."""
        (last,) = self.connection.execute("SELECT ifnull(max(position), 0) >> 20 FROM chunks").fetchone()
        return int(last) + 1

    def begin_epoch(self, owner: str) -> int:
        """A new epoch; leases of older ones end, and drafts they left are dropped."""
        self._one("INSERT INTO epochs (owner, opened_at) VALUES (?, CAST(strftime('%s', 'now') AS INTEGER))", owner)
        for (draft,) in self.connection.execute("SELECT number FROM drafts").fetchall():
            self.discard(draft)
        self._one("UPDATE recipients SET lease = 0, ready_at = due_at WHERE lease > 0")
        return int(self.connection.execute("SELECT max(epoch) FROM epochs").fetchone()[0])

    # ---- gathering, and sending down
    def add_event(self, event: EventRow) -> None:
        """Gather a row of the history."""
        self._events.append(event)

    def _end(self, message: int, at: Instant, attempt: str) -> None:
        """Something of a message ended; whether all of it did, shows at `flush`."""
        if message in self._ended:
            earlier_at, earlier = self._ended[message]
            self._write_attempt(message, earlier_at, earlier)
        self._ended[message] = (at, attempt)

    def _write_attempt(self, message: int, at: Instant, attempt: str) -> None:
        if attempt:
            self.add_event(EventRow(message, at, "attempt", "", attempt))

    def flush(self) -> None:
        """Send down what was gathered. Raises: LeaseLost, where a row that is to go is no longer under its lease."""
        self._insert()
        if self._many(_DELETE_RECIPIENTS, self._gone, "))") != len(self._gone):
            raise LeaseLost
        self._finish()
        self._many(_INSERT_EVENTS, self._events)
        self._count()

    def _insert(self) -> None:
        for head, rows in (
            (_INSERT_MESSAGES, self._messages),
            (_INSERT_RECIPIENTS, self._recipients),
            (_INSERT_ADDRESSES, self._addresses),
        ):
            self._many(head, rows)
            rows.clear()

    def _finish(self) -> None:
        if not self._ended:
            return
        finished = self._many(_FINISH, [(message, *last) for message, last in self._ended.items()], _FINISH_END)
        self._new_messages -= finished
        if finished < len(self._ended):
            for message, (at, attempt) in self._ended.items():
                if not self.connection.execute("SELECT 1 FROM done WHERE message = ?", (message,)).fetchall():
                    self._write_attempt(message, at, attempt)
        self._many(_BURY, [(message,) for message in self._ended], _BURY_END)

    def _count(self) -> None:
        changes = (self._new_messages, self._new_recipients, self._new_held, self._new_reports)
        if any(changes):
            self._one(
                "UPDATE counts SET messages = messages + ?, recipients = recipients + ?, held = held + ?,"
                " reports = reports + ?",
                *changes,
            )

    def _one(self, statement: str, *parameters: object) -> int:
        return self.connection.execute(statement, parameters).rowcount

    def _each(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [found for row in rows for found in self.connection.execute(statement, row).fetchall()]

    def _many(self, head: str, rows: Sequence[tuple[Any, ...]], tail: str = "") -> int:
        """Write rows by few statements: of 64, 32, or up to 16 rows each, so that few differ and all stay prepared."""
        written = start = 0
        for size in _SIZES:
            while len(rows) - start >= size:
                some = rows[start : start + size]
                statement = _statement(head, len(some[0]), size, tail)
                written += self.connection.execute(statement, [value for row in some for value in row]).rowcount
                start += size
        return written
