"""A damaged spool is set aside, and what can be read of it goes on in a new one.

Nothing of the damaged files is changed: they are renamed, and stay until an administrator removes them. Every row that
can be read and makes sense is copied. What cannot be whole is held, with its reason, for a person to decide: a message
whose body has a gap, one whose recipients are gone. Where a message would else be lost, it may arrive twice. What was
lost is named in a report beside the files.

Killed at any moment, it is begun anew at the next start. Not here: when a spool is damaged (opening.py), and how pages
are read (pages.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from waypost.mail.envelope import MessageId
from waypost.queue import ids, record
from waypost.queue.database import connect, create, migrations
from waypost.queue.pages import MAGIC, Pages, Row, Value, log_of
from waypost.queue.spool import sync_directory

#: What is copied; the other tables follow from these.
_COPIED: Final = (
    "epochs",
    "messages",
    "chunks",
    "recipients",
    "reports",
    "reported",
    "captured",
    "binned",
    "events",
    "done",
    "kept",
)
_TYPES: Final[dict[str, tuple[type, ...]]] = {"INTEGER": (int,), "REAL": (int, float), "TEXT": (str,), "BLOB": (bytes,)}
#: Lost messages named in a report.
_NAMED: Final = 1000
BODY_LOST: Final = (
    "part of its octets was lost when the spool was damaged; delete it, and ask its author to send it again"
)
RECIPIENTS_LOST: Final = "the spool was damaged, and whether it was delivered is not known: release it or delete it"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came of it. `lost`: messages known to have been there, with an address of theirs, and not found again."""

    messages: int
    recipients: int
    held: int
    unreadable: int  # pages, and rows on pages
    lost: tuple[tuple[MessageId, str], ...]

    def __str__(self) -> str:
        return (
            f"{self.messages} messages with {self.recipients} recipients are in the queue again, {self.held} of them "
            f"held because something of theirs is missing; {len(self.lost)} messages are lost"
        )


# ---- what stands beside a spool
def reports(spool: Path) -> Sequence[str]:
    """What was salvaged in this spool, a sentence each, as long as the damaged files are there."""
    return [_read(report) for report in sorted(spool.glob("queue.db.damaged-*.txt"))]


def _read(report: Path) -> str:
    first = report.read_text("utf-8").partition("\n")[0]
    return f"{first} Its report is {report}; when you are done with it, remove {report.stem}*"


def unfinished(path: Path) -> Sequence[Path]:
    """Damaged files set aside by a process that was killed before it had a new one in place of `path`."""
    if path.exists():
        return ()
    aside = sorted(path.parent.glob(f"{path.name}.damaged-*"))
    return [one for one in aside if one.suffix != ".txt" and not one.name.endswith("-wal") and not _told(one)]


def _told(aside: Path) -> bool:
    return aside.with_name(f"{aside.name}.txt").exists()


# ---- the act
def set_aside(path: Path) -> Path:
    """Rename a damaged database; its new name."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z")
    path.rename(aside)
    return aside


def salvage(path: Path, aside: Path, why: str) -> Salvaged:
    """Make a new database at `path` of what can be read of the one set aside. Raises: OSError, sqlite3.Error."""
    log = log_of(path)
    if log.exists():
        log.rename(log_of(aside))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    sync_directory(path.parent)
    new = path.with_name(f"{path.name}.new")
    with Pages.of(aside) as pages:
        create(new, _version(pages))
        with closing(connect(new)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            salvaged = _Copy(connection, pages).run()
            connection.execute("COMMIT")
    new.rename(path)
    sync_directory(path.parent)
    _tell(aside, why, salvaged)
    return salvaged


def _version(pages: Pages) -> int:
    """The schema's version, which page 1 tells; the latest, where it does not."""
    head, latest = pages.page(1), len(migrations())
    version = int.from_bytes(head[60:64], "big") if head.startswith(MAGIC) else latest
    return version if 0 < version <= latest else latest


def _tell(aside: Path, why: str, salvaged: Salvaged) -> None:
    lines = [
        f"The spool was found damaged and set aside as {aside}: {why}. Of it, {salvaged}.",
        f"Pages and rows that could not be read: {salvaged.unreadable}.",
        "",
        "A message that was delivered just before the damage may be delivered again.",
        "Lost messages, each with an address it was from or to:",
        *(f"{name} {address}" for name, address in salvaged.lost),
    ]
    aside.with_name(f"{aside.name}.txt").write_text("\n".join(lines) + "\n", "utf-8")


