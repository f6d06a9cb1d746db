"""Who may connect, which reverse-paths are taken, who is copied. Pure; each answer names the line that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from waypost.route.domain import Match, Pattern, to_ascii
from waypost.smtp.path import Mailbox, NullPath, ReversePath
from waypost.smtp.reply import Reply

Network: TypeAlias = IPv4Network | IPv6Network

#: RFC 5321 §3.1: what a client hears in place of the banner; it may say QUIT and no more.
NOT_FROM_YOU: Final = Reply.of(554, "5.7.1", "no mail is taken from your address")
#: What everybody hears while the queue is being flushed (RFC 5321 §3.8).
DRAINING: Final = Reply.of(421, "4.3.2", "this service takes no mail any more; what it has is being delivered")
#: What MAIL is answered where only our own clients may send.
RELAY_CLIENTS_ONLY: Final = Reply.of(550, "5.7.1", "this address takes mail from our own clients only")


@lru_cache(maxsize=1024)
def client_address(host: str) -> IPv4Address | IPv6Address:
    """A client's numeric address; "", a Unix socket's, is of this machine. Raises: ValueError."""
    # Reading an address costs as much as reading a command does; clients come again.
    return ip_address((host or "127.0.0.1").partition("%")[0])


# ---- who may connect
@dataclass(frozen=True, slots=True)
class Entry:
    """One network, and what is done with its clients. `place`: "waypost.toml:12"."""

    network: Network
    accepts: bool
    place: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """No entry has the client in it: it may connect."""

    accepts: bool = True
    place: str = "default"


@dataclass(frozen=True, slots=True)
class Access:
    """The longest prefix decides, whatever the order; of two alike the one that rejects."""

    entries: tuple[Entry, ...] = ()

    def of(self, host: str) -> Entry | Unlisted:
        """What decides on a client at this numeric address."""
        address = client_address(host)
        found = [entry for entry in self.entries if address in entry.network]
        return max(found, key=lambda entry: (entry.network.prefixlen, not entry.accepts), default=_UNLISTED)


_UNLISTED: Final = Unlisted()


#: Nobody is turned away.
OPEN_TO_ALL: Final = Access()


#: What the reason of a message that is held in quarantine begins with.
QUARANTINE: Final = "quarantine: "
#: Where the shelf keeps which messages are there.
QUARANTINED: Final = "quarantine"
#: In place of a route's name: mail is held in the queue, where somebody looks at it.
HELD_BACK: Final = "hold"


# ---- reverse-paths
@dataclass(frozen=True, slots=True)
class SenderBlock:
    """One reverse-path that is not wanted: an address in lower case, a domain, or `<>`."""

    wanted: str | Pattern
    place: str

    def covers(self, path: ReversePath) -> bool:
        """Whether it is about `path`."""
        if isinstance(self.wanted, str):
            return self.wanted == (str(path).lower() or "<>")
        return isinstance(path, Mailbox) and _in_domain(self.wanted, path)


@dataclass(frozen=True, slots=True)
class Unblocked:
    """Nothing is said against it."""


_UNBLOCKED: Final = Unblocked()


@dataclass(frozen=True, slots=True)
class Senders:
    """Reverse-paths that are refused at MAIL; with a `quarantine` (a route, or `HELD_BACK`), taken and set aside."""

    blocks: Sequence[SenderBlock] = ()
    quarantine: str = ""

    def of(self, path: ReversePath) -> SenderBlock | Unblocked:
        """What stands against a reverse-path."""
        return next((block for block in self.blocks if block.covers(path)), _UNBLOCKED)


def refusal_of(path: ReversePath) -> Reply:
    """What MAIL is answered for a blocked reverse-path."""
    return Reply.of(550, "5.7.1", f"mail from <{path}> is not taken here")


def parse_sender(text: str) -> str | Pattern:
    """`ann@bad.example`, `bad.example` with its sub-domains, `=bad.example` alone, or `<>`. Raises: ValueError."""
    if text == "<>" or "@" in text:
        return text.lower()
    pattern = Pattern.parse(text)
    if pattern.match is Match.EVERYTHING:
        raise ValueError('"*" would refuse all mail; name a domain, an address or "<>"')
    return pattern


def _in_domain(pattern: Pattern, path: Mailbox) -> bool:
    try:
        name = to_ascii(str(path.domain))
    except ValueError:
        return False
    return name == pattern.name or (pattern.match is Match.SUFFIX and name.endswith(f".{pattern.name}"))


#: Every reverse-path is taken.
ANY_SENDER: Final = Senders()


# ---- copies
@dataclass(frozen=True, slots=True)
class Copy:
    """Whoever writes to, or from, one of these domains is copied to `to`, unseen. A pattern `*`: everybody."""

    of: tuple[Pattern, ...]
    to: Mailbox
    place: str

    def covers(self, path: object) -> bool:
        """Whether mail from or to `path` is copied."""
        return any(
            pattern.match is Match.EVERYTHING or (isinstance(path, Mailbox) and _in_domain(pattern, path))
            for pattern in self.of
        )


@dataclass(frozen=True, slots=True)
class Copies:
    """All of `[[copy]]`."""

    copies: tuple[Copy, ...] = ()

    def of(self, reverse_path: ReversePath, recipients: Sequence[object]) -> tuple[Copy, ...]:
        """The copies a message makes. None of a notification: a report on a copy must not make another."""
        if not self.copies or isinstance(reverse_path, NullPath):
            return ()
        parties = (reverse_path, *recipients)
        return tuple(copy for copy in self.copies if any(copy.covers(each) for each in parties))


#: Nobody is copied.
NO_COPIES: Final = Copies()
