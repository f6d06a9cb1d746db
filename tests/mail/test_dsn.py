"""Delivery status notifications, read back with the standard library."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.dsn import HEADER_AT_MOST, RETURNED_AT_MOST, RETURNED_UNASKED, Dsn, compose, returns_whole
from waypost.mail.envelope import MessageId, NotInDoubt, Origin, PossiblyAt, QueuedMessage
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
from waypost.smtp.extension import BodyType, MailParameters, Return
from waypost.smtp.path import DomainName, Mailbox

ANN = Mailbox("ann", DomainName("example.org"))
JANE = Mailbox("jane", DomainName("example.com"))
JOE = Mailbox("joe", DomainName("example.com"))
ORIGINAL = b"From: ann@example.org\r\nSubject: lunch\r\nMessage-ID: <1@example.org>\r\n\r\nNoon?\r\n.\r\nFrom here\r\n"
START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MESSAGE = QueuedMessage(
    MessageId("01hxmessage00"),
    ANN,
    MailParameters(envelope_id="QQ314159"),
    Origin("ESMTP", "192.0.2.9", "client.example.org", "127.0.0.1:25"),
    START,
    len(ORIGINAL),
)
REFUSED = RecipientStatus(
    forward_path=JANE,
    original_recipient="rfc822;Jane.Doe@example.com",
    status="5.1.1",
    diagnostic="smtp; 550 5.1.1 no such user",
    remote_mta="dns; mx.example.com",
    explanation="The mail server mx.example.com does not accept this address.",
    last_attempt=START + 60,
    retry_until=START + 432_000,
    doubt=NotInDoubt(),
)
FAILED = Notification(
    Action.FAILED,
    MESSAGE,
    [REFUSED],
    Whole(ORIGINAL),
    ToAuthor(ANN),
    "mx.example.net",
    MessageId("01hxreport000"),
    START + 120,
)


def parsed(dsn: Dsn) -> EmailMessage:
    return email.message_from_bytes(dsn.octets, policy=email.policy.SMTP)


def part(dsn: Dsn, number: int) -> EmailMessage:
    return cast("list[EmailMessage]", parsed(dsn).get_payload())[number]


def letter(dsn: Dsn) -> str:
    """The human part, as one line: where it is wrapped is no promise."""
    return " ".join(part(dsn, 0).get_content().split())


def blocks(dsn: Dsn) -> list[Message]:
    """The machine part's groups of fields."""
    octets = raw_part(dsn, 1)[1]
    return [BytesHeaderParser(policy=email.policy.SMTP).parsebytes(block) for block in octets.split(b"\r\n\r\n")]


def raw_part(dsn: Dsn, number: int) -> tuple[bytes, bytes]:
    """A part's header and body, cut out by its boundary and not read by anybody."""
    found = re.search(rb'boundary="([^"]*)"', dsn.octets)
    assert found is not None
    octets = dsn.octets.split(b"--" + found[1])[number + 1]
    header, _, body = octets.partition(b"\r\n\r\n")
    return header, body.removesuffix(b"\r\n")


def test_a_failure_says_everything_rfc_3464_asks_for() -> None:
    about_message, about_jane = blocks(compose(FAILED))
    assert dict(about_message.items()) == {
        "Original-Envelope-Id": "QQ314159",
        "Reporting-MTA": "dns; mx.example.net",
        "Received-From-MTA": "dns; client.example.org",
        "Arrival-Date": "Thu, 01 Jan 2026 00:00:00 +0000",
    }
    assert dict(about_jane.items()) == {
        "Original-Recipient": "rfc822; Jane.Doe@example.com",
        "Final-Recipient": "rfc822; jane@example.com",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.com",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Thu, 01 Jan 2026 00:01:00 +0000",
        "Final-Log-ID": "01hxmessage00",
    }


