"""Looking over a peer's shoulder: whose dialogues are logged for a while.

Not here: how that is kept (queue/watching.py), and who listens (receive/overheard.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Final

from waypost.admin.answers import FailureKind, OperationError, WatchBody, WatchedPeers
from waypost.admin.operations.questions import storage_trouble
from waypost.admin.operations.told import Told
from waypost.queue.watching import Watching

#: The longest that a peer is watched.
MINUTES: Final = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class Watch:
    """Changes who is watched, and tells who listens."""

    watching: Watching
    told: Told

    async def all(self) -> WatchedPeers:
        """Who is watched now."""
        with storage_trouble():
            return WatchedPeers(tuple((await self.watching.all()).values()))

    async def change(self, body: WatchBody) -> WatchedPeers:
        """Watch one more, or one no more."""
        peer = _peer(body)
        with storage_trouble():
            if body.on:
                await self.watching.begin(peer, by=body.by, lasting=timedelta(minutes=body.minutes))
            elif not await self.watching.end(peer):
                raise OperationError(FailureKind.NOT_FOUND, f"{peer} is not watched", "see who is: waypost debug")
        now = await self.all()
        self.told.rewatched([one.peer for one in now.watched])
        return now


def _peer(body: WatchBody) -> str:
    """Whom the body names. Raises: OperationError, where it is nobody who could be watched for so long."""
    peer = body.peer.strip()
    if not peer or len(body.peer) > 300 or not 1 <= body.minutes <= MINUTES:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            "a peer is watched by name or address, for 1 minute to 7 days",
            "name a next hop as `queue destinations` shows it, a host, an address, a network, or a listener",
        )
    if "/" in peer and "://" not in peer:
        _see_that_it_is_a_network(peer)
    return peer


def _see_that_it_is_a_network(peer: str) -> None:
    try:
        ip_network(peer, strict=False)
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST, f"{peer!r} is no network: {error}", "write it as 192.0.2.0/24 or 2001:db8::/48"
        ) from None
