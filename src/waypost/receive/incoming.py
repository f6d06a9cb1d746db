"""One message, from DATA to the 250 that its client may rely on (RFC 5321 §4.2.5, §6.1).

The promises kept here: 250 after the final dot means that the message is durable; once the dot was read, it is stored
whatever the client does; before it, nothing is. A body that cannot be kept any more is read to its end all the same.

Not here: who may send it, and to whom (transactions.py), or how octets are held (body.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar, assert_never

from waypost.mail.envelope import Envelope, InMemory, MessageId, Origin, Recipient
from waypost.mail.header import field as field_of
from waypost.mail.trace import HeaderScan, protocol, received_line
from waypost.net.clock import Instant
from waypost.net.tls import TlsFacts
from waypost.policy.access import HELD_BACK, QUARANTINE, QUARANTINED, SenderBlock, Senders
from waypost.policy.admission import Taken
from waypost.policy.gate import UNSCREENED, Action, Screened
from waypost.queue import deadlines
from waypost.queue.shelf import FOR_EVER
from waypost.queue.storage import CLAIM, Draft, StorageError, Stored, StoreFault
from waypost.receive.authorship import Author, NoAuthor
from waypost.receive.body import Body
from waypost.receive.client import ConnectedClient
from waypost.receive.completion import Completion
from waypost.receive.judge import LOCAL_ERROR, LOOPING, NO_MEMORY, judge_body, judge_fault
from waypost.receive.login import Anonymous
from waypost.receive.resent import Sent
from waypost.smtp.body import BodyFault
from waypost.smtp.extension import MailParameters
from waypost.smtp.path import ForwardPath, ReversePath
from waypost.smtp.reply import Reply

T = TypeVar("T")

#: What a log raises: it costs no mail, and there is nobody else to tell.
_UNHEARD: Final = suppress(Exception)


@dataclass(slots=True)
class Transaction:
    """What MAIL and RCPT have said so far."""

    reverse_path: ReversePath
    parameters: MailParameters
    recipients: list[Recipient]
    accepted: int = 0  # RCPTs answered 250: fewer than recipients where one stands for several
    expanded: set[ForwardPath] = field(default_factory=set)  # what aliases led to
    released_at: Instant = 0.0  # held until then at the client's wish
    screened: Screened = UNSCREENED
    is_screened: bool = False

    def take(self, taken: Taken) -> None:
        """Add the recipients of one RCPT; whom an alias has led to already has his copy."""
        self.accepted += 1
        for one in taken.destined:
            if taken.steps and one.recipient.forward_path in self.expanded:
                continue
            if taken.steps:
                self.expanded.add(one.recipient.forward_path)
            self.recipients.append(one.recipient)


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that is durable: what it is recognised by should it come again, and who may try it at once."""

    envelope: Envelope
    sent: Sent
    stored: Stored


