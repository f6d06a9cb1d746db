"""What became of TLS with one host: a value, which deliveries make and reports to the domain are made of (RFC 8460).

Not here: the report (tls_report.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from waypost.mail.outcome import Host


class TlsTrouble(Enum):
    """What goes wrong with TLS, in the words of a report (RFC 8460 §4.3)."""

    NONE = ""
    NO_STARTTLS = "starttls-not-supported"
    NAME = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION = "validation-failure"  # whatever has no word of its own
    TLSA = "tlsa-invalid"
    DNSSEC = "dnssec-invalid"
    NO_DANE = "dane-required"
    STS_FETCH = "sts-policy-fetch-error"
    STS_INVALID = "sts-policy-invalid"
    STS_CERTIFICATE = "sts-webpki-invalid"


class Basis(Enum):
    """What a level rests on, as a report calls it (RFC 8460 §4.2, policy-type)."""

    DANE = "tlsa"
    MTA_STS = "sts"
    NOTHING = "no-policy-found"


@dataclass(frozen=True, slots=True)
class Published:
    """What a domain has published about its TLS, as a report to it quotes it. `domain`: whose it is."""

    basis: Basis
    domain: str
    lines: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()  # the hosts an MTA-STS policy names


@dataclass(frozen=True, slots=True)
class TlsResult:
    """One session with `host`, or the lack of one: `trouble` is NONE where TLS did all that was promised.

    `local`: our numeric address; "" where no connection came to be. `detail`: what the trouble was, in words.
    """

    published: Published
    host: Host
    local: str
    trouble: TlsTrouble
    detail: str = ""
