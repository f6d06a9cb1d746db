"""The next hops of all cells, and the mailbox for reports: what a relay under test finds around it.

Each cell has a faulty peer on an address of its own and, where it has two hosts, a healthy one on another. Not here:
the relays (bench/fault_relays.py), what came of it all (bench/fault_verdicts.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from bench.fault_cells import Cell, Says
from bench.tls_breaker import tls_breaker
from tests.live.process import free_port
from waypost.admin.peer import FaultyPeer, PeerEvent, PeerSettings
from waypost.net.stream import Endpoint

AUTHOR = "author@origin.test"
"""Who all the mail is from; reports go to a mailbox of the town."""
PLAIN = PeerSettings()
NUMBER = b"X-Number: "
_ORDINAL = re.compile(NUMBER + rb"(\d)")
_DIAGNOSTIC = re.compile(rb"^Diagnostic-Code: ((?:.*\r\n)(?:[ \t].*\r\n)*)", re.MULTILINE)
_RECIPIENT = re.compile(rb"user\d@c\d+\.test")


@dataclass(frozen=True, slots=True)
class Copy:
    """The message arrived whole, at `host` (1 or 2), at `at` (loop time); `acknowledged`: the relay was told so."""

    host: int
    at: float
    acknowledged: bool


@dataclass(slots=True)
class Host:
    """A peer, and when each message came whole to it (loop time)."""

    peer: FaultyPeer
    arrivals: list[float] = field(default_factory=list)

    def copies(self, host: int, says: Says, number: int) -> list[Copy]:
        """The copies of message `number` that it took, or may have taken."""
        found = []
        for message, at in zip(self.peer.received, self.arrivals, strict=True):
            acknowledged = any(message is taken for taken in self.peer.accepted)
            if (acknowledged or says is Says.MAYBE_TOOK) and ordinal(message.octets) == number:
                found.append(Copy(host, at, acknowledged))
        return found


@dataclass(slots=True)
class Place:
    """One cell's next hops, as the relay is told of them, in order."""

    cell: Cell
    hops: tuple[Endpoint, ...]
    faulty: Host
    healthy: Host

    def copies(self, number: int) -> list[Copy]:
        """Where message `number` went."""
        says = self.cell.scenario.says
        return [*self.faulty.copies(1, says, number), *self.healthy.copies(2, Says.NOTHING, number)]

    @property
    def connections(self) -> int:
        """How many the faulty host has seen."""
        return len(self.faulty.peer.dialogues)


@dataclass(slots=True)
class Town:
    """All places by their domains, and the mailbox that takes reports."""

    places: dict[str, Place]
    reports: FaultyPeer

    def reported(self) -> dict[str, str]:
        """The recipients the relay has sent a report about, each with the diagnostic the report gives."""
        octets = [report.octets for report in self.reports.received]
        return {found.decode(): _diagnostic(report) for report in octets for found in _RECIPIENT.findall(report)}


def _diagnostic(report: bytes) -> str:
    found = _DIAGNOSTIC.search(report)
    return " ".join(found[1].decode(errors="replace").split())[:200] if found else ""


@contextlib.asynccontextmanager
async def town(cells: Iterable[Cell]) -> AsyncIterator[Town]:
    """Every peer of every cell, listening."""
    async with contextlib.AsyncExitStack() as stack, FaultyPeer(host="127.4.0.1") as reports:
        yield Town({cell.domain: await _place(cell, stack) for cell in cells}, reports)


async def _place(cell: Cell, stack: contextlib.AsyncExitStack) -> Place:
    scenario = cell.scenario
    breaks_tls = [fault for fault in scenario.faults if fault.startswith(("starttls:", "handshake:"))]
    if breaks_tls:
        offers = PeerSettings(extensions=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS"))
        faulty = await _host(stack, host="127.4.0.1", settings=offers)
        first = await stack.enter_async_context(tls_breaker(breaks_tls[0], cell.faulty, faulty.peer.endpoint))
    elif scenario.listens:
        faulty = await _host(stack, *scenario.faults, host=cell.faulty)
        first = faulty.peer.endpoint
    else:
        faulty = Host(FaultyPeer())
        first = Endpoint(cell.faulty, free_port(cell.faulty))
    healthy = await _host(stack, host=cell.healthy) if cell.hosts == 2 else Host(FaultyPeer())
    hops = (first, healthy.peer.endpoint) if cell.hosts == 2 else (first,)
    return Place(cell, hops, faulty, healthy)


async def _host(stack: contextlib.AsyncExitStack, *faults: str, host: str, settings: PeerSettings = PLAIN) -> Host:
    arrivals: list[float] = []

    def watch(event: PeerEvent) -> None:
        if event.mark == "*" and event.text.startswith("a message of"):
            arrivals.append(asyncio.get_running_loop().time())

    peer = FaultyPeer(*faults, settings=settings, host=host, watch=watch)
    return Host(await stack.enter_async_context(peer), arrivals)


def message(cell: Cell, number: int) -> bytes:
    """Message `number` (1 or 2) of a cell."""
    head = (
        f"From: {AUTHOR}\r\nTo: {cell.recipient(number)}\r\nSubject: faults\r\n"
        f"Date: Mon, 01 Jan 2024 12:00:00 +0000\r\n"
        f"Message-ID: <{cell.number}.{number}@origin.test>\r\n{NUMBER.decode()}{number}\r\n\r\n"
    ).encode()
    line = b"0123456789" * 7 + b"\r\n"
    return head + line * (1 + cell.scenario.octets // len(line))


def ordinal(octets: bytes) -> int:
    """Which of a cell's messages this is; 0 for a message of another kind (a report)."""
    found = _ORDINAL.search(octets)
    return int(found[1]) if found else 0
