"""EHLO keywords and the parameters they add to MAIL and RCPT.

Sources: SIZE RFC 1870, 8BITMIME RFC 6152, PIPELINING RFC 2920, ENHANCEDSTATUSCODES RFC 2034, SMTPUTF8 RFC 6531,
DSN RFC 3461, STARTTLS RFC 3207, AUTH RFC 4954.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto


class BodyType(Enum):
    """What BODY= declares (RFC 6152 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Return(Enum):
    """RET= (RFC 3461 §4.3): how much of the message a failure report carries back."""

    FULL = "FULL"
    HEADERS = "HDRS"
    UNSPECIFIED = ""


class Notify(Flag):
    """NOTIFY= (RFC 3461 §4.1). `NEVER` is no bit at all; what an absent parameter means is `DEFAULT`."""

    NEVER = 0
    SUCCESS = auto()
    FAILURE = auto()
    DELAY = auto()
    UNSPECIFIED = auto()

    @property
    def wants_failure(self) -> bool:
        """Whether a failure is to be reported: asked for, or nothing was asked (RFC 3461 §4.1)."""
        return bool(self & (Notify.FAILURE | Notify.UNSPECIFIED))

    @property
    def wants_delay(self) -> bool:
        """Whether a delay may be reported."""
        return bool(self & (Notify.DELAY | Notify.UNSPECIFIED))

    @property
    def wants_success(self) -> bool:
        """Whether success is to be reported: only where asked."""
        return bool(self & Notify.SUCCESS)


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL carries beside the reverse-path; an absent parameter is its empty value here.

    `size` is the declared size in octets, 0 where none was declared (RFC 1870 §3 treats both alike).
    `envelope_id` is ENVID decoded from xtext (RFC 3461 §4.4).
    """

    size: int = 0
    body: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT carries beside the forward-path; `original_recipient` is ORCPT as `type;address`, xtext decoded."""

    notify: Notify = Notify.UNSPECIFIED
    original_recipient: str = ""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a peer offered in its EHLO reply: keyword in upper case → its parameters. HELO offers nothing."""

    offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.offered

    @property
    def size_limit(self) -> int:
        """The fixed maximum of RFC 1870 §4 in octets; 0 where none is declared."""
        first = (*self.offered.get("SIZE", ()), "")[0]
        return int(first) if first.isascii() and first.isdigit() and len(first) <= 20 else 0

    @property
    def auth_mechanisms(self) -> frozenset[str]:
        """The SASL mechanisms offered, in upper case."""
        return frozenset(name.upper() for name in self.offered.get("AUTH", ()))
