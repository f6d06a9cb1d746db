"""The Received line: what it says, what nobody can make it say, and how others' are counted."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.envelope import MessageId, NextHop, Origin, Recipient
from waypost.mail.trace import HeaderScan, date, protocol, received_line
from waypost.smtp.path import parse_mailbox

ID = MessageId("06f2m5z8k1q00")
BOB = Recipient(parse_mailbox("bob@example.org"), NextHop("x"))
CAROL = Recipient(parse_mailbox("carol@example.org"), NextHop("x"))


def line(origin: Origin, *recipients: Recipient) -> bytes:
    return received_line(origin, recipients, hostname="mx.example.net", id=ID, at=1_767_225_600.9)


def test_a_line_names_client_server_protocol_id_and_date() -> None:
    assert line(Origin("ESMTP", "192.0.2.1", "us.example"), BOB) == (
        b"Received: from us.example ([192.0.2.1])\r\n"
        b"\tby mx.example.net with ESMTP id 06f2m5z8k1q00\r\n"
        b"\tfor <bob@example.org>;\r\n"
        b"\tThu, 01 Jan 2026 00:00:00 +0000\r\n"
    )


def test_of_several_recipients_none_is_betrayed_to_the_others() -> None:
    assert b"example.org" not in line(Origin("ESMTP", "192.0.2.1", "us.example"), BOB, CAROL)


def test_an_ipv6_client_is_written_as_a_literal() -> None:
    assert b"from us.example ([IPv6:2001:db8::1])\r\n" in line(Origin("ESMTP", "2001:db8::1", "us.example"))


def test_a_local_client_has_no_address() -> None:
    assert line(Origin("LMTP", "", "dovecot")).startswith(b"Received: from dovecot\r\n\tby ")
    assert line(Origin("LMTP", "", "")).startswith(b"Received: from unknown\r\n\tby ")


def test_an_internationalised_recipient_is_written_in_utf8() -> None:
    recipient = Recipient(parse_mailbox("bücher@例え.example"), NextHop("x"))
    assert "for <bücher@例え.example>".encode() in line(Origin("UTF8SMTP", "192.0.2.1", "us.example"), recipient)


@pytest.mark.parametrize(
    "name",
    ["a)b", "(x", "x y", "a\r\nBcc: x", "a;b", "<a>", 'a"b', "é", "[1.2.3.4", "-", "", "a" * 300, "a,b", "x\\y"],
)
def test_a_name_that_could_harm_the_line_gives_way_to_the_address(name: str) -> None:
    assert line(Origin("ESMTP", "192.0.2.1", name)).startswith(b"Received: from [192.0.2.1] ([192.0.2.1])\r\n\tby ")


@given(st.text(max_size=80))
def test_no_name_can_end_the_line_or_open_a_comment(name: str) -> None:
    written = line(Origin("ESMTP", "192.0.2.1", name), BOB)
    assert re.fullmatch(
        rb"Received: from [A-Za-z0-9._\[\]:-]+ \(\[192\.0\.2\.1\]\)\r\n\tby mx\.example\.net with ESMTP id \w{13}\r\n"
        rb"\tfor <bob@example\.org>;\r\n\tThu, 01 Jan 2026 00:00:00 \+0000\r\n",
        written,
    )


@pytest.mark.parametrize(
    ("verb", "smtputf8", "word"),
    [
        ("HELO", False, "SMTP"),
        ("EHLO", False, "ESMTP"),
        ("EHLO", True, "UTF8SMTP"),
        ("LHLO", False, "LMTP"),
        ("LHLO", True, "UTF8LMTP"),
    ],
)
def test_the_word_after_with_tells_how_the_client_spoke(verb: str, smtputf8: bool, word: str) -> None:  # noqa: FBT001
    assert protocol(verb, smtputf8=smtputf8) == word


@pytest.mark.parametrize("verb", ["EHLO", "LHLO"])
@pytest.mark.parametrize("smtputf8", [False, True])
def test_the_word_after_with_ends_in_s_under_tls_and_in_a_for_an_account(verb: str, smtputf8: bool) -> None:  # noqa: FBT001
    bare = protocol(verb, smtputf8=smtputf8)
    assert protocol(verb, smtputf8=smtputf8, secured=True) == f"{bare}S"
    assert protocol(verb, smtputf8=smtputf8, secured=True, authenticated=True) == f"{bare}SA"
    assert protocol("HELO", smtputf8=False, secured=True) == "SMTP"


def test_the_received_line_names_version_and_suite_of_tls() -> None:
    origin = Origin("ESMTPS", "192.0.2.1", "us.example", tls="TLSv1.3 TLS_AES_256_GCM_SHA384, certificate of CN=x")
    line = received_line(origin, [], hostname="mx.example", id=MessageId("i"), at=0)
    assert line == (
        b"Received: from us.example ([192.0.2.1])\r\n\tby mx.example with ESMTPS (TLSv1.3) id i"
        b"\r\n\ttls TLS_AES_256_GCM_SHA384;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_a_date_is_in_english_and_utc() -> None:
    assert date(0) == "Thu, 01 Jan 1970 00:00:00 +0000"
    assert date(1_709_164_799) == "Wed, 28 Feb 2024 23:59:59 +0000"


HEADER = (
    b"Received: by a\r\n\tReceived: folded, not a field\r\nSubject: Received: x\r\nRECEIVED: by b\r\n"
    b"X-Received: no\r\nreceived:by c\r\n"
)


@pytest.mark.parametrize(
    ("octets", "count"),
    [
        (HEADER + b"\r\nReceived: in the body\r\n", 3),
        (HEADER, 3),
        (b"\r\nReceived: in the body\r\n", 0),
        (b"", 0),
        (b"Subject: x\r\n\r\nReceived: y\r\n", 0),
    ],
)
def test_received_lines_of_the_header_alone_are_counted(octets: bytes, count: int) -> None:
    scan = HeaderScan()
    scan.feed(octets)
    assert scan.received == count


@given(st.integers(min_value=1, max_value=40), st.booleans())
def test_cuts_make_no_difference_to_the_count(step: int, body: bool) -> None:  # noqa: FBT001
    octets = HEADER * 3 + (b"\r\nReceived: in the body\r\n" * 3 if body else b"")
    scan = HeaderScan()
    for start in range(0, len(octets), step):
        scan.feed(octets[start : start + step])
    assert scan.received == 9
    assert scan.ended is body


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Message-ID: <a.b@c.example>\r\n\r\nbody", "a.b@c.example"),
        (b"From: x\r\nMESSAGE-Id:<a@b>\r\n\r\n", "a@b"),
        (b"Message-ID:\r\n <folded@b.example>\r\n\r\n", "folded@b.example"),
        (b"Message-ID: bare@b.example\r\n\r\n", "bare@b.example"),
        (b"X-Message-ID: <a@b>\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", ""),
        (b"Message-ID: <\xe9@b>\r\n\r\n", "\\xe9@b"),
        (b"Message-ID:\r\n\r\n", ""),
    ],
)
def test_a_message_id_is_noticed_on_the_way(header: bytes, found: str) -> None:
    scan = HeaderScan()
    scan.feed(header)
    assert scan.message_id == found
