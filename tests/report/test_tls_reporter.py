"""When a day's reports go out, by which way, and what becomes of those that do not get through. On virtual time."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.route.written import WrittenResolver
from tests.virtual import VirtualClock, virtual
from waypost.mail.dkim import Signing, signing, unsigned
from waypost.mail.envelope import NextHop
from waypost.mail.outcome import Host
from waypost.mail.tls_report import ORIGIN, Reporter
from waypost.mail.tls_result import Basis, Published, TlsResult, TlsTrouble
from waypost.net.https import HttpsAnswer, HttpsFailed, HttpsResult, HttpsTrouble
from waypost.net.resolver import DnsTrouble, TextAnswer, Texts
from waypost.net.stream import Endpoint
from waypost.queue.ids import MessageIds
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Selection
from waypost.report.tls_reporter import TlsReporter
from waypost.report.tls_tally import TlsTally
from waypost.route.route import NoRoute, Route, SmtpMx
from waypost.smtp.path import ForwardPath, NullPath, parse_mailbox

DAY = 86_400
HOST = Host("mx.far.example", Endpoint("192.0.2.1", 25))
BY_MAIL = Texts((b"v=TLSRPTv1; rua=mailto:reports@far.example",))
BY_HTTPS = Texts((b"v=TLSRPTv1; rua=https://reports.far.example/in",))


@dataclass
class Web:
    answer: HttpsResult = field(default_factory=lambda: HttpsAnswer(201, "", b""))
    posted: list[tuple[str, bytes]] = field(default_factory=list)

    async def get(self, url: str, *, limit: int, within: timedelta) -> HttpsResult:
        raise AssertionError("nothing is fetched")

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, limit: int, within: timedelta
    ) -> HttpsResult:
        assert headers == {"Content-Type": "application/tlsrpt+gzip"}
        self.posted.append((url, body))
        return self.answer


@dataclass
class Table:
    found: Route | NoRoute = field(
        default_factory=lambda: Route(NextHop("mx:far.example"), SmtpMx("far.example"), "test")
    )

    def route(self, forward_path: ForwardPath) -> Route | NoRoute:
        return self.found


@dataclass
class Told:
    said: list[str] = field(default_factory=list)

    def tls_reported(self, domain: str, day: str, place: str) -> None:
        self.said.append(f"{domain} {day} to {place}")

    def tls_not_reported(self, domain: str, day: str, why: str) -> None:
        self.said.append(f"{domain} {day} not: {why}")


@dataclass
class Office:
    tally: TlsTally
    storage: MemoryStorage
    web: Web
    told: Told
    texts: dict[str, TextAnswer]

    async def reports(self) -> list[str]:
        """The messages in the queue: to whom each goes."""
        entries = await self.storage.entries(Selection(), after=("", -1), limit=100, now=0)  # type: ignore[arg-type]
        return [entry.forward_path for entry in entries]


@asynccontextmanager
async def office(
    tmp_path: Path, wanted: TextAnswer, table: Table | None = None, sign: Signing = unsigned
) -> AsyncIterator[Office]:
    """A reporter at work, with a session to far.example counted on the first day."""
    clock, dice = VirtualClock(), random.Random(7)  # noqa: S311 - a test that comes out the same each time
    texts: dict[str, TextAnswer] = {"_smtp._tls.far.example": wanted}
    storage, web, told = MemoryStorage(), Web(), Told()
    await storage.open(owner="test")
    tally = TlsTally(tmp_path / "tls", clock)
    tally.count(TlsResult(Published(Basis.NOTHING, "far.example"), HOST, "192.0.2.99", TlsTrouble.NONE))
    reporter = TlsReporter(
        tally,
        Reporter("mx.example.net", "example.net", parse_mailbox("postmaster@example.net")),
        resolver=WrittenResolver({}, {}, texts=texts),
        https=web,
        storage=storage,
        routes=table or Table(),
        ids=MessageIds(clock, dice),
        clock=clock,
        dice=dice,
        log=told,
        filed=lambda: None,
        sign=sign,
    )
    running = asyncio.create_task(reporter.run())
    yield Office(tally, storage, web, told, texts)
    running.cancel()
    await storage.close()


@virtual
async def test_a_day_is_reported_some_hours_after_it_has_ended_and_once(tmp_path: Path) -> None:
    async with office(tmp_path, BY_HTTPS) as found:
        await asyncio.sleep(DAY)
        assert found.web.posted == []
        await asyncio.sleep(4 * 3600 + 900)
        ((url, body),) = found.web.posted
        assert url == "https://reports.far.example/in"
        report = json.loads(gzip.decompress(body))
        assert report["policies"][0]["summary"]["total-successful-session-count"] == 1
        assert found.told.said == ["far.example 2026-01-01 to https://reports.far.example/in"]
        await asyncio.sleep(DAY)
        assert len(found.web.posted) == 1


@virtual
async def test_by_mail_a_report_enters_the_queue_from_nobody(tmp_path: Path) -> None:
    async with office(tmp_path, BY_MAIL) as found:
        await asyncio.sleep(DAY + 5 * 3600)
        assert await found.reports() == ["reports@far.example"]
        entries = await found.storage.entries(Selection(), after=("", -1), limit=1, now=0)  # type: ignore[arg-type]
        message, _ = await found.storage.message(entries[0].id)
        assert isinstance(message.reverse_path, NullPath)
        assert message.origin == ORIGIN
        assert found.tally.day(found.tally.today() - timedelta(days=1)) == {}


@virtual
async def test_a_report_by_mail_is_signed_as_its_receiver_may_want_it(tmp_path: Path) -> None:
    """RFC 8460 §3 and §5.3: DKIM, over the report's own fields too, by a key that may be for TLS reports alone."""
    key = rsa.generate_private_key(65537, 2048)
    sign = signing(key, domain="example.net", selector="tlsrpt1")
    async with office(tmp_path, BY_MAIL, sign=sign) as found:
        await asyncio.sleep(DAY + 5 * 3600)
        entries = await found.storage.entries(Selection(), after=("", -1), limit=1, now=0)  # type: ignore[arg-type]
        _, octets = await found.storage.message(entries[0].id)
        whole = b"".join([chunk async for chunk in octets])
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        record = b"v=DKIM1; k=rsa; s=tlsrpt; p=" + base64.b64encode(spki)
        zone = {b"tlsrpt1._domainkey.example.net.": record}
        verifier = dkim.DKIM(whole, tlsrpt="strict")
        assert verifier.verify(dnsfunc=lambda name, timeout: zone.get(name))  # noqa: ARG005
        signed = {name for name, _ in verifier.signed_headers}
        assert {b"from", b"tls-report-domain", b"tls-report-submitter"} <= signed


