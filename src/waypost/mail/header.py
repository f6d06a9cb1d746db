"""Reading a message's header on its octets, without a parse of the message, and writing fields (RFC 5322 §2.2).

For the few fields a report repeats, and those of its own. Not here: the trace (trace.py), or reading a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from waypost.mail.explain import plain

#: Characters after which a line of ours is folded or wrapped (RFC 5322 §2.1.1 advises 78).
LINE: Final = 76
#: Octets of a word that still fits a line of 998 with a field's name before it.
WORD: Final = 900

_FOLD: Final = re.compile(rb"\r?\n[ \t]")


def header_of(octets: bytes) -> bytes:
    """The header section with its last CRLF, without the empty line; all of `octets` where no empty line ends it."""
    if octets.startswith(b"\r\n"):
        return b""
    end = octets.find(b"\r\n\r\n")
    return octets if end < 0 else octets[: end + 2]


def ends_header(octets: bytes) -> bool:
    """Whether the whole header section is in these octets, the first ones of a message."""
    return octets.startswith(b"\r\n") or b"\r\n\r\n" in octets


def first_field(header: bytes, name: bytes) -> bytes:
    """The body of the first field of that name, unfolded and stripped; empty where there is none.

    `name` is given in lower case, without its colon.
    """
    lowered = b"\n" + header.lower()
    start = lowered.find(b"\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 1  # `header` lacks the newline put before `lowered`
    end = _end_of_field(header, start)
    return _FOLD.sub(b" ", header[start:end]).strip()


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each field's name as it is written, and its body, unfolded and stripped; lines that are no field are left out."""
    at = 0
    while at < len(header):
        end = _end_of_field(header, at)
        name, colon, body = header[at:end].partition(b":")
        if colon and name.strip() and not name[:1].isspace():
            yield name.rstrip(), _FOLD.sub(b" ", body).strip()
        at = end + 1


def without_field(octets: bytes, name: bytes) -> bytes:
    """A message without its fields of that name, given in lower case."""
    header = header_of(octets)
    start = (b"\n" + header.lower()).find(b"\n" + name + b":")
    if start < 0:
        return octets
    end = _end_of_field(header, start) + 1
    return octets[:start] + without_field(octets[end:], name)


def _end_of_field(header: bytes, start: int) -> int:
    end = header.find(b"\n", start)
    while 0 <= end < len(header) - 1 and header[end + 1] in b" \t":
        end = header.find(b"\n", end + 1)
    return len(header) if end < 0 else end


def pieces(word: str) -> Iterator[str]:
    """`word`, cut where it would not fit a line (a peer's reply may be one word of thousands of octets)."""
    if len(word) <= WORD // 4 or len(word.encode()) <= WORD:
        yield word
    else:
        for start in range(0, len(word), WORD // 4):
            yield word[start : start + WORD // 4]


def field(name: str, value: str) -> bytes:
    """One header field, folded before blanks, so that unfolding gives `value` back (RFC 5322 §2.2.3)."""
    lines = [f"{name}:"]
    for word in re.findall(r" *[^ ]+", " " + plain(value).strip()):
        for piece in pieces(word):
            if len(lines[-1]) + len(piece) > LINE and lines[-1] != f"{name}:":
                lines.append(piece if piece.startswith(" ") else f" {piece}")
            else:
                lines[-1] += piece
    return "\r\n".join([*lines, ""]).encode()
