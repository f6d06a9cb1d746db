"""A byte stream to one peer, and the faults that can befall it, as values.

Not here: opening one (dialer.py, listener.py) or what the octets mean (waypost.smtp).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: a numeric address (no brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class FaultKind(Enum):
    """What went wrong on the wire, as a reader of a log wants it called."""

    REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    CLOSED = "closed by the peer"
    RESET = "reset by the peer"
    TLS = "TLS failed"
    GARBLED = "answer not understood"  # octets came, but nothing that could be acted on
    LOCAL = "local failure"  # no descriptor, no port, no permission: not the peer's doing


@dataclass(frozen=True, slots=True)
class Fault:
    """An I/O error, with what the system said of it."""

    kind: FaultKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value


@dataclass(frozen=True, slots=True)
class Flushed:
    """All that was written has been handed to the system."""


class Stream(Protocol):
    """One connection. After a Fault nothing but `abort` is useful; one task reads and writes at a time."""

    @property
    def peer(self) -> Endpoint: ...

    @property
    def local(self) -> Endpoint: ...

    async def read(self, within: timedelta) -> bytes | Fault:
        """At least one octet, or why there is none; end of stream is a Fault of kind CLOSED."""
        ...

    def pending(self) -> bytes | Fault | Flushed:
        """What has already come, without waiting: octets (given back to the next read), a fault, or Flushed: nothing."""
        ...

    def write(self, octets: bytes) -> None:
        """Hand octets over; a fault shows at the next flush or read."""
        ...

    async def flush(self, within: timedelta) -> Flushed | Fault:
        """Wait until little enough is buffered that memory stays bounded (at once, in the common case)."""
        ...

    async def close(self) -> None:
        """Send what is buffered, then close; never raises, waits at most a few seconds."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...
