"""`waypost import postfix` and `exim`: from another mail server's configuration to ours; the group of such commands.

Nothing is changed where it comes from, and nothing is started. Not here: what each setting becomes (postfix.py,
exim.py), and the mail in its queue (moving_queues.py).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.text import Text

from waypost.admin.exim import Translator as EximTranslator
from waypost.admin.moving_queues import import_exim_queue, import_postfix_queue
from waypost.admin.postfix import Translator
from waypost.admin.terminal import JsonOption, fail, show
from waypost.admin.translation import Translation
from waypost.config import Complaints, parse

CONFIG: Final = "waypost.toml"


@dataclass(frozen=True, slots=True)
class Left:
    """A setting that did not carry over as it was, and what to do about it."""

    setting: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written, and what somebody has to look at. `complaints`: what `waypost check` would say now."""

    files: tuple[str, ...]
    left: tuple[Left, ...]
    complaints: tuple[str, ...]


def import_postfix(
    source: Annotated[Path, typer.Option("--from", help="Postfix's configuration directory.")] = Path("/etc/postfix"),
    into: Annotated[Path, typer.Option("--into", help="Where to write; made where it is missing.")] = Path("imported"),
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Translate a Postfix configuration.

    Reads main.cf, master.cf and the tables they name; writes waypost.toml and the files it names, and tells each
    setting that did not carry over. Nothing of Postfix is changed or run. Exit code 0 where `waypost check` finds the
    result in order; settings may be left all the same.

    Example: waypost import postfix --from /etc/postfix --into imported
    """
    try:
        found = Translator(source).translate()
    except OSError as error:
        _fail_to_read(source / "main.cf", error, as_json_value=json)
    _import("Postfix", found, into, as_json_value=json)


def import_exim(
    source: Annotated[
        Path, typer.Option("--from", help="Exim's configuration: its file, or the directory it is in.")
    ] = Path("/etc/exim4"),
    into: Annotated[Path, typer.Option("--into", help="Where to write; made where it is missing.")] = Path("imported"),
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Translate an Exim configuration.

    Reads a directory as Debian has it (update-exim4.conf.conf and the files beside it), or a whole configuration (also
    what `exim -bP config` prints); writes waypost.toml and the files it names, and tells what did not carry over, by
    its file and line. Nothing of Exim is changed or run. Exit code 0 where `waypost check` finds the result in order;
    settings may be left all the same.

    Example: waypost import exim --from /etc/exim4 --into imported
    """
    try:
        found = EximTranslator(source, socket.gethostname()).translate()
    except OSError as error:
        _fail_to_read(Path(error.filename or source), error, as_json_value=json)
    _import("Exim", found, into, as_json_value=json)


def _fail_to_read(file: Path, error: OSError, *, as_json_value: bool) -> NoReturn:
    remedy = "name the file or its directory with --from"
    fail(f"{file} cannot be read: {error.strerror}", remedy, as_json_value=as_json_value)


def _import(server: str, found: Translation, into: Path, *, as_json_value: bool) -> None:
    """Write it, and tell of it."""
    if (into / CONFIG).exists():
        remedy = "name another directory with --into"
        fail(f"{into / CONFIG} is there already", remedy, as_json_value=as_json_value)
    try:
        written = _write(into, found, server)
    except OSError as error:
        remedy = "name another directory with --into"
        fail(f"{into} cannot be written: {error.strerror}", remedy, as_json_value=as_json_value)
    checked = parse(found.text, where=CONFIG, base=into.absolute())
    complaints = tuple(map(str, checked.complaints)) if isinstance(checked, Complaints) else ()
    answer = Imported(written, tuple(Left(*each) for each in found.left), complaints)
    show(answer, _worded, as_json_value=as_json_value)
    raise typer.Exit(1 if complaints else 0)


def _write(into: Path, found: Translation, server: str) -> tuple[str, ...]:
    """All files, readable by nobody else: passwords are among them."""
    into.mkdir(parents=True, exist_ok=True)
    head = f"# Translated from a configuration of {server} by `waypost import {server.lower()}`.\n\n"
    for name, text in {CONFIG: head + found.text, **found.files}.items():
        with open(into / name, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
    return tuple(str(into / name) for name in (CONFIG, *found.files))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _worded(answer: Imported) -> Iterator[Text]:
    yield Text("Written", style="bold")
    for file in answer.files:
        yield Text(f"  {file}")
    if answer.left:
        yield Text("Not carried over as it was", style="bold")
    for left in answer.left:
        yield Text.assemble(("  " + left.setting, "yellow"), f": {left.remedy}")
    if answer.complaints:
        yield Text("To be mended before it can be used", style="bold red")
    for complaint in answer.complaints:
        yield Text(f"  {complaint}")


def import_commands() -> typer.Typer:
    """The commands of this file."""
    app = typer.Typer(help="Come from another mail server.", no_args_is_help=True)
    app.callback()(_group)
    app.command("postfix")(import_postfix)
    app.command("exim")(import_exim)
    app.command("postfix-queue")(import_postfix_queue)
    app.command("exim-queue")(import_exim_queue)
    return app


def _group() -> None:
    """Come from another mail server."""
