"""`waypost queue export` and `waypost queue import`: the queue as a file for another machine, program or year.

Not here: what is in the file (queue/archive.py), and getting it there (archived.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from waypost.admin.terminal import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, err, fail, show
from waypost.admin.words import counted
from waypost.net.clock import SystemClock

if TYPE_CHECKING:
    from waypost.admin.archived import PutIn

ArchiveArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The archive, a tar file.")]


def export_queue(
    file: ArchiveArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002 - a flag of the CLI
) -> None:
    """Write all that waits into a file that any program can read.

    Each message as it is, and beside it as JSON what the queue knows: envelope, recipients, what they wait for, what
    happened. The service may run; nothing is changed. What is delivered afterwards is in the file all the same: to move
    the queue, stop the service first.

    Example: waypost queue export /var/backups/queue.tar
    """
    import sqlite3  # noqa: PLC0415 - as below

    from waypost.admin.archived import export  # noqa: PLC0415 - the storages; a question to the service needs none
    from waypost.queue.storage import StorageError  # noqa: PLC0415

    found = configured(config, as_json_value=json)
    if file.exists():
        fail(f"{file} is there already", "name another file", as_json_value=json)
    try:
        messages = asyncio.run(export(found, file, SystemClock().now()))
    except (OSError, StorageError, sqlite3.Error) as error:
        why = f"the queue at {found.queue_at} cannot be written to {file}: {error}"
        fail(why, "see that both can be read and written by this user", as_json_value=json)
    told = {"messages": messages, "file": str(file)}
    show(told, lambda _: [Text(f"{counted(messages, 'message')} written to {file}.")], as_json_value=json)


def import_queue(
    file: ArchiveArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,  # noqa: FBT002 - a flag of the CLI
) -> None:
    """Put the messages of an archive into the queue.

    Each with its age, what it asked of reports, and all that happened. The service is stopped meanwhile, unless the
    queue is in a database. Each message is compared by digest; one that is here already, or was, is not put in again:
    an import that was cut off is ended by the same command. Exit code 1: something was left.

    Example: waypost queue import /var/backups/queue.tar
    """
    from waypost.admin.archived import put_in  # noqa: PLC0415 - as above
    from waypost.queue.archive import ArchiveError  # noqa: PLC0415
    from waypost.queue.moving import MoveError  # noqa: PLC0415
    from waypost.queue.storage import StorageError  # noqa: PLC0415

    found = configured(config, as_json_value=json)
    try:
        done = asyncio.run(put_in(file, found, SystemClock().now(), _progress))
    except (ArchiveError, MoveError, OSError) as error:
        fail(f"{file}: {error}", "what was put in is in; mend that, and run it again", as_json_value=json)
    except StorageError as error:
        fail(error.fault.detail, "stop the service; what was put in is in", as_json_value=json)
    show(done, _put_in, as_json_value=json)
    raise typer.Exit(1 if done.left else 0)


async def _progress(done: PutIn) -> None:
    console = err()
    if console.is_terminal and not done.messages % 100:
        console.print(Text(f"{done.messages} put in", style="dim"), end="\r")


def _put_in(done: PutIn) -> list[Text]:
    found = f"; {counted(done.found, 'message')} of it had been put in before" if done.found else ""
    said = f"{counted(done.messages, 'message')} put in, for {counted(done.recipients, 'recipient')}{found}."
    return [Text(said), *(Text.assemble(("  left: " + name, "yellow"), f": {why}") for name, why in done.left)]
