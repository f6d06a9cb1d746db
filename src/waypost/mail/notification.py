"""What a report is made of, before it is worded and composed: values only.

Not here: the person's part (letter.py) and the message (dsn.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from waypost.mail.envelope import Doubt, MessageId, QueuedMessage
from waypost.net.clock import Instant
from waypost.smtp.path import ForwardPath


class Action(Enum):
    """What became of the recipients a report speaks of (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What a report says of one recipient; the texts as `explain.report_fields` gives them."""

    forward_path: ForwardPath
    original_recipient: str  # ORCPT as "type;address", "" where none was given
    status: str
    diagnostic: str
    remote_mta: str
    explanation: str
    last_attempt: Instant
    retry_until: Instant  # said of delays only
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Whole:
    """All octets of the original."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class HeaderOnly:
    """The first octets of the original, of which the header is returned."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The original's octets cannot be read any more: nothing of it is returned."""


Original: TypeAlias = Whole | HeaderOnly | Unreadable


@dataclass(frozen=True, slots=True)
class ToAuthor:
    """The report goes where the message came from: its reverse-path."""

    mailbox: ForwardPath


@dataclass(frozen=True, slots=True)
class ToPostmaster:
    """The report goes to our postmaster instead; `because` is a sentence."""

    mailbox: ForwardPath
    because: str


Addressee: TypeAlias = ToAuthor | ToPostmaster


@dataclass(frozen=True, slots=True)
class Notification:
    """All that one report is made of. `id` and `now` are the report's own; `hostname` is ours."""

    action: Action
    message: QueuedMessage
    recipients: Sequence[RecipientStatus]
    original: Original
    addressee: Addressee
    hostname: str
    id: MessageId
    now: Instant

    @property
    def international(self) -> bool:
        """Whether it needs SMTPUTF8 on its way; where not, nothing in it may be UTF-8 header text as it is."""
        return not str(self.addressee.mailbox).isascii()