# ---- copying
@dataclass(frozen=True, slots=True)
class _Table:
    """A table, its columns in the order of the file."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    has_rowid: bool
    alias: int  # the column that is the rowid, or -1

    def fits(self, row: Row, *, has_rowid: bool) -> bool:
        """Whether a row can be one of this table's."""
        return (
            has_rowid == self.has_rowid
            and len(row.values) == len(self.types)
            and all(self._is(place, value) for place, value in enumerate(row.values))
        )

    def _is(self, place: int, value: Value) -> bool:
        return value is None if place == self.alias else isinstance(value, _TYPES[self.types[place]])

    def values(self, row: Row) -> tuple[Value, ...]:
        """A row's values, its key where it belongs."""
        return tuple(row.key if place == self.alias else value for place, value in enumerate(row.values))


class _Copy:
    """Copies from pages into a new database, in one transaction."""

    def __init__(self, connection: sqlite3.Connection, pages: Pages) -> None:
        self._connection = connection
        self._pages = pages
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        self._tables = {name: _table(connection, name) for name in _COPIED if name in there}
        self._refused = 0
        connection.execute("CREATE TEMP TABLE seen (message INTEGER PRIMARY KEY, address TEXT NOT NULL)")

    def run(self) -> Salvaged:
        """Copy, then put right what does not fit together."""
        self._copy_trees()
        self._drop_what_means_nothing()
        self._hold_what_is_not_whole()
        self._recall_recipients()
        self._index()
        return self._count()

    # -- rows
    def _copy_trees(self) -> None:
        trees = self._trees()
        for name, root in trees:
            for row in self._pages.tree(root):
                if name in self._tables:
                    self._insert(self._tables[name], row)
                elif name == "addresses":
                    self._see(row)
        if self._pages.unreadable or not self._pages.page(1).startswith(MAGIC):
            self._copy_strays()

    def _trees(self) -> Sequence[tuple[str, int]]:
        """Names and roots, indexes' too: as the file tells, else as those of a new one."""
        ours = self._connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall()
        roots: dict[str, int] = dict(ours)
        for row in self._pages.tree(1):
            match row.values:
                case (_, str() as name, _, int() as root, _) if name in roots:
                    roots[name] = root
                case _:
                    pass
        return list(roots.items())

    def _copy_strays(self) -> None:
        for has_rowid, row in self._pages.strays():
            for table in self._tables.values():
                if table.fits(row, has_rowid=has_rowid):
                    self._insert(table, row)

    def _insert(self, table: _Table, row: Row) -> None:
        if not table.fits(row, has_rowid=table.has_rowid) or not _makes_sense(table, row):
            self._refused += 1
            return
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT OR IGNORE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608 - names out of our own schema
        try:
            self._connection.execute(statement, table.values(row))
        except sqlite3.Error:
            self._refused += 1

    def _see(self, row: Row) -> None:
        match row.values:
            case (int(), str() as address, int() as message):
                self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (message, address))
            case _:
                self._refused += 1

    # -- what fits together
    def _drop_what_means_nothing(self) -> None:
        for statement in _DROPS:
            self._connection.execute(statement)

    def _hold_what_is_not_whole(self) -> None:
        for statement in (_GAP_IN_ROW, _GAP_IN_CHUNKS):
            self._connection.execute(f"{_HOLD} WHERE message IN ({statement})", (BODY_LOST,))

    def _recall_recipients(self) -> None:
        """A message nobody has a claim on had recipients: its envelope names them, whatever became of them."""
        for message, received_at, envelope in self._connection.execute(_FORSAKEN).fetchall():
            for number, (address, next_hop) in enumerate(record.recipients_in(envelope)):
                domain = record.domain_of(record.forward_path_of(address))
                self._connection.execute(
                    "INSERT INTO recipients (message, number, address, domain, next_hop, parameters, due_at, ready_at,"
                    " lease, held) VALUES (?1, ?2, ?3, ?4, ?5, '', ?6, ?6, 0, ?7)",
                    (message, number, address, domain, next_hop, received_at, RECIPIENTS_LOST),
                )

    # -- what follows
    def _index(self) -> None:
        rows = self._connection.execute(
            "SELECT id, envelope FROM messages UNION SELECT message, envelope FROM done"
        ).fetchall()
        self._connection.executemany(
            "INSERT OR IGNORE INTO addresses VALUES (?, ?, ?)",
            ((message >> 43, address, message) for message, text in rows for address in record.addresses_in(text)),
        )
        self._connection.execute(
            "UPDATE counts SET messages = (SELECT count(DISTINCT message) FROM"
            " (SELECT message FROM recipients UNION SELECT message FROM reports)),"
            " recipients = (SELECT count(*) FROM recipients),"
            " held = (SELECT count(*) FROM recipients WHERE held <> ''), reports = (SELECT count(*) FROM reports)"
        )

    def _count(self) -> Salvaged:
        messages, recipients, held = self._connection.execute(
            "SELECT messages, recipients, held FROM counts"
        ).fetchone()
        lost = self._connection.execute(_LOST, (_NAMED,)).fetchall()
        return Salvaged(
            messages,
            recipients,
            held,
            self._pages.unreadable + self._refused,
            tuple((ids.from_number(number), address) for number, address in lost),
        )


