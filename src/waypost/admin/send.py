"""Sending one message to one server, once: what `waypost send` does. It shows the dialogue and reports honestly.

It uses the engine that live deliveries use (smtp/client.py), with one thing of deliver/: a server that hangs up on EHLO
is called again and greeted with HELO. Not here: queueing and retrying; what is refused is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, TypeAlias, assert_never

from waypost.mail.explain import plain
from waypost.net.clock import Instant
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault, Stream
from waypost.smtp.client import (
    ChunkDue,
    ClientEvent,
    ClientSession,
    DataAnswered,
    DotAnswered,
    HandshakeDue,
    MailAnswered,
    Opened,
    Opening,
    OpeningRefused,
    PeerClosing,
    RcptAnswered,
    Stage,
    Transaction,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import BodyType, MailParameters, RcptParameters
from waypost.smtp.path import Mailbox, ReversePath
from waypost.smtp.reply import Reply

#: What is waited for, where it is no reply to a command by name.
_AWAITED: Final = {Stage.GREETING: "the greeting", Stage.DOT: "the reply to the final dot"}

Watch: TypeAlias = Callable[[str, str], None]
"""Told each line of the dialogue: mark (`C` we said, `S` the server said, `*` what happened), text."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent. `octets`: header and body, lines ended by CRLF."""

    reverse_path: ReversePath
    recipients: tuple[Mailbox, ...]
    octets: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of one recipient."""

    recipient: str
    accepted: bool
    reply: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of it. `trouble`: a sentence where the dialogue did not come to its end."""

    server: str
    answers: tuple[Answer, ...]
    trouble: str

    @property
    def all_accepted(self) -> bool:
        """Whether the server took the message for every recipient."""
        return not self.trouble and bool(self.answers) and all(answer.accepted for answer in self.answers)