@virtual
async def test_a_domain_that_asks_for_nothing_gets_nothing(tmp_path: Path) -> None:
    async with office(tmp_path, Texts((b"v=spf1 -all",))) as found:
        await asyncio.sleep(DAY + 5 * 3600)
        assert found.told.said == []
        assert await found.reports() == []
        assert not any(found.tally.day(day) for day in found.tally.days())


@virtual
async def test_a_place_that_fails_is_tried_again_for_a_day_and_then_given_up(tmp_path: Path) -> None:
    async with office(tmp_path, BY_HTTPS) as found:
        found.web.answer = HttpsFailed(HttpsTrouble.UNREACHABLE, "no address")
        await asyncio.sleep(DAY + 6 * 3600)
        assert len(found.web.posted) > 3
        assert "to be tried again" in found.told.said[-1]
        await asyncio.sleep(DAY)
        tried = len(found.web.posted)
        assert "given up" in found.told.said[-1]
        await asyncio.sleep(DAY)
        assert len(found.web.posted) == tried


@virtual
async def test_a_place_that_refuses_is_tried_again(tmp_path: Path) -> None:
    async with office(tmp_path, BY_HTTPS) as found:
        found.web.answer = HttpsAnswer(503, "text/html", b"")
        await asyncio.sleep(DAY + 5 * 3600)
        assert "answered 503" in found.told.said[0]
        found.web.answer = HttpsAnswer(200, "", b"")
        await asyncio.sleep(1000)
        assert found.told.said[-1].endswith("to https://reports.far.example/in")


@virtual
async def test_a_mailbox_without_a_route_is_given_up_at_once(tmp_path: Path) -> None:
    async with office(tmp_path, BY_MAIL, Table(NoRoute("nowhere"))) as found:
        await asyncio.sleep(DAY + 5 * 3600)
        assert found.told.said == [
            "far.example 2026-01-01 not: <reports@far.example> cannot be reached from here by any route; given up"
        ]


@virtual
async def test_while_dns_is_in_trouble_a_report_waits(tmp_path: Path) -> None:
    async with office(tmp_path, DnsTrouble("SERVFAIL")) as found:
        await asyncio.sleep(DAY + 6 * 3600)
        assert found.web.posted == []
        found.texts["_smtp._tls.far.example"] = BY_HTTPS
        await asyncio.sleep(1000)
        assert len(found.web.posted) == 1


@virtual
async def test_of_several_processes_one_reports_what_all_have_counted(tmp_path: Path) -> None:
    clock, storage, told = VirtualClock(), MemoryStorage(), Told()
    await storage.open(owner="test")
    web = Web()
    tallies = [TlsTally(tmp_path / name, clock) for name in "abc"]
    texts: dict[str, TextAnswer] = {"_smtp._tls.far.example": BY_HTTPS}
    reporters = [
        TlsReporter(
            tally,
            Reporter("mx.example.net", "example.net", parse_mailbox("postmaster@example.net")),
            resolver=WrittenResolver({}, {}, texts=texts),
            https=web,
            storage=storage,
            routes=Table(),
            ids=MessageIds(clock, random.Random(number)),  # noqa: S311 - as above
            clock=clock,
            dice=random.Random(number),  # noqa: S311 - as above
            log=told,
            filed=lambda: None,
            name=f"node{number}",
        )
        for number, tally in enumerate(tallies)
    ]
    for number, tally in enumerate(tallies):
        for trouble in (TlsTrouble.NONE, *[TlsTrouble.NO_STARTTLS] * number):
            tally.count(TlsResult(Published(Basis.NOTHING, "far.example"), HOST, "192.0.2.99", trouble))
    running = [asyncio.ensure_future(reporter.run()) for reporter in reporters]
    await asyncio.sleep(timedelta(days=2).total_seconds())
    for task in running:
        task.cancel()

    ((_, posted),) = web.posted
    summary = json.loads(gzip.decompress(posted))["policies"][0]["summary"]
    assert summary == {"total-successful-session-count": 3, "total-failure-session-count": 3}
    assert not any(tally.day(day) for tally in tallies for day in tally.days())
    assert await storage.all_kept("TLS counted", now=clock.now()) == []
