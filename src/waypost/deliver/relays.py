"""One attempt by a route that has quotas or a fallback: whether its next hop may have the message now, and else who.

A spent quota spills to the fallback at once, or all mail of the route waits, untried, until there is room again. A next
hop that did not take a message, often enough or long enough, loses it to the fallback; where that does not take it
either, the first is asked again. At a fallback a message is a guest: what its route says of concurrency and rate holds
for guests, too. Not here: counting (quotas.py), carrying (runner.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.deliver import local
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.quotas import Counted, Quotas, Spent
from waypost.deliver.smtp import Elsewhere, Exhausted, Reach, Unreachable
from waypost.mail.attempt import Transcript
from waypost.mail.explain import describe_cause
from waypost.mail.outcome import Deferred, LocalTrouble, PolicyRefused
from waypost.net.clock import Clock
from waypost.queue.storage import Lease, StorageError
from waypost.route.onward import QUOTA_SPENT, STAY, counted_for
from waypost.route.route import NoRoute, Route

#: Fallbacks of fallbacks; the configuration is checked for circles.
DEEPEST: Final = 5

Attempting: TypeAlias = Callable[[], Awaitable[Reach | Elsewhere]]
Carry: TypeAlias = Callable[[Lease, Route, Fates, Transcript], Awaitable[Reach]]


class Named(Protocol):
    """Where a fallback's route is found (waypost.route.table.RouteTable)."""

    def named(self, name: str) -> Route | NoRoute: ...


class Houses(Protocol):
    """Who knows what runs at each next hop (waypost.deliver.dispatch.Dispatcher)."""

    async def host(self, route: Route, attempt: Attempting) -> Reach | Elsewhere:
        """Make an attempt at another's next hop, within what may run there at once.

        `Elsewhere`: it rests, or is held, and the attempt was not made.
        """
        ...


class OpenHouses:
    """Whoever comes may try."""

    async def host(self, route: Route, attempt: Attempting) -> Reach | Elsewhere:  # noqa: ARG002 - see the class
        return await attempt()


OPEN_HOUSES: Final = OpenHouses()


class Relays:
    """Chooses, for routes that have a choice."""

    def __init__(self, routes: Named, quotas: Quotas, clock: Clock, houses: Houses = OPEN_HOUSES) -> None:
        self._routes = routes
        self._quotas = quotas
        self._clock = clock
        #: Where fallbacks are guests.
        self.houses = houses

    def may_go_round(self, lease: Lease, route: Route) -> bool:
        """Whether the fallback is due for this message, though the next hop itself rests."""
        onward = route.onward
        if not onward.fallback:
            return False
        waited = self._clock.now() - lease.message.began_at
        tried = max(recipient.attempts for recipient in lease.recipients)
        return tried >= onward.attempts or (bool(onward.after) and waited >= onward.after.total_seconds())

    async def deliver(
        self, lease: Lease, route: Route, fates: Fates, transcript: Transcript, carry: Carry, *, depth: int = 0
    ) -> Reach | Elsewhere:
        """One attempt."""
        if self.may_go_round(lease, route) and depth < DEEPEST:
            await self._by_fallback(lease, route, fates, transcript, carry, depth, "it has waited long enough")
            if not fates.has_open:
                return Elsewhere()
        if not route.onward.quotas:
            return await carry(lease, route, fates, transcript)
        return await self._within_quotas(lease, route, fates, transcript, carry, depth)

    async def go_round(
        self, lease: Lease, route: Route, fates: Fates, transcript: Transcript, carry: Carry
    ) -> Reach | Elsewhere:
        """An attempt by the fallback alone: the next hop rests."""
        reach = await self._by_fallback(lease, route, fates, transcript, carry, 0, "its next hop rests")
        if isinstance(reach, Exhausted):
            local.record_all(fates, Deferred(reach.cause, QUOTA_SPENT, reach.until))
        return Elsewhere()

    async def _within_quotas(
        self, lease: Lease, route: Route, fates: Fates, transcript: Transcript, carry: Carry, depth: int
    ) -> Reach | Elsewhere:
        onward, recipients = route.onward, len(fates.open())
        try:
            count = await self._quotas.count(onward.quotas, onward.credential, recipients=recipients)
        except (StorageError, ValueError) as error:
            local.record_all(fates, deferred(LocalTrouble(f"its quota cannot be counted: {error}")))
            return Elsewhere()
        match count:
            case Counted():
                reach = await carry(lease, route, fates, transcript)
                if isinstance(reach, Unreachable):
                    await self._give_back(route, recipients)
                return reach
            case Spent():
                return await self._spent(lease, route, fates, transcript, carry, depth, count)
            case _:
                assert_never(count)

    async def _spent(
        self,
        lease: Lease,
        route: Route,
        fates: Fates,
        transcript: Transcript,
        carry: Carry,
        depth: int,
        spent: Spent,
    ) -> Reach | Elsewhere:
        """Spill, or wait: all mail of the route where there is no room for any, else this message alone."""
        why = f"the quota of {counted_for(route.onward, route.name)}, {spent.quota}, is spent"
        any_at, until = spent.any_at, spent.until
        if route.onward.fallback and depth < DEEPEST:
            reach = await self._by_fallback(lease, route, fates, transcript, carry, depth, why)
            if not isinstance(reach, Exhausted) or not fates.is_blank:
                return Elsewhere()
            why = f"{why}, and so is its fallback: {describe_cause(reach.cause)}"
            any_at, until = min(any_at, reach.until), min(until, reach.until)
        cause = PolicyRefused(why, QUOTA_SPENT)
        if any_at > self._clock.now() and fates.is_blank:
            return Exhausted(cause, any_at)
        transcript.add(self._clock.monotonic(), "*", why)
        local.record_all(fates, Deferred(cause, QUOTA_SPENT, until))
        return Elsewhere()

    async def _give_back(self, route: Route, recipients: int) -> None:
        try:
            await self._quotas.give_back(route.onward.quotas, route.onward.credential, recipients=recipients)
        except (StorageError, ValueError):
            return  # what was not sent stays counted: too little is sent then, never too much

    async def _by_fallback(
        self, lease: Lease, route: Route, fates: Fates, transcript: Transcript, carry: Carry, depth: int, why: str
    ) -> Reach | Elsewhere:
        found = self._routes.named(route.onward.fallback)
        match found:
            case Route():
                transcript.add(self._clock.monotonic(), "*", f"{why}: by the fallback, {found.name}")
                if found.onward is STAY:
                    return await self.houses.host(found, lambda: carry(lease, found, fates, transcript))
                further = partial(self.deliver, lease, found, fates, transcript, carry, depth=depth + 1)
                return await self.houses.host(found, further)
            case NoRoute(detail):  # the configuration was checked for it
                transcript.add(self._clock.monotonic(), "*", f"{why}, and there is no fallback: {detail}")
                return Elsewhere()
            case _:
                assert_never(found)
