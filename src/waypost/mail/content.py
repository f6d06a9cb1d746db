"""A message made over for a next hop that asks for it: attachments in MIME, another character set, shorter lines.

    winmail.dat → its attachments and HTML; uuencode and BinHex in a text → attachments; text → charset, wrapped

Only what a route wishes is touched, and only where it can be done whole: what is signed or encrypted, cannot be
decoded, or cannot be written in the character set wished for stays as it came, and a note says so. Pure; the caller
bounds the size and says what became of it. Not here: which route wishes what, and when (deliver/made_over.py).
"""

from __future__ import annotations

import re
from base64 import encodebytes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import charset as charsets
from email.errors import MessageError
from email.generator import BytesGenerator
from email.message import Message
from email.mime.base import MIMEBase
from email.parser import BytesParser
from email.policy import compat32
from io import BytesIO
from typing import Final, TypeAlias

from waypost.mail.attachments import Attachment, UndecodableError, from_binhex, from_tnef, texts_of
from waypost.mail.header import first_field

#: Parts within parts; as in convert.py.
DEPTH: Final = 50
_SEALED: Final = frozenset(
    {"multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"}
)
_TNEF: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_POLICY: Final = compat32.clone(linesep="\r\n", max_line_length=None)

Part: TypeAlias = "Message[str, str]"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a route wishes. `charset`: "" for as it came; `wrap`: characters a line of plain text, 0 for as it came."""

    tnef: bool = False
    uuencode: bool = False
    binhex: bool = False
    charset: str = ""
    wrap: int = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self != NO_WISHES


NO_WISHES: Final = Wishes()


@dataclass(frozen=True, slots=True)
class Content:
    """What a route makes of messages. `suppresses_replies`: automatic replies (RFC 3834) are not sent on."""

    wishes: Wishes = NO_WISHES
    suppresses_replies: bool = False
    place: str = "default"


AS_IT_CAME: Final = Content()


@dataclass(frozen=True, slots=True)
class MadeOver:
    """The message as it is to be sent on. `notes`: what was done, and what could not be, a sentence each."""

    octets: bytes
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Work:
    """One message under way."""

    wishes: Wishes
    notes: list[str] = field(default_factory=list)
    changed: bool = False

    def done(self, note: str) -> None:
        self.notes.append(note)
        self.changed = True


def make_over(message: bytes, wishes: Wishes) -> MadeOver:
    """The message as `wishes` have it; untouched, with a note, where it cannot be read. Never raises for its octets."""
    work = _Work(wishes)
    try:
        root: Part = BytesParser(policy=_POLICY).parsebytes(message)
        if sealed := next((part.get_content_type() for part in root.walk() if part.get_content_type() in _SEALED), ""):
            return MadeOver(message, (f"left as it came: {sealed} may not be changed",))
        _entity(root, work, DEPTH)
        octets = _written(root) if work.changed else message
    except (MessageError, ValueError, LookupError, RecursionError, AttributeError, TypeError) as error:
        return MadeOver(message, (f"left as it came: it cannot be read as MIME ({type(error).__name__}: {error})",))
    return MadeOver(octets, tuple(work.notes))


def _written(root: Part) -> bytes:
    buffer = BytesIO()
    BytesGenerator(buffer, mangle_from_=False, maxheaderlen=0, policy=_POLICY).flatten(root, linesep="\r\n")
    return buffer.getvalue()


def _entity(part: Part, work: _Work, depth: int) -> None:
    """One entity, and what is in it."""
    if part.is_multipart():
        if depth:
            for inner in list(part.get_payload()):
                if isinstance(inner, Message):
                    _entity(inner, work, depth - 1)
        return
    name, kind = str(part.get_filename() or ""), part.get_content_type()
    if work.wishes.tnef and (kind in _TNEF or name.lower() == "winmail.dat"):
        _replace(part, work, lambda: from_tnef(_octets(part)), "winmail.dat")
    elif work.wishes.binhex and kind == "application/mac-binhex40":
        _replace(part, work, lambda: [from_binhex(_octets(part))], "a BinHex attachment")
    elif part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
        _text(part, work)


def _octets(part: Part) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _replace(part: Part, work: _Work, read: Callable[[], list[Attachment]], what: str) -> None:
    """A part by what is in it: by one part, or by a multipart of several."""
    try:
        found = read()
    except UndecodableError as error:
        work.notes.append(f"{what} stays as it came: {error}")
        return
    if not found:
        work.notes.append(f"{what} stays as it came: there is nothing in it")
        return
    for name in ("Content-Disposition", "Content-Transfer-Encoding", "Content-Description", "Content-Type"):
        del part[name]
    part["Content-Type"] = "multipart/mixed"
    _fill(part, [_attached(each) for each in found])
    work.done(f"{what} was taken apart: {', '.join(each.name for each in found)}")


def _fill(part: Part, parts: list[Part]) -> None:
    if "mime-version" not in part and "received" in part:
        part["MIME-Version"] = "1.0"
    part.set_payload([])
    for each in parts:
        part.attach(each)


def _attached(attachment: Attachment) -> Part:
    main, _, sub = attachment.kind.partition("/")
    made: Part = MIMEBase(main, sub, policy=_POLICY)
    del made["MIME-Version"]
    made["Content-Transfer-Encoding"] = "base64"
    if attachment.name:
        made.add_header("Content-Disposition", "attachment", filename=_ascii_or_coded(attachment.name))
    made.set_payload(_base64(attachment.octets))
    return made


def _ascii_or_coded(name: str) -> str | tuple[str, str, str]:
    return name if name.isascii() else ("utf-8", "", name)


def _base64(octets: bytes) -> str:
    return encodebytes(octets).decode("ascii")


# ---- text
def _text(part: Part, work: _Work) -> None:
    wishes = work.wishes
    name = str(part.get_content_charset() or "us-ascii")
    try:
        text = _octets(part).decode(name)
    except (UnicodeDecodeError, LookupError):
        if wishes.charset or wishes.wrap or wishes.uuencode or wishes.binhex:
            work.notes.append(f"a text stays as it came: it is not {name}, which it says it is")
        return
    is_plain = part.get_content_subtype() == "plain"
    attachments: list[Attachment] = []
    if is_plain and (wishes.uuencode or wishes.binhex):
        text, attachments = texts_of(text, uuencode=wishes.uuencode, binhex=wishes.binhex)
    wrapped = _wrapped(text, wishes.wrap) if is_plain and wishes.wrap and not _flows(part) else text
    charset = _charset_for(wrapped, name, work)
    if not attachments and wrapped == text and charset == name:
        return
    if wrapped != text:
        work.done(f"lines of a text were wrapped at {wishes.wrap} characters")
    if charset != name:
        work.done(f"a text in {name} is written in {charset}")
    if not attachments:
        _write_text(part, wrapped, charset)
        return
    inner: Part = Message(policy=_POLICY)
    inner["Content-Type"] = f'text/plain; charset="{charset}"'
    _write_text(inner, wrapped, charset)
    for key in ("Content-Transfer-Encoding", "Content-Type"):
        del part[key]
    part["Content-Type"] = "multipart/mixed"
    _fill(part, [inner, *(_attached(each) for each in attachments)])
    work.done(f"attachments in a text were made parts: {', '.join(each.name for each in attachments)}")


def _charset_for(text: str, name: str, work: _Work) -> str:
    """The character set to write a text in: that wished for, where it has all its characters."""
    wished = work.wishes.charset
    if not wished or text.isascii() or charsets.Charset(wished).input_charset == charsets.Charset(name).input_charset:
        return name
    try:
        text.encode(wished)
    except UnicodeEncodeError as error:
        odd = text[error.start]
        work.notes.append(f"a text stays in {name}: {wished} has no {odd!r}")
        return name
    return wished


def _write_text(part: Part, text: str, charset: str) -> None:
    """The text in its character set, as quoted-printable where it is not plain ASCII in lines that can pass."""
    encoding = charsets.Charset(charset)
    is_short = text.isascii() and all(len(line) < 990 for line in text.splitlines())
    encoding.body_encoding = charsets.QP
    if is_short:
        encoding.body_encoding = None  # type: ignore[assignment]  # as its documentation has it: none
    del part["Content-Transfer-Encoding"]
    part.set_payload(text.replace("\r\n", "\n"), encoding)
    part.set_param("charset", charset)


def _flows(part: Part) -> bool:
    """Whether the reader wraps it himself (RFC 3676)."""
    return str(part.get_param("format", "")).lower() == "flowed"


def _wrapped(text: str, width: int) -> str:
    return "".join(piece for line in text.splitlines(keepends=True) for piece in _pieces(line, width))


def _pieces(line: str, width: int) -> Iterator[str]:
    """A line cut at blanks, so that no piece is longer, if that can be; quoted lines and long words stay."""
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    while len(body) > width and not body.startswith(">"):
        at = body.rfind(" ", 1, width + 1)
        if at < 1 or not body[:at].strip():
            at = body.find(" ", width)
        if at < 1 or not body[at:].strip():
            break
        yield body[:at] + (end or "\r\n")
        body = body[at + 1 :]
    yield body + end


# ---- automatic replies
_AUTOMATIC: Final = re.compile(rb"^auto-replied\b", re.IGNORECASE)


def automatic_reply(header: bytes) -> str:
    """Why a message with this header is an automatic reply, such as out-of-office (RFC 3834 §5): a clause; "" if not.

    Reports (DSNs, and receipts a person asked for) are no such replies, though they are made by programs.
    """
    if first_field(header, b"content-type").lower().startswith(b"multipart/report"):
        return ""
    said = first_field(header, b"auto-submitted")
    if _AUTOMATIC.match(said):
        return f"Auto-Submitted: {said.decode('ascii', 'replace')}"
    for name in (b"x-autoreply", b"x-autorespond", b"x-auto-response-suppress-reply"):
        value = first_field(header, name).lower()
        if value and value != b"no":
            return f"{name.decode()}: {value.decode('ascii', 'replace')}"
    if first_field(header, b"precedence").lower() == b"auto_reply":
        return "Precedence: auto_reply"
    return ""
