"""What DNS says of a domain, and what this machine refuses us: cells without a dialogue, and what they come to. Data.

docs/fault-matrix.md is made of this module too (page.py); the plays are in test_names.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.net.dns_server import Misbehaviour

ONE, TWO = "192.0.2.1", "192.0.2.2"


class Fate(Enum):
    """What becomes of the message in this attempt. The value is how the table writes it."""

    HERE = "delivered"
    SECOND = "delivered to the second exchanger"
    LATER = "deferred"
    RETURNED = "rejected"


@dataclass(frozen=True, slots=True)
class NameCell:
    """One answer of DNS to the question where mail for far.example goes. `zone`: what the server knows."""

    name: str
    zone: str
    fate: Fate
    status: str = ""  # of a deferral or rejection
    misbehave: Mapping[str, Misbehaviour] = field(default_factory=dict)
    why: str = ""


_TWO_EXCHANGERS: Final = f"""\
far.example. 300 MX 10 mx1.far.example.
far.example. 300 MX 20 mx2.far.example.
mx1.far.example. 300 A {ONE}
mx2.far.example. 300 A {TWO}
"""
_ALL_GONE: Final = "far.example. 300 MX 10 mx1.far.example.\nfar.example. 300 MX 20 mx2.far.example."


def _trouble(name: str, kind: Misbehaviour, why: str = "") -> NameCell:
    return NameCell(name, _TWO_EXCHANGERS, Fate.LATER, "4.4.3", {"far.example": kind}, why)


NAMES: Final[Sequence[NameCell]] = (
    NameCell("MX records", _TWO_EXCHANGERS, Fate.HERE),
    NameCell("no MX, an address", f"far.example. 300 A {ONE}", Fate.HERE, why="The implicit MX (RFC 5321 §5.1)."),
    NameCell("no such domain", "", Fate.RETURNED, "5.1.2", why="An authority says so; RFC 5321 §5.1 bids an error."),
    NameCell("null MX", "far.example. 300 MX 0 .", Fate.RETURNED, "5.1.10", why="The domain takes no mail (RFC 7505)."),
    NameCell(
        "no MX, no address",
        "far.example. 300 TXT nothing",
        Fate.RETURNED,
        "5.4.4",
        why="It exists, and there is no place for its mail.",
    ),
    NameCell(
        "no exchanger has an address",
        _ALL_GONE,
        Fate.RETURNED,
        "5.4.4",
        why="Where MX records are present and none is usable, that MUST be reported as an error (RFC 5321 §5.1). Only "
        "names count that DNS says have no address; one that it is silent on makes the mail wait.",
    ),
    NameCell(
        "one exchanger has no address",
        _TWO_EXCHANGERS.replace(f"mx1.far.example. 300 A {ONE}\n", ""),
        Fate.SECOND,
        why="The next exchanger is asked.",
    ),
    NameCell(
        "one exchanger's address cannot be found out",
        _TWO_EXCHANGERS,
        Fate.SECOND,
        misbehave={"mx1.far.example": Misbehaviour.SERVFAIL},
        why="As if it were down.",
    ),
    NameCell(
        "no exchanger's address can be found out",
        _TWO_EXCHANGERS,
        Fate.LATER,
        "4.4.3",
        {"mx1.far.example": Misbehaviour.SERVFAIL, "mx2.far.example": Misbehaviour.SERVFAIL},
        why="Trouble of DNS is no word about the domain.",
    ),
    NameCell(
        "every exchanger is this machine's loopback",
        "far.example. 300 MX 10 mx1.far.example.\nmx1.far.example. 300 A 127.0.0.1",
        Fate.RETURNED,
        "5.4.4",
        why="It leads nowhere, but in a circle.",
    ),
    NameCell(
        "one exchanger is this machine's loopback",
        _TWO_EXCHANGERS.replace(ONE, "127.0.0.1"),
        Fate.SECOND,
        why="It is left out.",
    ),
    NameCell(
        "the best exchanger is ourselves",
        "far.example. 300 MX 10 mx.example.net.\nfar.example. 300 MX 20 mx2.far.example.\n"
        f"mx.example.net. 300 A {ONE}\nmx2.far.example. 300 A {TWO}",
        Fate.RETURNED,
        "5.4.6",
        why="To hand it to a worse one would be a loop (RFC 5321 §5.1).",
    ),
    NameCell(
        "an alias",
        f"far.example. 300 CNAME real.example.\nreal.example. 300 MX 10 mx1.far.example.\nmx1.far.example. 300 A {ONE}",
        Fate.HERE,
        why="Aliases are followed.",
    ),
    NameCell(
        "aliases in a circle",
        "far.example. 300 CNAME a.example.\na.example. 300 CNAME b.example.\nb.example. 300 CNAME a.example.",
        Fate.LATER,
        "4.4.3",
        why="It says nothing of the domain, and somebody may mend it; in the end the mail expires.",
    ),
    _trouble(
        "SERVFAIL",
        Misbehaviour.SERVFAIL,
        "Also what fails the resolver's DNSSEC validation: never taken for an answer.",
    ),
    _trouble("REFUSED", Misbehaviour.REFUSED),
    _trouble("no answer", Misbehaviour.SILENCE),
    _trouble("garbage", Misbehaviour.GARBAGE),
    _trouble("a referral (lame server)", Misbehaviour.REFERRAL),
    _trouble("truncated, and TCP broken off", Misbehaviour.CUT_OFF),
    NameCell(
        "truncated",
        _TWO_EXCHANGERS,
        Fate.HERE,
        misbehave={"far.example": Misbehaviour.TRUNCATED},
        why="It is asked again over TCP.",
    ),
    NameCell(
        "an answer to another question first",
        _TWO_EXCHANGERS,
        Fate.HERE,
        misbehave={"far.example": Misbehaviour.STRAY_FIRST},
        why="It is passed over.",
    ),
    NameCell(
        "FORMERR to EDNS",
        _TWO_EXCHANGERS,
        Fate.HERE,
        misbehave={"far.example": Misbehaviour.NO_EDNS},
        why="It is asked again without.",
    ),
)


@dataclass(frozen=True, slots=True)
class MachineCell:
    """What the system says when a connection is to be made. `number`: the error's."""

    name: str
    number: str  # a name in errno
    blames_host: bool
    why: str


