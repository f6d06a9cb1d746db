"""The commands that ask the service, and the whole command line but `serve` and `demo` (those run it: __main__.py).

What is asked is answered by a desk (answers.py) and worded by words.py; terminal.py has what commands share.
"""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.text import Text

from waypost import __version__, is_compiled, with_build
from waypost.admin import words
from waypost.admin.accounts import user_commands
from waypost.admin.admins import admin_commands
from waypost.admin.answers import WatchBody
from waypost.admin.backup import backup, restore
from waypost.admin.changing import config_commands, preview, reload
from waypost.admin.client import Asked, OnlyService
from waypost.admin.cluster import cluster_commands, spool_commands
from waypost.admin.explanation import MessageFacts, Question, message_facts
from waypost.admin.explanation_words import explanation
from waypost.admin.moving import import_commands
from waypost.admin.oauth import oauth_commands
from waypost.admin.quarantining import quarantine_commands
from waypost.admin.queueing import queue_commands
from waypost.admin.terminal import (
    DEFAULT_CONFIG,
    AdminOption,
    ConfigOption,
    Context,
    JsonOption,
    as_json,
    complain,
    configured,
    context,
    fail,
    out,
    show,
)
from waypost.admin.tools import octets_of, peer, send_command
from waypost.config.complaint import Complaint, Complaints
from waypost.config.parts import keyring
from waypost.mail.errand import with_crlf
from waypost.net.clock import SystemClock
from waypost.queue.spool import REMEDY, why_ephemeral
from waypost.route.table import describe


# ---- the service
def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:  # noqa: FBT002 - a flag of the CLI
    """Check a configuration: all complaints, or its routes.

    All that is wrong is said at once, each with its line and a remedy.

    Example: waypost check --config /etc/waypost/waypost.toml
    """
    found = configured(config, as_json_value=json)
    forgets = "" if found.service.allow_ephemeral or found.database else why_ephemeral(found.spool)
    if forgets:
        complain(Complaints(found.where, (Complaint(0, "service.spool", forgets, REMEDY),)), as_json_value=json)
    table = describe(found.route_table())
    ring = keyring(found)
    ring.refresh()
    warnings = ring.warnings(SystemClock().now())
    if json:
        typer.echo(as_json({"where": found.where, "routes": list(table), "warnings": list(warnings)}))
        return
    console = out()
    console.print(Text(f"{found.where} is in order.", style="green"))
    for listener in found.listeners:
        console.print(Text(f"Listening: {listener.role} on {listener.address}, TLS {listener.tls}"))
    for held in ring.certificates:
        console.print(Text(f"Certificate: {held.files} for {', '.join(held.names)}, until {held.last_day}"))
    for line in table:
        console.print(Text(f"Route: {line}"))
    if not table:
        console.print(Text("No [[route]]: every recipient will be refused.", style="yellow"))
    for warning in warnings:
        console.print(Text(f"{warning}.", style="yellow"))


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
    answer = Context(Asked(asked.asked.address, OnlyService()), json).answer(lambda found: found.status())
    said = {"ready": not answer.not_ready, "reasons": list(answer.not_ready)}
    show(said, lambda _: [Text("ready" if not answer.not_ready else "; ".join(answer.not_ready))], as_json_value=json)
    raise typer.Exit(1 if answer.not_ready else 0)


def version(json: JsonOption = False) -> None:  # noqa: FBT002
    """Print the version, and whether it runs compiled.

    Example: waypost version
    """
    told = {"waypost": __version__, "compiled": is_compiled()}
    show(told, lambda _: [Text(_release())], as_json_value=json)


# ---- what happened, and where mail goes
def trace(
    asked: Annotated[str, typer.Argument(metavar="ID|ADDRESS", help="A message's id, or an address it is from or to.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many messages.")] = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Tell the whole life of a message.

    Receipt, each attempt with its dialogue, reports, operators' acts, and what became of each recipient.

    Example: waypost trace someone@example.com
    """
    answer = context(config, admin, json=json).answer(lambda found: found.trace(asked, limit=limit))
    show(answer, words.traces, as_json_value=json)


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
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Tell what would become of a message, step by step, without sending it.

    Whether the client may send, whom each address stands for, which route it takes, its hosts by DNS, TLS, login,
    limits, the state of the next hop, and when it would be tried again; each step with the line that decides it. The
    code that live mail runs gives the answers. Exit code 0 only where every recipient would be taken.

    Example: waypost explain --client 203.0.113.9 --from me@example.org info@example.com
    """
    asked = context(config, admin, json=json)
    facts = MessageFacts() if not file else message_facts(with_crlf(octets_of(file, as_json_value=json)))
    question = Question(tuple(recipients), client, account, sender, facts)
    answer = asked.answer(lambda found: found.explain(question), spool=False)
    show(answer, explanation, as_json_value=json)
    raise typer.Exit(0 if answer.is_taken and all(each.is_taken for each in answer.journeys) else 1)


def debug(
    peer: Annotated[str, typer.Argument(metavar="[PEER]", help="A next hop, a host's name, or its address.")] = "",
    switch: Annotated[str, typer.Argument(metavar="[on|off]", help="Whether to log.")] = "on",
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=10080, help="It ends by itself after so long.")] = 60,
    config: ConfigOption = DEFAULT_CONFIG,
    admin: AdminOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Log the dialogues with a peer for a while.

    Without a peer: show whose are logged. Each line that we or the host say in an attempt is logged, without passwords
    and bodies, and whatever the log's level. `waypost trace` has the same of each message.

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


# ---- all of it
def _release() -> str:
    return f"waypost {with_build(__version__, compiled=is_compiled())}"


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer hands the flag over so
    if asked:
        typer.echo(_release())
        raise typer.Exit


def _program(
    _version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and exit.")
    ] = False,
) -> None:
    """What stands before any command; its help is the program's."""


def commands() -> typer.Typer:
    """The commands of this file."""
    app = typer.Typer(
        name="waypost",
        help="The mail relay you can trust: it never stops, never loses a message, and always tells you why.",
        epilog="Exit codes: 0 it is as asked; 1 it is not (refused, not found, not ready, not running); "
        "2 the command was not understood.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_program)
    inbox = typer.Typer(help="Read the messages that `capture:` routes kept.", no_args_is_help=True)
    inbox.command("list")(inbox_list)
    inbox.command("show")(inbox_show)
    app.command("check")(check)
    app.command("send")(send_command)
    app.add_typer(queue_commands(), name="queue")
    app.add_typer(quarantine_commands(), name="quarantine")
    app.command("trace")(trace)
    app.command("resolve")(resolve)
    app.command("explain")(explain)
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("health")(health)
    app.command("reload")(reload)
    app.command("preview")(preview)
    app.add_typer(config_commands(), name="config")
    app.command("debug")(debug)
    app.add_typer(inbox, name="inbox")
    app.add_typer(user_commands(), name="user")
    app.add_typer(admin_commands(), name="admin")
    app.add_typer(oauth_commands(), name="oauth")
    app.add_typer(import_commands(), name="import")
    app.add_typer(cluster_commands(), name="cluster")
    app.add_typer(spool_commands(), name="spool")
    app.command("status")(status)
    app.command("peer")(peer)
    app.command("version")(version)
    return app
