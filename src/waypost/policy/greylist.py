"""Greylisting: a stranger's first message from an author to a recipient is put off, for who means well tries again.

A triplet is the client's network (IPv4 /24, IPv6 /64), the reverse-path and the recipient. It is put off until `delay`
has passed, and taken when it comes again within `window`; from then on it is known, and so, after some such triplets,
is the whole network. All of it is on the shelf: it outlasts a restart, and all processes see it alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Final, TypeAlias

from waypost.net.clock import Instant
from waypost.policy.access import client_address
from waypost.queue.shelf import Absent, Shelf
from waypost.smtp.path import ForwardPath, ReversePath

#: Whose these are on the shelf.
TRIPLETS: Final = "greylist"
NETWORKS: Final = "greylist-networks"
_PASSED: Final = b"passed"
#: What differs from message to message in the reverse-paths of lists and of tagged senders (VERP, BATV, SRS).
_VARIES: Final = re.compile(r"[0-9]+|[+=-][^@]*(?=@)")
_REFRESHED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Terms:
    """`keep`: how long a triplet, or a network, stays known after it was last heard of. `networks_after`: 0: never."""

    delay: timedelta = timedelta(minutes=5)
    window: timedelta = timedelta(days=1)
    keep: timedelta = timedelta(days=35)
    networks_after: int = 5


@dataclass(frozen=True, slots=True)
class Known:
    """It may pass; `why` is a clause."""

    why: str


@dataclass(frozen=True, slots=True)
class PutOff:
    """It may pass from `until` on."""

    until: Instant


Greyness: TypeAlias = Known | PutOff


def network_of(host: str) -> str:
    """The network that a client's triplets are of."""
    address = client_address(host)
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


class Greylist:
    """Judges triplets."""

    def __init__(self, terms: Terms, shelf: Shelf) -> None:
        self.terms = terms
        self._shelf = shelf

    async def judge(self, host: str, reverse: ReversePath, forward: ForwardPath, now: Instant) -> Greyness:
        """Whether this one may pass now; it is remembered. Raises: StorageError."""
        found = await self.look(host, reverse, forward, now)
        network, key, terms = network_of(host), _key(host, reverse, forward), self.terms
        match found:
            case PutOff(until):
                until_known = until - terms.delay.total_seconds() + terms.window.total_seconds()
                first = b"%d" % (until - terms.delay.total_seconds())
                await self._shelf.keep_new(TRIPLETS, key, first, until=until_known, now=now)
            case Known():
                before = await self._shelf.kept(TRIPLETS, key, now=now)
                if not isinstance(before, Absent) and not before.startswith(_PASSED):
                    await self._shelf.add(NETWORKS, network, 1, until=now + terms.keep.total_seconds(), now=now)
                await self._remember(key, before, now)
        return found

    async def look(self, host: str, reverse: ReversePath, forward: ForwardPath, now: Instant) -> Greyness:
        """The same, and nothing is remembered: for who asks. Raises: StorageError."""
        terms = self.terms
        if terms.networks_after:
            passed = await self._shelf.kept(NETWORKS, network_of(host), now=now)
            if not isinstance(passed, Absent) and int(passed) >= terms.networks_after:
                return Known(f"{network_of(host)} has come back {int(passed)} times")
        before = await self._shelf.kept(TRIPLETS, _key(host, reverse, forward), now=now)
        if isinstance(before, Absent):
            return PutOff(now + terms.delay.total_seconds())
        if before.startswith(_PASSED):
            return Known("it has come back before")
        until = float(before) + terms.delay.total_seconds()
        return Known("it has come back") if now >= until else PutOff(until)

    async def _remember(self, key: str, before: bytes | Absent, now: Instant) -> None:
        """That it is known; not anew for each message, as that is a write each."""
        if isinstance(before, Absent):
            return
        since = before.removeprefix(_PASSED)
        if before.startswith(_PASSED) and now - float(since) < _REFRESHED.total_seconds():
            return
        until = now + self.terms.keep.total_seconds()
        await self._shelf.keep(TRIPLETS, key, _PASSED + b"%d" % now, until=until)


def _key(host: str, reverse: ReversePath, forward: ForwardPath) -> str:
    steady = _VARIES.sub("#", str(reverse).lower())
    return f"{network_of(host)} <{steady}> <{str(forward).lower()}>"