LOCAL_WHY: Final = (
    "Deferred at every host; no destination rests for it, and mail for all goes on as soon as the machine does."
)
MACHINE: Final[Sequence[MachineCell]] = (
    MachineCell("no descriptor", "EMFILE", blames_host=False, why=LOCAL_WHY),
    MachineCell("no descriptor in the whole system", "ENFILE", blames_host=False, why=LOCAL_WHY),
    MachineCell("no port is left", "EADDRNOTAVAIL", blames_host=False, why=LOCAL_WHY),
    MachineCell("no buffer", "ENOBUFS", blames_host=False, why=LOCAL_WHY),
    MachineCell("no memory", "ENOMEM", blames_host=False, why=LOCAL_WHY),
    MachineCell("not allowed", "EACCES", blames_host=False, why=f"A firewall of ours, or a policy. {LOCAL_WHY}"),
    MachineCell("not permitted", "EPERM", blames_host=False, why=f"The same. {LOCAL_WHY}"),
    MachineCell("no such protocol family", "EAFNOSUPPORT", blames_host=False, why="No IPv6 here: the next address."),
    MachineCell("connection refused", "ECONNREFUSED", blames_host=True, why="The next host is asked."),
    MachineCell("no route to the host", "EHOSTUNREACH", blames_host=True, why="ICMP says so; the next host is asked."),
    MachineCell("no route to the network", "ENETUNREACH", blames_host=True, why="The same; where IPv6 has none, IPv4."),
    MachineCell("time-out of the system", "ETIMEDOUT", blames_host=True, why="The next host is asked."),
    MachineCell("reset while it was made", "ECONNRESET", blames_host=True, why="The next host is asked."),
)
