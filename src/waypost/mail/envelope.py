"""The envelope of a message, before it is stored and after: two types, because they know different things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NewType, Protocol, TypeAlias

from waypost.net.clock import Instant
from waypost.smtp.extension import MailParameters, RcptParameters, by_of
from waypost.smtp.path import ForwardPath, ReversePath

MessageId = NewType("MessageId", str)
"""Our name for one queued message: 13 characters, in the order of their making; also `id` in its Received line."""

NextHop = NewType("NextHop", str)
"""The key of a destination: what concurrency, back-off and leases are counted by (route/table.py makes it)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from: for the trace header, the log and `trace`."""

    protocol: str  # the "with" word of RFC 3848: SMTP, ESMTP, ESMTPS, LMTP, UTF8SMTP …; "local" for our own
    client_host: str = ""  # numeric address; empty for our own messages
    client_name: str = ""  # what it said in EHLO
    listener: str = ""  # the address it connected to
    account: str = ""  # who had authenticated; empty: nobody
    tls: str = ""  # version, cipher suite, and the client's certificate where it was asked for one; empty in clear
    revision: str = ""  # of the configuration that chose its routes; empty for our own


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT that was accepted, and the destination its route leads to."""

    forward_path: ForwardPath
    next_hop: NextHop
    parameters: RcptParameters = field(default_factory=RcptParameters)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What MAIL and RCPT said, as it is handed to the queue. `released_at`: not to be tried before (RFC 4865).

    `tls_optional`: the header says `TLS-Required: No` (RFC 8689 §3).
    `held`: why it is set aside at once, until somebody releases it; "" for all mail but what is in quarantine.
    `message_id`: the header's Message-ID without its brackets, to be found by; "" where there is none.
    `traceparent`: the W3C trace context it belongs to, and its span there (trace_context.py); "" where there is none.
    """

    reverse_path: ReversePath
    recipients: tuple[Recipient, ...]
    origin: Origin
    parameters: MailParameters = field(default_factory=MailParameters)
    released_at: Instant = 0.0
    tls_optional: bool = False
    held: str = ""
    message_id: str = ""
    traceparent: str = ""


class Octets(Protocol):
    """The octets of a stored message, in chunks of bounded size: memory does not grow with the message."""

    @property
    def size(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks in order. Raises: StorageError, where the spool cannot be read (then nothing may be sent on)."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """Octets that are in memory anyway: a small message just received."""

    octets: bytes

    @property
    def size(self) -> int:
        """Length in octets."""
        return len(self.octets)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.octets


@dataclass(frozen=True, slots=True)
class Prefixed:
    """Octets with some more in front of them."""

    prefix: bytes
    rest: Octets

    @property
    def size(self) -> int:
        """Length in octets."""
        return len(self.prefix) + self.rest.size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.prefix
        async for chunk in self.rest:
            yield chunk


@dataclass(frozen=True, slots=True)
class NotInDoubt:
    """No earlier attempt ended between the final dot and its reply."""


@dataclass(frozen=True, slots=True)
class PossiblyAt:
    """An earlier attempt ended after the final dot: `host` (numeric address and port, as text) may hold a copy."""

    host: str


Doubt: TypeAlias = NotInDoubt | PossiblyAt


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient that waits in the queue. `number` counts from 0 within the message."""

    number: int
    forward_path: ForwardPath
    parameters: RcptParameters
    attempts: int  # attempts ended so far
    delay_reported: bool
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as the queue keeps it, without its recipients."""

    id: MessageId
    reverse_path: ReversePath
    parameters: MailParameters
    origin: Origin
    received_at: Instant
    size: int
    released_at: Instant = 0.0  # where its author wants it held until then
    tls_optional: bool = False  # its author would have it delivered rather than kept from others (RFC 8689 §3)
    traceparent: str = ""  # as Envelope has it

    @property
    def deliver_by(self) -> Instant:
        """When it is to have been delivered, of meaning where `parameters.by` is set (RFC 2852)."""
        return self.received_at + by_of(self.parameters.by).seconds

    @property
    def began_at(self) -> Instant:
        """When the time for its delivery began: at its receipt, or its release."""
        return max(self.received_at, self.released_at)
