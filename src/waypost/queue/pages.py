"""A SQLite file read page by page, as far as it can be read: for a spool that SQLite itself gives up on.

SQLite stops at the first thing that is wrong, and takes a log with one wrong octet in its middle for one that ends
there. Here a page that makes no sense costs what stood on it, and nothing more. The comments name the sections of
sqlite.org/fileformat2.html. Nothing is written, and SQLite's locks are not asked: the file must be nobody's.

Not here: what the rows mean (salvage.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

Value: TypeAlias = "int | float | str | bytes | None"  # as SQLite knows NULL, and we must when we read it

#: The page size of every spool: SQLite's default.
PAGE: Final = 4096
MAGIC: Final = b"SQLite format 3\0"
_LOG_MAGICS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # §4.1; the byte order is that of the checksums
_INTERIOR: Final = {0x02, 0x05}
_LEAF: Final = {0x0A, 0x0D}
_TABLE: Final = {0x05, 0x0D}
#: No payload of ours is larger (a chunk or an inline body, and an envelope of 1,000 recipients).
_LARGEST: Final = 16 * 2**20


# ---- the log
@dataclass(frozen=True, slots=True)
class Frame:
    """A page in the log. `is_good`: its checksum follows from the frame before. `commits`: the last of a group."""

    page: int
    octets: bytes
    is_good: bool
    commits: bool


@dataclass(frozen=True, slots=True)
class Log:
    """The frames that belong to the log's present run. `is_damaged`: something broke in what had been synced."""

    frames: tuple[Frame, ...] = ()
    is_damaged: bool = False


def log_of(database: Path) -> Path:
    """Where a database has its log."""
    return database.with_name(f"{database.name}-wal")


def read_log(path: Path) -> Log:
    """The log beside a database. A tail that was never committed is no damage: it was promised to nobody."""
    octets = path.read_bytes() if path.exists() else b""
    count = (len(octets) - 32) // (24 + PAGE)
    if count < 1:
        return Log()
    header = struct.unpack_from(">8I", octets)
    order = _LOG_MAGICS.get(header[0], "<")
    is_header_good = header[0] in _LOG_MAGICS and _checksum(octets[:24], (0, 0), order) == header[6:]
    salt = header[4:6] if is_header_good else _usual_salt(octets, count)
    frames, seed = [], header[6:]
    for number in range(count):
        frame, seed = _frame(octets, 32 + number * (24 + PAGE), salt, seed, order)
        frames.append(frame)
    while frames and not (frames[-1].is_good and frames[-1].commits):
        frames.pop()
    return Log(tuple(frames), is_damaged=bool(frames) and not (is_header_good and _is_unbroken(frames)))


def _is_unbroken(frames: Sequence[Frame]) -> bool:
    """One group behind the first bad frame may be a leftover: of a commit that failed, or was cut off unsynced."""
    first_bad = next((number for number, frame in enumerate(frames) if not frame.is_good), len(frames))
    return sum(frame.commits for frame in frames[first_bad:]) < 2


def _usual_salt(octets: bytes, count: int) -> tuple[int, ...]:
    salts = [struct.unpack_from(">2I", octets, 32 + number * (24 + PAGE) + 8) for number in range(count)]
    return salts[0] if salts.count(salts[0]) > 1 or count == 1 else max(set(salts), key=salts.count)


def _frame(
    octets: bytes, at: int, salt: tuple[int, ...], seed: tuple[int, ...], order: str
) -> tuple[Frame, tuple[int, ...]]:
    page, size, salt_1, salt_2, *said = struct.unpack_from(">6I", octets, at)
    content = octets[at + 24 : at + 24 + PAGE]
    is_good = (salt_1, salt_2) == salt and page > 0
    if is_good:
        is_good = _checksum(content, _checksum(octets[at : at + 8], seed, order), order) == tuple(said)
    return Frame(page, content, is_good, size > 0 and (salt_1, salt_2) == salt), tuple(said)


def _checksum(octets: bytes, seed: tuple[int, ...], order: str) -> tuple[int, int]:
    """§4.2."""
    first, second = seed
    for one, two in struct.iter_unpack(f"{order}II", octets):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second


# ---- records
def _varint(octets: bytes, at: int) -> tuple[int, int]:
    value = 0
    for length in range(8):
        octet = octets[at + length]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + length + 1
    return value << 8 | octets[at + 8], at + 9


def decode(payload: bytes) -> list[Value]:
    """The values of a record (§2.1). What lies behind the payload's end is missing, or cut short.

    Raises: ValueError, IndexError: it is no record.
    """
    end, at = _varint(payload, 0)
    serials = []
    while at < end:
        serial, at = _varint(payload, at)
        serials.append(serial)
    if at != end:
        raise ValueError("the header of a record ends within a number")
    values: list[Value] = []
    for serial in serials:
        size = _size(serial)
        values.append(_value(serial, payload[at : at + size], size))
        at += size
    return values


def _size(serial: int) -> int:
    if serial >= 12:
        return (serial - 12) // 2
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[serial]


def _value(serial: int, octets: bytes, size: int) -> Value:
    if serial >= 12:
        return octets if serial % 2 == 0 else octets.decode("utf-8")
    if serial in {8, 9}:
        return serial - 8
    if len(octets) < size:
        raise ValueError("a number is cut short")
    if serial == 7:
        number: float = struct.unpack(">d", octets)[0]
        return number
    return int.from_bytes(octets, "big", signed=True) if serial else None


