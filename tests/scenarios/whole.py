"""The whole service in one process, wired as the program wires it, between clients and next hops that a test scripts.

What is put in its place: the network (connections in memory), time (a clock that jumps) and, unless a test wants the
real one, the spool. Names are looked up over DNS at a server of the test's own. Not here: what is expected of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from unittest.mock import patch

from tests.deliver.peer import Peer
from tests.net.dns_server import DnsServer
from tests.receive.house import SOON
from tests.virtual import VirtualClock
from waypost import app
from waypost.app import upkeep
from waypost.config import Config, parse
from waypost.mail.envelope import MessageId
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.memory import Host, MemoryDialer, MemoryStream, connected_pair
from waypost.net.stream import Endpoint, Fault
from waypost.queue import space
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import HistoryEvent, QueueEntry, Selection, Storage
from waypost.receive.house import House
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.reply import Reply

AUTHOR = "alice@home.example"
LETTER = b"Subject: hello\r\nMessage-ID: <1@home.example>\r\n\r\nHow are you?\r\n"
US = "127.0.0.1"
STRANGER = "203.0.113.9"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
#: Between two looks at the disk, each of which takes a thread: a second's would be all that a day's test does.
LOOK: Final = timedelta(hours=1)

#: What every test has: authors at home.example, whose reports end in the service's own inbox.
BASE = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@home.example"
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["home.example"]
to = "capture:"
"""
SCHEDULE = """\
[retry]
schedule = ["1m", "5m", "15m", "30m", "1h"]
jitter = 0.0
"""
SMART_HOST = """\
[[route]]
domains = ["*"]
to = "smtp://192.0.2.1:25"
"""
BY_MX = """\
[[route]]
domains = ["*"]
to = "mx:"
"""


def to_host(domain: str, host: str, *more: str) -> str:
    """A route: mail for `domain` goes to `host`, an address, port 25."""
    return "\n".join(["[[route]]", f'domains = ["{domain}"]', f'to = "smtp://{host}:25"', *more, ""])


@dataclass
class Client:
    """A client's end of one session, line by line."""

    stream: MemoryStream
    task: asyncio.Task[None]
    heard: bytes = b""
    said: bytes = b""  # all that the service has said

    async def hear(self) -> str:
        """The last line of the next reply, or `(KIND)` of what became of the connection."""
        while True:
            line, newline, rest = self.heard.partition(b"\r\n")
            if newline:
                self.heard = rest
                if line[3:4] != b"-":
                    return line.decode()
            elif isinstance(octets := await self.stream.read(SOON), Fault):
                return f"({octets.kind.name})"
            else:
                self.heard += octets
                self.said += octets

    async def say(self, *lines: str) -> str:
        """Say lines, each after the reply to the one before; the last reply."""
        reply = ""
        for line in lines:
            self.stream.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def send(self, octets: bytes) -> str:
        self.stream.write(octets)
        return await self.hear()

    async def everything(self) -> list[str]:
        """Every reply until the connection ends, then how it ended."""
        replies = [await self.hear()]
        while not replies[-1].startswith("("):
            replies.append(await self.hear())
        return replies

    async def letter(self, *to: str, author: str = AUTHOR, octets: bytes = LETTER) -> str:
        """A whole transaction, dot-stuffed; the reply to its final dot, or to what was refused before it."""
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        reply = await self.say(f"MAIL FROM:<{author}>", *(f"RCPT TO:<{one}>" for one in to), "DATA")
        return await self.send(stuffed + b".\r\n") if reply.startswith("354") else reply


