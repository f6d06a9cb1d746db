"""What readiness finds: listeners that serve, refuse, are in trouble, silent or gone; a spool that is full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from tests.receive.house import HOSTNAME, make_house
from tests.virtual import VirtualClock, virtual
from waypost.net.dialer import AsyncioDialer
from waypost.net.memory import Host, MemoryDialer
from waypost.net.stream import Endpoint, Fault, FaultKind, Stream
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Draft, StorageError, StoreFault, StoreFaultKind
from waypost.receive.probe import HOLDS, Probe
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

DOOR = Door(Endpoint("127.0.0.1", 25), ServerSettings(HOSTNAME))


class Full(MemoryStorage):
    """A spool that takes nothing."""

    async def draft(self) -> Draft:
        raise StorageError(StoreFault(StoreFaultKind.FULL, "no space left on device"))


class Server:
    """Says `replies`, one a line heard, and keeps what it heard."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.heard: list[bytes] = []

    async def __call__(self, stream: Stream) -> None:
        for number, reply in enumerate(self.replies):
            if number:
                self.heard.append(await _line(stream))
            stream.write(f"{reply}\r\n".encode())


async def _line(stream: Stream) -> bytes:
    octets = await stream.read(HOLDS)
    return b"" if isinstance(octets, Fault) else octets


async def probe(server: Host | Fault, door: Door = DOOR, storage: MemoryStorage | None = None) -> Probe:
    """Of one listener."""
    network = MemoryDialer({Endpoint("127.0.0.1", 25): server})
    spool = storage or MemoryStorage()
    await spool.open(owner="test:1")
    return Probe(lambda: [(door.endpoint, door)], spool, network, VirtualClock(), HOSTNAME)


async def found(*replies: str, door: Door = DOOR) -> Sequence[str]:
    """What is said of a listener that answers so."""
    return await (await probe(Server(*replies), door)).reasons()


GOOD = ("220 here", "250 hello", "250 2.1.0 begun", "250 2.0.0 gone")


@virtual
async def test_a_listener_that_begins_a_transaction_is_fit_and_so_is_one_whose_policy_refuses() -> None:
    assert await found(*GOOD) == []
    assert await found("220 here", "250 hello", "530 5.7.0 log in first", "250 2.0.0 gone") == []
    assert await found("421 4.7.0 too many connections from your address") == []


@virtual
async def test_trouble_of_ours_silence_and_absence_are_told_with_the_listener() -> None:
    (low,) = await found("220 here", "250 hello", "452 4.3.1 the disk is low")
    assert low == "the listener 127.0.0.1:25 answers MAIL FROM:<> with 452 4.3.1 the disk is low"
    (stopping,) = await found("421 4.3.2 shutting down")
    assert "answers a client with 421" in stopping
    (silent,) = await found("220 here")
    assert "does not answer" in silent
    (gone,) = await (await probe(Fault(FaultKind.REFUSED))).reasons()
    assert gone.startswith("the listener 127.0.0.1:25 cannot be reached: connection refused")


@virtual
async def test_a_spool_that_commits_nothing_is_told() -> None:
    (full,) = await (await probe(Server(*GOOD), storage=Full())).reasons()
    assert full.startswith("the spool takes nothing: ")
    assert "no space left" in full


@virtual
async def test_who_asks_often_hears_what_was_found_last() -> None:
    listener = Server(*GOOD)
    looking = await probe(listener)
    await asyncio.gather(*(looking.reasons() for _ in range(5)))
    assert len(listener.heard) == 3
    await looking.clock.sleep(HOLDS)
    await looking.reasons()
    assert len(listener.heard) == 6


@virtual
async def test_a_door_for_proxies_is_told_that_nobody_stands_behind_us() -> None:
    listener = Server(*GOOD)
    behind = replace(DOOR, proxies=(ip_network("127.0.0.0/8"),))
    await (await probe(listener, behind)).reasons()
    assert listener.heard[0].startswith(b"PROXY UNKNOWN\r\n")


@virtual
async def test_every_address_is_visited_by_loopback() -> None:
    listener = Server(*GOOD)
    everywhere = replace(DOOR, endpoint=Endpoint("0.0.0.0", 25))
    assert await (await probe(listener, everywhere)).reasons() == []
    assert len(listener.heard) == 3


async def test_our_own_receiver_is_found_fit_and_unfit_once_it_has_stopped() -> None:
    doors = (replace(DOOR, endpoint=Endpoint("127.0.0.1", 0)), replace(DOOR, endpoint=Endpoint("0.0.0.0", 0)))
    house = make_house()
    await house.storage.open(owner="test:1")
    receiver = Receiver(doors, house)
    await receiver.start()
    there = list(receiver.open_doors)
    clock = VirtualClock()
    looking = Probe(lambda: there, house.storage, AsyncioDialer(), clock, HOSTNAME)
    assert await looking.reasons() == []
    await receiver.stop(HOLDS)
    assert len(await Probe(lambda: there, house.storage, AsyncioDialer(), clock, HOSTNAME).reasons()) == 2
