"""`waypost import postfix-queue` and `exim-queue`: the mail that waits in another mail server's spool.

It goes into the pickup directory of a service that runs, or into an archive for `waypost queue import`, which keeps all
that is known of it. Nothing is changed where it comes from, but with --delete. Not here: what a queue file holds
(postfix_queue.py, exim_queue.py).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from waypost.admin import exim_queue, postfix_queue
from waypost.admin.foreign import Foreign, QueueFileError, parcel_of
from waypost.admin.terminal import JsonOption, fail, show
from waypost.admin.words import counted
from waypost.mail.dropping import drop
from waypost.net.clock import SystemClock
from waypost.queue.archive import Writer

#: Where Postfix keeps mail that is still to be delivered; `corrupt` and `defer` hold none.
_QUEUES: Final = ("incoming", "active", "deferred", "hold", "maildrop")

IntoOption = Annotated[
    Path | None,
    typer.Option("--into", help="The pickup directory, as pickup.directory names it; the service takes it."),
]
ArchiveOption = Annotated[
    Path | None, typer.Option("--archive", help="In its stead: a new file, for `waypost queue import`.")
]
DeleteOption = Annotated[
    bool, typer.Option("--delete", help="With --into: delete each message there once it is on the disk here.")
]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message that was left where it was, by its file, and why."""

    message: str
    why: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a queue. `skipped`: messages that were left, and why."""

    messages: int
    recipients: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A message there: its files, the one that names it first, and how it is read (QueueFileError, OSError)."""

    files: tuple[Path, ...]
    read: Callable[[], Foreign]


def import_postfix_queue(
    into: IntoOption = None,
    archive: ArchiveOption = None,
    source: Annotated[Path, typer.Option("--from", help="Postfix's spool.")] = Path("/var/spool/postfix"),
    delete: DeleteOption = False,  # noqa: FBT002 - a flag of the CLI
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Move the mail in a Postfix queue to ours.

    For the recipients that each message has not been delivered to yet. An archive keeps how long it has waited and what
    was asked of reports for each recipient; by way of the pickup directory it is new mail. Stop Postfix first. Without
    --delete, a second run brings the same mail once more to the pickup directory; an archive brings none twice.

    Example: waypost import postfix-queue --archive /var/backups/postfix.tar
    """
    if _postfix_runs(source):
        fail(f"Postfix runs on {source}", "stop it first: postfix stop", as_json_value=json)
    _see_that_it_is_one(source, "Postfix", _QUEUES, json=json)
    _move("postfix", source, _in_postfix(source), _Way(into, archive, delete), json=json)


def import_exim_queue(
    into: IntoOption = None,
    archive: ArchiveOption = None,
    source: Annotated[Path, typer.Option("--from", help="Exim's spool.")] = Path("/var/spool/exim4"),
    delete: DeleteOption = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Move the mail in an Exim queue to ours.

    For the recipients that each message has not been delivered to yet. An archive keeps how long it has waited, what
    was asked of reports for each recipient, and that it was frozen; by way of the pickup directory it is new mail. Stop
    Exim first: a message that it is delivering is left. Without --delete, a second run brings the same mail once more
    to the pickup directory; an archive brings none twice.

    Example: waypost import exim-queue --archive /var/backups/exim.tar
    """
    _see_that_it_is_one(source, "Exim", ("input",), json=json)
    _move("exim", source, _in_exim(source), _Way(into, archive, delete), json=json)


# ---- the way
@dataclass(frozen=True, slots=True)
class _Way:
    """Where it goes; one of the two."""

    into: Path | None
    archive: Path | None
    delete: bool

    def fault(self) -> tuple[str, str] | tuple[()]:
        """Why it is no way, and what to do."""
        if (self.into is None) == (self.archive is None):
            return "it is not said where the mail is to go", "give one of --into and --archive"
        if self.archive is not None and self.archive.exists():
            return f"{self.archive} is there already", "name another file"
        if self.archive is not None and self.delete:
            return "what is in an archive is not in a queue yet", "delete the old spool after `waypost queue import`"
        if self.into is not None and not self.into.is_dir():
            return f"{self.into} is no directory", "start the service once: it makes it"
        return ()


def _move(name: str, source: Path, messages: Iterator[Found], way: _Way, *, json: bool) -> None:
    if fault := way.fault():
        fail(*fault, as_json_value=json)
    moved, recipients, skipped, now = 0, 0, list[Skipped](), SystemClock().now()
    try:
        if not source.is_dir():
            raise FileNotFoundError(2, "there is no such directory", str(source))
        with Writer(way.archive, name, socket.gethostname(), now) if way.archive else nullcontext() as writer:
            for found in messages:
                try:
                    count = _take(name, found, way, writer, now)
                except QueueFileError as error:
                    skipped.append(Skipped(str(found.files[0]), str(error)))
                    continue
                moved, recipients = moved + (count > 0), recipients + count
    except OSError as error:
        why = f"{error.filename or source}: {error.strerror}; {moved} messages were moved before"
        fail(why, "mend that, and run it again", as_json_value=json)
    show(Moved(moved, recipients, tuple(skipped)), lambda one: _moved_words(one, way), as_json_value=json)
    raise typer.Exit(1 if skipped else 0)


def _see_that_it_is_one(spool: Path, whose: str, folders: Sequence[str], *, json: bool) -> None:
    """A wrong directory holds no mail, and must not be told as an empty queue."""
    if spool.is_dir() and not any((spool / name).is_dir() for name in folders):
        why = f"{spool} is no spool of {whose}'s: there is no {' nor '.join(folders)} in it"
        fail(why, "name the right one with --from", as_json_value=json)


def _take(name: str, found: Found, way: _Way, writer: Writer | None, now: float) -> int:
    """How many recipients it had. Raises: QueueFileError, OSError."""
    message = found.read()
    if message.recipients:
        if writer is not None:
            writer.add(parcel_of(message, name, now))
        elif way.into is not None:
            for octets in _as_dropped(message):
                drop(way.into, octets)
    if way.delete:
        for file in found.files:
            file.unlink(missing_ok=True)
    return len(message.recipients)


def _as_dropped(message: Foreign) -> Iterator[bytes]:
    """As files of the pickup directory: one for those who asked for the same reports."""
    for notify in dict.fromkeys(one.notify for one in message.recipients):
        addresses = [one.address for one in message.recipients if one.notify == notify]
        said = {"X-Notify": notify, "X-Return": message.ret, "X-EnvId": message.envelope_id}
        lines = [f"X-Sender: <{message.sender}>", *(f"X-Receiver: <{one}>" for one in addresses)]
        lines += [f"{name}: {value}" for name, value in said.items() if value]
        if not all(line.isprintable() for line in lines):
            raise QueueFileError("an address in it holds what no address may")
        yield "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape") + message.octets


