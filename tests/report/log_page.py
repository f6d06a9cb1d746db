"""docs/reference/log.md: every event the log may have, read out of the program: its level, its fields, who says it.

python -m tests.report.log_page      print it anew
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from tests.report.attempts import ATTEMPT, DELIVERED, IN_DOUBT, LOST, MESSAGE, REFUSED, WAITING, fate
from waypost.mail.outcome import Outcome
from waypost.queue.storage import Gone, Next
from waypost.report.journal import _line

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "log.md"
LEVELS = ("debug", "info", "warning", "error")
#: What holds a logger where it is called.
LOGGERS = {"_say", "logger", "_LOG", "say", "_log", "log"}
#: Events of a name that is worked out: what a recipient's line is called.
OUTCOMES = ("delivered", "deferred", "rejected")
HEAD = """\
# The log

Each line is an event with fields. As JSON (`log.format = "json"`, and wherever no terminal is) a line begins with
`time`, `level` and `event`. In systemd's journal (`log.format = "journal"`) each field is one of the entry, `WAYPOST_`
before it and in upper case: `journalctl WAYPOST_ID=1dvq3kbaxm00g` is the life of one message. `id` is the message's
name all its life, from the 250 to its last report; `trace` is its W3C trace, where it belongs to one
([day to day](../howto/administer.md)). Nothing here holds a password or a body.

`worker` stands in every line where there are several processes. What hooks and libraries of yours say is theirs.

| event | level | fields | who says it |
|---|---|---|---|
"""


@dataclass
class Event:
    """One event, by all who say it."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


@cache
def events() -> dict[str, Event]:
    """All there are in the source."""
    found: dict[str, Event] = {}
    for file in sorted((ROOT / "src" / "waypost").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call):
                _take(call, str(file.relative_to(ROOT / "src" / "waypost")), found)
    for name in (*OUTCOMES, "in doubt"):
        found[name].fields.update(_line_of_a_recipient())
    return found


def _line_of_a_recipient() -> set[str]:
    """What its line says, by the function that makes it."""
    attempt = replace(ATTEMPT, message=replace(MESSAGE, traceparent="00-" + "1" * 32))
    fates: list[tuple[Outcome, Next]] = [(DELIVERED, Gone()), (LOST, WAITING), (REFUSED, Gone()), (IN_DOUBT, WAITING)]
    return {key for outcome, then in fates for key in _line(attempt, fate(outcome, then), helo=True)}


def _take(call: ast.Call, place: str, found: dict[str, Event]) -> None:
    level = _level(call.func)
    if not (level and call.args):
        return
    for name in _names(call.args[0]):
        event = found.setdefault(name, Event())
        event.levels.add(level)
        event.places.add(place)
        event.fields.update(_fields(call))


def _level(called: ast.expr) -> str:
    """The level of a call to a logger; "" of any other."""
    match called:
        case ast.Attribute(value=ast.Name(id=holder) | ast.Attribute(attr=holder), attr=level):
            return level if level in LEVELS and holder in LOGGERS else ""
        case ast.Name(id="say"):
            return "warning"
        case _:
            return ""


def _names(event: ast.expr) -> Iterator[str]:
    match event:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in event.values)
        case ast.Call(func=ast.Name(id="kind_of")):
            yield from OUTCOMES
        case _:
            return


def _fields(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.arg
    for argument in call.args[1:]:
        if isinstance(argument, ast.Dict):
            yield from _keys(argument)


def _keys(written: ast.Dict) -> Iterator[str]:
    for key, value in zip(written.keys, written.values, strict=True):
        if isinstance(key, ast.Constant):
            yield str(key.value)
        elif isinstance(value, ast.IfExp) and isinstance(value.body, ast.Dict):
            yield from _keys(value.body)


def page() -> str:
    """The whole page."""
    rows = [
        f"| `{name}` | {', '.join(sorted(event.levels, key=LEVELS.index))} | {_code(event.fields - {'exc_info'})} "
        f"| {_code(event.places)} |"
        for name, event in sorted(events().items(), key=lambda pair: pair[0].lower())
    ]
    return HEAD + "\n".join(rows) + "\n"


def _code(names: set[str]) -> str:
    return " ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
