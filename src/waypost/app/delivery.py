"""Building what delivers: the dispatcher, what it drives, and what answers for ended authorisations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from waypost.app.base import Base
from waypost.app.parts import Parts
from waypost.app.settings import time_outs_of
from waypost.config.parts import rewritings
from waypost.deliver.calls import Callers, Calls
from waypost.deliver.calls import Means as CallMeans
from waypost.deliver.connection import Ends
from waypost.deliver.crowd import Capacity
from waypost.deliver.destination import Destination
from waypost.deliver.dispatch import Dispatcher
from waypost.deliver.dots import UNMARKED, Dots, Fenced, Marked
from waypost.deliver.maildir import MaildirDelivery
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pipe import PipeDelivery
from waypost.deliver.quotas import Quotas
from waypost.deliver.relays import OPEN_HOUSES, Houses, Relays
from waypost.deliver.runner import Carriers, Runner
from waypost.deliver.settler import Settler
from waypost.deliver.sharing import NodeShares
from waypost.deliver.smtp import SmtpDelivery
from waypost.deliver.tls_watch import NoListener
from waypost.deliver.webhook import WebhookDelivery
from waypost.mail.envelope import NextHop
from waypost.net.clock import Instant
from waypost.net.dialer import Dialer
from waypost.net.tls import client_context
from waypost.queue.schedule import RetryPolicy
from waypost.queue.storage import Durability
from waypost.report.alarm import AuthorisationAlarm
from waypost.route.level import TlsChooser
from waypost.route.route import NoRoute, Route


@contextlib.contextmanager
def final_dot_marks(base: Base) -> Iterator[Dots]:
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


def carriers_of(base: Base, smtp: SmtpDelivery) -> Carriers:
    """Who brings mail over, by its kind of next hop."""
    hostname, clock = base.config.service.hostname, base.clock
    return Carriers(
        smtp,
        MaildirDelivery(hostname, clock),
        WebhookDelivery(base.resolver, client_context(), clock),
        PipeDelivery(hostname, clock),
    )


def dispatcher_of(base: Base, parts: Parts, dots: Dots) -> Dispatcher:
    """The dispatcher and all it drives; who hears of it is told."""
    config, clock, journal, policy = base.config, base.clock, base.journal, base.config.retry_policy()
    relays = relays_of(base)
    runner = Runner(
        carriers_of(base, smtp_of(base, parts.dialer(), dots)),
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
    base.keeper.alarm = Alarm(base, dispatcher)
    return dispatcher


def _destination(base: Base, parts: Parts) -> Callable[[NextHop, Route | NoRoute, RetryPolicy, Instant], Destination]:
    """What makes destinations: whose limits are those of all nodes, where there are several."""
    if base.config.database:
        return NodeShares(base.exchanges[0].numbers, base.clock).destination
    return parts.destination


def smtp_of(base: Base, dialer: Dialer, dots: Dots) -> SmtpDelivery:
    """Who delivers over SMTP and LMTP."""
    config, clock = base.config, base.clock
    ends = Ends(dialer, clock, config.service.hostname, time_outs_of(config))
    opener = Opener(ends, base.helo, TlsContexts.system(), base.keeper)
    chooser = TlsChooser(base.resolver, base.policies, clock)
    listener = base.tls_tally if config.tls_reporting.enabled else NoListener()
    return SmtpDelivery(base.finder, chooser, opener, base.pool, clock, listener, dots, base.health)


def relays_of(base: Base, houses: Houses = OPEN_HOUSES) -> Relays:
    """By which of their routes messages go."""
    return Relays(base.table, Quotas(base.storage, base.clock), base.clock, houses)


def calls_of(base: Base, dialer: Dialer, dots: Dots) -> Calls:
    """Who answers ETRN and ATRN."""
    config, clock, journal = base.config, base.clock, base.journal
    means = CallMeans(
        dialer,
        config.service.hostname,
        time_outs_of(config),
        config.retry_policy(),
        base.dice,
        journal,
        dots,
        partial(carriers_of, base),
        relays_of(base),
        rewritings(config, base.maps),
    )
    settler = Settler(base.storage, clock, journal, dots)
    return Calls(base.storage, base.table, settler, Callers(base.storage, clock), clock, means)


class Alarm:
    """What follows when an OAuth authorisation ends, or somebody has logged in."""

    def __init__(self, base: Base, dispatcher: Dispatcher) -> None:
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