def test_what_is_not_known_has_no_field() -> None:
    bare = replace(REFUSED, original_recipient="", diagnostic="", remote_mta="")
    ours = replace(MESSAGE, parameters=MailParameters(), origin=Origin("local"))
    about_message, about_jane = blocks(compose(replace(FAILED, message=ours, recipients=[bare])))
    assert about_message.keys() == ["Reporting-MTA", "Arrival-Date"]
    assert about_jane.keys() == ["Final-Recipient", "Action", "Status", "Last-Attempt-Date", "Final-Log-ID"]


@pytest.mark.parametrize(
    ("host", "name", "field"),
    [
        ("192.0.2.9", "", "dns; [192.0.2.9]"),
        ("2001:db8::9", "two words", "dns; [IPv6:2001:db8::9]"),
        ("192.0.2.9", "[192.0.2.9]", "dns; [192.0.2.9]"),
        ("/run/pickup", "b\xe4d", "dns; localhost"),
    ],
)
def test_a_client_that_gave_no_usable_name_is_named_by_its_address(host: str, name: str, field: str) -> None:
    message = replace(MESSAGE, origin=Origin("SMTP", host, name))
    assert blocks(compose(replace(FAILED, message=message)))[0]["Received-From-MTA"] == field


def test_the_header_marks_it_as_an_answer_nobody_answers() -> None:
    """RFC 3834 §5, RFC 6522 §3."""
    header = parsed(compose(FAILED))
    assert header["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.net>"
    assert header["To"].addresses[0].addr_spec == "ann@example.org"
    assert header["Subject"] == "Not delivered: lunch"
    assert header["Date"] == "Thu, 01 Jan 2026 00:02:00 +0000"
    assert header["Message-ID"] == "<01hxreport000@mx.example.net>"
    assert header["In-Reply-To"] == header["References"] == "<1@example.org>"
    assert header["Auto-Submitted"] == "auto-replied"
    assert header["MIME-Version"] == "1.0"
    assert header.get_content_type() == "multipart/report"
    assert header.get_param("report-type") == "delivery-status"


def test_the_letter_says_what_happened_to_whom_why_and_what_to_do() -> None:
    text = letter(compose(FAILED))
    for said in (
        "This is the mail system at mx.example.net.",
        "Your message could not be delivered",
        "<jane@example.com>",
        "The mail server mx.example.com does not accept this address.",
        "What the other server said: 550 5.1.1 no such user",
        "What you can do: check the address for a slip",
        "01hxmessage00",
        "Its subject: lunch",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("5.2.2", "mailbox is full"),
        ("5.2.4", "something is wrong with that mailbox"),
        ("5.4.7", "send it again later"),
        ("5.7.26", "postmaster of the recipient's domain"),
        ("5.0.0", "show this report to your postmaster"),
        ("", "show this report to your postmaster"),
    ],
)
def test_the_advice_fits_the_enhanced_status(status: str, advice: str) -> None:
    assert advice in letter(compose(replace(FAILED, recipients=[replace(REFUSED, status=status)])))


def test_the_original_comes_back_octet_for_octet() -> None:
    header, body = raw_part(compose(FAILED), 2)
    assert b"message/rfc822" in header
    assert body == ORIGINAL


def test_several_recipients_stand_in_one_report() -> None:
    dsn = compose(replace(FAILED, recipients=[REFUSED, replace(REFUSED, forward_path=JOE)]))
    assert [block["Final-Recipient"] for block in blocks(dsn)[1:]] == [
        "rfc822; jane@example.com",
        "rfc822; joe@example.com",
    ]
    assert "<joe@example.com>" in letter(dsn)


def test_a_delay_says_until_when_it_will_be_tried() -> None:
    late = replace(REFUSED, status="4.4.1", diagnostic="")
    dsn = compose(replace(FAILED, action=Action.DELAYED, recipients=[late], original=HeaderOnly(ORIGINAL)))
    block = blocks(dsn)[1]
    assert block["Action"] == "delayed"
    assert block["Status"] == "4.4.1"
    assert block["Will-Retry-Until"] == "Tue, 06 Jan 2026 00:00:00 +0000"
    assert "It will be tried again until Tue, 06 Jan 2026 00:00:00 +0000." in letter(dsn)
    assert "You need not send it again" in letter(dsn)
    assert parsed(dsn)["Subject"] == "Not delivered yet: lunch"


