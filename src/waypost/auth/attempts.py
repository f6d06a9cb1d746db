"""Against guessing: failed attempts are counted by account and by network, answered ever later, and then not at all.

Where several processes share the queue, each hears of the others' attempts (`heard`), and all count them alike. Pure
but for the clock. Memory is bounded: of counts beyond `MEMORY` the oldest go. An account is not locked for who
knows its password from a network where that was shown lately: else a stranger could lock everybody out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, TypeVar

from waypost.net.clock import Clock

#: Counts kept at once, and networks where an account was at home; some 200 octets each.
MEMORY: Final = 10_000
#: The first failure is answered so late, each further one twice as late, up to the longest.
FIRST_DELAY: Final = timedelta(seconds=0.5)
LONGEST_DELAY: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Limits:
    """Failures within `window`, after which nothing is tried any more until so much time has passed without one."""

    by_network: int = 20
    by_account: int = 50
    window: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class GoOn:
    """It may be tried, after a delay."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Blocked:
    """Too many failures. `what`: the account or the network that has them; `ends_in`: if nothing is tried meanwhile."""

    what: str
    failures: int
    ends_in: timedelta

    def __str__(self) -> str:
        minutes = max(1, round(self.ends_in.total_seconds() / 60))
        return f"{self.what} has {self.failures} failed logins; nothing is tried for another {minutes} min"


_Key: TypeAlias = tuple[str, str]
T = TypeVar("T")


class Attempts:
    """The counts of one service."""

    def __init__(self, clock: Clock, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()
        self._at_home: OrderedDict[_Key, float] = OrderedDict()
        #: Told of what the other processes are to hear: account, network, whether the password was right.
        self.tell: Callable[[str, str, bool], None] = _nobody

    def for_another(self, limits: Limits) -> Attempts:
        """The same counts, for who goes by other limits from now on."""
        other = Attempts(self._clock, limits)
        other._failures, other._at_home = self._failures.copy(), self._at_home.copy()
        return other

    def judge(self, account: str, network: str) -> GoOn | Blocked:
        """Whether `account` ("" while it is not known) may try from `network`."""
        counts = [(("network", network), self._limits.by_network)]
        if account and (account, network) not in self._at_home:
            counts.append((("account", account), self._limits.by_account))
        most = 0
        for key, limit in counts:
            failures, since = self._count(key)
            if failures >= limit:
                return Blocked(" ".join(key), failures, self._limits.window - since)
            most = max(most, failures)
        return GoOn(min(FIRST_DELAY * 2 ** (most - 1), LONGEST_DELAY) if most else timedelta())

    def failed(self, account: str, network: str) -> None:
        """An attempt has failed; `account` may be one that nobody has."""
        self.tell(account, network, False)
        self._failed(account, network)

    def heard(self, account: str, network: str, is_right: bool) -> None:  # noqa: FBT001 - as it is told
        """Another process had an attempt."""
        if is_right:
            self._succeeded(account, network)
        else:
            self._failed(account, network)

    def _failed(self, account: str, network: str) -> None:
        now = self._clock.monotonic()
        for key in (("network", network), ("account", account)):
            if key[1]:
                failures, _ = self._count(key)
                _remember(self._failures, key, (failures + 1, now))

    def succeeded(self, account: str, network: str) -> None:
        """The password was right: the account is at home here, and what failed before was its own error."""
        if (account, network) not in self._at_home or ("network", network) in self._failures:
            self.tell(account, network, True)
        self._succeeded(account, network)

    def _succeeded(self, account: str, network: str) -> None:
        self._failures.pop(("network", network), None)
        _remember(self._at_home, (account, network), self._clock.monotonic())

    def blocked(self) -> Sequence[Blocked]:
        """Who is shut out now."""
        limits = {"network": self._limits.by_network, "account": self._limits.by_account}
        found = [(key, *self._count(key)) for key in self._failures]
        return [
            Blocked(" ".join(key), failures, self._limits.window - since)
            for key, failures, since in found
            if failures >= limits[key[0]]
        ]

    def _count(self, key: _Key) -> tuple[int, timedelta]:
        """Failures, and how long ago the last one was; none, once the window is over."""
        failures, at = self._failures.get(key, (0, 0.0))
        since = timedelta(seconds=self._clock.monotonic() - at)
        return (failures, since) if since < self._limits.window else (0, timedelta())


def _nobody(account: str, network: str, is_right: bool) -> None:  # noqa: FBT001 - as `tell` has it
    """There is no other process."""


def _remember(memory: OrderedDict[_Key, T], key: _Key, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > MEMORY:
        memory.popitem(last=False)
