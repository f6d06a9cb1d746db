"""Who is told what, against a queue in memory."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage

import pytest

from tests.virtual import VirtualClock, settled, virtual
from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Origin, QueuedMessage, Recipient
from waypost.mail.notification import Addressee, ToAuthor, ToPostmaster
from waypost.mail.outcome import Answered, Deferred, Delivered, Host, InDoubt, Outcome, Rejected
from waypost.net.clock import Instant
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.schedule import RetryPolicy, settle_recipient
from waypost.queue.storage import (
    HistoryEvent,
    Lease,
    Notice,
    Report,
    Selection,
    Settlement,
    StorageError,
    Stored,
    StoreFault,
    StoreFaultKind,
)
from waypost.report.reporter import PAUSE, POLL, TRIES, Reporter, read_original
from waypost.route.route import Capture, Discard, NoRoute, Reject, Route
from waypost.smtp.extension import MailParameters, Notify, RcptParameters, Return
from waypost.smtp.path import DomainName, ForwardPath, Mailbox, NullPath, Postmaster, ReversePath
from waypost.smtp.reply import EnhancedStatus, Reply

ANN = Mailbox("ann", DomainName("example.org"))
JANE = Mailbox("jane", DomainName("example.com"))
JOE = Mailbox("joe", DomainName("example.com"))
POSTMASTER = Mailbox("postmaster", DomainName("example.net"))
NULL = NullPath()
ORIGINAL = b"From: ann@example.org\r\nSubject: lunch\r\n\r\nNoon?\r\n"
HOST = Host("mx.example.com", Endpoint("192.0.2.1", 25))
REFUSED = Rejected(Answered(HOST, "RCPT", Reply(550, ("5.1.1 no such user",))), EnhancedStatus(5, 1, 1))
DELAYED = Deferred(Answered(HOST, "RCPT", Reply(451, ("4.3.0 later",))), EnhancedStatus(4, 3, 0))
DELIVERED = Delivered(str(HOST), Reply(250, ("2.0.0 Ok",)), relayed_without_dsn=True)
HOP = NextHop("mx:example.com")
BACK = Route(NextHop("mx:example.org"), Discard(), '"*"')
CAPTURE = Route(NextHop("capture:"), Capture(), '"example.net"')
NEVER = RcptParameters(notify=Notify.NEVER)
SUCCESS = RcptParameters(notify=Notify.SUCCESS)
BROKEN = StorageError(StoreFault(StoreFaultKind.FAILED, "the disk is away"))


@dataclass
class Table:
    """Routes by domain."""

    routes: dict[str, Route | NoRoute] = field(default_factory=lambda: {"example.org": BACK, "example.net": CAPTURE})

    def route(self, forward_path: ForwardPath) -> Route | NoRoute:
        assert isinstance(forward_path, Mailbox)
        return self.routes.get(str(forward_path.domain), NoRoute(f"no route matches {forward_path.domain}"))


@dataclass
class Heard:
    """A ReportLog that keeps what it hears."""

    told: list[tuple[Report, Addressee, MessageId]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    trouble: list[Exception] = field(default_factory=list)

    def reported(self, report: Report, addressee: Addressee, id: MessageId) -> None:  # noqa: A002 - the Protocol's name
        self.told.append((report, addressee, id))

    def report_dropped(self, report: Report, why: str) -> None:
        self.dropped.append(why)

    def report_trouble(self, doing: str, error: Exception) -> None:
        self.trouble.append(error)


class Office:
    """A queue, a reporter on it, and what is needed to make messages fail."""

    def __init__(self, storage: MemoryStorage | None = None, table: Table | None = None) -> None:
        self.storage = storage or MemoryStorage()
        self.table = table or Table()
        self.clock = VirtualClock()
        self.heard = Heard()
        self.filed = 0
        self.dice = random.Random(1)  # noqa: S311 - it hides nothing
        self.is_open = False
        self.ids = MessageIds(self.clock, self.dice)
        self.reporter = Reporter(
            self.storage,
            self.table,
            hostname="mx.example.net",
            postmaster=POSTMASTER,
            clock=self.clock,
            ids=self.ids,
            log=self.heard,
            filed=self._count,
        )

    def _count(self) -> None:
        self.filed += 1

    async def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            await self.storage.open(owner="test")

    async def came_to(
        self,
        outcome: Outcome,
        *recipients: ForwardPath,
        reverse_path: ReversePath = ANN,
        octets: bytes = ORIGINAL,
        mail: MailParameters | None = None,
        rcpt: RcptParameters | None = None,
    ) -> MessageId:
        """A message whose recipients have all come to this outcome, some hours after it was received."""
        await self.open()
        id_, now = self.ids.make(), self.clock.now()
        accepted = tuple(Recipient(each, HOP, rcpt or RcptParameters()) for each in recipients or (JANE,))
        envelope = Envelope(reverse_path, accepted, Origin("ESMTP"), mail or MailParameters())
        stored = await self.storage.accept(envelope, InMemory(octets), id=id_, now=now, claim_until=now + 3600)
        assert isinstance(stored, Stored)
        await self.settle(stored.leases[0], outcome)
        return id_

    async def settle(self, lease: Lease, outcome: Outcome) -> None:
        at = lease.message.received_at + 5 * 3600
        pairs = tuple((recipient, outcome) for recipient in lease.recipients)
        attempt = Attempt(lease.message, lease.next_hop, at, at, pairs, Transcript(0))
        policy = RetryPolicy((RETRY,), RETRY * 100)
        fates = tuple(
            settle_recipient(lease.message, one, what, policy=policy, now=at, dice=self.dice) for one, what in pairs
        )
        assert await self.storage.settle(Settlement(lease, attempt, fates))

    async def dsns(self) -> list[tuple[Lease, EmailMessage]]:
        """The messages now due back to authors and to the postmaster, with their octets read."""
        found = []
        for hop in (BACK.next_hop, CAPTURE.next_hop):
            now = self.clock.now() + 10
            for lease in await self.storage.claim(hop, now=now, until=now + 60, messages=100):
                octets = b"".join([chunk async for chunk in lease.octets])
                found.append((lease, email.message_from_bytes(octets, policy=email.policy.SMTP)))
        return found

    async def reports_in_history(self, id_: MessageId) -> Sequence[HistoryEvent]:
        return [event for event in await self.storage.history(id_) if event.kind == "report"]


RETRY = PAUSE * 60


@virtual
async def test_a_failure_goes_back_to_the_reverse_path_from_the_null_path_and_is_never_answered_itself() -> None:
    office = Office()
    id_ = await office.came_to(REFUSED, mail=MailParameters(envelope_id="E1"))
    assert not await office.reporter.report_due()
    [(lease, dsn)] = await office.dsns()
    assert lease.message.reverse_path == NULL
    assert lease.message.parameters.envelope_id == ""  # RFC 3461 §6.1: ENVID belongs to the original
    assert [one.forward_path for one in lease.recipients] == [ANN]
    assert lease.recipients[0].parameters == NEVER
    assert lease.next_hop == BACK.next_hop
    assert dsn["Subject"] == "Not delivered: lunch"
    assert dsn["Auto-Submitted"] == "auto-replied"
    assert b"Original-Envelope-Id: E1" in dsn.as_bytes()
    assert ORIGINAL in dsn.as_bytes()
    assert office.filed == 1
    assert office.heard.told[0][1] == ToAuthor(ANN)
    assert office.heard.told[0][2] == lease.message.id
    [event] = await office.reports_in_history(id_)
    assert lease.message.id in event.text
    assert not await office.storage.reports(limit=10)


@virtual
async def test_one_report_speaks_of_all_recipients_that_failed_alike() -> None:
    office = Office()
    await office.came_to(REFUSED, JANE, JOE)
    await office.reporter.report_due()
    [(_, dsn)] = await office.dsns()
    assert b"Final-Recipient: rfc822; jane@example.com" in dsn.as_bytes()
    assert b"Final-Recipient: rfc822; joe@example.com" in dsn.as_bytes()


@virtual
async def test_a_delay_is_told_with_the_header_alone_and_when_it_ends() -> None:
    office = Office()
    await office.came_to(DELAYED)
    await office.reporter.report_due()
    [(_, dsn)] = await office.dsns()
    assert dsn["Subject"] == "Not delivered yet: lunch"
    assert b"Will-Retry-Until: " in dsn.as_bytes()
    assert b"text/rfc822-headers" in dsn.as_bytes()
    assert b"Noon?" not in dsn.as_bytes()
    assert len(await office.storage.entries(Selection(next_hop=HOP), after=(MessageId(""), -1), limit=9, now=0)) == 1


@virtual
async def test_a_delay_in_doubt_never_says_not_delivered() -> None:
    office = Office()
    await office.came_to(InDoubt(HOST, Fault(FaultKind.CLOSED)))
    await office.reporter.report_due()
    [(_, dsn)] = await office.dsns()
    assert b"not delivered" not in dsn.as_bytes().lower()
    assert dsn["Subject"] == "Delivery not confirmed yet: lunch"


@virtual
async def test_success_is_told_where_it_was_asked_for() -> None:
    office = Office()
    await office.came_to(DELIVERED, rcpt=SUCCESS)
    await office.reporter.report_due()
    [(_, dsn)] = await office.dsns()
    assert dsn["Subject"] == "Passed on: lunch"
    assert b"Action: relayed" in dsn.as_bytes()


@pytest.mark.parametrize(
    ("ret", "body_length", "whole"),
    [
        (Return.UNSPECIFIED, 100, True),
        (Return.UNSPECIFIED, 60_000, False),
        (Return.FULL, 60_000, True),
        (Return.FULL, 1_000_001, False),
        (Return.HEADERS, 100, False),
    ],
)
def test_ret_says_how_much_comes_back(ret: Return, body_length: int, whole: bool) -> None:  # noqa: FBT001 - a table's cell
    @virtual
    async def run() -> None:
        office = Office()
        body = (b"0123456789" * 7 + b"\r\n") * (body_length // 72 + 1)
        await office.came_to(REFUSED, octets=b"Subject: lunch\r\n\r\n" + body, mail=MailParameters(ret=ret))
        await office.reporter.report_due()
        [(lease, dsn)] = await office.dsns()
        assert (body in dsn.as_bytes()) is whole
        assert lease.message.size < 2_000_000

    run()


@virtual
async def test_of_a_message_tagged_requiretls_the_header_alone_comes_back_under_the_same_tag() -> None:
    """RFC 8689 §5."""
    office = Office()
    await office.came_to(REFUSED, octets=b"Subject: lunch\r\n\r\nsecret\r\n", mail=MailParameters(requiretls=True))
    await office.reporter.report_due()
    [(lease, dsn)] = await office.dsns()
    assert lease.message.parameters.requiretls
    assert b"secret" not in dsn.as_bytes()


# ---- nobody is told
@virtual
async def test_a_notification_is_never_answered() -> None:
    """RFC 5321 §4.5.5."""
    office = Office()
    id_ = await office.came_to(DELIVERED, reverse_path=NULL, rcpt=SUCCESS)
    await office.reporter.report_due()
    assert await office.dsns() == []
    assert "RFC 5321 §4.5.5" in office.heard.dropped[0]
    [event] = await office.reports_in_history(id_)
    assert "not sent" in event.text


class Insistent(MemoryStorage):
    """Says that a report is due about recipients who want none: an operator's doing, or an older release's."""

    async def reports(self, *, limit: int) -> Sequence[Report]:
        reports = await super().reports(limit=limit)
        return [Report(one.number, one.message, one.octets, Notice.DELAYED, one.recipients) for one in reports]

    def _is_due(self, report: Report) -> bool:
        return True

    def _strike_off(self, report: Report, event: HistoryEvent) -> None:
        due = Report(report.number, report.message, report.octets, Notice.RELAYED, report.recipients)
        super()._strike_off(due, event)


@virtual
async def test_what_notify_forbids_is_not_told() -> None:
    office = Office(Insistent())
    await office.came_to(DELIVERED, rcpt=SUCCESS)
    await office.reporter.report_due()
    assert await office.dsns() == []
    assert "NOTIFY" in office.heard.dropped[0]
    assert not await office.storage.reports(limit=10)


# ---- the postmaster is told
@virtual
async def test_a_notification_that_fails_goes_to_the_postmaster_once_and_then_nowhere() -> None:
    office = Office()
    await office.came_to(REFUSED, reverse_path=NULL, rcpt=NEVER)
    await office.reporter.report_due()
    [(lease, copy)] = await office.dsns()
    assert [one.forward_path for one in lease.recipients] == [POSTMASTER]
    assert lease.message.reverse_path == NULL
    assert lease.next_hop == CAPTURE.next_hop
    assert copy["Auto-Submitted"] == "auto-generated"
    assert "as the postmaster" in " ".join(copy.as_string().split())

    await office.settle(lease, REFUSED)
    await office.reporter.report_due()
    assert await office.dsns() == []
    assert "postmaster already" in office.heard.dropped[0]
    assert not await office.storage.reports(limit=10)


@pytest.mark.parametrize(
    "recipient", [Postmaster(), POSTMASTER, Mailbox("PostMaster", DomainName("example.net"))], ids=str
)
def test_no_notification_to_any_spelling_of_the_postmaster_is_copied_to_him(recipient: ForwardPath) -> None:
    @virtual
    async def run() -> None:
        office = Office()
        await office.came_to(REFUSED, recipient, reverse_path=NULL)
        await office.reporter.report_due()
        assert await office.dsns() == []
        assert len(office.heard.dropped) == 1

    run()


@virtual
async def test_a_dsn_that_fails_in_its_turn_ends_at_the_postmaster() -> None:
    office = Office()
    await office.came_to(REFUSED)
    await office.reporter.report_due()
    [(dsn, _)] = await office.dsns()
    await office.settle(dsn, REFUSED)
    await office.reporter.report_due()
    [(copy, _)] = await office.dsns()
    assert [one.forward_path for one in copy.recipients] == [POSTMASTER]


@pytest.mark.parametrize(
    "obstacle",
    [
        NoRoute("no route matches example.org"),
        Route(NextHop("x"), Reject(Reply(550, ("5.7.1 not here",))), '"example.org"'),
    ],
    ids=["no route", "reject"],
)
def test_a_failure_whose_author_cannot_be_reached_goes_to_the_postmaster(obstacle: Route | NoRoute) -> None:
    @virtual
    async def run() -> None:
        office = Office(table=Table({"example.org": obstacle, "example.net": CAPTURE}))
        await office.came_to(REFUSED)
        await office.reporter.report_due()
        [(lease, copy)] = await office.dsns()
        assert [one.forward_path for one in lease.recipients] == [POSTMASTER]
        assert isinstance(office.heard.told[0][1], ToPostmaster)
        assert "example.org" in office.heard.told[0][1].because
        assert "<ann@example.org> cannot be reached" in " ".join(copy.as_string().split())

    run()


@virtual
async def test_a_delay_whose_author_cannot_be_reached_bothers_nobody() -> None:
    office = Office(table=Table({"example.net": CAPTURE}))
    await office.came_to(DELAYED)
    await office.reporter.report_due()
    assert await office.dsns() == []
    assert "no route matches example.org" in office.heard.dropped[0]


@virtual
async def test_where_not_even_the_postmaster_can_be_reached_the_history_says_so() -> None:
    office = Office(table=Table({}))
    id_ = await office.came_to(REFUSED)
    await office.reporter.report_due()
    [event] = await office.reports_in_history(id_)
    assert "<ann@example.org> cannot be reached" in event.text
    assert "<postmaster@example.net>" in event.text


# ---- trouble
class Failing(MemoryStorage):
    """Fails as often as told, before or after the report is filed."""

    def __init__(self, *, reading: int = 0, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.reading, self.before, self.after = reading, before, after

    async def reports(self, *, limit: int) -> Sequence[Report]:
        if self.reading:
            self.reading -= 1
            raise BROKEN
        return await super().reports(limit=limit)

    async def file_report(
        self,
        report: Report,
        envelope: Envelope,
        octets: InMemory,
        *,
        id: MessageId,  # noqa: A002 - the Protocol's name
        now: Instant,
    ) -> None:
        if self.before:
            self.before -= 1
            raise BROKEN
        await super().file_report(report, envelope, octets, id=id, now=now)
        if self.after:
            self.after -= 1
            raise BROKEN


@contextlib.asynccontextmanager
async def running(reporter: Reporter) -> AsyncIterator[None]:
    task = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "storage",
    [lambda: Failing(reading=4), lambda: Failing(before=4), lambda: Failing(after=1)],
    ids=["reading fails", "filing fails", "filing fails after it was done"],
)
def test_whatever_the_storage_does_the_author_is_told_exactly_once(storage: type[Failing]) -> None:
    @virtual
    async def run() -> None:
        office = Office(storage())
        await office.came_to(REFUSED)
        async with running(office.reporter):
            await asyncio.sleep(PAUSE.total_seconds() * 10)
        assert len(await office.dsns()) == 1
        assert set(office.heard.trouble) == {BROKEN}
        assert office.heard.dropped == []

    run()


@virtual
async def test_a_report_that_cannot_be_made_is_set_aside_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    poison = await office.came_to(REFUSED, reverse_path=Mailbox("poison", DomainName("example.org")))
    await office.came_to(REFUSED)
    route = office.table.route

    def explode(forward_path: ForwardPath) -> Route | NoRoute:
        if isinstance(forward_path, Mailbox) and forward_path.local_part == "poison":
            raise ZeroDivisionError("a bug")
        return route(forward_path)

    monkeypatch.setattr(office.table, "route", explode)
    async with running(office.reporter):
        await settled()
        assert len(await office.dsns()) == 1
        await asyncio.sleep(PAUSE.total_seconds() * TRIES)
    assert len(office.heard.trouble) == TRIES
    [event] = await office.reports_in_history(poison)
    assert f"set aside after {TRIES} tries: ZeroDivisionError: a bug" in event.text
    assert not await office.storage.reports(limit=10)


class Unreadable(MemoryStorage):
    """The spool has lost every octet."""

    async def reports(self, *, limit: int) -> Sequence[Report]:
        reports = await super().reports(limit=limit)
        return [Report(one.number, one.message, Lost(), one.notice, one.recipients) for one in reports]


class Lost:
    size = 100

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise BROKEN
        yield b""  # type: ignore[unreachable]  # makes it an iterator


@virtual
async def test_an_original_that_cannot_be_read_does_not_keep_its_author_in_the_dark() -> None:
    office = Office(Unreadable())
    await office.came_to(REFUSED)
    async with running(office.reporter):
        await asyncio.sleep(PAUSE.total_seconds() * TRIES)
    [(_, dsn)] = await office.dsns()
    assert "could not be read any more" in " ".join(dsn.as_string().split())


@virtual
async def test_a_large_original_is_read_no_further_than_it_is_returned() -> None:
    read = 0

    class Endless:
        size = 10_000_000

        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 1000
                yield b"X-Filler: " + b"x" * 988 + b"\r\n"

    message = QueuedMessage(MessageId("m"), ANN, MailParameters(), Origin("ESMTP"), 0, 10_000_000)
    await read_original(Report(1, message, Endless(), Notice.FAILED, ()))
    assert read <= 65_000


@virtual
async def test_a_poke_is_answered_at_once_and_a_forgotten_one_by_the_slow_poll() -> None:
    office = Office()
    await office.open()
    async with running(office.reporter):
        await settled()
        await office.came_to(REFUSED)
        office.reporter.poke()
        await settled()
        assert len(await office.dsns()) == 1
        await office.came_to(REFUSED)
        await settled()
        assert await office.dsns() == []
        await asyncio.sleep(POLL.total_seconds() + 1)
        assert len(await office.dsns()) == 1


@virtual
async def test_more_than_one_batch_is_told_without_waiting() -> None:
    office = Office()
    for _ in range(120):
        await office.came_to(REFUSED)
    async with running(office.reporter):
        await settled()
        assert office.filed == 120
