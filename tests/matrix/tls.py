"""What goes wrong under TLS, and what it has to come to. Data, and a server on a real socket that does it.

The grid (grid.py) has the same states with connections in memory, where a handshake is a word and not a protocol. Here
the records, certificates and versions are real. docs/fault-matrix.md is made of this module too (page.py); the plays
are in test_tls.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Final, assert_never

import trustme

from tests.matrix.grid import Code
from waypost.net.stream import Endpoint
from waypost.route.route import TlsPolicy

ON, CLEAR, NEXT, DOUBT, EHLO = Code.GOES_ON, Code.CLEAR, Code.NEXT, Code.IN_DOUBT, Code.EHLO


class Flaw(Enum):
    """What is wrong with the handshake."""

    FIN = "FIN in place of a ServerHello"
    RST = "RST in place of a ServerHello"
    STALL = "nothing comes"
    TEXT = "text in clear comes"
    ALERT = "a fatal alert comes"
    OLD = "TLS 1.1 is the newest it knows"
    EXPIRED = "its certificate has expired"
    OTHER_NAME = "its certificate is another host's"
    UNKNOWN = "nobody vouches for its certificate"


#: By policy: opportunistic, required, verify.
POLICIES: Final = (TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY)
HANDSHAKES: Final[Mapping[Flaw, tuple[Code, Code, Code]]] = {
    Flaw.FIN: (CLEAR, NEXT, NEXT),
    Flaw.RST: (CLEAR, NEXT, NEXT),
    Flaw.STALL: (CLEAR, NEXT, NEXT),
    Flaw.TEXT: (CLEAR, NEXT, NEXT),
    Flaw.ALERT: (CLEAR, NEXT, NEXT),
    Flaw.OLD: (CLEAR, NEXT, NEXT),
    Flaw.EXPIRED: (ON, ON, NEXT),
    Flaw.OTHER_NAME: (ON, ON, NEXT),
    Flaw.UNKNOWN: (ON, ON, NEXT),
}


class Cut(Enum):
    """How a session under TLS is cut."""

    FIN = "FIN, no close_notify"
    NOTIFIED = "close_notify"
    RST = "RST"
    STALL = "stall"
    BROKEN = "a record that does not verify"


#: By the command whose reply is due, under a policy that needs TLS, and under one that welcomes it.
SESSIONS: Final[Mapping[str, tuple[Code, Code]]] = {
    "EHLO": (EHLO, CLEAR),
    "AUTH": (NEXT, NEXT),
    "MAIL": (NEXT, NEXT),
    "RCPT": (NEXT, NEXT),
    "DATA": (NEXT, NEXT),
    "final dot": (DOUBT, DOUBT),
}
#: A host that stalls over EHLO under TLS, where TLS is welcome: five minutes are enough for one host.
EXCEPTIONS: Final[Mapping[tuple[str, Cut, TlsPolicy], Code]] = {("EHLO", Cut.STALL, TlsPolicy.OPPORTUNISTIC): NEXT}

SOON: Final = 0.3  # seconds; a time-out of the client's
_ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"  # fatal, handshake_failure (RFC 8446 §6)
_FORGED: Final = b"\x17\x03\x03\x00\x20" + b"\0" * 32  # application data (RFC 8446 §5.1) under nobody's key


def after_cut(word: str, cut: Cut, policy: TlsPolicy) -> Code:
    """What a cut while the reply to `word` is due comes to."""
    return EXCEPTIONS.get((word, cut, policy), SESSIONS[word][policy is TlsPolicy.OPPORTUNISTIC])


@cache
def authority() -> trustme.CA:
    """Who vouches for every server but one."""
    return trustme.CA()


@cache
def _context(flaw: Flaw | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours = trustme.CA() if flaw is Flaw.UNKNOWN else authority()
    past = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        ours.issue_cert("mx.example", not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=past)
        if flaw is Flaw.EXPIRED
        else ours.issue_cert("another.example" if flaw is Flaw.OTHER_NAME else "mx.example")
    )
    certificate.configure_cert(context)
    if flaw is Flaw.OLD:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


class _Over(Exception):  # noqa: N818 - how a session ends, not an error
    """The session is over."""


@dataclass
class TlsServer:
    """A host that offers STARTTLS, in threads: what it does wrong, once, and what it saw."""

    flaw: Flaw | None = None
    #: While the reply to the first is due under TLS, the second happens.
    cut: tuple[str, Cut] | None = None
    #: Whether each message came under TLS; and the verbs of each connection.
    under_tls: list[bool] = field(default_factory=list)
    verbs: list[list[str]] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Endpoint]:
        threads = ThreadPoolExecutor()
        with socket.create_server(("127.0.0.1", 0)) as server:
            threads.submit(self._accept, server, threads)
            yield Endpoint(*server.getsockname()[:2])
            server.shutdown(socket.SHUT_RDWR)  # `accept` returns
        await asyncio.to_thread(threads.shutdown)

    def _accept(self, server: socket.socket, threads: Executor) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                self.verbs.append([])
                threads.submit(self._quietly, connection, self.verbs[-1])

    def _quietly(self, connection: socket.socket, verbs: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError, _Over), contextlib.ExitStack() as stack:
            self._serve(stack.enter_context(connection), verbs, stack)

    def _serve(self, session: socket.socket, verbs: list[str], stack: contextlib.ExitStack) -> None:
        secured = False
        session.sendall(b"220 mx.example\r\n")
        while line := _line(session):
            verb = line.split()[0].decode().upper()
            verbs.append(verb)
            if secured:
                self._cuts(verb, session)
            match verb:
                case "EHLO":
                    session.sendall(b"250-mx.example\r\n250-AUTH PLAIN\r\n250 " + (b"HELP" if secured else b"STARTTLS"))
                    session.sendall(b"\r\n")
                case "STARTTLS":
                    session.sendall(b"220 go\r\n")
                    self._spoils_handshake(session)
                    under_tls = _context(self.flaw).wrap_socket(
                        session, server_side=True, do_handshake_on_connect=False
                    )
                    session, secured = stack.enter_context(under_tls), True
                    under_tls.do_handshake()
                case "AUTH":
                    session.sendall(b"235 welcome\r\n")
                case "DATA":
                    session.sendall(b"354 go\r\n")
                    while _line(session) != b".\r\n":
                        pass
                    if secured:
                        self._cuts("final dot", session)
                    self.under_tls.append(secured)
                    session.sendall(b"250 kept\r\n")
                case "QUIT":
                    raise _Over
                case _:
                    session.sendall(b"250 ok\r\n")

    def _spoils_handshake(self, session: socket.socket) -> None:
        match self.flaw:
            case None | Flaw.OLD | Flaw.EXPIRED | Flaw.OTHER_NAME | Flaw.UNKNOWN:
                return
            case Flaw.FIN:
                session.recv(10_000)
                session.shutdown(socket.SHUT_WR)
            case Flaw.RST:
                session.recv(1)  # what is left unread makes a reset of our close
                raise _Over
            case Flaw.STALL:
                pass
            case Flaw.TEXT:
                session.sendall(b"what is this?\r\n")
            case Flaw.ALERT:
                session.recv(10_000)
                session.sendall(_ALERT)
            case _:
                assert_never(self.flaw)
        _listen_on(session)

    def _cuts(self, word: str, session: socket.socket) -> None:
        """Cut the session, if it is to be cut here; once is enough."""
        if self.cut is None or self.cut[0] != word:
            return
        how, self.cut = self.cut[1], None
        assert isinstance(session, ssl.SSLSocket)
        raw = socket.socket(fileno=os.dup(session.fileno()))
        with raw:
            match how:
                case Cut.FIN:
                    raw.shutdown(socket.SHUT_WR)
                case Cut.NOTIFIED:
                    session.unwrap()
                case Cut.RST:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    session.close()
                case Cut.STALL:
                    pass
                case Cut.BROKEN:
                    raw.sendall(_FORGED)
            if how is not Cut.RST:
                _listen_on(raw)
        raise _Over


def _line(session: socket.socket) -> bytes:
    """One line with its end, octet by octet: what follows it is not ours to read yet. Empty at the end."""
    line = b""
    while not line.endswith(b"\n"):
        octet = session.recv(1)
        if not octet:
            return b""
        line += octet
    return line


def _listen_on(session: socket.socket) -> None:
    """Read until the client has gone."""
    while session.recv(10_000):
        pass
    raise _Over
