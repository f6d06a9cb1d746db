"""The commands that need no service: `send` one message, and `peer`, a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from waypost.admin import words
from waypost.admin.fault_plan import ALWAYS, PlannedFault, State
from waypost.admin.peer import FaultyPeer, PeerEvent, PeerSettings
from waypost.admin.send import Sent, compose, send
from waypost.admin.terminal import JsonOption, err, fail, json_line, octets_of, out, server_address, show, with_progress
from waypost.mail.errand import Letter, with_crlf
from waypost.net.clock import SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint
from waypost.smtp.path import Mailbox, NullPath, PathError, ReversePath, parse_mailbox


# ---- sending by hand
def send_command(
    to: Annotated[list[str], typer.Option("--to", help="A recipient; may be repeated.")],
    sender: Annotated[str, typer.Option("--from", help="The reverse-path; empty for <>.")],
    server: Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="To whom.")] = "127.0.0.1:2525",
    subject: Annotated[str, typer.Option("--subject", help="The Subject field.")] = "A test",
    body: Annotated[str, typer.Option("--body", help="The text.")] = "",
    file: Annotated[
        str, typer.Option("--file", help="A whole message, header and all; - is standard input.", metavar="PATH")
    ] = "",
    hello: Annotated[str, typer.Option("--hello", help="Our name in EHLO.")] = "",
    within: Annotated[float, typer.Option("--within", min=0.1, help="Seconds each step may take.")] = 300,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the dialogue.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Send one message to a server, and show its answers.

    Exit code 0 only where it was accepted for every recipient. Without --body and --file the text is standard input.

    Example: waypost send --from me@example.org --to you@example.com --body "Hello" -v
    """
    if file and body:
        fail("--file is a whole message, and --body a text for one", "give one of the two", as_json_value=json, code=2)
    reverse_path = _reverse_path(sender, as_json_value=json)
    recipients = tuple(_mailbox(each, "--to", as_json_value=json) for each in to)
    address = server_address(server, "--server", as_json_value=json)
    name = _hello_name(hello or socket.gethostname(), as_json_value=json)
    if file:
        octets = with_crlf(octets_of(file, as_json_value=json))
    else:
        text = body or ("" if sys.stdin.isatty() else sys.stdin.read())
        message_id = f"<{random.SystemRandom().getrandbits(64):016x}@{name}>"
        octets = compose(
            reverse_path, recipients, subject, text or "A test.\n", now=SystemClock().now(), message_id=message_id
        )
    letter = Letter(reverse_path, recipients, octets)
    sent = asyncio.run(_send(letter, address, name, timedelta(seconds=within), verbose=verbose))
    show(sent, _sent, as_json_value=json)
    raise typer.Exit(0 if sent.all_accepted else 1)


async def _send(letter: Letter, server: Endpoint, name: str, within: timedelta, *, verbose: bool) -> Sent:
    console = err()

    def watch(mark: str, text: str) -> None:
        if verbose:
            console.print(words.dialogue_line(mark, text))

    errand = send(AsyncioDialer(), server, letter, hello_name=name, within=within, watch=watch)
    return await (errand if verbose else with_progress(errand, f"talking to {server}"))


def _sent(sent: Sent) -> Iterable[Text]:
    for answer in sent.answers:
        yield Text(f"<{answer.recipient}>  {answer.reply}", style="green" if answer.accepted else "red")
    if sent.trouble:
        yield Text(f"Not sent: {sent.trouble}", style="red")


def _hello_name(name: str, *, as_json_value: bool) -> str:
    """What stands in EHLO and in the Message-ID: other programs' names are tried here, too, if they fit on the line."""
    if len(name) > 255 or not all("!" <= each <= "~" for each in name):
        problem = f"--hello: {name!r} is more than 255 printable ASCII characters without a blank"
        fail(problem, "give a name such as mail.example.org", as_json_value=as_json_value, code=2)
    return name


def _reverse_path(text: str, *, as_json_value: bool) -> ReversePath:
    return _mailbox(text, "--from", as_json_value=as_json_value) if text.strip("<>") else NullPath()


