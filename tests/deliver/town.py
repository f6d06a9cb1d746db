"""A dispatcher with its queue in memory and a peer for each next hop, on virtual time: mail in, attempts out."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Self

from tests.deliver.peer import BODY, ROUTE, SMTP, Peer, World
from tests.route.written import WrittenResolver
from waypost.deliver.crowd import Capacity
from waypost.deliver.dispatch import Dispatcher
from waypost.deliver.dots import UNMARKED, Dots
from waypost.deliver.journal import NullJournal
from waypost.deliver.maildir import MaildirDelivery
from waypost.deliver.pipe import PipeDelivery
from waypost.deliver.quotas import Quotas
from waypost.deliver.relays import Relays
from waypost.deliver.runner import Carriers, Runner
from waypost.deliver.settler import Settler
from waypost.deliver.webhook import WebhookDelivery
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Origin, QueuedMessage, Recipient
from waypost.mail.outcome import Cause, Host
from waypost.net.stream import Fault
from waypost.queue.memory import MemoryStorage
from waypost.queue.schedule import RetryPolicy
from waypost.queue.storage import CLAIM, Lease, Settled, Settlement, StorageError, Stored, StoreFault, StoreFaultKind
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, NoRoute, Route, SmtpMx, SmtpServers
from waypost.smtp.path import parse_mailbox

POLICY = RetryPolicy(
    tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60)), expire=timedelta(days=5), jitter=0.0
)


@dataclass
class Notes(NullJournal):
    """A journal that keeps what it is told."""

    attempts: list[tuple[Attempt, Sequence[Settled]]] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lost: list[Lease] = field(default_factory=list)
    rests: list[tuple[NextHop, float]] = field(default_factory=list)
    refused: list[NextHop] = field(default_factory=list)
    #: Set by each attempt that ends.
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        self.attempts.append((attempt, settled))
        self.told.set()

    def crashed(self, message: QueuedMessage, next_hop: NextHop, error: Exception) -> None:
        self.crashes.append(error)

    def storage_failed(self, doing: str, detail: str) -> None:
        self.failures.append(doing)

    def lease_lost(self, lease: Lease) -> None:
        self.lost.append(lease)

    def destination_rests(self, next_hop: NextHop, cause: Cause, until: float) -> None:
        self.rests.append((next_hop, until))

    def credentials_refused(self, next_hop: NextHop, cause: Cause, until: float) -> None:
        self.refused.append(next_hop)


class FlakyStorage(MemoryStorage):
    """A queue in memory that fails while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    async def settle(self, settlement: Settlement) -> bool:
        self._check()
        return await super().settle(settlement)

    async def claim(self, next_hop: NextHop, *, now: float, until: float, messages: int) -> Sequence[Lease]:
        self._check()
        return await super().claim(next_hop, now=now, until=until, messages=messages)

    def _check(self) -> None:
        if self.fails:
            raise StorageError(StoreFault(StoreFaultKind.FULL, "the disk is full"))


class ByServer:
    """A Finder: the server's name in a route is the host's."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts
        self.bug: Callable[[], None] = lambda: None

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer:
        self.bug()
        assert isinstance(transport, SmtpServers)
        return Hosts((self._hosts[transport.servers[0].host],))


class Town:
    """A dispatcher, its queue, and one peer a next hop (`hop0`, `hop1` …)."""

    def __init__(
        self,
        *peers: Peer | Fault,
        capacity: Capacity | None = None,
        routes: Mapping[str, Route | NoRoute] | None = None,
        policy: RetryPolicy = POLICY,
        dots: Dots = UNMARKED,
    ) -> None:
        self.world = World(*peers)
        self.clock = self.world.clock
        self.notes = Notes()
        self.storage = FlakyStorage()
        by_name = {f"hop{number}": host for number, host in enumerate(self.world.hosts)}
        self.finder = ByServer(by_name)
        self.world.smtp._finder = self.finder
        self.routes = dict(routes or {})
        for name in by_name:
            server = replace(SMTP.servers[0], host=name)
            self.routes.setdefault(name, replace(ROUTE, next_hop=NextHop(name), transport=SmtpServers((server,))))
        dice = random.Random(1)  # noqa: S311 - no secret
        runner = Runner(
            Carriers(
                self.world.smtp,
                MaildirDelivery("us.example", self.clock),
                WebhookDelivery(WrittenResolver({}, {}), ssl.create_default_context(), self.clock),
                PipeDelivery("us.example", self.clock),
            ),
            Relays(self, Quotas(self.storage, self.clock), self.clock),
            {},
            policy=policy,
            clock=self.clock,
            dice=dice,
            journal=self.notes,
        )
        self.dispatcher = Dispatcher(
            self.storage,
            self,
            runner,
            Settler(self.storage, self.clock, self.notes, dots),
            self.world.pool,
            policy=policy,
            clock=self.clock,
            journal=self.notes,
            capacity=capacity or Capacity(),
        )
        self.numbers = iter(range(1_000_000))

    def change(self, hop: str, **fields: object) -> None:
        """Give the route of `hop` other fields."""
        route = self.routes[hop]
        assert isinstance(route, Route)
        self.routes[hop] = replace(route, **fields)  # type: ignore[arg-type]  # the fields' names are the test's

    def by_next_hop(self, next_hop: NextHop) -> Route | NoRoute:
        return self.routes[next_hop]

    def named(self, name: str) -> Route | NoRoute:
        return self.routes.get(name, NoRoute(f"no route is called {name}"))

    async def __aenter__(self) -> Self:
        await self.storage.open(owner="test")
        self.task = asyncio.ensure_future(self.dispatcher.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.storage.fails = False
        await self.dispatcher.stop(timedelta(seconds=1))
        await asyncio.wait_for(self.task, 60)

    async def queue(
        self,
        hop: str,
        count: int = 1,
        *,
        hand_over: bool = False,
        to: Sequence[str] = ("bob@example.com",),
        octets: bytes = BODY,
        by: str = "alice@example.org",
    ) -> list[MessageId]:
        """Put messages into the queue; handed over, or left for the dispatcher to find."""
        names = []
        for _ in range(count):
            name = MessageId(f"M{next(self.numbers):012}")
            envelope = Envelope(
                parse_mailbox(by),
                tuple(Recipient(parse_mailbox(address), NextHop(hop)) for address in to),
                Origin("SMTP"),
            )
            now = self.clock.now()
            until = now + CLAIM.total_seconds() if hand_over else now
            stored = await self.storage.accept(envelope, InMemory(octets), id=name, now=now, claim_until=until)
            assert isinstance(stored, Stored)
            self.dispatcher.take(stored.leases)
            names.append(name)
        self.dispatcher.wake()
        return names

    async def left(self) -> int:
        return (await self.storage.counts()).recipients
