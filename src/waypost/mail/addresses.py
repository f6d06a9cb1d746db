"""Addresses in header fields, by where they stand: so that one can be replaced, and no other octet is touched.

Reads what RFC 5322 §3.4 allows and §4.4 still wants read: display names in any quoting or encoding, comments anywhere,
groups, folding, source routes. What cannot be read as an address is left as it is. Pure.

Not here: which address becomes which (waypost.policy.rewriting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from waypost.smtp.path import Mailbox, PathError, parse_mailbox


class Class(Enum):
    """Whom a header field names."""

    SENDER = "header-sender"
    RECIPIENT = "header-recipient"


#: The fields that hold addresses, by their names in lower case.
FIELDS: Final[Mapping[bytes, Class]] = {
    b"from": Class.SENDER,
    b"sender": Class.SENDER,
    b"reply-to": Class.SENDER,
    b"errors-to": Class.SENDER,
    b"disposition-notification-to": Class.SENDER,
    b"return-receipt-to": Class.SENDER,
    b"resent-from": Class.SENDER,
    b"resent-sender": Class.SENDER,
    b"resent-reply-to": Class.SENDER,
    b"to": Class.RECIPIENT,
    b"cc": Class.RECIPIENT,
    b"bcc": Class.RECIPIENT,
    b"apparently-to": Class.RECIPIENT,
    b"resent-to": Class.RECIPIENT,
    b"resent-cc": Class.RECIPIENT,
    b"resent-bcc": Class.RECIPIENT,
}

#: Tokens: what parts them, what is a word, and each special by itself. A comment is found by hand: it nests.
_TOKEN: Final = re.compile(
    rb"""
    (?P<space>[ \t\r\n]+)
    |(?P<quoted>"(?:[^"\\]|\\.)*+")
    |(?P<literal>\[(?:[^\[\]\\]|\\.)*+\])
    |(?P<atom>[^ \t\r\n"\\()<>\[\]:;@,.\x00-\x1f\x7f]+)
    |(?P<special>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:((?:[^\n]*\n[ \t])*[^\n]*(?:\n|\Z))")


@dataclass(frozen=True, slots=True)
class Place:
    """An address within a header section: the octets `start` to `end` spell `mailbox`."""

    start: int
    end: int
    mailbox: Mailbox
    names: Class  # whom its field names
    field: bytes  # the field's name in lower case


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word", "literal", or the special itself
    start: int
    end: int


def places_in(header: bytes) -> Sequence[Place]:
    """Every address in the fields that hold addresses, in order; `header` as `header_of` gives it."""
    found: list[Place] = []
    for field in _FIELD.finditer(header):
        name = field[1].lower()
        if name in FIELDS:
            spans = _addresses(header, field.start(2), field.end(2))
            found += [Place(start, end, mailbox, FIELDS[name], name) for start, end, mailbox in spans]
    return found


def replaced(header: bytes, changes: Iterable[tuple[Place, Mailbox]]) -> bytes:
    """The header with other addresses in some places; all octets between them stay."""
    pieces: list[bytes] = []
    at = 0
    for place, mailbox in sorted(changes, key=lambda change: change[0].start):
        pieces += [header[at : place.start], str(mailbox).encode("utf-8", "surrogateescape")]
        at = place.end
    return b"".join([*pieces, header[at:]])


def with_reply_to(header: bytes, original: bytes) -> bytes:
    """The header with a Reply-To behind its From: the body that From has in `original`; where there is none already."""
    if any(field[1].lower() == b"reply-to" for field in _FIELD.finditer(header)):
        return header
    was = next((field[2] for field in _FIELD.finditer(original) if field[1].lower() == b"from"), b"")
    here = next((field.end() for field in _FIELD.finditer(header) if field[1].lower() == b"from"), -1)
    return header if here < 0 else header[:here] + b"Reply-To:" + was + header[here:]


def _addresses(octets: bytes, start: int, end: int) -> Iterator[tuple[int, int, Mailbox]]:
    """Each mailbox between two places, with where its addr-spec stands."""
    for element in _elements(_tokens(octets, start, end)):
        kinds = [token.kind for token in element]
        inner = element
        if "<" in kinds:
            opened = kinds.index("<")
            closed = kinds.index(">", opened) if ">" in kinds[opened:] else opened
            inner = element[opened + 1 : closed]
            if ":" in (route := [token.kind for token in inner]):
                inner = inner[len(route) - route[::-1].index(":") :]
        if not _is_address(inner):
            continue
        spelt = b"".join(octets[token.start : token.end] for token in inner)
        try:
            yield inner[0].start, inner[-1].end, parse_mailbox(spelt.decode("utf-8", "surrogateescape"))
        except PathError:
            continue


def _elements(tokens: Iterable[_Token]) -> Iterator[list[_Token]]:
    """What stands between the commas of a list, and around groups; a comma in angle brackets is a source route's."""
    element: list[_Token] = []
    in_angle = False
    for token in tokens:
        if token.kind in {",", ";", ":"} and not in_angle:
            yield element
            element = []
            continue
        in_angle = (in_angle or token.kind == "<") and token.kind != ">"
        element.append(token)
    yield element


def _is_address(tokens: Sequence[_Token]) -> bool:
    """Whether these are word (. word)* @ and a domain or a literal: an addr-spec, and nothing else."""
    kinds = [token.kind for token in tokens]
    if kinds.count("@") != 1:
        return False
    at = kinds.index("@")
    return _is_dotted(kinds[:at]) and (kinds[at + 1 :] == ["literal"] or _is_dotted(kinds[at + 1 :]))


def _is_dotted(kinds: Sequence[str]) -> bool:
    return len(kinds) % 2 == 1 and all(kind == ("." if index % 2 else "word") for index, kind in enumerate(kinds))


def _tokens(octets: bytes, start: int, end: int) -> Iterator[_Token]:
    """The tokens, without white space and comments."""
    at = start
    while at < end and (found := _TOKEN.match(octets, at, end)):
        kind = found.lastgroup or ""
        at = found.end()
        if found[0] == b"(":
            at = _end_of_comment(octets, found.start(), end)
        elif kind in {"quoted", "atom"}:
            yield _Token("word", found.start(), at)
        elif kind != "space":
            yield _Token("literal" if kind == "literal" else found[0].decode("latin-1"), found.start(), at)


def _end_of_comment(octets: bytes, start: int, end: int) -> int:
    """Behind the closing bracket, or `end` where there is none."""
    depth, at = 0, start
    while at < end:
        match octets[at : at + 1]:
            case b"\\":
                at += 1
            case b"(":
                depth += 1
            case b")":
                depth -= 1
            case _:
                pass
        at += 1
        if depth == 0:
            return at
    return end
