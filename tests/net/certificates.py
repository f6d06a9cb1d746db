"""Certificates made as a test needs them: chains, odd dates, any names. The keys are elliptic: quick to make."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

#: A moment at which certificates made with the default dates hold.
NOW = datetime(2026, 6, 1, tzinfo=UTC)


PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Made:
    """A certificate with its key, and the one that issued it (itself, where it is self-signed)."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make(
    subject: str,
    *,
    issuer: Made | None = None,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    key: PrivateKey | None = None,
    is_authority: bool = False,
    begins: datetime = NOW - timedelta(days=10),
    ends: datetime = NOW + timedelta(days=3650),
) -> Made:
    """A certificate for host `names` and mail `addresses`, signed by `issuer`, or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(issuer.certificate.subject if issuer else named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    alternatives = [*map(x509.DNSName, names), *map(x509.RFC822Name, addresses)]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Made(builder.sign(signer, digest), key)


@dataclass(frozen=True)
class Pem:
    """A certificate and its key, made by somebody else."""

    pem: bytes
    key_pem: bytes = field(repr=False)


Shown: TypeAlias = Made | Pem


def server_context(shown: Shown, *above: Shown) -> ssl.SSLContext:
    """A server's context that shows `shown`, and those `above` it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:  # `ssl` reads files only
        file = Path(directory) / "shown.pem"
        file.write_bytes(b"".join(each.pem for each in (shown, *above)) + shown.key_pem)
        context.load_cert_chain(file)
    return context
