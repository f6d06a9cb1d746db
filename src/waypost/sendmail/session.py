"""`sendmail -bs`: an SMTP session on standard input and output, as some mail programs speak with a sendmail.

Each message goes into the pickup directory, and 250 means that it is on the disk. Recipients are judged when it is
picked up. Not here: what a command must look like (waypost.smtp.server).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, assert_never

from waypost.sendmail.box import EX_OK, Place, Refusal
from waypost.smtp.body import BodyFault
from waypost.smtp.command import Atrn, Auth, Etrn, Hello, Mail, Rcpt, Xclient
from waypost.smtp.event import (
    AuthResponse,
    Closing,
    DataChunk,
    DataEnd,
    DataStart,
    Event,
    NeedOctets,
    Refused,
    StartTls,
    TlsGranted,
    TransactionReset,
    Turned,
)
from waypost.smtp.reply import Reply
from waypost.smtp.server import ServerSession
from waypost.smtp.settings import ServerSettings

_OK = Reply.of(250, "2.1.0", "OK")
_BODY = Reply(354, ("end with a dot on a line of its own",))
_NOT_HERE = Reply.of(502, "5.5.1", "not on standard input")
_BAD_BODY = Reply.of(550, "5.6.0", "a line of the message is too long, ends in CR or LF alone, or holds NUL")


def serve(place: Place, stdin: BinaryIO, stdout: BinaryIO, write: Callable[[Place, bytes], object]) -> int:
    """One session, to its end. `write` puts a message into the pickup directory."""
    talk = _Talk(
        place,
        ServerSession(ServerSettings(hostname=place.hostname, size_limit=place.most, deliver_by=False, prdr=False)),
        write,
    )
    talk.smtp.greet(Reply(220, (f"{place.hostname} ESMTP",)))
    while talk.is_open:
        stdout.write(talk.smtp.octets_to_send())
        stdout.flush()
        line = stdin.readline()
        if not line:
            return EX_OK
        talk.smtp.receive(line)
        talk.hear()
    stdout.write(talk.smtp.octets_to_send())
    stdout.flush()
    return EX_OK


@dataclass(slots=True)
class _Talk:
    place: Place
    smtp: ServerSession
    write: Callable[[Place, bytes], object]
    is_open: bool = True
    envelope: list[str] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)

    def hear(self) -> None:
        """Answer all that came."""
        while True:
            event = self.smtp.next_event()
            if isinstance(event, NeedOctets):
                return
            self._answer(event)
            if not self.is_open:
                return

    def _answer(self, event: Event) -> None:
        match event:
            case Hello():
                self.smtp.reply(self.smtp.hello_reply(0.0))
            case Mail(path):
                self.envelope, self.body = [f"X-Sender: <{path}>\n"], []
                self.smtp.reply(_OK)
            case Rcpt(path):
                self.envelope.append(f"X-Receiver: <{path}>\n")
                self.smtp.reply(_OK)
            case DataStart():
                self.smtp.reply(_BODY)
            case DataChunk(octets):
                self.body.append(octets)
            case DataEnd(_, fault):
                self.smtp.reply(self._stored() if fault is BodyFault.NONE else _BAD_BODY)
            case Closing():
                self.is_open = False
            case StartTls() | Auth() | AuthResponse() | Etrn() | Atrn() | Xclient():
                self.smtp.reply(_NOT_HERE)
            case Refused() | TransactionReset() | TlsGranted() | Turned() | NeedOctets():
                pass
            case _:
                assert_never(event)

    def _stored(self) -> Reply:
        try:
            self.write(self.place, "".join(self.envelope).encode("utf-8", "surrogateescape") + b"".join(self.body))
        except Refusal as refusal:
            return Reply.of(451, "4.3.0", str(refusal).encode("ascii", "replace").decode()[:400])
        return Reply.of(250, "2.0.0", "written down for the service")
