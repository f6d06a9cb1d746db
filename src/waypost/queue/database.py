"""SQLite as the spool uses it: connections, the schema's versions, one thread that writes and some that read.

**Why a writer thread with groups.** A 250 is worth an fsync, and an fsync costs more than all the rest. So the one
thread that may write takes all operations that wait, runs them in one transaction, and pays one COMMIT for them all;
while it waits for the disk, the next group gathers, and a moment longer where many come (COMPANY). No operation is
answered before that COMMIT has returned.

**When something fails.** A statement that fails ends its group's transaction; then each operation is run in a
transaction of its own, so that only the one at fault fails. A COMMIT that fails with an I/O error fails the whole group
and is not tried again: after a failed fsync nobody knows which pages are on the disk, and a second fsync that succeeds
proves nothing. The connection is closed, and what the file really holds is found out by opening it anew. A group failed
so may turn out to be stored: then its client sends a message twice; none is lost.

Not here: what is written and read (writes.py, reads.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from waypost.queue.spool import failed, sync_directory
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

T = TypeVar("T")

#: "WayP": a file of ours, as `file` and `PRAGMA application_id` tell it.
APPLICATION: Final = 0x57617950
#: STRICT tables came with 3.37, RETURNING with 3.35, the JSON functions for everyone with 3.38.
OLDEST_SQLITE: Final = (3, 38, 0)
#: Files up to this size are checked whole at opening (some 0.1 s); of larger ones only header and schema are.
CHECKED_WHOLE: Final = 32 * 2**20
#: Operations in one transaction at most, so that the first does not wait long for the last.
GROUP: Final = 256
#: A group of so many or more is followed by pauses, in which the next one gathers: as long as it grows, and PAUSES at
#: most. What a commit costs, however much it holds, then falls on more messages, and that saves more time than the
#: pauses take (PostgreSQL calls them `commit_siblings` and `commit_delay`). A client that sends alone does not wait.
COMPANY: Final = 4
PAUSE: Final = timedelta(milliseconds=1)
PAUSES: Final = 4

PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # in WAL mode: fsync at every COMMIT
    # A spool's pages are written, freed and written again. A checkpoint copies each page of the log to the file once:
    # the longer the log, the more of them were overwritten meanwhile and are never copied. This is 16 MiB of log.
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
    # Distributions build SQLite with this on: each deleted message would be written once more, as zeros.
    "PRAGMA secure_delete = OFF",
    # KiB. What is read often (the upper pages of the indices) is far less, the system caches the file besides, and a
    # large message's octets pass through it all.
    "PRAGMA cache_size = -4000",
    "PRAGMA temp_store = MEMORY",
)


_REMEDY: Final = (
    'restore it from a backup, or set service.on_damage to "salvage" and start again: what can be read then goes on, '
    "and the damaged file is kept"
)


# ---- faults
def fault_of(error: sqlite3.Error, path: Path) -> StoreFault:
    """What an error of SQLite's means for the caller."""
    if is_full(error):
        return StoreFault(StoreFaultKind.FULL, f"no space left for the spool {path.parent}")
    if is_corrupt(error):
        return damage(path, str(error))
    return StoreFault(StoreFaultKind.FAILED, f"{path}: {error}")


def damage(path: Path, what: str) -> StoreFault:
    """The fault of a file that has to be restored or salvaged."""
    return StoreFault(StoreFaultKind.DAMAGED, f"{path} is damaged ({what}); {_REMEDY}")


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite could not make sense of the file."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk has no room: for a page, or for the index of the log (-shm) without which nothing is opened."""
    return getattr(error, "sqlite_errorname", "") in {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}


