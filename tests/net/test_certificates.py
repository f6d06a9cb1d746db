"""A keyring: whom it shows what, what changed files do, and what is wrong with bad ones."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.certificates import trusting, write_certificate
from waypost.net.certificates import (
    BadCertificate,
    Certificate,
    CertificateFiles,
    Keyring,
    NoCertificate,
    expiry_warning,
    read_certificate,
)
from waypost.net.tls import CIPHERS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def shake(keyring: Keyring, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's end of a handshake with whatever the keyring shows for `name`. Raises: ssl.SSLError."""
    context = keyring.context()
    assert isinstance(context, ssl.SSLContext)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ours


def ring(*files: CertificateFiles) -> Keyring:
    keyring = Keyring(files)
    keyring.refresh()
    return keyring


def names_shown(tls: ssl.SSLObject) -> list[str]:
    shown: Any = tls.getpeercert()
    return [str(value) for _, value in shown["subjectAltName"]]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("mx.example.net", "mx.example.net"),
        ("mail.example.org", "mail.example.org"),
        ("MAIL.example.ORG", "mail.example.org"),
        ("any.example.com", "*.example.com"),
    ],
)
def test_each_name_is_shown_its_certificate(authority: trustme.CA, tmp_path: Path, asked: str, shown: str) -> None:
    names = ("mx.example.net", "mail.example.org", "*.example.com")
    keyring = ring(*(write_certificate(authority, tmp_path, name) for name in names))
    assert names_shown(shake(keyring, trusting(authority), asked)) == [shown]


@pytest.mark.parametrize("asked", ["elsewhere.example", "a.b.example.com", "example.com"])
def test_who_asks_for_another_name_is_shown_the_first(authority: trustme.CA, tmp_path: Path, asked: str) -> None:
    keyring = ring(*(write_certificate(authority, tmp_path, name) for name in ("mx.example.net", "*.example.com")))
    client = trusting(authority)
    client.check_hostname = False
    assert names_shown(shake(keyring, client, asked)) == ["mx.example.net"]


def test_names_in_the_configuration_go_before_those_in_the_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    first, second = (write_certificate(authority, tmp_path, name) for name in ("a.example", "b.example"))
    keyring = ring(first, CertificateFiles(second.certificate, second.key, ("C.example",)))
    client = trusting(authority)
    client.check_hostname = False
    assert names_shown(shake(keyring, client, "c.example")) == ["b.example"]
    assert names_shown(shake(keyring, client, "b.example")) == ["a.example"]


def test_a_changed_certificate_is_shown_from_the_next_handshake_on(authority: trustme.CA, tmp_path: Path) -> None:
    keyring = ring(write_certificate(authority, tmp_path, "mx.example.net", file="x"))
    assert keyring.refresh() == []
    write_certificate(authority, tmp_path, "mx.example.net", "new.example.net", file="x")
    (news,) = keyring.refresh()
    assert isinstance(news, Certificate)
    assert names_shown(shake(keyring, trusting(authority), "new.example.net")) == ["mx.example.net", "new.example.net"]
    assert keyring.refresh() == []


def test_a_broken_file_changes_nothing_and_is_told_once(authority: trustme.CA, tmp_path: Path) -> None:
    files = write_certificate(authority, tmp_path, "mx.example.net")
    keyring = ring(files)
    good = files.certificate.read_bytes()
    files.certificate.write_bytes(b"half a certif")
    (news,) = keyring.refresh()
    assert isinstance(news, BadCertificate)
    assert keyring.refresh() == []
    assert names_shown(shake(keyring, trusting(authority), "mx.example.net")) == ["mx.example.net"]
    (warning,) = keyring.warnings(0.0)[:1]
    assert "holds no certificate in PEM" in warning
    assert "the certificate read before stays in use" in warning
    files.certificate.write_bytes(good)
    assert isinstance(keyring.refresh()[0], Certificate)
    assert "holds no certificate" not in "".join(keyring.warnings(0.0))


