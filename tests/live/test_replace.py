"""A service is replaced under load, and no connection is refused: smtp-source would give up at the first."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.process import must_run, until
from tests.live.service import Service, prepare, running, status_of
from tests.live.sink import sink
from tests.live.test_workers import with_workers

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

MESSAGES = 2000


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_connection_is_refused_while_one_process_takes_the_place_of_another(place: Path, workers: int) -> None:
    async with sink(keep=lambda _: b"") as far_end:
        service = prepare(place, to_port(far_end.port))
        service.config.write_text(service.config.read_text().replace("[service]", '[service]\ndrain = "4s"', 1))
        if workers > 1:
            with_workers(service, workers)
        async with running(service):
            sending = asyncio.create_task(flood(service))
            await far_end.until(lambda: len(far_end.taken) > 20, "some mail before it is replaced")
            await replace(service)
            await sending
            await far_end.messages(MESSAGES, within=120)
        assert len(far_end.taken) >= MESSAGES


async def flood(service: Service) -> None:
    """Send, a new connection a message; an error ends smtp-source with another exit code than 0."""
    options = ["-s", "5", "-m", str(MESSAGES), "-f", "a@origin.test", "-t", "b@example.test"]
    await must_run("smtp-source", *options, f"127.0.0.1:{service.port}")


async def replace(service: Service) -> None:
    """Begin another process in the service's place; from then on it is the one that runs."""
    with service.log.open("ab") as words:
        command = (sys.executable, "-m", "waypost", "serve", "--replace", "--config", str(service.config))
        process = await asyncio.create_subprocess_exec(*command, stdout=words, stderr=words)
    old = service.running[-1]
    assert await asyncio.wait_for(old.wait(), 120) == 0
    service.running.append(process)

    async def is_ready() -> bool:
        return await asyncio.to_thread(status_of, f"http://127.0.0.1:{service.admin_port}/readyz") == 200

    await until(is_ready, "the new one to be ready", log=service.log)
