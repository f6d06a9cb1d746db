"""RFC 6376: what we sign holds in the eyes of dkimpy's own verifier, with its RSA of its own, and of nothing else."""

from __future__ import annotations

import base64

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.dkim import KeyFileError, read_key, signing, unsigned

KEY = rsa.generate_private_key(65537, 2048)
MESSAGE = (
    b"From: Mail Delivery System <MAILER-DAEMON@mx.example.net>\r\nTo: <alice@example.org>\r\n"
    b"Subject: a report\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@mx.example.net>\r\n\r\n"
    b"It could not be\r\n  delivered.\r\n\r\n"
)
SIGN = signing(KEY, domain="example.net", selector="waypost1")


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def published(services: str = "") -> dict[bytes, bytes]:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; k=rsa; {services}p={base64.b64encode(spki).decode()}"
    return {b"waypost1._domainkey.example.net.": record.encode()}


def holds(octets: bytes, *, tlsrpt: bool | str = False, services: str = "") -> bool:
    zone = published(services)
    return bool(dkim.verify(octets, dnsfunc=lambda name, timeout: zone.get(name), tlsrpt=tlsrpt))  # noqa: ARG005


def test_what_is_signed_holds_and_stands_in_front() -> None:
    signed = SIGN(MESSAGE)
    assert signed.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net;")
    assert signed.endswith(MESSAGE)
    assert b"\n" not in signed.replace(b"\r\n", b"")
    assert holds(signed)


@given(st.binary(max_size=300))
def test_any_body_holds(body: bytes) -> None:
    lines = body.replace(b"\r", b"").replace(b"\n", b"\r\n")
    assert holds(SIGN(MESSAGE + lines + b"\r\n"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"delivered.", b"delivered!"),
        (b"Subject: a report", b"Subject: an offer"),
        (b"From: Mail", b"From: Evil <evil@example.com>\r\nFrom: Mail"),
        (b"Subject: a", b"Subject: an offer\r\nSubject: a"),
    ],
    ids=["body", "subject", "a second From", "a second Subject"],
)
def test_what_was_changed_on_the_way_does_not_hold(before: bytes, after: bytes) -> None:
    signed = SIGN(MESSAGE)
    start, header = signed.split(b"From: ", 1)[0], signed[len(signed) - len(MESSAGE) :]
    assert not holds(start + header.replace(before, after, 1))


def test_white_space_that_a_relay_has_changed_does_no_harm() -> None:
    assert holds(SIGN(MESSAGE).replace(b"Subject: a report", b"Subject:  a   report"))


def test_a_tls_report_holds_by_a_key_that_is_for_tls_reports() -> None:
    """RFC 8460 §3; the same key by such a record is good for nothing else."""
    signed = SIGN(MESSAGE)
    assert holds(signed, tlsrpt="strict", services="s=tlsrpt; ")
    assert holds(signed, tlsrpt=True)
    with pytest.raises(dkim.ValidationError):
        dkim.DKIM(signed).verify(dnsfunc=lambda name, timeout: published("s=tlsrpt; ").get(name))  # noqa: ARG005


def test_without_a_key_octets_stay_as_they_are() -> None:
    assert unsigned(MESSAGE) is MESSAGE


def test_the_key_is_in_no_text_of_ours() -> None:
    assert "PRIVATE" not in repr(SIGN)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "no private key in PEM"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "no private key in PEM"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "no RSA key"),
        (pem(KEY, b"secret"), "passphrase"),
    ],
    ids=["empty", "broken", "Ed25519", "under a passphrase"],
)
def test_a_file_without_a_key_of_use_says_what_to_do(octets: bytes, words: str) -> None:
    with pytest.raises(KeyFileError, match=words) as caught:
        read_key(octets)
    assert "; " in str(caught.value)


def test_a_key_is_read_back() -> None:
    assert read_key(pem(KEY)).private_numbers() == KEY.private_numbers()