def _is_beyond_retry(error: sqlite3.Error) -> bool:
    """Whether the file's state is unknown after this error, so that only opening it anew tells."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB"))


# ---- connections
def connect(path: Path) -> sqlite3.Connection:
    """A connection with our settings; transactions are begun and ended by hand."""
    connection = sqlite3.connect(
        path, isolation_level=None, cached_statements=512, timeout=5.0, check_same_thread=False
    )
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


def connect_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Readers of a WAL database wait for nobody, and nobody for them."""
    connection = connect(path)
    connection.create_function("lowered", 1, str.lower, deterministic=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(path: Path, *, thorough: bool = False) -> None:
    """Create the file or bring it to our schema, and see that it is sound; `thorough`: whatever its size.

    Raises: StorageError, where it is damaged, of a later version, or no spool at all.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise failed(f"SQLite {sqlite3.sqlite_version} is too old for the spool; 3.38 or later is needed")
    try:
        if not path.exists():
            new = path.with_name(f"{path.name}.new")
            create(new, len(migrations()))
            new.rename(path)
            sync_directory(path.parent)
        size = path.stat().st_size
        if not size:
            raise StorageError(damage(path, "it is empty"))
        with contextlib.closing(connect(path)) as connection:
            _check(connection, path, whole=thorough or size <= CHECKED_WHOLE)
            _migrate(connection, path, len(migrations()))
    except sqlite3.Error as error:
        raise StorageError(fault_of(error, path)) from error


def create(path: Path, version: int) -> None:
    """An empty database of that version of the schema, in place of what an earlier try left behind.

    It is put in its place when it is whole, so that a file which is there and empty was not left so by us.
    """
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # its -wal and -shm inherit the mode
    with contextlib.closing(connect(path)) as connection:
        _migrate(connection, path, version)


def _check(connection: sqlite3.Connection, path: Path, *, whole: bool) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION and tables:
        raise failed(f"{path} is a database, but no spool of ours; service.spool must name a directory of its own")
    if whole:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageError(damage(path, " ".join(verdict.split())))


def migrations() -> list[str]:
    """The schema's steps in order; step n leads to `PRAGMA user_version` n."""
    folder = resources.files("waypost.queue.sql")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text("utf-8") for file in files]


def _migrate(connection: sqlite3.Connection, path: Path, wanted: int) -> None:
    steps = migrations()[:wanted]
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise failed(
            f"spool {path.parent} was written by a later release (schema {version}, this one knows {len(steps)}); "
            "run that release, or give this one a spool of its own"
        )
    for number, step in enumerate(steps[version:], start=version + 1):
        marks = f"PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION};"
        connection.executescript(f"BEGIN IMMEDIATE; {step}; {marks} COMMIT;")


# ---- the writer
class Transaction(Protocol):
    """What the writer runs operations in (writes.py has the one we use)."""

    def flush(self) -> None:
        """Send down what was gathered. Raises: sqlite3.Error, or the error of an operation that was gathered."""
        ...


X_contra = TypeVar("X_contra", bound=Transaction, contravariant=True)
X = TypeVar("X", bound=Transaction)


@dataclass(slots=True, eq=False)
class _Pending(Generic[X]):
    """An operation that waits for its turn, then for its answer."""

    run: Callable[[X], object]
    future: asyncio.Future[Any]
    answer: object = None
    error: tuple[Exception, ...] = ()  # at most one, in place of an answer

    def resolve(self) -> None:
        if self.future.done():  # its caller has gone away; the operation stands
            return
        if self.error:
            self.future.set_exception(self.error[0])
        else:
            self.future.set_result(self.answer)


