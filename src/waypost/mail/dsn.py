"""Delivery status notifications: what became of a message, in, and a message that says so, out. Pure.

RFC 3464 in the multipart/report of RFC 6522, with the internationalised forms of RFC 6533. Not here: whether a report
is due (queue/schedule.py), who gets it and how it is sent (report/reporter.py).

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
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeAlias, assert_never

from waypost.mail.envelope import Doubt, MessageId, NotInDoubt, PossiblyAt, QueuedMessage
from waypost.mail.explain import plain
from waypost.mail.header import first_field, header_of
from waypost.net.clock import Instant
from waypost.smtp.extension import BodyType, MailParameters, Return
from waypost.smtp.path import ForwardPath

#: Octets of a failed message that are returned whole where nothing was asked: the example of RFC 3461 §6.2.
RETURNED_UNASKED: Final = 50_000
#: Octets returned whole where RET=FULL asked for them: a report is composed in memory, and must pass where mail passes.
RETURNED_AT_MOST: Final = 1_000_000
#: Octets of a header that are returned; one that is longer is cut after its last whole line.
HEADER_AT_MOST: Final = 64_000

_LINE: Final = 76  # where lines of ours are folded or wrapped (RFC 5322 §2.1.1 advises 78)
_WORD: Final = 900  # octets of a word that still fits a line of 998 with a field's name before it
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")


class Action(Enum):
    """What became of the recipients a report speaks of (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What a report says of one recipient; the texts as `explain.report_fields` gives them."""

    forward_path: ForwardPath
    original_recipient: str  # ORCPT as "type;address", "" where none was given
    status: str
    diagnostic: str
    remote_mta: str
    explanation: str
    last_attempt: Instant
    retry_until: Instant  # said of delays only
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Whole:
    """All octets of the original."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """The first octets of the original, of which the header is returned."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The original's octets cannot be read any more: nothing of it is returned."""


Original: TypeAlias = Whole | HeaderOnly | Unreadable


@dataclass(frozen=True, slots=True)
class ToAuthor:
    """The report goes where the message came from: its reverse-path."""

    mailbox: ForwardPath


@dataclass(frozen=True, slots=True)
class ToPostmaster:
    """The report goes to our postmaster instead; `because` is a sentence."""

    mailbox: ForwardPath
    because: str


Addressee: TypeAlias = ToAuthor | ToPostmaster


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


@dataclass(frozen=True, slots=True)
class Notification:
    """All that one report is made of. `id` and `now` are the report's own; `hostname` is ours."""

    action: Action
    message: QueuedMessage
    recipients: Sequence[RecipientStatus]
    original: Original
    addressee: Addressee
    hostname: str
    id: MessageId
    now: Instant

    @property
    def international(self) -> bool:
        """Whether it needs SMTPUTF8 on its way; where not, nothing in it may be UTF-8 header text as it is."""
        return not str(self.addressee.mailbox).isascii()


def compose(notification: Notification) -> Dsn:
    """The report as a message."""
    returned = _returned(notification.message, notification.original)
    parts = [
        _text_part(_letter(notification, returned)),
        _status_part(_status(notification), international=notification.international),
    ]
    if returned.octets:  # RFC 6522 §3: the third part may be left out
        parts.append(_returned_part(returned, international=notification.international))
    boundary = _boundary(notification.id, parts)
    header = _header(notification, returned.header, boundary, seven_bit=all(part.isascii() for part in parts))
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    octets = b"%b\r\n%b--%b--\r\n" % (header, body, boundary)
    body_type = BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT_MIME
    return Dsn(octets, MailParameters(size=len(octets), body=body_type, smtputf8=notification.international))


# ---- fields
def _date(instant: Instant) -> str:
    return format_datetime(datetime.fromtimestamp(int(instant), UTC))


def _pieces(word: str) -> Iterator[str]:
    """`word`, cut where it would not fit a line (a peer's reply may be one word of thousands of octets)."""
    if len(word) <= _WORD // 4 or len(word.encode()) <= _WORD:
        yield word
    else:
        for start in range(0, len(word), _WORD // 4):
            yield word[start : start + _WORD // 4]


def _field(name: str, value: str) -> bytes:
    """One header field, folded before blanks, so that unfolding gives `value` back (RFC 5322 §2.2.3)."""
    lines = [f"{name}:"]
    for word in re.findall(r" *[^ ]+", " " + plain(value).strip()):
        for piece in _pieces(word):
            if len(lines[-1]) + len(piece) > _LINE and lines[-1] != f"{name}:":
                lines.append(piece if piece.startswith(" ") else f" {piece}")
            else:
                lines[-1] += piece
    return "\r\n".join([*lines, ""]).encode()


def _ascii(text: str) -> str:
    return plain(text).encode("ascii", "backslashreplace").decode("ascii")


def _header(notification: Notification, original: bytes, boundary: bytes, *, seven_bit: bool) -> bytes:
    """The report's own header; `original` is the header of the message it is about."""
    answered = first_field(original, b"message-id").decode("ascii", "replace")
    in_reply_to = answered if len(answered) <= _WORD and _MESSAGE_ID.fullmatch(answered) else ""
    # RFC 3834 §5.1: a report answers its message; a copy for the postmaster answers nobody.
    auto_submitted = "auto-replied" if isinstance(notification.addressee, ToAuthor) else "auto-generated"
    fields = [
        ("Date", _date(notification.now)),
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
    return b"".join(_field(name, value) for name, value in fields if value)


def _address(path: ForwardPath) -> str:
    return plain(str(path))


def _subject(notification: Notification, header: bytes) -> str:
    subject = first_field(header, b"subject")
    if not subject.isascii():
        encoded = Header(subject.decode("utf-8", "replace")[:200], "utf-8").encode()
        subject = encoded.replace("\n", "").encode()
    headline = _headline(notification.action, notification.recipients)
    return f"{headline}: {subject.decode() or '(no subject)'}"[:_WORD]


def _headline(action: Action, recipients: Sequence[RecipientStatus]) -> str:
    match action:
        case Action.FAILED:
            return "Delivery not confirmed" if _all_in_doubt(recipients) else "Not delivered"
        case Action.DELAYED:
            return "Delivery not confirmed yet" if _all_in_doubt(recipients) else "Not delivered yet"
        case Action.DELIVERED:
            return "Delivered"
        case Action.RELAYED:
            return "Passed on"
        case _:
            assert_never(action)


def _all_in_doubt(recipients: Sequence[RecipientStatus]) -> bool:
    return all(isinstance(recipient.doubt, PossiblyAt) for recipient in recipients)


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


def _letter(notification: Notification, returned: _Returned) -> str:
    """The human part: what happened, to whom, why, and what to do about it."""
    action, recipients = notification.action, notification.recipients
    paragraphs = [f"This is the mail system at {notification.hostname}."]
    match notification.addressee:
        case ToAuthor():
            whose = "Your message"
        case ToPostmaster(because=because):
            whose = "A message"
            paragraphs.append(f"This report comes to you as the postmaster: {because}")
        case _:
            assert_never(notification.addressee)
    paragraphs.append(f"{whose} {_OPENINGS[action, _any_in_doubt(recipients)]}")
    paragraphs += [_about(action, recipient) for recipient in recipients]
    paragraphs.append(_about_message(notification.message, returned))
    return "\n\n".join(_wrap(paragraph) for paragraph in paragraphs) + "\n"


def _any_in_doubt(recipients: Sequence[RecipientStatus]) -> bool:
    return any(isinstance(recipient.doubt, PossiblyAt) for recipient in recipients)


_KEPT: Final = "You need not send it again: this mail system keeps it and goes on trying."
_ASKED: Final = "You get this notice because you asked for it."
_DELIVERED: Final = f"was delivered to the recipients below. {_ASKED}"
_RELAYED: Final = (
    "was passed on to the mail systems of the recipients below. They do not send notices of delivery, so this may be "
    f"the last you hear of it. {_ASKED}"
)
#: How the letter goes on after "Your message", by action and whether a recipient may hold a copy nobody confirmed.
_OPENINGS: Final = {
    (Action.FAILED, False): "could not be delivered to the recipients below. It will not be tried again.",
    (Action.FAILED, True): (
        "could not be delivered to the recipients below, or its delivery could not be confirmed; what holds is said "
        "beside each. It will not be tried again."
    ),
    (Action.DELAYED, False): f"has not been delivered to the recipients below yet. {_KEPT}",
    (Action.DELAYED, True): (
        "may have reached the recipients below, or some of them, but that is not confirmed yet; what holds is said "
        f"beside each. {_KEPT}"
    ),
    (Action.DELIVERED, False): _DELIVERED,
    (Action.DELIVERED, True): _DELIVERED,
    (Action.RELAYED, False): _RELAYED,
    (Action.RELAYED, True): _RELAYED,
}


def _about(action: Action, recipient: RecipientStatus) -> str:
    lines = [f"<{_address(recipient.forward_path)}>", f"    {plain(recipient.explanation)}"]
    said = plain(recipient.diagnostic).removeprefix("smtp; ")
    if said:
        lines.append(f"    What the other server said: {said}")
    match recipient.doubt:
        case PossiblyAt(host) if action in {Action.FAILED, Action.DELAYED}:
            lines.append(
                f"    It may have arrived all the same: an earlier attempt sent the whole message to {plain(host)}, "
                "which did not confirm it. Ask the recipient before you send it again."
            )
        case PossiblyAt() | NotInDoubt():
            pass
        case _:
            assert_never(recipient.doubt)
    if action is Action.FAILED:
        lines.append(f"    What you can do: {_advice(recipient.status)}")
    if action is Action.DELAYED:
        lines.append(f"    It will be tried again until {_date(recipient.retry_until)}.")
    return "\n".join(lines)


#: What the author of a failed message can do, by enhanced status (RFC 3463 §3) without its class; then by subject.
_ADVICE: Final = {
    "1.1": "check the address for a slip, or ask the recipient for the right one.",
    "1.2": "check what stands behind the @ for a slip: no mail server answers for that domain.",
    "1.6": "ask the recipient for the new address: the mailbox has moved.",
    "1.10": "use another address: that domain takes no mail.",
    "2.1": "reach the recipient another way: the mailbox is closed for now.",
    "2.2": "send it again later, or tell the recipient another way that the mailbox is full.",
    "2.3": "send a smaller message, or put the attachment where the recipient can fetch it.",
    "3.4": "send a smaller message, or put the attachment where the recipient can fetch it.",
    "4.7": "send it again later; if that fails too, tell the recipient another way that mail cannot get through.",
    "6.7": "use an address of the recipient that is written in ASCII letters only, if there is one.",
    "7.1": "ask the recipient, or the postmaster of that domain, to let your mail in.",
}
_ADVICE_BY_SUBJECT: Final = {
    "1": "check the address, and your own, for a slip.",
    "2": "reach the recipient another way: something is wrong with that mailbox.",
    "3": "ask the postmaster of the recipient's domain: its mail system cannot take this message.",
    "4": "send it again later; if that fails too, show this report to your postmaster.",
    "5": "show this report to your postmaster: the two mail systems did not understand each other.",
    "6": "send it in a simpler form: the other mail system cannot take this kind of content.",
    "7": "ask the postmaster of the recipient's domain why this mail is not let in; what the server said may tell.",
}


def _advice(status: str) -> str:
    subject_and_detail = status.partition(".")[2]
    subject = subject_and_detail.partition(".")[0]
    default = "show this report to your postmaster, who can read the technical details in it."
    return _ADVICE.get(subject_and_detail, _ADVICE_BY_SUBJECT.get(subject, default))


def _about_message(message: QueuedMessage, returned: _Returned) -> str:
    lines = [f"The message was received here on {_date(message.received_at)} and is known here as {message.id}."]
    subject = first_field(returned.header, b"subject")
    if subject and subject.isascii() and b"=?" not in subject:
        lines.append(f"Its subject: {plain(subject.decode())}")
    lines.append(returned.note)
    return "\n".join(lines)


def _wrap(paragraph: str) -> str:
    return "\n".join(wrapped for line in paragraph.split("\n") for wrapped in _wrap_line(line))


def _wrap_line(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip(" "))]
    words = " ".join(piece for word in line.split() for piece in _pieces(word))
    return textwrap.wrap(
        words,
        _LINE,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
            ("Arrival-Date", _date(message.received_at)),
        ]
    ]
    blocks += [_status_of(recipient, notification, text) for recipient in notification.recipients]
    return b"\r\n".join(b"".join(_field(name, value) for name, value in block if value) for block in blocks)


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
        ("Last-Attempt-Date", _date(recipient.last_attempt)),
        ("Final-Log-ID", notification.message.id),
        ("Will-Retry-Until", _date(recipient.retry_until) if delayed else ""),
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
