"""The Sender Rewriting Scheme: a reverse-path of ours that leads back to another's, signed, and good for a while.

    ann@example.org  →  SRS0=HHHH=TT=example.org=ann@srs.example.net

A relay that passes on mail of others' domains to somebody who checks SPF sends it so. A report that comes back to it is
unwrapped and goes to the author. The signature keeps strangers from having us forward what they like. An address that
another relay has wrapped already becomes SRS1, which names that relay and keeps its signature. Pure.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from waypost.net.clock import Instant
from waypost.smtp.path import Domain, Mailbox, PathError, parse_mailbox

#: Days an address leads back: longer than any queue keeps mail.
DAYS: Final = 21
_DAY: Final = 86400
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TURN: Final = len(_ALPHABET) ** 2
#: Characters of the signature: 40 bits, which nobody guesses over SMTP.
_SIGNATURE: Final = 8
_SRS0: Final = re.compile(r"SRS0[=+-]([A-Z2-7]{8})=([A-Z2-7]{2})=([^=@]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1: Final = re.compile(r"SRS1[=+-]([A-Z2-7]{8})=([^=@]+)=([=+-].+)", re.IGNORECASE | re.DOTALL)
_ANY: Final = re.compile(r"SRS([01])[=+-]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LeadsNowhere:
    """The address leads back to nobody; `why` is a sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class Srs:
    """`domain`: where wrapped addresses are, whose mail has to come to us."""

    domain: Domain
    secret: bytes

    def wrapped(self, path: Mailbox, now: Instant) -> Mailbox:
        """The address under which `path` can be reached through us. Raises: PathError, where it gets too long."""
        found = _ANY.match(path.local_part)
        if found is None:
            day = int(now // _DAY) % _TURN
            stamp = _ALPHABET[day // 32] + _ALPHABET[day % 32]
            rest = f"{stamp}={path.domain}={path.local_part}"
            return self._mailbox(f"SRS0={self._signature(rest)}={rest}")
        if found[1] == "0":
            rest = f"{path.domain}={path.local_part[4:]}"
        else:  # SRS1: the first relay stays, and the one in between is left out
            inner = _SRS1.fullmatch(path.local_part)
            rest = f"{inner[2]}={inner[3]}" if inner else f"{path.domain}={path.local_part[4:]}"
        return self._mailbox(f"SRS1={self._signature(rest)}={rest}")

    def unwrapped(self, local_part: str, now: Instant) -> Mailbox | LeadsNowhere:
        """Whom a wrapped address leads back to."""
        if found := _SRS0.fullmatch(local_part):
            signature, stamp, domain, user = found.groups()
            if not self._is_ours(signature, f"{stamp}={domain}={user}"):
                return LeadsNowhere("its signature is not ours")
            if not _is_current(stamp, now):
                return LeadsNowhere(f"it is older than {DAYS} days")
            return _parsed(user, domain)
        if found := _SRS1.fullmatch(local_part):
            signature, domain, rest = found.groups()
            if not self._is_ours(signature, f"{domain}={rest}"):
                return LeadsNowhere("its signature is not ours")
            return _parsed(f"SRS0{rest}", domain)
        return LeadsNowhere("it is no address of the Sender Rewriting Scheme")

    def _mailbox(self, local_part: str) -> Mailbox:
        return parse_mailbox(str(Mailbox(local_part, self.domain)))

    def _signature(self, rest: str) -> str:
        """Of the address in lower case, for some relays on the way change it (RFC 5321 §2.4 forbids them)."""
        octets = rest.lower().encode("utf-8", "surrogateescape")
        return b32encode(hmac.new(self.secret, octets, sha256).digest())[:_SIGNATURE].decode()

    def _is_ours(self, signature: str, rest: str) -> bool:
        return hmac.compare_digest(signature.upper(), self._signature(rest))


def is_wrapped(local_part: str) -> bool:
    """Whether a local-part looks like one of the scheme."""
    return _ANY.match(local_part) is not None


def _is_current(stamp: str, now: Instant) -> bool:
    day = _ALPHABET.index(stamp[0].upper()) * 32 + _ALPHABET.index(stamp[1].upper())
    return (int(now // _DAY) - day) % _TURN <= DAYS


def _parsed(user: str, domain: str) -> Mailbox | LeadsNowhere:
    try:
        return parse_mailbox(str(Mailbox(user, parse_mailbox(f"x@{domain}").domain)))
    except PathError as error:
        return LeadsNowhere(f"what it wraps is no address: {error}")
