"""Time that jumps: an event loop whose clock moves to the next timer as soon as nothing else is ready.

A test of a five-minute time-out runs in a millisecond, and always in the same order. For code on asyncio alone: memory
streams, sockets on loopback, and threads started by `run_in_executor` all work; a thread of the code's own needs
`patience`, the real seconds to wait for it before time jumps.

    @virtual
    async def test_a_silent_client_is_told_421() -> None: ...
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

from waypost.net.clock import Instant

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

#: 2026-01-01T00:00:00Z: where the wall clock of every virtual test begins.
START: Instant = 1_767_225_600.0
#: Real seconds without any event or timer after which a test is told that it will wait for ever.
DEADLOCK = 5.0


class DeadlockError(Exception):
    """Everything waits, and no timer is set: nothing would ever happen again."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; where nothing is ready, moves the loop's clock by as much as the loop was willing to wait."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads:
            return super().select(DEADLOCK)
        if timeout is None:
            ready = super().select(DEADLOCK)
            if not ready:
                raise DeadlockError("nothing is ready and no timer is set: this test would wait for ever")
            return ready
        ready = super().select(self.loop.patience) if self.loop.patience else []
        if not ready:
            self.loop.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop whose `time()` begins at 0 and jumps."""

    def __init__(self, patience: float = 0.0) -> None:
        self._now = 0.0
        self.patience = patience
        self.threads = 0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self.threads += 1
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1


class VirtualClock:
    """`waypost.net.clock.Clock` on a VirtualLoop: the wall clock moves with the loop, and can be stepped besides."""

    def __init__(self, start: Instant = START) -> None:
        self._offset = start

    def now(self) -> Instant:
        return self._offset + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    def step(self, by: timedelta) -> None:
        """What an administrator's `date -s` does: the wall clock alone moves, forward or back."""
        self._offset += by.total_seconds()


def run_virtual(main: Coroutine[Any, Any, T], *, patience: float = 0.0) -> T:
    """Run a coroutine to its end on a loop of its own whose time jumps."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience)) as runner:
        return runner.run(main)


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test a plain one that runs on a VirtualLoop; fixtures and parameters work as ever."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


async def settled(rounds: int = 20) -> None:
    """Let everything that is ready run, without any time passing."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def elapsed(what: Awaitable[T]) -> tuple[T, float]:
    """The result, and the virtual seconds it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await what, loop.time() - began
