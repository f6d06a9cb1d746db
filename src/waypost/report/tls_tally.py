"""Counts how TLS went, by day and by the policy of the domain, and keeps the counts until they were reported.

Counting costs a delivery two look-ups in memory. The counts are written down once a minute and at the end, in a file a
day: what a crash loses is the counts of its last minute. Not here: sending reports (tls_reporter.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from waypost.mail.tls_report import Failure, Sessions
from waypost.mail.tls_result import Published, TlsResult, TlsTrouble
from waypost.net.clock import Clock

#: How often what was counted is written down.
WRITE: Final = timedelta(minutes=1)
#: Policies counted a day, and kinds of failure of each; beyond, failures are counted without their details.
MAX_POLICIES: Final = 10_000
MAX_FAILURES: Final = 50
#: Characters of a failure's words that are kept.
WORDS: Final = 200

Day: TypeAlias = Mapping[Published, Sessions]


@dataclass(frozen=True, slots=True)
class _Counted:
    """How a failure stands in a file."""

    failure: Failure
    count: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """How a policy's sessions stand in a file."""

    published: Published
    successes: int
    failures: tuple[_Counted, ...]


class TlsTally:
    """The counts of each day that was not reported yet. See `TlsListener` in deliver/smtp.py."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """`directory` is made when there is something to keep in it."""
        self._directory = directory
        self._clock = clock
        self._days: dict[date, dict[Published, Sessions]] = {}
        self._unwritten: set[date] = set()

    # ---- counting
    def count(self, result: TlsResult) -> None:
        """One session, or the lack of one."""
        day = self.today()
        sessions = self._sessions(day, result.published)
        if sessions is _UNCOUNTED:
            return
        self._unwritten.add(day)
        if result.trouble is TlsTrouble.NONE:
            sessions.successes += 1
            return
        failure = Failure(
            result.trouble, result.local, result.host.name, result.host.endpoint.host, result.detail[:WORDS]
        )
        if failure not in sessions.failures and len(sessions.failures) >= MAX_FAILURES:
            failure = Failure(result.trouble)
        sessions.failures[failure] = sessions.failures.get(failure, 0) + 1

    def _sessions(self, day: date, published: Published) -> Sessions:
        counted = self._days.setdefault(day, {})
        if published not in counted:
            if len(counted) >= MAX_POLICIES:
                return _UNCOUNTED
            counted[published] = Sessions()
        return counted[published]

    # ---- reporting
    def today(self) -> date:
        """The day it is, in UTC, by which reports are made."""
        return datetime.fromtimestamp(self._clock.now(), UTC).date()

    def days(self) -> Sequence[date]:
        """The days something is known of, the oldest first."""
        return sorted(self._days)

    def day(self, day: date) -> Day:
        """What was counted on a day."""
        return self._days.get(day, {})

    def taken(self, day: date) -> bytes:
        """What was counted on a day, for another process to add; here it is no longer."""
        octets = _encoded(self.day(day))
        for domain in {published.domain for published in self.day(day)}:
            self.forget(day, domain)
        self._unwritten.add(day)
        return octets

    def add(self, day: date, taken: bytes) -> None:
        """Count what another process had counted; what cannot be read, an earlier or later release's, is left out."""
        with contextlib.suppress(ValueError):
            for published, other in _decoded(taken).items():
                sessions = self._sessions(day, published)
                sessions.successes += other.successes
                for failure, count in other.failures.items():
                    sessions.failures[failure] = sessions.failures.get(failure, 0) + count
            self._unwritten.add(day)

    def forget(self, day: date, domain: str) -> None:
        """A domain's counts of a day were reported, or nobody wants them."""
        counted = self._days.get(day, {})
        for published in [published for published in counted if published.domain == domain]:
            del counted[published]
        self._unwritten.add(day)

    # ---- keeping
    async def open(self) -> None:
        """Take up what was counted before. What cannot be read is left where it is, and not counted."""
        await asyncio.to_thread(self._load)

    async def keep(self) -> None:
        """Write down what was counted, for ever."""
        while True:
            await self._clock.sleep(WRITE)
            with contextlib.suppress(
                OSError
            ):  # a disk in trouble is told of by those who need it; the next minute tries
                await self.write()

    async def write(self) -> None:
        """Write down what is not yet written. Raises: OSError."""
        for day in sorted(self._unwritten):
            octets = _encoded(self._days.get(day, {}))
            self._unwritten.discard(day)
            try:
                await asyncio.to_thread(self._store, day, octets)
            except OSError:
                self._unwritten.add(day)
                raise
            if not self._days.get(day):
                self._days.pop(day, None)

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in self._directory.glob("*.json"):
                with contextlib.suppress(OSError, ValueError):
                    self._days[date.fromisoformat(path.stem)] = _decoded(path.read_bytes())

    def _store(self, day: date, octets: bytes) -> None:
        path = self._directory / f"{day.isoformat()}.json"
        if not octets:
            path.unlink(missing_ok=True)
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        beside = path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


#: Of a policy beyond those that are counted.
_UNCOUNTED: Final = Sessions()


def _encoded(day: Day) -> bytes:
    """A day as JSON; nothing for one of which nothing is left."""
    if not day:
        return b""
    return msgspec.json.encode(
        [
            _Entry(published, sessions.successes, tuple(_Counted(*each) for each in sessions.failures.items()))
            for published, sessions in day.items()
        ]
    )


def _decoded(octets: bytes) -> dict[Published, Sessions]:
    entries = msgspec.json.decode(octets, type=list[_Entry])
    return {
        entry.published: Sessions(entry.successes, {each.failure: each.count for each in entry.failures})
        for entry in entries
    }
