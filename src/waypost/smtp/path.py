"""Reverse-paths and forward-paths (RFC 5321 §4.1.2, §4.1.3; internationalised by RFC 6531 §3.3).

Two types, because they are two things: a reverse-path may be null, a forward-path may be the bare `Postmaster`.
Source routes are read and thrown away (RFC 5321 §3.3, appendix C). Not here: whether a mailbox exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NewType, TypeAlias

#: RFC 5321 §4.5.3.1.1 to §4.5.3.1.3, in octets; a path is counted with its brackets, without its source route.
LOCAL_PART_LIMIT: Final = 64
DOMAIN_LIMIT: Final = 255
PATH_LIMIT: Final = 256

DomainName = NewType("DomainName", str)
"""A domain name in lower case: A-labels, or U-labels where the dialogue has SMTPUTF8. No trailing dot."""


def _or_wide(allowed: str) -> str:
    """A class of these of ASCII, and what RFC 6531 §3.3 adds to atext, qtext and labels: all beyond the C1 controls.

    It is written by what it leaves out: a class with a million characters in it takes the compiler ten milliseconds.
    """
    left_out = (chr(number) for number in range(0xA0) if re.fullmatch(f"[{allowed}]", chr(number)) is None)
    return f"[^{''.join(map(re.escape, left_out))}]"


_ATEXT, _QTEXT = _or_wide(r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"), _or_wide(r" !#-\[\]-~")
_DOT_STRING_GRAMMAR = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
# RFC 5321 has no underscore here, DNS has; such hosts exist and accepting them opens no hole.
_END, _AMID = _or_wide("A-Za-z0-9_"), _or_wide("A-Za-z0-9_-")
_LABEL = rf"{_END}(?:{_AMID}{{0,61}}{_END})?"
_DOMAIN_GRAMMAR = rf"{_LABEL}(?:\.{_LABEL})*"

_DOT_STRING: Final = re.compile(_DOT_STRING_GRAMMAR)
_DOMAIN: Final = re.compile(_DOMAIN_GRAMMAR)
_ORDINARY: Final = re.compile(rf"<({_DOT_STRING_GRAMMAR})@({_DOMAIN_GRAMMAR})>")
# Possessive quantifiers: a path that never ends is refused in one pass.
_BRACKETED: Final = re.compile(r'<(?:[^<>"]++|"(?:[^"\\]|\\.)*+")*+>')
_QUOTED: Final = re.compile(rf'"((?:{_QTEXT}|\\[ -~])*+)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_NEEDS_ESCAPE: Final = re.compile(r'(["\\])')


class PathError(ValueError):
    """What is wrong with an address, and where in it. The client's fault, or an administrator's."""


class Utf8Error(PathError):
    """The address is well formed but holds non-ASCII characters where SMTPUTF8 does not apply (RFC 6531 §3.5)."""


@dataclass(frozen=True, slots=True)
class AddressLiteral:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""

    address: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return f"[IPv6:{self.address}]" if isinstance(self.address, IPv6Address) else f"[{self.address}]"


Domain: TypeAlias = DomainName | AddressLiteral


@dataclass(frozen=True, slots=True)
class Mailbox:
    """`local-part@domain`; the local-part is held unquoted and in the case it came in (RFC 5321 §2.4)."""

    local_part: str
    domain: Domain

    def __str__(self) -> str:
        """The address without brackets, its local-part quoted where it must be."""
        if _DOT_STRING.fullmatch(self.local_part):
            return f"{self.local_part}@{self.domain}"
        escaped = _NEEDS_ESCAPE.sub(r"\\\1", self.local_part)
        return f'"{escaped}"@{self.domain}'


@dataclass(frozen=True, slots=True)
class NullPath:
    """The reverse-path `<>` of a notification: never answered by another one (RFC 5321 §4.5.5)."""

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The forward-path `<Postmaster>` without a domain (RFC 5321 §4.5.1)."""

    def __str__(self) -> str:
        return "postmaster"


ReversePath: TypeAlias = Mailbox | NullPath
ForwardPath: TypeAlias = Mailbox | Postmaster

_NULL_PATH: Final = NullPath()
_POSTMASTER: Final = Postmaster()


def bracketed(path: ReversePath | ForwardPath) -> str:
    """The path as MAIL and RCPT carry it: `<user@example.org>`, `<>`, `<postmaster>`."""
    return f"<{path}>"


def is_ascii(path: ReversePath | ForwardPath) -> bool:
    """Whether the path can be said without SMTPUTF8."""
    if not isinstance(path, Mailbox):
        return True
    return path.local_part.isascii() and (isinstance(path.domain, AddressLiteral) or path.domain.isascii())


def split_path(text: str) -> tuple[str, str]:
    """The path that `text` begins with, in its brackets, and what follows it. Raises: PathError, the client's fault."""
    found = _BRACKETED.match(text)
    if found is None:
        raise PathError(f"a path stands in angle brackets, as in <user@example.org>, not {text!r}")
    return found[0], text[found.end() :]


