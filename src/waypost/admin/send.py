"""Sending one message to one server, once: what `waypost send` does. It shows the dialogue and reports honestly.

It uses the engine that live deliveries use (smtp/client.py), with one thing of deliver/: a server that hangs up on EHLO
is called again and greeted with HELO. Not here: queueing and retrying; what is refused is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from waypost.mail.errand import Errand, Letter, Watch
from waypost.mail.explain import plain
from waypost.net.clock import Instant
from waypost.net.dialer import Dialer
from waypost.net.stream import Endpoint
from waypost.smtp.client import ClientSession
from waypost.smtp.path import Mailbox, ReversePath
from waypost.smtp.stage import Opening


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


async def send(
    dialer: Dialer, server: Endpoint, letter: Letter, *, hello_name: str, within: timedelta, watch: Watch
) -> Sent:
    """Send `letter` to `server`; each connection, write and reply may take `within`."""
    errand = Errand(letter, ClientSession(hello_name), within, watch)
    await errand.run(dialer, server)
    if errand.lost_on_ehlo:
        watch("*", "lost on EHLO: a new connection, HELO first")
        errand = Errand(letter, ClientSession(hello_name, opening=Opening.HELO_FIRST), within, watch)
        await errand.run(dialer, server)
    return Sent(str(server), _answers(errand), errand.trouble)


def _answers(errand: Errand) -> tuple[Answer, ...]:
    """One a recipient, in order; a recipient nothing final was said of has none."""
    return tuple(
        Answer(str(recipient), errand.replies[index].is_positive, plain(str(errand.replies[index])))
        for index, recipient in enumerate(errand.letter.recipients)
        if index in errand.replies
    )
