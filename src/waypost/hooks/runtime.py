"""Where hooks run: each module in a thread and on a loop of its own, so that one that blocks holds up its own mail.

What a thread cannot give: a module that crashes the interpreter takes the service with it. Not here: what is asked
(calls.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

#: Threads of one module that hang before no more are begun: each is lost until the service starts again.
MOST_HUNG: Final = 3
#: How long a loop may take to show that it still turns.
SIGN_OF_LIFE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Failed:
    """The hook came to no verdict; `why` is a sentence's end."""

    why: str


Call: TypeAlias = Callable[[], Coroutine[object, object, object]]


class Runtime(Protocol):
    """Where one module's coroutines run."""

    async def run(self, call: Call, within: timedelta) -> object | Failed:
        """What the coroutine returns. Never raises but CancelledError."""
        ...

    def close(self) -> None:
        """Run nothing more."""
        ...


class Inline:
    """On the service's own loop: for tests, whose time jumps."""

    async def run(self, call: Call, within: timedelta) -> object | Failed:
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await _guarded(call)
        except TimeoutError:
            return Failed(_overran(within))

    def close(self) -> None:
        pass


class OwnThread:
    """In a thread of the module's own; one that hangs is left behind, and another begun."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loops: list[asyncio.AbstractEventLoop] = []  # the one in use, once there is one
        self._hung = 0
        self._ended = False

    async def run(self, call: Call, within: timedelta) -> object | Failed:
        if self._hung >= MOST_HUNG:
            return Failed(f"hangs: {MOST_HUNG} of its threads never came back; mend it, and start the service again")
        loop = self._loop()
        running = asyncio.run_coroutine_threadsafe(_guarded(call), loop)
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await asyncio.wrap_future(running)
        except TimeoutError:
            running.cancel()
            await self._look_at(loop)
            return Failed(_overran(within))

    def close(self) -> None:
        self._ended = True
        for loop in self._loops:
            loop.call_soon_threadsafe(loop.stop)
        self._loops.clear()

    def _loop(self) -> asyncio.AbstractEventLoop:
        if not self._loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=_turn, args=(loop,), name=f"hook {self._name}", daemon=True).start()
            self._loops.append(loop)
        return self._loops[0]

    async def _look_at(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave a loop behind that does not turn: the coroutine blocks it."""
        alive = threading.Event()
        loop.call_soon_threadsafe(alive.set)
        if not await asyncio.to_thread(alive.wait, SIGN_OF_LIFE.total_seconds()) and loop in self._loops:
            self._loops.remove(loop)
            self._hung += 1
            loop.call_soon_threadsafe(loop.stop)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
    finally:
        loop.close()


async def _guarded(call: Call) -> object | Failed:
    """What it returns, or how it failed: also what would end a thread is no more than that."""
    try:
        return await call()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit of a hook must not end the service
        return Failed(f"raised {type(error).__name__}: {error}")


def _overran(within: timedelta) -> str:
    return f"took longer than its budget of {within.total_seconds():g} s"
