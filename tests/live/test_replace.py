"""A service is replaced, and its configuration changed, under load: nobody is refused, cut off, or lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.live.mail import to_port
from tests.live.process import until
from tests.live.service import Service, prepare, running
from tests.live.sink import Sink, sink
from tests.live.source import Ledger, Source, identity
from tests.live.test_killed import arrived
from tests.live.test_workers import ready, with_workers, workers

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

#: How much is promised before and after each thing that is done to the service.
BETWEEN = 50


class Load:
    """Clients that come all the time, and what they were promised."""

    def __init__(self, source: Source, service: Service) -> None:
        self._source, self._service = source, service

    async def flows(self) -> None:
        """Until some more mail has been taken."""
        enough = len(self._source.ledger.promised) + BETWEEN

        async def is_taken() -> bool:
            return len(self._source.ledger.promised) >= enough

        await until(is_taken, f"{BETWEEN} more messages to be taken", log=self._service.log)


@contextlib.asynccontextmanager
async def load(service: Service, far_end: Sink) -> AsyncIterator[Load]:
    """Clients while the block lasts; then all they were promised has to arrive once, and none was turned away."""
    source = Source(service.port, sessions=5)
    sending = asyncio.create_task(source.run())
    yield Load(source, service)
    source.enough()
    ledger = await sending
    assert (ledger.refused, ledger.lost_connections, ledger.in_doubt) == ({}, 0, set())
    await service.cli("queue", "retry", "--all")
    await far_end.until(lambda: set(ledger.promised) <= arrived(far_end.taken), "every promised message", within=120)
    assert doubles(far_end, ledger) == []


def doubles(far_end: Sink, ledger: Ledger) -> list[bytes]:
    """Which of the promised messages arrived more than once."""
    came = Counter(taken.octets for taken in far_end.taken)
    return [one for one, times in came.items() if times > 1 and int(one) in ledger.promised]


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 2)])
async def test_who_is_replaced_finishes_what_it_has_and_its_successor_takes_the_rest(
    place: Path, before: int, after: int
) -> None:
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), before)
        async with running(service), load(service, far_end) as clients:
            await clients.flows()
            with_workers(service, after)
            await replace(service)
            await clients.flows()
    assert "another process takes the listeners over" in service.log.read_text()


async def replace(service: Service) -> None:
    """Begin another process in the service's place; from then on it is the one that runs."""
    command = (sys.executable, "-m", "waypost", "serve", "--replace", "--config", str(service.config))
    with service.log.open("ab") as words:
        process = await asyncio.create_subprocess_exec(*command, stdout=words, stderr=words)
    old = service.running[-1]
    service.running.append(process)
    assert await asyncio.wait_for(old.wait(), 120) == 0
    await ready(service)


async def by_command(service: Service) -> None:
    ran = await service.cli("reload")
    assert ran.code == 0, ran.output + ran.errors


async def by_signal(service: Service) -> None:
    os.kill(service.pid, signal.SIGHUP)


@pytest.mark.parametrize("reload", [by_command, by_signal])
async def test_workers_go_on_by_another_configuration_without_ending_a_session(
    place: Path, reload: Callable[[Service], Awaitable[None]]
) -> None:
    async with sink(keep=identity) as first, sink(keep=identity) as second:
        service = with_workers(prepare(place, to_port(first.port)), 2)
        async with running(service):
            began = workers(service.pid)
            async with load(service, first) as clients:
                await clients.flows()
                service.config.write_text(service.config.read_text() + "\n[limits]\nrecipients = 177\n")
                await reload(service)
                await until(lambda: in_force(service, 4), "both workers to go on by it", log=service.log)
                await clients.flows()
            service.config.write_text(service.config.read_text().replace(str(first.port), str(second.port)))
            await reload(service)
            await until(lambda: in_force(service, 6), "both workers to go on by it", log=service.log)
            async with load(service, second) as clients:
                await clients.flows()
            assert workers(service.pid) == began


async def test_with_workers_a_preview_says_what_a_reload_would_and_a_rollback_goes_back(place: Path) -> None:
    """A preview said that nothing could change: it held the file of all against the part of one."""
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), 2)
        good = service.config.read_text()
        async with running(service):
            new = place / "new.toml"
            new.write_text(good + "\n[limits]\nrecipients = 177\n")
            assert "would refuse" not in await said(service, "preview", str(new))
            new.write_text(good.replace('"127.0.0.1:', '"127.0.0.2:', 1))
            assert "all workers share their sockets" in await said(service, "preview", str(new), code=1)
            (first,) = json.loads(await said(service, "config", "history", "--json"))["revisions"]
            service.config.write_text(good + "\n[limits]\nrecipients = 177\n")
            await by_command(service)
            assert "In force: revision " + first["id"] in await said(service, "config", "rollback", first["id"])
            assert service.config.read_text() == good


async def said(service: Service, *words: str, code: int = 0) -> str:
    ran = await service.cli(*words)
    assert ran.code == code, ran.output + ran.errors
    return ran.output


async def in_force(service: Service, times: int) -> bool:
    """Whether so many a time some worker has gone on by a configuration, its first one among them."""
    return service.log.read_text().count("in force") >= times