class Incoming:
    """A message that is being read, and what becomes of it."""

    def __init__(self, client: ConnectedClient, transaction: Transaction) -> None:
        house, hostname = client.house, client.door.smtp.hostname
        now = house.clock.now()
        self.told_to_leave = False  # while it was stored
        self._client = client
        self._transaction = transaction
        self._id = client.guest.id or house.ids.make()
        self._origin = origin_of(client, smtputf8=transaction.parameters.smtputf8)
        spill = house.in_flight.limit if client.hooked.data else house.settings.spill  # hooks see a message whole
        self._body = Body(house.storage, house.in_flight, spill=spill)
        self._refusal: tuple[Reply, ...] = ()  # at most one, a 4yz: it cannot be kept any more
        self._completion = (
            (Completion(self._id, hostname, now, self._author()),) if client.door.submission else ()
        )  # likewise
        trace = received_line(
            self._origin,
            transaction.recipients,
            hostname=hostname,
            id=self._id,
            at=now,
            priority=transaction.parameters.priority,
        )
        if transaction.screened.action is Action.TAG:
            trace += field_of("X-Waypost-Lists", transaction.screened.words)
        self._trace = len(trace)
        self._body.add(trace)

    @property
    def size(self) -> int:
        """Octets read so far, what we put on top included."""
        return self._body.size

    def _author(self) -> Author | NoAuthor:
        """Whose address is to stand in From."""
        who = self._client.login.client
        if isinstance(who, Anonymous):
            return NoAuthor()
        return Author(who, self._transaction.reverse_path, self._client.door.from_field)

    # ---- while it is read
    def gather(self, octets: bytes) -> bool:
        """Keep a piece of the body, or read past it where the message is lost already. True: `spill` is due."""
        if self._refusal:
            self._body.size += len(octets)  # the client's pace still counts
            return False
        for completion in self._completion:
            octets = completion.feed(octets)
        return self._body.add(octets)

    async def spill(self) -> None:
        """Write what there is of the body to the spool; where that fails, the rest is read to its end all the same."""
        try:
            await self._body.spill()
        except StorageError as error:
            self._refusal = (judge_fault(error.fault),)
            self._client.trouble("spool", error)
        except Exception as error:  # noqa: BLE001 - a bug of ours is a 4yz to one message, and no more
            self._refusal = (LOCAL_ERROR,)
            self._client.trouble("body", error)
        if self._refusal:
            self._body.release()

    async def discard(self) -> None:
        """Let go of what is not stored."""
        try:
            await self._body.discard()
        except Exception as error:  # noqa: BLE001 - a draft left behind is swept at the next start
            self._client.trouble("draft", error)

    # ---- at its final dot
    async def end(self, fault: BodyFault) -> Kept | Reply:
        """Store it. A reply: it was not stored, or was stored before."""
        for refusal in self._refusal:
            return self._refuse(refusal)
        if fault is not BodyFault.NONE:
            return self._refuse(judge_body(fault))
        try:
            for completion in self._completion:
                self._body.add(completion.finish())
                if isinstance(completion.authorship, Reply):
                    return self._refuse(completion.authorship)
            octets = await self._body.finish()
        except StorageError as error:
            self._client.trouble("spool", error)
            return self._refuse(judge_fault(error.fault))
        if self._body.hops > self._client.house.settings.hops:  # ours is one of them
            return self._refuse(LOOPING)
        return await (self._revised(octets) if self._client.hooked.data else self._commit(octets))

    def _refuse(self, reply: Reply) -> Reply:
        return self._client.refuse("final dot", reply)

    async def _revised(self, octets: InMemory | Draft) -> Kept | Reply:
        """Show the message to hooks, and store what they make of it. It is whole in memory for that, or waits."""
        if not isinstance(octets, InMemory):
            return self._refuse(NO_MEMORY)
        client, transaction, trace = self._client, self._transaction, octets.octets[: self._trace]
        whole, recipients = octets.octets[self._trace :], tuple(transaction.recipients)
        found = await client.hooked.message(
            client.house.admission, client.as_client(), transaction.reverse_path, recipients, whole
        )
        if isinstance(found, Reply):
            return self._refuse(found)
        transaction.recipients = list(found.recipients)
        return await self._commit(InMemory(trace + found.octets))

    async def _commit(self, octets: InMemory | Draft) -> Kept | Reply:
        house, envelope = self._client.house, self._envelope()
        sent = Sent(self._client.peer.host, envelope, octets, self._trace)
        for name in house.resent.names(sent):
            return self._known(name)
        now = house.clock.now()
        until = now + CLAIM.total_seconds() if house.onward.wants() and not envelope.held else now
        storing = house.storage.accept(envelope, octets, id=self._id, now=now, claim_until=until)
        match await outlasting(storing, self._leave_after):
            case Stored() as stored:
                return Kept(envelope, sent, stored)
            case StoreFault() as fault:
                self._client.trouble("spool", StorageError(fault))
                return self._refuse(judge_fault(fault))
            case other:
                assert_never(other)

    def _leave_after(self) -> None:
        self.told_to_leave = True

    def _known(self, name: MessageId) -> Reply:
        """It was stored before, and its client did not hear of it: it is told again, and nothing is stored."""
        with _UNHEARD:
            self._client.house.log.resent(self._client.peer, name)
        return queued(name)

    # ---- its envelope
    def _envelope(self) -> Envelope:
        transaction, scan = self._transaction, self._body.scan
        envelope = Envelope(
            transaction.reverse_path,
            self._all_recipients(transaction),
            self._origin,
            transaction.parameters,
            transaction.released_at,
            held=self._quarantined(transaction),
            message_id=scan.message_id,
            traceparent=self._client.guest.traceparent,
        )
        if scan.is_marked:
            envelope = self._marked(envelope, scan)
        traced = self._client.house.traced
        return replace(envelope, traceparent=traced.begin(envelope.traceparent)) if traced.is_on else envelope

    def _marked(self, envelope: Envelope, marks: HeaderScan) -> Envelope:
        """With what the header asks for: TLS-Required (RFC 8689 §3), and the priority of a client that we trust."""
        parameters = envelope.parameters
        if not parameters.priority and marks.priority and (marks.priority < 0 or self._client.trusted()):
            parameters = replace(parameters, priority=marks.priority)
        above = envelope.traceparent or marks.traceparent
        return replace(envelope, parameters=parameters, tls_optional=marks.tls_optional, traceparent=above)

    def _quarantined(self, transaction: Transaction) -> str:
        """Why the message is held in quarantine; "" where it is not."""
        if transaction.screened.action is Action.QUARANTINE:
            return f"{QUARANTINE}{transaction.screened.words} ({transaction.screened.place})"
        senders = self._client.house.senders
        if senders.quarantine == HELD_BACK and is_blocked(transaction.reverse_path, senders):
            return f"{QUARANTINE}mail from <{transaction.reverse_path}> is blocked"
        return ""

    def _all_recipients(self, transaction: Transaction) -> tuple[Recipient, ...]:
        """The recipients and the copies; or, where the reverse-path is blocked, all of them in quarantine."""
        house, recipients = self._client.house, tuple(transaction.recipients)
        if is_blocked(transaction.reverse_path, house.senders) and house.senders.quarantine != HELD_BACK:
            return house.admission.aside(recipients, house.senders.quarantine)
        if not house.copies.copies:
            return recipients
        copies = house.copies.of(transaction.reverse_path, [each.forward_path for each in recipients])
        return (*recipients, *house.admission.copied([copy.to for copy in copies]))

    # ---- once it is durable
    async def hand_over(self, kept: Kept) -> None:
        """Tell of a message that is safe. Nothing that goes wrong here changes the 250 it has earned."""
        house, stored = self._client.house, kept.stored
        if kept.envelope.held:
            await self._set_aside(stored)
        if kept.envelope.parameters.by:
            await self._note_deadline(kept)
        try:
            house.log.accepted(self._client.peer, stored.id, kept.envelope, self._body.size)
            if stored.leases:
                house.onward.take(stored.leases)
        except Exception as error:  # noqa: BLE001 - see above
            self._client.trouble("hand-over", error)
            if stored.leases:
                await house.storage.release(stored.leases)

    async def _set_aside(self, stored: Stored) -> None:
        """Remember which messages are in quarantine: in the queue they are held among others."""
        try:
            await self._client.house.storage.keep(QUARANTINED, stored.id, b"", until=FOR_EVER)
        except StorageError as error:
            self._client.trouble("quarantine", error)

    async def _note_deadline(self, kept: Kept) -> None:
        """Have it come back in time. Where that fails it still comes back, when it would next be tried."""
        house = self._client.house
        try:
            await deadlines.note(house.storage, kept.stored.id, kept.envelope, house.clock.now())
        except StorageError as error:
            self._client.trouble("deadline", error)


