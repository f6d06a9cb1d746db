"""From `[[certificate]]` and `tls` of `[[listener]]` to what a keyring takes; what is wrong with them.

Certificates are read here too, so that a service never starts with one it cannot use. Not here: reading them again
(waypost.net.certificates).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waypost.config.model import Certificate, Listener
from waypost.config.sections import Found, Reader
from waypost.net.certificates import BadCertificate, CertificateFiles, read_certificate

MINIMUM: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def certificate_files(
    certificates: Sequence[Found[Certificate]], base: Path, reader: Reader
) -> tuple[CertificateFiles, ...]:
    """Where the certificates are; one that cannot be used has been complained of."""
    return tuple(_files(found, base, reader) for found in certificates)


def _files(found: Found[Certificate], base: Path, reader: Reader) -> CertificateFiles:
    wanted = found.section
    files = CertificateFiles(base / wanted.certificate, base / wanted.key, wanted.names)
    read = read_certificate(files)
    if isinstance(read, BadCertificate):
        key = "key" if read.problem.startswith(str(files.key)) else "certificate"
        reader.complain((*found.path, key), read.problem, read.remedy)
    return files


def check_listeners_tls(
    listeners: Sequence[Found[Listener]], certificates: Sequence[Found[Certificate]], base: Path, reader: Reader
) -> None:
    """TLS only where there is a certificate; client certificates only where there is TLS, and CAs that can be read."""
    for found in listeners:
        listener = found.section
        if listener.tls not in {"", "none"} and not certificates and not reader.document.get("certificate"):
            reader.complain(
                (*found.path, "tls"),
                f'"{listener.tls}" needs a certificate, and there is no [[certificate]]',
                "Write [[certificate]], and below it certificate and key",
            )
        if listener.role == "http" and listener.tls in {"opportunistic", "required"}:
            reader.complain(
                (*found.path, "tls"),
                f'"{listener.tls}" is STARTTLS, which HTTP does not have',
                'Write "implicit" or "none"',
            )
        if listener.client_ca:
            _check_client_ca(found, base, reader)


def _check_client_ca(found: Found[Listener], base: Path, reader: Reader) -> None:
    path = (*found.path, "client_ca")
    if found.section.tls == "none":
        reader.complain(path, "has no effect without TLS", "Leave it out")
    check_authorities(base / found.section.client_ca, path, reader)


def check_authorities(file: Path, path: tuple[str | int, ...], reader: Reader) -> None:
    """A file of authorities that can be read."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        reader.complain(path, f"{file} holds no certificate in PEM", "Name the file of the CA that signs them")
    except OSError as error:
        reader.complain(path, f"{file} cannot be read: {error.strerror}", "Let this user read it")


def complete_listener(listener: Listener, base: Path, certificates: Sequence[CertificateFiles]) -> Listener:
    """The listener, with what it left to the rest of the file."""
    offered = "implicit" if listener.role == "http" else "opportunistic"
    tls = listener.tls or (offered if certificates else "none")
    client_ca = str(base / listener.client_ca) if listener.client_ca else ""
    return listener.model_copy(update={"tls": tls, "client_ca": client_ca})
