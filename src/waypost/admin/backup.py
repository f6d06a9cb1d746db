"""`waypost backup` and `restore`: a copy of the spool that is whole, taken while the service runs.

The database is copied by SQLite's own backup: it is the queue at one moment, and a message whose 250 came before that
moment is in it. What stands beside it (tokens, policies, counts for TLS reports) is copied as files, each of which is
always whole. Of several workers each shard is copied so, one after the other.

Restoring an old copy sends again what was delivered since: a queue is worth a backup against a lost disk, not against
yesterday. Not here: the configuration and its keys, which are files of the administrator's.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from waypost import __version__
from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, fail, show
from waypost.admin.words import counted
from waypost.queue.shards import shard, shards
from waypost.queue.spool import sync_directory

#: Directories beside the databases that are copied, too. Marks of final dots are not: they are of a process.
_BESIDE: Final = ("oauth", "mta-sts", "tls-reports")
_DATABASES: Final = ("queue.db", "shelf.db")
#: Pages copied at a time, so that the service's transactions come in between.
_PAGES: Final = 1000
_NOTE: Final = "backup.json"


class Copied(msgspec.Struct, frozen=True):
    """What a copy holds. `messages`: those that wait."""

    version: str
    spool: str
    shards: tuple[int, ...]
    messages: int


class BackupError(Exception):
    """It could not be made, or put back; the text says why and what to do."""


def take(spool: Path, to: Path) -> Copied:
    """Copy the spool into the directory `to`, which is new or empty. Raises: BackupError; then `to` is no backup."""
    if to.exists() and any(to.iterdir()):
        raise BackupError(f"{to} is not empty; name a new directory")
    if not (spool / "queue.db").exists():
        raise BackupError(f"there is no spool at {spool}; is it the right configuration?")
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        indices = tuple(shards(spool))
        for index in indices:
            _copy(shard(spool, index), shard(to, index))
        copied = Copied(__version__, str(spool), indices, sum(_check(shard(to, index)) for index in indices))
        (to / _NOTE).write_bytes(msgspec.json.encode(copied))  # the last: what has it is whole
        sync_directory(to)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"the spool could not be copied: {error}; what is in {to} is no backup") from error
    return copied


def _copy(source: Path, to: Path) -> None:
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _DATABASES:
        if (source / name).exists():
            _copy_database(source / name, to / name)
    for name in _BESIDE:
        if (source / name).is_dir():
            shutil.copytree(source / name, to / name)


def _copy_database(source: Path, to: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as reading,
        closing(sqlite3.connect(to)) as writing,
    ):
        reading.execute("BEGIN")  # one moment, however long copying it takes
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        reading.backup(writing, pages=_PAGES)
        writing.execute("PRAGMA journal_mode = DELETE")
    to.chmod(0o600)


def _check(directory: Path) -> int:
    """See that a copy is sound; the messages that wait in it. Raises: BackupError, sqlite3.Error."""
    for path in _databases(directory):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise BackupError(f"{path} is damaged ({verdict}); look at the log for what is wrong with the spool")
    with closing(sqlite3.connect(f"file:{directory / 'queue.db'}?mode=ro", uri=True)) as copy:
        (messages,) = copy.execute("SELECT messages FROM counts").fetchone()
        return int(messages)


def _databases(directory: Path) -> Iterator[Path]:
    return (directory / name for name in _DATABASES if (directory / name).exists())


def put_back(copy: Path, spool: Path) -> Copied:
    """Make the spool what it was. There must be none at its place. Raises: BackupError; then there is none still."""
    try:
        copied = msgspec.json.decode((copy / _NOTE).read_bytes(), type=Copied)
    except (OSError, msgspec.DecodeError):
        raise BackupError(f"{copy} is no backup that was finished; name a directory of `waypost backup`") from None
    if spool.exists() and any(spool.iterdir()):
        raise BackupError(
            f"there is a spool at {spool} already; stop the service, and move it away: mv {spool} {spool}.old"
        )
    aside = spool.with_name(f"{spool.name}.restoring")
    try:
        for index in copied.shards:
            _check(shard(copy, index))
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(copy, aside, ignore=shutil.ignore_patterns(_NOTE))
        aside.chmod(0o700)
        if spool.exists():
            spool.rmdir()
        aside.rename(spool)
        sync_directory(spool.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise BackupError(f"the spool could not be put back: {error}; nothing is there") from error
    return copied


# ---- commands
def backup(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Copy the spool, whole and checked, while the service runs.

    Example: waypost backup /var/backups/waypost/monday
    """
    spool = configured(config, as_json_value=json).spool
    try:
        copied = take(spool, to)
    except BackupError as error:
        problem, _, remedy = str(error).rpartition("; ")
        fail(problem, remedy, as_json_value=json)
    show(copied, lambda one: [Text(f"Copied and checked: {_waiting(one)} in {to}.")], as_json_value=json)


def restore(
    copy: Annotated[Path, typer.Argument(metavar="DIR", help="What `waypost backup` has made.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Put a backup in the spool's place, where there is none.

    What was delivered after it was taken is sent again.

    Example: waypost restore /var/backups/waypost/monday
    """
    spool = configured(config, as_json_value=json).spool
    try:
        copied = put_back(copy, spool)
    except BackupError as error:
        problem, _, remedy = str(error).rpartition("; ")
        fail(problem, remedy, as_json_value=json)
    show(copied, lambda one: [Text(f"Restored: {_waiting(one)} in {spool}.")], as_json_value=json)


def _waiting(copied: Copied) -> str:
    return f"{counted(copied.messages, 'message')} {'waits' if copied.messages == 1 else 'wait'}"
