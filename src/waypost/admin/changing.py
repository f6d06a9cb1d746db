"""`waypost reload`, `preview`, `config`: change the configuration while the service runs, look first, and go back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from waypost.admin.answers import Preview, Proposal, Reloaded, Revisions, RevisionText, Shift
from waypost.admin.options import spread
from waypost.admin.terminal import Whom, by_whom, configured, fail

IdArgument = Annotated[str, typer.Argument(metavar="REVISION", help="As `config history` names it.")]


@spread
def reload(whom: Whom) -> None:
    """Put the configuration's file in force, whole or not at all.

    No session ends for it. What cannot change while the service runs is refused, with the reason.

    Example: waypost reload
    """
    answer = whom.context.answer(lambda found: found.reload(by=by_whom()))
    whom.show(answer, _reloaded)


@spread
def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration that might be.", readable=False)],
    hours: Annotated[
        float, typer.Option("--hours", metavar="HOURS", min=0, help="Of past traffic, that is looked at.")
    ] = 24.0,
    *,
    whom: Whom,
) -> None:
    """Tell what another configuration would do to mail.

    To what waits, and to the traffic there was. Nothing changes. Exit code 0 only where a reload would take it.

    Example: waypost preview new.toml --hours 48
    """
    asked = whom.context
    proposal = Proposal(configured(file, as_json_value=whom.json).text, str(file.absolute()), hours)
    answer = asked.answer(lambda found: found.preview(proposal))
    whom.show(answer, _previewed)
    raise typer.Exit(1 if answer.needs_restart else 0)


@spread
def history(whom: Whom) -> None:
    """List the configurations that were in force, newest first.

    Example: waypost config history
    """
    whom.show(whom.context.answer(lambda found: found.revisions()), _revisions)


@spread
def show_revision(
    revision: IdArgument,
    whom: Whom,
) -> None:
    """Print one of them.

    Example: waypost config show 3f2a90c41b
    """
    whom.show(whom.context.answer(lambda found: found.revision(revision)), _text)


@spread
def rollback(
    revision: IdArgument,
    whom: Whom,
) -> None:
    """Put an earlier configuration in the file's place, and in force.

    Where the service does not take it, the file is as it was before.

    Example: waypost config rollback 3f2a90c41b
    """
    asked = whom.context
    text = asked.answer(lambda found: found.revision(revision)).text
    if not whom.config.exists():
        fail(f"there is no file {whom.config}", "name the service's own file with --config", as_json_value=whom.json)
    before = whom.config.read_bytes()
    _write(whom.config, text.encode(), as_json_value=whom.json)
    try:
        answer = asked.answer(lambda found: found.reload(by=f"{by_whom()}, back to {revision}"))
    except typer.Exit:
        _write(whom.config, before, as_json_value=whom.json)
        raise
    whom.show(answer, _reloaded)


def _write(file: Path, octets: bytes, *, as_json_value: bool) -> None:
    """Put a text in the place of the file's, whole, with the same mode and owner; a link to it stays one."""
    file = file.resolve()
    try:
        was = file.stat()
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with open(descriptor, "wb") as new:  # noqa: PTH123 - a descriptor
            new.write(octets)
            os.fchmod(new.fileno(), was.st_mode & 0o7777)
            os.fchown(new.fileno(), was.st_uid, was.st_gid)
            os.fsync(new.fileno())
        Path(name).replace(file)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", "let this user write it", as_json_value=as_json_value)


# ---- in words
def _reloaded(answer: Reloaded) -> Iterable[RenderableType]:
    yield Text(f"In force: revision {answer.revision}.", style="green")
    for sentence in answer.said:
        yield Text(sentence)


def _revisions(answer: Revisions) -> Iterable[RenderableType]:
    for number, one in enumerate(answer.revisions):
        at = datetime.fromtimestamp(one.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        yield Text(f"{one.id}  {at}  {one.by}  {one.where}{'  (in force)' if not number else ''}")
    if not answer.revisions:
        yield Text("None is kept yet.")


def _text(answer: RevisionText) -> Iterable[RenderableType]:
    yield Text(answer.text.rstrip("\n"))


def _previewed(answer: Preview) -> Iterable[RenderableType]:
    for sentence in answer.needs_restart:
        yield Text(f"A reload would refuse it: {sentence}.", style="yellow")
    yield Text(f"Of {_count(answer.queue_looked_at)} in the queue: {_sum(answer.queue)}.", style="bold")
    yield from map(_shift, answer.queue)
    newest = "the newest " if answer.cut else ""
    since = datetime.fromtimestamp(answer.since).astimezone().strftime("%Y-%m-%d %H:%M")
    looked_at = f"Of {newest}{_count(answer.traffic_looked_at)} delivered or refused since {since}"
    yield Text(f"{looked_at}: {_sum(answer.traffic)}.", style="bold")
    yield from map(_shift, answer.traffic)


def _count(recipients: int) -> str:
    return f"{recipients} recipient{'' if recipients == 1 else 's'}"


_FATES = {
    "elsewhere": "would go elsewhere",
    "refused": "would be refused",
    "stranded": "would have no route",
}


def _sum(shifts: Iterable[Shift]) -> str:
    sums = dict.fromkeys(_FATES, 0)
    for shift in shifts:
        sums[shift.fate] += shift.recipients
    return "; ".join(f"{count} {_FATES[fate]}" for fate, count in sums.items() if count) or "nothing would change"


def _shift(shift: Shift) -> Text:
    what = f"→ {shift.detail}" if shift.fate == "elsewhere" else f"{_FATES[shift.fate]}: {shift.detail}"
    route = f" (route {shift.route})" if shift.route else ""
    return Text(f"  {shift.recipients:>7}  {shift.domain or 'postmaster'}: {shift.was}{route} {what}")


def config_commands() -> typer.Typer:
    """`waypost config …`."""
    app = typer.Typer(help="See the configurations that were in force, and go back to one.", no_args_is_help=True)
    app.command("history")(history)
    app.command("show")(show_revision)
    app.command("rollback")(rollback)
    return app
