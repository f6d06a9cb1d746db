"""The plain commands that ask the service, and the inbox; program.py has the list of all commands.

What is asked is answered by a desk (answers.py) and worded by words.py; terminal.py has what commands share.
"""

from __future__ import annotations

import getpass
from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from waypost.admin import words
from waypost.admin.answers import WatchBody
from waypost.admin.client import OnlyService
from waypost.admin.explanation import MessageFacts, Question, message_facts
from waypost.admin.explanation_words import explanation
from waypost.admin.terminal import (
    DEFAULT_CONFIG,
    AdminOption,
    ConfigOption,
    Context,
    JsonOption,
    context,
    fail,
    octets_of,
    show,
)
from waypost.mail.errand import with_crlf


# ---- the service
def status(config: ConfigOption = DEFAULT_CONFIG, admin: AdminOption = "", json: JsonOption = False) -> None:  # noqa: FBT002
    """Show the service at a glance; exit code 0: it is ready.

    Example: waypost status --json
    """
    answer = context(config, admin, json=json).answer(lambda found: found.status())
    show(answer, words.status, as_json_value=json)
    raise typer.Exit(1 if answer.not_ready else 0)


def health(config: ConfigOption = DEFAULT_CONFIG, admin: AdminOption = "", json: JsonOption = False) -> None:  # noqa: FBT002
    """Say whether the service is fit to serve.

    For a container's health check: it asks the running service alone, and never the spool in its stead. Exit code 0: it
    is ready.

    Example: waypost health
    """
    asked = context(config, admin, json=json)
    answer = Context(replace(asked.asked, config=OnlyService()), json).answer(lambda found: found.status())
    said = {"ready": not answer.not_ready, "reasons": list(answer.not_ready)}
    show(said, lambda _: [Text("ready" if not answer.not_ready else "; ".join(answer.not_ready))], as_json_value=json)
    raise typer.Exit(1 if answer.not_ready else 0)


# ---- what happened, and where mail goes
def resolve(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain, an address or an address literal.")],
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show where mail for a domain goes now, and why.

    Its route, what DNS says, the hosts in the order they are tried, and who is left out for which reason. The code that
    live mail runs gives the answer.

    Example: waypost resolve example.com
    """
    asked = context(config, admin, json=json)
    answer = asked.answer(lambda found: found.resolve(domain), spool=False)
    show(answer, words.resolution, as_json_value=json)
    raise typer.Exit(0 if answer.rule and (answer.hosts or answer.is_local) else 1)


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
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Tell what would become of a message, step by step, without sending it.

    Whether the client may send, whom each address stands for, which route it takes, its hosts by DNS, TLS, login,
    limits, the state of the next hop, and when it would be tried again, by its priority; each step with the line that
    decides it. The code that live mail runs gives the answers. Exit code 0 only where every recipient would be taken.

    Example: waypost explain --client 203.0.113.9 --from me@example.org info@example.com
    """
    asked = context(config, admin, json=json)
    facts = MessageFacts() if not file else message_facts(with_crlf(octets_of(file, as_json_value=json)))
    question = Question(tuple(recipients), client, account, sender, facts, priority)
    answer = asked.answer(lambda found: found.explain(question), spool=False)
    show(answer, explanation, as_json_value=json)
    raise typer.Exit(0 if answer.is_taken and all(each.is_taken for each in answer.journeys) else 1)


def debug(
    peer: Annotated[str, typer.Argument(metavar="[PEER]", help="A next hop, host, address, network or listener.")] = "",
    switch: Annotated[str, typer.Argument(metavar="[on|off]", help="Whether to log.")] = "on",
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=10080, help="It ends by itself after so long.")] = 60,
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Log the dialogues with a peer for a while.

    Without a peer: show whose are logged. Each line that we or a host say in an attempt is logged, without passwords
    and bodies, and whatever the log's level; and each that a client of that address or network (192.0.2.0/24) says, or
    one of that listener (0.0.0.0:25), in sessions that begin from then on. `waypost trace` has the same by message.

    Example: waypost debug mx.example.net on --minutes 30
    """
    if switch not in {"on", "off"}:
        fail(f"{switch!r} is neither on nor off", "write on or off behind the peer", as_json_value=json, code=2)
    asked = context(config, admin, json=json)
    body = WatchBody(peer, switch == "on", minutes, f"{getpass.getuser()} (command line)")
    answer = asked.answer(lambda found: found.watch(body) if peer else found.watched())
    show(answer, words.watched, as_json_value=json)


# ---- the inbox
def inbox_list(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many messages.")] = 50,
    before: Annotated[int, typer.Option("--before", min=0, help="Older than this number.")] = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """List the messages that a `capture:` route kept, newest first.

    Example: waypost inbox list
    """
    asked = context(config, admin, json=json)
    show(asked.answer(lambda found: found.inbox(before=before, limit=limit)), words.inbox, as_json_value=json)


def inbox_show(
    number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="As `inbox list` numbers them.")],
    raw: Annotated[bool, typer.Option("--raw", help="The octets as they came, and nothing else.")] = False,  # noqa: FBT002
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show a captured message.

    Example: waypost inbox show 1
    """
    if raw and json:
        fail("--raw is the octets alone, and --json a value", "give one of the two", as_json_value=True, code=2)
    asked = context(config, admin, json=json)
    if raw:
        typer.echo(asked.answer(lambda found: found.captured_octets(number)), nl=False)
        return
    show(asked.answer(lambda found: found.captured(number)), words.captured, as_json_value=json)


def inbox_commands() -> typer.Typer:
    """The group `waypost inbox`."""
    app = typer.Typer(help="Read the messages that `capture:` routes kept.", no_args_is_help=True)
    app.command("list")(inbox_list)
    app.command("show")(inbox_show)
    return app
