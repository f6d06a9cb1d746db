"""What TLS with one host comes to, session by session, told to whoever makes reports of it (RFC 8460 §4.3).

Not here: counting and reporting (waypost.report), demanding anything (opener.py).
"""

from __future__ import annotations

from typing import Final, Protocol, assert_never

from waypost.deliver.connection import Connection, NotOpened
from waypost.deliver.opening import At
from waypost.mail.explain import plain
from waypost.mail.outcome import Host
from waypost.mail.tls_result import TlsResult, TlsTrouble
from waypost.net.clock import Clock
from waypost.net.stream import Fault
from waypost.net.tls import TlsFacts
from waypost.net.x509 import Authorities
from waypost.route.level import Barred, Chosen, TlsLevel
from waypost.smtp.event import OpeningRefused, PeerClosing, Violation

#: Words in OpenSSL's verdict on a certificate, and what a report calls that.
_VERDICTS: Final = {
    "mismatch": TlsTrouble.NAME,
    "has expired": TlsTrouble.EXPIRED,
    "it is for": TlsTrouble.NAME,
    "CERTIFICATE_VERIFY_FAILED": TlsTrouble.NOT_TRUSTED,
}
_TLS: Final = {At.STARTTLS, At.HANDSHAKE, At.EHLO_AFTER_TLS}


class TlsListener(Protocol):
    """Who hears of each session; report/tls_tally.py is one. Returns at once."""

    def count(self, result: TlsResult) -> None: ...


class NoListener:
    """Nobody hears."""

    def count(self, result: TlsResult) -> None:
        pass


class TlsWatch:
    """The sessions with one host, under the level that was chosen for it."""

    def __init__(self, listener: TlsListener, chosen: Chosen, authorities: Authorities, clock: Clock) -> None:
        self._listener = listener
        self._chosen = chosen
        self._authorities = authorities
        self._clock = clock
        self._has_failed = False

    def opened(self, connection: Connection) -> None:
        """A session has come to be; in clear after a handshake that failed, which was told already."""
        if self._chosen.demand.level is TlsLevel.NONE or (self._has_failed and not connection.secured):
            return
        trouble, detail = self._judged(connection)
        self._tell(connection.host, connection.stream.local.host, trouble, detail)

    def failed(self, host: Host, at: At, failed: NotOpened) -> None:
        """One has not; where that is TLS's doing it is told."""
        is_lacking = isinstance(failed.failure, OpeningRefused) and failed.failure.reply.is_positive
        if at not in _TLS and not is_lacking:
            return
        self._has_failed = True
        detail = _words(failed)
        self._tell(host, "", TlsTrouble.NO_STARTTLS if is_lacking else _verdict(detail), detail)

    def _judged(self, connection: Connection) -> tuple[TlsTrouble, str]:
        if self._chosen.trouble is not TlsTrouble.NONE:
            return self._chosen.trouble, self._chosen.why.detail
        tls = connection.stream.tls
        if not isinstance(tls, TlsFacts):
            return TlsTrouble.NO_STARTTLS, ""
        if not self._chosen.testing:
            return TlsTrouble.NONE, ""
        unvouched = self._authorities.unvouched(tls.certificates, (connection.host.name,), self._clock.now())
        return (_verdict(f"CERTIFICATE_VERIFY_FAILED: {unvouched}"), unvouched) if unvouched else (TlsTrouble.NONE, "")

    def _tell(self, host: Host, local: str, trouble: TlsTrouble, detail: str) -> None:
        self._listener.count(TlsResult(self._chosen.published, host, local, trouble, plain(detail)))


def tell_barred(listener: TlsListener, host: Host, barred: Barred) -> None:
    """A host was passed by without a connection."""
    listener.count(TlsResult(barred.published, host, "", barred.trouble, plain(barred.why.detail)))


def _words(failed: NotOpened) -> str:
    match failed.failure:
        case Fault() as fault:
            return str(fault)
        case Violation(_, detail):
            return detail
        case PeerClosing(reply) | OpeningRefused(_, reply):
            return str(reply)
        case _:
            assert_never(failed.failure)


def _verdict(detail: str) -> TlsTrouble:
    return next((trouble for words, trouble in _VERDICTS.items() if words in detail), TlsTrouble.VALIDATION)