def _mailbox(text: str, option: str, *, as_json_value: bool) -> Mailbox:
    try:
        return parse_mailbox(text.removeprefix("<").removesuffix(">"))
    except PathError as error:
        fail(f"{option}: {error}", "give one such as user@example.org", as_json_value=as_json_value, code=2)


# ---- the peer
def peer(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 lets the system choose.")] = 2526,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="STATE:FAULT[+SKIP][*TIMES]", help="What to do wrong, and where; repeatable."),
    ] = None,
    reply: Annotated[
        list[str] | None,
        typer.Option("--reply", metavar="STATE:CODE[ TEXT]", help="A reply in place of the right one; repeatable."),
    ] = None,
    times: Annotated[
        str, typer.Option("--times", metavar="N|always", help="How often each fault strikes that names no *TIMES.")
    ] = "always",
    lmtp: Annotated[bool, typer.Option("--lmtp", help="Speak LMTP: LHLO, a reply a recipient.")] = False,  # noqa: FBT002
    no_ehlo: Annotated[bool, typer.Option("--no-ehlo", help="Refuse EHLO with 502, as old servers do.")] = False,  # noqa: FBT002
    no_pipelining: Annotated[bool, typer.Option("--no-pipelining", help="Do not offer PIPELINING.")] = False,  # noqa: FBT002
    pace: Annotated[float, typer.Option("--pace", min=0, help="Seconds between octets of a dripped reply.")] = 0.2,
    json: Annotated[bool, typer.Option("--json", help="One JSON value a line, an event each.")] = False,  # noqa: FBT002
) -> None:
    """Run a server that misbehaves on demand.

    To try mail software against; Ctrl-C ends it.

    States: connect banner ehlo helo lhlo mail rcpt data body dot rset quit idle. Faults: close reset stall drip garbage
    nul barelf long endless truncated wrong early extra, 421, 4xx, 5xx, any reply code.

    Example: waypost peer --port 2526 --fault ehlo:close*1 --fault "rcpt:450 4.2.1 later+2"
    """
    try:
        often = _times(times)
        plan = [PlannedFault.parse(each, times=often) for each in (*(fault or ()), *(reply or ()))]
    except ValueError as error:
        fail(f"--fault, --reply or --times: {error}", "see waypost peer --help", as_json_value=json, code=2)
    if no_ehlo:
        plan.append(PlannedFault.parse(f"{State.EHLO.value}:502 5.5.1 no such command"))
    settings = PeerSettings(lmtp=lmtp, pace=timedelta(seconds=pace))
    if no_pipelining:
        settings = PeerSettings(
            lmtp=lmtp, pace=settings.pace, extensions=tuple(e for e in settings.extensions if e != "PIPELINING")
        )
    running = FaultyPeer(*plan, settings=settings, host=host, port=port, watch=_json_event if json else _say_event)
    try:
        asyncio.run(_run_peer(running, as_json_value=json))
    except OSError as error:
        fail(f"cannot listen on {host}:{port}: {error.strerror}", "choose another --port or --host", as_json_value=json)
    except KeyboardInterrupt:
        received, accepted, calls = len(running.received), len(running.accepted), len(running.dialogues)
        counted = {"connections": calls, "received": received, "accepted": accepted}
        text = (
            f"{words.counted(calls, 'connection')}, {words.counted(received, 'message')} received, {accepted} accepted"
        )
        typer.echo(json_line(counted) if json else text)


def _times(text: str) -> int:
    if text == "always":
        return ALWAYS
    if text.isascii() and text.isdigit():
        return int(text)
    raise ValueError(f"{text!r} is neither a whole number nor always")


async def _run_peer(running: FaultyPeer, *, as_json_value: bool) -> None:
    async with running:
        where = str(running.endpoint)
        typer.echo(json_line({"listening": where}) if as_json_value else f"Listening on {where}; Ctrl-C ends it.")
        sys.stdout.flush()
        await asyncio.Event().wait()


def _json_event(event: PeerEvent) -> None:
    typer.echo(json_line({"connection": event.connection, "mark": event.mark, "text": event.text}))


def _say_event(event: PeerEvent) -> None:
    out().print(words.dialogue_line(event.mark, event.text, before=f"{event.connection:>4} "))
