"""Delivery status notifications: what became of a message, in, and a message that says so, out. Pure.

RFC 3464 in the multipart/report of RFC 6522, with the internationalised forms of RFC 6533. Not here: whether a report
is due (queue/schedule.py), who gets it (report/reporter.py), and the words for a person (letter.py).

Invariants, whatever a peer replied and whatever the original holds:
- Lines end in CRLF and have at most 998 octets (RFC 5322 §2.1.1); no text from outside can begin a line of its own.
- The octets of the original that are returned are returned unchanged; where they could not stand in a message as they
  are (a bare CR or LF, NUL, a line too long), its header alone is returned, in quoted-printable.
- The octets are all below 128 unless the original has others; then `parameters` says 8BITMIME or SMTPUTF8.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.header import Header
from ipaddress import IPv6Address, ip_address
from typing import Final, assert_never

from waypost.mail.envelope import MessageId, QueuedMessage
from waypost.mail.explain import plain
from waypost.mail.header import WORD, field, first_field, header_of
from waypost.mail.letter import headline, letter
from waypost.mail.notification import (
    Action,
    HeaderOnly,
    Notification,
    Original,
    RecipientStatus,
    ToAuthor,
    Unreadable,
    Whole,
)
from waypost.mail.trace import date
from waypost.smtp.extension import BodyType, MailParameters, Return
from waypost.smtp.path import ForwardPath

#: Octets of a failed message that are returned whole where nothing was asked: RFC 3461 §4.3 leaves it to us.
RETURNED_UNASKED: Final = 50_000
#: Octets returned whole where RET=FULL asked for them: a report is composed in memory, and must pass where mail passes.
RETURNED_AT_MOST: Final = 1_000_000
#: Octets of a header that are returned; one that is longer is cut after its last whole line.
HEADER_AT_MOST: Final = 64_000

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")


@dataclass(frozen=True, slots=True)
class Dsn:
    """A report, ready for the queue; `parameters` are those of its MAIL."""

    octets: bytes
    parameters: MailParameters


def returns_whole(action: Action, ret: Return, size: int) -> bool:
    """Whether a report carries the whole original, of `size` octets, or its header (RFC 3461 §4.3, §6.2)."""
    if action is not Action.FAILED:
        return False
    match ret:
        case Return.FULL:
            return size <= RETURNED_AT_MOST
        case Return.UNSPECIFIED:
            return size <= RETURNED_UNASKED
        case Return.HEADERS:
            return False
        case _:
            assert_never(ret)


def compose(notification: Notification) -> Dsn:
    """The report as a message."""
    returned = _returned(notification.message, notification.original)
    parts = [
        _text_part(letter(notification, returned.header, returned.note)),
        _status_part(_status(notification), international=notification.international),
    ]
    if returned.octets:  # RFC 6522 §3: the third part may be left out
        parts.append(_returned_part(returned, international=notification.international))
    boundary = _boundary(notification.id, parts)
    header = _header(notification, returned.header, boundary, seven_bit=all(part.isascii() for part in parts))
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    octets = b"%b\r\n%b--%b--\r\n" % (header, body, boundary)
    body_type = BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT_MIME
    parameters = MailParameters(
        size=len(octets),
        body=body_type,
        smtputf8=notification.international,
        # RFC 8689 §5: what is told of a message is protected as the message was.
        requiretls=notification.message.parameters.requiretls,
    )
    return Dsn(octets, parameters)


# ---- the report's own header
def _header(notification: Notification, original: bytes, boundary: bytes, *, seven_bit: bool) -> bytes:
    """The report's own header; `original` is the header of the message it is about."""
    answered = first_field(original, b"message-id").decode("ascii", "replace")
    in_reply_to = answered if len(answered) <= WORD and _MESSAGE_ID.fullmatch(answered) else ""
    # RFC 3834 §5: a report answers its message; a copy for the postmaster answers nobody.
    auto_submitted = "auto-replied" if isinstance(notification.addressee, ToAuthor) else "auto-generated"
    fields = [
        ("Date", date(int(notification.now))),
        ("From", f"Mail Delivery System <MAILER-DAEMON@{notification.hostname}>"),
        ("To", f"<{_address(notification.addressee.mailbox)}>"),
        ("Subject", _subject(notification, original)),
        ("Message-ID", f"<{notification.id}@{notification.hostname}>"),
        ("In-Reply-To", in_reply_to),
        ("References", in_reply_to),
        ("Auto-Submitted", auto_submitted),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary.decode()}"'),
        ("Content-Transfer-Encoding", "7bit" if seven_bit else "8bit"),
    ]
    return b"".join(field(name, value) for name, value in fields if value)


