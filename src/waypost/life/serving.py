"""One process that serves, from its start to its end: signals, and whoever else may tell it to stop.

SIGTERM and SIGINT let what is under way end; a second one does not wait for it. SIGHUP looks at what has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import uvloop

from waypost.admin.answers import ListenerFacts
from waypost.app import DRAIN_DELIVERING, DRAIN_RECEIVING, REAL, Parts, Running, running
from waypost.config import Config
from waypost.life.quick import quicken


@dataclass(frozen=True, slots=True)
class Serving:
    """The service takes mail: clients come to `listeners`, questions to `admin`."""

    listeners: tuple[ListenerFacts, ...]
    admin: str


class Superior(Protocol):
    """Somebody besides this process' signals who may end it."""

    def ready(self, running: Running) -> None:
        """Mail is taken."""
        ...

    def listen(self, stop: Callable[[], None]) -> None:
        """Call `stop` when the process is to end. Called on the loop, once."""
        ...


@dataclass(frozen=True, slots=True)
class Nobody:
    """There is none; `told`: what is done once mail is taken."""

    told: Callable[[Serving], None]

    def ready(self, running: Running) -> None:
        self.told(Serving(running.operations.facts.listeners, str(running.admin_endpoint)))

    def listen(self, stop: Callable[[], None]) -> None:
        pass


@dataclass(slots=True)
class _End:
    """Whether the end has been asked for, and asked for again."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        (self.hurried if self.stopped.is_set() else self.stopped).set()


def serve(config: Config, superior: Superior, *, parts: Parts = REAL) -> int:
    """Serve until told to stop; the exit status. Raises: StorageError, ListenError, OSError: it cannot start, why."""
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_stopped(config, superior, parts))


async def _until_stopped(config: Config, superior: Superior, parts: Parts) -> int:
    end, loop = _End(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.tell)
    # A closed terminal must not end a mail service.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    superior.listen(end.tell)
    async with running(config, parts=parts) as service:
        loop.add_signal_handler(signal.SIGHUP, service.reload)
        quicken()
        _spare_the_collector()
        superior.ready(service)
        await end.stopped.wait()
        within = (DRAIN_RECEIVING + DRAIN_DELIVERING).total_seconds()
        service.log.logger.info("stopping: what is under way may end", within_seconds=within)
        hastening = asyncio.create_task(_hasten(service, end.hurried))
    hastening.cancel()
    service.log.logger.info("stopped: what is left waits in the spool")
    service.log.close()
    return 0


async def _hasten(service: Running, hurried: asyncio.Event) -> None:
    """Who asks a second time is not made to wait."""
    await hurried.wait()
    service.log.logger.warning("stopping at once: messages under way are broken off, and sent again at the next start")
    await service.hurry()


def raise_descriptor_limit() -> None:
    """As many descriptors as we are allowed: each session and each connection to a next hop is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _spare_the_collector() -> None:
    """What was built at the start stays for good; and a message in passing leaves few cycles, so look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