class Writer(Generic[X]):
    """The thread that may write. Created inside the event loop it answers to."""

    def __init__(
        self, path: Path, begin: Callable[[sqlite3.Connection], X], damaged: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._damaged = damaged  # called in the loop, where the file turns out to be damaged
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._pending: queue.SimpleQueue[_Pending[X] | None] = queue.SimpleQueue()
        self._connection = connect(path)
        self._is_broken = False
        self._has_leftovers = False
        self._is_closed = False
        self._has_company = False  # whether operations come so close together that it is worth waiting for more
        self.commits = 0
        self._thread = threading.Thread(target=self._serve, name="spool-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[X], T]) -> asyncio.Future[T]:
        """Hand in an operation. It is carried out even if nobody waits for the future any longer.

        It may be run twice, in a new transaction each time, and raises StorageError only before it wrote anything.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._is_closed:
            future.set_exception(StorageError(StoreFault(StoreFaultKind.CLOSED, "the queue is not open")))
        else:
            self._pending.put(_Pending(operation, future))
        return future

    async def close(self) -> None:
        """Carry out what was handed in, then end the thread."""
        self._is_closed = True
        self._pending.put(None)
        await asyncio.to_thread(self._thread.join)

    # what follows runs in the thread
    def _serve(self) -> None:
        goes_on = True
        while goes_on:
            group, goes_on = self._next_group()
            self._has_company = len(group) >= COMPANY
            if group:
                self._run_group(group)
                self._tell_of_damage(group)
                with contextlib.suppress(RuntimeError):  # the loop was closed before us: nobody waits for an answer
                    self._loop.call_soon_threadsafe(_resolve, group)
        self._connection.close()

    def _tell_of_damage(self, group: Sequence[_Pending[X]]) -> None:
        if any(_is_damage(error) for pending in group for error in pending.error):
            with contextlib.suppress(RuntimeError):  # as in `_serve`
                self._loop.call_soon_threadsafe(self._damaged)

    def _next_group(self) -> tuple[list[_Pending[X]], bool]:
        first = self._pending.get()
        if first is None:
            return [], False
        if self._has_company:
            self._gather()
        group = [first]
        while len(group) < GROUP:
            try:
                following = self._pending.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return group, False
            group.append(following)
        return group, True

    def _gather(self) -> None:
        """Let more operations come; where none did, all who might hand one in wait for an answer themselves."""
        gathered = -1
        for _ in range(PAUSES):
            if self._pending.qsize() == gathered:
                return
            gathered = self._pending.qsize()
            time.sleep(PAUSE.total_seconds())  # noqa: TID251 - a thread, and the disk's time: no Clock rules either

    def _run_group(self, group: Sequence[_Pending[X]]) -> None:
        """Optimistic: all at once; only if that fails, one by one."""
        try:
            self._transact(group)
        except sqlite3.Error as error:
            if _is_beyond_retry(error) or self._is_broken or len(group) == 1:
                self._fail(group, StorageError(fault_of(error, self._path)))
            else:
                self._run_one_by_one(group)
        except Exception as error:  # noqa: BLE001 - whatever an operation raised is its caller's, and only that caller's
            if len(group) == 1:
                self._fail(group, error)
            else:
                self._run_one_by_one(group)

    def _run_one_by_one(self, group: Sequence[_Pending[X]]) -> None:
        for pending in group:
            pending.error = ()
            self._run_group((pending,))

    def _fail(self, group: Sequence[_Pending[X]], error: Exception) -> None:
        for pending in group:
            pending.error = (error,)

    def _transact(self, group: Sequence[_Pending[X]]) -> None:
        connection = self._sound_connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            transaction = self._begin(connection)
            for pending in group:
                try:
                    pending.answer = pending.run(transaction)
                except StorageError as refusal:  # its own, before it wrote anything
                    pending.error = (refusal,)
            transaction.flush()
            connection.execute("COMMIT")
            self.commits += 1
            if self._has_leftovers:  # behind good commits, what failed ones wrote would look like damage in the log
                self._begin_log_anew()
        except sqlite3.Error as error:
            self._roll_back(suspect=_is_beyond_retry(error))
            if is_full(error):
                self._begin_log_anew()  # a log that need not grow may be all the room there is
            raise
        except BaseException:
            self._roll_back(suspect=False)
            raise

    def _roll_back(self, *, suspect: bool) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            suspect = True
        if suspect:
            self._is_broken = self._has_leftovers = True
            self._connection.close()

    def _begin_log_anew(self) -> None:
        """Checkpoint the log, so that it is written from its beginning again. A try: a reader may be in the way."""
        with contextlib.suppress(sqlite3.Error):
            (is_busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._has_leftovers = bool(is_busy)

    def _sound_connection(self) -> sqlite3.Connection:
        if self._is_broken:
            self._connection = connect(self._path)
            self._is_broken = False
        return self._connection


def _is_damage(error: Exception) -> bool:
    return isinstance(error, StorageError) and error.fault.kind is StoreFaultKind.DAMAGED


def _resolve(group: Sequence[_Pending[Any]]) -> None:
    for pending in group:
        pending.resolve()


# ---- a reader
class Reader:
    """A thread with a connection of its own, so that reading never waits on the event loop nor for the writer."""

    def __init__(self, path: Path, name: str, damaged: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._damaged = damaged
        self._connections: list[sqlite3.Connection] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._is_closed = False

    async def run(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer, from one consistent snapshot. Raises: StorageError."""
        if self._is_closed:
            raise StorageError(StoreFault(StoreFaultKind.CLOSED, "the queue is not open"))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)
        except StorageError as error:
            if _is_damage(error):
                self._damaged()
            raise

    async def close(self) -> None:
        """Answer what was asked, then end the thread."""
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)
        for connection in self._connections:
            connection.close()

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if not self._connections:
                self._connections.append(connect_reading(self._path))
            connection = self._connections[0]
            connection.execute("BEGIN")
            try:
                return question(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            while self._connections:  # a connection that failed is not used again
                self._connections.pop().close()
            raise StorageError(fault_of(error, self._path)) from error
