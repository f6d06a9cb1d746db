"""Reverse-paths and forward-paths (RFC 5321 §4.1.2, §4.1.3; internationalised by RFC 6531 §3.3).

Two types, because they are two things: a reverse-path may be null, a forward-path may be the bare `Postmaster`.
Source routes are read and thrown away (RFC 5321 §3.3, appendix C). Not here: whether a mailbox exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NewType, TypeAlias

DomainName = NewType("DomainName", str)
"""A domain name in lower case: A-labels, or U-labels where the dialogue has SMTPUTF8. No trailing dot."""


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
