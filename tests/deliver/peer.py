"""A world of scripted servers (waypost.testing.peer) to deliver into, on virtual time."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import timedelta

from tests.route.written import WrittenResolver
from tests.virtual import VirtualClock
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool, PoolLimits
from waypost.deliver.smtp import Reach, SmtpDelivery
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import (
    Doubt,
    InMemory,
    MessageId,
    NextHop,
    NotInDoubt,
    Octets,
    Origin,
    QueuedMessage,
    QueuedRecipient,
)
from waypost.mail.outcome import Host, LocalTrouble, Outcome
from waypost.net.clock import SystemClock
from waypost.net.memory import MemoryDialer
from waypost.net.stream import FLUSHED, Endpoint, Fault, Flushed
from waypost.queue.storage import Lease
from waypost.route.level import NoStsPolicy, TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Route, Server, SmtpMx, SmtpServers
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.path import parse_mailbox
from waypost.testing.peer import EXTENSIONS, EXTRA_REPLY, FOREVER, GOOD, Behaviour, Gone, Peer, Plan, Spoilt, Wrong

#: What was here, and is where users' tests have it too.
__all__ = ["EXTENSIONS", "EXTRA_REPLY", "FOREVER", "GOOD", "Behaviour", "Gone", "Peer", "Plan", "Spoilt", "Wrong"]

BODY = b"Subject: test\r\n\r\nhello\r\n"


# ---- what is delivered
def endpoint(number: int) -> Endpoint:
    """The address of the host `number`, 0 the first."""
    return Endpoint(f"192.0.2.{number + 1}", 25)


def recipient(number: int, address: str = "", *, doubt: Doubt | None = None, attempts: int = 0) -> QueuedRecipient:
    path = parse_mailbox(address or f"user{number}@example.com")
    return QueuedRecipient(number, path, RcptParameters(), attempts, delay_reported=False, doubt=doubt or NotInDoubt())


def message(
    *, parameters: MailParameters | None = None, size: int = len(BODY), name: str = "M000000000001"
) -> QueuedMessage:
    reverse_path = parse_mailbox("alice@example.org")
    return QueuedMessage(
        MessageId(name), reverse_path, parameters or MailParameters(), Origin("SMTP"), 1_767_225_600.0, size
    )


def lease(
    recipients: Sequence[QueuedRecipient] = (),
    *,
    octets: Octets | None = None,
    parameters: MailParameters | None = None,
    next_hop: str = "hop",
    name: str = "M000000000001",
) -> Lease:
    body = octets or InMemory(BODY)
    sent = message(parameters=parameters, size=body.size, name=name)
    return Lease(sent, tuple(recipients) or (recipient(0),), NextHop(next_hop), body, "test", 1, 2e9)


class NoPolicies:
    """No domain has an MTA-STS policy."""

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy:
        return NoStsPolicy(f"{domain} announces none")


#: Nothing is published anywhere: each level is what the route's policy says by itself.
CHOOSER = TlsChooser(WrittenResolver({}, {}), NoPolicies(), SystemClock())


class FixedHosts:
    """A Finder that knows what it was told."""

    def __init__(self, answer: HostsAnswer) -> None:
        self.answer = answer

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer:
        return self.answer


SMTP = SmtpServers((Server("peer.example", 25),))
LMTP = LmtpServers((Server("peer.example", 24),))
ROUTE = Route(NextHop("hop"), SMTP, "test")


class World:
    """Hosts in memory, and what delivers to them. `attempt` is one attempt; the pool and the memory last."""

    def __init__(
        self,
        *peers: Peer | Fault,
        route: Route = ROUTE,
        handshake: Flushed | Fault = FLUSHED,
        pool_limits: PoolLimits | None = None,
        memory_ttl: timedelta = timedelta(hours=24),
    ) -> None:
        self.clock = VirtualClock()
        self.hosts = [Host(f"mx{number}.example", endpoint(number)) for number in range(len(peers))]
        self.dialer = MemoryDialer(
            {host.endpoint: peer for host, peer in zip(self.hosts, peers, strict=True)}, handshake
        )
        self.memory = HostMemory(self.clock, time_to_live=memory_ttl)
        ends = Ends(self.dialer, self.clock, "us.example", TimeOuts())
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.opener = Opener(ends, self.memory, TlsContexts(plain, plain))
        self.pool = Pool(self.clock, pool_limits)
        self.finder = FixedHosts(Hosts(tuple(self.hosts)))
        self.smtp = SmtpDelivery(self.finder, CHOOSER, self.opener, self.pool, self.clock)
        self.route = route
        self.transcript = Transcript(0.0)
        self.reach: Reach

    async def attempt(self, given: Lease | None = None) -> list[Outcome]:
        """The outcomes of one attempt, by recipient."""
        given = given or lease()
        fates = Fates(given.recipients)
        self.transcript = Transcript(self.clock.monotonic())
        transport = self.route.transport
        assert isinstance(transport, SmtpServers | SmtpMx | LmtpServers)
        self.reach = await self.smtp.deliver(given, self.route, transport, fates, self.transcript)
        return [outcome for _, outcome in fates.closed(deferred(LocalTrouble("no host was asked")))]

    async def close(self) -> None:
        await self.pool.close()
