"""A desk over a queue in memory, a route table and made-up DNS; with messages in every state a test may ask about."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from tests.deliver.peer import NoPolicies
from tests.route.written import WrittenResolver
from waypost.admin.answers import ListenerFacts, ServiceFacts
from waypost.admin.board import Board
from waypost.admin.guard import Guard, Open, Users
from waypost.admin.http import AdminServer
from waypost.admin.operations import InForce, Operations, Told
from waypost.admin.operations import queue as looking
from waypost.config import Config, parse
from waypost.config.parts import expander, maps
from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, NotInDoubt, Origin, Recipient
from waypost.mail.outcome import Answered, Deferred, Delivered, Host, Outcome
from waypost.net.clock import SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.resolver import Addresses, MxRecord, MxRecords, NullMx
from waypost.net.stream import Endpoint
from waypost.net.web import SILENCE
from waypost.policy.admission import Admission
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Gone, Lease, Next, Notice, Settled, Settlement, Stored, Wait
from waypost.route.hosts import HostFinder
from waypost.route.state import DestinationState, Phase
from waypost.smtp.path import parse_mailbox
from waypost.smtp.reply import EnhancedStatus, Reply

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
[[listener]]
address = "127.0.0.1:2525"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["example.com"]
to = "smtp://127.0.0.9:2599"
[[route]]
domains = ["example.org", "null.example", "gone.example"]
to = "mx:"
[[route]]
domains = ["captured.example"]
to = "capture:"
"""
DICE = random.Random(1)  # noqa: S311 - a test that comes out the same each time
RELAYED = NextHop("smtp://127.0.0.9:2599")
CAPTURED = NextHop("capture:")
HOST = Host("inner.example.com", Endpoint("127.0.0.9", 2599))
SAID = ("* connected", "S 220 inner \x1b[31mESMTP")
BODY = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: <a@example.net>\r\n\r\nHello <b>there</b>\r\n"


def config(tmp: Path = Path("/nowhere")) -> Config:
    parsed = parse(CONFIG, where="waypost.toml", base=tmp)
    assert isinstance(parsed, Config), str(parsed)
    return parsed


def zone() -> WrittenResolver:
    records = (MxRecord(20, "mx.example.net"), MxRecord(10, "mx1.example.org"), MxRecord(15, "missing.example.org"))
    return WrittenResolver(
        {"example.org": MxRecords(records), "null.example": NullMx()},
        {"mx1.example.org": Addresses(("2001:db8::1", "192.0.2.1")), "mx.example.net": Addresses(("192.0.2.9",))},
    )


def destination(hop: str, phase: Phase, *, waiting: int = 0, cause: str = "") -> DestinationState:
    """What the dispatcher tells of a next hop."""
    until = 4e9 if phase is Phase.RESTING else 0.0
    return DestinationState(NextHop(hop), phase, waiting, phase is Phase.RESTING, 1, 5, 20, cause, until)


