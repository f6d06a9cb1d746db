"""A map in an SQLite database, read by a query of the administrator's; each question in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

from waypost.maps.lookup import NOT_LISTED, Listed, Lookup
from waypost.maps.text import split_values

#: Steps of SQLite's machine between two looks whether the answer is still wanted: some milliseconds.
_STEPS: Final = 100_000


class SqliteQuestion:
    """Asks `query`; the parameters `:key`, `:user` and `:domain` in it are the address and its two halves."""

    def __init__(self, path: Path, query: str, patience: timedelta) -> None:
        """`patience`: how long a writer who holds the database is waited for."""
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._where = path.name
        self._query = query
        self._patience = patience

    async def __call__(self, key: str) -> Lookup:
        """The first column of every row. Raises: sqlite3.Error."""
        given_up = threading.Event()
        try:
            values = await asyncio.to_thread(self._values, key, given_up)
        finally:
            given_up.set()
        return Listed(values, self._where) if values else NOT_LISTED

    def _values(self, key: str, given_up: threading.Event) -> tuple[str, ...]:
        user, _, domain = key.rpartition("@")
        with closing(sqlite3.connect(self._uri, uri=True, timeout=self._patience.total_seconds())) as connection:
            connection.set_progress_handler(given_up.is_set, _STEPS)
            rows = connection.execute(self._query, {"key": key, "user": user, "domain": domain}).fetchall()
        return tuple(value for row in rows if row[0] is not None for value in split_values(str(row[0])))
