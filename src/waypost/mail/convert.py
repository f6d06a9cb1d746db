"""A message made fit for a narrower way: parts that cannot pass go in quoted-printable or base64 (RFC 6152 §3).

Touched are only the body of such a part, its Content-Transfer-Encoding, and that of the multiparts around it. Every
other octet stays as it came, and decoding gives each part's octets back. Pure, and all in memory: the caller bounds
the size.

What is signed where it stands (multipart/signed) may not be changed on the way (RFC 1847 §2.1), so it cannot be
converted; nor can what MIME forbids to encode, nor 8-bit characters in a header, nor what is not well formed.

Not here: when to convert (deliver/fitting.py).
"""

from __future__ import annotations

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from enum import Enum, auto
from typing import Final

from waypost.mail.header import first_field, header_of
from waypost.smtp.body import BODY_LINE

#: Parts within parts; a message of good faith has a handful.
DEPTH: Final = 50

_ENCODING: Final = re.compile(
    rb"^content-transfer-encoding[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE
)
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
#: Parts whose octets MIME binds to a meaning or a form of their own (RFC 1847 §2.1, RFC 2046 §5.2).
_UNTOUCHABLE: Final = "multipart/signed"


class Way(Enum):
    """What the next hop takes: lines of ASCII, or lines of any octets but NUL."""

    SEVEN_BIT = auto()
    EIGHT_BIT = auto()


class UnconvertibleError(ValueError):
    """The message cannot go that way unharmed; the text tells why, as a clause."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What an entity stands in: the way octets have to pass, and boundaries that must not come to be by encoding."""

    way: Way
    depth: int = 0
    boundaries: tuple[re.Pattern[bytes], ...] = ()
    default: str = "text/plain"

    def within(self, boundary: re.Pattern[bytes], default: str) -> _Around:
        return _Around(self.way, self.depth + 1, (*self.boundaries, boundary), default)


def convert(message: bytes, way: Way) -> bytes:
    """`message` as it may go that way. Raises: UnconvertibleError."""
    converted = _entity(message, _Around(way))
    header = header_of(converted)
    if converted is message or first_field(header, b"mime-version"):
        return converted
    return header + b"MIME-Version: 1.0\r\n" + converted[len(header) :]


def passes(octets: bytes, way: Way) -> bool:
    """Whether `octets` may go that way as they are."""
    if way is Way.SEVEN_BIT and not octets.isascii():
        return False
    pairs = octets.count(b"\r\n")
    if octets.count(b"\n") != pairs or octets.count(b"\r") != pairs or b"\0" in octets:
        return False
    return len(octets) < BODY_LINE or max(map(len, octets.split(b"\n"))) < BODY_LINE


def has_wide_header(message: bytes) -> bool:
    """Whether a header of it, or of a part, holds more than ASCII: then it needs SMTPUTF8 (RFC 6532 §3)."""
    return not message.isascii() and _has_wide_header(message, DEPTH)


def _has_wide_header(entity: bytes, depth: int) -> bool:
    header = header_of(entity)
    if not header.isascii() or not depth:
        return True
    body = entity[len(header) + 2 :]
    fields: Message[str, str] = BytesHeaderParser().parsebytes(header)
    if body.isascii() or fields.get_content_maintype() != "multipart" or not fields.get_boundary():
        return False
    delimiter = _delimiter(fields.get_boundary() or "")
    return any(_has_wide_header(part[2:], depth - 1) for part, is_part, _ in _split(body, delimiter) if is_part)


