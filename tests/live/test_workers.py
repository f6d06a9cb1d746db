"""Several processes as one service: what is killed is begun again, nothing promised is lost, no shard is orphaned."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.live.mail import to_port
from tests.live.process import free_port, run, until
from tests.live.service import Service, prepare, running, status_of
from tests.live.sink import sink
from tests.live.source import Source, identity
from tests.live.test_killed import arrived

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

KILLS = 5


def with_workers(service: Service, count: int) -> Service:
    """The same service, of `count` processes that take mail."""
    text = service.config.read_text()
    head, _, rest = text.partition("[[listener]]")
    lines = [line for line in head.splitlines() if not line.startswith("workers")]
    lines.insert(lines.index("[service]") + 1, f"workers = {count}")
    service.config.write_text("\n".join([*lines, "", "[[listener]]"]) + rest)
    return service


def workers(supervisor: int) -> dict[int, int]:
    """Worker → its process id, of those that run."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == supervisor and b"worker" in words:
                found[json.loads(words[words.index(b"worker") + 1])["index"]] = int(directory.name)
    return found


async def ready(service: Service) -> None:
    """Until all of it is."""

    async def is_ready() -> bool:
        return await asyncio.to_thread(status_of, f"http://127.0.0.1:{service.admin_port}/readyz") == 200

    await until(is_ready, "/readyz says 200", log=service.log)


def metric(service: Service, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{service.admin_port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


async def test_workers_that_are_killed_under_load_lose_nothing_that_was_promised(
    place: Path, say: Callable[[str], None]
) -> None:
    dice = random.Random(7)  # noqa: S311 - no secret
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), 2)
        async with running(service):
            source = Source(service.port)
            sending = asyncio.create_task(source.run())
            for _ in range(KILLS):
                await asyncio.sleep(0.5 + dice.random())
                os.kill(dice.choice(list(workers(service.pid).values())), signal.SIGKILL)
                await ready(service)
            restarts = metric(service, "waypost_worker_restarts_total")
            source.enough()
            promised = set((await sending).promised)
            await service.cli("queue", "retry", "--all")
            await far_end.until(lambda: promised <= arrived(far_end.taken), "every promised message", within=120)
            ran = metric(service, "waypost_messages_received_total")

        say(f"{KILLS} kills of a worker, {restarts:.0f} told; {len(promised)} promised, {ran:.0f} counted since")
        assert restarts == KILLS
        assert source.ledger.refused == {}
        assert service.log.read_text().count("a process died; it is begun again") == KILLS


async def test_a_worker_that_begins_amid_a_storm_of_hangups_is_not_ended_by_them(place: Path) -> None:
    """SIGHUP ended a worker that had no handler for it yet, so a reload could keep one from ever coming back."""
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), 2)
        async with running(service):
            os.kill(workers(service.pid)[1], signal.SIGKILL)
            storm = asyncio.create_task(hang_up_on(service))
            await ready(service)
            storm.cancel()
            promised = set((await Source(service.port, count=20).run()).promised)
            await far_end.until(lambda: promised <= arrived(far_end.taken), "every promised message")
            assert metric(service, "waypost_worker_restarts_total") == 1


async def test_another_service_started_on_the_same_spool_touches_nothing_of_it(place: Path) -> None:
    """It removed the shards that held nothing yet from under their workers, and took the address of the handover."""
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), 2)
        async with running(service):
            (place / "other").mkdir()
            other = with_workers(prepare(place / "other", to_port(far_end.port)), 1)
            other.config.write_text(other.config.read_text().replace(str(place / "other/spool"), str(place / "spool")))
            ran = await run(sys.executable, "-m", "waypost", "serve", "--config", other.config)
            assert ran.code == 1
            assert f"is in use by process {service.pid}" in ran.errors
            assert (place / "spool/shards/1/queue.db").exists()
            assert (place / "spool/handover").exists()
            promised = set((await Source(service.port, count=20).run()).promised)
            await far_end.until(lambda: promised <= arrived(far_end.taken), "every promised message")


async def hang_up_on(service: Service) -> None:
    """A hundred times a second."""
    while True:
        os.kill(service.pid, signal.SIGHUP)
        await asyncio.sleep(0.01)


async def test_a_killed_supervisor_loses_nothing_and_the_next_one_finds_the_spool_free(place: Path) -> None:
    async with sink(keep=identity) as far_end:
        service = with_workers(prepare(place, to_port(far_end.port)), 2)
        async with running(service):
            source = Source(service.port)
            sending = asyncio.create_task(source.run())
            await asyncio.sleep(2)
            orphans = workers(service.pid)
            await service.kill()
            await service.start()
            assert not set(orphans.values()) & set(workers(service.pid).values())
            await asyncio.sleep(1)
            source.enough()
            promised = set((await sending).promised)
            await service.cli("queue", "retry", "--all")
            await far_end.until(lambda: promised <= arrived(far_end.taken), "every promised message", within=120)


async def test_no_shard_is_orphaned_when_there_are_fewer_workers(place: Path) -> None:
    port = free_port()
    service = with_workers(prepare(place, to_port(port), pause="1h"), 3)
    async with running(service):
        promised = set((await Source(service.port, count=60).run()).promised)
        assert len(await service.queue()) == 60
    assert [index for index in (1, 2) if (place / "spool/shards" / str(index) / "queue.db").exists()] == [1, 2]
    assert len(await service.queue()) == 60  # with no service, too

    with_workers(service, 1)
    async with sink(keep=identity, port=port) as far_end, running(service):
        assert set(workers(service.pid)) == {0, 1, 2}
        await service.cli("queue", "retry", "--all")
        await far_end.until(lambda: promised <= arrived(far_end.taken), "what the three had", within=120)
        assert (await service.cli("trace", "source@origin.test", "--limit", "60")).output.count("delivered") >= 60
