"""Channel bindings: octets that both ends of one TLS connection know, and nobody in between (RFC 5929).

Ours is `tls-server-end-point`, the hash of the server's certificate. Python's ssl has no `tls-exporter` (RFC 9266), the
one of TLS 1.3 that most clients ask for, and `tls-unique` only where TLS 1.2 is spoken, which few still do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography import x509

from waypost.net.certificates import end_point
from waypost.net.tls import TlsFacts, TlsState

END_POINT: Final = "tls-server-end-point"


def bindings_of(tls: TlsState) -> Mapping[str, bytes]:
    """Type → data, at either end of a connection; none in clear, or where the certificate has none (RFC 5929 §4.1)."""
    if not isinstance(tls, TlsFacts):
        return {}
    hashed = tls.end_point or (_shown(tls.certificates[0]) if tls.certificates else b"")
    return {END_POINT: hashed} if hashed else {}


def _shown(certificate: bytes) -> bytes:
    try:
        return end_point(x509.load_der_x509_certificate(certificate))
    except ValueError:  # what OpenSSL took, and cryptography does not
        return b""
