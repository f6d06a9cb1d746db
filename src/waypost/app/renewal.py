"""Another configuration, put in force while the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

from waypost.admin import revisions
from waypost.admin.answers import FailureKind, OperationError, Reloaded
from waypost.admin.operations import Operations
from waypost.app.administration import in_force_of
from waypost.app.base import Base, changed_by
from waypost.app.delivery import Alarm, calls_of, carriers_of, relays_of, smtp_of
from waypost.app.journals import TellingJournal
from waypost.app.parts import Parts
from waypost.app.reception import doors_of, house_of, listener_facts
from waypost.app.reports import tls_reporter_of
from waypost.app.upkeep import reroute, tell_certificates, watch_certificates
from waypost.app.works import Works, share
from waypost.config import Complaints, Config
from waypost.config.change import needs_restart, revision
from waypost.net.listener import ListenError
from waypost.policy.gate import WatchedGate
from waypost.queue.storage import StorageError
from waypost.receive.http import HttpDoor


@dataclass(slots=True)
class Renewal:
    """Puts another configuration in force, whole or not at all. Nobody's session ends for it."""

    base: Base
    parts: Parts
    works: Works
    web_doors: Sequence[HttpDoor]
    operations: tuple[Operations, ...] = ()  # at most one
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _signals: asyncio.Lock = field(default_factory=asyncio.Lock)
    _one_waits: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, told: Callable[[str], None]) -> None:
        """Reload at a signal: whatever comes of it stands in the log, and in a sentence `told` hears of it.

        While one waits for another to end, a third is that one: it will read what the file says by then.
        """
        if self._one_waits:
            return
        self._one_waits = True
        task = asyncio.get_running_loop().create_task(self._at_signal(told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _at_signal(self, told: Callable[[str], None]) -> None:
        async with self._signals:
            self._one_waits = False
            await self._reloaded(told)

    async def _reloaded(self, told: Callable[[str], None]) -> None:
        try:
            reloaded = await self.reload("SIGHUP")
        except OperationError as failure:
            said = {"why": failure.error, "remedy": failure.remedy}
            self.base.log.logger.error("the configuration was not reloaded", **said)  # noqa: TRY400 - no defect
            told(f"the configuration was not reloaded: {failure.error}")
        except Exception as error:
            self.base.log.logger.exception("the configuration was not reloaded", exc_info=error)
            told("the configuration was not reloaded; the log has the defect")
        else:
            told(f"goes on by configuration {reloaded.revision}")

    async def end(self) -> None:
        """Let go of what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reload(self, by: str) -> Reloaded:
        """Read the file, and go on by it. Raises: OperationError, with every complaint; then nothing has changed."""
        async with self._one_at_a_time:
            base = self.base
            base.log.logger.info("reloading", by=by)
            config = await asyncio.to_thread(self.parts.read, base.config)
            if isinstance(config, Complaints):
                raise OperationError(FailureKind.REFUSED, str(config), "nothing has changed; mend the file")
            fixed = needs_restart(base.config, config)
            if fixed:
                raise OperationError(FailureKind.REFUSED, "; ".join(fixed), "nothing has changed; start again")
            await self._adopt(config)
            return await self.note(by)

    async def _adopt(self, config: Config) -> None:
        base, changed = self.base, changed_by(self.base, config, self.parts)
        tell_certificates(base.log, changed.keyring.refresh())
        try:
            calls = calls_of(changed, self.parts.dialer(), self.works.dots)
            await self.works.receiver.adopt(doors_of(changed), house_of(changed, self.works.dispatcher, calls))
        except ListenError as error:
            raise OperationError(FailureKind.UNAVAILABLE, str(error), "nothing has changed") from error
        for one in fields(Base):
            setattr(base, one.name, getattr(changed, one.name))
        policy = config.retry_policy()
        self.works.dispatcher.adopt(base.table, policy)
        dialer = self.parts.dialer()
        carriers, in_force = carriers_of(base, smtp_of(base, dialer, self.works.dots)), in_force_of(base)
        relays = relays_of(base, self.works.dispatcher)
        self.works.dispatcher.runner.adopt(carriers, relays, in_force.rewritings, policy)
        self.works.reporter.routes, self.works.reporter.sign = base.table, base.signing.usual
        if isinstance(base.journal, TellingJournal):
            base.journal.notices.sign = base.signing.usual
        base.keeper.alarm = Alarm(base, self.works.dispatcher)
        self.works.watch.again("certificate watcher", partial(watch_certificates, base))
        if config.tls_reporting.enabled:
            self.works.watch.again("TLS reporter", tls_reporter_of(base, self.works.dispatcher).run)
        if isinstance(base.gate, WatchedGate) and base.gate.lists.lists:
            self.works.watch.again("prober of lists in DNS", base.gate.lists.watch)
        for operations in self.operations:
            operations.in_force = in_force
            operations.facts = replace(
                operations.facts, listeners=listener_facts(base, self.works.receiver, self.web_doors)
            )
        try:
            await reroute(base.storage, base.table, base.log)
        except StorageError as error:
            base.log.logger.warning("what waits could not be rerouted", detail=str(error))
        for exchange in base.exchanges:
            share(base, self.works.dispatcher, exchange)
        self.works.dispatcher.wake()

    async def note(self, by: str) -> Reloaded:
        """Keep what is in force, to look at and to go back to. A shelf in trouble costs no more than that."""
        base = self.base
        name = revision(base.config.text)
        try:
            where = base.config.where
            await revisions.note(base.storage, base.config.text, by=by, where=where, now=base.clock.now())
        except StorageError as error:
            base.log.logger.warning("the configuration's text was not kept", revision=name, detail=str(error))
        base.log.logger.info("in force", revision=name, by=by)
        return Reloaded(name)
