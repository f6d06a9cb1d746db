"""Exim's domain and host lists in our words: which patterns they name, and whether one is in them; networks.

A list is asked from its beginning, the first item that fits decides, and where the last one is negated what fits none
is in it (specification, §10.1). Not here: what a list is used for (exim_routes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from waypost.admin.exim_text import Configuration, NotPlainError, Option, expanded, items, table
from waypost.admin.translation import Sheet
from waypost.route.domain import Pattern

_DEEPEST: Final = 10
_SHOWN: Final = 160
_FILES: Final = {"lsearch", "partial-lsearch", "wildlsearch", "nwildlsearch"}


@dataclass(frozen=True, slots=True)
class Item:
    """One of a list: a pattern of ours, or, where that is "", a list within the list."""

    pattern: str
    negated: bool = False
    inner: tuple[Item, ...] = ()


Items = tuple[Item, ...]
ALL: Final = (Item("*"),)


def is_in(listed: Items, pattern: str) -> bool:
    """Whether what a pattern stands for is in the list."""
    for item in listed:
        if covers(item.pattern, pattern) if item.pattern else is_in(item.inner, pattern):
            return not item.negated
    return bool(listed) and listed[-1].negated


def covers(wider: str, pattern: str) -> bool:
    """Whether the first of two patterns has all that the other one has."""
    name = pattern.removeprefix("=")
    return wider in ("*", pattern) or (wider[:1] not in "=[" and name.endswith(f".{wider}"))


def patterns_of(listed: Iterable[Item]) -> Iterator[str]:
    """All that a list names; with a domain that stands for those below it, that domain itself as one of its own."""
    for item in listed:
        yield from patterns_of(item.inner)
        if item.pattern:
            yield item.pattern
        if item.pattern and item.pattern[0] not in "*=[":
            yield f"={item.pattern}"


def found_by(kind: str, key: str) -> list[str]:
    """The domains that a lookup finds by this key of a file: partial ones take `*.x` for x itself, too (§9.7)."""
    if key == "*":
        return ["*"] if kind.endswith("*") else []
    if key.startswith("*.") and kind.startswith("partial"):
        return [key, key[2:]]
    is_exact = kind.startswith(("lsearch", "partial"))
    return [] if is_exact and "*" in key else [key]


@dataclass(frozen=True, slots=True)
class Source:
    """What is translated, what its names stand for, and where it is written."""

    found: Configuration
    values: Mapping[str, str]
    sheet: Sheet

    def plain(self, text: str) -> str:
        """Text with what is known put in. Raises: NotPlainError."""
        return expanded(text, self.values)

    def leave(self, option: Option, remedy: str, where: str = "") -> None:
        """Tell of a setting, with its place and its text, unless that may hold a secret."""
        value = "(hidden)" if option.hidden else " ".join(option.value.split())
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        self.sheet.leave(f"{option.place}: {where}{option.name} = {shown}", remedy)

    def text_of(self, file: str, place: str) -> str:
        """A file's text; told of, and empty, where it cannot be read."""
        try:
            return Path(file).read_text("utf-8", "replace")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.sheet.leave(f"{place}: {file}", f"cannot be read: {reason}")
            return ""

    # ---- domains
    def domains(self, option: Option, depth: int = 0) -> Items:
        """A list of domains; items that cannot be said here are told of, and left out. Raises: NotPlainError."""
        try:
            words = items(self.plain(option.value))
        except NotPlainError:
            if "$" in option.value and items(option.value)[1:]:
                words = items(option.value)
            else:
                raise
        return tuple(item for word in words for item in self._domain(word, option, depth))

    def _domain(self, word: str, option: Option, depth: int) -> Iterator[Item]:
        negated, name = word.startswith("!"), word.lstrip("! ")
        named = self.found.lists.get(("domain", name[1:]))
        if name.startswith("+") and named is not None and depth < _DEEPEST:
            yield Item("", negated, self.domains(named, depth + 1))
        elif name.partition(";")[0] in _FILES or name.startswith("/"):
            yield Item("", negated, tuple(self._filed(name, option)))
        elif name.startswith("dsearch;"):
            for each in _names_in(name.partition(";")[2].strip()):
                yield from self._pattern(each, negated, option)
        elif name == "@":
            yield from self._pattern(self.values["primary_hostname"], negated, option)
        else:
            yield from self._pattern(name, negated, option)

    def _filed(self, name: str, option: Option) -> Iterator[Item]:
        kind, _, file = name.partition(";") if ";" in name else ("", "", name)
        for _, key, _ in table(self.text_of(file.strip(), option.place)):
            for domain in found_by(kind, key):
                yield from self._pattern(domain, negated=False, option=option)

    def _pattern(self, name: str, negated: bool, option: Option) -> Iterator[Item]:  # noqa: FBT001 - as it stands in a list
        spelt = name if name == "*" or name.startswith("[") else name[2:] if name.startswith("*.") else f"={name}"
        try:
            yield Item(str(Pattern.parse(spelt)), negated)
        except ValueError:
            text = f"{option.place}: {option.name}: {name}"
            self.sheet.leave(text, "no domain by itself; list the domains that are meant")

    # ---- hosts
    def networks(self, option: Option, depth: int = 0) -> list[str]:
        """A list of hosts as networks, with a `!` before those that are not in it; others are told of."""
        try:
            words = items(self.plain(option.value))
        except NotPlainError:
            self.leave(option, "list the networks in relay.networks")
            return []
        found: list[str] = []
        for word in words:
            named = self.found.lists.get(("host", word[1:])) if word.startswith("+") else None
            if named is not None and depth < _DEEPEST:
                found += self.networks(named, depth + 1)
            else:
                found += self._network(word, option)
        return list(dict.fromkeys(found))

    def _network(self, word: str, option: Option) -> list[str]:
        if word.startswith("!") and not word.startswith("!+"):
            return [f"!{network}" for network in self._network(word[1:].strip(), option)]
        if word in {"localhost", "@[]"}:
            return ["127.0.0.0/8", "::1/128"]
        try:
            network = ip_network(word.strip("[]"), strict=False)
        except ValueError:
            if word not in {"+ignore_unknown", "+include_unknown", "+ignore_defer", "+include_defer"}:
                text = f"{option.place}: {option.name}: {word}"
                self.sheet.leave(text, "no network by itself; list the addresses in relay.networks")
            return []
        if network.prefixlen == 0:
            self.sheet.leave(f"{option.place}: {option.name}: {word}", "the whole internet: it would be an open relay")
            return []
        return [str(network)]


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(path.name for path in Path(directory).iterdir())
    except (OSError, ValueError):
        return []