def _entity(entity: bytes, around: _Around) -> bytes:
    """One entity: a message, or a part of one (RFC 2045 §2.4)."""
    if passes(entity, around.way):
        return entity
    if around.depth > DEPTH:
        raise UnconvertibleError(f"it has parts within parts more than {DEPTH} deep")
    header = header_of(entity)
    if not header.isascii() or not passes(header, around.way) or len(header) == len(entity):
        raise UnconvertibleError("its header holds what no encoding of a body mends")
    body = entity[len(header) + 2 :]
    fields: Message[str, str] = BytesHeaderParser().parsebytes(header)
    fields.set_default_type(around.default)
    kind, encoding = fields.get_content_type(), _encoding(fields)
    if kind == _UNTOUCHABLE:
        raise UnconvertibleError("a part of it is signed as it stands")
    if encoding not in _IDENTITY:
        raise UnconvertibleError(f"a part of it claims to be {encoding!r} and is not")
    match kind.partition("/")[0]:
        case "multipart":
            return _container(header, _parts(body, fields.get_boundary() or "", kind, around))
        case "message" if kind == "message/rfc822":
            return _container(header, _entity(body, _Around(around.way, around.depth + 1, around.boundaries)))
        case "message":
            raise UnconvertibleError(f"a part of it is {kind}, which may not be encoded (RFC 2046 section 5.2)")
        case main:
            return _leaf(header, body, around, is_text=main == "text")


def _encoding(fields: Message[str, str]) -> str:
    return str(fields.get("content-transfer-encoding", "7bit")).partition(";")[0].strip().lower()


def _parts(body: bytes, boundary: str, kind: str, around: _Around) -> bytes:
    """A multipart's body, with each part as it may go; delimiters, preamble and epilogue as they came."""
    if not boundary.isascii() or not boundary:
        raise UnconvertibleError("a multipart of it names no boundary")
    delimiter = _delimiter(boundary)
    inside = around.within(delimiter, "message/rfc822" if kind == "multipart/digest" else "text/plain")
    return b"".join([_part(octets, inside, is_part) + end for octets, is_part, end in _split(body, delimiter)])


def _delimiter(boundary: str) -> re.Pattern[bytes]:
    name = re.escape(boundary.encode("utf-8", "surrogateescape"))
    return re.compile(rb"(?:\A|\r\n)--" + name + rb"(--)?[ \t]*(?=\r\n|\Z)")


def _split(body: bytes, delimiter: re.Pattern[bytes]) -> Iterator[tuple[bytes, bool, bytes]]:
    """A multipart's pieces (RFC 2046 §5.1.1): the octets, whether they are a part's, and the delimiter behind them."""
    at, is_part = 0, False
    for found in delimiter.finditer(body):
        yield body[at : found.start()], is_part, found[0]
        at, is_part = found.end(), not found[1]
        if not is_part:
            break
    yield body[at:], is_part, b""


def _part(octets: bytes, around: _Around, is_part: bool) -> bytes:  # noqa: FBT001 - what `_split` says of it
    """What stands between two delimiters: a part behind its line end, or else a preamble or epilogue."""
    if is_part and octets:
        return octets[:2] + _entity(octets[2:], around)
    if not passes(octets, around.way):
        raise UnconvertibleError("there is text beside the parts of a multipart that cannot pass")
    return octets


def _container(header: bytes, body: bytes) -> bytes:
    if _ENCODING.search(header):
        header = _with_encoding(header, b"7bit" if body.isascii() else b"8bit")
    return header + b"\r\n" + body


def _leaf(header: bytes, body: bytes, around: _Around, *, is_text: bool) -> bytes:
    encoded, name = _quoted_printable(body), b"quoted-printable"
    # Half again as long is what base64 comes to; and a line may not by chance become a boundary of what is around it.
    if not is_text or 3 * len(encoded) > 4 * len(body) + 80 or any(one.search(encoded) for one in around.boundaries):
        encoded, name = encodebytes(body).replace(b"\n", b"\r\n"), b"base64"
    header = _with_encoding(header, name)
    if is_text and not first_field(header, b"content-type"):
        header += b"Content-Type: text/plain; charset=unknown-8bit\r\n"  # RFC 1428 §3: nothing is known of it
    return header + b"\r\n" + encoded


def _quoted_printable(body: bytes) -> bytes:
    """RFC 2045 §6.7; a body that does not end in CRLF ends in a soft line break, so that none is added to it."""
    lines = [b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in body.split(b"\r\n")]
    return b"\r\n".join(lines) + (b"=\r\n" if lines[-1] else b"")


def _with_encoding(header: bytes, name: bytes) -> bytes:
    field = b"Content-Transfer-Encoding: " + name + b"\r\n"
    if not _ENCODING.search(header):
        return header + field
    first, *others = _ENCODING.split(header)
    return first + field + b"".join(others)
