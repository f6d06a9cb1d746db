"""What runs beside the mail: old things are cleared away; clock, certificates, frost and routes are followed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, assert_never

from waypost.admin.quarantine import clear_quarantine
from waypost.app.base import Base
from waypost.app.journals import TellingJournal, connect_notices
from waypost.app.reports import tls_reporter_of
from waypost.app.watch import Watch
from waypost.deliver.dispatch import Dispatcher
from waypost.net.certificates import BadCertificate, Certificate
from waypost.policy.gate import WatchedGate
from waypost.queue import deadlines
from waypost.queue.frost import Frost
from waypost.queue.storage import Selection, Storage, StorageError
from waypost.queue.watching import Watching
from waypost.report.log import Log
from waypost.report.reporter import Reporter
from waypost.route.route import NoRoute
from waypost.route.table import RouteTable

#: How often old history and captured mail are cleared away, and how many messages at a time.
SWEEP: Final = timedelta(minutes=5)
SWEPT_AT_ONCE: Final = 1000
#: How often it is asked what is frozen.
FROST_LOOK: Final = timedelta(seconds=5)
#: How often the wall clock is compared with one that cannot be set, and what counts as set back; less is drift.
CLOCK_LOOK: Final = timedelta(minutes=1)
CLOCK_STEP: Final = timedelta(minutes=5)


def begin_upkeep(watch: Watch, base: Base, dispatcher: Dispatcher, reporter: Reporter) -> None:
    """Begin all that runs by itself."""
    watch.keep("dispatcher", dispatcher.run)
    watch.keep("frost watcher", lambda: _follow_frost(base, dispatcher))
    watch.keep("reporter", reporter.run)
    watch.keep("token keeper", base.keeper.run)
    watch.keep("disk watcher", base.room.watch)
    watch.keep("certificate watcher", partial(watch_certificates, base))
    watch.keep("clock watcher", lambda: _follow_clock(base, dispatcher.wake))
    watch.keep("housekeeper", lambda: _keep_house(base))
    watch.keep("deadline keeper", lambda: deadlines.watch(base.storage, base.clock, dispatcher.wake))
    for exchange in base.exchanges:
        watch.keep("exchange with other processes", exchange.run)
    _watch_peers(watch, base)
    _keep_what_was_asked_for(watch, base, dispatcher)


def _watch_peers(watch: Watch, base: Base) -> None:
    """What is known of other servers is kept up to date."""
    watch.keep("keeper of MTA-STS policies", base.policies.keep)
    watch.keep("prober of servers", base.health.watch)


def _keep_what_was_asked_for(watch: Watch, base: Base, dispatcher: Dispatcher) -> None:
    """The parts that run only where the configuration has them."""
    if base.config.tls_reporting.enabled:
        watch.keep("TLS tally", base.tls_tally.keep)
        watch.keep("TLS reporter", tls_reporter_of(base, dispatcher).run)
    if isinstance(base.journal, TellingJournal):
        connect_notices(base.journal.notices, dispatcher)
        watch.keep("notices", base.journal.notices.run)
    if isinstance(base.gate, WatchedGate) and base.gate.lists.lists:
        watch.keep("prober of lists in DNS", base.gate.lists.watch)


async def _keep_house(base: Base) -> None:
    storage, clock = base.storage, base.clock
    while True:
        config = base.config
        before = clock.now() - config.history.keep.total_seconds()
        binned_before = clock.now() - min(config.history.bin, config.history.keep).total_seconds()
        with contextlib.suppress(StorageError):
            await clear_quarantine(storage, clock.now(), config.strangers.screening.keep)
        with contextlib.suppress(StorageError):  # a store in trouble is told of by those who need it; this can wait
            while await storage.empty_bin(before=binned_before, limit=SWEPT_AT_ONCE):
                await clock.sleep(timedelta(milliseconds=10))
            while await storage.forget(before=before, limit=SWEPT_AT_ONCE):
                await clock.sleep(timedelta(milliseconds=10))
            await storage.discard_captured(keep=config.history.captured)
            await storage.clear_shelf(now=clock.now(), limit=SWEPT_AT_ONCE)
        await clock.sleep(SWEEP)


async def heed_frost(base: Base, dispatcher: Dispatcher) -> None:
    """Let the dispatcher know what is frozen, and the journal who is watched."""
    dispatcher.freeze(await Frost(base.storage, base.clock).all())
    hear(base, list(await Watching(base.storage, base.clock).all()))


def hear(base: Base, peers: Collection[str]) -> None:
    """Whose dialogues are logged from now on: what hosts and clients say alike."""
    base.journal.watched = base.ears.watched = peers


async def _follow_frost(base: Base, dispatcher: Dispatcher) -> None:
    """Another process of this queue may have frozen or thawed something."""
    while True:
        await base.clock.sleep(FROST_LOOK)
        with contextlib.suppress(StorageError):  # a store in trouble is told of by those who need it; this can wait
            await heed_frost(base, dispatcher)


async def _follow_clock(base: Base, changed: Callable[[], None]) -> None:
    """What waits is due at a time of the wall clock: where that is set back, it is tried once, and due anew from then.

    Without this, mail deferred while the clock was ten years ahead would wait for ten years.
    """
    clock, storage = base.clock, base.storage
    shift = clock.now() - clock.monotonic()
    while True:
        await clock.sleep(CLOCK_LOOK)
        now = clock.now() - clock.monotonic()
        if shift - now > CLOCK_STEP.total_seconds():
            try:
                recipients = await storage.retry(Selection(), now=clock.now())
            except StorageError:
                continue  # a store in trouble is told of by those who need it; the next look tries this again
            changed()
            base.log.logger.warning("the clock was set back", seconds=round(shift - now), tried_now=recipients)
        shift = now


async def watch_certificates(base: Base) -> None:
    """Read them again where their files change."""
    await base.keyring.watch(base.clock, partial(tell_certificates, base.log))


def tell_certificates(log: Log, news: Sequence[Certificate | BadCertificate]) -> None:
    """Say what was read, and what could not be."""
    for found in news:
        match found:
            case Certificate():
                log.logger.info(
                    "certificate read", file=str(found.files), names=list(found.names), last_day=found.last_day
                )
            case BadCertificate():
                log.logger.error("certificate not read: what was read before stays in use", text=str(found))
            case _:
                assert_never(found)


async def reroute(storage: Storage, table: RouteTable, log: Log) -> None:
    """Let what waits in the queue follow the route table in force, should it have been changed meanwhile."""
    for next_hop, domain in await storage.hops():
        route = table.route_domain(domain)
        if isinstance(route, NoRoute) or route.next_hop == next_hop or table.is_by_name(next_hop):
            continue
        moved = await storage.rehop(next_hop, domain, route.next_hop)
        log.logger.info("rerouted", domain=domain, was=next_hop, next_hop=route.next_hop, recipients=moved)