# ---- the file
@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: `key` is its rowid (0 in a table without). `is_whole`: nothing of its payload is missing."""

    key: int
    values: tuple[Value, ...]
    is_whole: bool


@dataclass(slots=True)
class Pages:
    """A database file with its log on top."""

    file: int  # its descriptor
    changed: dict[int, bytes] = field(default_factory=dict)  # by the log
    visited: set[int] = field(default_factory=set)
    unreadable: int = 0  # pages that a tree leads to, and cells on them, that make no sense

    @classmethod
    @contextmanager
    def of(cls, path: Path) -> Iterator[Pages]:
        """The file at `path` and its log. Raises: OSError, where they cannot even be opened."""
        log = read_log(log_of(path))
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield cls(file, {frame.page: frame.octets for frame in log.frames if frame.is_good})
        finally:
            os.close(file)

    @property
    def count(self) -> int:
        """Pages there are."""
        return max(os.fstat(self.file).st_size // PAGE, max(self.changed, default=0))

    def page(self, number: int) -> bytes:
        """A page's octets; b"" where there is none, or where the disk does not give it."""
        found = self.changed.get(number, b"")
        if found or number < 1:
            return found
        try:
            return os.pread(self.file, PAGE, (number - 1) * PAGE)
        except OSError:
            return b""

    def tree(self, root: int) -> Iterator[Row]:
        """The rows of a b-tree, as far as its pages lead to them (§1.6)."""
        to_visit = [root]
        while to_visit:
            number = to_visit.pop()
            page = self.page(number)
            start = 100 if number == 1 else 0
            if number in self.visited or len(page) < PAGE or page[start] not in _INTERIOR | _LEAF:
                self.unreadable += 1
                continue
            self.visited.add(number)
            if page[start] in _INTERIOR:
                to_visit += self._children(page, start)
            if page[start] != 0x05:
                yield from self.rows_on(page, start)

    def strays(self) -> Iterator[tuple[bool, Row]]:
        """The rows on leaves that no tree led to and that are not free; whether each stood in a table with rowids."""
        free = self._free()
        for number in range(2, self.count + 1):
            page = self.page(number)
            if number in self.visited or number in free or len(page) < PAGE or page[0] not in _LEAF:
                continue
            for row in self.rows_on(page, 0):
                yield page[0] in _TABLE, row

    def _free(self) -> set[int]:
        """§1.5; those that can be told."""
        free: set[int] = set()
        head = self.page(1)
        trunk = int.from_bytes(head[32:36], "big") if head.startswith(MAGIC) else 0
        while 1 < trunk <= self.count and trunk not in free and len(self.page(trunk)) == PAGE:
            free.add(trunk)
            page = self.page(trunk)
            leaves = min(int.from_bytes(page[4:8], "big"), PAGE // 4 - 2)
            free.update(struct.unpack_from(f">{leaves}I", page, 8))
            trunk = int.from_bytes(page[:4], "big")
        return free

    def _children(self, page: bytes, start: int) -> list[int]:
        cells = [at for at in _cells(page, start) if at + 4 <= PAGE]
        return [int.from_bytes(page[at : at + 4], "big") for at in (start + 8, *cells)]

    def rows_on(self, page: bytes, start: int) -> Iterator[Row]:
        """The rows on one page."""
        for at in _cells(page, start):
            try:
                yield self._row(page, at, page[start])
            except (ValueError, IndexError, struct.error):  # UnicodeDecodeError is a ValueError
                self.unreadable += 1

    def _row(self, page: bytes, at: int, kind: int) -> Row:
        key = 0
        size, at = _varint(page, at + (4 if kind in _INTERIOR else 0))
        if not 0 < size < _LARGEST:
            raise ValueError("no payload of ours has that size")
        if kind in _TABLE:
            key, at = _varint(page, at)
        payload = self._payload(page, at, size, is_table=kind in _TABLE)
        return Row(key, tuple(decode(payload)), len(payload) == size)

    def _payload(self, page: bytes, at: int, size: int, *, is_table: bool) -> bytes:
        """§1.6, "Cell Format"; less than `size` where the chain of overflow pages breaks."""
        most = PAGE - 35 if is_table else (PAGE - 12) * 64 // 255 - 23
        if size <= most:
            return page[at : at + size]
        least = (PAGE - 12) * 32 // 255 - 23
        here = least + (size - least) % (PAGE - 4)
        here = here if here <= most else least
        pieces, left = [page[at : at + here]], size - here
        following = int.from_bytes(page[at + here : at + here + 4], "big")
        while left > 0:
            page = self.page(following)
            if following < 2 or following in self.visited or len(page) < PAGE:
                break
            self.visited.add(following)
            pieces.append(page[4 : 4 + min(left, PAGE - 4)])
            left -= PAGE - 4
            following = int.from_bytes(page[:4], "big")
        return b"".join(pieces)


def _cells(page: bytes, start: int) -> list[int]:
    """Where the cells begin; those that point out of the page are left out."""
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + (12 if page[start] in _INTERIOR else 8)
    count = min(count, (PAGE - first) // 2)
    return [at for at in struct.unpack_from(f">{count}H", page, first) if first <= at < PAGE - 3]
