"""Exim's run time configuration taken apart: macros, .ifdef and .include, sections, named lists, drivers, lookups.

Each thing keeps the file and line it is from. What it means is Exim's specification (chapters 6, 9 and 10). Of string
expansion only what needs no message is done: names with a known value, `${if exists{…}…}`. Not here: what becomes of
it (exim.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from waypost.maps.text import logical_lines

_MACRO: Final = re.compile(r"([A-Z][A-Za-z0-9_]*)\s*==?\s*(.*)", re.DOTALL)
_LIST: Final = re.compile(r"(domain|host|address|localpart)list(?:_cache)?\s+(\w+)\s*=\s*(.*)", re.DOTALL)
_OPTION: Final = re.compile(r"(hide\s+)?([a-z_0-9]+)\s*=\s*(.*)", re.DOTALL)
_SWITCH: Final = re.compile(r"(hide\s+)?(no_|not_)?([a-z][a-z_0-9]*)")
_DRIVER: Final = re.compile(r"([A-Za-z0-9_]+)\s*:\s*")
_DIRECTIVE: Final = re.compile(r"\.(ifdef|ifndef|elifdef|elifndef|else|endif|include_if_exists|include)\b\s*(.*)")
_STATEMENT: Final = re.compile(r"(accept|defer|deny|discard|drop|require|warn)\b\s*(.*)", re.DOTALL)
_LOOKUP: Final = re.compile(
    r"\$\{lookup\s*\{(?P<key>[^{}]*|\$\{[^{}]*\}[^{}]*(?:\$\{[^{}]*\})?)\}\s*(?P<kind>[a-z0-9*@-]+)\s*"
    r"\{(?P<file>[^{}$]+(?:\$\{?domain(?:_data)?\}?[^{}$]*)?)\}\s*(?:\{\$\{?value\}?\}\s*)?(?:fail|\{\}|\{fail\})?\s*\}"
)
_EXISTS: Final = re.compile(r"\$\{if\s+exists\s*\{([^{}$]+)\}\s*")
_VARIABLE: Final = re.compile(r"\$(?:\{([a-z_]+)\}|([a-z_]+))")
#: What Exim defines by how it was built: taken to be there, but for the one library that Debian does not build with.
_BUILT_IN: Final = re.compile(r"_(?:HAVE|OPT|DRIVER|LOG|EXP)_(?!OPENSSL\b)\w+")
_MOST_IN_A_LINE: Final = 100_000
_DEEPEST: Final = 10


class NotPlainError(ValueError):
    """The text hangs on the message, or on more of Exim than is read here."""


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line, continuations put together, and where it begins: `exim.conf:12`."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """A setting; a switch is "true" or "false". `hidden`: Exim shows its value to administrators alone."""

    place: str
    name: str
    value: str
    hidden: bool = False


@dataclass(slots=True)
class Driver:
    """A router, a transport or an authenticator, and its options by name."""

    place: str
    name: str
    options: dict[str, Option] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """The value of an option."""
        return self.options[name].value if name in self.options else default

    def has(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.get(name) in {"true", "yes"}


@dataclass(slots=True)
class Statement:
    """One of an ACL: its verb, and its conditions and modifiers as they stand."""

    place: str
    acl: str
    verb: str
    conditions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Configuration:
    """All of it. `lists`: by kind and name. `odd`: places that could not be read, and what is wrong there."""

    main: dict[str, Option] = field(default_factory=dict)
    lists: dict[tuple[str, str], Option] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    routers: list[Driver] = field(default_factory=list)
    transports: dict[str, Driver] = field(default_factory=dict)
    authenticators: list[Driver] = field(default_factory=list)
    retry: list[Line] = field(default_factory=list)
    rewrite: list[Line] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)


# ---- lines
def lines_of(name: str, text: str) -> Iterator[Line]:
    r"""Whole lines: comments away, a `\` at the end goes on with the next one without its indent (§6.2)."""
    begun, number_begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#") or (not stripped and not begun):
            continue
        number_begun = number_begun if begun else number
        begun += stripped
        if begun.endswith("\\"):
            begun = begun[:-1] or " "
            continue
        yield Line(f"{name}:{number_begun}", begun.strip())
        begun = ""
    if begun.strip():
        yield Line(f"{name}:{number_begun}", begun.strip())


class Preprocessor:
    """Puts macros in, follows .include, and leaves out what .ifdef leaves out (§6.3 to §6.6)."""

    def __init__(self, odd: list[tuple[str, str]], macros: Mapping[str, str] = {}) -> None:
        self._macros = dict(macros)
        self._odd = odd
        self._taken: list[bool] = []  # for each .ifdef that is open: whether this part of it is read
        self._done: list[bool] = []  # and whether any of its parts has been

    def run(self, lines: Iterable[Line], depth: int = 0) -> Iterator[Line]:
        """The lines that count."""
        for line in lines:
            directive = _DIRECTIVE.fullmatch(line.text)
            if directive is not None:
                yield from self._directed(line, directive[1], directive[2].strip(), depth)
            elif all(self._taken):
                yield from self._counted(line)

    def _counted(self, line: Line) -> Iterator[Line]:
        macro = _MACRO.fullmatch(line.text)
        if macro is not None:
            self._macros[macro[1]] = self._put_in(Line(line.place, macro[2]))
        else:
            yield Line(line.place, self._put_in(line))

    def _put_in(self, line: Line) -> str:
        names = [name for name in self._macros if name in line.text]
        if not names:
            return line.text
        found = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        text = found.sub(lambda name: self._macros[name[0]], line.text)
        if len(text) <= _MOST_IN_A_LINE:
            return text
        self._odd.append((line.place, "its macros grow beyond all measure; write what is meant"))
        return ""

    def _directed(self, line: Line, word: str, rest: str, depth: int) -> Iterator[Line]:
        match word:
            case "ifdef" | "ifndef":
                holds = all(self._taken) and self._knows(rest) == (word == "ifdef")
                self._taken.append(holds)
                self._done.append(holds)
            case "elifdef" | "elifndef" | "else" | "endif" if not self._taken:
                self._odd.append((f"{line.place}: {line.text}", "there is no .ifdef before it; it is left out"))
            case "elifdef" | "elifndef":
                self._other_part(all(self._taken[:-1]) and self._knows(rest) == (word == "elifdef"))
            case "else":
                self._other_part(all(self._taken[:-1]))
            case "endif":
                self._taken.pop()
                self._done.pop()
            case _ if all(self._taken):
                yield from self._included(line, word, self._put_in(Line(line.place, rest)), depth)
            case _:  # of a part that is left out
                pass

    def _other_part(self, holds: bool) -> None:  # noqa: FBT001 - whether this part of an .ifdef is the one
        self._taken[-1] = holds and not self._done[-1]
        self._done[-1] = self._done[-1] or self._taken[-1]

    def _knows(self, names: str) -> bool:
        return any(name in self._macros or _BUILT_IN.fullmatch(name) for name in names.split())

    def _included(self, line: Line, word: str, path: str, depth: int) -> Iterator[Line]:
        if depth >= _DEEPEST:
            self._odd.append((f"{line.place}: {line.text}", "includes go deeper than is followed; put it in by hand"))
            return
        try:
            text = Path(path.strip('"')).read_text("utf-8", "replace")
        except (OSError, ValueError) as error:
            if word == "include":
                reason = error.strerror if isinstance(error, OSError) else error
                self._odd.append((f"{line.place}: {line.text}", f"cannot be read: {reason}; it is left out"))
            return
        yield from self.run(lines_of(Path(path).name, text), depth + 1)


# ---- sections
def configuration(lines: Iterable[Line], macros: Mapping[str, str] = {}) -> Configuration:
    """All sections."""
    found = Configuration()
    at = "main"
    for line in Preprocessor(found.odd, macros).run(lines):
        if re.match(r"begin\s", line.text):
            at = line.text.split()[1] if len(line.text.split()) > 1 else ""
            if at not in _SECTIONS:
                found.odd.append((f"{line.place}: {line.text}", "there is nothing like it here"))
        elif line.text and at in _SECTIONS:
            _SECTIONS[at](found, line)
    return found


def _main(found: Configuration, line: Line) -> None:
    named = _LIST.fullmatch(re.sub(r"^hide\s+", "", line.text))
    if named is not None:
        found.lists[named[1], named[2]] = Option(line.place, f"{named[1]}list {named[2]}", unquoted(named[3]))
        return
    option = option_of(line)
    if option.name:
        found.main[option.name] = option
    else:
        found.odd.append((f"{line.place}: {line.text}", "it is no setting of Exim's that is known here"))


def option_of(line: Line) -> Option:
    """`name = value`, `name`, `no_name`; the name is "" where it is none of these."""
    given = _OPTION.fullmatch(line.text)
    if given is not None:
        return Option(line.place, given[2], unquoted(given[3]), bool(given[1]))
    switch = _SWITCH.fullmatch(line.text)
    if switch is not None:
        return Option(line.place, switch[3], "false" if switch[2] else "true", bool(switch[1]))
    return Option(line.place, "", line.text)


def _acl(found: Configuration, line: Line) -> None:
    named, verb = _DRIVER.fullmatch(line.text), _STATEMENT.fullmatch(line.text)
    last = found.statements[-1] if found.statements else Statement(line.place, "", "")
    if named is not None:
        found.statements.append(Statement(line.place, named[1], ""))
    elif verb is not None:
        found.statements.append(Statement(line.place, last.acl, verb[1], [verb[2]] if verb[2] else []))
    else:
        last.conditions.append(line.text)


def _drivers(drivers: dict[str, Driver] | list[Driver], found: Configuration, line: Line) -> None:
    known = list(drivers.values()) if isinstance(drivers, dict) else drivers
    named = _DRIVER.fullmatch(line.text)
    option = option_of(line)
    if named is not None:
        driver = Driver(line.place, named[1])
        if isinstance(drivers, dict):
            drivers.pop(driver.name, driver)
            drivers[driver.name] = driver
        else:
            drivers.append(driver)
    elif known and option.name:
        known[-1].options[option.name] = option
    else:
        found.odd.append((f"{line.place}: (an option)", "it is no option of a driver; it is left out"))


_SECTIONS: Final[dict[str, Callable[[Configuration, Line], None]]] = {
    "main": _main,
    "acl": _acl,
    "routers": lambda found, line: _drivers(found.routers, found, line),
    "transports": lambda found, line: _drivers(found.transports, found, line),
    "authenticators": lambda found, line: _drivers(found.authenticators, found, line),
    "retry": lambda found, line: found.retry.append(line),
    "rewrite": lambda found, line: found.rewrite.append(line),
}


# ---- values
def unquoted(text: str) -> str:
    r"""A value that is in quotes, without them, and without the `\` in them (§6.16)."""
    text = text.strip()
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "r": "\r"}.get(found[1], found[1]), text[1:-1])


def items(text: str) -> list[str]:
    """A list's items, parted by `:` or by what stands after `<` at its beginning; two of them are one (§6.21)."""
    text, separator = text.strip(), ":"
    if len(text) > 1 and text[0] == "<" and not text[1].isalnum() and not text[1].isspace():
        separator, text = text[1], text[2:]
    parts = text.replace(separator * 2, "\0").split(separator)
    return [item for part in parts if (item := part.replace("\0", separator).strip())]


def expanded(text: str, values: Mapping[str, str]) -> str:
    """The text with what is known put in. Raises: NotPlainError."""
    text = _with_files(text)
    found = _VARIABLE.sub(lambda name: values.get(name[1] or name[2], name[0]), text)
    if "$" in found:
        raise NotPlainError(f"{text!r} hangs on the message")
    return found.strip()


def _with_files(text: str) -> str:
    """`${if exists{FILE}{A}{B}}` decided; B may be `fail`, which is as if nothing stood there."""
    for _ in range(_DEEPEST):
        begin = _EXISTS.search(text)
        if begin is None:
            break
        yes, after = _braced(text, begin.end())
        rest = text[after:].lstrip()
        no, end = ("", len(text) - len(rest))
        if rest.startswith("{"):
            no, end = _braced(text, end)
        elif rest.startswith("fail"):
            end += len("fail")
        closing = text[end:].lstrip()
        if not closing.startswith("}"):
            raise NotPlainError(f"{text!r} has braces that do not pair")
        text = text[: begin.start()] + (yes if _is_there(begin[1]) else no) + closing[1:]
    return text


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _braced(text: str, start: int) -> tuple[str, int]:
    """What stands between the brace at `start` and its like, and where it ends. Raises: NotPlainError."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth <= 0:
            if at == start:
                break
            return text[start + 1 : at], at + 1
    raise NotPlainError(f"{text!r} has braces that do not pair")


@dataclass(frozen=True, slots=True)
class Lookup:
    """`${lookup{KEY}KIND{FILE}}`: the key without braces, and whether its `*` entries count."""

    key: str
    kind: str
    file: str


def lookup_of(text: str) -> Lookup:
    """The one lookup that the text is. Raises: NotPlainError."""
    found = _LOOKUP.fullmatch(_with_files(text).strip())
    if found is None:
        raise NotPlainError(f"{text!r} is more than a lookup in a file")
    key = re.sub(r"\$\{(?:lc:)?\$?([a-z_]+)\}", r"$\1", found["key"].strip()).replace("_data", "")
    file = re.sub(r"\$\{?domain(?:_data)?\}?", "$domain", found["file"].strip())
    return Lookup(key, found["kind"], file)


def table(text: str) -> Iterator[tuple[int, str, str]]:
    """What lsearch finds in a file: line, key and value; of two with the same key the first (§9.3)."""
    seen: set[str] = set()
    for number, line in logical_lines(text):
        found = re.match(r'("(?:[^"\\]|\\.)*"|[^\s:]+)\s*:?\s*(.*)', line.strip(), re.DOTALL)
        key = found[1].strip('"').lower() if found is not None else ""
        if found is not None and key and key not in seen:
            seen.add(key)
            yield number, key, found[2].strip()
