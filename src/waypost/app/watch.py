"""What runs by itself, for as long as the service does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from waypost.net.clock import Clock
from waypost.report.log import Log

#: Before a part that died is begun again.
REVIVAL: Final = timedelta(seconds=1)


class Watch:
    """Coroutines that run as long as the service does: one that dies is told of and begun again."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._down: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def over(cls, log: Log, clock: Clock) -> AsyncIterator[Watch]:
        """A watch that ends, with all it keeps, when the block does."""
        watch = cls(log, clock)
        try:
            yield watch
        finally:
            for task in watch._tasks.values():
                task.cancel()
            await asyncio.gather(*watch._tasks.values(), return_exceptions=True)

    @property
    def down(self) -> Sequence[str]:
        """Names of the parts that died and have not yet been begun again."""
        return sorted(self._down)

    def keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part`, again and again should it raise; once it returns, it has ended of itself."""
        self._tasks[name] = asyncio.create_task(self._keep(name, part), name=name)

    def again(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part` in place of what ran by that name."""
        if name in self._tasks:
            self._tasks[name].cancel()
        self._down.discard(name)
        self.keep(name, part)

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await part()
            except Exception as error:
                self._log.logger.exception("a part of the service died; it is begun again", part=name, exc_info=error)
            else:
                return
            self._down.add(name)
            await self._clock.sleep(REVIVAL)
            self._down.discard(name)
