"""Mail that is kept until it is called for: by ETRN, or over the caller's own connection (ATRN, RFC 2645).

ATRN turns the connection round: the caller becomes the server, and we send him what waits, by the same code as any
mail goes out (smtp.py), only that there is one host, reached already. One call a next hop is answered at a time, in all
processes of a queue. Not here: who may call (receive/turns.py), and calling others (fetch.py).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.dispatch import ANSWERING
from waypost.deliver.dots import Dots
from waypost.deliver.journal import Journal, tell
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool, PoolLimits
from waypost.deliver.relays import Relays
from waypost.deliver.runner import Carriers, Runner, Tried
from waypost.deliver.settler import Settler
from waypost.deliver.smtp import Reached, SmtpDelivery
from waypost.mail.envelope import NextHop
from waypost.mail.outcome import Host
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault, FaultKind, Stream
from waypost.net.tls import TlsFacts
from waypost.policy.rewriting import Rewritings
from waypost.queue.record import domain_of
from waypost.queue.schedule import RetryPolicy
from waypost.queue.shelf import Absent
from waypost.queue.storage import CLAIM, Lease, Selection, Settlement, Storage, StorageError
from waypost.route.level import Choice, barred_for_good, fixed
from waypost.route.route import Hosts, LmtpServers, NoRoute, Route, Server, SmtpMx, SmtpServers, TlsPolicy
from waypost.route.state import BeingCalledFor
from waypost.route.table import RouteTable

#: The space on the shelf of next hops whose hosts have asked for their mail.
CALLED: Final = "calls heard"
#: How long after ETRN its mail is sent there without being asked for again: an attempt and a retry.
GOOD_FOR: Final = timedelta(minutes=10)
#: How long a call is taken to last unless it says more, so that one whose process dies bars the next for no longer.
ANSWER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Callers:
    """Which hosts have asked for their mail; kept on the shelf, so that all processes know."""

    storage: Storage
    clock: Clock

    async def called(self, next_hop: NextHop) -> None:
        """The host at that next hop asks for its mail. Raises: StorageError."""
        until = self.clock.now() + GOOD_FOR.total_seconds()
        await self.storage.keep(CALLED, next_hop, b"", until=until)

    async def has_called(self, next_hop: NextHop) -> bool:
        """Whether it has, lately. Raises: StorageError."""
        return not isinstance(await self.storage.kept(CALLED, next_hop, now=self.clock.now()), Absent)


@dataclass(frozen=True, slots=True)
class Means:
    """What mail over a caller's connection is sent with, as all other mail is."""

    dialer: Dialer
    hello_name: str
    time_outs: TimeOuts
    policy: RetryPolicy
    dice: random.Random
    journal: Journal
    dots: Dots
    carriers: Callable[[SmtpDelivery], Carriers]
    relays: Relays
    rewritings: Rewritings


class Answering:
    """One call that is being answered: what waits goes over the caller's own connection."""

    def __init__(
        self,
        storage: Storage,
        settler: Settler,
        clock: Clock,
        means: Means,
        next_hop: NextHop,
        domains: tuple[str, ...],
    ) -> None:
        self._storage = storage
        self._settler = settler
        self._clock = clock
        self._means = means
        self._next_hop = next_hop
        self._domains = frozenset(domains)
        self._messages = 0
        self._unwanted: list[Lease] = []

    async def over(self, stream: Stream) -> str:
        """Send what waits, until nothing does or the connection is of no more use; how it ended, for the log."""
        pool = Pool(self._clock, PoolLimits(idle=timedelta(minutes=1)))
        runner = _runner(stream, pool, self._clock, self._means)
        lasting = asyncio.create_task(self._last())
        try:
            ended = await self._send(runner, _route(stream, self._next_hop))
        except StorageError as error:
            ended = f"the queue could not be asked: {error}"
        finally:
            lasting.cancel()
            await asyncio.gather(lasting, return_exceptions=True)
            await pool.close()
            stream.abort()
            await self._end()
        return f"turned round (ATRN): {self._messages} messages tried; {ended}"

    async def _send(self, runner: Runner, route: Route) -> str:
        now = self._clock.now()
        for domain in self._domains:
            await self._storage.retry(Selection(domain=domain, next_hop=self._next_hop), now=now)
        while leases := await self._claimed():
            for lease in leases:
                if not any(domain_of(one.forward_path) in self._domains for one in lease.recipients):
                    self._unwanted.append(lease)
                elif not await self._try(runner, route, lease):
                    return "the connection is of no more use"
        return "nothing more waits"

    async def _last(self) -> None:
        """Say that the call is not over, for as long as it is not."""
        while True:
            await self._clock.sleep(ANSWER / 3)
            try:
                until = self._clock.now() + ANSWER.total_seconds()
                await self._storage.keep(ANSWERING, self._next_hop, b"", until=until)
            except StorageError as error:  # what is being sent is leased: at worst another call is answered beside it
                tell(self._means.journal.storage_failed, "answering a call", str(error))

    async def _claimed(self) -> Sequence[Lease]:
        """The next message that is due for the caller."""
        now = self._clock.now()
        until = now + CLAIM.total_seconds()
        return await self._storage.claim(self._next_hop, now=now, until=until, messages=1)

    async def _try(self, runner: Runner, route: Route, lease: Lease) -> bool:
        """One message; whether the next may follow it."""
        tried = await runner.run(lease, route, self._settler.known(lease))
        if not isinstance(tried, Tried):
            self._unwanted.append(lease)
            return False
        self._messages += 1
        if await self._settler.settle(Settlement(lease, tried.attempt, tried.settled)):
            tell(self._means.journal.attempted, tried.attempt, tried.settled)
        return isinstance(tried.reach, Reached)

    async def _end(self) -> None:
        try:
            await self._storage.release(self._unwanted)
            await self._storage.drop(ANSWERING, self._next_hop)
        except StorageError as error:  # both end of themselves
            tell(self._means.journal.storage_failed, "ending a call", str(error))


