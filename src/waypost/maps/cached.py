"""A map that asks somebody else, within a time-out, and remembers what it was told: found, not found, never trouble.

Many who ask for one key at once make one question. Not here: how the question is put (sqlite.py, http.py …).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from waypost.maps.lookup import AskError, Keys, Lookup, MapTrouble, NotListed
from waypost.net.clock import Clock

Ask: TypeAlias = Callable[[str], Awaitable[Lookup]]
"""Puts one question. What it raises is trouble of this map, told with the exception's own words."""

#: Keys remembered a map: some 10 MB, and a busy day's recipients.
REMEMBERED: Final = 50_000
#: Questions at once; what comes beyond waits its turn within its own time-out.
AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an answer may take, and how long it holds: `found`, and for a key that was not there `missing`."""

    timeout: timedelta = timedelta(seconds=5)
    found: timedelta = timedelta(minutes=5)
    missing: timedelta = timedelta(minutes=1)


class CachedMap:
    """`ask`, with a memory."""

    keys = Keys.ADDRESSES

    def __init__(self, name: str, ask: Ask, terms: Terms, clock: Clock, *, remote: bool) -> None:
        self.name = name
        self._ask = ask
        self._terms = terms
        self._clock = clock
        self._remote = remote
        self._known: OrderedDict[str, tuple[float, Lookup]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Lookup]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def look_up(self, key: str) -> Lookup:
        until, known = self._known.get(key, (float("-inf"), MapTrouble("")))
        if self._clock.monotonic() < until:
            return known
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._asked(key), name=f"map {self.name}")
        return await asyncio.shield(task)  # one who gives up waiting leaves the others their answer

    async def _asked(self, key: str) -> Lookup:
        try:
            async with asyncio.timeout(self._terms.timeout.total_seconds()), self._room:
                answer = await self._ask(key)
        except TimeoutError:
            answer = self._trouble(f"gave no answer within {self._terms.timeout.total_seconds():g} seconds")
        except AskError as error:
            answer = self._trouble(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it is this map's trouble, and mail waits
            answer = self._trouble(f"{type(error).__name__}: {error}")
        finally:
            del self._asking[key]
        self._remember(key, answer)
        return answer

    def _remember(self, key: str, answer: Lookup) -> None:
        if isinstance(answer, MapTrouble):
            return
        holds = self._terms.missing if isinstance(answer, NotListed) else self._terms.found
        self._known[key] = self._clock.monotonic() + holds.total_seconds(), answer
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _trouble(self, what: str) -> MapTrouble:
        return MapTrouble(f"map {self.name}: {what}", remote=self._remote)
