"""A server's session: whatever a client says, in whatever segmentation, and however its caller answers."""

from __future__ import annotations

import random

from fuzz.targets import head, segments
from waypost.smtp.body import BodyFault
from waypost.smtp.command import Auth, Hello, Mail, NoResponse, Rcpt
from waypost.smtp.event import AuthResponse, Closing, DataChunk, DataEnd, DataStart, NeedOctets, StartTls, TlsGranted
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.settings import ServerSettings

ANSWERS = (
    Reply.of(250, "2.0.0", "OK"),
    Reply.of(250, "2.0.0", "OK"),
    Reply.of(550, "5.7.1", "no"),
    Reply.of(451, "4.3.0"),
)
GO = Reply(354, ("go",))


def one(octets: bytes) -> None:
    """Octet 0: flags; 1: segments; 2: the caller's dice; the rest is said."""
    (flags, size, seed), speech = head(octets, 3)
    settings = ServerSettings(
        "mx.example",
        size_limit=(0, 30, 5000, 100_000)[flags >> 4 & 3],
        lmtp=bool(flags & 1),
        smtputf8=bool(flags & 2),
        dsn=bool(flags & 4),
        max_recipients=3 if flags & 8 else 100,
        mechanisms=("PLAIN", "LOGIN"),
        starttls=bool(flags & 64),
    )
    session = ServerSession(settings)
    session.permit_auth(settings.mechanisms if flags & 64 else ())
    session.greet(Reply(220, ("mx.example",)))
    caller = _Caller(session, random.Random(seed if flags & 128 else 0), always=not flags & 128)  # noqa: S311 - dice
    for piece in segments(speech, size):
        session.receive(piece)
        if caller.obey():
            break


class _Caller:
    def __init__(self, session: ServerSession, dice: random.Random, *, always: bool) -> None:
        self.session, self.dice, self.always = session, dice, always
        self.recipients = 0
        self.body: list[bytes] = []

    def answer(self) -> Reply:
        return ANSWERS[0] if self.always else self.dice.choice(ANSWERS)

    def obey(self) -> bool:
        """Deal with the events that are due; True at the session's end."""
        while True:
            event = self.session.next_event()
            match event:
                case NeedOctets() | Closing():
                    _check(self.session.octets_to_send())
                    return isinstance(event, Closing)
                case Hello():
                    self.session.reply(self.session.hello_reply())
                case Auth(response=NoResponse()):
                    self.session.challenge(b"Username:")
                case Auth() | AuthResponse():
                    self.session.reply(self.answer())
                case StartTls():
                    self.session.reply(self.answer())
                case TlsGranted():
                    return self.handshake()
                case Mail():
                    self.recipients = 0
                    self.session.reply(self.answer())
                case Rcpt():
                    reply = self.answer()
                    self.recipients += reply.is_positive
                    self.session.reply(reply)
                case DataStart():
                    assert self.recipients > 0
                    self.body = []
                    self.session.reply(GO)
                case DataChunk(piece):
                    self.body.append(piece)
                case DataEnd(size, fault):
                    self.end(size, fault)
                case _:
                    pass

    def handshake(self) -> bool:
        """Begin TLS; or do not, and see that nothing said in clear is heard."""
        _check(self.session.octets_to_send())
        if self.always:
            self.session.tls_started()
            return self.obey()
        self.session.receive(b"MAIL FROM:<mallory@elsewhere.example>\r\n")
        assert isinstance(self.session.next_event(), Closing)
        assert self.session.octets_to_send() == b""
        return True

    def end(self, size: int, fault: BodyFault) -> None:
        if fault is BodyFault.NONE:
            body = b"".join(self.body)
            assert len(body) == size
            assert body.count(b"\r") == body.count(b"\n") == body.count(b"\r\n")
            assert b"\0" not in body
            assert not body or body.endswith(b"\r\n")
        for _ in range(self.recipients if self.session._settings.lmtp else 1):
            self.session.reply(ANSWERS[0])


def _check(said: bytes) -> None:
    assert not said or said.endswith(b"\r\n")
    for line in said.splitlines():
        assert line[:3].isdigit(), line
        assert len(line) <= 512, line
        assert line.isascii(), line