@pytest.mark.parametrize(
    ("action", "subject", "said"),
    [
        (Action.DELIVERED, "Delivered: lunch", "was delivered to the recipients below"),
        (Action.RELAYED, "Passed on: lunch", "this may be the last you hear of it"),
        (Action.EXPANDED, "Delivered to a list: lunch", "each of which stands for several recipients"),
    ],
)
def test_a_success_says_how_far_the_message_has_come(action: Action, subject: str, said: str) -> None:
    done = replace(REFUSED, status="2.0.0", diagnostic="smtp; 250 2.0.0 Ok", explanation="The message was passed on.")
    dsn = compose(replace(FAILED, action=action, recipients=[done], original=HeaderOnly(ORIGINAL)))
    assert parsed(dsn)["Subject"] == subject
    assert said in letter(dsn)
    assert blocks(dsn)[1]["Action"] == action.value
    assert blocks(dsn)[1]["Will-Retry-Until"] is None
    assert "What you can do" not in letter(dsn)


@pytest.mark.parametrize("action", [Action.FAILED, Action.DELAYED])
def test_where_a_copy_may_have_arrived_nobody_is_told_it_was_not_delivered(action: Action) -> None:
    doubtful = replace(REFUSED, doubt=PossiblyAt("192.0.2.1:25"), diagnostic="", explanation="The connection broke.")
    dsn = compose(replace(FAILED, action=action, recipients=[doubtful]))
    everything = f"{parsed(dsn)['Subject']} {letter(dsn)}".lower()
    assert "not delivered" not in everything
    assert "not been delivered" not in everything
    assert "not confirmed" in everything
    assert "it may have arrived all the same" in everything
    assert "192.0.2.1:25" in everything


def test_one_recipient_in_doubt_keeps_the_subject_from_claiming_too_much() -> None:
    doubtful = replace(REFUSED, forward_path=JOE, doubt=PossiblyAt("192.0.2.1:25"))
    assert (
        parsed(compose(replace(FAILED, recipients=[REFUSED, doubtful])))["Subject"] == "Delivery not confirmed: lunch"
    )


def test_a_copy_for_the_postmaster_says_why_he_gets_it_and_answers_nobody() -> None:
    postmaster = Mailbox("postmaster", DomainName("example.net"))
    dsn = compose(replace(FAILED, addressee=ToPostmaster(postmaster, "nobody else can be told.")))
    assert "as the postmaster: nobody else can be told." in letter(dsn)
    assert "Your message" not in letter(dsn)
    assert parsed(dsn)["Auto-Submitted"] == "auto-generated"
    assert "postmaster@example.net" in parsed(dsn)["To"]


# ---- how much of the original is returned
@pytest.mark.parametrize(
    ("action", "ret", "size", "whole"),
    [
        (Action.FAILED, Return.UNSPECIFIED, RETURNED_UNASKED, True),
        (Action.FAILED, Return.UNSPECIFIED, RETURNED_UNASKED + 1, False),
        (Action.FAILED, Return.FULL, RETURNED_AT_MOST, True),
        (Action.FAILED, Return.FULL, RETURNED_AT_MOST + 1, False),
        (Action.FAILED, Return.HEADERS, 10, False),
        (Action.DELAYED, Return.FULL, 10, False),
        (Action.DELIVERED, Return.FULL, 10, False),
        (Action.RELAYED, Return.UNSPECIFIED, 10, False),
    ],
)
def test_only_a_failure_returns_the_whole_message_and_within_bounds(
    action: Action,
    ret: Return,
    size: int,
    whole: bool,  # noqa: FBT001 - a table's cell
) -> None:
    assert returns_whole(action, ret, size) is whole


