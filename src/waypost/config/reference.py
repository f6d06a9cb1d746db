"""The manual of all settings, printed from the classes that validate them: docs/reference/config.md is its text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from inspect import cleandoc
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from waypost.config.model import ARRAYS, TABLES, Kind, Section
from waypost.config.units import format_duration, format_size

_INTRODUCTION: Final = """\
# Settings

One TOML file holds them all; `waypost check --config FILE` tells everything that is wrong with it, line by line. An
unknown key is an error. Durations are text with units: `"90s"`, `"1h30m"`, `"5d"` (`ms`, `s`, `m`, `h`, `d`, `w`).
Sizes are text in octets, or in `K`, `M`, `G` of them (powers of 1024): `"50M"`. Relative paths begin at the directory
the file is in.

This page is printed from the program's own models; do not edit it by hand.
"""


def reference() -> str:
    """All settings, as Markdown."""
    tables = (_section(f"[{name}]", model) for name, model in TABLES.items())
    arrays = (_section(f"[[{name}]]", model) for name, model in ARRAYS.items())
    return "\n".join([_INTRODUCTION, *tables, *arrays])


def toml(value: object) -> str:
    """A value as a file spells it; what is no TOML (a value already read) by its own text."""
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return f'"{format_duration(value)}"'
        case list() | tuple():
            return f"[{', '.join(toml(element) for element in value)}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {toml(element)}' for key, element in value.items())} }}"
        case int() | float():
            return str(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def example(field: FieldInfo) -> str:
    """A good value for a setting, as a file spells it."""
    if field.examples:
        return toml(field.examples[0])
    return _default(field)


def _default(field: FieldInfo) -> str:
    is_size = _kind(field).startswith("size")
    return f'"{format_size(field.default)}"' if is_size else toml(field.default)


def _section(title: str, model: type[Section]) -> str:
    return "\n".join([f"## `{title}`", "", cleandoc(model.__doc__ or ""), "", *_rows(model)])


def _rows(model: type[Section]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    # What a section has in common with another comes after what is its own.
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__):
        default = "required" if field.default is PydanticUndefined else f"`{_default(field)}`"
        yield f"| `{name}` | {_kind(field)} | {default} | {field.description} |"
    yield ""


def _kind(field: FieldInfo) -> str:
    named = [part.name for part in field.metadata if isinstance(part, Kind)]
    return named[-1] if named else _kind_of(field.annotation)


def _kind_of(annotation: Any) -> str:
    """The type's name for a reader: a list of what it holds, the words to choose from, or the plain type."""
    named = [part.name for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Kind)]
    if named:
        return named[-1]
    if get_origin(annotation) is Literal:
        return " \\| ".join(f'`"{word}"`' for word in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of: {_kind_of(get_args(annotation)[0])}"
    return {bool: "true \\| false", float: "number"}.get(annotation, "text")
