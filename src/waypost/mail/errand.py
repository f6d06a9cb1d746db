"""One message over one connection, once, with the engine that live deliveries use (smtp/client.py).

For `waypost send`, and for messages that come to us otherwise than by SMTP and are handed in at a door of our own
(receive/intake.py). Not here: queueing, retrying, TLS and logging in; what is refused is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, TypeAlias, assert_never

from waypost.mail.explain import plain
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint, Fault, Stream
from waypost.smtp.client import ClientSession
from waypost.smtp.event import (
    Asked,
    ChunkDue,
    ClientEvent,
    DataAnswered,
    DotAnswered,
    HandshakeDue,
    MailAnswered,
    Opened,
    OpeningRefused,
    PeerClosing,
    RcptAnswered,
    TransactionEnded,
    Violation,
)
from waypost.smtp.extension import BodyType, MailParameters, RcptParameters
from waypost.smtp.path import ForwardPath, ReversePath, is_ascii
from waypost.smtp.reply import Reply
from waypost.smtp.stage import Stage
from waypost.smtp.transaction import Transaction

#: What is waited for, where it is no reply to a command by name.
_AWAITED: Final = {Stage.GREETING: "the greeting", Stage.DOT: "the reply to the final dot"}
#: Octets of a body written at once: what a connection takes in without waiting, several times.
_PIECE: Final = 256 * 1024

#: Nothing final was said.
INTERRUPTED: Final = Reply.of(451, "4.3.0", "the message could not be taken; try again later")

Watch: TypeAlias = Callable[[str, str], None]
"""Told each line of the dialogue: mark (`C` we said, `S` the server said, `*` what happened), text."""


def unwatched(_mark: str, _text: str) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent. `octets`: header and body, lines ended by CRLF.

    `parameters`: what MAIL says besides the size and what the octets need. `at_once`: should a recipient be refused
    for now, nobody is to get it yet.
    """

    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    octets: bytes
    parameters: MailParameters = field(default_factory=MailParameters)
    recipient_parameters: RcptParameters = field(default_factory=RcptParameters)
    at_once: bool = False


def with_crlf(octets: bytes) -> bytes:
    """A file's octets as SMTP carries them: every line, the last one too, ended by CRLF (RFC 5321 §2.3.8)."""
    lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return (lines if lines.endswith(b"\n") else lines + b"\n").replace(b"\n", b"\r\n")


@dataclass(slots=True)
class Errand:
    """One connection's worth of it."""

    letter: Letter
    session: ClientSession
    within: timedelta
    watch: Watch
    trouble: str = ""
    #: What holds of recipients nothing final was said of: the server's words, where it ended the session itself.
    rest: Reply = INTERRUPTED
    lost_on_ehlo: bool = False
    is_over: bool = False
    #: Whether to break off where the message would be sent: its recipients alone are asked about.
    asks_only: bool = False
    #: Whether the server wanted the message, for those who have no reply.
    was_wanted: bool = False
    #: By the recipient's place in the letter; one nothing final was said of has none.
    replies: dict[int, Reply] = field(default_factory=dict)

    async def run(self, dialer: Dialer, server: Endpoint) -> None:
        """Connect, and speak to the end or to a fault."""
        self.watch("*", f"connecting to {server}")
        stream = await dialer.dial(server, self.within)
        if isinstance(stream, Fault):
            self._end(f"no connection to {server}: {stream}")
            return
        await self.speak(stream)

    async def speak(self, stream: Stream) -> None:
        """Speak on an open connection to the end, or to a fault; then it is closed."""
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
                self.rest = reply
                self._end(f"{why}: {reply}")
            case MailAnswered(reply):
                if not reply.is_positive:
                    self._note_rest(reply)
            case RcptAnswered(index, reply):
                if not reply.is_positive:
                    self.replies.setdefault(index, reply)
            case DataAnswered(_, True) if self.asks_only:
                self.was_wanted = True
                self._end("its recipients alone were asked about")
            case DataAnswered(reply, body_due):
                if body_due and self.session.awaiting is Stage.BODY and self._is_put_off():
                    self._end("a recipient was refused for now, and nobody is to get it without him")
                elif body_due and self.session.awaiting is Stage.BODY:
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
                self.rest = reply
                self._end(f"the server ended the session: {reply}")
            case Violation(stage, detail):
                self._end(f"the server sent what is no reply to {stage.value}: {detail}")
            case Asked():
                raise AssertionError(f"{event} to nothing that was asked")
            case HandshakeDue():
                self._end("the server began TLS, which nobody asked for")
            case _:
                assert_never(event)

    def _begin(self) -> None:
        letter = self.letter
        wide = not all(map(is_ascii, (letter.reverse_path, *letter.recipients)))
        body = BodyType.SEVEN_BIT if letter.octets.isascii() else BodyType.EIGHT_BIT_MIME
        parameters = replace(
            letter.parameters,
            size=len(letter.octets),
            body=body,
            smtputf8=wide or letter.parameters.smtputf8,
        )
        recipients = [(recipient, letter.recipient_parameters) for recipient in letter.recipients]
        self.session.begin(Transaction(letter.reverse_path, parameters, recipients))

    def _is_put_off(self) -> bool:
        return self.letter.at_once and any(reply.is_transient for reply in self.replies.values())

    async def _body(self, stream: Stream) -> None:
        octets = self.letter.octets
        self.watch("C", f"({len(octets)} octets of message, and the final dot)")
        for start in range(0, len(octets), _PIECE):
            stream.write(self.session.send_body(octets[start : start + _PIECE]))
            await stream.flush(self.within)
        stream.write(self.session.end_body())
        await stream.flush(self.within)

    def _note_rest(self, reply: Reply) -> None:
        """The reply refuses all recipients that were not refused already."""
        for index in range(len(self.letter.recipients)):
            self.replies.setdefault(index, reply)

    def _end(self, trouble: str) -> None:
        self.trouble, self.is_over = plain(trouble), True
        self.watch("*", self.trouble)
