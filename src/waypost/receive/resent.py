"""Messages whose 250 may not have reached their client: who sends one again has it taken once (RFC 1047).

A message is durable before its 250 leaves. Where the connection breaks at that moment, the client cannot know, and has
to send again; every relay then delivers twice. Here the session that broke so leaves the message's fingerprint, and the
same client with the same envelope and the same octets is told 250, with the name the message has already.

Only for a message with a Message-ID, whose body was in memory; for a while; by this process alone. A device that sends
the same words each time, without an id, means each of them. All else is kept twice, as ever.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.mail.envelope import Envelope, InMemory, MessageId
from waypost.net.clock import Clock
from waypost.queue.storage import Draft
from waypost.receive.body import InFlight

_MESSAGE_ID: Final = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)
#: Fingerprints remembered: a network that breaks for all clients at once leaves one each.
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent. The first `trace` of the octets are ours, and differ each time."""

    client: str
    envelope: Envelope
    octets: InMemory | Draft
    trace: int

    @property
    def held(self) -> int:
        """Octets it keeps in memory."""
        return self.octets.size if isinstance(self.octets, InMemory) else 0

    def is_itself(self) -> bool:
        """Whether nothing else can be alike: it says of itself which message it is (RFC 5322 §3.6.4)."""
        return _MESSAGE_ID.search(bytes(self._body()).partition(b"\r\n\r\n")[0]) is not None

    def fingerprint(self) -> bytes:
        """Alike only for what is alike: a cryptographic digest of all of it."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.digest()

    def _parts(self) -> Sequence[bytes | memoryview]:
        envelope = self.envelope
        said = (self.client, envelope.origin.account, str(envelope.reverse_path), repr(envelope.parameters))
        recipients = sorted(f"{one.forward_path} {one.parameters!r}" for one in envelope.recipients)
        return (*(text.encode("utf-8", "surrogateescape") for text in (*said, *recipients)), self._body())

    def _body(self) -> memoryview:
        return memoryview(self.octets.octets if isinstance(self.octets, InMemory) else b"")[self.trace :]


class Unheard:
    """A message that is durable, until its client shows that it read the 250; its octets count as held in memory."""

    __slots__ = ("_in_flight", "_name", "_sent")

    def __init__(self, sent: Sent, name: MessageId, in_flight: InFlight) -> None:
        self._sent = sent
        self._name = name
        self._in_flight = in_flight
        in_flight.held += sent.held

    def heard(self) -> None:
        """The client went on: it has its 250."""
        self._in_flight.held -= self._sent.held

    def lost(self, resent: Resent) -> None:
        """The session ended before it did."""
        self.heard()
        if self._sent.is_itself():
            resent.remember(self._sent, self._name)


class Resent:
    """The fingerprints, oldest first. Where nothing was lost there are none, and to ask costs nothing."""

    def __init__(self, clock: Clock, window: timedelta) -> None:
        self._clock = clock
        self._window = window.total_seconds()
        self._known: OrderedDict[bytes, tuple[MessageId, float]] = OrderedDict()

    def remember(self, sent: Sent, name: MessageId) -> None:
        """The client of this message may never have read its 250."""
        self._known[sent.fingerprint()] = (name, self._clock.monotonic() + self._window)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def names(self, sent: Sent) -> Sequence[MessageId]:
        """The message this one is, or none."""
        if not self._known or not sent.held:
            return ()
        name, until = self._known.get(sent.fingerprint(), (MessageId(""), 0.0))
        return (name,) if until > self._clock.monotonic() else ()
