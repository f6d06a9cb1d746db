"""The manual of the command line, printed from the commands themselves: man pages and docs/reference/cli.md. Pure.

Not here: writing the files, and the meaning of settings (config/reference.py prints that; here it is put into roff).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from waypost import __version__

EXIT_CODES: Final = (
    ("0", "It is as asked."),
    ("1", "It is not: refused, not found, not ready, not running, or nothing to do."),
    ("2", "The command was not understood."),
)
ENVIRONMENT: Final = (
    ("WAYPOST_CONFIG", "The configuration file, where --config names none."),
    ("WAYPOST_ADMIN", "Where the service answers, where --admin does not say."),
    ("WAYPOST_TOKEN", "A token of `waypost admin token`, where the service asks who comes."),
    ("NO_COLOR", "Whatever it is: no colours on a terminal."),
)
_METAVARS: Final = {int: "NUMBER", float: "SECONDS", str: "TEXT", Path: "FILE"}
_ROW: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option or argument; `spelling` is how it is written, `default` as text, "" where there is none to tell."""

    spelling: str
    help: str
    default: str
    is_required: bool
    is_repeatable: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `name` with all its words, `paragraphs` without summary and example."""

    name: str
    summary: str
    paragraphs: tuple[str, ...]
    example: str
    parameters: tuple[Parameter, ...]


# ---- from the program to values
def walk(app: typer.Typer, name: str = "waypost") -> Iterator[Command]:
    """Every command, those of groups after the plain ones."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield _command(f"{name} {command.name}", command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from walk(group.typer_instance, f"{name} {group.name}")


def _command(name: str, callback: Callable[..., Any]) -> Command:
    summary, *rest = [" ".join(part.split()) for part in (inspect.getdoc(callback) or "").split("\n\n")]
    hints = get_type_hints(callback, include_extras=True)
    parameters = [
        _parameter(hints[each.name], each.default) for each in inspect.signature(callback).parameters.values()
    ]
    return Command(
        name=name,
        summary=summary,
        paragraphs=tuple(part for part in rest if not part.startswith("Example: ")),
        example=" ".join(part.removeprefix("Example: ") for part in rest if part.startswith("Example: ")),
        parameters=tuple(parameters),
    )


def _parameter(hint: Any, default: object) -> Parameter:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{hint!r} says neither typer.Option nor typer.Argument")
    kind, info = get_args(hint)
    is_list = any(get_origin(each) is list for each in (kind, *get_args(kind)))
    return Parameter(
        spelling=_spelling(kind, info),
        help=info.help or "",
        default=_shown(default),
        is_required=default is inspect.Parameter.empty,
        is_repeatable=is_list,
    )


def _shown(default: object) -> str:
    """As it would be typed."""
    match default:
        case inspect.Parameter.empty | None | "" | 0:
            return ""
        case Enum():
            return str(default.value)
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def _spelling(kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return str(info.metavar)
    # Inside Annotated, typer keeps the first spelling where a default would stand.
    names = ", ".join(sorted((str(info.default), *(info.param_decls or ())), key=len))
    if kind is bool:
        return names
    return f"{names} {info.metavar or _METAVARS.get(kind, 'TEXT')}"


# ---- Markdown
def markdown(app: typer.Typer) -> str:
    """docs/reference/cli.md."""
    commands = list(walk(app))
    lines = [
        "# The command line",
        "",
        "Printed from the program's own commands; do not edit it by hand. Every command has `--help`.",
        "",
        *(f"- [`{each.name}`](#{each.name.replace(' ', '-')}): {each.summary}" for each in commands),
        "",
        "## Exit codes and environment",
        "",
        *(f"- `{code}`: {meaning}" for code, meaning in EXIT_CODES),
        *(f"- `{name}`: {meaning}" for name, meaning in ENVIRONMENT),
        "",
    ]
    for each in commands:
        lines += _markdown_command(each)
    return "\n".join(lines)


def _markdown_command(command: Command) -> Iterator[str]:
    yield f"## {command.name}"
    for paragraph in (command.summary, *command.paragraphs):
        yield from ("", paragraph)
    yield from ("", f"    {command.example}", "")
    for each in command.parameters:
        yield f"- `{each.spelling}`: {each.help}{_remarks(each, '`')}"
    yield ""


def _remarks(parameter: Parameter, quote: str) -> str:
    if parameter.is_required:
        return " Required." + (
            " May be repeated." if parameter.is_repeatable and "repeat" not in parameter.help else ""
        )
    return f" Default: {quote}{parameter.default}{quote}." if parameter.default else ""


# ---- roff
def man_page(app: typer.Typer) -> str:
    """waypost(1)."""
    lines = [
        _head("WAYPOST", 1),
        ".SH NAME",
        "waypost \\- the mail relay you can trust",
        ".SH SYNOPSIS",
        "\\fBwaypost\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR ...]",
        ".SH DESCRIPTION",
        _roff("Waypost accepts mail over SMTP, keeps it in a durable queue, hands it on, and tells what became of it."),
        _roff("Commands that ask go to the running service; where none runs, they read its spool themselves."),
        ".SH COMMANDS",
    ]
    for each in walk(app):
        lines += _man_command(each)
    lines += [".SH EXIT STATUS", *_man_list(EXIT_CODES), ".SH ENVIRONMENT", *_man_list(ENVIRONMENT)]
    lines += [".SH SEE ALSO", "\\fBwaypost.toml\\fR(5)", ""]
    return "\n".join(lines)


def _man_command(command: Command) -> Iterator[str]:
    yield f'.SS "{_roff(command.name)}"'
    yield _roff(command.summary)
    for paragraph in command.paragraphs:
        yield from (".PP", _roff(paragraph))
    yield from _man_list((each.spelling, each.help + _remarks(each, "")) for each in command.parameters)
    yield from (".PP", "Example:", ".PP", ".RS", ".nf", _roff(command.example), ".fi", ".RE")


def _man_list(entries: Any) -> Iterator[str]:
    for term, meaning in entries:
        yield from (".TP", f"\\fB{_roff(term)}\\fR", _roff(meaning))


def config_man_page(reference: str) -> str:
    """waypost.toml(5), from the Markdown that config/reference.py prints."""
    lines = [
        _head("WAYPOST.TOML", 5),
        ".SH NAME",
        "waypost.toml \\- settings of the Waypost mail service",
        ".SH DESCRIPTION",
    ]
    for line in reference.splitlines():
        lines += _man_line(line)
    return "\n".join([*lines, ".SH SEE ALSO", "\\fBwaypost\\fR(1)", ""])


def _man_line(line: str) -> Iterator[str]:
    """One line of the reference: a heading, a row of a table, or text."""
    if line.startswith("## "):
        yield f'.SH "{_roff(line.removeprefix("## ").strip("`"))}"'
    elif line.startswith("| `"):
        key, kind, default, meaning = (cell.strip().replace("\\|", "|") for cell in _ROW.split(line)[1:5])
        yield from (".TP", f"\\fB{_roff(key.strip('`'))}\\fR ({_roff(_bare(kind))}; {_roff(_bare(default))})")
        yield _roff(_bare(meaning))
    elif line and not line.startswith(("|", "# ")):
        yield _roff(_bare(line))


def _bare(text: str) -> str:
    return text.replace("`", "")


def _head(title: str, section: int) -> str:
    return f'.TH {title} {section} "" "Waypost {__version__}" "Waypost"'


def _roff(text: str) -> str:
    """Text as roff takes it literally: hyphens stay hyphens, no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
