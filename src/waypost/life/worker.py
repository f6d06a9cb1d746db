"""What a supervisor begins: a worker, which is the whole service on one shard, or the desk that answers for all.

Both are this program once more, told their place as JSON. Nobody types these commands.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
import uvloop
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from waypost.admin.answers import OperationError, Proposal, Reloaded
from waypost.admin.client import ServiceDesk
from waypost.admin.face import board_of, guard_of, tls_of
from waypost.admin.flow import FlowKeeper
from waypost.admin.http import AdminServer
from waypost.admin.preview import parsed
from waypost.admin.together import Together, Worker
from waypost.app import log_of
from waypost.config import Complaints, Config
from waypost.config.change import revision
from waypost.config.parts import keyring
from waypost.life.control import Failed, Leash, Ready
from waypost.life.place import Place, accept, admin_of, desk_row, numbers_of, refused_for
from waypost.life.serving import raise_descriptor_limit, serve
from waypost.net.clock import SystemClock
from waypost.net.listener import ListenError
from waypost.net.shared import SharedNumbers
from waypost.queue.spool import SpoolInUseError
from waypost.queue.storage import Counts, StorageError
from waypost.report.metrics import totals_in
from waypost.report.summed import Gone, summed

#: Seconds the desk waits for a worker's answer: a person waits, too.
PATIENCE: Final = 30.0
#: The number that a supervisor keeps of workers that died.
RESTARTS: Final = "restarts"


def work(place: Place) -> int:
    """Be a worker, with its control socket as standard input; the exit status."""
    leash = Leash(socket.socket(fileno=sys.stdin.fileno()))
    try:
        config = place.whole()
        if isinstance(config, Complaints):
            leash.say(Failed(str(config), passing=False))
            return 1
        return serve(place.part(config), leash, parts=place.parts())
    except (StorageError, ListenError, OSError) as error:
        why = error.fault.detail if isinstance(error, StorageError) else str(error)
        leash.say(Failed(f"worker {place.index}: {why}", passing=isinstance(error, SpoolInUseError)))
        return 1


def answer(place: Place, shards: Sequence[int]) -> int:
    """Be the desk; the exit status."""
    leash = Leash(socket.socket(fileno=sys.stdin.fileno()))
    config = place.whole()
    if isinstance(config, Complaints):
        leash.say(Failed(str(config), passing=False))
        return 1
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_answer(config, place, shards, leash))


async def _answer(config: Config, place: Place, shards: Sequence[int], leash: Leash) -> int:
    log_of(config, SystemClock(), {"worker": "desk"})
    stopped = asyncio.Event()
    leash.listen(stopped.set)
    services = [ServiceDesk(admin_of(place.runtime, index), PATIENCE) for index in shards]
    workers = [Worker(index, service) for index, service in zip(shards, services, strict=True)]
    renewal = _Renewal(config, place.runtime, workers)
    desk = Together(lambda: workers, renewal.reload, renewal.refused_for)
    numbers = SharedNumbers.open(Path(numbers_of(place.runtime)), desk_row(shards))
    metrics = _Metrics(services, numbers)
    try:
        async with _face(config, desk, metrics) as server:
            leash.say(Ready(admin=str(server.endpoint)))
            await stopped.wait()
    except OSError as error:
        leash.say(Failed(str(error), passing=False))
        return 1
    return 0


@dataclass(slots=True)
class _Renewal:
    """Lets all workers go on by what the configuration's file says now."""

    config: Config
    runtime: str
    workers: Sequence[Worker]

    async def reload(self, by: str) -> Reloaded:
        """Raises: OperationError; then nothing has changed, or the text names the worker that did not follow."""
        self.config = await asyncio.to_thread(accept, self.runtime, self.config)
        reloaded = Reloaded(revision(self.config.text))
        for worker in self.workers:
            try:
                reloaded = await worker.desk.reload(by=by)
            except OperationError as failure:
                why = f"{worker.name} did not follow: {failure.error}"
                raise OperationError(failure.kind, why, "ask again; a worker that is begun again has it") from failure
        return reloaded

    async def refused_for(self, proposal: Proposal) -> Sequence[str]:
        """What a reload would refuse it for, as it is judged for all workers at once."""
        new = await asyncio.to_thread(parsed, proposal)
        return () if isinstance(new, Complaints) else refused_for(self.config, new)


@asynccontextmanager
async def _face(config: Config, desk: Together, metrics: _Metrics) -> AsyncIterator[AdminServer]:
    """The API and the dashboard of the whole."""
    clock, ring = SystemClock(), keyring(config)
    await asyncio.to_thread(ring.refresh)

    async def counts() -> Counts:
        status = await desk.status()
        return Counts(status.messages, status.recipients, status.held, status.reports_due)

    flow = FlowKeeper(metrics.totals, counts, clock)
    watching = [asyncio.create_task(flow.run()), asyncio.create_task(ring.watch(clock, lambda _news: None))]
    try:
        async with AdminServer(
            desk,
            config.admin.address,
            metrics=metrics.collect,
            not_ready=desk.not_ready,
            guard=guard_of(config, clock),
            board=board_of(config, ring, flow, clock),
            tls=tls_of(config, ring),
        ) as server:
            yield server
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Metrics:
    """What all workers count, and what is counted of them."""

    workers: Sequence[ServiceDesk]
    numbers: SharedNumbers
    gone: Gone = field(default_factory=Gone)

    async def collect(self) -> bytes:
        """In Prometheus' text format. Of a worker that does not answer, what it had counted is told; it is down."""
        heard = await asyncio.gather(*(_metrics(worker) for worker in self.workers))
        texts = [text.decode() for text in heard]
        return await asyncio.to_thread(self._summed, texts)

    def _summed(self, texts: Sequence[str]) -> bytes:
        up = [text for text in texts if text]
        return summed([*up, self.gone.text(dict(enumerate(texts)))], self._of_workers(len(up)))

    async def totals(self) -> Mapping[str, float]:
        """What has flowed through all of them since they began, by the names of a Sample's fields."""
        return await asyncio.to_thread(totals_in, (await self.collect()).decode())

    def _of_workers(self, up: int) -> Iterable[Metric]:
        gauge = GaugeMetricFamily("waypost_workers", "Workers there are to be, and those that answer", labels=["state"])
        gauge.add_metric(("wanted",), len(self.workers))
        gauge.add_metric(("up",), up)
        restarts = CounterMetricFamily("waypost_worker_restarts", "Workers that died and were begun again")
        restarts.add_metric((), self.numbers.total(RESTARTS))
        return gauge, restarts


async def _metrics(worker: ServiceDesk) -> bytes:
    try:
        return await worker.metrics()
    except OperationError as failure:
        structlog.get_logger().warning("a worker does not tell its metrics", at=worker.address.host, why=failure.error)
        return b""