def compose(
    reverse_path: ReversePath, recipients: Sequence[Mailbox], subject: str, body: str, *, now: Instant, message_id: str
) -> bytes:
    """A plain-text message with the header fields RFC 5322 §3.6 asks for."""
    message = EmailMessage(policy=SMTP.clone(utf8=not all(str(path).isascii() for path in (reverse_path, *recipients))))
    message["From"] = str(reverse_path) or "MAILER-DAEMON"
    message["To"] = ", ".join(str(recipient) for recipient in recipients)
    message["Subject"] = plain(subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = message_id
    message.set_content(body)
    return message.as_bytes()


def with_crlf(octets: bytes) -> bytes:
    """A file's octets as SMTP carries them: every line, the last one too, ended by CRLF (RFC 5321 §2.3.8)."""
    lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return (lines if lines.endswith(b"\n") else lines + b"\n").replace(b"\n", b"\r\n")


async def send(
    dialer: Dialer, server: Endpoint, letter: Letter, *, hello_name: str, within: timedelta, watch: Watch
) -> Sent:
    """Send `letter` to `server`; each connection, write and reply may take `within`."""
    errand = _Errand(letter, ClientSession(hello_name), within, watch)
    await errand.run(dialer, server)
    if errand.lost_on_ehlo:
        watch("*", "lost on EHLO: a new connection, HELO first")
        errand = _Errand(letter, ClientSession(hello_name, opening=Opening.HELO_FIRST), within, watch)
        await errand.run(dialer, server)
    return Sent(str(server), errand.answers(), errand.trouble)


@dataclass(slots=True)
class _Errand:
    """One connection's worth of it."""

    letter: Letter
    session: ClientSession
    within: timedelta
    watch: Watch
    trouble: str = ""
    lost_on_ehlo: bool = False
    is_over: bool = False
    replies: dict[int, Reply] = field(default_factory=dict)

    def answers(self) -> tuple[Answer, ...]:
        """One a recipient, in order; a recipient nothing final was said of has none."""
        return tuple(
            Answer(str(recipient), self.replies[index].is_positive, plain(str(self.replies[index])))
            for index, recipient in enumerate(self.letter.recipients)
            if index in self.replies
        )

    async def run(self, dialer: Dialer, server: Endpoint) -> None:
        """Connect, and speak to the end or to a fault."""
        self.watch("*", f"connecting to {server}")
        stream = await dialer.dial(server, self.within)
        if isinstance(stream, Fault):
            self._end(f"no connection to {server}: {stream}")
            return
        try:
            await self._speak(stream)
        finally:
            await stream.close()

    async def _speak(self, stream: Stream) -> None:
        while not self.is_over:
            stage = self.session.awaiting
            await self._say(stream)
            octets = await stream.read(self.within)
            if isinstance(octets, Fault):
                self._end(f"{octets} while waiting for {_AWAITED.get(stage, f'the reply to {stage.value}')}")
                self.lost_on_ehlo = stage is Stage.EHLO
                return
            self._heard(octets)
            for event in self.session.receive(octets):
                await self._act(event, stream)
        await self._say(stream)

    async def _say(self, stream: Stream) -> None:
        octets = self.session.octets_to_send()
        if not octets:
            return
        for line in octets.removesuffix(b"\r\n").split(b"\r\n"):
            self.watch("C", plain(line.decode("utf-8", "surrogateescape")))
        stream.write(octets)
        await stream.flush(self.within)  # a fault shows again at the next read, with its stage

    def _heard(self, octets: bytes) -> None:
        for line in octets.removesuffix(b"\r\n").split(b"\r\n"):
            self.watch("S", plain(line[:512].decode("utf-8", "surrogateescape")))

    async def _act(self, event: ClientEvent, stream: Stream) -> None:
        match event:
            case Opened():
                if self.session.awaiting is Stage.READY:  # else the server ended it in the same breath: the next event
                    self._begin()
            case OpeningRefused(_, reply, why):
                self._end(f"{why}: {reply}")
            case MailAnswered(reply):
                if not reply.is_positive:
                    self._note_rest(reply)
            case RcptAnswered(index, reply):
                if not reply.is_positive:
                    self.replies.setdefault(index, reply)
            case DataAnswered(reply, body_due):
                if body_due and self.session.awaiting is Stage.BODY:
                    await self._body(stream)
                elif not reply.is_intermediate:
                    self._note_rest(reply)
            case ChunkDue():
                await self._body(stream)
            case DotAnswered(reply, indexes):
                self.replies.update(dict.fromkeys(indexes, reply))
            case TransactionEnded():
                self.is_over = True
                self.session.quit()
            case PeerClosing(reply):
                self._end(f"the server ended the session: {reply}")
            case Violation(stage, detail):
                self._end(f"the server sent what is no reply to {stage.value}: {detail}")
            case HandshakeDue():
                self._end("the server began TLS, which nobody asked for")
            case _:
                assert_never(event)

    def _begin(self) -> None:
        letter = self.letter
        utf8 = not all(str(path).isascii() for path in (letter.reverse_path, *letter.recipients))
        body = BodyType.SEVEN_BIT if letter.octets.isascii() else BodyType.EIGHT_BIT_MIME
        parameters = MailParameters(size=len(letter.octets), body=body, smtputf8=utf8)
        recipients = [(recipient, RcptParameters()) for recipient in letter.recipients]
        self.session.begin(Transaction(letter.reverse_path, parameters, recipients))

    async def _body(self, stream: Stream) -> None:
        self.watch("C", f"({len(self.letter.octets)} octets of message, and the final dot)")
        stream.write(self.session.send_body(self.letter.octets) + self.session.end_body())
        await stream.flush(self.within)

    def _note_rest(self, reply: Reply) -> None:
        """The reply refuses all recipients that were not refused already."""
        for index in range(len(self.letter.recipients)):
            self.replies.setdefault(index, reply)

    def _end(self, trouble: str) -> None:
        self.trouble, self.is_over = plain(trouble), True
        self.watch("*", self.trouble)
