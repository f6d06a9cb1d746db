"""What became of each recipient, gathered while an attempt runs.

Replies are final as they are read: whatever happens to the connection, or to our own code, afterwards, a recipient that
was answered stays answered. This is why fates are written down here, and not returned at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from waypost.mail.envelope import QueuedRecipient
from waypost.mail.outcome import (
    Answered,
    Cause,
    ConnectionLost,
    Deferred,
    DnsFailed,
    Expired,
    HttpAnswered,
    LocalTrouble,
    Misbehaved,
    NoSuchHost,
    NotConnected,
    Outcome,
    PolicyRefused,
    ProgramEnded,
    Rejected,
)
from waypost.smtp.reply import EnhancedStatus


@dataclass(frozen=True, slots=True)
class Open:
    """Not answered for good: another host may be tried in this attempt. Where none is left, it is `otherwise`."""

    otherwise: Deferred | Rejected


Fate: TypeAlias = Outcome | Open


def deferred(cause: Cause) -> Deferred:
    """Deferred for `cause`, with the status that goes with it (RFC 3463)."""
    return Deferred(cause, _transient_status(cause))


def _transient_status(cause: Cause) -> EnhancedStatus:
    match cause:
        case Answered(_, _, reply):
            return reply.status.as_transient()
        case NotConnected():
            return EnhancedStatus(4, 4, 1)
        case ConnectionLost():
            return EnhancedStatus(4, 4, 2)
        case Misbehaved():
            return EnhancedStatus(4, 5, 0)
        case DnsFailed():
            return EnhancedStatus(4, 4, 3)
        case LocalTrouble() | HttpAnswered() | ProgramEnded():
            return EnhancedStatus(4, 3, 0)
        case NoSuchHost(_, _, status) | PolicyRefused(_, status):
            return status.as_transient()
        case Expired():
            return EnhancedStatus(4, 4, 7)
        case _:
            assert_never(cause)


class Fates:
    """The fates of one attempt's recipients, by their number."""

    def __init__(self, recipients: Sequence[QueuedRecipient]) -> None:
        self._recipients = recipients
        self._outcomes: dict[int, Outcome] = {}
        self._open: dict[int, Open] = {}
        #: Whether a body is on its way: from its first octet to the transaction's end. Then it is worth waiting for.
        self.body_begun = False

    @property
    def is_blank(self) -> bool:
        """Whether nothing came of the attempt so far: no recipient has an outcome, and no body is on its way."""
        return not self._outcomes and not self.body_begun

    def record(self, recipient: QueuedRecipient, fate: Fate) -> None:
        """Write down what became of a recipient; the first outcome stands."""
        number = recipient.number
        if number in self._outcomes:
            return
        if isinstance(fate, Open):
            self._open[number] = _milder(self._open.get(number, fate), fate)
        else:
            self._outcomes[number] = fate

    @property
    def has_open(self) -> bool:
        """Whether a recipient is without an outcome."""
        return len(self._outcomes) < len(self._recipients)

    def open(self) -> list[QueuedRecipient]:
        """The recipients without an outcome, in their order."""
        return [recipient for recipient in self._recipients if recipient.number not in self._outcomes]

    def left_open(self, recipients: Sequence[QueuedRecipient]) -> list[Open]:
        """Why those of `recipients` that a host was asked about, in vain, are open."""
        numbers = (recipient.number for recipient in recipients)
        return [self._open[number] for number in numbers if number in self._open and number not in self._outcomes]

    def closed(self, unasked: Outcome) -> tuple[tuple[QueuedRecipient, Outcome], ...]:
        """Every recipient with its outcome at the attempt's end; `unasked` for those no host was asked of."""
        return tuple([(recipient, self._closed(recipient.number, unasked)) for recipient in self._recipients])

    def _closed(self, number: int, unasked: Outcome) -> Outcome:
        if number in self._outcomes:
            return self._outcomes[number]
        return self._open[number].otherwise if number in self._open else unasked


def _milder(earlier: Open, later: Open) -> Open:
    """A lack that would reject holds only if every host had it: one that was not reached might have taken the mail."""
    if isinstance(later.otherwise, Rejected) and isinstance(earlier.otherwise, Deferred):
        return earlier
    return later