def test_the_header_alone_is_returned_as_such_and_the_letter_says_so() -> None:
    dsn = compose(replace(FAILED, original=HeaderOnly(ORIGINAL)))
    header, body = raw_part(dsn, 2)
    assert b"text/rfc822-headers" in header
    assert body == ORIGINAL[: ORIGINAL.index(b"\r\n\r\n") + 2]
    assert f"Only its header is attached; it had {len(ORIGINAL)} octets in all." in letter(dsn)


def test_a_header_without_end_is_cut_after_a_line() -> None:
    original = b"X-Filler: 123456789\r\n" * (HEADER_AT_MOST // 20)
    _, body = raw_part(compose(replace(FAILED, original=HeaderOnly(original))), 2)
    assert HEADER_AT_MOST - 22 < len(body) <= HEADER_AT_MOST
    assert body.endswith(b"123456789\r\n")


def test_an_original_that_cannot_be_read_is_not_attached() -> None:
    dsn = compose(replace(FAILED, original=Unreadable()))
    assert len(parsed(dsn).get_payload()) == 2
    assert "could not be read any more" in letter(dsn)


@pytest.mark.parametrize("body", [b"bare\nnewline\r\n", b"bare\rreturn\r\n", b"nul\0\r\n", b"x" * 999 + b"\r\n"])
def test_an_original_no_message_may_hold_is_returned_by_its_header(body: bytes) -> None:
    dsn = compose(replace(FAILED, original=Whole(b"Subject: odd\r\n\r\n" + body)))
    assert body.strip() not in dsn.octets
    assert raw_part(dsn, 2)[1] == b"Subject: odd\r\n"


def test_a_boundary_in_the_original_does_not_end_the_report() -> None:
    trap = b"\r\n--=_01hxreport000.0--\r\n--=_01hxreport000.1\r\n"
    dsn = compose(replace(FAILED, original=Whole(b"Subject: trap\r\n" + trap)))
    assert len(parsed(dsn).get_payload()) == 3
    assert raw_part(dsn, 2)[1].endswith(trap)


# ---- character sets
def test_an_eight_bit_original_makes_an_eight_bit_report() -> None:
    original = b"Subject: 8\r\n\r\ncaf\xe9\r\n"
    dsn = compose(replace(FAILED, original=Whole(original)))
    assert dsn.parameters.body is BodyType.EIGHT_BIT_MIME
    assert not dsn.parameters.smtputf8
    assert parsed(dsn)["Content-Transfer-Encoding"] == "8bit"
    assert b"Content-Transfer-Encoding: 8bit" in raw_part(dsn, 2)[0]
    assert raw_part(dsn, 2)[1] == original


def test_a_seven_bit_original_makes_a_seven_bit_report_whatever_the_peer_said() -> None:
    said = replace(REFUSED, diagnostic="smtp; 550 utilisateur refusé", explanation="Refusé.")
    dsn = compose(replace(FAILED, recipients=[said]))
    assert dsn.octets.isascii()
    assert dsn.parameters.body is BodyType.SEVEN_BIT
    assert "utilisateur refusé" in letter(dsn)
    assert blocks(dsn)[1]["Diagnostic-Code"] == "smtp; 550 utilisateur refus\\xe9"


def test_a_header_with_raw_octets_comes_back_unchanged_in_a_seven_bit_report() -> None:
    original = b"Subject: caf\xe9\r\nX: a\nb\r\n"
    dsn = compose(replace(FAILED, original=HeaderOnly(original)))
    assert dsn.octets.isascii()
    assert part(dsn, 2).get_payload(decode=True) == original


def test_a_subject_in_utf8_is_repeated_in_encoded_words() -> None:
    dsn = compose(replace(FAILED, original=Whole("Subject: Grüße aus Köln\r\n\r\n".encode())))
    assert parsed(dsn)["Subject"] == "Not delivered: Grüße aus Köln"


def test_a_report_on_a_message_tagged_requiretls_is_tagged_too() -> None:
    """RFC 8689 §5: what is told of a message is protected as the message was."""
    tagged = replace(MESSAGE, parameters=MailParameters(requiretls=True))
    assert compose(replace(FAILED, message=tagged)).parameters.requiretls
    assert not compose(FAILED).parameters.requiretls


UTF8_MESSAGE = replace(MESSAGE, parameters=MailParameters(smtputf8=True))
UTF8_ORIGINAL = "Subject: Grüße\r\n\r\nHallo\r\n".encode()
BJORN = Mailbox("björn", DomainName("bücher.example"))


def test_internationalised_addresses_are_reported_in_the_forms_of_rfc_6533() -> None:
    to_bjorn = replace(REFUSED, forward_path=BJORN, original_recipient="utf-8;björn@bücher.example")
    notification = replace(FAILED, message=UTF8_MESSAGE, recipients=[to_bjorn], original=Whole(UTF8_ORIGINAL))
    dsn = compose(replace(notification, addressee=ToAuthor(Mailbox("åsa", DomainName("example.org")))))
    assert dsn.parameters.smtputf8
    assert dsn.parameters.body is BodyType.EIGHT_BIT_MIME
    assert raw_part(dsn, 1)[0].startswith(b"\r\nContent-Type: message/global-delivery-status\r\n")
    assert "Final-Recipient: utf-8; björn@bücher.example\r\n".encode() in raw_part(dsn, 1)[1]
    assert "Original-Recipient: utf-8; björn@bücher.example\r\n".encode() in raw_part(dsn, 1)[1]
    assert raw_part(dsn, 2)[0].startswith(b"\r\nContent-Type: message/global\r\n")
    assert raw_part(dsn, 2)[1] == UTF8_ORIGINAL


def test_to_an_ascii_author_internationalised_parts_go_in_base64_so_that_any_server_takes_them() -> None:
    """RFC 6532 §3.5, RFC 6533 §4: not every hop back knows SMTPUTF8."""
    to_bjorn = replace(REFUSED, forward_path=BJORN)
    dsn = compose(replace(FAILED, message=UTF8_MESSAGE, recipients=[to_bjorn], original=Whole(UTF8_ORIGINAL)))
    assert dsn.octets.isascii()
    assert not dsn.parameters.smtputf8
    assert b"message/global\r\n" in raw_part(dsn, 2)[0]
    header, body = raw_part(dsn, 2)
    assert b"base64" in header
    assert base64.decodebytes(body) == UTF8_ORIGINAL


def test_the_header_alone_of_an_internationalised_message_is_message_global_headers() -> None:
    dsn = compose(replace(FAILED, message=UTF8_MESSAGE, original=HeaderOnly(UTF8_ORIGINAL)))
    assert b"message/global-headers" in raw_part(dsn, 2)[0]


# ---- whatever comes from outside
HOSTILE = st.text(max_size=80) | st.sampled_from(["x\r\nBcc: evil@example.com", "a\n\nb", "y" * 3000, "é " * 900, "\0"])
LOCAL_PARTS = st.text(min_size=1, max_size=64)
MAILBOXES = st.builds(Mailbox, LOCAL_PARTS, st.just(DomainName("example.org")))
ORIGINALS: st.SearchStrategy[Original] = st.one_of(
    st.builds(Whole, st.binary(max_size=300)),
    st.builds(HeaderOnly, st.binary(max_size=300)),
    st.lists(st.binary(max_size=30).map(lambda o: o.replace(b"\r", b"").replace(b"\n", b"")), max_size=8).map(
        lambda lines: Whole(b"\r\n".join(lines))
    ),
    st.sampled_from([Whole(b"Message-ID: <a@b>\r\n evil\r\n\r\n"), Whole(b"Subject: " + b"s" * 2000), Unreadable()]),
)
STATUSES = st.builds(
    RecipientStatus,
    forward_path=MAILBOXES,
    original_recipient=HOSTILE,
    status=st.sampled_from(["5.1.1", "4.4.7", "2.0.0"]),
    diagnostic=HOSTILE,
    remote_mta=HOSTILE,
    explanation=HOSTILE,
    last_attempt=st.just(START),
    retry_until=st.just(START),
    doubt=st.sampled_from([NotInDoubt(), PossiblyAt("x")]) | st.builds(PossiblyAt, HOSTILE),
)
ADDRESSEES: st.SearchStrategy[Addressee] = st.builds(ToAuthor, MAILBOXES) | st.builds(
    ToPostmaster, st.just(ANN), HOSTILE
)
MESSAGES = st.builds(
    QueuedMessage,
    st.just(MessageId("01hxmessage00")),
    MAILBOXES,
    st.builds(MailParameters, envelope_id=HOSTILE, smtputf8=st.booleans()),
    st.builds(Origin, st.just("ESMTP"), st.sampled_from(["", "192.0.2.9", "::1", "?"]), HOSTILE),
    st.just(START),
    st.just(300),
)
NOTIFICATIONS = st.builds(
    Notification,
    st.sampled_from(Action),
    MESSAGES,
    st.lists(STATUSES, min_size=1, max_size=3),
    ORIGINALS,
    ADDRESSEES,
    st.just("mx.example.net"),
    st.just(MessageId("01hxreport000")),
    st.just(START),
)


def test_the_reason_for_telling_the_postmaster_is_printable_whatever_it_quotes() -> None:
    dsn = compose(replace(FAILED, addressee=ToPostmaster(ANN, "its reverse-path is \0 and leads nowhere")))

    assert b"\0" not in dsn.octets
    assert b"its reverse-path is \\x00 and leads nowhere" in dsn.octets.replace(b"\r\n", b" ")


@given(NOTIFICATIONS)
def test_whatever_comes_from_outside_the_report_stays_a_valid_message(notification: Notification) -> None:
    dsn = compose(notification)
    lines = dsn.octets.split(b"\r\n")
    assert dsn.octets.endswith(b"\r\n")
    assert dsn.octets.count(b"\r") == dsn.octets.count(b"\n") == len(lines) - 1
    assert max(map(len, lines)) <= 998
    assert b"\0" not in dsn.octets
    assert dsn.parameters.body is BodyType.EIGHT_BIT_MIME or dsn.octets.isascii()
    assert dsn.octets.partition(b"\r\n\r\n")[0].isascii() or dsn.parameters.smtputf8


ENVELOPE_FIELDS = {
    "Date", "From", "To", "Subject", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "MIME-Version",
    "Content-Type", "Content-Transfer-Encoding",
}  # fmt: skip
STATUS_FIELDS = {
    "Original-Envelope-Id", "Reporting-MTA", "Received-From-MTA", "Arrival-Date", "Original-Recipient",
    "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date", "Final-Log-ID",
    "Will-Retry-Until",
}  # fmt: skip


@given(NOTIFICATIONS)
def test_nothing_from_outside_begins_a_field_of_its_own(notification: Notification) -> None:
    dsn = compose(notification)
    names = re.findall(rb"^([^\s:]+)", dsn.octets.partition(b"\r\n\r\n")[0], re.MULTILINE)
    assert {name.decode() for name in names} <= ENVELOPE_FIELDS
    assert len(names) == len(set(names))
    header, body = raw_part(dsn, 1)
    if b"base64" not in header:
        names = re.findall(rb"^([^\s:]+)", body, re.MULTILINE)
        assert {name.decode() for name in names} <= STATUS_FIELDS
        assert body.count(b"\r\n\r\n") == len(notification.recipients)


@given(st.binary(max_size=400))
def test_the_octets_returned_are_those_of_the_original(octets: bytes) -> None:
    dsn = compose(replace(FAILED, original=Whole(octets)))
    payload = parsed(dsn).get_payload()
    if len(payload) == 2:
        assert octets == b"" or octets.startswith(b"\r\n")
        return
    header, body = raw_part(dsn, 2)
    if b"message/rfc822" in header:
        assert body == octets
    else:
        returned = part(dsn, 2).get_payload(decode=True) if b"quoted-printable" in header else body
        assert isinstance(returned, bytes)
        assert octets.startswith(returned)