def _moved_words(moved: Moved, way: _Way) -> Iterator[Text]:
    where = "the pickup directory" if way.archive is None else str(way.archive)
    are = "is" if moved.messages == 1 else "are"
    what = f"{counted(moved.messages, 'message')}, for {counted(moved.recipients, 'recipient')},"
    yield Text(f"{what} {are} in {where}.")
    if way.archive is not None:
        yield Text(f"Put them into the queue: waypost queue import {way.archive}")
    for left in moved.skipped:
        yield Text.assemble(("  left: " + left.message, "yellow"), f": {left.why}")


# ---- Postfix
def _in_postfix(spool: Path) -> Iterator[Found]:
    for queue in _QUEUES:
        for file in sorted(path for path in (spool / queue).rglob("*") if path.is_file()):
            held = "it was on hold in Postfix" if queue == "hold" else ""
            yield Found((file,), lambda file=file, held=held: _of_postfix(file, held))  # type: ignore[misc] # its defaults


def _of_postfix(file: Path, held: str) -> Foreign:
    if not file.stat().st_mode & stat.S_IXUSR:
        raise QueueFileError("it was never finished: its owner may not execute it")
    return postfix_queue.read(file.read_bytes(), file.name, held)


def _postfix_runs(spool: Path) -> bool:
    """Whether Postfix's master is alive."""
    try:
        process = int((spool / "pid/master.pid").read_text("ascii").strip())
        os.kill(process, 0)
    except (OSError, ValueError, OverflowError):
        return False
    return True


# ---- Exim
def _in_exim(spool: Path) -> Iterator[Found]:
    """`input` may have a folder for each last letter of a name's time (split_spool_directory)."""
    for head in sorted((spool / "input").rglob("*-H")):
        name = head.name.removesuffix("-H")
        head_body_journal = [head, *(head.with_name(f"{name}-{letter}") for letter in "DJ")]
        yield Found(tuple(head_body_journal), lambda name=name, head=head: _of_exim(name, head))  # type: ignore[misc] # likewise


def _of_exim(name: str, head: Path) -> Foreign:
    body, journal = head.with_name(f"{name}-D"), head.with_name(f"{name}-J")
    try:
        with body.open("rb") as opened:
            fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)  # Exim has the lock of what it delivers
            delivered = journal.read_bytes() if journal.exists() else b""
            return exim_queue.read(name, head.read_bytes(), opened.read(), delivered)
    except BlockingIOError:
        raise QueueFileError("Exim is delivering it now; stop Exim first") from None
    except FileNotFoundError as error:
        raise QueueFileError(f"it is not whole: {error.filename} is missing") from None
