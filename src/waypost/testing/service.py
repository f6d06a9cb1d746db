"""The whole service in one process, wired as the program wires it, between clients and servers that a test scripts.

What is put in its place: the network (connections in memory), time (a clock that jumps), the spool (in memory), and DNS
(a server on loopback with the test's own zone). Routes, aliases, limits and hooks are those of the configuration. Not
here: what is expected of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias
from unittest.mock import patch

import structlog

from waypost import app
from waypost.admin.explanation import Explanation, MessageFacts, Question
from waypost.app import upkeep
from waypost.config import Complaints, Config, load, parse
from waypost.hooks.runtime import Inline
from waypost.mail.envelope import MessageId
from waypost.net.memory import Host, MemoryDialer, MemoryStream, connected_pair
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.queue import space
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import HistoryEvent, QueueEntry, Selection
from waypost.receive.house import House
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.reply import Reply
from waypost.testing.clock import VirtualClock, run_virtual
from waypost.testing.dns import DnsServer
from waypost.testing.peer import FOREVER

LETTER: Final = b"Subject: hello\r\nMessage-ID: <1@client.example>\r\n\r\nHow are you?\r\n"
LOOPBACK: Final = Endpoint("127.0.0.1", 0)
#: Between two looks at the disk, each of which takes a thread: a second's would be all that a day's test does.
LOOK: Final = timedelta(hours=1)
#: How long `quiet` waits for mail that is under way.
AT_MOST: Final = timedelta(minutes=1)


class UnlikeError(AssertionError):
    """The service did not do as the scene says."""


@dataclass
class Client:
    """A client's end of one session, line by line."""

    stream: MemoryStream
    task: asyncio.Task[None]
    heard: bytes = b""

    async def hear(self) -> str:
        """The last line of the next reply, or `(KIND)` of what became of the connection."""
        while True:
            line, newline, rest = self.heard.partition(b"\r\n")
            if newline:
                self.heard = rest
                if line[3:4] != b"-":
                    return line.decode()
                continue
            octets = await self.stream.read(FOREVER)
            if isinstance(octets, Fault):
                return f"({octets.kind.name})"
            self.heard += octets

    async def say(self, *lines: str) -> str:
        """Say lines, each after the reply to the one before; the last reply."""
        reply = ""
        for line in lines:
            self.stream.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def letter(self, *to: str, author: str = "ann@client.example", octets: bytes = LETTER) -> str:
        """A whole transaction; the reply to its final dot, or to the first command that was refused."""
        for command in (f"MAIL FROM:<{author}>", *(f"RCPT TO:<{one}>" for one in to), "DATA"):
            reply = await self.say(command)
            if reply[:1] not in {"2", "3"}:
                await self.say("RSET")  # the next one begins anew
                return reply
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        self.stream.write(stuffed + b".\r\n")
        return await self.hear()


@dataclass
class Service:
    """The service while it runs."""

    running: app.Running
    config: Config
    clock: VirtualClock
    dns: DnsServer
    network: MemoryDialer
    storage: MemoryStorage
    _receiver: Receiver
    _doors: tuple[Door, ...]
    _clients: list[Client] = field(default_factory=list)

    async def connect(self, host: str = "127.0.0.1", *, listener: str = "") -> Client:
        """A session from `host` that was not greeted yet, at the listener of that name, or the first one."""
        door = next((door for door in self._doors if door.name == listener), self._doors[0])
        if listener and door.name != listener:
            raise UnlikeError(f"no [[listener]] is named {listener!r}")
        near, far = connected_pair(client=Endpoint(host, 49152))
        banner = Reply(220, (f"{door.smtp.hostname} ESMTP",))
        self._clients.append(Client(near, asyncio.ensure_future(self._receiver.serve(door, banner, far))))
        return self._clients[-1]

    async def client(self, host: str = "127.0.0.1", *, listener: str = "") -> Client:
        """A session from `host` that has said EHLO. Raises: UnlikeError, where the service would not have it."""
        client = await self.connect(host, listener=listener)
        greeting = await client.hear()
        if not greeting.startswith("220 ") or not (await client.say("EHLO client.example")).startswith("250 "):
            raise UnlikeError(f"{host} was greeted with {greeting}")
        return client

    async def explain(
        self, *to: str, author: str = "ann@client.example", client: str = "127.0.0.1", size: int = 0, priority: int = 0
    ) -> Explanation:
        """What `waypost explain` would say."""
        return await self.running.operations.explain(
            Question(to, client, reverse_path=author, message=MessageFacts(size), priority=priority)
        )

    async def queue(self) -> Sequence[QueueEntry]:
        """Recipients that wait."""
        after = (MessageId(""), -1)
        return await self.storage.entries(Selection(), after=after, limit=100_000, now=self.clock.now())

    async def history(self, name: str) -> Sequence[HistoryEvent]:
        """What happened to a message."""
        return await self.storage.history(MessageId(name))

    async def inbox(self) -> list[bytes]:
        """What `capture:` routes kept, oldest first."""
        found = await self.storage.captured(before=0, limit=1000)
        return [await self._octets(one.number) for one in reversed(found)]

    async def _octets(self, number: int) -> bytes:
        octets = await self.storage.captured_octets(number)
        return b"".join([chunk async for chunk in octets])

    async def quiet(self) -> None:
        """Let all that is due now be tried; what waits for a later time stays."""
        ends = self.clock.monotonic() + AT_MOST.total_seconds()
        while self.clock.monotonic() < ends:
            await self.clock.sleep(timedelta(milliseconds=100))
            if all(entry.state.value in {"waiting", "held"} for entry in await self.queue()):
                return
        raise UnlikeError("mail is still under way after a minute")

    async def close(self) -> None:
        """End every client's session."""
        for client in self._clients:
            client.stream.abort()
        await asyncio.gather(*(client.task for client in self._clients))


