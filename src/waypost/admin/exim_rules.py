"""Exim's retry and rewriting rules in our words (specification, chapters 31 and 32).

Its retry rules say from the first failure on when to try again; ours are pauses between attempts, the last of which
repeats. Its rewriting rules may hold any expansion; ours are tables of addresses. Not here: sections (exim.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.admin.exim_lists import Source, patterns_of
from waypost.admin.exim_text import Line, NotPlainError, Option, lookup_of, table, unquoted
from waypost.config.units import format_duration

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME: Final = re.compile(r"(?:\d{1,9}[wdhms])+|\d{1,9}")
_RULE: Final = re.compile(r'("(?:[^"\\]|\\.)*"|\S+)\s+("(?:[^"\\]|\\.)*"|\S+)(?:\s+(\S+))?', re.DOTALL)
#: A local-part or an address that a table of ours can have.
_PLAIN: Final = re.compile(r"[^\s|/:,\"<>*#]+")
_MOST_PAUSES: Final = 200
_LONGEST: Final = 366 * 86400
_SENDERS: Final = frozenset("Ffrs")
_RECIPIENTS: Final = frozenset("Ttcb")
_MANNERS: Final = frozenset("QqRwS")


def seconds(text: str) -> float:
    """`1h30m` in seconds. Raises: NotPlainError."""
    if _TIME.fullmatch(text.strip()) is None:
        raise NotPlainError(f"{text!r} is no time of Exim's")
    return sum(int(number) * _UNITS.get(unit, 1) for number, unit in re.findall(r"(\d+)([wdhms]?)", text))


def duration(text: str) -> str:
    """The same, as our file spells it. Raises: NotPlainError."""
    length = seconds(text)
    if not 0 < length <= _LONGEST:
        raise NotPlainError(f"{text!r} is beyond what is taken here")
    return format_duration(timedelta(seconds=length))


@dataclass(frozen=True, slots=True)
class Retrying:
    """Pauses, and when it is given up; both as our file spells them."""

    schedule: tuple[str, ...]
    expire: str


def retrying(rule: str) -> Retrying:
    """What `F,2h,15m; G,16h,1h,1.5; F,4d,6h` comes to. Raises: NotPlainError."""
    at, pauses, until = 0.0, list[float](), 0.0
    parts = [part.strip() for part in rule.split(";") if part.strip()]
    for index, part in enumerate(parts):
        kind, until, pause, factor = _part(part)
        while at < until and len(pauses) < _MOST_PAUSES:
            pauses.append(pause)
            at += pause
            if kind == "F" and index == len(parts) - 1:
                break  # the last pause repeats
            pause *= factor
    if not pauses or until > _LONGEST:
        raise NotPlainError(f"{rule!r} is no retry rule")
    return Retrying(tuple(format_duration(timedelta(seconds=round(one))) for one in _short(pauses)), _length(until))


def _length(length: float) -> str:
    return format_duration(timedelta(seconds=length))


def _short(pauses: list[float]) -> list[float]:
    while len(pauses) > 1 and pauses[-1] == pauses[-2]:
        pauses.pop()
    return pauses


def _part(part: str) -> tuple[str, float, float, float]:
    """Its letter, until when, the first pause, and by what each one grows. Raises: NotPlainError."""
    words = [word.strip() for word in part.split(",")]
    if words[0] not in {"F", "G", "H"} or len(words) != (3 if words[0] == "F" else 4):
        raise NotPlainError(f"{part!r} is no part of a retry rule")
    factor = 1.0
    if words[0] != "F":
        if re.fullmatch(r"\d{1,3}(\.\d{1,6})?", words[3]) is None or float(words[3]) < 1:
            raise NotPlainError(f"{part!r} has no factor of 1 or more")
        factor = float(words[3])
    pause = seconds(words[2])
    if pause < 1:
        raise NotPlainError(f"{part!r} has no pause of a second or more")
    return words[0], seconds(words[1]), pause, factor


def retry(source: Source) -> Retrying:
    """The rule for everything; others, and what cannot be read, are told of. By default that of Exim's own example."""
    for line in source.found.retry:
        words = line.text.split(None, 2)
        if len(words) == 3 and words[:2] == ["*", "*"]:
            try:
                return retrying(words[2])
            except NotPlainError as error:
                source.sheet.leave(f"{line.place}: {line.text}", f"{error}; write [retry] by hand")
        elif len(words) < 3 or words[:2] != ["*", "*"]:
            source.sheet.leave(f"{line.place}: {line.text}", "schedule and expire of a [[route]] or [[destination]]")
    if not source.found.retry:
        source.sheet.leave("retry", "no rule is there: Exim tries once; here mail is tried again by [retry]")
    return Retrying((), "")


# ---- rewriting
@dataclass(frozen=True, slots=True)
class Rewrite:
    """Addresses and what becomes of them, and the setting of [rewriting] whose they are."""

    setting: str
    entries: tuple[tuple[str, str], ...]


def map_text(entries: Iterable[tuple[str, str]]) -> str:
    """A table of addresses as text; of two for the same the first."""
    kept = dict(reversed([(key.lower(), value) for key, value in entries]))
    return "".join(f"{key} {value}\n" for key, value in reversed(kept.items()))


def rewrites(source: Source, line: Line) -> Rewrite:
    """One rule of the rewrite section. Raises: NotPlainError."""
    found = _RULE.fullmatch(line.text.strip())
    if found is None:
        raise NotPlainError("it is no rewriting rule")
    flags = frozenset(found[3] or "") - _MANNERS
    setting = (
        "canonical"
        if not flags or flags >= {"E", "h"} or (flags & _SENDERS and flags & _RECIPIENTS)
        else "sender_canonical"
        if flags <= _SENDERS
        else "recipient_canonical"
        if flags <= _RECIPIENTS
        else ""
    )
    if not setting:
        raise NotPlainError("its flags have no like here; a map in [rewriting]")
    return Rewrite(setting, tuple(_entries(source, unquoted(found[1]), unquoted(found[2]), line.place)))


def _entries(source: Source, pattern: str, becomes: str, place: str) -> Iterator[tuple[str, str]]:
    if not pattern.startswith("*@"):
        yield _address(source, pattern), _address(source, becomes)
        return
    listed = source.domains(Option(place, "rewrite", pattern[2:]))
    names = [name.removeprefix("=") for name in patterns_of(listed) if name != "*"]
    if not names:
        raise NotPlainError("it names no domains that are known here; a map in [rewriting]")
    if "lookup" not in becomes:
        text = re.sub(r"^\$\{?1\}?@|^\$\{?local_part\}?@", "@", becomes)
        value = _address(source, text)
        for name in names:
            yield f"@{name}", value
        return
    found = lookup_of(becomes)
    for _, key, value in table(source.text_of(found.file, place)):
        for name in names if found.key in {"$local_part", "$1"} else [""]:
            if _PLAIN.fullmatch(key) and _PLAIN.fullmatch(value):
                yield f"{key}@{name}" if name else key, value


def _address(source: Source, text: str) -> str:
    value = source.plain(text)
    if re.fullmatch(r"[^\s@|/:,\"<>*]*@[^\s@|/:,\"<>*]+", value) is None:
        raise NotPlainError(f"{value!r} is no address; a map in [rewriting]")
    return value
