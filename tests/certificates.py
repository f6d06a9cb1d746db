"""Certificates for tests, written as files the way an ACME client would leave them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from waypost.net.certificates import CertificateFiles


def write_certificate(
    authority: trustme.CA, directory: Path, *names: str, file: str = "", ends_in: timedelta = timedelta(days=90)
) -> CertificateFiles:
    """A certificate for `names`, as FILE.pem and FILE.key in `directory`; FILE: the first of the names."""
    stem = file or names[0].replace("*", "_")
    now = datetime.now(UTC)
    leaf = authority.issue_cert(*names, not_before=now - timedelta(days=365), not_after=now + ends_in)
    files = CertificateFiles(directory / f"{stem}.pem", directory / f"{stem}.key")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    return files


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that believes `authority` and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context
