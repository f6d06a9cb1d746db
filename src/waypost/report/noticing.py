"""A journal that tells administrators too: which event is of which class of notices.

In use only where notices are asked for; else nothing of this is called. Our own messages make none, so that a notice
that cannot be delivered does not lead to the next. Not here: gathering and sending (notices.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from waypost.mail.attempt import Attempt
from waypost.mail.envelope import NextHop, QueuedMessage
from waypost.mail.explain import describe, describe_cause, plain
from waypost.mail.outcome import Cause, Deferred, Misbehaved, Rejected
from waypost.net.clock import Instant
from waypost.net.stream import Endpoint
from waypost.queue.storage import Gone, Notice, Settled
from waypost.report.common_notices import Class
from waypost.report.journal import Journal
from waypost.report.log import Log, timestamp
from waypost.report.metrics import Metrics
from waypost.report.notices import Notices, bounce_kind
from waypost.smtp.reply import Reply

#: Replies to what is no proper command, or not in its place (RFC 5321 §4.2.3).
_PROTOCOL_CODES = frozenset({500, 501, 502, 503, 504, 555})


class NoticingJournal(Journal):
    """Tells the log, the metrics, and the notices."""

    notices: Notices

    def __init__(self, log: Log, metrics: Metrics) -> None:
        super().__init__(log, metrics)

    # ---- delivering
    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        super().attempted(attempt, settled)
        if attempt.message.origin.protocol == "local":
            return
        for one in settled:
            self._settled(attempt.message, one)

    def _settled(self, message: QueuedMessage, one: Settled) -> None:
        outcome = one.outcome
        text = f"{message.id} <{message.reverse_path}> to <{one.recipient.forward_path}>: {describe(outcome)}"
        match outcome:
            case Rejected(_, status) if isinstance(one.next, Gone):
                kind = bounce_kind(str(status))
                if kind in self.notices.terms.kinds:
                    self.notices.note(Class.BOUNCES, f"({kind.value}) {text}")
            case Deferred(Misbehaved()):
                self.notices.note(Class.PROTOCOL, text)
            case _:
                pass
        if one.notice is Notice.DELAYED:
            self.notices.note(Class.DELAYS, text)

    def destination_rests(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        super().destination_rests(next_hop, cause, until)
        self.notices.note(Class.DELAYS, f"{next_hop} rests until {timestamp(until)}: {describe_cause(cause)}")

    def credentials_refused(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        super().credentials_refused(next_hop, cause, until)
        self.notices.note(Class.AUTH, f"{next_hop} refuses our credentials: {describe_cause(cause)}")

    def authorisation_ended(self, next_hop: NextHop, cause: Cause) -> None:
        super().authorisation_ended(next_hop, cause)
        self.notices.note(Class.AUTH, f"mail for {next_hop} is held: {describe_cause(cause)}")

    def crashed(self, message: QueuedMessage, next_hop: NextHop, error: Exception) -> None:
        super().crashed(message, next_hop, error)
        self.notices.note(Class.RESOURCES, f"{message.id}: a bug in this service, {type(error).__name__}: {error}")

    def storage_failed(self, doing: str, detail: str) -> None:
        super().storage_failed(doing, detail)
        self.notices.note(Class.RESOURCES, f"the queue failed {doing}: {detail}")

    # ---- receiving
    def refused(self, client: Endpoint, line: str, reply: Reply) -> None:
        super().refused(client, line, reply)
        text = f"{client} {plain(line)}: {plain(str(reply))}"
        if reply.code == 452 and reply.status.subject == 3:
            self.notices.note(Class.RESOURCES, text)
        elif reply.code in _PROTOCOL_CODES and reply.status.subject != 7:
            self.notices.note(Class.PROTOCOL, text)
        elif reply.status.subject == 7:
            self.notices.note(Class.POLICY, text)

    def login_refused(self, client: Endpoint, username: str, mechanism: str, why: str, reply: Reply) -> None:
        super().login_refused(client, username, mechanism, why, reply)
        self.notices.note(Class.AUTH, f"{client} as {plain(username)} by {mechanism}: {plain(why)}")

    def trouble(self, client: Endpoint, what: str, error: Exception) -> None:
        super().trouble(client, what, error)
        self.notices.note(Class.RESOURCES, f"{client}: {what} failed, and the client keeps its mail: {error}")

    # ---- strangers
    def screened(self, host: str, action: str, words: str) -> None:
        super().screened(host, action, words)
        if action == "quarantine":
            self.notices.note(Class.POLICY, f"{host} is held in quarantine: {words}")

    def list_ignored(self, zone: str, why: str) -> None:
        super().list_ignored(zone, why)
        self.notices.note(Class.RESOURCES, f"the list {zone} is ignored: {why}")

    def shelf_trouble(self, doing: str, detail: str) -> None:
        super().shelf_trouble(doing, detail)
        self.notices.note(Class.RESOURCES, f"the spool failed {doing}: {detail}")
