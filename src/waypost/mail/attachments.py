"""What older mail programs put attachments into, read: TNEF (winmail.dat), uuencode, BinHex 4.0. Pure.

Not here: what becomes of them in a message (content.py).
"""

from __future__ import annotations

import binascii
import mimetypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Final

#: Octets that one attachment may unfold to; run lengths in BinHex could make 64 of each.
MOST: Final = 256 * 1024 * 1024


class UndecodableError(ValueError):
    """It is no such thing, or it is broken; the text tells why, as a clause."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file. `kind`: its MIME type, by its name."""

    name: str
    octets: bytes
    kind: str = "application/octet-stream"


def _named(name: str, octets: bytes, kind: str = "") -> Attachment:
    """A file by its bare name: a path in it would be another machine's, or a trap."""
    bare = PureWindowsPath(name.replace("\0", "")).name.strip() or "attachment"
    return Attachment(bare, octets, kind or mimetypes.guess_type(bare)[0] or "application/octet-stream")


# ---- TNEF
def from_tnef(octets: bytes) -> list[Attachment]:
    """What is in a winmail.dat: its HTML, then its files. Needs the extra `tnef`. Raises: UndecodableError."""
    try:
        from tnefparse import TNEF  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UndecodableError("the extra tnef is not installed") from error
    try:
        found = TNEF(octets)
        html = found.htmlbody
        files = [(str(each.long_filename() or each.name), bytes(each.data)) for each in found.attachments]
    except Exception as error:
        raise UndecodableError(f"it cannot be read ({type(error).__name__}: {error})") from error
    bodies = [_named("message.html", html if isinstance(html, bytes) else html.encode(), "text/html")] if html else []
    return bodies + [_named(name.rstrip("\0"), data) for name, data in files]


# ---- in a text
_UUENCODED: Final = re.compile(
    r"^begin [0-7]{3,4} (?P<name>[^\r\n]+)\r?\n(?P<lines>(?:[ -`]*\r?\n)*?)(?:[ `]?\r?\n)?end[ \t]*(?:\r?\n|\Z)",
    re.MULTILINE,
)
_BINHEX: Final = re.compile(
    r"^\(This file must be converted with BinHex[^\r\n]*\)\r?\n\s*(?P<data>:[^:]*:)[ \t]*(?:\r?\n|\Z)", re.MULTILINE
)


def texts_of(text: str, *, uuencode: bool, binhex: bool) -> tuple[str, list[Attachment]]:
    """A text without the files that are encoded in it, and the files; what is broken stays in the text."""
    found: list[Attachment] = []

    def uuencoded(match: re.Match[str]) -> str:
        return _taken(match, found, lambda: _named(match["name"].strip(), from_uuencode(match["lines"])))

    def binhexed(match: re.Match[str]) -> str:
        return _taken(match, found, lambda: from_binhex(match["data"].encode("ascii", "replace")))

    if uuencode and "\nend" in text:
        text = _UUENCODED.sub(uuencoded, text)
    if binhex and "BinHex" in text:
        text = _BINHEX.sub(binhexed, text)
    return text, found


def _taken(match: re.Match[str], found: list[Attachment], read: Callable[[], Attachment]) -> str:
    try:
        found.append(read())
    except UndecodableError:
        return match[0]
    return ""


def from_uuencode(lines: str) -> bytes:
    """The octets of lines between "begin" and "end". Raises: UndecodableError."""
    return b"".join(_uuline(line) for line in lines.splitlines())


def _uuline(line: str) -> bytes:
    """One line; blanks at its end may have been lost on the way."""
    if not line.strip(" `"):
        return b""
    length = (ord(line[0]) - 32) & 63
    body = line[1:].ljust((length + 2) // 3 * 4)
    try:
        return binascii.a2b_uu(line[0] + body[: (length + 2) // 3 * 4])
    except ValueError as error:
        raise UndecodableError(f"a line of it is no uuencode ({error})") from error


# ---- BinHex 4.0 (RFC 1741)
_DIGITS: Final = {
    ord(character): value
    for value, character in enumerate("!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr")
}
_REPEAT: Final = 0x90


def from_binhex(octets: bytes) -> Attachment:
    """The file in `:…:`. Raises: UndecodableError, also where its sums do not fit, or a resource fork would be lost."""
    _, colon, rest = octets.partition(b":")
    data, end, _ = rest.partition(b":")
    if not colon or not end:
        raise UndecodableError("it does not stand between colons")
    whole = _unrolled(_six_bits(data))
    head = whole[0] + 20 if whole else 0
    header, at = whole[:head], head
    _check(header, whole[at : at + 2], "header")
    name = whole[1 : 1 + whole[0]].decode("mac_roman")
    if any(whole[at - 4 : at]):
        raise UndecodableError("it has a resource fork, which would be lost")
    size = int.from_bytes(whole[at - 8 : at - 4], "big")
    fork = whole[at + 2 : at + 2 + size]
    if len(fork) < size:
        raise UndecodableError("it is cut off")
    _check(fork, whole[at + 2 + size : at + 4 + size], "file")
    return _named(name.replace("/", "-"), fork)


def _check(octets: bytes, written: bytes, what: str) -> None:
    if len(written) < 2 or binascii.crc_hqx(octets, 0) != int.from_bytes(written, "big"):
        raise UndecodableError(f"the sum of its {what} does not fit")


def _six_bits(data: bytes) -> bytes:
    bits = count = 0
    out = bytearray()
    for octet in data:
        if octet in b"\r\n\t ":
            continue
        if octet not in _DIGITS:
            raise UndecodableError(f"{chr(octet)!r} is no digit of BinHex")
        bits, count = (bits << 6 | _DIGITS[octet]) & 0xFFFF, count + 6
        if count >= 8:
            count -= 8
            out.append(bits >> count & 0xFF)
    return bytes(out)


def _unrolled(data: bytes) -> bytes:
    """Runs written out: 0x90 and a count repeat the octet before, 0x90 0x00 is 0x90 itself."""
    out = bytearray()
    for octet, count in _runs(data):
        if count and out:
            out += bytes([out[-1]]) * (count - 1)
        else:
            out.append(octet)
        if len(out) > MOST:
            raise UndecodableError("it unfolds to more than any attachment")
    return bytes(out)


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Each octet with 0, or the count of a run."""
    octets = iter(data)
    for octet in octets:
        if octet != _REPEAT:
            yield octet, 0
            continue
        count = next(octets, 0)
        yield _REPEAT, count
