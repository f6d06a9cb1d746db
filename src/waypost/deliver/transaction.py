"""One transaction on an open connection: MAIL, RCPT, DATA, body, final dot; each recipient's fate as its reply is read.

The theory. Until the final dot has left, nothing was accepted: whatever goes wrong, the recipients not yet answered
may be tried at another host at once; so they may after a 4yz to the dot, by which the host says that it kept nothing.
But a reply to the dot that does not come leaves them in doubt (RFC 1047): the host may hold the message, and no other
host may be asked in this attempt. Replies already read stand in either case.

Not here: which connection (smtp.py), whether the peer can take the message (fitting.py), and what is said when
(waypost.smtp.client).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

from waypost.deliver.connection import Connection
from waypost.deliver.dots import Leaving
from waypost.deliver.fates import Fate, Fates, Open, deferred
from waypost.deliver.fitting import Fits, fit
from waypost.mail.envelope import InMemory, Octets, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import (
    Answered,
    ConnectionLost,
    Delivered,
    InDoubt,
    LocalTrouble,
    Misbehaved,
    Rejected,
)
from waypost.net.stream import Fault, FaultKind
from waypost.queue.storage import StorageError
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
from waypost.smtp.extension import by_of
from waypost.smtp.reply import Reply
from waypost.smtp.stage import Stage
from waypost.smtp.transaction import Transaction


class After(Enum):
    """What a transaction leaves behind."""

    REUSABLE = auto()  # a session at READY
    SPENT = auto()  # a connection that is closed, or must be: what is open goes to the next host
    STALE = auto()  # a reused connection that proved of no use before it took anything: the same host, on a fresh one


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transaction ended. `split`: too many for one; they are due at once, in the next one on this connection."""

    after: After
    split: Sequence[QueuedRecipient] = ()


class _Goes(Enum):
    ON = auto()  # with the next replies
    BODY = auto()  # with the blocks of a body too large for one write


_ON: Final = _Goes.ON

#: A body of up to so many octets leaves in one write with its final dot. A larger one goes in blocks, and is held back
#: where the peer takes none: a dot still on our side of the wire would leave in doubt what was never sent.
ONE_WRITE: Final = 16 * 1024
#: Octets of a block (RFC 5321 §4.5.3.2.5 has its time-out for one).
BLOCK: Final = 64 * 1024


async def transact(
    connection: Connection,
    message: QueuedMessage,
    recipients: Sequence[QueuedRecipient],
    octets: Octets,
    fates: Fates,
    leaving: Leaving,
) -> Ended:
    """Pass `message` on to `recipients`, all their fates written into `fates` but for those that come back as `split`.

    The connection is closed unless it comes back REUSABLE. Whatever is raised here, replies read so far stand, and what
    was sent up to its final dot is in doubt.
    """
    match await fit(connection, message, recipients, octets):
        case Fits(transaction, told, octets, unfit):
            for recipient, why in unfit:
                fates.record(recipient, why)
            return await _Run(connection, message, told, octets, fates, leaving).run(transaction)
        case unfit:
            for recipient in recipients:
                fates.record(recipient, unfit)
            return Ended(After.REUSABLE)