def parse_reverse_path(text: str, *, utf8: bool = False) -> ReversePath:
    """The reverse-path that `text`, brackets and all, spells. Raises: PathError, the client's fault."""
    return _NULL_PATH if text == "<>" else _parse_path(text, utf8=utf8)


def parse_forward_path(text: str, *, utf8: bool = False) -> ForwardPath:
    """The forward-path that `text`, brackets and all, spells. Raises: PathError, the client's fault."""
    if text.lower() == "<postmaster>":
        return _POSTMASTER
    if text == "<>":
        raise PathError("the null path <> names no recipient")
    return _parse_path(text, utf8=utf8)


def parse_mailbox(text: str) -> Mailbox:
    """The mailbox that `text`, without brackets, spells; UTF-8 is welcome. For configuration and command line.

    Raises: PathError, with the place and what is wrong there.
    """
    return _mailbox(text)


def parse_domain(text: str) -> Domain:
    """A domain name or an address literal. Raises: PathError."""
    if text.startswith("["):
        return _literal(text)
    if len(text.encode()) > DOMAIN_LIMIT:
        raise PathError(f"the domain is longer than {DOMAIN_LIMIT} octets (RFC 5321 §4.5.3.1.2)")
    if text.endswith("."):
        raise PathError(f"the domain {text!r} ends in a dot; leave the dot off")
    if not _DOMAIN.fullmatch(text):
        raise PathError(f"{_first_bad_label(text)} in the domain {text!r}")
    return DomainName(text.lower())


def _parse_path(text: str, *, utf8: bool) -> Mailbox:
    plain = text.isascii()
    if not (plain or utf8):
        raise Utf8Error(f"{text!r} is not ASCII, and the transaction did not ask for SMTPUTF8")
    found = _ORDINARY.fullmatch(text) if plain and len(text) <= LOCAL_PART_LIMIT else None
    if found is not None:
        return Mailbox(found[1], DomainName(found[2].lower()))
    if not (text.startswith("<") and text.endswith(">")):
        raise PathError(f"a path stands in angle brackets, as in <user@example.org>, not {text!r}")
    return _mailbox(_without_route(text[1:-1]))


def _without_route(text: str) -> str:
    """`text` without the source route it may begin with: `@a,@b:user@c` is `user@c` (RFC 5321 §4.1.2, A-d-l)."""
    if not text.startswith("@"):
        return text
    route, colon, rest = text.partition(":")
    if not colon:
        raise PathError(f"the source route {text!r} has no colon behind it, or the local-part is missing")
    for hop in route.split(","):
        if not _DOMAIN.fullmatch(hop.removeprefix("@")) or not hop.startswith("@"):
            raise PathError(f"{hop!r} in the source route is not @ and a domain")
    return rest


def _mailbox(text: str) -> Mailbox:
    if len(text.encode()) + 2 > PATH_LIMIT:
        raise PathError(f"the address is longer than {PATH_LIMIT - 2} octets (RFC 5321 §4.5.3.1.3)")
    local_part, rest = _local_part(text)
    if not rest.startswith("@"):
        raise PathError(f"the address {text!r} has no domain: write user@example.org")
    return Mailbox(local_part, parse_domain(rest[1:]))


def _local_part(text: str) -> tuple[str, str]:
    """The local-part unquoted, and the rest from the @ on."""
    found = (_QUOTED if text.startswith('"') else _DOT_STRING).match(text)
    if found is None:
        raise PathError(f"the local-part of {text!r} is missing, begins with a dot, or is not closed by a quote")
    if text[found.end() : found.end() + 1] not in ("@", ""):
        bad = text[found.end()]
        raise PathError(f"{bad!r} at character {found.end() + 1} of {text!r} may stand in a quoted local-part only")
    if len(found[0].encode()) > LOCAL_PART_LIMIT:
        raise PathError(f"the local-part is longer than {LOCAL_PART_LIMIT} octets (RFC 5321 §4.5.3.1.1)")
    content = _QUOTED_PAIR.sub(r"\1", found[1]) if text.startswith('"') else found[0]
    return content, text[found.end() :]


def _literal(text: str) -> AddressLiteral:
    inner = text[1:-1]
    try:
        if text.endswith("]") and inner[:5].upper() == "IPV6:" and "%" not in inner:
            return AddressLiteral(IPv6Address(inner[5:]))
        if text.endswith("]"):
            return AddressLiteral(IPv4Address(inner))
    except AddressValueError:
        pass
    raise PathError(f"the address literal {text!r} is neither like [192.0.2.1] nor like [IPv6:2001:db8::1]")


def _first_bad_label(text: str) -> str:
    for label in text.split("."):
        if not label:
            return "an empty label"
        if not _DOMAIN.fullmatch(label):
            return f"{label!r} is no label (letters, digits, hyphens inside, at most 63)"
    return "an error"  # pragma: no cover - a text whose every label is one is a domain
