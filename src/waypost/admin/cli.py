"""The plain commands that ask the service, and the inbox; program.py has the list of all commands.

What is asked is answered by a desk (desk.py) and worded by words.py; terminal.py has what commands share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from waypost.admin import words
from waypost.admin.answers import WatchBody
from waypost.admin.client import OnlyService
from waypost.admin.explanation import MessageFacts, Question, message_facts
from waypost.admin.explanation_words import explanation
from waypost.admin.options import spread
from waypost.admin.terminal import Context, Whom, by_whom, fail, octets_of
from waypost.mail.errand import with_crlf


# ---- the service
@spread
def status(whom: Whom) -> None:
    """Show the service at a glance; exit code 0: it is ready.

    Example: waypost status --json
    """
    answer = whom.context.answer(lambda found: found.status())
    whom.show(answer, words.status)
    raise typer.Exit(1 if answer.not_ready else 0)


@spread
def health(whom: Whom) -> None:
    """Say whether the service is fit to serve.

    For a container's health check: it asks the running service alone, and never the spool in its stead. Exit code 0: it
    is ready.

    Example: waypost health
    """
    asked = whom.context
    answer = Context(replace(asked.asked, config=OnlyService()), whom.json).answer(lambda found: found.status())
    said = {"ready": not answer.not_ready, "reasons": list(answer.not_ready)}
    whom.show(said, lambda _: [Text("ready" if not answer.not_ready else "; ".join(answer.not_ready))])
    raise typer.Exit(1 if answer.not_ready else 0)


# ---- what happened, and where mail goes
@spread
def resolve(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain, an address or an address literal.")],
    whom: Whom,
) -> None:
    """Show where mail for a domain goes now, and why.

    Its route, what DNS says, the hosts in the order they are tried, and who is left out for which reason. The code that
    live mail runs gives the answer.

    Example: waypost resolve example.com
    """
    asked = whom.context
    answer = asked.answer(lambda found: found.resolve(domain), spool=False)
    whom.show(answer, words.resolution)
    raise typer.Exit(0 if answer.rule and (answer.hosts or answer.is_local) else 1)


@spread
def explain(
    recipients: Annotated[
        list[str], typer.Argument(metavar="RECIPIENT...", help="Addresses, as RCPT would name them.")
    ],
    client: Annotated[str, typer.Option("--client", metavar="IP", help="The client's address.")] = "127.0.0.1",
    account: Annotated[str, typer.Option("--auth", metavar="ACCOUNT", help="The account it logs in with.")] = "",
    sender: Annotated[str, typer.Option("--from", help="The reverse-path; empty for <>.")] = "",
    file: Annotated[
        str, typer.Option("--message", metavar="FILE", help="The message itself; - is standard input.")
    ] = "",
    priority: Annotated[
        int, typer.Option("--priority", min=-9, max=9, help="What MAIL says in MT-PRIORITY; above 0 is urgent.")
    ] = 0,
    *,
    whom: Whom,
) -> None:
    """Tell what would become of a message, step by step, without sending it.

    Whether the client may send, whom each address stands for, which route it takes, its hosts by DNS, TLS, login,
    limits, the state of the next hop, and when it would be tried again, by its priority; each step with the line that
    decides it. The code that live mail runs gives the answers. Exit code 0 only where every recipient would be taken.

    Example: waypost explain --client 203.0.113.9 --from me@example.org info@example.com
    """
    asked = whom.context
    facts = MessageFacts() if not file else message_facts(with_crlf(octets_of(file, as_json_value=whom.json)))
    question = Question(tuple(recipients), client, account, sender, facts, priority)
    answer = asked.answer(lambda found: found.explain(question), spool=False)
    whom.show(answer, explanation)
    raise typer.Exit(0 if answer.is_taken and all(each.is_taken for each in answer.journeys) else 1)


@spread
def debug(
    peer: Annotated[str, typer.Argument(metavar="[PEER]", help="A next hop, host, address, network or listener.")] = "",
    switch: Annotated[str, typer.Argument(metavar="[on|off]", help="Whether to log.")] = "on",
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=10080, help="It ends by itself after so long.")] = 60,
    *,
    whom: Whom,
) -> None:
    """Log the dialogues with a peer for a while.

    Without a peer: show whose are logged. Each line that we or a host say in an attempt is logged, without passwords
    and bodies, and whatever the log's level; and each that a client of that address or network (192.0.2.0/24) says, or
    one of that listener (0.0.0.0:25), in sessions that begin from then on. `waypost trace` has the same by message.

    Example: waypost debug mx.example.net on --minutes 30
    """
    if switch not in {"on", "off"}:
        fail(f"{switch!r} is neither on nor off", "write on or off behind the peer", as_json_value=whom.json, code=2)
    asked = whom.context
    body = WatchBody(peer, switch == "on", minutes, by_whom())
    answer = asked.answer(lambda found: found.watch(body) if peer else found.watched())
    whom.show(answer, words.watched)


# ---- the inbox
@spread
def inbox_list(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many messages.")] = 50,
    before: Annotated[int, typer.Option("--before", min=0, help="Older than this number.")] = 0,
    *,
    whom: Whom,
) -> None:
    """List the messages that a `capture:` route kept, newest first.

    Example: waypost inbox list
    """
    asked = whom.context
    whom.show(asked.answer(lambda found: found.inbox(before=before, limit=limit)), words.inbox)


@spread
def inbox_show(
    number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="As `inbox list` numbers them.")],
    raw: Annotated[bool, typer.Option("--raw", help="The octets as they came, and nothing else.")] = False,  # noqa: FBT002
    *,
    whom: Whom,
) -> None:
    """Show a captured message.

    Example: waypost inbox show 1
    """
    if raw and whom.json:
        fail("--raw is the octets alone, and --json a value", "give one of the two", as_json_value=True, code=2)
    asked = whom.context
    if raw:
        typer.echo(asked.answer(lambda found: found.captured_octets(number)), nl=False)
        return
    whom.show(asked.answer(lambda found: found.captured(number)), words.captured)


def inbox_commands() -> typer.Typer:
    """The group `waypost inbox`."""
    app = typer.Typer(help="Read the messages that `capture:` routes kept.", no_args_is_help=True)
    app.command("list")(inbox_list)
    app.command("show")(inbox_show)
    return app
