"""DNS as this service asks it, with "no such name" and "no answer" kept apart.

INTERFACE SKETCH: the dnspython form, with its TTL cache, is written by the author of route/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class MxRecord:
    """One MX record; `host` is lower case without the final dot."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class MxRecords:
    """At least one MX record."""

    records: tuple[MxRecord, ...]


@dataclass(frozen=True, slots=True)
class NullMx:
    """A single MX of `.`: this domain takes no mail (RFC 7505)."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """At least one address, IPv6 before IPv4 as RFC 6724 has it, in text form."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoRecords:
    """The name exists, but holds nothing of the kind asked for."""


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """NXDOMAIN, said with authority."""


@dataclass(frozen=True, slots=True)
class DnsTrouble:
    """No usable answer (time-out, SERVFAIL, refused, malformed, looping CNAME): ask again later, bounce nothing."""

    detail: str


MxAnswer: TypeAlias = MxRecords | NullMx | NoRecords | NoSuchName | DnsTrouble
AddressAnswer: TypeAlias = Addresses | NoRecords | NoSuchName | DnsTrouble


class Resolver(Protocol):
    """Where names are looked up; names are absolute, never completed by a search list."""

    async def mx(self, domain: str) -> MxAnswer: ...

    async def addresses(self, host: str) -> AddressAnswer: ...
