"""Building what writes reports, and what is kept for them from one process to the next."""

from __future__ import annotations

from waypost.app.base import Base
from waypost.config.parts import tls_reporter
from waypost.deliver.dispatch import Dispatcher
from waypost.report.reporter import Reporter
from waypost.report.tls_reporter import TlsReporter


def reporter_of(base: Base, dispatcher: Dispatcher) -> Reporter:
    """Who writes DSNs; the journal wakes it."""
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


def tls_reporter_of(base: Base, dispatcher: Dispatcher) -> TlsReporter:
    """Who writes TLS reports to other domains."""
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


async def take_up(base: Base) -> None:
    """What an earlier process knew of other domains' TLS; without it the service does its work all the same."""
    try:
        await base.policies.open()
        await base.tls_tally.open()
    except OSError as error:
        base.log.logger.warning("what was known of MTA-STS policies or TLS cannot be read", detail=str(error))


async def write_tally(base: Base) -> None:
    """What was counted for TLS reports, kept for the next process."""
    try:
        await base.tls_tally.write()
    except OSError as error:
        base.log.logger.warning("the last counts for TLS reports were lost", detail=str(error))
