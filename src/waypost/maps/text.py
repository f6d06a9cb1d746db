r"""The two text formats of map files, read into memory. Pure.

Tables: `key value, value …` a line, as Postfix's hash: and texthash: files have it; `key: value` as in aliases(5). A
line that begins with white space goes on from the one before; `#` begins a comment line.

Patterns: `/regular expression/flags replacement` a line, as in Postfix's regexp: and pcre: files; the first that is
found anywhere in the key wins; `$1` or `\1` in the replacement is a group. Case does not count unless the flag `i`
turns it on. `if`, `endif` and `!/…/` are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: `"quoted key" rest`, `key: rest`, `key rest`.
_ENTRY: Final = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*"(?:@\S*?)?|\S+?)(?::\s|\s|:?$)\s*(?P<values>.*)', re.DOTALL)
_PATTERN: Final = re.compile(r"/(?P<pattern>(?:[^/\\]|\\.)+)/(?P<flags>[a-zA-Z]*)\s+(?P<replacement>\S.*)", re.DOTALL)
_GROUP: Final = re.compile(r"\$\{?(\d+)\}?|\\(\d+)|\$\$")
_SEPARATOR: Final = re.compile(r"[,\s]+")


class MapTextError(ValueError):
    """What is wrong with a map's text, and on which line (from 1)."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Row:
    """One entry: its values, at least one, and the line it begins on."""

    values: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One pattern, what it is replaced by, and the line it begins on."""

    pattern: re.Pattern[str]
    replacement: str
    line: int

    def apply(self, key: str) -> tuple[str, ...]:
        """The values for `key`; none where the pattern is not found in it."""
        found = self.pattern.search(key)
        return split_values(_GROUP.sub(lambda group: _group(found, group), self.replacement)) if found else ()


def parse_table(text: str) -> Mapping[str, Row]:
    """Key, in lower case → its row. Raises: MapTextError, for a key without a value, or one that stands twice."""
    rows: dict[str, Row] = {}
    for number, line in logical_lines(text):
        found = _ENTRY.fullmatch(line)
        values = split_values(found["values"]) if found else ()
        if found is None or not values:
            raise MapTextError(number, f"{line.strip()!r} is a key without a value; write both, with a space between")
        key = found["key"].lower()
        if key in rows:
            raise MapTextError(number, f"{key!r} stands on line {rows[key].line} already; leave one of the two")
        rows[key] = Row(values, number)
    return rows


def parse_patterns(text: str) -> Sequence[PatternRow]:
    """The patterns in their order. Raises: MapTextError."""
    return tuple(_pattern(number, line) for number, line in logical_lines(text))


def split_values(text: str) -> tuple[str, ...]:
    """What stands between commas and white space."""
    return tuple(value for value in _SEPARATOR.split(text) if value)


def _pattern(number: int, line: str) -> PatternRow:
    found = _PATTERN.fullmatch(line.strip())
    if found is None:
        raise MapTextError(number, f"{line.strip()!r} is no pattern; write /regular expression/ and what it becomes")
    flags = re.NOFLAG if "i" in found["flags"] else re.IGNORECASE
    try:
        pattern = re.compile(found["pattern"].replace(r"\/", "/"), flags)
    except re.error as error:
        raise MapTextError(number, f"/{found['pattern']}/ is no regular expression: {error}") from error
    used = [int(group[1] or group[2]) for group in _GROUP.finditer(found["replacement"]) if group[1] or group[2]]
    if used and max(used) > pattern.groups:
        raise MapTextError(number, f"${max(used)} is used, and the pattern has {pattern.groups} groups")
    return PatternRow(pattern, found["replacement"], number)


def _group(found: re.Match[str], group: re.Match[str]) -> str:
    return "$" if group[0] == "$$" else found[int(group[1] or group[2])] or ""


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that go on from them, without comments and empty ones; each with the number it begins on."""
    begun, number_begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and begun:
            begun += " " + line.strip()
            continue
        if begun:
            yield number_begun, begun
        begun, number_begun = line, number
    if begun:
        yield number_begun, begun
