"""A message that a program describes (from, to, subject, text, HTML, attachments), written as mail (RFC 5322, MIME).

And the other way round, as far as a client that gives no envelope needs it: who it is from and to by its header.
Not here: messages that come as they are; no octet of those is changed but the Bcc field taken out.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.policy import default as modern
from email.utils import format_datetime, getaddresses, parseaddr
from typing import Final

import msgspec

from waypost.mail.header import header_of
from waypost.net.clock import Instant
from waypost.smtp.path import Mailbox, PathError, ReversePath, is_ascii, parse_mailbox

_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,126}/[a-z0-9][a-z0-9.+-]{0,126}")
#: Fields that are made of other keys, or by those who carry the message.
_NOT_YOURS: Final = frozenset(
    [
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "reply-to",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-id",
        "received",
        "return-path",
    ]
)
_BCC: Final = re.compile(rb"^(?:resent-)?bcc[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.IGNORECASE | re.MULTILINE)
_RECIPIENTS: Final = ("to", "cc", "bcc")


class WritingError(ValueError):
    """What is described is no message; the text names the key, and what to write instead. The client's fault."""


class Attachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file. `content`: in base64. With a `content_id`, the HTML may show it as `cid:ID`."""

    filename: str
    content: str
    content_type: str = "application/octet-stream"
    content_id: str = ""


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A message. Addresses as in a header, `Ann <ann@example.org>` or bare. `envelope_from`: "" for that of `from`."""

    from_: str
    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: Mapping[str, str] = {}
    attachments: Sequence[Attachment] = ()
    envelope_from: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A message with its envelope; its lines end in CRLF."""

    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    octets: bytes


def written(described: Description, *, now: Instant, message_id: str) -> Written:
    """The message, with Date and Message-ID. Raises: WritingError."""
    sender = _one("from", described.from_)
    reverse_path = _one("envelope_from", described.envelope_from) if described.envelope_from else sender
    recipients = _all(to=described.to, cc=described.cc, bcc=described.bcc)
    if not (described.text or described.html):
        raise WritingError('"text" and "html" are both missing; write one of them, or both')
    utf8 = not all(map(is_ascii, (sender, *recipients)))
    message = EmailMessage(policy=SMTP.clone(utf8=utf8))
    try:
        _head(message, described, now, message_id)
        _content(message, described)
        octets = message.as_bytes()
    except (ValueError, UnicodeError) as error:
        raise WritingError(f"the message cannot be written: {error}") from error
    return Written(reverse_path, recipients, octets)


def _head(message: EmailMessage, described: Description, now: Instant, message_id: str) -> None:
    message["From"] = described.from_
    for name, values in (("To", described.to), ("Cc", described.cc), ("Reply-To", described.reply_to)):
        if values:
            message[name] = ", ".join(values)
    message["Subject"] = described.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = message_id
    for name, value in described.headers.items():
        if not _FIELD_NAME.fullmatch(name) or name.lower() in _NOT_YOURS:
            raise WritingError(f'"headers" has {name!r}, which is no name of a field, or made of another key')
        message[name] = value


def _content(message: EmailMessage, described: Description) -> None:
    """Text, HTML beside it, what the HTML shows, and the files: the usual nesting of multiparts."""
    if described.text:
        message.set_content(described.text)
    if described.html and described.text:
        message.add_alternative(described.html, subtype="html")
    elif described.html:
        message.set_content(described.html, subtype="html")
    for file in described.attachments:
        kind, _, subtype = _type(file).partition("/")
        octets = _octets(file)
        shown = next((part for part in message.walk() if part.get_content_type() == "text/html"), message)
        if file.content_id and described.html and isinstance(shown, EmailMessage):
            shown.add_related(octets, kind, subtype, cid=f"<{file.content_id}>", filename=file.filename)
        else:
            message.add_attachment(octets, maintype=kind, subtype=subtype, filename=file.filename)


def _type(file: Attachment) -> str:
    if not _TYPE.fullmatch(file.content_type.lower()) or file.content_type.lower().startswith(
        ("multipart/", "message/")
    ):
        raise WritingError(
            f'{file.filename!r} has the content_type {file.content_type!r}; write one such as "image/png"'
        )
    return file.content_type.lower()


def _octets(file: Attachment) -> bytes:
    try:
        return b64decode(file.content, validate=True)
    except ValueError as error:
        raise WritingError(f"the content of {file.filename!r} is not base64: {error}") from error


# ---- addresses
def _one(key: str, text: str) -> Mailbox:
    _, address = parseaddr(text)
    try:
        return parse_mailbox(address)
    except PathError as error:
        raise WritingError(
            f'"{key}" is {text!r}, which is no mailbox: {error}; write one such as ann@example.org'
        ) from None


def _all(**fields: Sequence[str]) -> tuple[Mailbox, ...]:
    """Everybody in them, each once."""
    found = [_one(key, address) for key, texts in fields.items() for _, address in getaddresses(list(texts))]
    if not found:
        raise WritingError(f"no recipient: {', '.join(fields)} are empty")
    return tuple(dict.fromkeys(found))


def author_of(octets: bytes) -> Mailbox:
    """The mailbox of a message's Sender, else of its From. Raises: WritingError."""
    header, prefix = _header(octets)
    return _one("From", str(header.get(f"{prefix}sender") or header.get(f"{prefix}from") or ""))


def recipients_of(octets: bytes) -> tuple[Mailbox, ...]:
    """Everybody in its To, Cc and Bcc, each once. Raises: WritingError."""
    header, prefix = _header(octets)
    return _all(**{name: [str(value) for value in header.get_all(prefix + name, [])] for name in _RECIPIENTS})


def _header(octets: bytes) -> tuple[Message[str, str], str]:
    """The header, and what names of fields begin with; Resent- fields, where there are any (RFC 5322 §3.6.6)."""
    header = message_from_bytes(header_of(octets), policy=modern)
    return header, "resent-" if header.get("resent-from") else ""


def without_bcc(octets: bytes) -> bytes:
    """The message without its Bcc fields (RFC 5322 §3.6.3)."""
    header = header_of(octets)
    return _BCC.sub(b"", header) + octets[len(header) :]
