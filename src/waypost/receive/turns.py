"""ETRN (RFC 1985): a client asks that what waits for it be tried now; as a host does that is not always connected.

Nothing is sent over the client's own connection: what waits is tried as by an operator's `waypost queue retry`, at the
next hop its route names, so that nobody gains anything by a false name. Not here: who may ask (session.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from waypost.mail.envelope import NextHop
from waypost.net.clock import Clock
from waypost.queue.storage import Selection, Storage
from waypost.smtp.reply import Reply

NODE_NOT_ALLOWED: Final = Reply.of(459, "4.7.1", "you may not have mail tried; ask from a network that may relay here")
NOT_HERE: Final = Reply.of(458, "4.3.0", "nobody here tries mail")


class Turns(Protocol):
    """Who has mail tried."""

    async def start(self, name: str) -> Reply:
        """Have what waits for `name` tried now: a domain, `@domain` (all below it too), or `#next-hop`.

        Raises: StorageError.
        """
        ...


class NoTurns:
    """Nobody."""

    async def start(self, name: str) -> Reply:  # noqa: ARG002 - nobody cares
        return NOT_HERE


NO_TURNS: Final = NoTurns()


@dataclass(frozen=True, slots=True)
class QueueTurns:
    """Turns at a queue. `changed` is told the next hops whose mail is due now."""

    storage: Storage
    clock: Clock
    changed: Callable[[Collection[NextHop]], None]

    async def start(self, name: str) -> Reply:
        waiting = [(hop, domain) for hop, domain in await self.storage.hops() if _is_meant(name, hop, domain)]
        if not waiting:
            return Reply.of(251, "2.0.0", f"no messages waiting for node {name}")
        now = self.clock.now()
        tried = sum(
            [await self.storage.retry(Selection(domain=domain, next_hop=hop), now=now) for hop, domain in waiting]
        )
        self.changed({hop for hop, _ in waiting})
        return Reply.of(253, "2.0.0", f"{tried} pending messages for node {name} started")


def _is_meant(name: str, next_hop: NextHop, domain: str) -> bool:
    kind, rest = name[0], name[1:].lower()
    if kind == "#":
        return next_hop.lower() == rest
    if kind == "@":
        return domain == rest or domain.endswith(f".{rest}")
    return domain == name.lower()
