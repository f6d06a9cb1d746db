"""The question "what would become of this message?" and its answer. Values; journey.py finds them."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.mail.addresses import places_in
from waypost.mail.header import header_of
from waypost.mail.trace import HeaderScan


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What of a message counts on its way. `size` in octets with CRLF, 0 where no message was given.

    `author`: the first address in its From, "" where it has none. `priority`: what its MT-Priority says, from -9 to 9.
    """

    size: int = 0
    hops: int = 0  # Received lines
    is_ascii: bool = True
    author: str = ""
    priority: int = 0


def message_facts(octets: bytes) -> MessageFacts:
    """What counts of the message `octets`, whose lines end in CRLF."""
    scan = HeaderScan()
    scan.feed(octets)
    authors = [str(place.mailbox) for place in places_in(header_of(octets)) if place.field == b"from"]
    return MessageFacts(len(octets), scan.received, octets.isascii(), next(iter(authors), ""), scan.priority)


@dataclass(frozen=True, slots=True)
class Question:
    """A message that might be sent. `client`: its numeric address; `account`: "" where nobody logs in.

    `priority`: what MAIL says in MT-PRIORITY, from -9 to 9 (RFC 6710); 0 where it says nothing.
    """

    recipients: tuple[str, ...]
    client: str = "127.0.0.1"
    account: str = ""
    reverse_path: str = ""
    message: MessageFacts = MessageFacts()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """One step. `place`: the line that decided it, or "default", or who knows ("DNS", "the service").

    `details`: what it is made of, a line each. `stops`: the message gets no further than this.
    """

    step: str
    text: str
    place: str
    details: tuple[str, ...] = ()
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Leg:
    """One recipient that the message would have, and its way."""

    recipient: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Journey:
    """One RCPT: its reply, how it was come to, and whom it leads to."""

    recipient: str
    reply: str
    is_taken: bool
    facts: tuple[Fact, ...]
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `is_taken`: the client may begin a transaction; else its reason stands in `facts`."""

    question: Question
    facts: tuple[Fact, ...]
    is_taken: bool
    journeys: tuple[Journey, ...]
