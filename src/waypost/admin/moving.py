"""`waypost import`: from another mail server to this one, its configuration and the mail in its queue.

Nothing is changed where it comes from, but with --delete, and nothing is started. Not here: what each setting becomes
(postfix.py), and what a queue file holds (postfix_queue.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from waypost.admin.postfix import Translation, Translator
from waypost.admin.postfix_queue import Queued, QueueFileError, read
from waypost.admin.terminal import JsonOption, fail, show
from waypost.config import Complaints, parse
from waypost.mail.dropping import drop

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
        fail(
            f"{source / 'main.cf'} cannot be read: {error.strerror}",
            "name the directory with --from",
            as_json_value=json,
        )
    if (into / CONFIG).exists():
        fail(f"{into / CONFIG} is there already", "name another directory with --into", as_json_value=json)
    try:
        written = _write(into, found)
    except OSError as error:
        fail(f"{into} cannot be written: {error.strerror}", "name another directory with --into", as_json_value=json)
    checked = parse(found.text, where=CONFIG, base=into.absolute())
    complaints = tuple(map(str, checked.complaints)) if isinstance(checked, Complaints) else ()
    answer = Imported(written, tuple(Left(*each) for each in found.left), complaints)
    show(answer, _worded, as_json_value=json)
    raise typer.Exit(1 if complaints else 0)


def _write(into: Path, found: Translation) -> tuple[str, ...]:
    """All files, readable by nobody else: passwords are among them."""
    into.mkdir(parents=True, exist_ok=True)
    head = "# Translated from a Postfix configuration by `waypost import postfix`.\n\n"
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


# ---- its queue
#: Where Postfix keeps mail that is still to be delivered; `corrupt` and `defer` hold none.
_QUEUES: Final = ("incoming", "active", "deferred", "hold", "maildrop")


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a queue. `skipped`: files that were left, and why."""

    messages: int
    recipients: int
    skipped: tuple[Left, ...]


def import_postfix_queue(
    into: Annotated[Path, typer.Option("--into", help="The pickup directory, as pickup.directory names it.")],
    source: Annotated[Path, typer.Option("--from", help="Postfix's spool.")] = Path("/var/spool/postfix"),
    delete: Annotated[  # noqa: FBT002
        bool, typer.Option("--delete", help="Delete each file of Postfix's once its mail is on the disk here.")
    ] = False,
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Move the mail in a Postfix queue to ours.

    Each message is written into the pickup directory, for the recipients it has not been delivered to yet; the service
    takes it from there. Stop Postfix first. Without --delete, a second run brings the same mail once more.

    Example: waypost import postfix-queue --into /var/spool/waypost-pickup --delete
    """
    if not into.is_dir():
        fail(f"{into} is no directory", "start the service once: it makes it", as_json_value=json)
    if _runs(source):
        fail(f"Postfix runs on {source}", "stop it first: postfix stop", as_json_value=json)
    moved, recipients, skipped = 0, 0, list[Left]()
    try:
        for file in _queue_files(source):
            try:
                queued = _queued(file)
                if queued.recipients:
                    drop(into, _as_dropped(queued))
                    moved, recipients = moved + 1, recipients + len(queued.recipients)
            except QueueFileError as error:
                skipped.append(Left(str(file), str(error)))
                continue
            if delete:
                file.unlink()
    except OSError as error:
        why = f"{error.filename or source}: {error.strerror}; {moved} messages were moved before"
        fail(why, "mend that, and run it again", as_json_value=json)
    show(Moved(moved, recipients, tuple(skipped)), _moved_words, as_json_value=json)
    raise typer.Exit(1 if skipped else 0)


def _queue_files(spool: Path) -> Iterator[Path]:
    for queue in _QUEUES:
        yield from sorted(path for path in (spool / queue).rglob("*") if path.is_file())


def _queued(file: Path) -> Queued:
    """Raises: QueueFileError, OSError."""
    if not file.stat().st_mode & stat.S_IXUSR:
        raise QueueFileError("it was never finished: its owner may not execute it")
    return read(file.read_bytes())


def _as_dropped(queued: Queued) -> bytes:
    """As a file of the pickup directory."""
    lines = [f"X-Sender: <{queued.sender}>", *(f"X-Receiver: <{one}>" for one in queued.recipients)]
    if not all(line.isprintable() for line in lines):
        raise QueueFileError("an address in it holds what no address may")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape") + queued.octets


def _runs(spool: Path) -> bool:
    """Whether Postfix's master is alive."""
    try:
        process = int((spool / "pid/master.pid").read_text("ascii").strip())
        os.kill(process, 0)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _moved_words(moved: Moved) -> Iterator[Text]:
    yield Text(f"{moved.messages} messages, for {moved.recipients} recipients, are in the pickup directory.")
    for left in moved.skipped:
        yield Text.assemble(("  left: " + left.setting, "yellow"), f": {left.remedy}")


def import_commands() -> typer.Typer:
    """The commands of this file."""
    app = typer.Typer(help="Come from another mail server.", no_args_is_help=True)
    app.callback()(_group)
    app.command("postfix")(import_postfix)
    app.command("postfix-queue")(import_postfix_queue)
    return app


def _group() -> None:
    """Come from another mail server."""