@dataclass(frozen=True, slots=True)
class Calls:
    """Takes calls."""

    storage: Storage
    table: RouteTable
    settler: Settler
    callers: Callers
    clock: Clock
    means: Means

    def next_hop_of(self, account: str) -> NextHop | NoRoute:
        """Where mail waits that is kept for a call of this account."""
        return self.table.kept_for(account)

    async def called(self, next_hop: NextHop) -> None:
        """A host has said ETRN. Raises: StorageError."""
        await self.callers.called(next_hop)

    async def take(self, next_hop: NextHop, domains: tuple[str, ...]) -> Answering | BeingCalledFor:
        """The call, unless another for the same mail is being answered. Raises: StorageError."""
        now = self.clock.now()
        until = now + ANSWER.total_seconds()
        if not await self.storage.keep_new(ANSWERING, next_hop, b"", until=until, now=now):
            return BeingCalledFor()
        return Answering(self.storage, self.settler, self.clock, self.means, next_hop, domains)


# ---- one host, reached already
@dataclass(frozen=True, slots=True)
class _OneHost:
    """Finder and chooser of the host that has called."""

    host: Host
    policy: TlsPolicy

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> Hosts:  # noqa: ARG002 - there is one
        return Hosts((self.host,))

    async def choose(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice:  # noqa: ARG002
        return fixed(self.policy, "")

    async def choose_tagged(self, policy: TlsPolicy, transport: SmtpServers | SmtpMx, host: Host) -> Choice:  # noqa: ARG002
        """Barred: a caller proves himself by a password, and REQUIRETLS asks for a server's certificate."""
        return barred_for_good("the message asks for REQUIRETLS, and who calls for mail shows no certificate")


class _Reached:
    """A dialer that has one connection to give."""

    def __init__(self, stream: Stream, dialer: Dialer) -> None:
        self._streams = [stream]
        self._dialer = dialer

    async def dial(
        self,
        endpoint: Endpoint,  # noqa: ARG002 - there is one
        within: timedelta,  # noqa: ARG002
        source: str = "",  # noqa: ARG002
    ) -> Stream | Fault:
        if not self._streams:
            return Fault(FaultKind.CLOSED, "the caller's connection has ended, and he is not called back")
        return self._streams.pop()

    async def start_tls(
        self, stream: Stream, context: ssl.SSLContext, server_name: str, within: timedelta
    ) -> Stream | Fault:
        return await self._dialer.start_tls(stream, context, server_name, within)


def _route(stream: Stream, next_hop: NextHop) -> Route:
    server = Server(stream.peer.host, stream.peer.port)
    return Route(next_hop, SmtpServers((server,)), "the caller's own connection (ATRN)", tls=_tls_of(stream))


def _tls_of(stream: Stream) -> TlsPolicy:
    """Under the caller's TLS there is no other."""
    return TlsPolicy.NONE if isinstance(stream.tls, TlsFacts) else TlsPolicy.OPPORTUNISTIC


def _runner(stream: Stream, pool: Pool, clock: Clock, means: Means) -> Runner:
    host = _OneHost(Host("caller", stream.peer), _tls_of(stream))
    ends = Ends(_Reached(stream, means.dialer), clock, means.hello_name, means.time_outs)
    opener = Opener(ends, HostMemory(clock), TlsContexts.system())
    return Runner(
        means.carriers(SmtpDelivery(host, host, opener, pool, clock, dots=means.dots)),
        means.relays,
        means.rewritings,
        policy=means.policy.until_called(),
        clock=clock,
        dice=means.dice,
        journal=means.journal,
    )
