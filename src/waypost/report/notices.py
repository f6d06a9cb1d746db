"""Notices to administrators, by class: what happened is gathered, and told in one message now and then.

The first of a quiet time goes out soon after it happened, and no more than one in `every`. A notice goes by the route
of its recipient, or by another where that one is in trouble. What cannot be filed waits for the next try, in memory and
bounded. Not here: which events belong to which class (noticing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, Protocol

from waypost.mail.dkim import Signing, unsigned
from waypost.mail.envelope import Envelope, InMemory, NextHop, Origin, Recipient
from waypost.mail.header import field as field_of
from waypost.mail.trace import date
from waypost.net.clock import Clock, Instant
from waypost.queue.ids import MessageIds
from waypost.queue.storage import Storage, StorageError, Stored
from waypost.report.common_notices import Class, CommonNotices, Gathered
from waypost.report.log import timestamp
from waypost.route.route import NoRoute, Route
from waypost.smtp.extension import Notify, RcptParameters
from waypost.smtp.path import ForwardPath, Mailbox, NullPath

#: From the first event of a quiet time to its notice: what belongs together comes within it.
GATHERED: Final = timedelta(minutes=1)
#: After a notice that could not be filed.
PAUSE: Final = timedelta(minutes=1)
#: Events of a class that are told one by one; the others are counted.
TOLD: Final = 20
#: Characters of one event.
_WIDTH: Final = 400


#: What a class is called in a notice.
_TITLES: Final = {
    Class.BOUNCES: "messages that came back",
    Class.DELAYS: "delays",
    Class.POLICY: "refused by policy",
    Class.RESOURCES: "trouble with resources",
    Class.PROTOCOL: "errors of protocol",
    Class.AUTH: "failed logins",
}


class BounceKind(Enum):
    """Why a message came back, told apart by its enhanced status (RFC 3463)."""

    USER = "user"
    MAILBOX = "mailbox"
    HOST = "host"
    EXPIRED = "expired"
    LOOP = "loop"
    SIZE = "size"
    POLICY = "policy"
    PROTOCOL = "protocol"
    OTHER = "other"


def bounce_kind(status: str) -> BounceKind:
    """The kind of a failure with this enhanced status, such as "5.1.1"."""
    _, _, rest = status.partition(".")
    subject, _, detail = rest.partition(".")
    match subject, detail:
        case ("1", "2") | ("4", "4"):
            return BounceKind.HOST
        case "1", _:
            return BounceKind.USER
        case ("2", "3") | ("3", "4"):
            return BounceKind.SIZE
        case "2", _:
            return BounceKind.MAILBOX
        case "4", "7":
            return BounceKind.EXPIRED
        case "4", "6":
            return BounceKind.LOOP
        case "7", _:
            return BounceKind.POLICY
        case "5" | "6", _:
            return BounceKind.PROTOCOL
        case _:
            return BounceKind.OTHER


class Ways(Protocol):
    """Where notices go (waypost.route.table.RouteTable)."""

    def route(self, forward_path: ForwardPath) -> Route | NoRoute: ...

    def named(self, name: str) -> Route | NoRoute: ...


class NoticeLog(Protocol):
    """Who hears of notices; journal.py is one."""

    def alarm_sent(self, what: str, recipient: str, id: str) -> None:  # noqa: A002 - the field's own name
        """One is queued."""
        ...

    def notice_failed(self, recipient: str, why: str) -> None:
        """One could not be, and is tried again."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Who is told of what. `fallback`: the name of a route for when a recipient's own is in trouble, or ""."""

    hostname: str
    postmaster: Mailbox
    recipients: Mapping[Class, tuple[Mailbox, ...]]
    every: timedelta
    fallback: str = ""
    kinds: frozenset[BounceKind] = frozenset(BounceKind)


