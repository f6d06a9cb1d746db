"""One attempt by a route that has quotas or a fallback: whether its next hop may have the message now, and else who.

A spent quota spills to the fallback at once, or the mail waits until there is room again. A next hop that did not take
a message, often enough or long enough, loses it to the fallback; where that does not take it either, the first is asked
again. Not here: counting (quotas.py), carrying (runner.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.deliver import local
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.quotas import Counted, Quotas, Spent
from waypost.deliver.smtp import Elsewhere, Reach, Unreachable
from waypost.mail.attempt import Transcript
from waypost.mail.outcome import Deferred, LocalTrouble, PolicyRefused
from waypost.net.clock import Clock
from waypost.queue.storage import Lease, StorageError
from waypost.route.onward import QUOTA_SPENT, STAY
from waypost.route.route import NoRoute, Route

#: Fallbacks of fallbacks; the configuration is checked for circles.
DEEPEST: Final = 5

Carry: TypeAlias = Callable[[Lease, Route, Fates, Transcript], Awaitable[Reach]]


class Named(Protocol):
    """Where a fallback's route is found (waypost.route.table.RouteTable)."""

    def named(self, name: str) -> Route | NoRoute: ...


class Relays:
    """Chooses, for routes that have a choice."""

    def __init__(self, routes: Named, quotas: Quotas, clock: Clock) -> None:
        self._routes = routes
        self._quotas = quotas
        self._clock = clock

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
        await self._by_fallback(lease, route, fates, transcript, carry, 0, "its next hop rests")
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
            case Spent(quota, until):
                why = f"the quota of {onward.credential or route.name}, {quota}, is spent"
                if onward.fallback and depth < DEEPEST:
                    await self._by_fallback(lease, route, fates, transcript, carry, depth, why)
                    return Elsewhere()
                transcript.add(self._clock.monotonic(), "*", why)
                local.record_all(fates, Deferred(PolicyRefused(why, QUOTA_SPENT), QUOTA_SPENT, until))
                return Elsewhere()
            case _:
                assert_never(count)

    async def _give_back(self, route: Route, recipients: int) -> None:
        try:
            await self._quotas.give_back(route.onward.quotas, route.onward.credential, recipients=recipients)
        except (StorageError, ValueError):
            return  # what was not sent stays counted: too little is sent then, never too much

    async def _by_fallback(
        self, lease: Lease, route: Route, fates: Fates, transcript: Transcript, carry: Carry, depth: int, why: str
    ) -> None:
        found = self._routes.named(route.onward.fallback)
        match found:
            case Route():
                transcript.add(self._clock.monotonic(), "*", f"{why}: by the fallback, {found.name}")
                if found.onward is STAY:
                    await carry(lease, found, fates, transcript)
                else:
                    await self.deliver(lease, found, fates, transcript, carry, depth=depth + 1)
            case NoRoute(detail):  # the configuration was checked for it
                transcript.add(self._clock.monotonic(), "*", f"{why}, and there is no fallback: {detail}")
            case _:
                assert_never(found)