def test_a_key_put_in_place_before_its_certificate_does_no_harm(authority: trustme.CA, tmp_path: Path) -> None:
    files = write_certificate(authority, tmp_path, "mx.example.net")
    keyring = ring(files)
    new = write_certificate(authority, tmp_path, "mx.example.net", file="new")
    new.key.replace(files.key)
    assert "is not the key of" in str(keyring.refresh()[0])
    shake(keyring, trusting(authority), "mx.example.net")
    new.certificate.replace(files.certificate)
    assert isinstance(keyring.refresh()[0], Certificate)


def test_a_keyring_that_could_read_nothing_has_no_context(tmp_path: Path) -> None:
    keyring = ring(CertificateFiles(tmp_path / "none.pem", tmp_path / "none.key"))
    assert keyring.context() == NoCertificate()
    assert "there is no TLS under its names" in keyring.warnings(0.0)[0]


def test_where_the_first_cannot_be_read_the_second_stands_in(authority: trustme.CA, tmp_path: Path) -> None:
    missing = CertificateFiles(tmp_path / "none.pem", tmp_path / "none.key")
    keyring = ring(missing, write_certificate(authority, tmp_path, "mx.example.net"))
    assert names_shown(shake(keyring, trusting(authority), "mx.example.net")) == ["mx.example.net"]


def test_what_is_wrong_with_a_certificate_is_said_with_its_remedy(authority: trustme.CA, tmp_path: Path) -> None:
    good = write_certificate(authority, tmp_path, "mx.example.net")
    other = write_certificate(authority, tmp_path, "other.example")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text(ENCRYPTED)
    empty = tmp_path / "empty"
    empty.touch()
    problems = {
        CertificateFiles(tmp_path / "no.pem", good.key): "no.pem cannot be read: No such file or directory",
        CertificateFiles(good.certificate, tmp_path / "no.key"): "no.key cannot be read: No such file or directory",
        CertificateFiles(good.certificate, other.key): "other.example.key is not the key of",
        CertificateFiles(good.certificate, empty): "empty holds no usable key",
        CertificateFiles(empty, good.key): "empty holds no certificate in PEM",
        CertificateFiles(good.certificate, encrypted): "encrypted.key is encrypted",
    }
    for files, problem in problems.items():
        found = read_certificate(files)
        assert isinstance(found, BadCertificate)
        assert problem in found.problem
        assert found.remedy


@pytest.mark.parametrize(
    ("ends_in", "said"),
    [
        (timedelta(days=60), ""),
        (timedelta(days=10, hours=1), "expires in 10 days: renew it"),
        (timedelta(days=-3), "has expired 3 days ago"),
    ],
)
def test_a_certificate_that_ends_soon_is_spoken_of(
    authority: trustme.CA, tmp_path: Path, ends_in: timedelta, said: str
) -> None:
    found = read_certificate(write_certificate(authority, tmp_path, "mx.example.net", ends_in=ends_in))
    assert isinstance(found, Certificate)
    warning = expiry_warning(found, found.ends - ends_in.total_seconds())
    assert said in warning
    assert bool(said) is bool(warning)
    assert "not valid yet" in expiry_warning(found, found.begins - 1)


def test_nothing_weak_is_spoken(authority: trustme.CA, tmp_path: Path) -> None:
    keyring = ring(write_certificate(authority, tmp_path, "mx.example.net"))
    context = keyring.context()
    assert isinstance(context, ssl.SSLContext)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all("GCM" in suite["name"] or "CHACHA20" in suite["name"] for suite in context.get_ciphers())
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    old = trusting(authority)
    old.set_ciphers("ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(keyring, old, "mx.example.net")
    assert "CHACHA20" in CIPHERS


def test_a_look_at_unchanged_files_reads_none_of_them(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = ring(write_certificate(authority, tmp_path, "mx.example.net"))
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("a file was read"))
    assert keyring.refresh() == []


def test_a_file_that_is_only_touched_is_read_again_and_all_stays_well(authority: trustme.CA, tmp_path: Path) -> None:
    files = write_certificate(authority, tmp_path, "mx.example.net")
    keyring = ring(files)
    os.utime(files.certificate, (1, 1))
    assert isinstance(keyring.refresh()[0], Certificate)


ENCRYPTED = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBDAeRhoHDqlTgMi4nRi
n4HGAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQAAAAAAAAAAAAAAAA
AAAAAARAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
-----END ENCRYPTED PRIVATE KEY-----
"""