def is_blocked(path: ReversePath, senders: Senders) -> bool:
    """Whether mail under this reverse-path is not wanted."""
    return bool(senders.blocks) and isinstance(senders.of(path), SenderBlock)


def queued(name: MessageId) -> Reply:
    """The 250 that promises all."""
    return Reply(250, (f"2.0.0 Ok: queued as {name}",))


def origin_of(client: ConnectedClient, *, smtputf8: bool) -> Origin:
    """Where a message comes from, as its trace and its history tell it."""
    tls, account, door = client.tls, client.account, client.door
    secured = isinstance(tls, TlsFacts)
    return Origin(
        door.protocol or protocol(client.hello.verb, smtputf8=smtputf8, secured=secured, authenticated=bool(account)),
        client.peer.host,
        client.hello.client_name,
        door.address,
        account,
        str(tls) if secured else "",
        client.house.revision,
    )


async def outlasting(work: Coroutine[Any, Any, T], told_to_end: Callable[[], None]) -> T:
    """What the work comes to, waited for though we are told to end: the client is to hear what became of it."""
    loop, told = asyncio.get_running_loop(), False
    working = loop.create_task(work)
    while not working.done():
        # What is cancelled is our waiting for this, never the work.
        woken: asyncio.Future[None] = loop.create_future()
        working.add_done_callback(partial(_wake, woken))
        try:
            await woken
        except asyncio.CancelledError:
            told = True
            told_to_end()
    if told and not working.cancelled():
        _go_on()
    return working.result()


def _go_on() -> None:
    waiting = asyncio.current_task()
    while waiting is not None and waiting.cancelling():
        waiting.uncancel()


def _wake(woken: asyncio.Future[None], _: asyncio.Task[T]) -> None:
    if not woken.done():
        woken.set_result(None)