Scene: TypeAlias = Callable[[Service], Awaitable[None]]
Hosts: TypeAlias = Mapping[str, Host | Fault]
"""Address with port ("192.0.2.10:25") → the server there, or why none answers."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Runs scenes. `base`: where the names of configuration files begin."""

    base: Path

    def run(self, config: str | Path, scene: Scene, *, hosts: Hosts | None = None, zone: str = "") -> None:
        """Run `scene` with the service of `config`: a file's name, or the text itself.

        `zone`: lines of DNS, such as `example.org. 300 MX 10 mx.example.org.`; other names do not exist.
        """

        async def acted() -> None:
            async with service(self._config(config), hosts=hosts or {}, zone=zone) as running:
                await scene(running)

        with _log_of_nobody():
            run_virtual(acted())

    def _config(self, config: str | Path) -> Config:
        is_text = isinstance(config, str) and "\n" in config
        found = parse(str(config), where="waypost.toml", base=self.base) if is_text else load(self.base / config)
        if isinstance(found, Complaints):
            raise UnlikeError(str(found))
        return found


@contextmanager
def _log_of_nobody() -> Iterator[None]:
    """A service makes its log everybody's; the next test has its own again."""
    before = structlog.get_config()
    try:
        yield
    finally:
        structlog.configure(**before)


@asynccontextmanager
async def service(config: Config, *, hosts: Hosts, zone: str = "") -> AsyncIterator[Service]:
    """The service of `config`, on a loop whose time jumps (`run_virtual`)."""
    network = MemoryDialer({_endpoint(text): server for text, server in hosts.items()})
    storage, clock, kept = MemoryStorage(), VirtualClock(), list[tuple[Receiver, tuple[Door, ...]]]()

    def receiver(doors: tuple[Door, ...], house: House) -> Receiver:
        made = Receiver(doors, house)
        kept.append((made, doors))
        return made

    async with DnsServer(zone) as dns:
        parts = app.Parts(
            clock=lambda: clock,
            storage=lambda _: storage,
            dialer=lambda: network,
            receiver=receiver,
            runtime=lambda _: Inline(),
            probes=False,
        )
        with patch.object(space, "EVERY", LOOK), patch.object(upkeep, "FROST_LOOK", LOOK):
            async with app.running(_alone(config, dns.endpoint), parts=parts) as running:
                made, doors = kept[0]
                found = Service(running, config, clock, dns, network, storage, made, doors)
                try:
                    yield found
                finally:
                    await found.close()


def _alone(config: Config, dns: Endpoint) -> Config:
    """The same, but on no address and in no directory that somebody else might have."""
    return replace(
        config,
        spool=Path("/nonexistent/spool-of-a-test"),
        listeners=tuple(listener.model_copy(update={"address": LOOPBACK}) for listener in config.listeners),
        admin=config.admin.model_copy(update={"address": LOOPBACK}),
        pickup=config.pickup.model_copy(update={"directory": ""}),
        dns=config.dns.model_copy(update={"servers": (dns,), "hosts_file": False}),
    )


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


#: What a host may be instead of a Peer: there is nobody, or nobody answers.
REFUSES: Final = Fault(FaultKind.REFUSED)
SILENT: Final = Fault(FaultKind.TIMED_OUT)