def _address(path: ForwardPath) -> str:
    return plain(str(path))


def _subject(notification: Notification, header: bytes) -> str:
    subject = first_field(header, b"subject")
    if not subject.isascii():
        encoded = Header(subject.decode("utf-8", "replace")[:200], "utf-8").encode()
        subject = encoded.replace("\n", "").encode()
    beginning = headline(notification.action, notification.recipients)
    return f"{beginning}: {subject.decode() or '(no subject)'}"[:WORD]


def _ascii(text: str) -> str:
    return plain(text).encode("ascii", "backslashreplace").decode("ascii")


def _boundary(id: MessageId, parts: Sequence[bytes]) -> bytes:  # noqa: A002 - the field's own name for it
    """A boundary that occurs in none of the parts (RFC 2046 §5.1.1), though an original may hold any octets."""
    stem = b"=_" + re.sub(rb"[^0-9A-Za-z]", b"", id.encode())[:40]
    number = 0
    while any(b"--%b.%d" % (stem, number) in part for part in parts):
        number += 1
    return b"%b.%d" % (stem, number)


# ---- part 1: for a person
def _text_part(text: str) -> bytes:
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.replace("\n", "\r\n").encode()
    quoted = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n")
    return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted


# ---- part 2: for a program
def _status(notification: Notification) -> bytes:
    """The blocks of message/delivery-status: one on the message, one a recipient; in ASCII where all addresses are."""
    text = _ascii if _all_ascii(notification.recipients) else plain
    message = notification.message
    blocks = [
        [
            ("Original-Envelope-Id", text(message.parameters.envelope_id)),
            ("Reporting-MTA", f"dns; {notification.hostname}"),
            ("Received-From-MTA", _received_from(message)),
            ("Arrival-Date", date(int(message.received_at))),
        ]
    ]
    blocks += [_status_of(recipient, notification, text) for recipient in notification.recipients]
    return b"\r\n".join(b"".join(field(name, value) for name, value in block if value) for block in blocks)


def _status_of(
    recipient: RecipientStatus, notification: Notification, text: Callable[[str], str]
) -> list[tuple[str, str]]:
    delayed = notification.action is Action.DELAYED
    return [
        ("Original-Recipient", _original_recipient(text(recipient.original_recipient))),
        ("Final-Recipient", _final_recipient(recipient.forward_path)),
        ("Action", notification.action.value),
        ("Status", recipient.status),
        ("Remote-MTA", text(recipient.remote_mta)),
        ("Diagnostic-Code", text(recipient.diagnostic)),
        ("Last-Attempt-Date", date(int(recipient.last_attempt))),
        ("Final-Log-ID", notification.message.id),
        ("Will-Retry-Until", date(int(recipient.retry_until)) if delayed else ""),
    ]


def _all_ascii(recipients: Sequence[RecipientStatus]) -> bool:
    return all(
        str(recipient.forward_path).isascii() and recipient.original_recipient.isascii() for recipient in recipients
    )


def _received_from(message: QueuedMessage) -> str:
    origin = message.origin
    if not origin.client_host:
        return ""
    if origin.client_name.isascii() and origin.client_name.isprintable() and " " not in origin.client_name:
        return f"dns; {origin.client_name or _literal(origin.client_host)}"
    return f"dns; {_literal(origin.client_host)}"


