"""What a TLS handshake came to, in the words a log, a trace and a Received line want, and the settings both ends share.

Not here: the handshake (stream.py), and which certificate a server shows (certificates.py).
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

#: Suites of TLS 1.2: forward secrecy and authenticated encryption, nothing else (RFC 9325 §4.2). TLS 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: IANA's names of those, where OpenSSL has its own: RFC 8314 §4.3 wants IANA's in a Received line.
_IANA: Final = {
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
}
#: What OpenSSL calls a failed handshake, and what it means to who reads the log.
_MEANINGS: Final = {
    "WRONG_VERSION_NUMBER": "the peer spoke in clear, or something that is no TLS",
    "HTTP_REQUEST": "the peer spoke HTTP",
    "NO_SHARED_CIPHER": "the peer knows no cipher suite that is allowed here",
    "UNSUPPORTED_PROTOCOL": "the peer knows no version of TLS that is allowed here",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer allows no version of TLS that is known here",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust who issued the certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not take the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer finds the certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not take the certificate",
}


def client_context(*, verified: bool = True) -> ssl.SSLContext:
    """A client's context with the authorities this machine trusts. It is shared: nobody may change it.

    To read the authorities takes 30 ms, and half a dozen parts want them.
    """
    return _read_authorities(os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""), verified)


def context_showing(certificate: str, key: str, *, verified: bool) -> ssl.SSLContext:
    """A client's context that shows the certificate (PEM, with its chain) in a file to whoever asks for one.

    Takes some 30 ms. Raises: OSError (ssl.SSLError): a file that cannot be read, or a key that is another's.
    """
    context = _context(verified=verified)
    context.load_cert_chain(certificate, key)
    return context


@lru_cache(maxsize=8)
def _read_authorities(file: str, directory: str, verified: bool) -> ssl.SSLContext:  # noqa: ARG001, FBT001 - OpenSSL reads the first two itself; they are the key
    return _context(verified=verified)


def _context(*, verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def private_context(ca: Path) -> ssl.SSLContext:
    """A client's context that believes the authorities in that file (PEM) and nobody else; it is shared, as above.

    Raises: OSError, ssl.SSLError (an OSError, too), where the file cannot be read or holds no certificate.
    """
    return _read_private(str(ca), ca.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read_private(ca: str, changed_at: int) -> ssl.SSLContext:  # noqa: ARG001 - a file that has changed is another key
    return ssl.create_default_context(cafile=ca)


@dataclass(frozen=True, slots=True)
class InClear:
    """No TLS."""


IN_CLEAR: Final = InClear()


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What protects a connection.

    `version` as OpenSSL has it ("TLSv1.3"), `cipher` by its IANA name. `peer_name`: the subject of the peer's
    certificate where that was verified, else "". `certificates`: what the peer showed, DER, its own first, verified or
    not; empty where it showed none. `end_point`: of the certificate that we showed, as a server (RFC 5929 §4), for
    channel binding; empty where there is none.
    """

    version: str
    cipher: str
    peer_name: str = ""
    certificates: tuple[bytes, ...] = ()
    end_point: bytes = b""

    def __str__(self) -> str:
        whose = f", certificate of {self.peer_name}" if self.peer_name else ""
        return f"{self.version} {self.cipher}{whose}"


class ServerContext(ssl.SSLContext):
    """A server's context, which knows the `end_point` of the certificate it shows."""

    end_point: bytes = b""


TlsState: TypeAlias = TlsFacts | InClear


def facts_of(tls: ssl.SSLObject) -> TlsFacts:
    """What the handshake on `tls`, which has succeeded, came to."""
    name, version, _ = tls.cipher() or ("", "", 0)
    verified: Any = tls.getpeercert() or {}
    subject = ", ".join(f"{_short(key)}={value}" for rdn in verified.get("subject", ()) for key, value in rdn)
    alternative = ", ".join(f"{kind}:{value}" for kind, value in verified.get("subjectAltName", ()))
    context = tls.context
    return TlsFacts(
        tls.version() or version,
        iana_name(name),
        subject or alternative,
        _certificates(tls),
        context.end_point if isinstance(context, ServerContext) else b"",
    )


def iana_name(cipher: str) -> str:
    """IANA's name of a suite that OpenSSL has named."""
    return _IANA.get(cipher, cipher)


def _short(key: str) -> str:
    return {"commonName": "CN", "organizationName": "O", "countryName": "C"}.get(key, key)


def _certificates(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    # Public from Python 3.13 on; what it stands on has been there since 3.10.
    inner: Any = getattr(tls, "_sslobj")  # noqa: B009 - a name that mypy does not know
    # It holds one None, where a server has asked and the client has none. 2: DER.
    return tuple(certificate.public_bytes(2) for certificate in inner.get_unverified_chain() or () if certificate)


def explain_failure(error: ssl.SSLError) -> str:
    """OpenSSL's reason, and what it means where that is not plain."""
    # An error that the library did not raise itself lacks the attribute it declares.
    reason = str(getattr(error, "reason", error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{reason}: {error.verify_message}"
    meaning = _MEANINGS.get(reason, "")
    return f"{reason}: {meaning}" if meaning else reason


def harden(context: ssl.SSLContext, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    """`context`, with nothing weak left in it: no compression, no renegotiation, no suite but `CIPHERS`."""
    context.minimum_version = minimum
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context
