"""Outcomes in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.explain import as_details, describe, describe_cause, plain, report_fields
from waypost.mail.outcome import (
    Answered,
    Cause,
    ConnectionLost,
    Deferred,
    Delivered,
    DnsFailed,
    Expired,
    Host,
    InDoubt,
    LocalTrouble,
    Misbehaved,
    NoSuchHost,
    NotConnected,
    Outcome,
    PolicyRefused,
    Rejected,
)
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.smtp.reply import EnhancedStatus, Reply

MX = Host("mx.test", Endpoint("192.0.2.1", 25))
MX6 = Host("mx.test", Endpoint("2001:db8::1", 25))
CLOSED = Fault(FaultKind.CLOSED)
LATER = EnhancedStatus(4, 4, 2)
NEVER = EnhancedStatus(5, 1, 1)
NO_USER = Reply(550, ("5.1.1 no such user",))
GREYLISTED = Reply(450, ("4.7.1 no",))


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (
            Delivered(str(MX), Reply(250, ("2.0.0 Ok",))),
            "delivered to mx.test[192.0.2.1:25]: 250 2.0.0 Ok",
        ),
        (
            Deferred(ConnectionLost(MX, "EHLO", CLOSED), LATER),
            "deferred: connection to mx.test[192.0.2.1:25] closed by the peer while waiting for the reply to EHLO",
        ),
        (
            Deferred(ConnectionLost(MX, "greeting", Fault(FaultKind.TIMED_OUT)), LATER),
            "deferred: connection to mx.test[192.0.2.1:25] timed out while waiting for the greeting",
        ),
        (
            Deferred(ConnectionLost(MX, "body", Fault(FaultKind.RESET, "errno 104")), LATER),
            "deferred: connection to mx.test[192.0.2.1:25] reset by the peer (errno 104) while sending the body",
        ),
        (
            Deferred(ConnectionLost(MX, "TLS handshake", Fault(FaultKind.TLS, "cipher")), LATER),
            "deferred: TLS failed (cipher) on the connection to mx.test[192.0.2.1:25] during the TLS handshake",
        ),
        (
            Deferred(NotConnected(MX6, Fault(FaultKind.REFUSED)), LATER),
            "deferred: no connection to mx.test[[2001:db8::1]:25]: connection refused",
        ),
        (
            Rejected(Answered(MX, "RCPT", NO_USER), NEVER),
            "rejected: mx.test[192.0.2.1:25] answered RCPT with 550 5.1.1 no such user",
        ),
        (
            Deferred(Answered(MX, "greeting", GREYLISTED), LATER),
            "deferred: mx.test[192.0.2.1:25] greeted us with 450 4.7.1 no",
        ),
        (
            Deferred(Answered(MX, "final dot", GREYLISTED), LATER),
            "deferred: mx.test[192.0.2.1:25] answered the final dot with 450 4.7.1 no",
        ),
        (
            Deferred(Misbehaved(MX, "MAIL", "'HTTP'"), LATER),
            "deferred: mx.test[192.0.2.1:25] did not keep to SMTP while waiting for the reply to MAIL: 'HTTP'",
        ),
        (
            Rejected(NoSuchHost("example.com", "the domain takes no mail", NEVER), NEVER),
            "rejected: nowhere to deliver mail for example.com: the domain takes no mail",
        ),
        (
            Deferred(DnsFailed("example.com", "SERVFAIL"), LATER),
            "deferred: DNS gave no usable answer for example.com: SERVFAIL",
        ),
        (Rejected(PolicyRefused("too big for mx.test", NEVER), NEVER), "rejected: too big for mx.test"),
        (
            Rejected(Expired("5 days", Deferred(Answered(MX, "RCPT", GREYLISTED), LATER)), NEVER),
            "rejected: given up after 5 days; at last deferred: mx.test[192.0.2.1:25] answered RCPT with 450 4.7.1 no",
        ),
        (Deferred(LocalTrouble("/x: disk full"), LATER), "deferred: trouble on this machine: /x: disk full"),
        (
            InDoubt(MX, Fault(FaultKind.TIMED_OUT)),
            "in doubt: connection to mx.test[192.0.2.1:25] timed out after the final dot; mx.test may hold a copy",
        ),
    ],
)
def test_each_outcome_is_one_sentence(outcome: Outcome, sentence: str) -> None:
    assert describe(outcome) == sentence
    assert as_details(outcome)["text"] == sentence


def test_a_refusal_is_reported_with_the_servers_own_words_and_name() -> None:
    fields = report_fields(Rejected(Answered(MX, "RCPT", NO_USER), NEVER))
    assert fields.status == "5.1.1"
    assert fields.diagnostic == "smtp; 550 5.1.1 no such user"
    assert fields.remote_mta == "dns; mx.test"
    assert fields.explanation == "The mail server mx.test does not accept this address."


def test_what_expired_is_reported_with_what_the_server_said_last() -> None:
    """RFC 3464 §2.3.5, §2.3.6: the author learns who never took the message, and what that one said."""
    fields = report_fields(Rejected(Expired("5 days", Deferred(Answered(MX, "RCPT", GREYLISTED), LATER)), NEVER))
    assert fields.status == str(NEVER)
    assert fields.diagnostic == "smtp; 450 4.7.1 no"
    assert fields.remote_mta == "dns; mx.test"
    assert fields.explanation == (
        "It could not be passed on within 5 days. The mail server mx.test does not accept this address for now."
    )


def test_what_expired_in_doubt_is_not_reported_as_not_delivered() -> None:
    fields = report_fields(Rejected(Expired("5 days", InDoubt(MX, CLOSED)), NEVER))
    assert fields.remote_mta == "dns; mx.test"
    assert "may already have been delivered" in fields.explanation


@pytest.mark.parametrize(
    ("stage", "code", "explanation"),
    [
        ("MAIL", 550, "The mail server mx.test does not accept mail with this reverse-path."),
        ("final dot", 451, "The mail server mx.test does not accept the message for now."),
        ("EHLO", 421, "The mail server mx.test does not accept mail from this mail system for now."),
    ],
)
def test_the_explanation_names_what_was_refused(stage: str, code: int, explanation: str) -> None:
    assert report_fields(Rejected(Answered(MX, stage, Reply(code, ("x",))), NEVER)).explanation == explanation


@pytest.mark.parametrize(
    "outcome",
    [
        Deferred(NotConnected(MX, CLOSED), LATER),
        Deferred(ConnectionLost(MX, "MAIL", CLOSED), LATER),
        Deferred(Misbehaved(MX, "MAIL", "x"), LATER),
        InDoubt(MX, CLOSED),
    ],
)
def test_without_a_reply_there_is_no_diagnostic_code_but_a_remote_mta(outcome: Outcome) -> None:
    """RFC 3464 §2.3.6: the field is for what the remote server said, and it said nothing."""
    fields = report_fields(outcome)
    assert fields.diagnostic == ""
    assert fields.remote_mta == "dns; mx.test"


@pytest.mark.parametrize(
    "cause", [NoSuchHost("x", "y", NEVER), DnsFailed("x", "y"), PolicyRefused("y", NEVER), LocalTrouble("y")]
)
def test_where_no_host_was_reached_for_no_remote_mta_is_named(cause: Cause) -> None:
    assert report_fields(Rejected(cause, NEVER)).remote_mta == ""


def test_an_in_doubt_outcome_is_never_reported_as_not_delivered() -> None:
    explanation = report_fields(InDoubt(MX, CLOSED)).explanation
    assert "may already have been delivered" in explanation
    assert "not delivered" not in explanation


@pytest.mark.parametrize(
    ("where", "remote_mta"),
    [
        ("mx.test[192.0.2.1:25]", "dns; mx.test"),
        ("/run/dovecot/lmtp[/run/dovecot/lmtp:0]", ""),
        ("the Maildir /var/mail/ann", ""),
        ("192.0.2.1[192.0.2.1:25]", "dns; [192.0.2.1]"),
        ("2001:db8::1[[2001:db8::1]:25]", "dns; [IPv6:2001:db8::1]"),
    ],
)
def test_a_delivery_names_a_remote_mta_only_where_there_was_one(where: str, remote_mta: str) -> None:
    assert report_fields(Delivered(where, Reply(250, ("ok",)))).remote_mta == remote_mta


def test_local_trouble_is_not_shown_to_strangers_but_to_the_administrator() -> None:
    outcome = Rejected(LocalTrouble("/srv/mail/secret-customer: permission denied"), NEVER)
    assert "secret-customer" not in report_fields(outcome).explanation
    assert "secret-customer" in describe(outcome)


@given(st.text())
def test_plain_text_is_printable_and_on_one_line(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)


@given(st.text().filter(str.isprintable))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_octets_that_are_no_text_are_written_as_octets() -> None:
    assert plain(b"caf\xe9\x1b[0m\r\nX: y".decode("utf-8", "surrogateescape")) == "caf\\xe9\\x1b[0m  X: y"


TEXT = st.text(max_size=20) | st.binary(max_size=20).map(lambda octets: octets.decode("utf-8", "surrogateescape"))
HOSTS = st.builds(Host, TEXT, st.just(Endpoint("192.0.2.1", 25)))
REPLIES = st.builds(Reply, st.integers(200, 599), st.lists(TEXT, max_size=3).map(tuple))
FAULTS = st.builds(Fault, st.sampled_from(FaultKind), TEXT)
STATUSES = st.sampled_from([LATER, NEVER])
STAGES = st.sampled_from(["greeting", "EHLO", "RCPT", "body", "final dot"])
CAUSES = st.one_of(
    st.builds(Answered, HOSTS, STAGES, REPLIES),
    st.builds(NotConnected, HOSTS, FAULTS),
    st.builds(ConnectionLost, HOSTS, STAGES, FAULTS),
    st.builds(Misbehaved, HOSTS, STAGES, TEXT),
    st.builds(NoSuchHost, TEXT, TEXT, STATUSES),
    st.builds(DnsFailed, TEXT, TEXT),
    st.builds(PolicyRefused, TEXT, STATUSES),
    st.builds(LocalTrouble, TEXT),
)
CAUSES = CAUSES | st.builds(Expired, TEXT, st.builds(Deferred, CAUSES, STATUSES) | st.builds(InDoubt, HOSTS, FAULTS))
OUTCOMES = st.one_of(
    st.builds(Delivered, TEXT, REPLIES, st.booleans(), st.booleans()),
    st.builds(Deferred, CAUSES, STATUSES),
    st.builds(Rejected, CAUSES, STATUSES),
    st.builds(InDoubt, HOSTS, FAULTS),
)


@given(OUTCOMES)
def test_whatever_a_peer_said_every_text_can_stand_in_a_log_and_in_a_header(outcome: Outcome) -> None:
    fields = report_fields(outcome)
    for text in (describe(outcome), fields.status, fields.diagnostic, fields.remote_mta, fields.explanation):
        assert text.isprintable()
    assert json.loads(json.dumps(as_details(outcome), ensure_ascii=False).encode()) == as_details(outcome)


@given(CAUSES)
def test_a_cause_reads_alike_in_a_deferral_and_in_a_rejection(cause: Cause) -> None:
    assert describe(Deferred(cause, LATER)) == f"deferred: {describe_cause(cause)}"
    assert describe(Rejected(cause, NEVER)) == f"rejected: {describe_cause(cause)}"
