"""When a route may deliver: hours by weekday in a time zone, and what opens it besides. Pure.

While it is shut, mail waits untried: no attempt is counted, and the time does not count for giving up. Not here: who
keeps to it (deliver/dispatch.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from waypost.net.clock import Instant

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"(?:(?P<days>[a-z,-]+) )?(?P<from>\d\d?:\d\d)-(?P<to>\d\d?:\d\d)")
_DAY: Final = 24 * 60
#: Days looked ahead: hours of a week come again within eight, and a year of open time within a few years.
_AHEAD: Final = 3660


@dataclass(frozen=True, slots=True)
class Hours:
    """Open from `begins` to `ends` (minutes after midnight) on `days` (0: Monday); past midnight, if `ends` is less."""

    days: frozenset[int]
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Always:
    """There is no window: mail goes at once."""


@dataclass(frozen=True, slots=True)
class Hourly:
    """A window.

    `waited` and `messages`: it opens too once mail has waited for so long, or so many messages wait; 0: never. `text`
    is how it was written, `place` where.
    """

    hours: tuple[Hours, ...]
    zone: ZoneInfo
    waited: timedelta = timedelta()
    messages: int = 0
    text: str = ""
    place: str = "default"

    def is_open(self, at: Instant) -> bool:
        """Whether `at` is within its hours."""
        return any(begins <= at < ends for begins, ends in self._open(at, days=2))

    def opens(self, at: Instant) -> Instant:
        """When it is open by its hours, from `at` on; `at` itself where only demand opens it."""
        return next((max(begins, at) for begins, ends in self._open(at) if ends > at), at)

    def after(self, start: Instant, open_time: timedelta) -> Instant:
        """When so much time within its hours has passed since `start`; without hours all time counts."""
        left, at = open_time.total_seconds(), start
        for begins, ends in self._open(start):
            counted = max(0.0, ends - max(begins, at))
            if counted >= left:
                return max(begins, at) + left
            left, at = left - counted, max(at, ends)
        return at + left

    def _open(self, at: Instant, days: int = _AHEAD) -> Iterator[tuple[Instant, Instant]]:
        """Its hours from the day before `at` on, in order; what touches is one."""
        if not self.hours:
            return
        first = datetime.fromtimestamp(at, self.zone).date() - timedelta(days=1)
        begins, ends = 0.0, 0.0
        for number in range(days):
            for next_begins, next_ends in sorted(self._on(first + timedelta(days=number))):
                if next_begins > ends:
                    if ends:
                        yield begins, ends
                    begins = next_begins
                ends = max(ends, next_ends)
        yield begins, ends

    def _on(self, day: date) -> Iterator[tuple[Instant, Instant]]:
        """The hours that begin on a day."""
        for hours in self.hours:
            if day.weekday() in hours.days:
                ends = hours.ends if hours.ends > hours.begins else hours.ends + _DAY
                yield self._at(day, hours.begins), self._at(day, ends)

    def _at(self, day: date, minutes: int) -> Instant:
        day += timedelta(days=minutes // _DAY)
        minutes %= _DAY
        return datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=self.zone).timestamp()


Window: TypeAlias = Always | Hourly
ALWAYS: Final = Always()


def parse_hours(text: str) -> Hours:
    """`mon-fri 08:00-18:00`, `sat,sun 22:00-06:00` or `00:00-24:00`, every day. Raises: ValueError, with a sentence."""
    found = _HOURS.fullmatch(text.lower())
    if found is None:
        raise ValueError(f'{text!r} are no hours; write "mon-fri 08:00-18:00", "sat,sun 22:00-06:00" or "20:00-24:00"')
    begins, ends = _minutes(found["from"]), _minutes(found["to"])
    if begins == ends or begins >= _DAY:
        raise ValueError(f"{text!r} last no time; write from when to when, such as 08:00-18:00, or 00:00-24:00")
    return Hours(_days(found["days"] or "mon-sun"), begins, ends)


def _minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > _DAY:
        raise ValueError(f"{text!r} is no time of day; write from 00:00 to 24:00")
    return minutes


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} is no day; write mon, tue, wed, thu, fri, sat, sun, or two with a hyphen")
        begins, ends = DAYS.index(first), DAYS.index(last or first)
        days.update(day % 7 for day in range(begins, ends + 1 if ends >= begins else ends + 8))
    return frozenset(days)


def parse_zone(text: str) -> ZoneInfo:
    """A time zone by its name. Raises: ValueError, with a sentence."""
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f'{text!r} is no time zone; write one such as "Europe/Berlin" or "UTC"') from error


def waits_for(window: Hourly, now: Instant) -> str:
    """Why mail waits that it holds up, and until when: a sentence."""
    ways = []
    if window.hours:
        at = datetime.fromtimestamp(window.opens(now), UTC).strftime("%Y-%m-%d %H:%M UTC")
        ways.append(f"opens {at}")
    if window.waited:
        ways.append(f"opens when mail has waited {window.waited.total_seconds() / 60:g} minutes")
    if window.messages:
        ways.append(f"opens when {window.messages} messages wait")
    return f"waits for its delivery window, {window.text or 'on demand'} ({window.place}): {', or '.join(ways)}"
