"""Each fault in each state: what becomes of the recipient, and how often the message was taken."""

from __future__ import annotations

from enum import Enum

import pytest

from tests.deliver.peer import Behaviour, Peer, World, Wrong, lease
from tests.virtual import virtual
from waypost.mail.envelope import InMemory
from waypost.mail.outcome import Deferred, Delivered, InDoubt, Outcome, Rejected


class Fate(Enum):
    """What a cell comes to."""

    HERE = "delivered by this host, in the same attempt"
    NEXT = "the next host at once; where there is none, deferred"
    DEFERRED = "deferred, and no other host asked"
    REJECTED = "rejected, and no other host asked"
    IN_DOUBT = "in doubt, and no other host asked"


WRONGS: dict[Behaviour, Fate] = dict.fromkeys(Wrong, Fate.NEXT)
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000

GRID: dict[str, dict[Behaviour, Fate]] = {
    "banner": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "554 5.3.2 not you": Fate.NEXT,
        "354 what": Fate.NEXT,
    },
    "EHLO": {
        **dict.fromkeys(Wrong, Fate.HERE),
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "500 5.5.2 what": Fate.HERE,
        "502 5.5.1 no": Fate.HERE,
        "550 5.7.1 no": Fate.HERE,
        "554 5.7.1 no": Fate.HERE,
        "521 no": Fate.HERE,
        "354 what": Fate.HERE,
        "250 peer.example\r\n250 nobody asked": Fate.HERE,
        "250 peer.example\r\n421 4.3.2 later": Fate.NEXT,
    },
    "HELO": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "550 5.7.1 no": Fate.NEXT,
        "354 what": Fate.NEXT,
        "250 peer.example\r\n250 nobody asked": Fate.NEXT,
    },
    "MAIL": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "550 5.7.1 no": Fate.REJECTED,
        "552 5.3.4 too large": Fate.REJECTED,
        "354 what": Fate.NEXT,
    },
    "RCPT": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "450 4.2.1 later": Fate.NEXT,
        "452 4.5.3 too many": Fate.NEXT,
        "550 5.1.1 nobody": Fate.REJECTED,
        "354 what": Fate.NEXT,
    },
    "DATA": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "554 5.6.0 no": Fate.REJECTED,
        "250 what": Fate.NEXT,
        "354 go on\r\n250 nobody asked": Fate.NEXT,
        "354 go on\r\n421 4.3.2 later": Fate.NEXT,
        "354 go on\r\n552 5.3.4 too large": Fate.REJECTED,
    },
    "body": {
        **WRONGS,
        "421 4.3.2 later": Fate.NEXT,
        "451 4.3.0 later": Fate.NEXT,
        "552 5.3.4 too large": Fate.REJECTED,
        "250 what": Fate.NEXT,
    },
    "dot": {
        **dict.fromkeys(Wrong, Fate.IN_DOUBT),
        "421 4.3.2 later": Fate.DEFERRED,
        "451 4.3.0 later": Fate.DEFERRED,
        "554 5.6.0 no": Fate.REJECTED,
        "354 what": Fate.IN_DOUBT,
    },
    "QUIT": {
        **dict.fromkeys(Wrong, Fate.HERE),
        "421 4.3.2 later": Fate.HERE,
        "451 4.3.0 later": Fate.HERE,
        "554 5.6.0 no": Fate.HERE,
    },
}


def _short(wrong: Behaviour) -> str:
    return wrong.name if isinstance(wrong, Enum) else "+".join(line[:3] for line in wrong.split("\r\n"))


CELLS = [
    pytest.param(state, wrong, fate, id=f"{state}-{_short(wrong)}")
    for state, row in GRID.items()
    for wrong, fate in row.items()
]
PLAIN = ("8BITMIME",)
ALONE: dict[Fate, type[Outcome]] = {
    Fate.HERE: Delivered,
    Fate.NEXT: Deferred,
    Fate.DEFERRED: Deferred,
    Fate.REJECTED: Rejected,
    Fate.IN_DOUBT: InDoubt,
}


def faulty(state: str, wrong: Behaviour, extensions: tuple[str, ...]) -> Peer:
    """A host that goes wrong at `state` each time; where that is HELO, EHLO breaks first."""
    always: dict[str, Behaviour] = {state: wrong}
    if state == "HELO":
        always["EHLO"] = Wrong.FIN
    return Peer(always=always, extensions=extensions)


@pytest.mark.parametrize("extensions", [PLAIN, ("PIPELINING", *PLAIN)], ids=["lockstep", "pipelined"])
@pytest.mark.parametrize(("state", "wrong", "fate"), CELLS)
@virtual
async def test_the_only_host(state: str, wrong: Behaviour, fate: Fate, extensions: tuple[str, ...]) -> None:
    peer = faulty(state, wrong, extensions)
    world = World(peer)
    (outcome,) = await world.attempt(lease(octets=InMemory(LARGE if state == "body" else b"Subject: x\r\n\r\nx\r\n")))
    await world.close()
    assert type(outcome) is ALONE[fate], f"{outcome}\n{world.transcript}"
    assert len(peer.accepted) == (1 if fate is Fate.HERE else 0)


@pytest.mark.parametrize("extensions", [PLAIN, ("PIPELINING", *PLAIN)], ids=["lockstep", "pipelined"])
@pytest.mark.parametrize(("state", "wrong", "fate"), CELLS)
@virtual
async def test_the_first_of_two_hosts(state: str, wrong: Behaviour, fate: Fate, extensions: tuple[str, ...]) -> None:
    peer, second = faulty(state, wrong, extensions), Peer()
    world = World(peer, second)
    (outcome,) = await world.attempt(lease(octets=InMemory(LARGE if state == "body" else b"Subject: x\r\n\r\nx\r\n")))
    await world.close()
    expected = Delivered if fate is Fate.NEXT else ALONE[fate]
    assert type(outcome) is expected, f"{outcome}\n{world.transcript}"
    assert len(peer.accepted) + len(second.accepted) == (1 if expected is Delivered else 0)
    assert bool(second.connections) is (fate is Fate.NEXT)
