"""RFC 8460 §3 (where a report goes) and §4, §5 (what it looks like)."""

from __future__ import annotations

import gzip
import json
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.tls_report import (
    ByHttps,
    ByMail,
    Failure,
    Reporter,
    Sessions,
    TlsReport,
    as_json,
    as_message,
    packed,
    places,
)
from waypost.mail.tls_result import Basis, Published, TlsTrouble
from waypost.smtp.path import parse_mailbox

BEGINS = 1_459_468_800.0  # 2016-04-01, the day of the example in RFC 8460 appendix B
STS = Published(
    Basis.MTA_STS,
    "company-y.example",
    ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"),
    ("*.mail.company-y.example",),
)
EXPIRED = Failure(TlsTrouble.EXPIRED, "2001:db8:abcd:12::1", "mx1.mail.company-y.example")
REFUSED = Failure(TlsTrouble.NO_STARTTLS, "2001:db8:abcd:13::1", "mx2.mail.company-y.example", "203.0.113.56", "454")
REPORT = TlsReport(
    "5065427c23d3",
    Reporter("mx.company-x.example", "Company-X", parse_mailbox("sts-reporting@company-x.example")),
    "company-y.example",
    BEGINS,
    BEGINS + 86400,
    {STS: Sessions(5326, {EXPIRED: 100, REFUSED: 200}), Published(Basis.NOTHING, "company-y.example"): Sessions(2)},
)


def test_a_report_has_the_form_of_the_standards_example() -> None:
    assert json.loads(as_json(REPORT)) == {
        "organization-name": "Company-X",
        "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
        "contact-info": "sts-reporting@company-x.example",
        "report-id": "5065427c23d3",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": list(STS.lines),
                    "policy-domain": "company-y.example",
                    "mx-host": ["*.mail.company-y.example"],
                },
                "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 300},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8:abcd:12::1",
                        "receiving-mx-hostname": "mx1.mail.company-y.example",
                        "failed-session-count": 100,
                    },
                    {
                        "result-type": "starttls-not-supported",
                        "sending-mta-ip": "2001:db8:abcd:13::1",
                        "receiving-mx-hostname": "mx2.mail.company-y.example",
                        "receiving-ip": "203.0.113.56",
                        "additional-information": "454",
                        "failed-session-count": 200,
                    },
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "company-y.example"},
                "summary": {"total-successful-session-count": 2, "total-failure-session-count": 0},
            },
        ],
    }


def test_by_mail_the_report_is_the_second_part_of_a_multipart_report() -> None:
    octets = as_message(REPORT, parse_mailbox("reports@company-y.example"), BEGINS + 90_000)
    message = message_from_bytes(octets, policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    assert message["TLS-Report-Domain"] == "company-y.example"
    assert message["TLS-Report-Submitter"] == "mx.company-x.example"
    assert message["TLS-Required"] == "No"
    subject = "Report Domain: company-y.example Submitter: mx.company-x.example Report-ID: <"
    assert str(message["Subject"]).startswith(subject)
    text, file = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert file.get_content_type() == "application/tlsrpt+gzip"
    assert file.get_filename() == "mx.company-x.example!company-y.example!1459468800!1459555199!5065427c23d3.json.gz"
    assert gzip.decompress(file.get_payload(decode=True)) == as_json(REPORT)  # type: ignore[arg-type]  # of one part


def test_a_report_is_plain_ascii_in_short_lines() -> None:
    octets = as_message(REPORT, parse_mailbox("reports@company-y.example"), BEGINS)
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert b"\n" not in octets.replace(b"\r\n", b"")


def test_the_packed_report_is_the_same_whenever_it_is_made() -> None:
    assert packed(REPORT) == packed(REPORT)
    assert gzip.decompress(packed(REPORT)) == as_json(REPORT)


MAIL, WEB = ByMail(parse_mailbox("reports@example.com")), ByHttps("https://reporting.example.com/v1/tlsrpt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=TLSRPTv1; rua=mailto:reports@example.com", [MAIL]),  # RFC 8460 §3.1
        (b"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", [WEB]),
        (b"v=TLSRPTv1;rua=mailto:reports@example.com,https://reporting.example.com/v1/tlsrpt;", [MAIL, WEB]),
        (b"v=TLSRPTv1; future=x; rua = mailto:reports%40example.com , ftp://x", [MAIL]),
        (b"v=TLSRPTv1; rua=mailto:nobody, http://reporting.example.com/", []),
        (b"v=TLSRPTv1; rua=mailto:gr%C3%BC%C3%9Fe@example.com", []),
        (b"v=TLSRPTv1;", []),
        (b"v=TLSRPTv2; rua=mailto:reports@example.com", []),
        (b"", []),
    ],
)
def test_the_record_tells_where_reports_go(text: bytes, expected: list[ByMail | ByHttps]) -> None:
    assert list(places([b"something else", text])) == expected


def test_two_records_tell_nothing() -> None:
    """RFC 8460 §3."""
    assert places([b"v=TLSRPTv1; rua=mailto:a@example.com", b"v=TLSRPTv1; rua=mailto:b@example.com"]) == ()


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(b"v=TLSRPTv1; rua=".__add__), max_size=2))
def test_octets_are_places_or_none(texts: list[bytes]) -> None:
    for place in places(texts):
        assert str(place.url if isinstance(place, ByHttps) else place.mailbox).isascii()
