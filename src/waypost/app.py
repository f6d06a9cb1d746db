"""The only wiring: builds the parts a Config describes, passes them to one another, starts, watches and stops them.

    Receiver ──→ queue ──→ Dispatcher ──→ queue ──→ Reporter ──→ queue …      AdminServer looks on

Starting: the spool first, the listeners last, so that no mail is taken before there is somebody to keep it. Stopping
goes the other way round. What runs by itself is watched: a part that dies is named in the log and begun again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from waypost import __version__, is_compiled
from waypost.admin import revisions
from waypost.admin.answers import Expiring, FailureKind, ListenerFacts, OperationError, Reloaded, ServiceFacts
from waypost.admin.face import board_of, guard_of, tls_of
from waypost.admin.flow import FlowKeeper, Totals
from waypost.admin.http import AdminServer
from waypost.admin.operations import Operations
from waypost.admin.quarantine import clear_quarantine
from waypost.auth.authenticator import Authenticator
from waypost.auth.keeper import Keeper
from waypost.auth.tokens import TokenStoreError
from waypost.config import Complaints, Config, load
from waypost.config.change import needs_restart, revision
from waypost.config.dkim import Signings, build_signing
from waypost.config.model import Listener
from waypost.config.notices import recipients_of
from waypost.config.parts import (
    access,
    authenticator,
    copies,
    expander,
    gate,
    hooks,
    host_finder,
    https,
    keeper,
    keyring,
    login_at,
    maps,
    mechanisms,
    relay_policy,
    resolver_settings,
    rewritings,
    senders,
    spool,
    sts_keeper,
    tls_reporter,
)
from waypost.deliver.authorisations import ShelvedTokens
from waypost.deliver.calls import Callers, Calls
from waypost.deliver.calls import Means as CallMeans
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.crowd import Capacity
from waypost.deliver.destination import Destination
from waypost.deliver.dispatch import Dispatcher
from waypost.deliver.dots import UNMARKED, Dots, Fenced, Marked
from waypost.deliver.fetch import Fetcher
from waypost.deliver.health import HostHealth
from waypost.deliver.maildir import MaildirDelivery
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pipe import PipeDelivery
from waypost.deliver.pool import Pool
from waypost.deliver.quotas import Quotas
from waypost.deliver.relays import OPEN_HOUSES, Houses, Relays
from waypost.deliver.runner import Carriers, Runner
from waypost.deliver.settler import Settler
from waypost.deliver.sharing import NodeShares
from waypost.deliver.smtp import SmtpDelivery
from waypost.deliver.tls_watch import NoListener
from waypost.deliver.webhook import WebhookDelivery
from waypost.hooks.calls import Hooks
from waypost.hooks.load import HookError
from waypost.hooks.runtime import OwnThread, Runtime
from waypost.mail.attempt import Attempt
from waypost.mail.dkim import KeyFileError
from waypost.mail.envelope import NextHop
from waypost.maps.lookup import Map
from waypost.net.certificates import BadCertificate, Certificate, Keyring
from waypost.net.clock import Clock, Instant, SystemClock
from waypost.net.dialer import AsyncioDialer, Dialer
from waypost.net.https import AiohttpHttps
from waypost.net.listener import ListenError
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint, Stream
from waypost.net.stub_resolver import DnspythonResolver
from waypost.net.tls import client_context
from waypost.policy.admission import Admission
from waypost.policy.gate import OpenGate, WatchedGate
from waypost.policy.hooked import Hooked
from waypost.queue import deadlines, salvage
from waypost.queue.exchange import Exchange
from waypost.queue.frost import Frost
from waypost.queue.ids import MessageIds
from waypost.queue.schedule import RetryPolicy
from waypost.queue.space import Room
from waypost.queue.storage import Durability, Notice, Selection, Settled, Storage, StorageError
from waypost.queue.watching import Dialogues, Watching
from waypost.receive.authorship import FromField
from waypost.receive.body import InFlight
from waypost.receive.house import House
from waypost.receive.http import Guard, HttpDoor
from waypost.receive.intake import NOWHERE, Intake
from waypost.receive.overheard import Ears
from waypost.receive.pickup import Pickup
from waypost.receive.ports import UNTRACED, Traced
from waypost.receive.probe import NoProbe, Probe
from waypost.receive.resent import Resent
from waypost.receive.server import Receiver
from waypost.receive.settings import Door, ReceiveSettings, Relaying
from waypost.receive.transactions import MAX_RECIPIENTS
from waypost.receive.turns import QueueTurns
from waypost.report.alarm import AuthorisationAlarm
from waypost.report.common_notices import Class
from waypost.report.journal import Journal
from waypost.report.journald import ToJournal
from waypost.report.log import Log
from waypost.report.metrics import Metrics
from waypost.report.notices import BounceKind, Notices, Terms
from waypost.report.noticing import NoticingJournal
from waypost.report.pen import Aside, AtOnce
from waypost.report.reporter import Reporter
from waypost.report.tls_reporter import TlsReporter
from waypost.report.tls_tally import TlsTally
from waypost.route.hosts import HostFinder
from waypost.route.level import TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.provider import Provider
from waypost.route.route import NoRoute, OnCall, Route
from waypost.route.state import Phase
from waypost.route.sts_keeper import StsKeeper
from waypost.route.table import RouteTable
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSettings

#: Before a part that died is begun again.
REVIVAL: Final = timedelta(seconds=1)
#: How often old history and captured mail are cleared away, and how many messages at a time.
SWEEP: Final = timedelta(minutes=5)
SWEPT_AT_ONCE: Final = 1000
#: How often it is asked what is frozen.
FROST_LOOK: Final = timedelta(seconds=5)
#: How often the wall clock is compared with one that cannot be set, and what counts as set back; less is drift.
CLOCK_LOOK: Final = timedelta(minutes=1)
CLOCK_STEP: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that takes mail now."""

    receive_endpoints: tuple[Endpoint, ...]
    admin_endpoint: Endpoint
    operations: Operations
    log: Log
    #: While it stops: end what it waits for now.
    hurry: Callable[[], Awaitable[None]]
    #: Read the configuration and the certificates' files anew, in a task of its own; then tell what came of it.
    reload: Callable[[Callable[[str], None]], None]
    #: Take no more clients, and let those there are end by themselves: another process is there for the others.
    let_end: Callable[[timedelta], Awaitable[None]]
    #: What clients' connections come in by.
    sockets: Callable[[], Sequence[socket.socket]]


