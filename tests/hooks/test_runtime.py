"""A module's own thread: what blocks it, or ends it, holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from waypost.hooks.runtime import Failed, OwnThread

SOON = timedelta(milliseconds=50)
LONG = timedelta(seconds=30)


async def test_a_coroutine_runs_in_a_thread_of_its_own() -> None:
    runtime = OwnThread("policy")

    async def where() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert await runtime.run(where, LONG) == "hook policy"
    runtime.close()


async def test_one_that_blocks_its_thread_fails_and_the_next_call_has_another() -> None:
    runtime, free = OwnThread("policy"), threading.Event()

    async def blocks() -> None:
        free.wait(20)  # as time.sleep or a synchronous library would

    async def answers() -> str:
        return "here"

    assert await runtime.run(blocks, SOON) == Failed("took longer than its budget of 0.05 s")
    assert await runtime.run(answers, LONG) == "here"
    free.set()
    runtime.close()


async def test_after_a_few_that_hang_none_is_begun() -> None:
    runtime, free = OwnThread("policy"), threading.Event()

    async def blocks() -> None:
        free.wait(20)

    said = [await runtime.run(blocks, SOON) for _ in range(4)]
    free.set()
    assert isinstance(said[-1], Failed)
    assert "hangs" in said[-1].why
    runtime.close()


async def test_what_would_end_a_thread_is_a_failure() -> None:
    runtime = OwnThread("policy")

    async def exits() -> None:
        raise SystemExit(1)

    async def answers() -> int:
        return 1

    assert await runtime.run(exits, LONG) == Failed("raised SystemExit: 1")
    assert await runtime.run(answers, LONG) == 1
    runtime.close()


async def test_one_that_overruns_politely_is_cancelled_in_its_thread() -> None:
    runtime, cancelled = OwnThread("policy"), threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    assert isinstance(await runtime.run(waits, SOON), Failed)
    assert cancelled.wait(5)
    runtime.close()
