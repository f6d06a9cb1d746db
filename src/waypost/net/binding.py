"""Channel bindings: octets that both ends of one TLS connection know, and nobody in between (RFC 5929).

What Python's ssl gives: `tls-unique` up to TLS 1.2, and a server's certificate, whose hash is `tls-server-end-point`.
It has no `tls-exporter` (RFC 9266), the one of TLS 1.3 that most clients ask for.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from waypost.net.stream import SocketStream, Stream

UNIQUE: Final = "tls-unique"
END_POINT: Final = "tls-server-end-point"


def bindings_of(stream: Stream, certificate: bytes = b"") -> Mapping[str, bytes]:
    """Type → data, for a connection under TLS; none for any other.

    `certificate`: DER of the server's own, at the server's end; a client's is the one it was shown.
    """
    tls = stream.tls_object() if isinstance(stream, SocketStream) else None
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return {}
    found: dict[str, bytes] = {}
    unique = tls.get_channel_binding(UNIQUE) if tls.version() in ("TLSv1", "TLSv1.1", "TLSv1.2") else None
    if unique:
        found[UNIQUE] = unique
    shown = certificate or tls.getpeercert(binary_form=True)
    if shown:
        found[END_POINT] = end_point(shown)
    return found


def end_point(certificate: bytes) -> bytes:
    """The hash of a certificate by its signature's algorithm, SHA-256 for MD5 and SHA-1 (RFC 5929 §4.1)."""
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        algorithm = None
    name = algorithm.name if algorithm else "sha256"  # Ed25519 has none of its own
    return hashlib.new("sha256" if name in ("md5", "sha1") else name, certificate).digest()
