"""What the parts are built from and share, and the same by another configuration."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from waypost.app.journals import TellingJournal, WakingJournal
from waypost.app.parts import Parts
from waypost.app.settings import hooks_of, keeper_of, log_of, notice_terms, signings_of
from waypost.auth.attempts import Attempts
from waypost.auth.authenticator import Authenticator
from waypost.auth.keeper import Keeper
from waypost.config import Config
from waypost.config.dkim import Signings
from waypost.config.model import Listener
from waypost.config.parts import (
    authenticator,
    expander,
    gate,
    host_finder,
    https,
    keyring,
    maps,
    resolver_settings,
    sts_keeper,
)
from waypost.deliver.health import HostHealth
from waypost.deliver.memory import HostMemory
from waypost.deliver.pool import Pool
from waypost.hooks.calls import Hooks
from waypost.maps.lookup import Map
from waypost.net.certificates import Keyring
from waypost.net.clock import Clock
from waypost.net.https import AiohttpHttps
from waypost.net.stub_resolver import DnspythonResolver
from waypost.policy.admission import Admission
from waypost.policy.gate import OpenGate, WatchedGate
from waypost.queue.exchange import Exchange
from waypost.queue.ids import MessageIds
from waypost.queue.space import Room
from waypost.queue.storage import Storage
from waypost.queue.watching import Dialogues
from waypost.receive.body import InFlight
from waypost.receive.overheard import Ears
from waypost.receive.ports import UNTRACED, Traced
from waypost.receive.resent import Resent
from waypost.report.journal import Journal
from waypost.report.log import Log
from waypost.report.metrics import Metrics
from waypost.report.notices import Notices
from waypost.report.tls_tally import TlsTally
from waypost.route.hosts import HostFinder
from waypost.route.sts_keeper import StsKeeper
from waypost.route.table import RouteTable


@dataclass(slots=True)
class Base:
    """What the parts are built from and share; a new configuration changes some of it (`changed_by`).

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
    journal: WakingJournal
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


def base_of(config: Config, parts: Parts) -> Base:
    """All of it, by this configuration. Raises: OSError, StorageError: it cannot be had, and why."""
    clock = parts.clock()
    dice = random.Random()  # noqa: S311 - jitter, shuffled hosts and ids that need to differ, not to be secret
    storage = parts.storage(config)
    resolver = DnspythonResolver(resolver_settings(config), clock)
    client = https(resolver)
    log, metrics = log_of(config, clock, parts.log_fields), Metrics(storage)
    table, known = config.route_table(), maps(config, clock, parts.dialer())
    ids = parts.ids(clock, dice)
    terms = notice_terms(config)
    journal = TellingJournal(log, metrics) if any(terms.recipients.values()) else WakingJournal(log, metrics)
    if isinstance(journal, TellingJournal):
        journal.notices = Notices(terms, storage, table, clock, ids, journal)
        journal.notices.sign = signings_of(config).usual
    return Base(
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
        hooks=hooks_of(config, clock, journal, parts.runtime),
        policies=sts_keeper(config, resolver, client, clock),
        tls_tally=TlsTally(config.spool / "tls-reports", clock),
        logins=authenticator(config, clock, Attempts(clock)),
        keeper=keeper_of(config, clock),
        room=Room(storage.room, config.limits.free_space, clock),
        keyring=keyring(config),
        signing=signings_of(config),
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


def changed_by(base: Base, config: Config, parts: Parts) -> Base:
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
        logins=base.logins if same_accounts else authenticator(config, clock, base.logins.attempts),
        keyring=keyring(config),
        signing=signings_of(config),
        gate=base.gate if same_gate else gate(config, base.resolver, clock, base.storage, base.journal),
        helo=base.helo if same_memory else base.helo.for_another(config.helo_memory.ttl),
    )