def _literal(address: str) -> str:
    try:
        return f"[IPv6:{address}]" if isinstance(ip_address(address), IPv6Address) else f"[{address}]"
    except ValueError:  # a Unix socket's client has no numeric address
        return "localhost"


def _original_recipient(value: str) -> str:
    kind, _, address = value.partition(";")
    return f"{kind.strip()}; {address.strip()}" if address else ""


def _final_recipient(path: ForwardPath) -> str:
    address = _address(path)
    return f"rfc822; {address}" if address.isascii() else f"utf-8; {address}"  # RFC 6533 §3


def _status_part(octets: bytes, *, international: bool) -> bytes:
    if octets.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n" + octets
    return _global_part(b"message/global-delivery-status", octets, international=international)


def _global_part(kind: bytes, octets: bytes, *, international: bool) -> bytes:
    """RFC 6532 §3.5, RFC 6533 §4: 8-bit where the whole way speaks SMTPUTF8, else base64, which passes everywhere."""
    if international:
        return b"Content-Type: %b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%b" % (kind, octets)
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: base64\r\n\r\n%b" % (kind, _base64(octets))


def _base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


# ---- part 3: the original
@dataclass(frozen=True, slots=True)
class _Returned:
    """What is returned of the original. `note` says so to a person."""

    header: bytes
    octets: bytes
    whole: bool
    fits: bool  # may stand in a message as it is
    utf8_header: bool  # the original was sent under SMTPUTF8 and its header makes use of it
    note: str


def _returned(message: QueuedMessage, original: Original) -> _Returned:
    match original:
        case Whole(octets) if _fits(octets):
            return _whole(message, octets)
        case Whole(octets):
            note = "Only its header is attached: the message has lines that must not be sent on as they are."
            return _header_alone(message, octets, note)
        case HeaderOnly(octets):
            return _header_alone(message, octets, f"Only its header is attached; it had {message.size} octets in all.")
        case Unreadable():
            return _header_alone(message, b"", "It is not attached: it could not be read any more.")
        case _:
            assert_never(original)


def _whole(message: QueuedMessage, octets: bytes) -> _Returned:
    header = header_of(octets)
    utf8_header = message.parameters.smtputf8 and not header.isascii()
    return _Returned(
        header, octets, whole=True, fits=True, utf8_header=utf8_header, note="It is attached to this report."
    )


def _header_alone(message: QueuedMessage, octets: bytes, note: str) -> _Returned:
    header = _cut_header(header_of(octets))
    utf8_header = message.parameters.smtputf8 and not header.isascii()
    return _Returned(header, header, whole=False, fits=_fits(header), utf8_header=utf8_header, note=note)


def _cut_header(header: bytes) -> bytes:
    if len(header) <= HEADER_AT_MOST:
        return header
    return header[: header.rfind(b"\n", 0, HEADER_AT_MOST) + 1]


def _fits(octets: bytes) -> bool:
    """Whether these octets keep RFC 5322 §2.1.1: no bare CR or LF, no NUL, no line over 998 octets."""
    lines = octets.split(b"\r\n")
    newlines = len(lines) - 1
    return (
        octets.count(b"\r") == newlines
        and octets.count(b"\n") == newlines
        and b"\0" not in octets
        and len(max(lines, key=len)) <= 998
    )


def _returned_part(returned: _Returned, *, international: bool) -> bytes:
    octets = returned.octets
    if returned.utf8_header and returned.fits:
        kind = b"message/global" if returned.whole else b"message/global-headers"
        return _global_part(kind, octets, international=international)
    if returned.whole:
        encoding = b"7bit" if octets.isascii() else b"8bit"
        return b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (encoding, octets)
    if returned.fits and octets.isascii():
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + octets
    return (
        b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _quoted_printable(octets)
    )


def _quoted_printable(octets: bytes) -> bytes:
    """`octets` with every CR and LF encoded too, so that what is no line end in mail comes back as it was."""
    return re.sub(rb"\r?\n", b"\r\n", binascii.b2a_qp(octets, istext=False))
