"""A day's report about TLS to the domain it is about (RFC 8460): counts in, JSON and a message out. Pure.

Not here: counting (report/tls_tally.py), and when a report is sent to whom (report/tls_reporter.py). Reports are not
signed by DKIM, which this version does not have: RFC 8460 §3 wants it of mail, and some receivers will not take them;
those that are posted over HTTPS need no signature.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from waypost.mail import header
from waypost.mail.envelope import Origin
from waypost.mail.tls_result import Basis, Published, TlsTrouble
from waypost.mail.trace import date
from waypost.net.clock import Instant
from waypost.smtp.path import Mailbox, PathError, parse_mailbox

#: Where a report of ours comes from, as the queue notes it: its delivery is not counted, and no policy holds it up.
ORIGIN: Final = Origin("TLS report")
MEDIA_TYPE: Final = "application/tlsrpt+gzip"
#: Places one record may name; more are not looked at.
MAX_PLACES: Final = 10

_RECORD: Final = re.compile(rb"v=TLSRPTv1[ \t]*;(?P<fields>.*)", re.DOTALL)
_RUA: Final = re.compile(rb"[ \t]*rua[ \t]*=(?P<uris>[\x20-\x3a\x3c-\x7e]*)")


# ---- what was counted
class Failure(NamedTuple):
    """One kind of failure (RFC 8460 §4.3); what is not known, or is counted together, is ""."""

    trouble: TlsTrouble
    sending_address: str = ""
    host: str = ""
    address: str = ""
    detail: str = ""


@dataclass(slots=True)
class Sessions:
    """How sessions under one policy went."""

    successes: int = 0
    failures: dict[Failure, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: its host name, the organisation, and whom to write to about a report."""

    hostname: str
    organization: str
    contact: Mailbox


@dataclass(frozen=True, slots=True)
class TlsReport:
    """What is told to `domain` of one day, which begins at `begins` and ends a second before `ends`."""

    id: str
    reporter: Reporter
    domain: str
    begins: Instant
    ends: Instant
    policies: Mapping[Published, Sessions]

    @property
    def file_name(self) -> str:
        """RFC 8460 §5.1."""
        return f"{self.reporter.hostname}!{self.domain}!{self.begins:.0f}!{self.ends - 1:.0f}!{self.id}.json.gz"


# ---- where it goes
@dataclass(frozen=True, slots=True)
class ByMail:
    """`mailto:`."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class ByHttps:
    """`https://`."""

    url: str


def places(texts: Iterable[bytes]) -> Sequence[ByMail | ByHttps]:
    """Where the TXT records at `_smtp._tls.<domain>` want reports (RFC 8460 §3); empty: nowhere."""
    meant = [found for text in texts if (found := _RECORD.fullmatch(text))]
    if len(meant) != 1:
        return ()
    for part in meant[0]["fields"].split(b";"):
        rua = _RUA.fullmatch(part)
        if rua:
            uris = [uri.strip(" \t") for uri in rua["uris"].decode("ascii").split(",")[:MAX_PLACES]]
            return tuple(dict.fromkeys(place for uri in uris for place in _place(uri)))
    return ()


def _place(uri: str) -> Sequence[ByMail | ByHttps]:
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "https" and rest.startswith("//") and " " not in rest:
        return (ByHttps(f"https:{rest}"),)
    if scheme.lower() == "mailto":
        try:
            mailbox = parse_mailbox(unquote(rest.partition("?")[0]))
        except PathError:
            return ()
        return (ByMail(mailbox),) if str(mailbox).isascii() else ()
    return ()


# ---- its forms
def as_json(report: TlsReport) -> bytes:
    """The report as RFC 8460 §4.4 has it."""
    return msgspec.json.encode(
        {
            "organization-name": report.reporter.organization,
            "date-range": {"start-datetime": _moment(report.begins), "end-datetime": _moment(report.ends - 1)},
            "contact-info": str(report.reporter.contact),
            "report-id": report.id,
            "policies": [_policy(published, sessions) for published, sessions in report.policies.items()],
        }
    )


def packed(report: TlsReport) -> bytes:
    """The JSON, as it travels; the same octets whenever they are made."""
    return gzip.compress(as_json(report), mtime=0)


def _moment(at: Instant) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _policy(published: Published, sessions: Sessions) -> dict[str, object]:
    policy: dict[str, object] = {"policy-type": published.basis.value, "policy-domain": published.domain}
    if published.basis is not Basis.NOTHING:
        policy["policy-string"] = published.lines
    if published.patterns:
        policy["mx-host"] = published.patterns
    summary = {
        "total-successful-session-count": sessions.successes,
        "total-failure-session-count": sum(sessions.failures.values()),
    }
    details = [_detail(failure, count) for failure, count in sessions.failures.items()]
    return {"policy": policy, "summary": summary} | ({"failure-details": details} if details else {})


def _detail(failure: Failure, count: int) -> dict[str, object]:
    words = {
        "result-type": failure.trouble.value,
        "sending-mta-ip": failure.sending_address,
        "receiving-mx-hostname": failure.host,
        "receiving-ip": failure.address,
        "additional-information": failure.detail,
    }
    return {key: word for key, word in words.items() if word} | {"failed-session-count": count}


def as_message(report: TlsReport, to: Mailbox, now: Instant) -> bytes:
    """The report as mail (RFC 8460 §5.3): multipart/report, with the gzip file as its second part."""
    name, domain = report.reporter.hostname, report.domain
    boundary = f"=_tlsrpt.{report.id}"
    fields = [
        ("Date", date(int(now))),
        ("From", f"<{report.reporter.contact}>"),
        ("To", f"<{to}>"),
        ("Subject", f"Report Domain: {domain} Submitter: {name} Report-ID: <{report.id}@{name}>"),
        ("Message-ID", f"<{report.id}@{name}>"),
        ("TLS-Report-Domain", domain),
        ("TLS-Report-Submitter", name),
        ("TLS-Required", "No"),  # RFC 8460 §3: a report goes through, TLS in order or not (RFC 8689 §5)
        ("Auto-Submitted", "auto-generated"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type="tlsrpt"; boundary="{boundary}"'),
    ]
    text = (
        f"This is an aggregate TLS report from {name} for {domain}, from {_moment(report.begins)} to "
        f"{_moment(report.ends - 1)}.\r\nIt is meant for programs: RFC 8460 tells how to read it.\r\n"
    )
    file = report.file_name
    described = f"Content-Type: text/plain; charset=us-ascii\r\n\r\n{text}"
    attached = (
        f'Content-Type: {MEDIA_TYPE}; name="{file}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment;\r\n filename="{file}"\r\n\r\n{_base64(packed(report))}'
    )
    head = b"".join(header.field(key, value) for key, value in fields)
    body = "".join(f"\r\n--{boundary}\r\n{part}" for part in (described, attached)) + f"\r\n--{boundary}--\r\n"
    return head + body.encode("ascii")


def _base64(octets: bytes) -> str:
    return base64.encodebytes(octets).decode("ascii").rstrip("\n").replace("\n", "\r\n")
