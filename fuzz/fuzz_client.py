"""A client's session and its reader of replies: whatever a server says, each recipient is told one thing at most."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.targets import head, segments
from waypost.smtp.client import ClientSession
from waypost.smtp.event import (
    ClientEvent,
    DataAnswered,
    DotAnswered,
    MailAnswered,
    PeerClosing,
    RcptAnswered,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import NullPath, parse_mailbox
from waypost.smtp.stage import Opening, Stage, Tls
from waypost.smtp.transaction import Transaction

PATHS = [parse_mailbox(f"user{number}@mx.example") for number in range(130)]


def one(octets: bytes) -> None:
    """Octet 0: opening, TLS, credentials; 1: segments; 2: recipients; the rest is heard."""
    (flags, size, recipients), speech = head(octets, 3)
    session = ClientSession(
        "us.example",
        opening=list(Opening)[flags & 3],
        tls=list(Tls)[flags >> 2 & 3],
        credentials=Credentials("user", "sesame") if flags & 16 else NoCredentials(),
    )
    caller = _Caller(session, recipients % len(PATHS) + 1)
    for piece in segments(speech, size):
        caller.hear(session.receive(piece))
    assert "sesame" not in repr([*session.said(), *session.heard()]) or b"sesame" in octets


class _Caller:
    def __init__(self, session: ClientSession, recipients: int) -> None:
        self.session, self.recipients = session, recipients
        self.open: set[int] = set()
        self.taken: set[int] = set()
        self.dot_sent = self.over = self.begun = False

    def hear(self, events: Iterable[ClientEvent]) -> None:
        for event in events:
            assert not self.over
            self.on(event)
        assert self.session.awaiting is not Stage.DOT or self.dot_sent
        self.act()

    def on(self, event: ClientEvent) -> None:
        match event:
            case MailAnswered(reply) if not reply.is_positive:
                self.open.clear()
            case RcptAnswered(index, reply):
                assert index in self.open
                (self.taken.add if reply.is_positive else self.open.remove)(index)
            case DataAnswered(_, body_due):
                if not body_due:
                    self.open -= self.taken
            case DotAnswered(_, indexes):
                assert self.dot_sent
                assert set(indexes) <= self.open & self.taken
                self.open -= set(indexes)
            case TransactionEnded():
                assert not self.open
                self.dot_sent = False
            case PeerClosing() | Violation():
                self.over = True
                assert self.session.awaiting is Stage.CLOSED
            case _:
                pass

    def act(self) -> None:
        said = self.session.octets_to_send()
        assert said.count(b"\n") == said.count(b"\r") == said.count(b"\r\n")
        match self.session.awaiting:
            case Stage.READY:
                self.open, self.taken, self.dot_sent = set(range(self.recipients)), set(), False
                paths = [(path, RcptParameters()) for path in PATHS[: self.recipients]]
                self.session.begin(Transaction(NullPath(), MailParameters(), paths))
            case Stage.BODY:
                self.session.send_body(b"Subject: x\r\n\r\n")
                self.session.end_body()
                self.dot_sent = True
            case Stage.HANDSHAKE:
                self.session.tls_started()
            case _:
                return
        self.session.octets_to_send()
