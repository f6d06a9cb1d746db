"""What tests of receiving share: a house with everything in memory, and a client that speaks line by line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network

from tests.virtual import VirtualClock
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop
from waypost.net.clock import Instant
from waypost.net.memory import THERE, MemoryStream, connected_pair
from waypost.net.stream import Endpoint, Fault
from waypost.policy.admission import NOBODY, Admission, RelayPolicy, Router
from waypost.policy.domains import Domains
from waypost.policy.expansion import Expander
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Draft, Lease, Selection, StorageError, Stored, StoreFault, StoreFaultKind
from waypost.receive.body import InFlight
from waypost.receive.house import House
from waypost.receive.ports import NoLog
from waypost.receive.resent import Resent
from waypost.receive.session import Session
from waypost.receive.settings import Door, ReceiveSettings
from waypost.route.route import Capture, NoRoute, Reject, Route
from waypost.smtp.path import ForwardPath, Postmaster, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.settings import ServerSettings

SOON = timedelta(hours=3)
HOSTNAME = "mx.example.net"
BANNER = Reply(220, (f"{HOSTNAME} ESMTP",))
OURS = Route(NextHop("ours"), Capture(), "rule 1")
ELSEWHERE = Route(NextHop("elsewhere"), Capture(), "rule 2", relay_only=True)
CLOSED_MAILBOX = Route(NextHop("closed"), Reject(Reply.of(550, "5.1.1", "no such user here")), "rule 3")

POSTMASTER = parse_mailbox("postmaster@ours.example")
MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n"


class Table:
    """Routes by domain, then by `*`."""

    def __init__(self, routes: Mapping[str, Route] | None = None) -> None:
        self.routes = routes or {"ours.example": OURS, "closed.example": CLOSED_MAILBOX, "*": ELSEWHERE}

    def route(
        self, forward_path: ForwardPath, reverse_path: ReversePath = NOBODY, account: str = ""
    ) -> Route | NoRoute:
        domain = "ours.example" if isinstance(forward_path, Postmaster) else str(forward_path.domain)
        if domain == "bug.example":
            raise RuntimeError("a bug in the table")
        return self.routes.get(domain) or self.routes.get("*") or NoRoute(f"no rule for {domain}")

    def named(self, name: str) -> Route | NoRoute:
        return NoRoute(f"no route is named {name}")


@dataclass
class Log(NoLog):
    """Remembers."""

    refusals: list[tuple[str, Reply]] = field(default_factory=list)
    taken: list[tuple[MessageId, Envelope, int]] = field(default_factory=list)
    troubles: list[tuple[str, Exception]] = field(default_factory=list)
    ends: list[tuple[str, int]] = field(default_factory=list)

    def refused(self, client: Endpoint, line: str, reply: Reply) -> None:
        self.refusals.append((line, reply))

    def accepted(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002
        self.taken.append((id, envelope, size))

    def trouble(self, client: Endpoint, what: str, error: Exception) -> None:
        self.troubles.append((what, error))

    def ended(self, client: Endpoint, reason: str, messages: int) -> None:
        self.ends.append((reason, messages))


class Failing(MemoryStorage):
    """A storage that answers `fault` instead of storing; with `draft_fault` its drafts fail on the first write."""

    def __init__(self, fault: StoreFault) -> None:
        super().__init__()
        self.fault = fault

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        return self.fault

    async def draft(self) -> Draft:
        raise StorageError(self.fault)


class Hiccup(MemoryStorage):
    """A storage whose first draft fails, and that is well again at once."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = False

    async def draft(self) -> Draft:
        if self.failed:
            return await super().draft()
        self.failed = True
        raise StorageError(FULL)


class Slow(MemoryStorage):
    """A storage whose commit takes its time (a virtual minute)."""

    DELAY = 60.0

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        await asyncio.sleep(self.DELAY)
        return await super().accept(envelope, octets, id=id, now=now, claim_until=claim_until)