@dataclass
class Whole:
    """The service while it runs."""

    running: app.Running
    receiver: Receiver
    door: Door
    doors: tuple[Door, ...]
    storage: Storage
    network: MemoryDialer
    dns: DnsServer
    clock: Clock
    clients: list[Client] = field(default_factory=list)

    async def connect(self, host: str = US, *, segment: int = 0) -> Client:
        """A session from `host`, not yet greeted; `segment` cuts what the service reads."""
        near, far = connected_pair(client=Endpoint(host, 49152), segment=segment)
        banner = Reply(220, (f"{self.door.smtp.hostname} ESMTP",))
        task = asyncio.ensure_future(self.receiver.serve(self.door, banner, far))
        self.clients.append(Client(near, task))
        return self.clients[-1]

    async def client(self, host: str = US, *, segment: int = 0) -> Client:
        """A session from `host` that has said EHLO."""
        client = await self.connect(host, segment=segment)
        assert (await client.hear()).startswith("220 ")
        assert (await client.say("EHLO client.example")).startswith("250 ")
        return client

    async def take(self, *to: str, author: str = AUTHOR, octets: bytes = LETTER) -> MessageId:
        """A message handed in by one of our own clients; its name."""
        client = await self.client()
        reply = await client.letter(*to, author=author, octets=octets)
        await client.say("QUIT")
        assert reply.startswith("250 2.0.0 Ok: queued as "), reply
        return MessageId(reply.rpartition(" ")[2])

    async def queue(self) -> Sequence[QueueEntry]:
        """What waits."""
        return await self.storage.entries(Selection(), after=(MessageId(""), -1), limit=100_000, now=self.clock.now())

    async def history(self, name: MessageId) -> Sequence[HistoryEvent]:
        return await self.storage.history(name)

    async def attempts(self, name: MessageId) -> int:
        return sum(event.kind == "attempt" for event in await self.history(name))

    async def inbox(self) -> list[bytes]:
        """What home.example got, oldest first: for an author, his reports."""
        bodies = []
        for one in await self.storage.captured(before=0, limit=1000):
            octets = await self.storage.captured_octets(one.number)
            bodies.append(b"".join([chunk async for chunk in octets]))
        return bodies[::-1]

    def break_lines(self) -> None:
        """End every session with a next hop, wherever it stands."""
        for task in self.network._tasks:
            task.cancel()

    async def hang_up(self) -> None:
        """End every client's session."""
        for client in self.clients:
            client.stream.abort()
        await asyncio.gather(*(client.task for client in self.clients))


def settings(text: str, *, dns: Endpoint, schedule: str = SCHEDULE, base: Path = Path("/nowhere")) -> Config:
    """BASE and `text` as a configuration."""
    whole = f'{BASE}{schedule}[dns]\nservers = ["{dns}"]\nhosts_file = false\n{text}'
    config = parse(whole, where="waypost.toml", base=base)
    assert isinstance(config, Config), str(config)
    return config


class Scripted:
    """Nothing but the scripted hosts can be reached."""


SCRIPTED: Final = Scripted()


@asynccontextmanager
async def whole(
    text: str = SMART_HOST,
    hosts: Mapping[str, Host | Fault] | None = None,
    *,
    zone: str = "",
    schedule: str = SCHEDULE,
    storage: Callable[[Config], Storage] = lambda _: MemoryStorage(),
    clock: Callable[[], Clock] = VirtualClock,
    dialer: Dialer | Scripted = SCRIPTED,
    base: Path = Path("/nowhere"),
) -> AsyncIterator[Whole]:
    """The service with the settings `text`.

    `hosts`: address → the server on its port 25, or why there is none. A `dialer` goes out to others than these.
    """
    network = MemoryDialer({Endpoint(host, 25): server for host, server in (hosts or {}).items()})
    kept: list[tuple[Receiver, tuple[Door, ...], House]] = []

    def receiver(doors: tuple[Door, ...], house: House) -> Receiver:
        made = Receiver(doors, house)
        kept.append((made, doors, house))
        return made

    async with DnsServer(zone) as dns:
        parts = app.Parts(
            clock=clock,
            storage=storage,
            dialer=lambda: network if isinstance(dialer, Scripted) else dialer,
            receiver=receiver,
            probes=False,
        )
        config = settings(text, dns=dns.endpoint, schedule=schedule, base=base)
        looks = LOOK if clock is VirtualClock else space.EVERY
        with patch.object(space, "EVERY", looks), patch.object(upkeep, "FROST_LOOK", looks):
            async with app.running(config, parts=parts) as running:
                made, doors, house = kept[0]
                service = Whole(running, made, doors[0], doors, house.storage, network, dns, house.clock)
                try:
                    yield service
                finally:
                    await service.hang_up()


def bodies(*peers: Peer) -> list[bytes]:
    """What peers have accepted, without our trace lines."""
    return [body.partition(b" +0000\r\n")[2] for peer in peers for _, body in peer.accepted]


def accepted_by(peer: Peer) -> list[str]:
    """The recipients a peer has accepted a message for, in order."""
    return [address for recipients, _ in peer.accepted for address in recipients]
