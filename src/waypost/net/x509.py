"""What stands in an X.509 certificate that a peer has shown: its public key as it is encoded, and the names it is for.

Octets in, values out; and whether a chain of them leads to an authority, which OpenSSL judges, as for other mail
servers. Not here: which authority counts (dane.py), and what is verified during a handshake (the `ssl` module).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from waypost.net.clock import Instant


class CertificateError(ValueError):
    """The octets are no certificate; the peer's fault, or that of whoever wrote a TLSA record."""


def parse(der: bytes) -> x509.Certificate:
    """The certificate that `der` encodes. Raises: CertificateError."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise CertificateError(f"no certificate: {error}") from error


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo in a certificate, octet by octet as it stands there (RFC 5280 §4.1).

    A TLSA record with selector 1 is about these octets; a key that was decoded and encoded again might differ.
    Raises: CertificateError.
    """
    tbs = _content(_elements(_content(_elements(der), 0)), 0)
    fields = _elements(tbs)
    has_version = bool(fields) and fields[0][0] == _VERSION
    place = 6 if has_version else 5  # serialNumber, signature, issuer, validity, subject go before it
    if len(fields) <= place:
        raise CertificateError("no certificate: it ends before its public key")
    return fields[place][1]


def is_signed_by(certificate: x509.Certificate, key: PublicKeyTypes) -> bool:
    """Whether the owner of `key` has signed the certificate."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match key:
            case RSAPublicKey():
                padding, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
                if not isinstance(padding, PKCS1v15 | PSS) or digest is None:
                    return False
                key.verify(signature, signed, padding, digest)
            case EllipticCurvePublicKey():
                algorithm = certificate.signature_algorithm_parameters
                if not isinstance(algorithm, ECDSA):
                    return False
                key.verify(signature, signed, algorithm)
            case Ed25519PublicKey() | Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names a certificate is for, in lower case: DNS-IDs, or where it has none, CN-IDs (RFC 6125 §6.4)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = alternatives.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):  # none, or one that cannot be read: it names nobody
        found = []
    if not found:
        found = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(name.removesuffix(".").lower() for name in found)


def mail_addresses(der: bytes) -> tuple[str, ...]:
    """The mail addresses a certificate is for (rfc822Name, RFC 5280 §4.2.1.6), in lower case."""
    try:
        alternatives = parse(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(address.lower() for address in alternatives.get_values_for_type(x509.RFC822Name))
    except (x509.ExtensionNotFound, ValueError):
        return ()


def name_matches(pattern: str, name: str) -> bool:
    """Whether `pattern` means `name`: itself, or with `*` for its leftmost label and nothing more (RFC 6125 §6.4.3).

    Both in lower case, as A-labels, without the final dot.
    """
    if pattern.startswith("*."):
        label, dot, parent = name.partition(".")
        return bool(label and dot) and "." in parent and parent == pattern[2:]
    return pattern == name


# ---- chains
class Authorities:
    """Those this machine trusts, as OpenSSL finds them; read when they are first needed."""

    @cached_property
    def _store(self) -> crypto.X509Store:
        paths = ssl.get_default_verify_paths()
        store = crypto.X509Store()
        if paths.cafile or paths.capath:
            store.load_locations(paths.cafile, paths.capath)
        return store

    def unvouched(self, chain: Sequence[bytes], host_names: Sequence[str], now: Instant) -> str:
        """Why none vouches for a server under one of its names; "" where one does. `chain` as for dane.verify."""
        if not chain:
            return "the server showed no certificate"
        try:
            return unvouched(self._store, chain, host_names, now)
        except CertificateError as error:
            return str(error)


def unvouched(store: crypto.X509Store, chain: Sequence[bytes], host_names: Sequence[str], now: Instant) -> str:
    """Why the authorities in `store` do not vouch for the server that showed `chain`; "" where they do.

    Raises: CertificateError, where there are no certificates in `chain`.
    """
    store.set_time(datetime.fromtimestamp(now, UTC))
    try:
        between = [openssl(der) for der in chain[1:]]
        crypto.X509StoreContext(store, openssl(chain[0]), between).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    held = names(parse(chain[0]))
    if any(name_matches(pattern, name) for pattern in held for name in host_names):
        return ""
    return f"it is for {', '.join(held) or 'no name at all'}, and not for {' or '.join(host_names)}"


def openssl(der: bytes) -> crypto.X509:
    """The certificate, as OpenSSL reads it. Raises: CertificateError."""
    try:
        return crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    except crypto.Error as error:
        raise CertificateError("no certificate that OpenSSL can read") from error


# ---- as much of DER as that takes (X.690 §8.1)
_VERSION = 0xA0  # [0] EXPLICIT


def _elements(octets: bytes) -> list[tuple[int, bytes]]:
    """The elements in a row: (tag, all octets of the element with tag and length)."""
    found, at = list[tuple[int, bytes]](), 0
    while at < len(octets):
        end = at + _size(octets[at:])
        found.append((octets[at], octets[at:end]))
        at = end
    return found


def _content(elements: list[tuple[int, bytes]], index: int) -> bytes:
    if index >= len(elements):
        raise CertificateError("no certificate: it is empty")
    octets = elements[index][1]
    return octets[_head(octets)[0] :]


def _size(octets: bytes) -> int:
    """Octets of the first element, with its tag and length; it is all there."""
    head, length = _head(octets)
    if head + length > len(octets):
        raise CertificateError("no certificate: it is cut off")
    return head + length


def _head(octets: bytes) -> tuple[int, int]:
    """Octets of the tag and length, and the length they give."""
    if len(octets) < 2:
        raise CertificateError("no certificate: it is cut off")
    first = octets[1]
    if first < 0x80:
        return 2, first
    count = first & 0x7F
    if not 0 < count <= 4 or len(octets) < 2 + count:
        raise CertificateError("no certificate: a length makes no sense")
    return 2 + count, int.from_bytes(octets[2 : 2 + count], "big")
