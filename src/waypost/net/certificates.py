"""A server's certificates: chosen by the name a client asks for (SNI, RFC 6066 §3), read again when their files change.

A file that is broken when it changes changes nothing: what was read last stays in use, and the trouble is told. So an
ACME client may put key and certificate in place one after the other, at any time.

Not here: the handshake (stream.py), and getting certificates.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from waypost.net.clock import Clock, Instant
from waypost.net.tls import ServerContext, harden

#: How often the files are looked at: a `stat` each.
LOOK: Final = timedelta(seconds=5)
#: Before its end, a certificate is spoken of: an ACME client renews 30 days before, and has failed by then.
SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate (PEM, its chain behind it) and its key are. `names`: for whom; empty: those it holds."""

    certificate: Path
    key: Path
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.certificate)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that can be used. `names` in lower case, `*.` for one label; from `begins` until `ends`.

    `end_point`: its hash for channel binding (RFC 5929 §4.1), empty where its signature has none.
    """

    files: CertificateFiles
    names: tuple[str, ...]
    begins: Instant
    ends: Instant
    end_point: bytes

    @property
    def last_day(self) -> str:
        """The day it ends on, in UTC: `2026-01-31`."""
        return str(datetime.fromtimestamp(self.ends, UTC).date())


@dataclass(frozen=True, slots=True)
class BadCertificate:
    """One that cannot be used: what is wrong, and what to do."""

    files: CertificateFiles
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}."


@dataclass(frozen=True, slots=True)
class NoCertificate:
    """No certificate could be read so far."""


#: What shows that a file was changed: modification time, size, and number of each of the files.
_Signature: TypeAlias = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A certificate as it was read, with a context for each of the CAs that listeners ask clients for."""

    signature: _Signature
    certificate: Certificate
    contexts: Mapping[str, ssl.SSLContext]


class Keyring:
    """The certificates of a service, in the order of its configuration; the first is for who asks for no known name."""

    def __init__(
        self,
        files: Sequence[CertificateFiles],
        *,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        client_cas: Sequence[str] = ("",),
    ) -> None:
        """`client_cas`: files of CAs (PEM) whose certificates a listener asks clients for; "": it asks for none."""
        self._files = tuple(files)
        self._minimum = minimum
        self._client_cas = tuple(dict.fromkeys(client_cas))
        self._loaded: dict[CertificateFiles, _Loaded] = {}
        self._bad: dict[CertificateFiles, BadCertificate] = {}

    # ---- handshakes
    def context(self, client_ca: str = "") -> ssl.SSLContext | NoCertificate:
        """The context for a handshake that begins now."""
        for files in self._files:
            if files in self._loaded:
                return self._loaded[files].contexts[client_ca]
        return NoCertificate()

    def _choose(self, client_ca: str) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            found = self._named((name or "").lower())
            if found is not None:
                tls.context = found.contexts[client_ca]

        return choose

    def _named(self, name: str) -> _Loaded | None:
        """The certificate for exactly this name, else one for all names beside it (RFC 6125 §6.4.3)."""
        for wanted in (name, f"*.{name.partition('.')[2]}"):
            for files in self._files:
                if files in self._loaded and wanted in self._loaded[files].certificate.names:
                    return self._loaded[files]
        return None

    # ---- the files
    def refresh(self) -> Sequence[Certificate | BadCertificate]:
        """Look at the files (blocking, some stats), read those that changed. What is new, good or bad."""
        news: list[Certificate | BadCertificate] = []
        for files in self._files:
            if files in self._loaded and files not in self._bad and self._sign(files) == self._loaded[files].signature:
                continue
            found = self._load(files)
            if isinstance(found, BadCertificate):
                if self._bad.get(files) != found:
                    news.append(found)
                self._bad[files] = found
            elif files in self._bad or files not in self._loaded or found.signature != self._loaded[files].signature:
                self._bad.pop(files, None)
                self._loaded[files] = found
                news.append(found.certificate)
        return news

    async def watch(self, clock: Clock, told: Callable[[Sequence[Certificate | BadCertificate]], None]) -> None:
        """Look at the files for ever, if there are any; `told` of what is new."""
        while self._files:
            await clock.sleep(LOOK)
            news = await asyncio.to_thread(self.refresh)
            if news:
                told(news)

    def _sign(self, files: CertificateFiles) -> _Signature:
        paths = [files.certificate, files.key, *(Path(ca) for ca in self._client_cas if ca)]
        return tuple(_signature(path) for path in paths)

    def _load(self, files: CertificateFiles) -> _Loaded | BadCertificate:
        signature = self._sign(files)
        certificate = read_certificate(files)
        if isinstance(certificate, BadCertificate):
            return certificate
        try:
            contexts = {ca: self._context(files, ca, certificate.end_point) for ca in self._client_cas}
        except (OSError, ValueError) as error:
            return BadCertificate(files, f"{files} cannot be used: {error}", "See that nobody writes it just now")
        if self._sign(files) != signature:
            return BadCertificate(files, f"{files} changed while it was read", "It is read again in a few seconds")
        return _Loaded(signature, certificate, contexts)

    def _context(self, files: CertificateFiles, client_ca: str, end_point: bytes) -> ssl.SSLContext:
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        harden(context, self._minimum)
        context.end_point = end_point
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        context.sni_callback = self._choose(client_ca)
        if client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(client_ca)
        return context

    # ---- for people
    @property
    def certificates(self) -> Sequence[Certificate]:
        """Those in use."""
        return [self._loaded[files].certificate for files in self._files if files in self._loaded]

    def warnings(self, now: Instant) -> Sequence[str]:
        """What somebody should see to, a sentence each."""
        bad = [f"{found} Until then {_instead(files in self._loaded)}." for files, found in self._bad.items()]
        return [*bad, *(warning for held in self.certificates if (warning := expiry_warning(held, now)))]