class Notices:
    """Gathers, and sends. `run` it in a task."""

    def __init__(
        self, terms: Terms, storage: Storage, ways: Ways, clock: Clock, ids: MessageIds, log: NoticeLog
    ) -> None:
        self.terms = terms
        #: Whether a next hop is in trouble now; and who is told that something was queued.
        self.in_trouble: Callable[[NextHop], bool] = lambda _: False
        self.filed: Callable[[], None] = lambda: None
        self.sign: Signing = unsigned
        self._storage = storage
        self._ways = ways
        self._clock = clock
        self._ids = ids
        self._log = log
        self._gathered: dict[Class, Gathered] = {}
        self._since: Instant = 0.0
        self._happened = asyncio.Event()
        self._common = CommonNotices(storage, clock)

    def note(self, of: Class, text: str) -> None:
        """Something happened; `text` is a line. Costs little, and takes no more room however much happens."""
        if not self.terms.recipients.get(of):
            return
        now = self._clock.now()
        if not self._gathered:
            self._since = now
        gathered = self._gathered.setdefault(of, Gathered())
        gathered.count += 1
        if len(gathered.events) < TOLD:
            gathered.events.append(f"{timestamp(now)} {' '.join(text.split())[:_WIDTH]}")
        self._happened.set()

    async def run(self) -> None:
        """Tell, until cancelled."""
        self._happened.set()  # something may have been handed over by a process that is gone
        while True:
            await self._happened.wait()
            await self._clock.sleep(GATHERED)
            told = await self.tell()
            await self._clock.sleep(max(PAUSE, self.terms.every - GATHERED) if told else PAUSE)

    async def tell(self) -> bool:
        """File what all processes have gathered, a message a recipient; or let another do so, whose turn it is.

        False: not all was told, and that is still to be.
        """
        self._happened.clear()
        try:
            is_our_turn = await self._common.is_our_turn(max(PAUSE, self.terms.every - GATHERED))
            return await (self._tell_for_all() if is_our_turn else self._hand_over())
        except StorageError as error:
            self._happened.set()
            self._log.notice_failed("all", str(error))
            return False

    async def _tell_for_all(self) -> bool:
        taken = await self._common.taken_over()
        self._keep(taken.gathered, taken.since)
        if not self._gathered:
            await self._common.give_back()
            return True
        all_told = await self._file_all()
        await self._common.told(taken)
        return all_told

    async def _hand_over(self) -> bool:
        gathered, since = self._gathered, self._since
        self._gathered = {}
        self._happened.set()  # for it may be our turn, next time
        try:
            if gathered:
                await self._common.hand_over(self._ids.make(), gathered, since)
        except StorageError:
            self._keep(list(gathered.items()), since)
            raise
        return False

    async def _file_all(self) -> bool:
        gathered, since = self._gathered, self._since
        self._gathered = {}
        untold: set[Class] = set()
        for mailbox in self._addressees(gathered):
            classes = [of for of in gathered if mailbox in self.terms.recipients[of]]
            if not await self._file(mailbox, {of: gathered[of] for of in classes}, since):
                untold.update(classes)
        self._keep([(of, gathered[of]) for of in gathered if of in untold], since)
        if untold:
            self._happened.set()
            await self._common.give_back()
        return not untold

    def _keep(self, before: Sequence[tuple[Class, Gathered]], since: Instant) -> None:
        """Tell this, too: it happened earlier."""
        if before:
            self._since = min(since, self._since) if self._gathered else since
        for of, earlier in before:
            now = self._gathered.setdefault(of, Gathered())
            now.count += earlier.count
            now.events = [*earlier.events, *now.events][:TOLD]

    def _addressees(self, gathered: Mapping[Class, Gathered]) -> Sequence[Mailbox]:
        return list(dict.fromkeys(mailbox for of in gathered for mailbox in self.terms.recipients[of]))

    async def _file(self, mailbox: Mailbox, told: Mapping[Class, Gathered], since: Instant) -> bool:
        way = self._way(mailbox)
        if isinstance(way, NoRoute):
            self._log.notice_failed(str(mailbox), way.detail)
            return False
        name, now = self._ids.make(), self._clock.now()
        octets = self.sign(self._letter(mailbox, told, since, f"<{name}@{self.terms.hostname}>", now))
        recipient = Recipient(mailbox, way.next_hop, RcptParameters(notify=Notify.NEVER))
        envelope = Envelope(NullPath(), (recipient,), Origin("local"))
        try:
            stored = await self._storage.accept(envelope, InMemory(octets), id=name, now=now, claim_until=now)
        except StorageError as error:
            self._log.notice_failed(str(mailbox), str(error))
            return False
        if not isinstance(stored, Stored):
            self._log.notice_failed(str(mailbox), stored.detail)
            return False
        self._log.alarm_sent("notice", str(mailbox), name)
        self.filed()
        return True

    def _way(self, mailbox: Mailbox) -> Route | NoRoute:
        """The recipient's own route, unless it is in trouble and there is another."""
        own = self._ways.route(mailbox)
        if isinstance(own, Route) and not self.in_trouble(own.next_hop):
            return own
        if not self.terms.fallback:
            return own
        other = self._ways.named(self.terms.fallback)
        return other if isinstance(other, Route) else own

    def _letter(
        self, mailbox: Mailbox, told: Mapping[Class, Gathered], since: Instant, message_id: str, now: Instant
    ) -> bytes:
        counts = ", ".join(f"{gathered.count} {_TITLES[of]}" for of, gathered in told.items())
        header = b"".join(
            field_of(key, value)
            for key, value in (
                ("From", f"Waypost at {self.terms.hostname} <{self.terms.postmaster}>"),
                ("To", f"<{mailbox}>"),
                ("Subject", f"Notice of {self.terms.hostname}: {counts}"),
                ("Date", date(int(now))),
                ("Message-ID", message_id),
                ("Auto-Submitted", "auto-generated"),
                ("MIME-Version", "1.0"),
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Transfer-Encoding", "8bit"),
            )
        )
        lines = [f"Since {timestamp(since)}, {self.terms.hostname} has seen:", *_lines(told)]
        return header + b"\r\n" + "\r\n".join(lines).encode("utf-8", "backslashreplace") + b"\r\n"


def _lines(told: Mapping[Class, Gathered]) -> Iterator[str]:
    for of, gathered in told.items():
        yield ""
        yield f"{gathered.count} {_TITLES[of]} (notices.{of.value})"
        yield from (f"  {event}" for event in gathered.events)
        if gathered.count > len(gathered.events):
            yield f"  … and {gathered.count - len(gathered.events)} more; the log has them"
