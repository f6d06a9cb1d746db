"""Domains as a route table compares them: lower-case A-labels, and the patterns of `domains = […]`. No lookups here.

RFC 5890 §2.3.2.1: a U-label and its A-label are one name in two spellings; DNS and our tables know the A-label only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

import idna

from waypost.smtp.path import AddressLiteral

_LABEL_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@lru_cache(maxsize=4096)
def to_ascii(domain: str) -> str:
    """`domain` in lower-case A-labels. Raises: ValueError, where it cannot be a domain name in DNS."""
    if domain.isascii():
        return domain.lower()  # the common case: a syntax check was made where the text was read
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{domain!r} is no internationalised domain name: {error}") from error


def host_name(text: str) -> str:
    """`text` as a host's name in lower-case A-labels, without a final dot.

    Raises: ValueError, with a sentence, where it cannot be one (RFC 1035 §2.3.4; underscores are let through).
    """
    name = to_ascii(text.removesuffix("."))
    if not name:
        raise ValueError(f"{text!r} is no domain name")
    if len(name) > 253:
        raise ValueError(f"{text!r} is longer than the 253 characters a domain name can have")
    for label in name.split("."):
        if not 0 < len(label) <= 63:
            raise ValueError(f"{text!r} has a label of {len(label)} characters; one has 1 to 63")
        if not _LABEL_CHARACTERS.issuperset(label) or label.startswith("-") or label.endswith("-"):
            raise ValueError(f"{text!r} has the label {label!r}; labels are made of letters, digits and inner hyphens")
    return name


def literal(text: str) -> AddressLiteral:
    """`[192.0.2.1]`, `[IPv6:2001:db8::1]` or `[2001:db8::1]`. Raises: ValueError, with a sentence."""
    inner = text.removeprefix("[").removesuffix("]")
    tag, colon, rest = inner.partition(":")
    try:
        return AddressLiteral(ip_address(rest if colon and tag.lower() == "ipv6" else inner))
    except ValueError:
        raise ValueError(f"{text!r} holds no IPv4 or IPv6 address") from None


class Match(Enum):
    """How a pattern matches; the more specific wins, whatever the order in the file."""

    EXACT = auto()  # "=example.com", "[192.0.2.1]"
    SUFFIX = auto()  # "example.com" and all below it, by whole labels
    EVERYTHING = auto()  # "*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One word of `domains = […]`; `name` in lower-case A-labels, or a literal with its brackets, or empty for `*`."""

    match: Match
    name: str

    def __str__(self) -> str:
        match self.match:
            case Match.EVERYTHING:
                return "*"
            case Match.EXACT:
                return self.name if self.name.startswith("[") else f"={self.name}"
            case Match.SUFFIX:
                return self.name

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern `text` spells. Raises: ValueError, with a sentence that says what to write instead."""
        if text == "*":
            return cls(Match.EVERYTHING, "")
        if text.startswith("["):
            return cls(Match.EXACT, str(literal(text)))
        if text.startswith(("*.", ".")):
            name = text.lstrip("*").lstrip(".")
            raise ValueError(f'{text!r} has a wildcard; write "{name}", which has all its sub-domains in it')
        if "@" in text:
            raise ValueError(f'{text!r} is an address; routes go by domain: write "{text.rpartition("@")[2]}"')
        if text.startswith("="):
            return cls(Match.EXACT, host_name(text[1:]))
        return cls(Match.SUFFIX, host_name(text))
