"""DANE: TLSA records and certificates of any octets are judged; nothing matches that is not pinned octet by octet."""

from __future__ import annotations

from fuzz.targets import head
from waypost.net.dane import Matched, Matching, Usage, usable, verify
from waypost.net.resolver import TlsaRecord
from waypost.net.x509 import CertificateError, public_key


def one(octets: bytes) -> None:
    """Octets 0 to 2: a record's numbers; 3: the size of its data; what follows the data is the server's certificate."""
    (usage, selector, matching, size), rest = head(octets, 4)
    record = TlsaRecord(usage % 5, selector % 3, matching % 4, rest[:size])
    certificate = rest[size:]
    verdict = verify([certificate, certificate], usable([record]), ["mx.example"], 0)
    if isinstance(verdict, Matched):
        assert record.usage in set(Usage)
        assert record.matching in set(Matching)
    else:
        assert verdict.detail
    try:
        key = public_key(certificate)
    except CertificateError:
        return
    assert key in certificate
