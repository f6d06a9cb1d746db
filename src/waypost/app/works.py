"""What moves mail, begun and shared with the other processes of its queue."""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from waypost.app.base import Base
from waypost.app.delivery import calls_of, dispatcher_of, final_dot_marks
from waypost.app.fetching import call_providers
from waypost.app.journals import TellingJournal
from waypost.app.parts import Parts
from waypost.app.reception import house_of, receiver_of
from waypost.app.reports import reporter_of
from waypost.app.upkeep import begin_upkeep, heed_frost
from waypost.app.watch import Watch
from waypost.deliver.authorisations import ShelvedTokens
from waypost.deliver.dispatch import Dispatcher
from waypost.deliver.dots import Dots
from waypost.policy.gate import WatchedGate
from waypost.queue.exchange import Exchange
from waypost.queue.storage import StorageError
from waypost.receive.server import Receiver
from waypost.report.reporter import Reporter
from waypost.route.mta_sts import KeptPolicy


@dataclass(frozen=True, slots=True)
class Works:
    """What moves mail."""

    dots: Dots
    dispatcher: Dispatcher
    reporter: Reporter
    receiver: Receiver
    watch: Watch

    async def hurry(self) -> None:
        """End what it waits for now."""
        await self.receiver.stop(timedelta())
        await self.dispatcher.stop(timedelta())


async def begin_works(base: Base, parts: Parts, stack: AsyncExitStack) -> Works:
    """Deliver and report from now on; nobody is let in yet."""
    stop_within = base.config.service.stop_within
    dots = stack.enter_context(final_dot_marks(base))
    dispatcher = dispatcher_of(base, parts, dots)
    stack.push_async_callback(dispatcher.stop, stop_within * 3 / 4)
    reporter = reporter_of(base, dispatcher)
    receiver = receiver_of(base, parts, house_of(base, dispatcher, calls_of(base, parts.dialer(), dots)))
    stack.push_async_callback(receiver.stop, stop_within / 4)
    watch = await stack.enter_async_context(Watch.over(base.log, base.clock))
    await _join(base, dispatcher)
    begin_upkeep(watch, base, dispatcher, reporter)
    if parts.picks_up:
        call_providers(watch, base, parts.dialer(), receiver)
    if isinstance(base.journal, TellingJournal):
        stack.push_async_callback(base.journal.notices.tell)  # what was gathered is not lost when it stops
    return Works(dots, dispatcher, reporter, receiver, watch)


def share(base: Base, dispatcher: Dispatcher, exchange: Exchange) -> None:
    """Let what is learnt here be known to the other processes of the queue, and the other way round."""
    attempts, policies = base.logins.attempts, base.policies
    base.keeper.fellows = ShelvedTokens(base.storage, base.clock)
    dispatcher.share(exchange)
    base.helo.share(exchange)
    base.health.share(exchange)
    if isinstance(base.gate, WatchedGate):
        base.gate.meter.share(exchange)
    attempts.tell = lambda *told: exchange.tell("login", told)
    exchange.listen("login", tuple[str, str, bool], lambda told: attempts.heard(*told))
    policies.tell = lambda kept: exchange.tell("policy", kept, key=kept.domain, until=kept.expires_at)
    exchange.listen("policy", KeptPolicy, policies.heard)


async def _join(base: Base, dispatcher: Dispatcher) -> None:
    """Hear what the others know, before anything begins."""
    await heed_frost(base, dispatcher)
    for exchange in base.exchanges:
        share(base, dispatcher, exchange)
        await exchange.join()


async def leave(base: Base) -> None:
    """Nothing of ours counts any longer with the others."""
    for exchange in base.exchanges:
        with contextlib.suppress(StorageError):  # then the others find it silent
            await exchange.leave()
