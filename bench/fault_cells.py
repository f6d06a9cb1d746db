"""The faults that bench/faults.py plays to each relay, and the cells they make: a scenario, and one next hop or two.

A fault is spelt as for `waypost peer --fault` (`ehlo:close`, `mail:421+1*1`), or `starttls:…` and `handshake:…`, which
bench/tls_breaker.py plays. Data only; bench/fault_town.py sets the peers up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Says(Enum):
    """What the next hop's reply means for the message: the measure of a relay's answer to it."""

    NOTHING = "it said nothing of this message, or that it may come again"
    REFUSED = "it refused this message or recipient for good (5yz)"
    MAYBE_TOOK = "it may have taken the message: the final dot came, the client got no reply it could read"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the first next hop does wrong.

    `second`: what counts is the fate of a second message, sent 1.5 s after the first. `octets`: the body's least size.
    `listens`: whether anybody is there at all. `floods`: it costs this machine so much that it is played apart.
    `rule`: why Waypost waits here by its own rule, where a peer may deliver; it changes no mark.
    """

    name: str
    faults: tuple[str, ...] = ()
    says: Says = Says.NOTHING
    second: bool = False
    octets: int = 0
    listens: bool = True
    floods: bool = False
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A scenario with one next hop (the faulty one) or two (a healthy one after it), under a domain of its own."""

    number: int
    scenario: Scenario
    hosts: int

    @property
    def domain(self) -> str:
        """All mail to it goes the way of this cell."""
        return f"c{self.number}.test"

    @property
    def counts(self) -> int:
        """The number of the message whose fate counts."""
        return 2 if self.scenario.second else 1

    def recipient(self, number: int) -> str:
        """The forward-path of message `number` (1 or 2)."""
        return f"user{number}@{self.domain}"

    @property
    def faulty(self) -> str:
        """The first host's address. No two cells share one: what a relay remembers of a host harms no other cell."""
        return f"127.{3 if self.scenario.second else 1}.0.{self.number}"

    @property
    def healthy(self) -> str:
        """The second host's address."""
        return f"127.2.0.{self.number}"


def _in(state: str, *faults: str) -> list[Scenario]:
    """Scenarios of one fault each, in one state."""
    return [Scenario(f"{state} {fault}", (f"{state}:{fault}",), floods=fault == "endless") for fault in faults]


def _refusing(state: str, *codes: str) -> list[Scenario]:
    return [Scenario(f"{state} {code}", (f"{state}:{code}",), Says.REFUSED) for code in codes]


def _doubtful(*faults: str) -> list[Scenario]:
    return [Scenario(f"final dot {fault}", (f"dot:{fault}",), Says.MAYBE_TOOK) for fault in faults]


def _kept(name: str, fault: str) -> Scenario:
    return Scenario(f"kept connection: {name}", (fault,), second=True)


def _mended(fault: str) -> Scenario:
    """The fault strikes the first message alone; the second finds a host that is well again."""
    return Scenario(f"next message, after {fault.replace(':', ' ')}", (f"{fault}*1",), second=True)


ASKS_FOR_TIME: Final = (
    "4yz to EHLO means that the host knows EHLO and asks for time. HELO on the same connection would get the mail "
    "through a minute sooner, and give up TLS, SIZE and DSN for it, so a fault of a moment would send mail in clear. "
    "Waypost asks the next host, and where there is none it waits"
)
CONTROL: Final = Scenario("no fault")

SCENARIOS: Final = (
    Scenario("connect refused", listens=False),
    *_in("banner", "close", "reset", "stall", "554", "421", "garbage"),
    *_in("ehlo", "close", "reset", "stall", "truncated", "garbage", "endless"),
    Scenario("ehlo long", ("ehlo:250 " + "long" * 25_000,)),
    *_in("ehlo", "421"),
    Scenario("ehlo 450", ("ehlo:450",), rule=ASKS_FOR_TIME),
    *_in("ehlo", "500", "502", "550"),
    Scenario("ehlo 502, helo close", ("ehlo:502", "helo:close")),
    Scenario("ehlo close, helo close", ("ehlo:close", "helo:close")),
    *_in("starttls", "502", "454", "close"),
    *_in("handshake", "close", "reset", "garbage", "stall"),
    *_in("mail", "close", "stall", "421", "450"),
    *_refusing("mail", "550"),
    *_in("rcpt", "close", "421", "450", "452"),
    *_refusing("rcpt", "550"),
    *_in("data", "close", "450", "wrong"),
    *_refusing("data", "550"),
    Scenario("body close", ("body:close",), octets=300_000),
    Scenario("body reset", ("body:reset",), octets=300_000),
    *_doubtful("close", "reset", "stall", "garbage", "truncated"),
    Scenario("final dot 421", ("dot:421",)),
    Scenario("final dot 450", ("dot:450",)),
    Scenario("final dot 550", ("dot:550",), Says.REFUSED),
    *_in("quit", "close", "reset", "stall", "550"),
    _kept("closed meanwhile", "idle:close"),
    _kept("reset meanwhile", "idle:reset"),
    _kept("421 meanwhile", "idle:421"),
    _kept("garbage meanwhile", "idle:garbage"),
    _kept("silent meanwhile", "idle:stall*1"),
    _kept("421 to MAIL", "mail:421+1*1"),
    _kept("close at MAIL", "mail:close+1*1"),
    _kept("stall at MAIL", "mail:stall+1*1"),
    _kept("421 to RSET", "rset:421"),
    *map(_mended, ("banner:close", "banner:421", "ehlo:close", "mail:421", "rcpt:450", "dot:close", "dot:450")),
    CONTROL,
)


def cells(scenarios: Iterable[Scenario] = SCENARIOS) -> list[Cell]:
    """Each scenario with one next hop, and with two."""
    pairs = [(scenario, hosts) for scenario in scenarios for hosts in (1, 2)]
    return [Cell(number, scenario, hosts) for number, (scenario, hosts) in enumerate(pairs, 1)]
