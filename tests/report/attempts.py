"""An attempt, and what it may come to, for the tests of journal and metrics."""

from __future__ import annotations

from dataclasses import replace

from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import MessageId, NextHop, NotInDoubt, Origin, PossiblyAt, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Answered, ConnectionLost, Deferred, Delivered, Host, InDoubt, Outcome, Rejected
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.queue.storage import Next, Notice, Settled, Wait
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.path import DomainName, Mailbox
from waypost.smtp.reply import EnhancedStatus, Reply

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
HOST = Host("mx.example.com", Endpoint("192.0.2.1", 25))
CLOSED = Fault(FaultKind.CLOSED)
DELIVERED = Delivered(str(HOST), Reply(250, ("2.0.0 Ok",)))
LOST = Deferred(ConnectionLost(HOST, "EHLO", CLOSED), EnhancedStatus(4, 4, 2))
REFUSED = Rejected(Answered(HOST, "RCPT", Reply(550, ("5.1.1 no such user",))), EnhancedStatus(5, 1, 1))
IN_DOUBT = InDoubt(HOST, CLOSED)
WAITING = Wait(START + 300, PossiblyAt("192.0.2.1:25"))
ANN = Mailbox("ann", DomainName("example.org"))
JANE = QueuedRecipient(0, Mailbox("jane", DomainName("example.com")), RcptParameters(), 2, False, NotInDoubt())
MESSAGE = QueuedMessage(
    MessageId("01hxmessage00"), ANN, MailParameters(), Origin("ESMTP", "192.0.2.9", "client.example.org"), START, 200
)
ATTEMPT = Attempt(MESSAGE, NextHop("smtp://mx.example.com:25"), START + 60, START + 60.25, (), Transcript(0))


def attempt_with(next_hop: str, *said: str) -> Attempt:
    """An attempt at this next hop, in which we said these lines."""
    transcript = Transcript(0)
    for line in said:
        transcript.add(0, "C", line)
    return replace(ATTEMPT, next_hop=NextHop(next_hop), transcript=transcript)


def fate(outcome: Outcome, follows: Next, notice: Notice = Notice.NONE) -> Settled:
    """What became of Jane."""
    return Settled(JANE, outcome, follows, notice)