# ---- the run
class _Run:
    """One transaction while it runs: the handlers of its events, and what they have to know of each other."""

    __slots__ = (
        "_accepted",
        "_answered",
        "_connection",
        "_dot_sent",
        "_fates",
        "_host",
        "_leaves",
        "_leaving",
        "_message",
        "_octets",
        "_pending",
        "_refused",
        "_split",
    )

    def __init__(
        self,
        connection: Connection,
        message: QueuedMessage,
        recipients: Sequence[QueuedRecipient],
        octets: Octets,
        fates: Fates,
        leaving: Leaving,
    ) -> None:
        self._connection = connection
        self._leaving = leaving
        self._host = connection.host
        self._message = message
        self._octets = octets
        self._fates = fates
        self._pending = dict(enumerate(recipients))  # not answered for good, by their index here
        self._split: list[QueuedRecipient] = []
        self._accepted = 0
        self._answered = False
        self._refused = False  # MAIL was: what follows in its group is out of sequence, and says nothing
        self._dot_sent = False
        self._leaves = False  # by QUIT, once all is written down

    async def run(self, transaction: Transaction) -> Ended:
        """Until nothing of it is outstanding. Raises only what our own code or a cancellation raises."""
        connection = self._connection
        connection.transactions += 1
        connection.session.begin(transaction)
        try:
            after: After | _Goes = _ON
            while isinstance(after, _Goes):
                after = await (self._send_blocks() if after is _Goes.BODY else self._hear())
            self._fates.body_begun = False
            if self._leaves:
                await connection.leave()
        except BaseException as error:
            connection.abort()
            if self._dot_sent:
                stopped = isinstance(error, asyncio.CancelledError)
                why = "the service was stopped" if stopped else f"a bug in this service: {type(error).__name__}"
                self._leave_in_doubt(Fault(FaultKind.LOCAL, why))
            raise
        return Ended(after, self._split)

    async def _hear(self) -> After | _Goes:
        # Once every fate is known, what is due decides on the connection alone: no settlement waits long for it.
        heard = await self._connection.hear(soon=self._may_be_stale or not self._pending)
        return self._lost(heard) if isinstance(heard, Fault) else self._take(heard)

    def _take(self, events: Sequence[ClientEvent]) -> After | _Goes:
        for event in events:
            after = self._on(event)
            if after is not _ON:
                return after
        return _ON

    def _on(self, event: ClientEvent) -> After | _Goes:
        match event:
            case MailAnswered(reply):
                return self._on_mail(reply)
            case RcptAnswered(index, reply):
                return self._on_rcpt(index, reply)
            case DataAnswered(reply, body_due):
                return self._on_data(reply, body_due=body_due)
            case ChunkDue():
                return self._on_body_due()
            case DotAnswered(reply, indexes):
                return self._on_dot(reply, indexes)
            case TransactionEnded(reusable):
                return self._on_end(reusable=reusable)
            case PeerClosing(reply):
                return self._on_closing(reply)
            case Violation(stage, detail, heard):
                return self._on_violation(stage, f"{detail}: {heard}" if heard else detail)
            case Opened() | OpeningRefused() | HandshakeDue() | Asked():
                raise AssertionError(f"{event} within a transaction")
            case _:
                assert_never(event)

    # -- the replies, in their order
    def _on_mail(self, reply: Reply) -> After | _Goes:
        if reply.is_positive:
            self._answered = True
            return _ON
        if reply.code == 421:
            return self._on_closing(reply, Stage.MAIL)
        if self._may_be_stale and reply.code == 503:  # its session is out of step: not the message's fault
            self._leaves = True
            return After.STALE
        self._answered = self._refused = True
        cause = Answered(self._host, Stage.MAIL.value, reply)
        self._all(Rejected(cause, reply.status) if reply.is_permanent else Open(deferred(cause)))
        return _ON

    def _on_rcpt(self, index: int, reply: Reply) -> After | _Goes:
        if self._refused:
            return _ON
        if reply.is_positive:
            self._accepted += 1
            return _ON
        if reply.code == 421:
            return self._on_closing(reply, Stage.RCPT)
        recipient = self._pending.pop(index)
        if self._accepted and _too_many(reply):
            self._split.append(recipient)
            return _ON
        cause = Answered(self._host, Stage.RCPT.value, reply)
        self._fates.record(recipient, Rejected(cause, reply.status) if reply.is_permanent else Open(deferred(cause)))
        return _ON

    def _on_data(self, reply: Reply, *, body_due: bool) -> After | _Goes:
        if body_due:
            return self._on_body_due()
        if reply.code == 421:
            return self._on_closing(reply, Stage.DATA)
        cause = Answered(self._host, Stage.DATA.value, reply)
        self._all(Rejected(cause, reply.status) if reply.is_permanent else Open(deferred(cause)))
        return _ON

    def _on_body_due(self) -> After | _Goes:
        if self._connection.session.awaiting is Stage.BODY:
            return self._send_body()
        self._connection.awaited = Stage.BODY  # ended in the same breath: the event behind this one tells how
        return _ON

    def _on_dot(self, reply: Reply, indexes: Sequence[int]) -> After | _Goes:
        fate = self._at_dot(reply)
        for index in indexes:
            if index in self._pending:
                self._fates.record(self._pending.pop(index), fate)
        return _ON

    def _at_dot(self, reply: Reply) -> Fate:
        if reply.is_positive:
            lmtp = self._connection.approach.is_lmtp
            without_dsn = not lmtp and "DSN" not in self._connection.extensions
            by = self._message.parameters.by
            traced = by != "" and not lmtp and (by_of(by).trace or "DELIVERBY" not in self._connection.extensions)
            return Delivered(self._connection.place, reply, without_dsn, lmtp, traced)
        cause = Answered(self._host, Stage.DOT.value, reply)
        if reply.is_permanent:
            return Rejected(cause, reply.status)
        return Open(deferred(cause))  # refused with certainty: another host may be asked without fear of a double

    def _on_end(self, *, reusable: bool) -> After:
        if self._pending:  # the engine ends no transaction with a recipient unanswered; if it did, none may be lost
            raise AssertionError(f"the transaction ended with {len(self._pending)} recipients unanswered")
        if reusable:
            return After.REUSABLE
        self._leaves = True
        return After.SPENT

    # -- the body
    def _send_body(self) -> After | _Goes:
        self._fates.body_begun = True
        octets, session = self._octets, self._connection.session
        if not isinstance(octets, InMemory) or octets.size > ONE_WRITE:
            return _Goes.BODY
        self._send_last(session.send_body(octets.octets) + session.end_body())
        return _ON

    async def _send_blocks(self) -> After | _Goes:
        connection, session = self._connection, self._connection.session
        try:
            async for chunk in self._octets:
                for start in range(0, len(chunk), BLOCK):
                    after = await self._send_block(session.send_body(chunk[start : start + BLOCK]))
                    if after is not _ON:
                        return after
        except StorageError as error:
            connection.note("the body could not be read from the spool: broken off before the final dot")
            connection.abort()
            self._all(deferred(LocalTrouble(f"the body of {self._message.id} could not be read: {error}")))
            return After.SPENT
        self._send_last(session.end_body())
        return _ON

    def _send_last(self, octets: bytes) -> None:
        """Write the end of the body; what `octets` took to make may still have failed, and left nothing in doubt."""
        self._leaving(self._host, [recipient.number for recipient in self._pending.values()])
        self._dot_sent = True
        self._connection.send_last(octets, self._octets.size)

    async def _send_block(self, octets: bytes) -> After | _Goes:
        sent = await self._connection.send(octets)
        heard = await self._connection.overhear()  # also behind a failed write: the peer may have said why
        if not isinstance(heard, Fault) and heard:
            return self._take(heard)
        # A peer that half-closed takes octets still, but could never answer the final dot: that would be in doubt.
        ended = sent if isinstance(sent, Fault) else heard
        return self._lost(ended) if isinstance(ended, Fault) else _ON

    # -- what can end it early
    def _lost(self, fault: Fault) -> After:
        self._connection.abort()
        if self._dot_sent:
            self._leave_in_doubt(fault)
            return After.SPENT
        if self._may_be_stale:
            return After.STALE
        self._all(Open(deferred(ConnectionLost(self._host, self._connection.awaited.value, fault))))
        return After.SPENT

    def _on_closing(self, reply: Reply, stage: Stage | None = None) -> After:
        """The peer ends the session, or is out of step."""
        self._leaves = True
        stage = stage or self._connection.awaited
        cause = Answered(self._host, stage.value, reply)
        if self._dot_sent:
            self._leave_in_doubt(Fault(FaultKind.CLOSED, f"it said {reply}"))
            return After.SPENT
        if self._may_be_stale and reply.code == 421:
            return After.STALE
        refuses_body = stage is Stage.BODY and reply.is_permanent
        self._all(Rejected(cause, reply.status) if refuses_body else Open(deferred(cause)))
        return After.SPENT

    def _on_violation(self, stage: Stage, detail: str) -> After:
        self._connection.note(f"{stage.value}: {detail}")
        self._connection.abort()
        if self._dot_sent:
            self._leave_in_doubt(Fault(FaultKind.GARBLED, detail))
        elif self._may_be_stale:
            return After.STALE
        else:
            self._all(Open(deferred(Misbehaved(self._host, stage.value, detail))))
        return After.SPENT

    @property
    def _may_be_stale(self) -> bool:
        """Whether a loss, silence or nonsense now tells only that the connection had died while it was idle.

        No double can come of saying it all again: commands may have gone out as far as DATA, but no octet of the body,
        and DATA without its final dot is no message (RFC 5321 §4.1.1.10).
        """
        return self._connection.transactions > 1 and not self._answered

    def _all(self, fate: Fate) -> None:
        """The fate of every recipient not yet answered."""
        for recipient in self._pending.values():
            self._fates.record(recipient, fate)
        self._pending.clear()

    def _leave_in_doubt(self, fault: Fault) -> None:
        self._all(InDoubt(self._host, fault))


def _too_many(reply: Reply) -> bool:
    """Whether a reply to RCPT says that the transaction is full (RFC 5321 §4.5.3.1.10), and not that the mailbox is.

    RFC 821 had 552 for it, where today 452 is due.
    """
    status = reply.status
    return reply.code in {452, 552} and (status.subject, status.detail) in {(0, 0), (5, 3)}
