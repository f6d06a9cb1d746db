"""On which line of a TOML text each of its values stands, which `tomllib` does not tell.

Only for a text that `tomllib` has read without complaint: so this scanner need not judge, and stays small.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: ("route", 0, "domains", 1)."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a file settings stand, as a person looks them up. `where`: the file's own name."""

    where: str
    lines: Mapping[Path, int]

    def of(self, *path: str | int) -> str:
        """`waypost.toml:12`, or "default" where the file does not have that setting."""
        return f"{self.where}:{self.lines[path]}" if path in self.lines else "default"


#: Strings before all else, so that no mark inside one is taken for syntax. A triple-quoted one may end in five quotes.
_TOKEN: Final = re.compile(
    r"""
    (?P<skip>[ \t\r]+|\#[^\n]*)
    |(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}(?!\")|'{3}.*?'{3}(?!')|"(?:\\.|[^"\\])*"|'[^']*')
    |(?P<mark>[\n\[\]{}=,.])
    |(?P<bare>[^\s\[\]{}=,."'\#]+)
    """,
    re.VERBOSE | re.DOTALL,
)


def lines_of(text: str) -> Mapping[Path, int]:
    """The line, from 1, on which each table, key and element of `text` first stands."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ("\n", 0), ("", 0)]
        self._at = 0
        self._lines: dict[Path, int] = {(): 1}
        self._tables_in: dict[Path, int] = {}  # arrays of tables, and how many they hold so far

    def scan(self) -> Mapping[Path, int]:
        table: Path = ()
        while self._peek():
            if self._peek() == "\n":
                self._take()
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _take(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _skip_newlines(self) -> None:
        while self._peek() == "\n":
            self._take()

    def _mark(self, path: Path, line: int) -> None:
        self._lines.setdefault(path, line)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path all keys below it begin with."""
        _, line = self._take()
        is_array = self._peek() == "["
        if is_array:
            self._take()
        path: Path = ()
        keys = self._keys()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self._mark(path, line)
            if is_array and number == len(keys):
                self._tables_in[path] = self._tables_in.get(path, 0) + 1
            if path in self._tables_in:
                path = (*path, self._tables_in[path] - 1)
                self._mark(path, line)
        while self._peek() == "]":
            self._take()
        return path

    def _keys(self) -> list[str]:
        """`a."b.c".d` taken apart."""
        keys = [_key(self._take()[0])]
        while self._peek() == ".":
            self._take()
            keys.append(_key(self._take()[0]))
        return keys

    def _pair(self, table: Path) -> None:
        line = self._tokens[self._at][1]
        path = table
        for key in self._keys():
            path = (*path, key)
            self._mark(path, line)
        self._take()  # the equals sign
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._peek() == "[":
            self._array(path)
        elif self._peek() == "{":
            self._inline_table(path)
        else:
            while self._peek() not in {",", "]", "}", "\n"}:
                self._take()

    def _array(self, path: Path) -> None:
        self._take()
        index = 0
        self._skip_newlines()
        while self._peek() != "]":
            if self._peek() == ",":
                self._take()
            else:
                self._mark((*path, index), self._tokens[self._at][1])
                self._value((*path, index))
                index += 1
            self._skip_newlines()
        self._take()

    def _inline_table(self, path: Path) -> None:
        self._take()
        while self._peek() != "}":
            if self._peek() in {",", "\n"}:
                self._take()
            else:
                self._pair(path)
        self._take()


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "skip":
            yield found[0], line
        line += found[0].count("\n")


def _key(token: str) -> str:
    """A key as the document has it: the standard library judges its quotes and escapes."""
    return next(iter(tomllib.loads(f"{token} = 0"))) if token[0] in "\"'" else token
