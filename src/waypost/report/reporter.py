"""From reports that are due to DSNs in the queue: who is told, or why nobody is.

The queue says which reports are due (queue/storage.py); mail/dsn.py composes the DSNs. What is decided here:
- A report goes to the reverse-path, from `<>`. A message from `<>` is never answered (RFC 5321 §4.5.5).
- What would then be lost without a word (a failed notification; a failure whose reverse-path has no route) goes to the
  postmaster, once: where mail to the postmaster fails too, that is logged and ends there.

Never lost: a report is struck off in the transaction that queues its DSN, or with its reason in the history. Never
twice, for the same cause. Not here: delivering the DSN; it is a message like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.mail.dkim import Signing, unsigned
from waypost.mail.dsn import HEADER_AT_MOST, RETURNED_AT_MOST, compose, returns_whole
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Octets, Origin, Recipient
from waypost.mail.header import ends_header
from waypost.mail.notification import (
    Action,
    Addressee,
    HeaderOnly,
    Notification,
    Original,
    RecipientStatus,
    ToAuthor,
    ToPostmaster,
    Unreadable,
    Whole,
)
from waypost.net.clock import Clock
from waypost.queue.ids import MessageIds
from waypost.queue.storage import Notice, Report, ReportedRecipient, Storage, StorageError
from waypost.route.route import NoRoute, Reject, Route
from waypost.smtp.extension import Notify, RcptParameters, Return
from waypost.smtp.path import ForwardPath, Mailbox, NullPath

#: Tries a report has before it is set aside: more than one, for a trouble that passes.
TRIES: Final = 3
#: Reports read at once: each may hold a recipient list in memory, none its octets.
BATCH: Final = 50
#: How long to wait before looking again where nobody pokes.
POLL: Final = timedelta(seconds=30)
#: How long to wait after a trouble.
PAUSE: Final = timedelta(seconds=5)


class Routes(Protocol):
    """Where a recipient goes: the route table now in force."""

    def route(self, forward_path: ForwardPath) -> Route | NoRoute: ...


class ReportLog(Protocol):
    """Who hears what was done about reports; journal.py is one."""

    def reported(self, report: Report, addressee: Addressee, id: MessageId) -> None:  # noqa: A002 - the DSN's id
        """A DSN about it is in the queue."""
        ...

    def report_dropped(self, report: Report, why: str) -> None:
        """Nobody is told."""
        ...

    def report_trouble(self, doing: str, error: Exception) -> None:
        """Something failed and will be tried again."""
        ...


@dataclass(frozen=True, slots=True)
class Send:
    """Tell `addressee` about these recipients, over this next hop."""

    addressee: Addressee
    next_hop: NextHop
    recipients: Sequence[ReportedRecipient]


@dataclass(frozen=True, slots=True)
class Drop:
    """Tell nobody; `why` is a sentence for the history."""

    why: str


Verdict: TypeAlias = Send | Drop


# ---- who is told: pure
def judge(report: Report, routes: Routes, postmaster: Mailbox) -> Verdict:
    """Who is told about a report that is due."""
    match report.message.reverse_path:
        case NullPath() if report.notice is Notice.FAILED:
            return _tell_postmaster(
                report,
                routes,
                postmaster,
                "the message below is itself a notification (it came from <>), so nobody else can be told.",
            )
        case NullPath():
            return Drop("a message from <> is a notification, and is never answered by another (RFC 5321 §4.5.5)")
        case Mailbox() as author:
            return _tell_author(report, routes, postmaster, author)
        case _:
            assert_never(report.message.reverse_path)


def _tell_author(report: Report, routes: Routes, postmaster: Mailbox, author: Mailbox) -> Verdict:
    recipients = [each for each in report.recipients if _wanted(report.notice, each.recipient.parameters.notify)]
    if not recipients:
        return Drop("nobody asked for it: NOTIFY says so for each recipient (RFC 3461 §4.1)")
    route = routes.route(author)
    obstacle = _obstacle(route)
    if isinstance(route, Route) and not obstacle:
        return Send(ToAuthor(author), route.next_hop, recipients)
    if report.notice is Notice.FAILED:
        because = f"its author cannot be told, as <{author}> cannot be reached from here: {obstacle}."
        return _tell_postmaster(replace(report, recipients=tuple(recipients)), routes, postmaster, because)
    return Drop(f"<{author}> cannot be reached from here: {obstacle}")


def _tell_postmaster(report: Report, routes: Routes, postmaster: Mailbox, because: str) -> Verdict:
    recipients = [each for each in report.recipients if not _is_postmaster(each.recipient.forward_path, postmaster)]
    if not recipients and isinstance(report.message.reverse_path, NullPath):
        return Drop("it was addressed to the postmaster already; a copy to the same mailbox would fail again")
    route = routes.route(postmaster)
    obstacle = _obstacle(route)
    if isinstance(route, Route) and not obstacle:
        return Send(ToPostmaster(postmaster, because), route.next_hop, recipients or report.recipients)
    return Drop(f"{because} Nor can the postmaster <{postmaster}> be reached: {obstacle}")


def _wanted(notice: Notice, notify: Notify) -> bool:
    match notice:
        case Notice.FAILED:
            return notify.wants_failure
        case Notice.DELAYED:
            return notify.wants_delay
        case Notice.DELIVERED | Notice.EXPANDED:
            return notify.wants_success
        case Notice.RELAYED:  # asked for by NOTIFY, or by a time to deliver by (RFC 2852 §4)
            return notify is not Notify.NEVER
        case Notice.NONE:
            return False
        case _:
            assert_never(notice)


def _obstacle(route: Route | NoRoute) -> str:
    """Why nothing can go that way; empty where it can."""
    match route:
        case NoRoute(detail):
            return detail
        case Route(transport=Reject(reply), rule=rule):
            return f"{rule} refuses it with {reply}"
        case Route():
            return ""
        case _:
            assert_never(route)


def _is_postmaster(path: ForwardPath, postmaster: Mailbox) -> bool:
    return not isinstance(path, Mailbox) or str(path).lower() == str(postmaster).lower()


# ---- what is told: pure
_ACTIONS: Final = {
    Notice.FAILED: Action.FAILED,
    Notice.DELAYED: Action.DELAYED,
    Notice.DELIVERED: Action.DELIVERED,
    Notice.RELAYED: Action.RELAYED,
    Notice.EXPANDED: Action.EXPANDED,
}


def _status(reported: ReportedRecipient) -> RecipientStatus:
    return RecipientStatus(
        forward_path=reported.recipient.forward_path,
        original_recipient=reported.recipient.parameters.original_recipient,
        status=reported.status,
        diagnostic=reported.diagnostic,
        remote_mta=reported.remote_mta,
        explanation=reported.explanation,
        last_attempt=reported.last_attempt,
        retry_until=reported.retry_until,
        doubt=reported.recipient.doubt,
    )


# ---- the original, read within bounds
async def read_original(report: Report) -> Original:
    """As much of the original as the report carries. Raises: StorageError, where the spool cannot be read."""
    message = report.message
    # RFC 8689 §5: of a message tagged REQUIRETLS only the header goes back.
    ret = Return.HEADERS if message.parameters.requiretls else message.parameters.ret
    if returns_whole(_ACTIONS[report.notice], ret, report.octets.size):
        octets = await _first_octets(report.octets, RETURNED_AT_MOST + 1, header_alone=False)
        if len(octets) <= RETURNED_AT_MOST:
            return Whole(octets)
        return HeaderOnly(octets)
    return HeaderOnly(await _first_octets(report.octets, HEADER_AT_MOST, header_alone=True))


async def _first_octets(octets: Octets, at_most: int, *, header_alone: bool) -> bytes:
    gathered = b""
    chunks = aiter(octets)
    try:
        async for chunk in chunks:
            gathered += chunk
            if len(gathered) >= at_most or (header_alone and ends_header(gathered)):
                break
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()  # a reader left halfway would keep its place in the spool open
    return gathered


class Reporter:
    """Turns reports that are due into DSNs, one at a time, for as long as `run` runs."""

    def __init__(
        self,
        storage: Storage,
        routes: Routes,
        *,
        hostname: str,
        postmaster: Mailbox,
        clock: Clock,
        ids: MessageIds,
        log: ReportLog,
        filed: Callable[[], None],
        sign: Signing = unsigned,
    ) -> None:
        """`filed` is called when a DSN has come into the queue: somebody may want to deliver it now."""
        self.routes, self.sign = routes, sign  # set anew when the configuration is
        self._storage = storage
        self._hostname = hostname
        self._postmaster = postmaster
        self._clock = clock
        self._ids = ids
        self._log = log
        self._filed = filed
        self._poked = asyncio.Event()
        self._failures: dict[int, int] = {}  # of reports that failed and are still due

    def poke(self) -> None:
        """Say that a report may have become due."""
        self._poked.set()

    async def run(self) -> None:
        """Report until cancelled. Whatever fails is logged and tried again; nothing ends this but cancellation."""
        while True:
            self._poked.clear()
            try:
                more = await self.report_due()
            except Exception as error:  # noqa: BLE001 - a loop that died here would silence every report from now on
                self._log.report_trouble("reading the reports that are due", error)
                await self._clock.sleep(PAUSE)
                continue
            if not more:
                await self._wait()

    async def report_due(self) -> bool:
        """Deal with one batch of what is due. True: there may be more. Raises: StorageError."""
        reports = await self._storage.reports(limit=BATCH)
        dealt_with = [await self._deal_with(report) for report in reports]
        if not all(dealt_with):
            await self._clock.sleep(PAUSE)
            return True
        self._failures.clear()
        return len(reports) == BATCH

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL.total_seconds()):
                await self._poked.wait()
        except TimeoutError:
            pass

    async def _deal_with(self, report: Report) -> bool:
        """False: it is still due."""
        try:
            await self._settle(report)
        except StorageError as error:
            self._log.report_trouble(f"report {report.number} on {report.message.id}", error)
            return False
        except Exception as error:  # noqa: BLE001 - one report that cannot be made must not hold up the others
            self._log.report_trouble(f"report {report.number} on {report.message.id}", error)
            return await self._failed(report, error)
        return True

    async def _settle(self, report: Report) -> None:
        verdict = judge(report, self.routes, self._postmaster)
        match verdict:
            case Drop(why):
                await self._drop(report, why)
            case Send():
                await self._send(report, verdict)
            case _:
                assert_never(verdict)

    async def _drop(self, report: Report, why: str) -> None:
        await self._storage.drop_report(report, why=why, now=self._clock.now())
        self._log.report_dropped(report, why)

    async def _send(self, report: Report, send: Send) -> None:
        now = self._clock.now()
        notification = Notification(
            action=_ACTIONS[report.notice],
            message=report.message,
            recipients=[_status(each) for each in send.recipients],
            original=await self._original(report),
            addressee=send.addressee,
            hostname=self._hostname,
            id=self._ids.make(),
            now=now,
        )
        dsn = compose(notification)
        # RFC 3461 §6.1: from <>, without ENVID or ORCPT of the original; nobody is to report on a report.
        envelope = Envelope(
            reverse_path=NullPath(),
            recipients=(Recipient(send.addressee.mailbox, send.next_hop, RcptParameters(notify=Notify.NEVER)),),
            origin=Origin(protocol="local"),
            parameters=dsn.parameters,
        )
        await self._storage.file_report(report, envelope, InMemory(self.sign(dsn.octets)), id=notification.id, now=now)
        self._log.reported(report, send.addressee, notification.id)
        self._filed()

    async def _original(self, report: Report) -> Original:
        try:
            return await read_original(report)
        except StorageError:
            if self._count_failure(report) < TRIES:
                raise
            return Unreadable()  # better a report without its original than none

    def _count_failure(self, report: Report) -> int:
        self._failures[report.number] = self._failures.get(report.number, 0) + 1
        return self._failures[report.number]

    async def _failed(self, report: Report, error: Exception) -> bool:
        """Set a report aside that failed too often; False: it has tries left, or could not be set aside."""
        if self._count_failure(report) < TRIES:
            return False
        try:
            await self._drop(report, f"set aside after {TRIES} tries: {type(error).__name__}: {error}")
        except StorageError as trouble:
            self._log.report_trouble(f"setting report {report.number} aside", trouble)
            return False
        return True
