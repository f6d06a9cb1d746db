"""The parts of a spool that several workers share: each has a shard, a spool below the one that is configured.

    <spool>/queue.db              the shard of worker 0: that of a service with one process, too
    <spool>/shards/3/queue.db     the shard of worker 3
    <spool>/shelf.db              the shelf of all (common_shelf.py)

A shard outlives a change of their number. One that is no worker's any more has a process all the same, which delivers
what is in it (waypost.life), and is removed at a start when it holds nothing.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from waypost.queue.spool import Spool
from waypost.queue.storage import StorageError

#: Whatever of these has a row is worth a process.
_KEPT: Final = ("messages", "events", "done", "captured", "reports")


def shard(spool: Path, index: int) -> Path:
    """The directory of worker `index`."""
    return spool / "shards" / str(index) if index else spool


def shelf_of(directory: Path) -> Path:
    """The shelf that all shards of a spool have in common, by the directory of one of them."""
    return (directory.parent.parent if directory.parent.name == "shards" else directory) / "shelf.db"


def shards(spool: Path) -> Sequence[int]:
    """Those that exist, ascending; 0 always does."""
    try:
        names = [entry.name for entry in (spool / "shards").iterdir() if (entry / "queue.db").exists()]
    except OSError:
        names = []
    return [0, *sorted(int(name) for name in names if name.isascii() and name.isdigit() and name != "0")]


def remove_blank(spool: Path, workers: int) -> Sequence[int]:
    """Remove the shards beyond `workers` that hold nothing: no mail, no history, no captured copy.

    One that a process has stays, whatever is in it: the next message may come to it, and would be gone with it.
    """
    return [index for index in shards(spool) if index >= workers and _removed(shard(spool, index))]


def _removed(directory: Path) -> bool:
    """Whether it held nothing, and was nobody's."""
    try:
        held = Spool.take(directory, allow_ephemeral=True)
    except StorageError:
        return False
    try:
        blank = _is_blank(directory / "queue.db")
        if blank:
            shutil.rmtree(directory, ignore_errors=True)
        return blank
    finally:
        held.leave()


def _is_blank(database: Path) -> bool:
    """Whether it is sound and holds nothing; what cannot be told is for the process that opens it to say."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1.0)) as connection:
            rows = (connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in _KEPT)  # noqa: S608
            return not any(rows)
    except sqlite3.Error:
        return False
