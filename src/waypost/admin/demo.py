"""The founding fault, live: a server hangs up on EHLO, and mail routed to it is delivered all the same.

A mail service of 1999 stopped altogether on this. `waypost demo` runs the server, a whole service in front of it and a
client, and shows what Waypost does, by the service's own transcript. Not here: building the service (app).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from rich.text import Text

from waypost.admin import words
from waypost.admin.answers import Trace
from waypost.admin.desk import Desk
from waypost.admin.peer import FaultyPeer
from waypost.admin.send import compose, send
from waypost.config import Complaints, Config, parse
from waypost.mail.errand import Letter
from waypost.net.clock import Clock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint
from waypost.smtp.path import Mailbox, parse_mailbox

Say: TypeAlias = Callable[[Text], None]

#: How long each message may take; it takes milliseconds.
PATIENCE: Final = timedelta(seconds=30)
#: How often the service is asked whether a message is done.
GLANCE: Final = timedelta(milliseconds=20)


class Running(Protocol):
    """A service that runs in this process."""

    @property
    def receive_endpoints(self) -> Sequence[Endpoint]: ...

    @property
    def operations(self) -> Desk: ...


Start: TypeAlias = Callable[[Config], AbstractAsyncContextManager[Running]]
"""Runs a service for as long as its context lasts."""


def configuration(directory: Path, next_hop: Endpoint) -> Config:
    """A service on free ports, with its spool below `directory`, that forwards everything to `next_hop`."""
    text = f"""\
[service]
hostname = "demo.waypost.example"
spool = "spool"
postmaster = "postmaster@demo.waypost.example"
allow_ephemeral = true
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["*"]
to = "smtp://{next_hop}"
[log]
level = "error"
"""
    found = parse(text, where="the demonstration", base=directory)
    if isinstance(found, Complaints):
        raise RuntimeError(str(found))  # noqa: TRY004 - not a type is wrong but the text, and that is ours
    return found


async def demonstrate(start: Start, directory: Path, say: Say, clock: Clock) -> bool:
    """Play it; True where all came to pass as it should."""
    async with FaultyPeer("ehlo:close", "idle:close") as peer:
        say(_title(f"A server at {peer.endpoint} that hangs up on EHLO, and after each message"))
        async with start(configuration(directory, peer.endpoint)) as running:
            service = running.receive_endpoints[0]
            say(_title(f"Waypost at {service}, told to forward everything to it"))
            first = await _message(running, clock, say, "first@example.com")
            say(_title("A second message: what that host cannot do is remembered, so HELO at once"))
            second = await _message(running, clock, say, "second@example.com")
            say(_title("And the service is still running"))
            for line in words.status(await running.operations.status()):
                say(line)
        greeted = [dialogue.verbs[:1] for dialogue in peer.dialogues]
        as_it_should = first and second and greeted == [["EHLO"], ["HELO"], ["HELO"]]
        say(_verdict(peer, as_it_should=as_it_should))
        return as_it_should


async def _message(running: Running, clock: Clock, say: Say, to: str) -> bool:
    """Send one through the service, and show its life. True: it was delivered."""
    reverse_path, recipient = parse_mailbox("author@example.org"), parse_mailbox(to)
    sent = await send(
        AsyncioDialer(),
        running.receive_endpoints[0],
        Letter(reverse_path, (recipient,), _letter(reverse_path, recipient, clock)),
        hello_name="client.example.org",
        within=PATIENCE,
        watch=lambda _mark, _text: None,
    )
    if not sent.all_accepted:
        say(Text(f"The service did not take the message: {sent.trouble or sent.answers}", style="red"))
        return False
    life = await _until_done(running.operations, to)
    for line in words.trace(life):
        say(line)
    return not life.waiting and life.events[-1].kind == "done"


def _letter(reverse_path: Mailbox, recipient: Mailbox, clock: Clock) -> bytes:
    return compose(
        reverse_path,
        (recipient,),
        "The founding fault",
        "It stopped a mail service in 1999.\n",
        now=clock.now(),
        message_id=f"<{recipient.local_part}@client.example.org>",
    )


async def _until_done(desk: Desk, address: str) -> Trace:
    """The message's life once nothing more is to happen at once: it is done, or it waits."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            life = (await desk.trace(address)).traces[0]
            if life.events[-1].kind in {"done", "attempt"} and all(entry.attempts for entry in life.waiting):
                return life
            await asyncio.sleep(GLANCE.total_seconds())


def _title(text: str) -> Text:
    return Text(f"\n● {text}", style="bold")


def _verdict(peer: FaultyPeer, *, as_it_should: bool) -> Text:
    greetings = ", ".join(dialogue.verbs[0] for dialogue in peer.dialogues if dialogue.verbs)
    text = f"\nThe server was greeted with {greetings}, and took {words.counted(len(peer.accepted), 'message')}."
    return Text(text, style="bold green" if as_it_should else "bold red")
