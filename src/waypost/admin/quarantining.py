"""`waypost quarantine`: look into what is held there, release from it and delete.

Not here: what is done (operations/), or all else that is held (`waypost queue`, queueing.py).
"""

from __future__ import annotations

from typing import Annotated

import typer

from waypost.admin import words
from waypost.admin.answers import ActBody, Acted, FailureKind, OperationError
from waypost.admin.desk import Desk
from waypost.admin.options import spread
from waypost.admin.queueing import told
from waypost.admin.terminal import Whom, as_json, by_whom
from waypost.mail.envelope import MessageId

OneId = Annotated[str, typer.Argument(help="The message's id.", metavar="ID")]
Ids = Annotated[list[str], typer.Argument(help="The ids of the messages.", metavar="ID…")]


@spread
def quarantine_list(
    whom: Whom,
) -> None:
    """List what is held in quarantine, each with why.

    Example: waypost quarantine list
    """
    answer = whom.context.answer(lambda found: found.quarantine())
    whom.show(answer, words.queue)


@spread
def quarantine_show(
    id: OneId,  # noqa: A002 - the field's own name
    whom: Whom,
) -> None:
    """Print a message that waits in the queue or in quarantine, whole.

    Example: waypost quarantine show 1dvq3kbaxm00g
    """
    octets = whom.context.answer(lambda found: found.octets(id))
    if whom.json:
        typer.echo(as_json({"id": id, "message": octets.decode("utf-8", "replace")}))
    else:
        typer.echo(octets.replace(b"\r\n", b"\n"), nl=False)


@spread
def quarantine_release(
    id: Ids,  # noqa: A002 - the field's own name
    whom: Whom,
) -> None:
    """Let messages in quarantine go to their recipients.

    Example: waypost quarantine release 1dvq3kbaxm00g
    """
    _act("release", id, whom)


@spread
def quarantine_delete(
    id: Ids,  # noqa: A002 - the field's own name
    whom: Whom,
) -> None:
    """Delete messages in quarantine; nobody is told.

    The bin keeps them for a while.

    Example: waypost quarantine delete 1dvq3kbaxm00g
    """
    _act("delete", id, whom)


def _act(action: str, ids: list[str], whom: Whom) -> None:
    body = ActBody(tuple(map(MessageId, ids)), by=by_whom())

    async def act(found: Desk) -> Acted:
        """Raises: OperationError, where one of them is not there; then nothing is done with any."""
        there = {entry.id for entry in (await found.quarantine()).entries}
        strangers = [name for name in ids if name not in there]
        if strangers:
            raise OperationError(
                FailureKind.NOT_FOUND,
                f"{', '.join(strangers)}: not in quarantine, and nothing was done",
                f"`waypost quarantine list` shows what is; for other mail: waypost queue {action} --id {strangers[0]}",
            )
        return await found.act(action, body)

    told(whom.context.answer(act), json=whom.json)


def quarantine_commands() -> typer.Typer:
    """The group `waypost quarantine`."""
    app = typer.Typer(help="Look into the quarantine, release from it and delete.", no_args_is_help=True)
    app.command("list")(quarantine_list)
    app.command("show")(quarantine_show)
    app.command("release")(quarantine_release)
    app.command("delete")(quarantine_delete)
    return app
