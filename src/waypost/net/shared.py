"""Numbers that several processes keep together, in a file that each has mapped: who has how many of what, now.

Each process has a row of its own and writes nowhere else; to know a sum, it reads all rows. So there is no lock,
nothing waits, and whoever is killed leaves a row behind that the next one in its place clears.

The error, stated. Two processes that look at the same moment both see room for one more: a limit may be exceeded by the
number of processes less one. A number is found by the hash of its key: of 65,536 places, two keys share one now and
then, and are then counted together; with a thousand keys in use that is one key in sixty-five. The hash has a secret,
so that nobody can choose his neighbour.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

PLACES: Final = 1 << 16
_SECRET: Final = 32
_WIDTH: Final = 4  # octets a number
#: Keys whose place is remembered.
_REMEMBERED: Final = 8192


class Numbers(Protocol):
    """Numbers that several keep together: each changes its own, and sees the sum."""

    def add(self, key: str, amount: int) -> None:
        """Change a number of ours."""
        ...

    def total(self, key: str) -> int:
        """The sum over all."""
        ...


class SharedNumbers:
    """One process's view of the file: its own row, and the sums over all."""

    def __init__(self, mapped: mmap.mmap, row: int, rows: int) -> None:
        secret = bytes(mapped[:_SECRET])
        self._numbers = memoryview(mapped)[_SECRET:].cast("i")
        self._own = row * PLACES
        self._rows = range(0, rows * PLACES, PLACES)
        self._place = lru_cache(_REMEMBERED)(lambda key: _hash(secret, key))

    @classmethod
    def create(cls, path: Path, rows: int) -> None:
        """Make the file, all zeros but for its secret. Raises: OSError."""
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(os.urandom(_SECRET))
            file.truncate(_SECRET + rows * PLACES * _WIDTH)

    @classmethod
    def open(cls, path: Path, row: int) -> SharedNumbers:
        """Map the file; `row`: ours, which is cleared, for whoever had it is gone. Raises: OSError, ValueError."""
        with path.open("r+b") as file:
            rows = (file.seek(0, os.SEEK_END) - _SECRET) // (PLACES * _WIDTH)
            shared = cls(mmap.mmap(file.fileno(), 0), row, rows)
        shared.clear(row)
        return shared

    def clear(self, row: int) -> None:
        """Set a row to zero."""
        start = row * PLACES
        self._numbers[start : start + PLACES] = memoryview(bytes(PLACES * _WIDTH)).cast("i")

    def add(self, key: str, amount: int) -> None:
        """Change a number of ours."""
        self._numbers[self._own + self._place(key)] += amount

    def set(self, key: str, value: int) -> None:
        """Set a number of ours."""
        self._numbers[self._own + self._place(key)] = value

    def total(self, key: str) -> int:
        """The sum over all rows."""
        place, numbers = self._place(key), self._numbers
        return sum(numbers[row + place] for row in self._rows)

    def of_all(self, key: str) -> Sequence[int]:
        """The number of each, by row."""
        place = self._place(key)
        return [self._numbers[row + place] for row in self._rows]

    def close(self) -> None:
        """Give our part back: no number of ours counts any longer."""
        self.clear(self._own // PLACES)


def _hash(secret: bytes, key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), key=secret, digest_size=2).digest(), "big")
