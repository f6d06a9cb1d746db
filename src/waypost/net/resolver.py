"""DNS as this service asks it: questions, and answers that keep "no such name" and "no answer" apart.

One bounces mail, the other never does. Each answer tells how long it holds, and whether DNSSEC vouches for it.

Not here: asking (stub_resolver.py), and what an answer means for mail (waypost.route). Names are absolute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Standing:
    """What an answer is worth beside what it says."""

    ttl: timedelta = timedelta()  # how long it may be believed, counted from when it was given
    #: A resolver that we trust has validated it by DNSSEC (the AD bit, RFC 4035 §3.2.3).
    authenticated: bool = False


#: The default beside an answer. It is no part of what the answer says: two that say the same are equal, however they
#: were come by.
UNVOUCHED: Final = Standing()


@dataclass(frozen=True, slots=True)
class MxRecord:
    """One MX record; `host` is lower case without the final dot."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class MxRecords:
    """At least one MX record. `canonical`: as for addresses."""

    records: tuple[MxRecord, ...]
    standing: Standing = field(default=UNVOUCHED, compare=False)
    canonical: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class NullMx:
    """A single MX of `.`: this domain takes no mail (RFC 7505)."""

    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class Addresses:
    """At least one address, IPv6 before IPv4 as RFC 6724 has it, in text form.

    `canonical`: the name they stand under, where CNAMEs lead from the one asked for to another; else "".
    """

    addresses: tuple[str, ...]
    standing: Standing = field(default=UNVOUCHED, compare=False)
    canonical: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """One TLSA record as it stands in DNS (RFC 6698 §2.1); any number may stand where a registry has none."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class TlsaRecords:
    """At least one TLSA record."""

    records: tuple[TlsaRecord, ...]
    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class Texts:
    """At least one TXT record, the strings of each joined; in octets, as DNS has them."""

    texts: tuple[bytes, ...]
    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class Alias:
    """The name is a CNAME; `target` is lower case without the final dot."""

    target: str
    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class NoRecords:
    """The name exists, but holds nothing of the kind asked for."""

    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """NXDOMAIN, said with authority."""

    standing: Standing = field(default=UNVOUCHED, compare=False)


@dataclass(frozen=True, slots=True)
class DnsTrouble:
    """No usable answer (time-out, SERVFAIL, refused, malformed, looping CNAME): ask again later, bounce nothing.

    What fails DNSSEC's validation is SERVFAIL to us: it is never taken for an answer.
    """

    detail: str


Nothing: TypeAlias = NoRecords | NoSuchName | DnsTrouble
MxAnswer: TypeAlias = MxRecords | NullMx | Nothing
AddressAnswer: TypeAlias = Addresses | Nothing
TlsaAnswer: TypeAlias = TlsaRecords | Nothing
TextAnswer: TypeAlias = Texts | Nothing
AliasAnswer: TypeAlias = Alias | Nothing


class Resolver(Protocol):
    """Where names are looked up; names are absolute, never completed by a search list."""

    async def mx(self, domain: str) -> MxAnswer: ...

    async def addresses(self, host: str) -> AddressAnswer: ...

    async def tlsa(self, name: str) -> TlsaAnswer:
        """`name` with its port and protocol in front, as in `_25._tcp.mx.example.org`; a CNAME is followed."""
        ...

    async def texts(self, name: str) -> TextAnswer: ...

    async def alias(self, name: str) -> AliasAnswer:
        """The CNAME at `name` itself: what vouches for it may differ from what vouches for what it leads to."""
        ...
