"""What is said of mail."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from tests.report.attempts import (
    ANN,
    ATTEMPT,
    DELIVERED,
    HOST,
    IN_DOUBT,
    LOST,
    MESSAGE,
    REFUSED,
    START,
    WAITING,
    attempt_with,
    fate,
)
from tests.virtual import VirtualClock
from waypost.deliver.journal import Journal as DeliverJournal
from waypost.deliver.opening import Step
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, Recipient
from waypost.mail.notification import ToAuthor, ToPostmaster
from waypost.mail.outcome import NotConnected
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import (
    Gone,
    Hold,
    Lease,
    Notice,
    Report,
    Settled,
    StorageError,
    StoreFault,
    StoreFaultKind,
    Wait,
)
from waypost.receive.ports import ReceiveLog
from waypost.report.journal import Journal, follows, opened_with_helo
from waypost.report.log import Log
from waypost.report.metrics import Metrics
from waypost.report.pen import AtOnce
from waypost.report.reporter import ReportLog
from waypost.smtp.path import Mailbox, NullPath
from waypost.smtp.reply import Reply

CLIENT = Endpoint("192.0.2.9", 4711)
REPORT = Report(1, MESSAGE, InMemory(b""), Notice.FAILED, ())


class StillClock(VirtualClock):
    def now(self) -> float:
        return START


class Kept:
    """A journal and what it wrote."""

    def __init__(self, level: str = "info") -> None:
        self.stream = io.BytesIO()
        self.metrics = Metrics(MemoryStorage())
        self.journal = Journal(Log(AtOnce(self.stream), level=level, pretty=False, clock=StillClock()), self.metrics)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"waypost_{name}_total", labels)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_the_journal_is_what_receiving_delivering_and_reporting_ask_for(kept: Kept) -> None:
    """report/ imports neither of the first two: that it fits them is checked here, by mypy and by name."""
    for_receiving: ReceiveLog = kept.journal
    for_delivering: DeliverJournal = kept.journal
    for_reporting: ReportLog = kept.journal
    fits = ((ReceiveLog, for_receiving), (DeliverJournal, for_delivering), (ReportLog, for_reporting))
    for protocol, ours in fits:
        assert {name for name in vars(protocol) if not name.startswith("_")} <= set(dir(ours))


def envelope(*recipients: Mailbox) -> Envelope:
    hop = NextHop("mx:example.com")
    return Envelope(ANN, tuple(Recipient(each, hop) for each in recipients), MESSAGE.origin)


def test_a_message_taken_is_one_line_under_the_id_it_keeps(kept: Kept) -> None:
    kept.journal.accepted(CLIENT, MESSAGE.id, envelope(ANN, ANN), 200)
    assert kept.lines == [
        {
            "time": "2026-01-01T00:00:00.000Z",
            "level": "info",
            "event": "received",
            "id": "01hxmessage00",
            "client": "192.0.2.9:4711",
            "client_name": "client.example.org",
            "protocol": "ESMTP",
            "reverse_path": "ann@example.org",
            "recipient": "ann@example.org",
            "recipients": 2,
            "size": 200,
            "durability": "memory",
        }
    ]
    assert kept.count("messages_received") == 1
    assert kept.count("messages_durable", durability="memory") == 1
    assert kept.count("octets_received") == 200


def test_a_refusal_names_the_client_the_command_and_the_reply(kept: Kept) -> None:
    kept.journal.refused(CLIENT, "RCPT TO:<\udce9@x>", Reply(550, ("5.7.1 no relaying",)))
    [line] = kept.lines
    assert line["client"] == "192.0.2.9:4711"
    assert line["command"] == "RCPT TO:<\\xe9@x>"
    assert line["reply"] == "550 5.7.1 no relaying"
    assert kept.count("refused", code="5yz") == 1


def test_a_session_is_said_only_to_those_who_look_for_it(kept: Kept) -> None:
    for journal in (kept.journal, (debug := Kept("debug")).journal):
        journal.connected(CLIENT, "mx")
        journal.ended(CLIENT, "QUIT", 1)
    assert kept.lines == []
    assert [line["event"] for line in debug.lines] == ["client connected", "session ended"]
    assert kept.count("sessions") == 1


def test_trouble_while_receiving_is_told(kept: Kept) -> None:
    kept.journal.trouble(CLIENT, "RCPT", ZeroDivisionError("a bug"))
    [line] = kept.lines
    assert (line["level"], line["client"], line["doing"]) == ("error", "192.0.2.9:4711", "RCPT")
    assert kept.count("crashes") == 1


def test_where_only_warnings_are_said_mail_is_still_counted() -> None:
    quiet = Kept("warning")
    quiet.journal.accepted(CLIENT, MESSAGE.id, envelope(ANN), 200)
    quiet.journal.refused(CLIENT, "VRFY", Reply(502, ("5.5.1 no",)))
    assert quiet.lines == []
    assert quiet.count("messages_received") == quiet.count("refused", code="5yz") == 1


def test_a_delivery_is_one_line_with_all_there_is_to_know(kept: Kept) -> None:
    kept.journal.attempted(ATTEMPT, [fate(DELIVERED, Gone())])
    assert kept.lines == [
        {
            "time": "2026-01-01T00:00:00.000Z",
            "level": "info",
            "event": "delivered",
            "id": "01hxmessage00",
            "recipient": "jane@example.com",
            "next_hop": "smtp://mx.example.com:25",
            "attempt": 3,
            "seconds": 0.25,
            "follows": "done",
            "text": "delivered to mx.example.com[192.0.2.1:25]: 250 2.0.0 Ok",
            "status": "2.0.0",
            "where": "mx.example.com[192.0.2.1:25]",
            "reply": "250 2.0.0 Ok",
        }
    ]


def test_each_recipient_has_a_line_that_names_state_fault_host_and_what_follows(kept: Kept) -> None:
    kept.journal.attempted(ATTEMPT, [fate(LOST, WAITING), fate(REFUSED, Gone(), Notice.FAILED)])
    lost, refused = kept.lines
    assert lost["event"] == "deferred"
    assert (lost["stage"], lost["fault"], lost["host"]) == ("EHLO", "closed by the peer", "mx.example.com")
    assert lost["follows"] == "next attempt 2026-01-01T00:05:00.000Z"
    assert refused["event"] == "rejected"
    assert (refused["stage"], refused["reply"]) == ("RCPT", "550 5.1.1 no such user")
    assert refused["follows"] == "done; failure report to <ann@example.org>"


def test_a_possible_duplicate_is_a_warning_even_where_deliveries_are_not_said() -> None:
    kept = Kept("warning")
    kept.journal.attempted(ATTEMPT, [fate(DELIVERED, Gone()), fate(IN_DOUBT, WAITING)])
    [line] = kept.lines
    assert line["level"] == "warning"
    assert "may hold a copy" in str(line["text"])
    assert kept.count("outcomes", outcome="delivered") == 1


def test_an_attempt_that_fell_back_to_helo_says_so(kept: Kept) -> None:
    attempt = attempt_with("smtp://mx.example.com:25", "EHLO us.example", "HELO us.example")
    kept.journal.attempted(attempt, [fate(DELIVERED, Gone())])
    assert kept.lines[0]["helo"] is True
    assert kept.count("helo_fallbacks") == 1
    assert not opened_with_helo(attempt_with("smtp:x", "EHLO us.example"))
    assert "HELO" in Step.HELO_NEW_CONNECTION.value  # delivering still calls it so


@pytest.mark.parametrize(
    ("settled", "text"),
    [
        (fate(DELIVERED, Gone()), "done"),
        (fate(LOST, Wait(START, WAITING.doubt)), "next attempt 2026-01-01T00:00:00.000Z"),
        (
            fate(LOST, Wait(START, WAITING.doubt), Notice.DELAYED),
            "next attempt 2026-01-01T00:00:00.000Z; delay report to <ann@example.org>",
        ),
        (fate(LOST, Hold("three bugs were caught")), "held: three bugs were caught"),
        (fate(DELIVERED, Gone(), Notice.RELAYED), "done; relay report to <ann@example.org>"),
    ],
)
def test_what_follows_is_said(settled: Settled, text: str) -> None:
    assert follows(MESSAGE, settled) == text


def test_a_failed_notification_is_the_postmasters(kept: Kept) -> None:
    message = replace(MESSAGE, reverse_path=NullPath())
    assert follows(message, fate(REFUSED, Gone(), Notice.FAILED)) == "done; failure report to the postmaster"


def test_a_bug_is_told_with_its_place_and_its_message(kept: Kept) -> None:
    kept.journal.crashed(MESSAGE, NextHop("mx:x"), ZeroDivisionError("a bug"))
    [line] = kept.lines
    assert (line["level"], line["id"]) == ("error", "01hxmessage00")
    assert "ZeroDivisionError: a bug" in str(line["exception"])
    assert kept.count("crashes") == 1


def test_what_stops_a_destination_is_told(kept: Kept) -> None:
    cause = NotConnected(HOST, Fault(FaultKind.REFUSED))
    kept.journal.destination_rests(NextHop("mx:x"), cause, START)
    kept.journal.credentials_refused(NextHop("mx:x"), cause, START)
    kept.journal.storage_failed("claim", "disk I/O error")
    kept.journal.lease_lost(Lease(MESSAGE, (), NextHop("mx:x"), InMemory(b""), "me", 3, START))
    assert [line["level"] for line in kept.lines] == ["warning", "error", "error", "warning"]
    assert kept.lines[0]["text"] == "no connection to mx.example.com[192.0.2.1:25]: connection refused"
    assert kept.lines[0]["follows"] == "tried at 2026-01-01T00:00:00.000Z"
    assert kept.lines[2]["detail"] == "disk I/O error"
    assert kept.lines[3]["epoch"] == 3
    assert kept.count("storage_failures") == 1


def test_a_report_is_told_under_the_id_of_the_message_it_is_about(kept: Kept) -> None:
    kept.journal.reported(REPORT, ToAuthor(ANN), MessageId("01hxreport000"))
    kept.journal.reported(REPORT, ToPostmaster(ANN, "nobody else."), MessageId("01hxreport001"))
    first, second = kept.lines
    assert (first["id"], first["report"], first["recipient"]) == ("01hxmessage00", "01hxreport000", "ann@example.org")
    assert "postmaster_because" not in first
    assert second["postmaster_because"] == "nobody else."
    assert kept.count("reports", notice="failed") == 2


def test_a_failure_that_stays_untold_is_a_warning(kept: Kept) -> None:
    kept.journal.report_dropped(REPORT, "no way")
    kept.journal.report_dropped(replace(REPORT, notice=Notice.DELAYED), "no way")
    assert [line["level"] for line in kept.lines] == ["warning", "info"]
    assert kept.count("reports_dropped") == 2


def test_trouble_with_the_queue_is_told_apart_from_a_bug(kept: Kept) -> None:
    kept.journal.report_trouble("reading", StorageError(StoreFault(StoreFaultKind.FAILED, "disk I/O error")))
    kept.journal.report_trouble("composing", ZeroDivisionError("a bug"))
    assert kept.count("storage_failures") == 1
    assert kept.count("crashes") == 1
    assert "exception" not in kept.lines[0]
    assert "a bug" in str(kept.lines[1]["exception"])


@pytest.mark.parametrize("peer", ["smtp://127.0.0.1:25", "mx.example.com", "192.0.2.1"])
def test_a_watched_peers_dialogue_is_logged_line_by_line(peer: str) -> None:
    stream = io.BytesIO()
    journal = Journal(Log(AtOnce(stream), level="error", pretty=False, clock=StillClock()), Metrics(MemoryStorage()))
    transcript = Transcript(0.0)
    transcript.add(0.1, "*", "connecting to mx.example.com[192.0.2.1:25]")
    transcript.add(0.2, "S", "220 hello\n250 there")
    attempt = replace(ATTEMPT, next_hop=NextHop("smtp://127.0.0.1:25"), transcript=transcript)

    journal.attempted(attempt, ())
    assert stream.getvalue() == b""
    journal.watched = [peer]
    journal.attempted(attempt, ())

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["mark"], line["text"]) for line in lines] == [
        ("dialogue", "*", "connecting to mx.example.com[192.0.2.1:25]"),
        ("dialogue", "S", "220 hello"),
        ("dialogue", "S", "250 there"),
    ]
    assert {line["id"] for line in lines} == {MESSAGE.id}
