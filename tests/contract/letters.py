"""Messages, attempts and settlements for tests of the queue: short to write, and telling in an assertion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import Envelope, InMemory, MessageId, NextHop, NotInDoubt, Octets, Origin, Recipient
from waypost.mail.outcome import Answered, Deferred, Delivered, Host, Outcome, Rejected
from waypost.net.stream import Endpoint
from waypost.queue import ids
from waypost.queue.storage import Draft, Gone, Lease, Next, Notice, Settled, Settlement, Storage, Stored, Wait
from waypost.smtp.extension import BodyType, MailParameters, Notify, RcptParameters, Return
from waypost.smtp.path import DomainName, ForwardPath, Mailbox, NullPath, Postmaster
from waypost.smtp.reply import EnhancedStatus, Reply

NOW = 1_800_000_000.0
HOP = NextHop("mx:example.org")
HOST = Host("mx.example.org", Endpoint("192.0.2.1", 25))
OK = Delivered("mx.example.org[192.0.2.1:25]", Reply.of(250, "2.0.0", "taken"))
BUSY = Deferred(Answered(HOST, "RCPT", Reply.of(451, "4.3.0", "busy")), EnhancedStatus(4, 3, 0))
NO_SUCH_USER = Rejected(Answered(HOST, "RCPT", Reply.of(550, "5.1.1", "no such user")), EnhancedStatus(5, 1, 1))


def name(number: int) -> MessageId:
    """The id of the `number`th message of a test."""
    return ids.from_number((int(NOW * 1000) + number) << 21)


def path(address: str) -> ForwardPath:
    local_part, at, domain = address.rpartition("@")
    return Mailbox(local_part, DomainName(domain)) if at else Postmaster()


def to(address: str, hop: str = HOP, *, notify: Notify = Notify.UNSPECIFIED) -> Recipient:
    return Recipient(path(address), NextHop(hop), RcptParameters(notify))


def envelope(*recipients: Recipient, sender: str = "Anna@example.net") -> Envelope:
    reverse_path = path(sender) if sender else NullPath()
    assert not isinstance(reverse_path, Postmaster)
    origin = Origin("ESMTP", "192.0.2.7", "client.example.net", "192.0.2.2:25")
    parameters = MailParameters(
        1024, BodyType.EIGHT_BIT_MIME, smtputf8=True, ret=Return.HEADERS, envelope_id="QQ314159"
    )
    return Envelope(reverse_path, recipients or (to("bert@example.org"),), origin, parameters)


async def accept(
    storage: Storage,
    number: int,
    *recipients: Recipient,
    octets: InMemory | Draft | bytes = b"Subject: hello\r\n\r\nhello\r\n",
    now: float = NOW,
    claim_for: float = 0.0,
    sender: str = "Anna@example.net",
    priority: int = 0,
    released_at: float = 0.0,
) -> Stored:
    """Accept a message; a fault fails the test."""
    said = envelope(*recipients, sender=sender)
    stored = await storage.accept(
        replace(said, parameters=replace(said.parameters, priority=priority), released_at=released_at),
        InMemory(octets) if isinstance(octets, bytes) else octets,
        id=name(number),
        now=now,
        claim_until=now + claim_for,
    )
    assert isinstance(stored, Stored), stored
    return stored


def settlement(
    lease: Lease,
    *,
    outcome: Outcome = OK,
    then: Next = Gone(),  # noqa: B008 - a frozen value
    notice: Notice = Notice.NONE,
    at: float = NOW + 1,
    only: Sequence[int] = (),
) -> Settlement:
    """All recipients of the lease (or `only` those numbers) settled alike."""
    recipients = tuple(one for one in lease.recipients if not only or one.number in only)
    transcript = Transcript(10.0)
    transcript.add(10.25, "C", "EHLO us.example")
    attempt = Attempt(
        lease.message, lease.next_hop, at - 1, at, tuple((one, outcome) for one in recipients), transcript
    )
    return Settlement(lease, attempt, tuple(Settled(one, outcome, then, notice, at + 86400) for one in recipients))


def wait(until: float) -> Wait:
    return Wait(until, NotInDoubt())


async def read(octets: Octets) -> bytes:
    return b"".join([chunk async for chunk in octets])


async def claim_one(storage: Storage, *, hop: str = HOP, now: float = NOW, lasting: float = 100.0) -> Lease:
    """The one lease there is to be had."""
    (lease,) = await storage.claim(NextHop(hop), now=now, until=now + lasting, messages=10)
    return lease
