"""How much a server bears of a client before it ends the session: errors, refusals, and commands that lead nowhere.

Not here: how long it waits (receive/), and what a client may do in all (policy/).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from waypost.smtp.answer import CHUNK_LOST, RCPT_DUE, TOO_IDLE, TOO_MANY_ERRORS, TOO_MANY_REFUSALS
from waypost.smtp.reply import Reply

#: Commands that bring no message nearer (NOOP, RSET, VRFY, EXPN, HELP) before the session is ended: a client that
#: keeps a connection warm says a few, one that says a hundred holds it for nothing. EHLO again is one of them.
IDLE_COMMANDS: Final = 100
#: Refusals of any kind before the session is ended: ten times the recipients of a large list that are all wrong, or
#: too many; a client that goes on after them collects addresses.
REFUSALS: Final = 10_000

#: The codes that count as errors of the client. Not the limits (452, 552), nor DATA without recipients, nor a chunk
#: behind one that was refused: a pipelining client meets these in good order.
_ERRORS: Final = frozenset({500, 501, 502, 503, 555})
_NO_ERRORS: Final = frozenset({RCPT_DUE, CHUNK_LOST})


class Bearable(Enum):
    """It goes on."""

    BEARABLE = auto()


BEARABLE: Final = Bearable.BEARABLE


@dataclass(frozen=True, slots=True)
class Enough:
    """The session ends with `reply`; `reason` is for the log."""

    reply: Reply
    reason: str


Judgement: TypeAlias = Enough | Bearable


class Patience:
    """With one client; each question counts once more what it is named after."""

    def __init__(self, max_errors: int) -> None:
        """`max_errors`: refusals by the session itself, of `_ERRORS`."""
        self._max_errors = max_errors
        self._errors = 0
        self._refusals = 0
        self._idle = 0

    def renew(self) -> None:
        """A message came: what led nowhere before it is forgiven."""
        self._idle = 0

    def after_idle(self) -> Judgement:
        """A command that brought no message nearer."""
        self._idle += 1
        return Enough(TOO_IDLE, "too many commands without a message") if self._idle >= IDLE_COMMANDS else BEARABLE

    def after_refusal(self) -> Judgement:
        """A command that the caller has refused."""
        self._refusals += 1
        return Enough(TOO_MANY_REFUSALS, "too many refused commands") if self._refusals == REFUSALS else BEARABLE

    def after_error(self, reply: Reply) -> Judgement:
        """A command that the session has refused by itself, with `reply`."""
        self._errors += reply.code in _ERRORS and reply not in _NO_ERRORS
        if self._errors >= self._max_errors:
            return Enough(TOO_MANY_ERRORS, "too many errors")
        return self.after_refusal()
