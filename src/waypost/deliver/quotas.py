"""Counting against quotas, on the shelf: it outlasts the process, and all processes and nodes of a queue share it.

A period is looked at as it slides: what was used in the one before counts by the part of it that is still within the
last so many hours. So a day's quota is not spent twice around midnight, and no list of times is kept.

Not here: which quotas a route has (route/onward.py), and what is done when one is spent (relays.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from waypost.mail.trace import date
from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import Absent, Shelf
from waypost.route.onward import Quota

SPACE: Final = "quota"


@dataclass(frozen=True, slots=True)
class Spent:
    """The quota has no room for this message; at `until` it has, if nothing else is sent meanwhile.

    `any_at`: when there is room for any message at all; not in the future where this one is merely too large.
    """

    quota: Quota
    until: Instant
    any_at: Instant


@dataclass(frozen=True, slots=True)
class Counted:
    """There was room in all of them."""


COUNTED: Final = Counted()
Count: TypeAlias = Counted | Spent


@dataclass(frozen=True, slots=True)
class Window:
    """One quota at one moment: `used` in the period that runs since `start`, `before` in the one before it."""

    quota: Quota
    start: Instant
    used: int
    before: int

    def fits(self, now: Instant) -> bool:
        """Whether what is used, `used` included, keeps to the quota."""
        return self.used + self.before * self._rest(now) <= self.quota.amount

    def is_full(self, now: Instant) -> bool:
        """Whether there is no room for one more."""
        return self.used + 1 + self.before * self._rest(now) > self.quota.amount

    def words(self, now: Instant) -> str:
        """How much is used, and, where there is no room for one more, until when."""
        used = self.used + round(self.before * self._rest(now))
        waits = "" if used < self.quota.amount else f", and mail waits until {date(int(self.until(1)))}"
        return f"{used} of {self.quota} are used{waits}"

    def until(self, wanted: int) -> Instant:
        """When `wanted` more fit, at the earliest."""
        seconds = self.quota.period.total_seconds()
        room = self.quota.amount - self.used - wanted
        if room >= 0:
            return self.start + seconds * (1 - room / self.before) if self.before > room else self.start
        later = (self.quota.amount - wanted) / self.used  # the part of what is used now that may still count then
        return self.start + seconds + seconds * max(0.0, 1 - later)

    def _rest(self, now: Instant) -> float:
        """The part of the period before that is still within one period from now."""
        return max(0.0, 1 - (now - self.start) / self.quota.period.total_seconds())


class Quotas:
    """Counts. All methods raise StorageError."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def count(self, quotas: Sequence[Quota], credential: str, *, recipients: int) -> Count:
        """Count one message to so many recipients, if all quotas have room for it; else nothing is counted."""
        counted: list[Quota] = []
        for quota in quotas:
            spent = await self._add(quota, credential, _amount(quota, recipients))
            if isinstance(spent, Spent):
                await self.give_back(counted, credential, recipients=recipients)
                return spent
            counted.append(quota)
        return COUNTED

    async def give_back(self, quotas: Sequence[Quota], credential: str, *, recipients: int) -> None:
        """Nothing of what was counted just now was sent."""
        now = self._clock.now()
        for quota in quotas:
            key, end = _key(quota, credential, now), _end(quota, now)
            await self._shelf.add(SPACE, key, -_amount(quota, recipients), until=end, now=now)

    async def windows(self, quotas: Sequence[Quota], credential: str) -> Sequence[Window]:
        """How each stands."""
        now = self._clock.now()
        return [await self._window(quota, credential, now) for quota in quotas]

    async def used(self, quotas: Sequence[Quota], credential: str) -> Sequence[str]:
        """How each stands, as a person is told."""
        now = self._clock.now()
        return [window.words(now) for window in await self.windows(quotas, credential)]

    async def _add(self, quota: Quota, credential: str, amount: int) -> Count:
        now = self._clock.now()
        key, end = _key(quota, credential, now), _end(quota, now)
        await self._shelf.add(SPACE, key, amount, until=end, now=now)
        window = await self._window(quota, credential, now)
        if window.fits(now):
            return COUNTED
        await self._shelf.add(SPACE, key, -amount, until=end, now=now)
        without = Window(quota, window.start, window.used - amount, window.before)
        return Spent(quota, max(now + 1, without.until(amount)), without.until(1) if without.is_full(now) else now)

    async def _window(self, quota: Quota, credential: str, now: Instant) -> Window:
        seconds = quota.period.total_seconds()
        used = await self._shelf.kept(SPACE, _key(quota, credential, now), now=now)
        before = await self._shelf.kept(SPACE, _key(quota, credential, now - seconds), now=now)
        return Window(quota, now // seconds * seconds, _number(used), _number(before))


def _amount(quota: Quota, recipients: int) -> int:
    """What a message counts; one larger than the whole quota fills it, for it could never go otherwise."""
    return 1 if quota.counts == "messages" else min(recipients, quota.amount)


def _key(quota: Quota, credential: str, now: Instant) -> str:
    seconds = int(quota.period.total_seconds())
    return f"{credential} {quota.counts} {seconds} {int(now // seconds)}"


def _end(quota: Quota, now: Instant) -> Instant:
    """A period's count is asked for while the next one runs."""
    return now + 2 * quota.period.total_seconds() + 60


def _number(kept: bytes | Absent) -> int:
    return 0 if isinstance(kept, Absent) else int(kept)
