"""What the processes of one queue tell one another, every second, over the shelf: no mail waits for it.

Each process keeps one value on the shelf: its numbers as they are now (how many attempts it has under way at a next
hop), and the facts it came to know in the last seconds (a host that needs HELO, a destination that rests, what it took
from a rate). Each reads the values of all the others at once. So nodes on one database and workers on one machine are
told in the same way, and on the way of a message there is nothing but memory.

A fact that holds for long is also kept under a key of its own until it ends: so who begins later, or was away, knows
it too.

The error, stated: what others know is as old as two rounds (`EVERY`) at most, while the shelf answers. A process that
cannot reach the shelf goes on by what it knew, and tells when it can. Of one that was silent for `SILENT` no number
counts any longer. Who has no numbers has nothing to say that could be wrong: it writes seldom, and counts as one of the
processes until it has been silent for `BURIED`.

Not here: what follows from a fact. Who knows that listens for it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

import msgspec
import structlog

from waypost.mail.explain import plain
from waypost.net.clock import Clock, Instant
from waypost.queue.record import plain_details
from waypost.queue.shelf import Shelf
from waypost.queue.storage import StorageError

T = TypeVar("T")

#: Between two rounds.
EVERY: Final = timedelta(seconds=1)
#: A value with numbers is written anew at least so often, so that it shows that its process lives; and one without.
AT_LEAST: Final = timedelta(seconds=5)
AT_LEAST_IDLE: Final = timedelta(seconds=20)
#: A process that has said nothing new for so long is gone, or as good as gone: its numbers are.
SILENT: Final = timedelta(seconds=15)
#: A fact is repeated for so long after it was first written: whoever could not read for a while still hears it.
REPEATED: Final = timedelta(seconds=15)
#: Facts told at once; of more than these, the oldest are told to nobody.
MOST: Final = 5000
#: After so long it is gone for certain: whoever sees what it left behind takes that off the shelf.
BURIED: Final = 4 * SILENT
#: Lasting facts kept in one round, each at the cost of a write: the rest waits for the next.
AT_ONCE: Final = 100
#: As many rounds' worth of them are kept when a process ends, which must not take long.
LAST_ROUNDS: Final = 5
#: By the wall clocks, which need not agree: it is to end long after that.
LEFT_BEHIND: Final = timedelta(days=1)
#: Whose values these are on the shelf; those of lasting facts carry the fact's kind behind it.
SPACE: Final = "exchange"
LASTING: Final = "known "


class Telling(Protocol):
    """Who is told what this process came to know."""

    def tell(self, kind: str, value: object, *, key: str = "", until: Instant = 0.0) -> None:
        """Tell the others, within a round or two. `value`: what JSON can hold.

        With `until`, it holds up to then, in place of what was told of `key` before.
        """
        ...


class NoOthers:
    """There is no other process: nobody is told."""

    def tell(self, kind: str, value: object, *, key: str = "", until: Instant = 0.0) -> None:
        """Nobody hears it."""


NO_OTHERS: Final = NoOthers()


class ExchangedNumbers:
    """Numbers by key: our own as they are, those of each other process as it last told them.

    Rows are numbered alike by all: by their processes' names.
    """

    def __init__(self, own: str) -> None:
        self._name = own
        self.own: dict[str, int] = {}
        self.row = 0
        self._rows: Sequence[Mapping[str, int]] = (self.own,)
        #: Rounds that have ended: what was set before one began, the others know after it.
        self.rounds = 0

    @property
    def processes(self) -> int:
        """How many there are, ourselves included."""
        return len(self._rows)

    def add(self, key: str, amount: int) -> None:
        """Change a number of ours."""
        self.set(key, self.own.get(key, 0) + amount)

    def set(self, key: str, value: int) -> None:
        """Set a number of ours."""
        if value:
            self.own[key] = value
        else:
            self.own.pop(key, None)

    def total(self, key: str) -> int:
        """The sum over all rows."""
        return sum(row.get(key, 0) for row in self._rows)

    def of_all(self, key: str) -> Sequence[int]:
        """The number of each, by row."""
        return [row.get(key, 0) for row in self._rows]

    def heard(self, others: Mapping[str, Mapping[str, int]]) -> None:
        """What the others last told, by their names."""
        rows = {**others, self._name: self.own}
        self._rows = [rows[name] for name in sorted(rows)]
        self.row = sorted(rows).index(self._name)


class _Fact(msgspec.Struct, array_like=True):
    number: int
    kind: str
    value: msgspec.Raw


class _Said(msgspec.Struct, array_like=True):
    """A process' value on the shelf. `beat` counts, so that a value that is written anew differs."""

    beat: int
    facts: list[_Fact]
    numbers: dict[str, int]
    is_last: bool = False  # it has ended


