"""DANE: whether the certificates a server has shown are those its TLSA records promise (RFC 6698, 7671, 7672).

Pure: records and certificates in, a verdict out. DANE-EE(3) pins the server's own certificate or key, and nothing else
in it counts. DANE-TA(2) pins an authority: the way from it down to the server's certificate is verified by OpenSSL, as
other mail servers do it, and one of the names has to be in the certificate. Usages 0 and 1 are not for SMTP.

Not here: looking the records up, and deciding for which host they count (waypost.route).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key
from OpenSSL import crypto

from waypost.net.clock import Instant
from waypost.net.resolver import TlsaRecord
from waypost.net.x509 import CertificateError, is_signed_by, openssl, parse, public_key, unvouched


class Usage(IntEnum):
    """What a record is about; the two that RFC 7672 §3.1 has for SMTP."""

    DANE_TA = 2
    DANE_EE = 3


class Selector(IntEnum):
    """Which part of a certificate."""

    CERT = 0
    SPKI = 1


class Matching(IntEnum):
    """What of that part the record holds."""

    FULL = 0
    SHA_256 = 1
    SHA_512 = 2


_DIGESTS: Final = {Matching.SHA_256: hashlib.sha256, Matching.SHA_512: hashlib.sha512}
#: Certificates of a chain that are looked at; public ones have two to four.
MAX_CHAIN: Final = 16


@dataclass(frozen=True, slots=True)
class Matched:
    """The server is who its domain says. `record`: the one it was known by."""

    record: TlsaRecord


@dataclass(frozen=True, slots=True)
class Mismatched:
    """It is not, or cannot be known; `detail` is a sentence without a full stop."""

    detail: str


def usable(records: Iterable[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """Those of `records` that can be verified against, without digests where a stronger one stands (RFC 7671 §9)."""
    known = [record for record in dict.fromkeys(records) if _is_usable(record)]
    strong = {(record.usage, record.selector) for record in known if record.matching == Matching.SHA_512}
    return tuple(
        record
        for record in known
        if record.matching != Matching.SHA_256 or (record.usage, record.selector) not in strong
    )


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in set(Usage) or record.selector not in set(Selector):
        return False
    if record.matching == Matching.FULL:
        return record.selector == Selector.SPKI or _is_certificate(record.data)
    return record.matching in _DIGESTS and len(record.data) == _DIGESTS[Matching(record.matching)]().digest_size


def _is_certificate(octets: bytes) -> bool:
    try:
        openssl(octets)
    except CertificateError:
        return False
    return True


def verify(
    chain: Sequence[bytes], records: Sequence[TlsaRecord], host_names: Sequence[str], now: Instant
) -> Matched | Mismatched:
    """Whether `chain` (DER, the server's own certificate first) is what the usable `records` promise.

    `host_names` in lower case: one of them has to be in the certificate where an authority is pinned
    (RFC 7672 §3.2.2). Where the server's own certificate is pinned, its names and dates count for nothing (§3.1.1).
    """
    if not chain:
        return Mismatched("the server showed no certificate")
    try:
        return _verify(chain[:MAX_CHAIN], records, host_names, now)
    except CertificateError as error:
        return Mismatched(f"the server showed {error}")


def _verify(
    chain: Sequence[bytes], records: Sequence[TlsaRecord], host_names: Sequence[str], now: Instant
) -> Matched | Mismatched:
    for record in records:
        if record.usage == Usage.DANE_EE and _matches(record, chain[0]):
            return Matched(record)
    why = "no TLSA record matches its certificate"
    for record, anchor in _anchors(chain, records):
        trouble = _unvouched(chain, anchor, host_names, now)
        if not trouble:
            return Matched(record)
        why = f"its certificate does not follow from the authority that a TLSA record names: {trouble}"
    return Mismatched(why)


def _matches(record: TlsaRecord, der: bytes) -> bool:
    part = der if record.selector == Selector.CERT else public_key(der)
    if record.matching == Matching.FULL:
        return part == record.data
    return _DIGESTS[Matching(record.matching)](part).digest() == record.data


def _anchors(chain: Sequence[bytes], records: Sequence[TlsaRecord]) -> Iterable[tuple[TlsaRecord, bytes]]:
    """Each pinned authority: shown by the server above its own certificate, or whole in the record.

    Where the record has its bare key (RFC 7671 §5.2.2), whatever that key has signed in `chain` stands for it.
    """
    for record in records:
        if record.usage != Usage.DANE_TA:
            continue
        shown = [der for der in chain[1:] if _matches(record, der)]
        for der in shown or _left_out(record, chain):
            yield record, der


def _left_out(record: TlsaRecord, chain: Sequence[bytes]) -> Iterable[bytes]:
    """What vouches in place of an authority that the server does not show; nothing where there is but a digest."""
    if record.matching != Matching.FULL:
        return []
    if record.selector == Selector.CERT:
        return [record.data]
    try:
        key = load_der_public_key(record.data)
    except (ValueError, UnsupportedAlgorithm):
        return []
    return [der for der in chain if is_signed_by(parse(der), key)]


def _unvouched(chain: Sequence[bytes], anchor: bytes, host_names: Sequence[str], now: Instant) -> str:
    """Why `anchor` does not vouch for the server under one of its names; "" where it does."""
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # the authority need not be a root (RFC 7671 §5.2.1)
    store.add_cert(openssl(anchor))
    return unvouched(store, chain, host_names, now)
