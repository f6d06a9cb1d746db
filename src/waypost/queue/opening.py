"""Opening a spool, whatever state it is in: a new one, a sound one, one that was damaged.

What counts as damage: a file or a log that SQLite cannot read, a b-tree that does not hang together, a file that is
empty or missing while its log is not, a log that breaks off in what had been synced (SQLite would take that for its end
and forget the rest without a word). Not damage: a disk that gives an I/O error, a file system that is read-only; that
may pass, and opening fails with a sentence, to be tried again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import structlog

from waypost.queue.database import prepare
from waypost.queue.pages import log_of, read_log
from waypost.queue.salvage import Salvaged, salvage, set_aside, unfinished
from waypost.queue.spool import failed
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind


def make_ready(path: Path, *, salvages: bool, thorough: bool = False) -> None:
    """See that there is a sound database of our schema at `path`.

    `salvages`: a damaged one is set aside and salvaged; else it is an error, and stays as it is. `thorough`: look at
    every page, however many there are. Raises: StorageError.
    """
    for aside in unfinished(path):
        _salvage(path, aside, "the service was stopped while it was being salvaged")
    try:
        _refuse_a_broken_log(path)
        prepare(path, thorough=thorough)
    except StorageError as error:
        if error.fault.kind is not StoreFaultKind.DAMAGED or not salvages:
            raise
        _salvage(path, set_aside(path), error.fault.detail)
        prepare(path)


def _refuse_a_broken_log(path: Path) -> None:
    log = log_of(path)
    if not path.exists() and log.exists() and log.stat().st_size:
        path.touch(mode=0o600)  # whoever removed it did not mean its log
    if read_log(log).is_damaged:
        raise StorageError(StoreFault(StoreFaultKind.DAMAGED, f"{log} is damaged in what had been synced"))


def _salvage(path: Path, aside: Path, why: str) -> Salvaged:
    log = structlog.get_logger()
    log.error("the spool is damaged; salvaging what can be read", was=str(path), set_aside=str(aside), why=why)
    try:
        salvaged = salvage(path, aside, why)
    except (OSError, sqlite3.Error) as error:
        raise failed(f"{aside} could not be salvaged: {error}; it is tried again at the next start") from error
    log.error("the spool was damaged and is salvaged", set_aside=str(aside), result=str(salvaged))
    return salvaged
