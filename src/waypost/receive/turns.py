"""ETRN (RFC 1985) and ATRN (RFC 2645): a host that is not always connected asks for what waits for it.

By ETRN nothing is sent over the client's own connection: what waits is tried at the next hop its route names, so that
nobody gains anything by a false name. By ATRN it is: only an account may ask, and only for the mail of the routes that
name it (`to = "atrn:ACCOUNT"`). Not here: who has authenticated (session.py), and how it is sent (deliver/calls.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from waypost.mail.envelope import NextHop
from waypost.net.clock import Clock
from waypost.net.stream import Stream
from waypost.queue.storage import Selection, Storage
from waypost.route.route import NoRoute
from waypost.route.state import BeingCalledFor
from waypost.smtp.reply import Reply

NODE_NOT_ALLOWED: Final = Reply.of(459, "4.7.1", "you may not have mail tried; ask from a network that may relay here")
#: ATRN, RFC 2645 §5.2.
REFUSED: Final = Reply.of(450, "4.7.1", "ATRN request refused: no mail is kept here for you")
NO_MAIL: Final = Reply.of(453, "4.0.0", "you have no mail")
BUSY: Final = Reply.of(451, "4.3.2", "your mail is just being sent to another call of yours")
NOT_HERE: Final = Reply.of(458, "4.3.0", "nobody here tries mail")


class Turns(Protocol):
    """Who has mail tried."""

    async def start(self, name: str) -> Reply:
        """Have what waits for `name` tried now: a domain, `@domain` (all below it too), or `#next-hop`.

        Raises: StorageError.
        """
        ...

    async def call(self, account: str, domains: tuple[str, ...]) -> Call | Reply:
        """The mail that waits for a call of this account, of these domains (none: of all); or why it gets none.

        Raises: StorageError.
        """
        ...


class Call(Protocol):
    """A caller's mail, ready to be sent to him."""

    async def over(self, stream: Stream) -> str:
        """Send it over his own connection, as its client, and close that; how it ended, in words for the log."""
        ...


class NoCall:
    """Nobody has called."""

    async def over(self, stream: Stream) -> str:
        stream.abort()
        return "nobody has called"


NO_CALL: Final = NoCall()


class NoTurns:
    """Nobody."""

    async def start(self, name: str) -> Reply:  # noqa: ARG002 - nobody cares
        return NOT_HERE

    async def call(self, account: str, domains: tuple[str, ...]) -> Call | Reply:  # noqa: ARG002 - as above
        return REFUSED


NO_TURNS: Final = NoTurns()


class Calls(Protocol):
    """Who keeps mail for calls (waypost.deliver.calls.Calls)."""

    def next_hop_of(self, account: str) -> NextHop | NoRoute:
        """Where mail waits that is kept for a call of this account."""
        ...

    async def called(self, next_hop: NextHop) -> None:
        """The host at that next hop has asked for its mail: for a while, it may be sent there."""
        ...

    async def take(self, next_hop: NextHop, domains: tuple[str, ...]) -> Call | BeingCalledFor:
        """The mail that waits at that next hop for these domains, for one caller at a time."""
        ...


class NoCalls:
    """No mail is kept for anybody's call."""

    def next_hop_of(self, account: str) -> NextHop | NoRoute:  # noqa: ARG002 - whoever it is
        return NoRoute("no mail is kept for anybody")

    async def called(self, next_hop: NextHop) -> None:
        pass

    async def take(self, next_hop: NextHop, domains: tuple[str, ...]) -> Call | BeingCalledFor:  # noqa: ARG002 - as above
        return BeingCalledFor()


NO_CALLS: Final = NoCalls()


@dataclass(frozen=True, slots=True)
class QueueTurns:
    """Turns at a queue. `changed` is told the next hops whose mail is due now."""

    storage: Storage
    clock: Clock
    changed: Callable[[Collection[NextHop]], None]
    calls: Calls = NO_CALLS

    async def start(self, name: str) -> Reply:
        waiting = [(hop, domain) for hop, domain in await self.storage.hops() if _is_meant(name, hop, domain)]
        if not waiting:
            return Reply.of(251, "2.0.0", f"no messages waiting for node {name}")
        for hop in {hop for hop, _ in waiting}:
            await self.calls.called(hop)
        now = self.clock.now()
        tried = sum(
            [await self.storage.retry(Selection(domain=domain, next_hop=hop), now=now) for hop, domain in waiting]
        )
        self.changed({hop for hop, _ in waiting})
        return Reply.of(253, "2.0.0", f"{tried} pending messages for node {name} started")

    async def call(self, account: str, domains: tuple[str, ...]) -> Call | Reply:
        hop = self.calls.next_hop_of(account)
        if isinstance(hop, NoRoute):
            return REFUSED
        waiting = {domain for next_hop, domain in await self.storage.hops() if next_hop == hop}
        wanted = {domain for domain in waiting if not domains or _is_within(domain, domains)}
        if not wanted:
            return NO_MAIL
        taken = await self.calls.take(hop, tuple(sorted(wanted)))
        return BUSY if isinstance(taken, BeingCalledFor) else taken


def _is_within(domain: str, wanted: tuple[str, ...]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in wanted)


def _is_meant(name: str, next_hop: NextHop, domain: str) -> bool:
    kind, rest = name[0], name[1:].lower()
    if kind == "#":
        return next_hop.lower() == rest
    if kind == "@":
        return domain == rest or domain.endswith(f".{rest}")
    return domain == name.lower()