class Broken(MemoryStorage):
    """A storage with a bug."""

    async def accept(
        self,
        envelope: Envelope,
        octets: InMemory | Draft,
        *,
        id: MessageId,  # noqa: A002
        now: Instant,
        claim_until: Instant,
    ) -> Stored | StoreFault:
        raise ZeroDivisionError("a bug in the storage")


FULL = StoreFault(StoreFaultKind.FULL, "no space left on device")
FAILED = StoreFault(StoreFaultKind.FAILED, "disk I/O error")


class Taker:
    """Takes every lease."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []

    def wants(self) -> bool:
        return True

    def take(self, leases: Sequence[Lease]) -> None:
        self.leases.extend(leases)


def admission(router: Router) -> Admission:
    """What judges recipients where no `[[domain]]` is written."""
    return Admission(router, Expander(Domains(), postmaster=POSTMASTER))


def make_house(storage: MemoryStorage | None = None, settings: ReceiveSettings | None = None) -> House:
    clock = VirtualClock()
    return House(
        storage=storage or MemoryStorage(),
        admission=admission(Table()),
        relay=RelayPolicy((ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))),
        settings=settings or ReceiveSettings(),
        clock=clock,
        ids=MessageIds(clock, random.Random(1)),  # noqa: S311 - not for secrets
        log=Log(),
        onward=Taker(),
        in_flight=InFlight((settings or ReceiveSettings()).in_flight),
        resent=Resent(clock, timedelta(hours=1)),
    )


def make_door(*, lmtp: bool = False, relay_clients_only: bool = False, **smtp: int) -> Door:
    return Door(
        Endpoint("192.0.2.25", 25),
        replace(ServerSettings(HOSTNAME, lmtp=lmtp), **smtp),  # type: ignore[arg-type]  # ints where bools may stand
        relay_clients_only=relay_clients_only,
    )


@dataclass
class Talk:
    """A client's end of a session that runs."""

    stream: MemoryStream
    session: Session
    task: asyncio.Task[None]
    house: House
    _heard: str = ""

    @property
    def log(self) -> Log:
        assert isinstance(self.house.log, Log)
        return self.house.log

    @property
    def storage(self) -> MemoryStorage:
        assert isinstance(self.house.storage, MemoryStorage)
        return self.house.storage

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

    async def hear(self) -> str:
        """One whole reply, or what became of the connection."""
        reply = ""
        while not reply.endswith("\n") or reply.splitlines()[-1][3:4] == "-":
            line, newline, rest = self._heard.partition("\n")
            if newline:
                reply, self._heard = reply + line.rstrip("\r") + newline, rest
            elif isinstance(got := await self.stream.read(SOON), Fault):
                return reply + f"({got.kind.name})"
            else:
                self._heard += got.decode()
        return reply.rstrip("\n")

    async def open_data(self, to: str = "bob@ours.example") -> str:
        return await self.say("EHLO us.example", "MAIL FROM:<alice@us.example>", f"RCPT TO:<{to}>", "DATA")

    async def end(self) -> None:
        self.stream.half_close()
        await self.task

    async def stored(self) -> list[bytes]:
        """The octets of every message in the queue, oldest first."""
        entries = await self.storage.entries(
            Selection(), after=(MessageId(""), -1), limit=1000, now=self.house.clock.now()
        )
        bodies = []
        for name in sorted({entry.id for entry in entries}):
            _, octets = await self.storage.message(name)
            bodies.append(b"".join([chunk async for chunk in octets]))
        return bodies


async def begin(
    house: House | None = None, door: Door | None = None, *, client: Endpoint = THERE, segment: int = 0
) -> Talk:
    """A session that has greeted."""
    house = house or make_house()
    await house.storage.open(owner="test")
    near, far = connected_pair(client=client, segment=segment)
    session = Session(far, door or make_door(), house)
    talk = Talk(near, session, asyncio.ensure_future(session.run(BANNER)), house)
    assert await talk.hear() == str(BANNER)
    return talk
