"""Sends each day's TLS reports to the domains that ask for them (RFC 8460): by mail through the queue, or over HTTPS.

A day's reports go out some hours after it has ended, at a time that is drawn once, so that not all reporters come at
midnight (§5.4). Where several processes share the queue, each hands over what it had counted once the day has ended,
and one of them reports it all. A place that cannot be reached is tried again for a day; then the report is given up. A
report's own delivery is never counted, nor answered: it is sent from `<>`. Not here: what a report looks like
(mail/tls_report.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol, assert_never

from waypost.mail.dkim import Signing, unsigned
from waypost.mail.envelope import Envelope, InMemory, Recipient
from waypost.mail.tls_report import (
    MEDIA_TYPE,
    ORIGIN,
    ByHttps,
    ByMail,
    Reporter,
    Sessions,
    TlsReport,
    as_message,
    packed,
    places,
)
from waypost.mail.tls_result import Published
from waypost.net.clock import Clock, Instant
from waypost.net.https import Https, HttpsAnswer
from waypost.net.resolver import DnsTrouble, Resolver, Texts
from waypost.queue.ids import MessageIds
from waypost.queue.storage import Storage, StorageError, Stored
from waypost.report.tls_tally import TlsTally
from waypost.route.route import NoRoute, Reject, Route
from waypost.smtp.extension import MailParameters
from waypost.smtp.path import ForwardPath, Mailbox, NullPath

#: Up to so long after a day's end its reports are sent (RFC 8460 §5.4).
SPREAD: Final = timedelta(hours=4)
#: How often it is looked whether reports are due, and those that failed are tried again.
LOOK: Final = timedelta(minutes=15)
#: After the day's end, when what could not be reported is given up (RFC 8460 §5.4 allows less).
GIVE_UP: Final = timedelta(hours=28)
POST: Final = timedelta(minutes=1)
#: Octets of an answer to a report that are read; nobody looks at them.
ANSWER: Final = 64 * 1024
DAY: Final = timedelta(days=1)
#: Whose values these are on the shelf: what was counted, by day, and who reports a day; and for how long he alone.
COUNTED: Final = "TLS counted"
REPORTING: Final = "TLS reporting"
LEASE: Final = 3 * LOOK


class Routes(Protocol):
    """Where a recipient goes: the route table now in force."""

    def route(self, forward_path: ForwardPath) -> Route | NoRoute: ...


class TlsReportLog(Protocol):
    """Who hears what was done about TLS reports; journal.py is one."""

    def tls_reported(self, domain: str, day: str, place: str) -> None:
        """A report was handed over to `place`."""
        ...

    def tls_not_reported(self, domain: str, day: str, why: str) -> None:
        """One was not, and will be tried again, or was given up; `why` says so."""
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """A report was handed over."""


@dataclass(frozen=True, slots=True)
class _NotSent:
    """It was not; `lasting`: nor would it be later."""

    why: str
    lasting: bool = False


class TlsReporter:
    """Reports what a tally holds of the days that have ended."""

    def __init__(
        self,
        tally: TlsTally,
        reporter: Reporter,
        *,
        resolver: Resolver,
        https: Https,
        storage: Storage,
        routes: Routes,
        ids: MessageIds,
        clock: Clock,
        dice: random.Random,
        log: TlsReportLog,
        filed: Callable[[], None],
        sign: Signing = unsigned,
        name: str = "",
    ) -> None:
        """`filed` is told when a report is in the queue. `name`: this process, among those that share the queue."""
        self._name = name
        self._sign = sign
        self._tally = tally
        self._reporter = reporter
        self._resolver = resolver
        self._https = https
        self._storage = storage
        self._routes = routes
        self._ids = ids
        self._clock = clock
        self._log = log
        self._filed = filed
        self._after = SPREAD * dice.random()

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            await self._clock.sleep(LOOK)
            if self._name:
                try:
                    await self._gather()
                except StorageError:
                    continue  # told of by those who need it
            for day in self._tally.days():
                if self._clock.now() >= _ends(day) + self._after.total_seconds():
                    await self._report_day(day)

    # ---- with others
    async def _gather(self) -> None:
        """Hand over what was counted here on days that have ended; of the day that is ours, take up what all counted.

        Whoever first comes to the time that he drew reports a day. Raises: StorageError.
        """
        now = self._clock.now()
        for day in [day for day in self._tally.days() if _ends(day) <= now]:
            if self._tally.day(day) and not await self._is_ours(day, now):
                await self._hand_over(day, now)
        handed = await self._storage.all_kept(COUNTED, now=now)
        for day in sorted({date.fromisoformat(key.partition(" ")[0]) for key, _ in handed}):
            if now >= _ends(day) + (LOOK + self._after).total_seconds() and await self._claims(day, now):
                await self._take_up(day, handed)

    async def _is_ours(self, day: date, now: Instant) -> bool:
        return await self._storage.kept(REPORTING, day.isoformat(), now=now) == self._name.encode()

    async def _hand_over(self, day: date, now: Instant) -> None:
        key, taken = f"{day.isoformat()} {self._name} {self._ids.make()}", self._tally.taken(day)
        try:
            await self._storage.keep(COUNTED, key, taken, until=now + (GIVE_UP + DAY).total_seconds())
        except StorageError:
            self._tally.add(day, taken)
            raise

    async def _claims(self, day: date, now: Instant) -> bool:
        """Whether this day is for us to report, now and for a while."""
        name, key, until = self._name.encode(), day.isoformat(), now + LEASE.total_seconds()
        if await self._storage.keep_new(REPORTING, key, name, until=until, now=now):
            return True
        if await self._storage.kept(REPORTING, key, now=now) != name:
            return False
        await self._storage.keep(REPORTING, key, name, until=until)
        return True

    async def _take_up(self, day: date, handed: Sequence[tuple[str, bytes]]) -> None:
        for key, taken in handed:
            if key.startswith(day.isoformat()) and await self._storage.drop(COUNTED, key):
                self._tally.add(day, taken)

    async def _report_day(self, day: date) -> None:
        domains: dict[str, dict[Published, Sessions]] = {}
        for published, sessions in self._tally.day(day).items():
            domains.setdefault(published.domain, {})[published] = sessions
        is_last = self._clock.now() >= _ends(day) + GIVE_UP.total_seconds()
        for domain, policies in domains.items():
            await self._report(day, domain, policies, is_last=is_last)
        if not domains:
            self._tally.forget(day, "")

    async def _report(self, day: date, domain: str, policies: Mapping[Published, Sessions], *, is_last: bool) -> None:
        """One domain's report of a day, to every place it names; it is done once one of them has taken it."""
        answer = await self._resolver.texts(f"_smtp._tls.{domain}")
        if isinstance(answer, DnsTrouble) and not is_last:
            return
        wanted = places(answer.texts) if isinstance(answer, Texts) else ()
        begins = _ends(day) - DAY.total_seconds()
        report = TlsReport(self._ids.make(), self._reporter, domain, begins, _ends(day), policies)
        if await self._sent(report, wanted, day.isoformat(), is_last=is_last):
            self._tally.forget(day, domain)

    async def _sent(self, report: TlsReport, wanted: Sequence[ByMail | ByHttps], day: str, *, is_last: bool) -> bool:
        """Whether nothing is left to do."""
        if not wanted:
            return True
        failures = []
        for place in wanted:
            sent = await self._send(report, place)
            if isinstance(sent, _Sent):
                self._log.tls_reported(report.domain, day, _text(place))
            else:
                failures.append(sent)
        is_done = len(failures) < len(wanted) or is_last or all(failure.lasting for failure in failures)
        if failures:
            why = "; ".join(failure.why for failure in failures)
            self._log.tls_not_reported(report.domain, day, f"{why}; {'given up' if is_done else 'to be tried again'}")
        return is_done

    async def _send(self, report: TlsReport, place: ByMail | ByHttps) -> _Sent | _NotSent:
        match place:
            case ByHttps(url):
                return await self._post(report, url)
            case ByMail(mailbox):
                return await self._mail(report, mailbox)
            case _:
                assert_never(place)

    async def _post(self, report: TlsReport, url: str) -> _Sent | _NotSent:
        """RFC 8460 §5.2."""
        answer = await self._https.post(url, packed(report), {"Content-Type": MEDIA_TYPE}, limit=ANSWER, within=POST)
        if not isinstance(answer, HttpsAnswer):
            return _NotSent(f"{url}: {answer}")
        return _Sent() if 200 <= answer.status < 300 else _NotSent(f"{url} answered {answer.status}")

    async def _mail(self, report: TlsReport, to: Mailbox) -> _Sent | _NotSent:
        route = self._routes.route(to)
        if not isinstance(route, Route) or isinstance(route.transport, Reject):
            return _NotSent(f"<{to}> cannot be reached from here by any route", lasting=True)
        octets = self._sign(as_message(report, to, self._clock.now()))
        envelope = Envelope(NullPath(), (Recipient(to, route.next_hop),), ORIGIN, MailParameters(size=len(octets)))
        now = self._clock.now()
        try:
            stored = await self._storage.accept(
                envelope, InMemory(octets), id=self._ids.make(), now=now, claim_until=now
            )
        except StorageError as error:
            return _NotSent(f"the spool took no report: {error}")
        if not isinstance(stored, Stored):
            return _NotSent(f"the spool took no report: {stored}")
        self._filed()
        return _Sent()


def _ends(day: date) -> Instant:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + DAY.total_seconds()


def _text(place: ByMail | ByHttps) -> str:
    return place.url if isinstance(place, ByHttps) else f"<{place.mailbox}>"
