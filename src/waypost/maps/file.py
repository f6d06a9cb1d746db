"""Maps in text files, read again when the file has changed. What the text means: text.py.

A file that has become unreadable or wrong is trouble at once: mail waits until it is mended. Replace a file by renaming
another over it; one that is written in place may be read half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from waypost.maps.lookup import NOT_LISTED, Keys, Listed, Lookup, MapTrouble
from waypost.maps.text import MapTextError, parse_patterns, parse_table
from waypost.net.clock import Clock

T = TypeVar("T")
#: Between two looks whether the file has changed: a look is a system call, and a person does not wait a second.
LOOK: Final = timedelta(seconds=1)
#: What is read of a file at most: a million addresses. A larger list belongs into a database.
MAX_OCTETS: Final = 64 * 1024 * 1024

Stamp: TypeAlias = tuple[int, int, int]
"""What changes when a file does: its inode, its size, its time in nanoseconds."""

_UNREAD: Final[Stamp] = (-1, -1, -1)


class TextFile(Generic[T]):
    """The parsed content of one file, as it is now."""

    def __init__(self, name: str, path: Path, parse: Callable[[str], T], clock: Clock) -> None:
        self._name = name
        self._path = path
        self._parse = parse
        self._clock = clock
        self._content: T | MapTrouble = MapTrouble("")
        self._stamp = _UNREAD
        self._looked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def content(self) -> T | MapTrouble:
        """The content, read anew where the file has changed since. Reading goes on in a thread."""
        if self._clock.monotonic() - self._looked_at < LOOK.total_seconds():
            return self._content
        async with self._reading:  # one reads, the others wait for what it finds
            if self._clock.monotonic() - self._looked_at >= LOOK.total_seconds():
                self._content, self._stamp = await asyncio.to_thread(self._refreshed, self._stamp, self._content)
                self._looked_at = self._clock.monotonic()
        return self._content

    def _refreshed(self, stamp: Stamp, content: T | MapTrouble) -> tuple[T | MapTrouble, Stamp]:
        now = _UNREAD
        try:
            status = self._path.stat()
            now = status.st_ino, status.st_size, status.st_mtime_ns
            if now == stamp:
                return content, stamp
            if status.st_size > MAX_OCTETS:
                return self._trouble(f"is larger than {MAX_OCTETS} octets; use a database"), now
            return self._parse(self._path.read_text("utf-8-sig")), now
        except OSError as error:
            return self._trouble(f"cannot be read: {error.strerror}"), _UNREAD  # rights may change by themselves
        except UnicodeDecodeError as error:
            return self._trouble(f"is not UTF-8 text, from its octet {error.start} on"), now
        except MapTextError as error:
            return self._trouble(str(error)), now

    def _trouble(self, problem: str) -> MapTrouble:
        return MapTrouble(f"map {self._name}: {self._path}: {problem}")


class TableFile:
    """`file = "aliases"`: keys and values."""

    keys = Keys.ALL

    def __init__(self, name: str, path: Path, clock: Clock) -> None:
        self.name = name
        self._where = path.name
        self._file = TextFile(name, path, parse_table, clock)

    async def look_up(self, key: str) -> Lookup:
        rows = await self._file.content()
        if isinstance(rows, MapTrouble):
            return rows
        found = rows.get(key)
        return Listed(found.values, f"{self._where}:{found.line}") if found else NOT_LISTED


class PatternFile:
    """`regexp = "patterns"`: the first pattern that is found in the key."""

    keys = Keys.WHOLE

    def __init__(self, name: str, path: Path, clock: Clock) -> None:
        self.name = name
        self._where = path.name
        self._file = TextFile(name, path, parse_patterns, clock)

    async def look_up(self, key: str) -> Lookup:
        rows = await self._file.content()
        if isinstance(rows, MapTrouble):
            return rows
        for row in rows:
            if values := row.apply(key):
                return Listed(values, f"{self._where}:{row.line}")
        return NOT_LISTED