def _instead(had: bool) -> str:  # noqa: FBT001 - one of two sentences
    return "the certificate read before stays in use" if had else "there is no TLS under its names"


def expiry_warning(certificate: Certificate, now: Instant) -> str:
    """A sentence, where a certificate is not valid now, or not for long; else ""."""
    days = (certificate.ends - now) / 86400
    if now < certificate.begins:
        return f"{certificate.files} is not valid yet: look at its dates, and at this machine's clock"
    if days < 0:
        return f"{certificate.files} has expired {-days:.0f} days ago: renew it; clients that check will not connect"
    if days < SOON.days:
        return f"{certificate.files} expires in {days:.0f} days: renew it"
    return ""


# ---- reading
def read_certificate(files: CertificateFiles) -> Certificate | BadCertificate:
    """The certificate in `files`, whose key fits it. Blocking."""
    try:
        chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    except OSError as error:
        return BadCertificate(files, f"{files} cannot be read: {error.strerror}", "Let this user read it")
    except ValueError:
        return BadCertificate(
            files, f"{files} holds no certificate in PEM", "Name the file that begins with -----BEGIN CERTIFICATE-----"
        )
    bad = _bad_key(files)
    if isinstance(bad, BadCertificate):
        return bad
    leaf = chain[0]
    return Certificate(
        files,
        tuple(name.lower() for name in files.names) or _names(leaf),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        end_point(leaf),
    )


def end_point(leaf: x509.Certificate) -> bytes:
    """The certificate's hash by its signature's algorithm, or SHA-256 where that is weak; empty where it has none."""
    algorithm = leaf.signature_hash_algorithm
    if algorithm is None:
        return b""
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    return leaf.fingerprint(hashes.SHA256() if weak else algorithm)


class _Fits:
    """The key belongs to the certificate."""


def _bad_key(files: CertificateFiles) -> BadCertificate | _Fits:
    key = files.key
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, key, password=_no_password)
    except _EncryptedKeyError:
        return BadCertificate(files, f"{key} is encrypted, and nobody is there to type", "Save it without a passphrase")
    except ssl.SSLError as error:
        if "MISMATCH" in str(error.reason):
            return BadCertificate(files, f"{key} is not the key of {files}", "Name the key it was issued for")
        return BadCertificate(files, f"{key} holds no usable key ({error.reason})", "Name its private key, in PEM")
    except OSError as error:
        return BadCertificate(files, f"{key} cannot be read: {error.strerror}", "Let this user read it")
    return _Fits()


class _EncryptedKeyError(Exception):
    """OpenSSL wants a passphrase."""


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and the service would stand still.
    raise _EncryptedKeyError


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names a certificate is for; its common name counts no more (RFC 9525 §2)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
