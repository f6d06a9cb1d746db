"""Messages of our own signed by DKIM (RFC 6376): who reads one can tell that it is ours, and RFC 8460 §3 asks for it.

dkimpy makes canonical forms and fields; the signature itself is made by `cryptography`, in a tenth of the time. Needs
the extra `dkim`. What passes through is never signed here: that is its author's, or his provider's, to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

#: A message of ours → the same as it is sent.
Signing: TypeAlias = Callable[[bytes], bytes]

#: RFC 8301 §3.2: what is shorter no verifier believes.
LEAST_BITS: Final = 1024
#: A second one of these, added on the way, would be shown in place of ours: that they are no more is signed too.
_ONCE: Final = (b"from", b"to", b"subject", b"date")


def unsigned(octets: bytes) -> bytes:
    """Where there is no key."""
    return octets


class KeyFileError(ValueError):
    """There is no key in it that could be used: "problem; remedy"."""


def read_key(pem: bytes) -> RSAPrivateKey:
    """The private key in `pem`. Raises: KeyFileError, whoever wrote the file being at fault."""
    make = "openssl genrsa -out dkim.pem 2048"
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise KeyFileError("has a key under a passphrase; store it without one") from error
    except ValueError as error:
        raise KeyFileError(f"holds no private key in PEM; make one: {make}") from error
    if not isinstance(key, RSAPrivateKey):
        raise KeyFileError(f"holds no RSA key, which is what every verifier knows; make one: {make}")
    if key.key_size < LEAST_BITS:
        raise KeyFileError(f"has {key.key_size} bits, and verifiers want {LEAST_BITS} (RFC 8301); make one: {make}")
    return key


@dataclass(frozen=True, slots=True)
class _Made:
    """A signature, as dkimpy takes it from a key."""

    signature: bytes


@dataclass(frozen=True, slots=True)
class _Key:
    """The key, as dkimpy would have it."""

    key: RSAPrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> _Made:
        return _Made(self.key.sign(digest, PKCS1v15(), Prehashed(SHA256())))


def signing(key: RSAPrivateKey, *, domain: str, selector: str) -> Signing:
    """Signs all of a message for `domain`, whose public key is at `selector`. Raises: ImportError: the extra."""
    import dkim  # noqa: PLC0415 - an extra

    class Signer(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
        """A key that is an object signs by itself, as dkimpy has it for the other kind of key."""

        def gen_header(self, fields: Sequence[tuple[bytes, bytes]], *rest: object) -> object:
            *before, _ = rest
            self.signature_algorithm = b"ed25519-sha256"  # has it ask the key; `fields` say rsa-sha256 already
            return super().gen_header(fields, *before, _Key(key))

    plain = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def signed(octets: bytes) -> bytes:
        signer = Signer(octets)
        there = {name.lower() for name, _ in signer.headers}
        names = [*signer.all_sign_headers(), *(name for name in _ONCE if name in there)]
        relaxed = (b"relaxed", b"relaxed")
        made = signer.sign(selector.encode(), domain.encode(), plain, canonicalize=relaxed, include_headers=names)
        return bytes(made) + octets

    return signed
