"""A lane: operations that come at the same time share a transaction, as they share a fsync in the embedded spool.

While `width` groups are on their way to the database, the next one gathers. So a lone operation waits for nobody, and
under load a group holds as many as came during one round trip. Not here: what a group does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from waypost.queue.postgres.database import DatabaseLostError
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

Op = TypeVar("Op")
Answer = TypeVar("Answer")

#: Operations in a group at most, so that the first does not wait long for the last.
GROUP: Final = 256


class Lane(Generic[Op, Answer]):
    """`run` carries a group out, in the place of so many among `width`, and answers each; an error is each one's."""

    def __init__(self, run: Callable[[Sequence[Op], int], Awaitable[Sequence[Answer]]], width: int) -> None:
        self._run = run
        self._free = list(range(width))
        self._waiting: list[tuple[Op, asyncio.Future[Answer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.groups = 0

    def submit(self, op: Op) -> asyncio.Future[Answer]:
        """Hand an operation in. It is carried out even if nobody waits for the future any longer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._is_closed:
            future.set_exception(StorageError(StoreFault(StoreFaultKind.CLOSED, "the queue is not open")))
            return future
        self._waiting.append((op, future))
        self._start()
        return future

    async def close(self) -> None:
        """Carry out what was handed in."""
        self._is_closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self) -> None:
        if self._waiting and self._free:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            task = asyncio.get_running_loop().create_task(self._carry_out(group, self._free.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, group: Sequence[tuple[Op, asyncio.Future[Answer]]], place: int) -> None:
        try:
            await self._try(group, place)
        finally:
            self._free.append(place)
            self._start()

    async def _try(self, group: Sequence[tuple[Op, asyncio.Future[Answer]]], place: int) -> None:
        """Optimistic: all at once; only if that fails, one by one, so that only the one at fault fails."""
        try:
            answers = await self._run([op for op, _ in group], place)
        except Exception as error:  # noqa: BLE001 - it is told to whoever waits for the answer
            if len(group) == 1 or isinstance(error, DatabaseLostError):
                _fail(group, error)
                return
            for one in group:
                await self._try((one,), place)
            return
        self.groups += 1
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(group: Sequence[tuple[Op, asyncio.Future[Answer]]], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