def _read_again(config: Config) -> Config | Complaints:
    return load(Path(config.where))


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that meet the world outside; a benchmark or a test puts others in their place."""

    clock: Callable[[], Clock] = SystemClock
    storage: Callable[[Config], Storage] = spool
    dialer: Callable[[], Dialer] = AsyncioDialer
    receiver: Callable[[tuple[Door, ...], House], Receiver] = Receiver
    runtime: Callable[[str], Runtime] = OwnThread  # where a module's hooks run
    #: Listening sockets that another process opened for us.
    sockets: Callable[[], Sockets] = Sockets
    #: Whether clients come to this process; and whether it does what one of several does: takes up files, calls others.
    takes_mail: bool = True
    picks_up: bool = True
    #: Whether readiness visits our own listeners, as a client would.
    probes: bool = True
    destination: Callable[[NextHop, Route | NoRoute, RetryPolicy, Instant], Destination] = Destination
    #: Whether other processes of this machine share the spool's shelf; of other machines, the configuration tells.
    has_fellows: bool = False
    ids: Callable[[Clock, random.Random], MessageIds] = MessageIds
    #: Where the configuration is read from again, by the one in force.
    read: Callable[[Config], Config | Complaints] = _read_again
    #: What every line of the log says besides.
    log_fields: Mapping[str, object] = field(default_factory=dict)


REAL: Final = Parts()


@asynccontextmanager
async def running(config: Config, *, parts: Parts = REAL) -> AsyncIterator[Running]:
    """The service, while the block lasts. Raises: StorageError, ListenError, OSError: it cannot start, and why."""
    base = _base(config, parts)
    async with AsyncExitStack() as stack:
        await _open(base, stack)
        works = await _works(base, parts, stack)
        web_doors = await _open_doors(base, parts, works, stack)
        renewal = _Renewal(base, parts, works, web_doors)
        stack.push_async_callback(renewal.end)
        operations = _operations(base, _listeners(base, works.receiver, web_doors), works, _probe(base, parts, works))
        operations.renew, renewal.operations = renewal.reload, (operations,)
        await renewal.note("start")
        admin = _admin_server(base, operations, works.watch)
        await stack.enter_async_context(admin)
        _say_what_runs(base.log, operations.facts)
        yield Running(
            _endpoints(base, works.receiver, web_doors),
            admin.endpoint,
            operations,
            base.log,
            works.hurry,
            renewal.begin,
            works.receiver.let_end,
            lambda: works.receiver.sockets,
        )


async def _open(base: _Base, stack: AsyncExitStack) -> None:
    """Have the spool, and take up what was left in it."""
    _tell_certificates(base.log, base.keyring.refresh())
    await base.storage.open(owner=f"{socket.gethostname()}:{os.getpid()}")
    stack.push_async_callback(base.storage.close)
    stack.push_async_callback(base.resolver.close)
    stack.callback(base.logins.close)
    stack.push_async_callback(base.journal.traces.close)
    stack.callback(base.hooks.close)
    stack.push_async_callback(_leave, base)
    await _take_up(base)
    stack.push_async_callback(base.policies.close)
    stack.push_async_callback(_write_tally, base)
    try:
        await _reroute(base.storage, base.table, base.log)
    except StorageError as error:  # mail that waits for an old route is worth less than all that could come
        base.log.logger.warning("what waits could not be rerouted", detail=str(error))


@dataclass(frozen=True, slots=True)
class _Works:
    """What moves mail."""

    dots: Dots
    dispatcher: Dispatcher
    reporter: Reporter
    receiver: Receiver
    watch: _Watch

    async def hurry(self) -> None:
        """End what it waits for now."""
        await self.receiver.stop(timedelta())
        await self.dispatcher.stop(timedelta())


async def _works(base: _Base, parts: Parts, stack: AsyncExitStack) -> _Works:
    """Deliver and report from now on; nobody is let in yet."""
    stop_within = base.config.service.stop_within
    dots = stack.enter_context(_marks(base))
    dispatcher = _dispatcher(base, parts, dots)
    stack.push_async_callback(dispatcher.stop, stop_within * 3 / 4)
    reporter = _reporter(base, dispatcher)
    receiver = _receiver(base, parts, _house(base, dispatcher, _calls(base, parts.dialer(), dots)))
    stack.push_async_callback(receiver.stop, stop_within / 4)
    watch = await stack.enter_async_context(_Watch.over(base.log, base.clock))
    await _join(base, dispatcher)
    _begin(watch, base, dispatcher, reporter)
    _watch_peers(watch, base)
    _keep_what_was_asked_for(watch, base, dispatcher)
    if parts.picks_up:
        _call_providers(watch, base, parts.dialer(), receiver)
    if isinstance(base.journal, _NoticingJournal):
        stack.push_async_callback(base.journal.notices.tell)  # what was gathered is not lost when it stops
    return _Works(dots, dispatcher, reporter, receiver, watch)


async def _open_doors(base: _Base, parts: Parts, works: _Works, stack: AsyncExitStack) -> Sequence[HttpDoor]:
    """Let mail in; the doors of it that are HTTP."""
    await works.receiver.start()
    doors = _web_doors(base, works.receiver, parts.sockets())
    web_doors = [await stack.enter_async_context(door) for door in doors]
    if base.config.pickup.directory and parts.picks_up:
        works.watch.keep("pickup", _pickup(base, works.receiver).run)
    return web_doors


def _say_what_runs(log: Log, facts: ServiceFacts) -> None:
    log.logger.info(
        "serving", durability=facts.durability, spool=facts.spool, version=facts.version, compiled=facts.compiled
    )


def _begin(watch: _Watch, base: _Base, dispatcher: Dispatcher, reporter: Reporter) -> None:
    """Begin all that runs by itself."""
    watch.keep("dispatcher", dispatcher.run)
    watch.keep("frost watcher", lambda: _follow_frost(base, dispatcher))
    watch.keep("reporter", reporter.run)
    watch.keep("token keeper", base.keeper.run)
    watch.keep("disk watcher", base.room.watch)
    watch.keep("certificate watcher", partial(_watch_certificates, base))
    watch.keep("clock watcher", lambda: _follow_clock(base, dispatcher.wake))
    watch.keep("housekeeper", lambda: _keep_house(base))
    watch.keep("deadline keeper", lambda: deadlines.watch(base.storage, base.clock, dispatcher.wake))
    for exchange in base.exchanges:
        watch.keep("exchange with other processes", exchange.run)


def _share(base: _Base, dispatcher: Dispatcher, exchange: Exchange) -> None:
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


async def _join(base: _Base, dispatcher: Dispatcher) -> None:
    """Hear what the others know, before anything begins."""
    await _heed_frost(base, dispatcher)
    for exchange in base.exchanges:
        _share(base, dispatcher, exchange)
        await exchange.join()


async def _leave(base: _Base) -> None:
    for exchange in base.exchanges:
        with contextlib.suppress(StorageError):  # then the others find it silent
            await exchange.leave()


# ---- another configuration
@dataclass(slots=True)
class _Renewal:
    """Puts another configuration in force, whole or not at all. Nobody's session ends for it."""

    base: _Base
    parts: Parts
    works: _Works
    web_doors: Sequence[HttpDoor]
    operations: tuple[Operations, ...] = ()  # at most one
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, told: Callable[[str], None]) -> None:
        """Reload at a signal: whatever comes of it stands in the log, and in a sentence `told` hears of it."""
        task = asyncio.get_running_loop().create_task(self._at_signal(told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _at_signal(self, told: Callable[[str], None]) -> None:
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
        base, changed = self.base, _by(self.base, config, self.parts)
        _tell_certificates(base.log, changed.keyring.refresh())
        try:
            calls = _calls(changed, self.parts.dialer(), self.works.dots)
            await self.works.receiver.adopt(_doors(changed), _house(changed, self.works.dispatcher, calls))
        except ListenError as error:
            raise OperationError(FailureKind.UNAVAILABLE, str(error), "nothing has changed") from error
        for one in fields(_Base):
            setattr(base, one.name, getattr(changed, one.name))
        policy = config.retry_policy()
        self.works.dispatcher.adopt(base.table, policy)
        dialer = self.parts.dialer()
        carriers, rewriting = _carriers(base, _smtp(base, dialer, self.works.dots)), rewritings(config, base.maps)
        self.works.dispatcher.runner.adopt(carriers, _relays(base, self.works.dispatcher), rewriting, policy)
        self.works.reporter.routes, self.works.reporter.sign = base.table, base.signing.usual
        if isinstance(base.journal, _NoticingJournal):
            base.journal.notices.sign = base.signing.usual
        base.keeper.alarm = _Alarm(base, self.works.dispatcher)
        self.works.watch.again("certificate watcher", partial(_watch_certificates, base))
        if config.tls_reporting.enabled:
            self.works.watch.again("TLS reporter", _tls_reporter(base, self.works.dispatcher).run)
        if isinstance(base.gate, WatchedGate) and base.gate.lists.lists:
            self.works.watch.again("prober of lists in DNS", base.gate.lists.watch)
        for operations in self.operations:
            operations.config, operations.table, operations.finder = config, base.table, base.finder
            operations.admission, operations.gate, operations.rewritings = base.admission, base.gate, rewriting
            operations.facts = replace(
                operations.facts, listeners=_listeners(base, self.works.receiver, self.web_doors)
            )
        try:
            await _reroute(base.storage, base.table, base.log)
        except StorageError as error:
            base.log.logger.warning("what waits could not be rerouted", detail=str(error))
        for exchange in base.exchanges:
            _share(base, self.works.dispatcher, exchange)
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


# ---- the parts
@dataclass(slots=True)
class _Base:
    """What the parts are built from and share; a new configuration changes some of it (`_by`).

    `listeners`: those that this process serves.
    """

    config: Config
    listeners: tuple[Listener, ...]
    clock: Clock
    dice: random.Random
    storage: Storage
    table: RouteTable
    maps: Mapping[str, Map]
    admission: Admission
    resolver: DnspythonResolver
    finder: HostFinder
    ids: MessageIds
    log: Log
    metrics: Metrics
    journal: _Journal
    room: Room
    https: AiohttpHttps
    hooks: Hooks
    policies: StsKeeper
    tls_tally: TlsTally
    logins: Authenticator
    keyring: Keyring
    signing: Signings
    keeper: Keeper
    health: HostHealth
    gate: WatchedGate | OpenGate
    pool: Pool
    helo: HostMemory
    in_flight: InFlight
    resent: Resent
    ears: Ears
    traced: Traced
    exchanges: tuple[Exchange, ...]  # at most one: where other processes share the queue


def _base(config: Config, parts: Parts) -> _Base:
    clock = parts.clock()
    dice = random.Random()  # noqa: S311 - jitter, shuffled hosts and ids that need to differ, not to be secret
    storage = parts.storage(config)
    resolver = DnspythonResolver(resolver_settings(config), clock)
    client = https(resolver)
    log, metrics = log_of(config, clock, parts.log_fields), Metrics(storage)
    table, known = config.route_table(), maps(config, clock, parts.dialer())
    ids = parts.ids(clock, dice)
    terms = _notices(config)
    journal = _NoticingJournal(log, metrics) if any(terms.recipients.values()) else _Journal(log, metrics)
    if isinstance(journal, _NoticingJournal):
        journal.notices = Notices(terms, storage, table, clock, ids, journal)
        journal.notices.sign = _signing(config).usual
    return _Base(
        config=config,
        listeners=config.listeners if parts.takes_mail else (),
        clock=clock,
        dice=dice,
        storage=storage,
        table=table,
        maps=known,
        admission=Admission(table, expander(config, clock, known)),
        resolver=resolver,
        finder=host_finder(config, resolver, dice),
        ids=ids,
        log=log,
        metrics=metrics,
        journal=journal,
        gate=gate(config, resolver, clock, storage, journal),
        https=client,
        hooks=_hooks(config, clock, journal, parts.runtime),
        policies=sts_keeper(config, resolver, client, clock),
        tls_tally=TlsTally(config.spool / "tls-reports", clock),
        logins=authenticator(config, clock),
        keeper=_keeper(config, clock),
        room=Room(storage.room, config.limits.free_space, clock),
        keyring=keyring(config),
        signing=_signing(config),
        health=HostHealth(parts.dialer(), clock),
        pool=Pool(clock),
        helo=HostMemory(clock, time_to_live=config.helo_memory.ttl),
        in_flight=InFlight(config.limits.memory),
        resent=Resent(clock, config.limits.resent),
        ears=Ears(journal, Dialogues(storage, clock), clock),
        traced=_traced(config, clock, journal),
        exchanges=(Exchange(storage, clock, _name(dice)),) if config.database or parts.has_fellows else (),
    )


def _traced(config: Config, clock: Clock, journal: Journal) -> Traced:
    """Who makes spans; the journal tells it of what has ended."""
    if not config.tracing.endpoint:
        return UNTRACED
    from waypost.report.tracing import Tracing, exporter  # noqa: PLC0415 - an extra

    made = Tracing(exporter(config.tracing.endpoint), config.service.hostname, clock, share=config.tracing.share)
    journal.traces = made
    return made


def _name(dice: random.Random) -> str:
    """What this process is called among the others: a name that none had before."""
    return f"{socket.gethostname()}:{os.getpid()}:{dice.getrandbits(32):08x}"


def _by(base: _Base, config: Config, parts: Parts) -> _Base:
    """The same by another configuration, as far as that may change while the service runs."""
    old, clock, table = base.config, base.clock, config.route_table()
    same_accounts = (old.auth, old.users, old.account_domain) == (config.auth, config.users, config.account_domain)
    known = base.maps if old.maps == config.maps else maps(config, clock, parts.dialer())
    same_memory, same_gate = old.helo_memory == config.helo_memory, old.strangers == config.strangers
    return replace(
        base,
        config=config,
        listeners=config.listeners if parts.takes_mail else (),
        table=table,
        maps=known,
        admission=Admission(table, expander(config, clock, known)),
        finder=host_finder(config, base.resolver, base.dice),
        logins=base.logins if same_accounts else authenticator(config, clock),
        keyring=keyring(config),
        signing=_signing(config),
        gate=base.gate if same_gate else gate(config, base.resolver, clock, base.storage, base.journal),
        helo=base.helo if same_memory else HostMemory(clock, time_to_live=config.helo_memory.ttl),
    )


@contextlib.contextmanager
def _marks(base: _Base) -> Iterator[Dots]:
    """Marks of final dots beside a spool on disk; without them all goes on, and a kill leaves doubts untold."""
    if base.storage.durability is Durability.MEMORY:
        yield UNMARKED
        return
    try:
        marked = Marked.open(base.config.spool / "dots", base.config.limits.deliveries)
    except OSError as error:
        base.log.logger.warning("final dots are not marked: a kill will leave doubts untold", detail=str(error))
        yield UNMARKED
        return
    with contextlib.closing(marked):
        yield Fenced(marked, base.storage.holds) if base.config.database else marked


def _call_providers(watch: _Watch, base: _Base, dialer: Dialer, receiver: Receiver) -> None:
    """Those that keep our mail are called."""
    for name, fetcher in _fetchers(base, dialer, receiver):
        watch.keep(name, fetcher.run)


def _watch_peers(watch: _Watch, base: _Base) -> None:
    """What is known of other servers is kept up to date."""
    watch.keep("keeper of MTA-STS policies", base.policies.keep)
    watch.keep("prober of servers", base.health.watch)


def _carriers(base: _Base, smtp: SmtpDelivery) -> Carriers:
    hostname, clock = base.config.service.hostname, base.clock
    return Carriers(
        smtp,
        MaildirDelivery(hostname, clock),
        WebhookDelivery(base.resolver, client_context(), clock),
        PipeDelivery(hostname, clock),
    )


def _dispatcher(base: _Base, parts: Parts, dots: Dots) -> Dispatcher:
    config, clock, journal, policy = base.config, base.clock, base.journal, base.config.retry_policy()
    relays = _relays(base)
    runner = Runner(
        _carriers(base, _smtp(base, parts.dialer(), dots)),
        relays,
        rewritings(config, base.maps),
        policy=policy,
        clock=clock,
        dice=base.dice,
        journal=journal,
        hooks=base.hooks,
        callers=Callers(base.storage, clock),
    )
    dispatcher = Dispatcher(
        base.storage,
        base.table,
        runner,
        Settler(base.storage, clock, journal, dots),
        base.pool,
        policy=policy,
        clock=clock,
        journal=journal,
        capacity=Capacity(attempts=config.limits.deliveries, reserve=config.limits.deliveries // 5),
        destination=_destination(base, parts),
    )
    relays.houses = dispatcher
    base.storage.news = dispatcher.wake
    base.metrics.destinations = dispatcher.destinations
    base.metrics.days_authorised = lambda: [state.days(clock.now()) for state in base.keeper.states()]
    base.keeper.alarm = _Alarm(base, dispatcher)
    return dispatcher


def _destination(base: _Base, parts: Parts) -> Callable[[NextHop, Route | NoRoute, RetryPolicy, Instant], Destination]:
    """What makes destinations: whose limits are those of all nodes, where there are several."""
    if base.config.database:
        return NodeShares(base.exchanges[0].numbers, base.clock).destination
    return parts.destination


def _smtp(base: _Base, dialer: Dialer, dots: Dots) -> SmtpDelivery:
    config, clock = base.config, base.clock
    ends = Ends(dialer, clock, config.service.hostname, _time_outs(config))
    opener = Opener(ends, base.helo, TlsContexts.system(), base.keeper)
    chooser = TlsChooser(base.resolver, base.policies, clock)
    listener = base.tls_tally if config.tls_reporting.enabled else NoListener()
    return SmtpDelivery(base.finder, chooser, opener, base.pool, clock, listener, dots, base.health)


def _relays(base: _Base, houses: Houses = OPEN_HOUSES) -> Relays:
    return Relays(base.table, Quotas(base.storage, base.clock), base.clock, houses)


def _reporter(base: _Base, dispatcher: Dispatcher) -> Reporter:
    service = base.config.service
    reporter = Reporter(
        base.storage,
        base.table,
        hostname=service.hostname,
        postmaster=service.postmaster,
        clock=base.clock,
        ids=base.ids,
        log=base.journal,
        filed=dispatcher.wake,
        sign=base.signing.usual,
    )
    base.journal.report_due = reporter.poke
    return reporter


def _tls_reporter(base: _Base, dispatcher: Dispatcher) -> TlsReporter:
    return TlsReporter(
        base.tls_tally,
        tls_reporter(base.config),
        resolver=base.resolver,
        https=base.https,
        storage=base.storage,
        routes=base.table,
        ids=base.ids,
        clock=base.clock,
        dice=base.dice,
        log=base.journal,
        filed=dispatcher.wake,
        sign=base.signing.tls_reports,
        name="".join(exchange.name for exchange in base.exchanges),
    )


async def _take_up(base: _Base) -> None:
    """What an earlier process knew of other domains' TLS; without it the service does its work all the same."""
    try:
        await base.policies.open()
        await base.tls_tally.open()
    except OSError as error:
        base.log.logger.warning("what was known of MTA-STS policies or TLS cannot be read", detail=str(error))


async def _write_tally(base: _Base) -> None:
    try:
        await base.tls_tally.write()
    except OSError as error:
        base.log.logger.warning("the last counts for TLS reports were lost", detail=str(error))


def _calls(base: _Base, dialer: Dialer, dots: Dots) -> Calls:
    """Who answers ETRN and ATRN."""
    config, clock, journal = base.config, base.clock, base.journal
    means = CallMeans(
        dialer,
        config.service.hostname,
        _time_outs(config),
        config.retry_policy(),
        base.dice,
        journal,
        dots,
        partial(_carriers, base),
        _relays(base),
        rewritings(config, base.maps),
    )
    settler = Settler(base.storage, clock, journal, dots)
    return Calls(base.storage, base.table, settler, Callers(base.storage, clock), clock, means)


def _fetchers(base: _Base, dialer: Dialer, receiver: Receiver) -> Iterator[tuple[str, Fetcher]]:
    """Who calls for our own mail, by ETRN or ATRN: one for each `[[fetch]]`."""
    config, clock = base.config, base.clock
    ends = Ends(dialer, clock, config.service.hostname, _time_outs(config))
    opener = Opener(ends, HostMemory(clock), TlsContexts.system(), base.keeper)
    chooser = TlsChooser(base.resolver, base.policies, clock)
    banner = Reply(220, (f"{config.service.hostname} ESMTP",))
    for provider in config.fetches:
        door = _fetch_door(config, provider)
        served = partial(_serve_provider, receiver, door, banner)
        yield (
            f"fetcher of {provider.name}",
            Fetcher(provider, base.finder, chooser, opener, served, base.storage, clock, _FetchLog(base.log)),
        )


async def _serve_provider(receiver: Receiver, door: Door, banner: Reply, stream: Stream) -> None:
    await receiver.serve(door, banner, stream, tls=stream.tls)


def _fetch_door(config: Config, provider: Provider) -> Door:
    """What a provider may do that sends us our mail over a connection of ours: bring it, for domains of ours alone."""
    smtp = ServerSettings(
        hostname=config.service.hostname,
        size_limit=config.limits.message_size,
        max_recipients=config.limits.recipients,
        max_errors=config.limits.errors,
    )
    server = provider.servers.servers[0]
    return Door(Endpoint(server.host, server.port), smtp, name=f"fetch {provider.name}", relaying=Relaying.NEVER)


class _FetchLog:
    """Tells of calls we make."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def fetched(self, name: str, text: str) -> None:
        self._log.logger.info("fetched", fetch=name, text=text)

    def fetch_failed(self, name: str, why: str) -> None:
        self._log.logger.warning("not fetched; it is tried again", fetch=name, why=why)


def _house(base: _Base, dispatcher: Dispatcher, calls: Calls) -> House:
    config = base.config
    return House(
        storage=base.storage,
        admission=base.admission,
        relay=relay_policy(config),
        access=access(config),
        senders=senders(config),
        copies=copies(config),
        hooked=Hooked(base.hooks),
        settings=_receive_settings(config),
        clock=base.clock,
        ids=base.ids,
        log=base.journal,
        onward=dispatcher,
        in_flight=base.in_flight,
        resent=base.resent,
        space=base.room,
        logins=base.logins,
        turns=QueueTurns(base.storage, base.clock, dispatcher.try_again, calls),
        gate=base.gate,
        revision=revision(config.text),
        traced=base.traced,
    )


def _web_doors(base: _Base, receiver: Receiver, sockets: Sockets) -> Sequence[HttpDoor]:
    """The listeners that take mail over HTTP."""
    config = base.config
    guard = Guard(base.logins, relay_policy(config), base.journal, base.clock, mechanisms(config))
    return [
        HttpDoor(_intake(base, receiver, _door(config, listener, base.keyring)), guard, sockets)
        for listener in base.listeners
        if listener.role == "http"
    ]


def _pickup(base: _Base, receiver: Receiver) -> Pickup:
    config = base.config
    settings = ServerSettings(
        hostname=config.service.hostname,
        size_limit=config.limits.message_size,
        max_recipients=MAX_RECIPIENTS,
        max_errors=MAX_RECIPIENTS,
    )
    door = Door(NOWHERE, settings, name="pickup", submission=True, protocol="local")
    return Pickup(config.pickup_directory, _intake(base, receiver, door), base.clock, base.journal, config.pickup.poll)


def _intake(base: _Base, receiver: Receiver, door: Door) -> Intake:
    name = f"{socket.gethostname()}:{base.config.spool}"
    return Intake(receiver.serve, door, base.storage, base.clock, base.ids, name)


def _endpoints(base: _Base, receiver: Receiver, web_doors: Sequence[HttpDoor]) -> tuple[Endpoint, ...]:
    """The addresses that are open, in the order of the configuration."""
    mail, web = iter(receiver.endpoints), iter(door.endpoint for door in web_doors)
    return tuple(next(web if listener.role == "http" else mail) for listener in base.listeners)


def _probe(base: _Base, parts: Parts, works: _Works) -> Probe | NoProbe:
    if not parts.probes:
        return NoProbe()
    return Probe(
        lambda: works.receiver.open_doors, base.storage, parts.dialer(), base.clock, base.config.service.hostname
    )


def _operations(base: _Base, listeners: tuple[ListenerFacts, ...], works: _Works, probe: Probe | NoProbe) -> Operations:
    dispatcher = works.dispatcher
    return Operations(
        storage=base.storage,
        config=base.config,
        table=base.table,
        admission=base.admission,
        finder=base.finder,
        resolver=base.resolver,
        policies=base.policies,
        clock=base.clock,
        facts=_facts(base, listeners),
        hooked=Hooked(base.hooks),
        not_ready=partial(_not_ready, base, works.watch, probe),
        warnings=lambda: _warnings(base),
        changed=dispatcher.wake,
        retried=dispatcher.try_again,
        called=Callers(base.storage, base.clock).called,
        gate=base.gate,
        rewritings=rewritings(base.config, base.maps),
        used=lambda onward: Quotas(base.storage, base.clock).used(onward.quotas, onward.credential),
        delivering=dispatcher.destinations,
        expiring=partial(_authorisations, base),
        refrozen=dispatcher.freeze,
        rewatched=partial(_hear, base),
    )


def _admin_server(base: _Base, operations: Operations, watch: _Watch) -> AdminServer:
    config = base.config
    flow = FlowKeeper(_totals(base), base.storage.counts, base.clock)
    watch.keep("flow keeper", flow.run)
    return AdminServer(
        operations,
        config.admin.address,
        metrics=base.metrics.collect,
        not_ready=operations.not_ready,
        guard=guard_of(config, base.clock),
        board=board_of(config, base.keyring, flow, base.clock, partial(_authorisations, base)),
        tls=tls_of(config, base.keyring),
    )


def _totals(base: _Base) -> Totals:
    async def totals() -> Mapping[str, float]:
        return base.metrics.totals()

    return totals


def _authorisations(base: _Base) -> Sequence[Expiring]:
    now, found = base.clock.now(), []
    for state in base.keeper.states():
        days = state.days(now)
        ends = now + days * 86400 if days < 36500 else 0.0
        why = state.why or ("" if state.is_alive else "somebody has to log in")
        found.append(Expiring("authorisation", state.name, "OAuth 2.0", ends, int(min(days, 36500)), why))
    return found


# ---- what runs by itself
class _Watch:
    """Coroutines that run as long as the service does: one that dies is told of and begun again."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._down: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def over(cls, log: Log, clock: Clock) -> AsyncIterator[_Watch]:
        """A watch that ends, with all it keeps, when the block does."""
        watch = cls(log, clock)
        try:
            yield watch
        finally:
            for task in watch._tasks.values():
                task.cancel()
            await asyncio.gather(*watch._tasks.values(), return_exceptions=True)

    @property
    def down(self) -> Sequence[str]:
        """Names of the parts that died and have not yet been begun again."""
        return sorted(self._down)

    def keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part`, again and again should it raise; once it returns, it has ended of itself."""
        self._tasks[name] = asyncio.create_task(self._keep(name, part), name=name)

    def again(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part` in place of what ran by that name."""
        if name in self._tasks:
            self._tasks[name].cancel()
        self._down.discard(name)
        self.keep(name, part)

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await part()
            except Exception as error:
                self._log.logger.exception("a part of the service died; it is begun again", part=name, exc_info=error)
            else:
                return
            self._down.add(name)
            await self._clock.sleep(REVIVAL)
            self._down.discard(name)


def _keep_what_was_asked_for(watch: _Watch, base: _Base, dispatcher: Dispatcher) -> None:
    """The parts that run only where the configuration has them."""
    if base.config.tls_reporting.enabled:
        watch.keep("TLS tally", base.tls_tally.keep)
        watch.keep("TLS reporter", _tls_reporter(base, dispatcher).run)
    if isinstance(base.journal, _NoticingJournal):
        _connect(base.journal.notices, dispatcher)
        watch.keep("notices", base.journal.notices.run)
    if isinstance(base.gate, WatchedGate) and base.gate.lists.lists:
        watch.keep("prober of lists in DNS", base.gate.lists.watch)


async def _keep_house(base: _Base) -> None:
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


async def _heed_frost(base: _Base, dispatcher: Dispatcher) -> None:
    """Let the dispatcher know what is frozen, and the journal who is watched."""
    dispatcher.freeze(await Frost(base.storage, base.clock).all())
    _hear(base, list(await Watching(base.storage, base.clock).all()))


def _receiver(base: _Base, parts: Parts, house: House) -> Receiver:
    receiver = parts.receiver(_doors(base), house)
    receiver.ears = base.ears
    return receiver


def _hear(base: _Base, peers: Collection[str]) -> None:
    """Whose dialogues are logged from now on: what hosts and clients say alike."""
    base.journal.watched = base.ears.watched = peers


async def _follow_frost(base: _Base, dispatcher: Dispatcher) -> None:
    """Another process of this queue may have frozen or thawed something."""
    while True:
        await base.clock.sleep(FROST_LOOK)
        with contextlib.suppress(StorageError):  # a store in trouble is told of by those who need it; this can wait
            await _heed_frost(base, dispatcher)


async def _follow_clock(base: _Base, changed: Callable[[], None]) -> None:
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


async def _watch_certificates(base: _Base) -> None:
    await base.keyring.watch(base.clock, partial(_tell_certificates, base.log))


def _tell_certificates(log: Log, news: Sequence[Certificate | BadCertificate]) -> None:
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


async def _reroute(storage: Storage, table: RouteTable, log: Log) -> None:
    """Let what waits in the queue follow the route table in force, should it have been changed meanwhile."""
    for next_hop, domain in await storage.hops():
        route = table.route_domain(domain)
        if isinstance(route, NoRoute) or route.next_hop == next_hop or table.is_by_name(next_hop):
            continue
        moved = await storage.rehop(next_hop, domain, route.next_hop)
        log.logger.info("rerouted", domain=domain, was=next_hop, next_hop=route.next_hop, recipients=moved)


async def _not_ready(base: _Base, watched: _Watch, probe: Probe | NoProbe) -> Sequence[str]:
    reasons = [f"the {name} died and is being begun again" for name in watched.down]
    if base.config.service.mode == "flush":
        return [*reasons, 'no mail is taken: service.mode is "flush"']
    try:
        await base.storage.counts()
    except StorageError as error:
        return [*reasons, f"the spool does not answer: {error}"]
    return [*reasons, *await probe.reasons()]


async def _warnings(base: _Base) -> Sequence[str]:
    """What an administrator should see to, though the service does its work."""
    damage = await asyncio.to_thread(salvage.reports, base.config.spool)
    guessing = [str(blocked) for blocked in base.logins.attempts.blocked()]
    room = [base.room.why] if base.room.is_low else []
    ended = [f"OAuth {one.name}: {one.why}" for one in base.keeper.states() if not one.is_alive or one.why]
    lists = base.gate.lists.ignored if isinstance(base.gate, WatchedGate) else ()
    return [*damage, *guessing, *ended, *room, *lists, *base.keyring.warnings(base.clock.now())]


class _Alarm:
    """What follows when an OAuth authorisation ends, or somebody has logged in."""

    def __init__(self, base: _Base, dispatcher: Dispatcher) -> None:
        service = base.config.service
        self._dispatcher = dispatcher
        self._log = base.log
        self._letters = AuthorisationAlarm(
            base.storage,
            base.table,
            base.clock,
            base.ids,
            base.journal,
            hostname=service.hostname,
            postmaster=service.postmaster,
            recipients=base.config.oauth.notify,
            sign=base.signing.usual,
        )

    async def died(self, name: str, why: str) -> None:
        self._log.logger.error("an authorisation has ended: log in with `waypost oauth login`", oauth=name, why=why)
        await self._letters.tell(name, why)
        self._dispatcher.wake()

    def revived(self, name: str) -> None:
        self._log.logger.info("authorised: what was held flows again", oauth=name)
        self._dispatcher.authorised(name)


class _Journal(Journal):
    """The journal, which also wakes the reporter when an attempt leaves a report to be made."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        super().__init__(log, metrics)
        self.report_due: Callable[[], None] = lambda: None

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        super().attempted(attempt, settled)
        if any(one.notice is not Notice.NONE for one in settled):
            self.report_due()


class _NoticingJournal(_Journal, NoticingJournal):
    """The same, which also tells administrators."""


def _connect(notices: Notices, dispatcher: Dispatcher) -> None:
    """Let notices know which next hops are in trouble, and the dispatcher of what is queued."""
    notices.in_trouble = lambda hop: any(
        state.next_hop == hop and (state.cause or state.phase is Phase.FROZEN) for state in dispatcher.destinations()
    )
    notices.filed = dispatcher.wake


# ---- from settings to what the parts take
def _hooks(config: Config, clock: Clock, journal: Journal, runtime: Callable[[str], Runtime]) -> Hooks:
    try:
        found = hooks(config, clock, journal, runtime)
    except HookError as error:
        raise OSError(f"a hook cannot be loaded: {error}") from error
    journal.watch_hooks(found.names)
    return found


def _notices(config: Config) -> Terms:
    section = config.notices
    return Terms(
        config.service.hostname,
        config.service.postmaster,
        {Class(of): mailboxes for of, mailboxes in recipients_of(section).items()},
        section.every,
        section.route,
        frozenset(BounceKind(kind) for kind in section.bounce_kinds),
    )


def _signing(config: Config) -> Signings:
    try:
        return build_signing(config.dkim, config.base)
    except (KeyFileError, ImportError) as error:
        raise OSError(f"nothing can be signed by [dkim]: {error}") from error


def _keeper(config: Config, clock: Clock) -> Keeper:
    try:
        return keeper(config, clock)
    except TokenStoreError as error:
        raise OSError(f"the tokens of [[oauth]] cannot be kept: {error}") from error


_RELAYING: Final = {"": Relaying.AS_LISTED, "always": Relaying.ALWAYS, "never": Relaying.NEVER}


def _doors(base: _Base) -> tuple[Door, ...]:
    return tuple(_door(base.config, listener, base.keyring) for listener in base.listeners if listener.role != "http")


def _door(config: Config, listener: Listener, keyring: Keyring) -> Door:
    is_web, is_submission = listener.role == "http", listener.role == "submission"
    login, recipients = login_at(listener, config), listener.recipients or config.limits.recipients
    return Door(
        listener.address,
        ServerSettings(
            hostname=config.service.hostname,
            size_limit=listener.message_size or config.limits.message_size,
            lmtp=listener.role == "lmtp",
            etrn=listener.role in {"mx", "submission"},
            atrn=listener.role in {"mx", "submission"}
            and any(isinstance(rule.target, OnCall) for rule in config.rules),
            max_recipients=recipients,
            max_recipient_domains=config.limits.recipient_domains,
            max_errors=recipients if is_web else listener.errors or config.limits.errors,
            future_release=config.limits.future_release if is_submission else timedelta(),
            mechanisms=mechanisms(config) if login != "none" else (),
            starttls=listener.tls in {"opportunistic", "required"},
            tls_required=listener.tls == "required",
        ),
        name=listener.name,
        relay_clients_only=config.service.mode == "outbound" or (is_submission and login != "required"),
        submission=is_web or (is_submission and bool(mechanisms(config))),
        demands_login=login == "required",
        exempt=listener.exempt,
        relaying=_RELAYING[listener.relay],
        implicit_tls=listener.tls == "implicit",
        context=partial(keyring.context, listener.client_ca),
        proxies=listener.proxies,
        xclient=listener.xclient,
        from_field=FromField(config.auth.from_field),
        protocol=_protocol(listener) if is_web else "",
        connections=listener.connections,
        connections_per_client=0 if is_web else listener.connections_per_client,
        messages=0 if is_web else listener.messages,
        session=timedelta() if is_web else listener.session,
    )


def _protocol(listener: Listener) -> str:
    return "HTTPS" if listener.tls == "implicit" else "HTTP"


def _receive_settings(config: Config) -> ReceiveSettings:
    return ReceiveSettings(
        command=config.timeouts.command,
        body_block=config.timeouts.body_block,
        body_total=config.timeouts.body_total,
        connections=config.limits.connections,
        connections_per_client=config.limits.connections_per_client,
        connections_per_network=config.limits.connections_per_network,
        session=config.limits.session,
        messages=config.limits.messages,
        hops=config.limits.hops,
        draining=config.service.mode == "flush",
    )


def _time_outs(config: Config) -> TimeOuts:
    chosen = config.timeouts
    return TimeOuts(
        connect=chosen.connect,
        greeting=chosen.greeting,
        hello=chosen.ehlo,
        starttls=chosen.starttls,
        handshake=chosen.tls,
        auth=chosen.auth,
        mail=chosen.mail,
        rcpt=chosen.rcpt,
        data=chosen.data,
        block=chosen.block,
        dot=chosen.dot,
        rset=chosen.rset,
        quit=chosen.quit,
    )


def _listeners(base: _Base, receiver: Receiver, web_doors: Sequence[HttpDoor]) -> tuple[ListenerFacts, ...]:
    endpoints = _endpoints(base, receiver, web_doors)
    return tuple(
        ListenerFacts(listener.role, str(endpoint))
        for listener, endpoint in zip(base.listeners, endpoints, strict=True)
    )


def _facts(base: _Base, listeners: tuple[ListenerFacts, ...]) -> ServiceFacts:
    config, storage = base.config, base.storage
    return ServiceFacts(
        __version__,
        config.service.hostname,
        config.queue_at,
        storage.durability.value,
        listeners,
        started_at=base.clock.now(),
        compiled=is_compiled(),
    )


def log_of(config: Config, clock: Clock, fields: Mapping[str, object]) -> Log:
    """The log of this process, on standard error; `fields`: what every line says besides."""
    stream, form = sys.stderr, config.log.format
    pretty = form == "pretty" or (form == "auto" and stream.isatty())
    pen = Aside(ToJournal() if form == "journal" else AtOnce(stream.buffer))
    log = Log(
        pen,
        level=config.log.level,
        pretty=pretty,
        clock=clock,
        colors=stream.isatty(),
        fields=fields,
        journald=form == "journal",
    )
    log.become_default()
    return log