def _table(connection: sqlite3.Connection, name: str) -> _Table:
    columns = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    has_rowid = "WITHOUT ROWID" not in sql
    if not has_rowid:  # the file has the columns of the key first
        columns = sorted(columns, key=lambda column: column[2] or len(columns))
    alias = [place for place, (_, kind, key) in enumerate(columns) if has_rowid and key and kind == "INTEGER"]
    return _Table(
        name,
        tuple(column for column, _, _ in columns),
        tuple(kind for _, kind, _ in columns),
        has_rowid,
        alias[0] if alias else -1,
    )


def _makes_sense(table: _Table, row: Row) -> bool:
    """Whether those who read the row later will understand it."""
    of = dict(zip(table.columns, table.values(row), strict=True))
    try:
        match table.name:
            case "messages" | "done":
                record.addresses_in(str(of["envelope"]))
                record.decode_message(MessageId(""), str(of["envelope"]), 0.0, 0)
            case "recipients" | "binned":
                record.decode_recipient(0, str(of["address"]), str(of["parameters"]), 0, 0, "")
            case "reported":
                record.decode_reported(str(of["details"]))
            case "events":
                record.decode(str(of["details"]))
            case "captured":
                record.decode_list(str(of["recipients"]))
            case _:
                pass
    except ValueError:  # msgspec's errors, and those of paths, are
        return False
    return row.is_whole or table.name in {"messages", "chunks"}


_HOLD: Final = "UPDATE recipients SET held = ?, lease = 0, ready_at = due_at"
_GAP_IN_ROW: Final = "SELECT id FROM messages WHERE draft = 0 AND length(octets) <> size"
_GAP_IN_CHUNKS: Final = (
    "SELECT id FROM messages WHERE draft > 0 AND size <> (SELECT ifnull(sum(length(octets)), 0) FROM chunks"
    " WHERE position BETWEEN draft << 20 AND (draft << 20) + (1 << 20) - 1)"
)
_FORSAKEN: Final = (
    "SELECT id, received_at, envelope FROM messages WHERE id NOT IN (SELECT message FROM recipients)"
    " AND id NOT IN (SELECT message FROM reports) AND id NOT IN (SELECT message FROM done)"
    " AND id NOT IN (SELECT message FROM captured) AND id NOT IN (SELECT message FROM binned)"
)
_LOST: Final = (
    "SELECT message, address FROM seen WHERE message NOT IN (SELECT id FROM messages)"
    " AND message NOT IN (SELECT message FROM done) ORDER BY message LIMIT ?"
)
_DROPS: Final = (
    # A page that is free, but could not be told to be, holds what was done with long ago.
    "DELETE FROM recipients WHERE message IN (SELECT message FROM done)",
    "DELETE FROM reports WHERE message NOT IN (SELECT id FROM messages)",
    "DELETE FROM reported WHERE report NOT IN (SELECT number FROM reports)",
    "DELETE FROM reports WHERE number NOT IN (SELECT report FROM reported)",
    "DELETE FROM captured WHERE message NOT IN (SELECT id FROM messages)",
    "DELETE FROM binned WHERE message NOT IN (SELECT id FROM messages)",
    "DELETE FROM recipients WHERE message NOT IN (SELECT id FROM messages)",
    "DELETE FROM messages WHERE id IN (SELECT message FROM done)"  # noqa: ISC004 - one statement
    " AND id NOT IN (SELECT message FROM captured) AND id NOT IN (SELECT message FROM binned)",
    "DELETE FROM events WHERE message NOT IN (SELECT id FROM messages UNION SELECT message FROM done)",
    "DELETE FROM chunks WHERE position >> 20 NOT IN (SELECT draft FROM messages WHERE draft > 0)",
)
