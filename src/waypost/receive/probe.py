"""Whether mail is taken at all: our own listeners, visited as a client does it, and a commit of the queue.

At each listener a connection, TLS where it begins with that, the greeting, EHLO, a transaction that is begun and given
up. Then octets go into the spool as those of a large message do, are committed, and thrown away. A refusal is as good
an answer as any: who may send is the policy's. What counts is silence, and trouble of ours (RFC 3463 §3.4: x.3.x).

Whoever asks often hears what was found last. Not here: what else readiness depends on (app).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from waypost.mail.talk import Talk, TalkError
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault, Stream
from waypost.net.tls import client_context
from waypost.policy.admission import RelayPolicy
from waypost.queue.storage import Storage, StorageError
from waypost.receive.settings import Door
from waypost.smtp.reply import Reply

#: How long what was found holds.
HOLDS: Final = timedelta(seconds=10)
#: What a step may take: a listener that is slower serves nobody.
WITHIN: Final = timedelta(seconds=5)
#: What all of it may take; who asks waits no longer.
ALTOGETHER: Final = timedelta(seconds=10)
#: More than any storage keeps in memory before it commits.
OCTETS: Final = bytes(256 * 1024 + 1)


@dataclass(slots=True)
class Probe:
    """Visits `doors`, each with the address that it has; `name`: what we call ourselves in EHLO."""

    doors: Callable[[], Sequence[tuple[Endpoint, Door]]]
    storage: Storage
    dialer: Dialer
    clock: Clock
    name: str
    _found: Sequence[str] = ()
    _due: float = float("-inf")
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reasons(self) -> Sequence[str]:
        """Why mail is not taken, a sentence each; none where it is."""
        async with self._one_at_a_time:
            if self.clock.monotonic() >= self._due:
                self._found = await self._look()
                self._due = self.clock.monotonic() + HOLDS.total_seconds()
            return self._found

    async def _look(self) -> Sequence[str]:
        try:
            async with asyncio.timeout(ALTOGETHER.total_seconds()):
                looks = [self._commit(), *(self._visit(endpoint, door) for endpoint, door in self.doors())]
                return [reason for reason in await asyncio.gather(*looks) if reason]
        except TimeoutError:
            return [f"taking mail as a client sees it was not through in {ALTOGETHER.total_seconds():g} s"]

    async def _commit(self) -> str:
        try:
            draft = await self.storage.draft()
            await draft.write(OCTETS)
            await draft.discard()
        except StorageError as error:
            return f"the spool takes nothing: {error}"
        return ""

    async def _visit(self, endpoint: Endpoint, door: Door) -> str:
        stream = await self._connected(_reachable(endpoint), door)
        if isinstance(stream, Fault):
            return f"the listener {endpoint} cannot be reached: {stream}"
        try:
            return await self._transaction(Talk(stream, WITHIN), endpoint, door)
        except TalkError as error:
            return f"the listener {endpoint} does not answer: {error}"
        finally:
            stream.abort()

    async def _connected(self, endpoint: Endpoint, door: Door) -> Stream | Fault:
        stream = await self.dialer.dial(endpoint, WITHIN)
        if isinstance(stream, Fault):
            return stream
        if RelayPolicy(door.proxies).trusts(endpoint.host):
            stream.write(b"PROXY UNKNOWN\r\n")  # nobody's connection but ours
            await stream.flush(WITHIN)
        if door.implicit_tls:  # whose certificate it is, its own warnings tell
            return await self.dialer.start_tls(stream, client_context(verified=False), self.name, WITHIN)
        return stream

    async def _transaction(self, talk: Talk, endpoint: Endpoint, door: Door) -> str:
        greeting = await talk.hear()
        if not greeting.is_positive:
            return _trouble(endpoint, "a client", greeting)
        for line in (f"{'LHLO' if door.smtp.lmtp else 'EHLO'} {self.name}", "MAIL FROM:<>", "RSET"):
            if trouble := _trouble(endpoint, line, await talk.say(line)):
                return trouble
        await talk.leave()
        return ""


@dataclass(frozen=True, slots=True)
class NoProbe:
    """Nobody looks: where listeners cannot be visited, as in a test without sockets."""

    async def reasons(self) -> Sequence[str]:
        return ()


def _reachable(endpoint: Endpoint) -> Endpoint:
    """Where a client of this machine finds it; "every address" is none to connect to."""
    address = ip_address(endpoint.host.partition("%")[0]) if not endpoint.host.startswith("/") else None
    if address is None or not address.is_unspecified:
        return endpoint
    return Endpoint("127.0.0.1" if address.version == 4 else "::1", endpoint.port)


def _trouble(endpoint: Endpoint, what: str, reply: Reply) -> str:
    """What the reply says of us, if it does: a refusal by policy is none of our trouble."""
    is_ours = reply.is_transient and reply.status.subject == 3
    return f"the listener {endpoint} answers {what} with {reply}" if is_ours else ""