@dataclass(slots=True)
class _Told:
    """A fact of ours, and when (monotonic) it was first written; infinite before."""

    fact: _Fact
    at: float = float("inf")


@dataclass(slots=True)
class _Other:
    """Another process: when (monotonic) it last said something new, its beat then, and the last fact heard of it."""

    at: float
    beat: int = 0
    heard: int = 0
    has_ended: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)

    def counts(self, now: float) -> bool:
        """Whether it is there, and what it last said still holds."""
        return not self.has_ended and now < self.at + (SILENT if self.numbers else BURIED).total_seconds()


@dataclass(frozen=True, slots=True)
class _Lasting:
    space: str
    key: str
    value: bytes
    until: Instant


class Exchange:
    """One process' part in it: `join`, then `run` in a task, `leave` at the end. `own`: a name that no other has."""

    def __init__(self, shelf: Shelf, clock: Clock, own: str) -> None:
        self.numbers = ExchangedNumbers(own)
        self._shelf = shelf
        self._clock = clock
        self.name = own
        self._listeners: dict[str, Callable[[bytes], None]] = {}
        self._gathering: dict[str, Callable[[], None]] = {}
        self._facts: deque[_Told] = deque(maxlen=MOST)
        self._lasting: dict[tuple[str, str], _Lasting] = {}
        self._number = 0
        self._others: dict[str, _Other] = {}
        self._beat = 0
        self._written: tuple[float, list[int], dict[str, int]] = (float("-inf"), [], {})
        self._read_at = float("inf")  # monotonic; before the first time, there is nothing it has missed

    def tell(self, kind: str, value: object, *, key: str = "", until: Instant = 0.0) -> None:
        self._number += 1
        octets = _as_json(value)
        self._facts.append(_Told(_Fact(self._number, kind, msgspec.Raw(octets))))
        if until:
            place = (LASTING + kind, plain(key))
            self._lasting[place] = _Lasting(*place, octets, until)

    def listen(self, kind: str, of: type[T], hear: Callable[[T], None]) -> None:
        """Call `hear` with each fact of this kind that another process tells; what is no `of` is passed over."""

        def heard(octets: bytes) -> None:
            with contextlib.suppress(msgspec.DecodeError):  # a later release may say it otherwise
                hear(msgspec.json.decode(octets, type=of))

        self._listeners[kind] = heard

    def gather(self, kind: str, gathering: Callable[[], None]) -> None:
        """Call this before each round: who sums up what happens often tells it then."""
        self._gathering[kind] = gathering

    async def run(self) -> None:
        """Tell and hear, until cancelled. A shelf in trouble is told of by those who need it; the next round tries."""
        while True:
            await self._clock.sleep(EVERY)
            with contextlib.suppress(StorageError):
                await self.round()

    async def join(self) -> None:
        """Hear of all that holds for long, and of who is there. Raises: StorageError."""
        await self.recall()
        await self.round()

    async def recall(self) -> None:
        """Hear of all that holds for long, but what we know better, and have not kept yet. Raises: StorageError."""
        for kind in self._listeners:
            for key, octets in await self._shelf.all_kept(LASTING + kind, now=self._clock.now()):
                if (LASTING + kind, key) not in self._lasting:
                    self._take(kind, octets)

    async def round(self) -> None:
        """Tell what there is to tell, then hear what the others have told. Raises: StorageError."""
        self._gather()
        await self._write()
        await self._read()
        await self._keep_lasting()
        await self._bury()

    async def leave(self) -> None:
        """Nothing of ours counts any longer; what was told just now is still heard. Raises: StorageError."""
        self._gather()
        for _ in range(LAST_ROUNDS):
            await self._keep_lasting()
        if any(one.at == float("inf") for one in self._facts):
            await self._put(list(self._facts), {}, lasts=REPEATED, is_last=True)
        else:
            await self._shelf.drop(SPACE, self.name)

    # ---- telling
    def _gather(self) -> None:
        for gathering in self._gathering.values():
            gathering()

    async def _write(self) -> None:
        now = self._clock.monotonic()
        while self._facts and self._facts[0].at + REPEATED.total_seconds() < now:
            self._facts.popleft()
        told = list(self._facts)
        numbers, said = dict(self.numbers.own), [one.fact.number for one in told]
        at, *before = self._written
        at_least = AT_LEAST if numbers else AT_LEAST_IDLE
        if before == [said, numbers] and now < at + at_least.total_seconds():
            return
        await self._put(told, numbers, lasts=LEFT_BEHIND)
        self._written = now, said, numbers
        for one in told:
            one.at = min(one.at, now)

    async def _put(
        self, told: Sequence[_Told], numbers: dict[str, int], *, lasts: timedelta, is_last: bool = False
    ) -> None:
        self._beat += 1
        value = msgspec.json.encode(_Said(self._beat, [one.fact for one in told], numbers, is_last))
        await self._shelf.keep(SPACE, self.name, value, until=self._clock.now() + lasts.total_seconds())

    async def _keep_lasting(self) -> None:
        """The oldest first; what was told anew meanwhile is kept in the next round."""
        for place, one in list(self._lasting.items())[:AT_ONCE]:
            await self._shelf.keep(one.space, one.key, one.value, until=one.until)
            if self._lasting[place] is one:
                del self._lasting[place]

    # ---- hearing
    async def _read(self) -> None:
        values = await self._shelf.all_kept(SPACE, now=self._clock.now())
        now = self._clock.monotonic()
        for name, octets in values:
            if name != self.name:
                self._hear(name, octets, now)
        there = {name for name, _ in values}
        self._others = {name: other for name, other in self._others.items() if name in there}
        self.numbers.heard({name: other.numbers for name, other in self._others.items() if other.counts(now)})
        self.numbers.rounds += 1
        if now > self._read_at + REPEATED.total_seconds() / 2:  # what was told meanwhile may be repeated no longer
            await self.recall()
        self._read_at = now

    def _hear(self, name: str, octets: bytes, now: float) -> None:
        try:
            said = msgspec.json.decode(octets, type=_Said)
        except msgspec.DecodeError:  # another release's
            return
        known = self._others.setdefault(name, _Other(now))
        if said.beat != known.beat:
            known.at, known.beat, known.numbers = now, said.beat, said.numbers
            known.has_ended = said.is_last
        for fact in said.facts:
            if fact.number > known.heard:
                known.heard = fact.number
                self._take(fact.kind, fact.value)

    def _take(self, kind: str, octets: bytes | msgspec.Raw) -> None:
        """Let a fact be heard. One that makes its listener fail is told of, and does no further harm."""
        try:
            self._listeners.get(kind, _let_go)(bytes(octets))
        except Exception as error:  # noqa: BLE001 - it came from another process, perhaps of another release
            structlog.get_logger().exception("what another process told was not taken", kind=kind, exc_info=error)

    async def _bury(self) -> None:
        long_ago = self._clock.monotonic() - BURIED.total_seconds()
        for name in [name for name, other in self._others.items() if other.at < long_ago]:
            await self._shelf.drop(SPACE, name)
            del self._others[name]


def _let_go(_: bytes) -> None:
    """Nobody here listens for it."""


def _as_json(value: object) -> bytes:
    """A fact's value. What is no text (half a surrogate, from a peer's octets) is written as its escape."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(plain_details(msgspec.to_builtins(value)))
