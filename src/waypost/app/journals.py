"""The journal as the service has it: it wakes who reports, and tells administrators where they asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waypost.deliver.dispatch import Dispatcher
from waypost.mail.attempt import Attempt
from waypost.queue.storage import Notice, Settled
from waypost.report.journal import Journal
from waypost.report.log import Log
from waypost.report.metrics import Metrics
from waypost.report.notices import Notices
from waypost.report.noticing import NoticingJournal
from waypost.route.state import Phase


class WakingJournal(Journal):
    """The journal, which also wakes the reporter when an attempt leaves a report to be made."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        super().__init__(log, metrics)
        self.report_due: Callable[[], None] = lambda: None

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        super().attempted(attempt, settled)
        if any(one.notice is not Notice.NONE for one in settled):
            self.report_due()


class TellingJournal(WakingJournal, NoticingJournal):
    """The same, which also tells administrators."""


def connect_notices(notices: Notices, dispatcher: Dispatcher) -> None:
    """Let notices know which next hops are in trouble, and the dispatcher of what is queued."""
    notices.in_trouble = lambda hop: any(
        state.next_hop == hop and (state.cause or state.phase is Phase.FROZEN) for state in dispatcher.destinations()
    )
    notices.filed = dispatcher.wake
