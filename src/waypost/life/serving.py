"""One process that serves, from its start to its end: signals, and whoever else may tell it to stop.

SIGTERM and SIGINT let what is under way end; a second one does not wait for it. SIGHUP looks at what has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import uvloop

from waypost.admin.answers import ListenerFacts
from waypost.app import REAL, Parts, Running, running
from waypost.config import Config
from waypost.life.handover import Offer
from waypost.life.hangup import let_come
from waypost.life.notify import Notifier
from waypost.life.quick import quicken


@dataclass(frozen=True, slots=True)
class Serving:
    """The service takes mail: clients come to `listeners`, questions to `admin`."""

    listeners: tuple[ListenerFacts, ...]
    admin: str


#: Tells a process that another has its listeners: clients it has are not told to come back, but served to their end.
REPLACED: Final = signal.SIGUSR1


class Superior(Protocol):
    """Somebody besides this process' signals who may end it."""

    def ready(self, running: Running, trouble: Sequence[str]) -> None:
        """It serves. `trouble`: why it takes no mail all the same, a sentence each."""
        ...

    def listen(self, stop: Callable[[], None]) -> None:
        """Call `stop` when the process is to end. Called on the loop, once."""
        ...

    def reloading(self) -> None:
        """Another configuration is being put in force."""
        ...

    def reloaded(self, status: str) -> None:
        """It is in force, or was refused; mail is taken as ever."""
        ...

    def stopping(self) -> None:
        """It ends, and what is under way may."""
        ...


@dataclass(slots=True)
class Manager:
    """Who starts one process by itself: a shell, or systemd. `told`: what is done once mail is taken.

    Another process may come to replace this one; it gets the sockets, and this one ends.
    """

    spool: Path
    told: Callable[[Serving], None]
    notifier: Notifier
    _offers: list[Offer] = field(default_factory=list)  # at most one, kept to the end of the process

    def ready(self, running: Running, trouble: Sequence[str]) -> None:
        serving = Serving(running.operations.facts.listeners, str(running.admin_endpoint))
        self._offer(running)
        self.told(serving)
        self.notifier.ready(
            "; ".join(trouble) or f"takes mail on {', '.join(one.address for one in serving.listeners)}"
        )
        self._show_life()

    def listen(self, stop: Callable[[], None]) -> None:
        pass

    def reloading(self) -> None:
        self.notifier.reloading()

    def reloaded(self, status: str) -> None:
        self.notifier.ready(status)

    def stopping(self) -> None:
        self.notifier.stopping("what is under way may end")
        for offer in self._offers:
            if offer.fileno() >= 0:  # nobody has come
                asyncio.get_running_loop().remove_reader(offer.fileno())
                offer.close()

    def _offer(self, running: Running) -> None:
        loop = asyncio.get_running_loop()
        try:
            offer = Offer.open(self.spool)
        except OSError as error:
            running.log.logger.warning("this service cannot be replaced while it runs", detail=str(error))
            return

        self._offers.append(offer)

        def asked() -> None:
            if offer.give(running.sockets()):
                running.log.logger.info("another process takes the listeners over")
                loop.remove_reader(offer.fileno())
                offer.close()
                os.kill(os.getpid(), REPLACED)

        loop.add_reader(offer.fileno(), asked)

    def _show_life(self) -> None:
        """Twice as often as is asked for: a loop that hangs tells nothing, and is begun anew."""
        if self.notifier.watchdog:
            self.notifier.alive()
            asyncio.get_running_loop().call_later(self.notifier.watchdog.total_seconds() / 2, self._show_life)


@dataclass(slots=True)
class _End:
    """Whether the end has been asked for, and asked for again."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    gently: bool = False

    def replaced(self) -> None:
        """Another process has the listeners."""
        self.gently = True
        self.tell()

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
    loop.add_signal_handler(REPLACED, end.replaced)
    superior.listen(end.tell)
    async with running(config, parts=parts) as service:
        # A closed terminal must not end a mail service: until here SIGHUP was kept back (hangup.py).
        loop.add_signal_handler(signal.SIGHUP, lambda: _reload(service, superior))
        let_come()
        quicken()
        _spare_the_collector()
        superior.ready(service, await _trouble(service))
        await end.stopped.wait()
        within = config.service.stop_within.total_seconds()
        service.log.logger.info("stopping: what is under way may end", within_seconds=within)
        superior.stopping()
        if end.gently:
            await service.let_end(config.service.stop_within / 4)
        hastening = asyncio.create_task(_hasten(service, end.hurried))
    hastening.cancel()
    service.log.logger.info("stopped: what is left waits in the spool")
    service.log.close()
    return 0


async def _trouble(service: Running) -> Sequence[str]:
    """What a client would find: our own is the first. Mail that waits is delivered all the same."""
    trouble = await service.operations.not_ready()
    if trouble:
        service.log.logger.warning("it runs, and takes no mail", why="; ".join(trouble))
    return trouble


def _reload(service: Running, superior: Superior) -> None:
    superior.reloading()
    service.reload(superior.reloaded)


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
    """What was built at the start stays for good: it is never looked through again."""
    gc.collect()
    gc.freeze()