@dataclass
class Office:
    """The desk, and what stands behind it."""

    storage: MemoryStorage
    desk: Operations
    reasons: list[str]
    ids: MessageIds
    #: What the dispatcher would tell, and what it was told.
    delivering: list[DestinationState] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    #: The places that it was told are frozen, each time.
    frozen: list[list[str]] = field(default_factory=list)

    async def accept(self, to: str, next_hop: NextHop, *, octets: bytes = BODY) -> Lease:
        """A message received now, leased."""
        now = self.desk.clock.now()
        envelope = Envelope(
            parse_mailbox("a@example.net"),
            tuple(Recipient(parse_mailbox(each), next_hop) for each in to.split(",")),
            Origin("ESMTP", "127.0.0.1", "client.example.net", "127.0.0.1:2525"),
        )
        stored = await self.storage.accept(
            envelope, InMemory(octets), id=self.ids.make(), now=now, claim_until=now + 60
        )
        assert isinstance(stored, Stored)
        return stored.leases[0]

    async def settle(self, lease: Lease, outcome: Outcome, follows: Next, said: Sequence[str] = SAID) -> MessageId:
        """The lease's end, with a transcript of what was said, each line behind its mark."""
        now = self.desk.clock.now()
        transcript = Transcript(0.0)
        for number, line in enumerate(said, start=1):
            transcript.add(number / 100, line[0], line[2:])
        attempt = Attempt(
            message=lease.message,
            next_hop=lease.next_hop,
            started_at=now,
            ended_at=now + 0.25,
            outcomes=tuple((recipient, outcome) for recipient in lease.recipients),
            transcript=transcript,
        )
        settled = tuple(
            Settled(recipient=recipient, outcome=outcome, next=follows, notice=Notice.NONE, retry_until=now + 9999)
            for recipient in lease.recipients
        )
        assert await self.storage.settle(Settlement(lease, attempt, settled))
        return lease.message.id

    async def waiting(self, to: str = "b@example.com") -> MessageId:
        """A message that was deferred once and waits for an hour."""
        cause = Answered(HOST, "RCPT", Reply(450, ("4.2.1 later <script>",)))
        outcome = Deferred(cause, EnhancedStatus(4, 2, 1))
        until = self.desk.clock.now() + timedelta(hours=1).total_seconds()
        return await self.settle(await self.accept(to, RELAYED), outcome, Wait(until, NotInDoubt()))

    async def delivered(self, to: str = "c@example.com") -> MessageId:
        """A message that is done."""
        outcome = Delivered(str(HOST), Reply(250, ("2.0.0 fine",)))
        return await self.settle(await self.accept(to, RELAYED), outcome, Gone())

    async def captured(self, *, octets: bytes = BODY) -> MessageId:
        """A message in the inbox."""
        outcome = Delivered("the inbox", Reply(250, ("2.0.0 captured",)))
        lease = await self.accept("d@captured.example", CAPTURED, octets=octets)
        return await self.settle(lease, outcome, Gone(captured=True))


class Hurried(SystemClock):
    """A clock by which each look at the time comes a second later: whoever has little time has none left."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        self._seconds += 1
        return self._seconds


def hurry(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a question about the queue be answered after a look at one recipient."""
    monkeypatch.setattr(looking, "STRETCH", 1)
    office.desk.clock = Hurried()


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    found, clock, dns = config(), SystemClock(), zone()
    storage, reasons = MemoryStorage(), list[str]()
    await storage.open(owner="test")
    facts = ServiceFacts(
        "0.0",
        "mx.example.net",
        "memory",
        "memory",
        (ListenerFacts("mx", "127.0.0.1:2525"),),
        started_at=0.0,
    )

    async def not_ready() -> Sequence[str]:
        return reasons

    finder = HostFinder(dns, own_names={"mx.example.net"}, own_addresses=set(), own_ports={25}, dice=DICE)
    delivering, told, frozen = list[DestinationState](), list[str](), list[list[str]]()
    table = found.route_table()
    admission = Admission(table, expander(found, clock, maps(found, clock, AsyncioDialer())))
    desk = Operations(
        storage=storage,
        in_force=InForce(found, table, admission, finder),
        resolver=dns,
        policies=NoPolicies(),
        clock=clock,
        facts=facts,
        not_ready=not_ready,
        told=Told(
            changed=lambda: told.append("changed"),
            retried=lambda hops: told.append(" ".join(["retried", *hops])),
            refrozen=lambda now: frozen.append(list(now)),
        ),
        delivering=lambda: delivering,
    )
    yield Office(storage, desk, reasons, MessageIds(clock, DICE), delivering, told, frozen)
    await storage.close()


@asynccontextmanager
async def served(
    office: Office,
    *,
    access: Open | Users | None = None,
    board: Board | None = None,
    silence: timedelta = SILENCE,
) -> AsyncIterator[AdminServer]:
    async def metrics() -> bytes:
        return b"waypost_up 1\n"

    guard = Guard(access or Open(), office.desk.clock)
    async with AdminServer(
        office.desk,
        Endpoint("127.0.0.1", 0),
        metrics=metrics,
        not_ready=office.desk.not_ready,
        guard=guard,
        board=board,
        silence=silence,
    ) as server:
        yield server
