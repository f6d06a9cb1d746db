"""What one message costs in Python alone: received, queued in memory, delivered, settled; no kernel, no disk, no peer.

The wire is scripted (a client that says each command in its own segment, a next hop with PIPELINING), so that the
figure is the same however busy the machine is, but for the best of many rounds. The count of function calls is exact:
it is what to compare before and after a change, and tests/test_cost.py holds it below a ceiling.

    python -m bench.pipeline              microseconds a message, the best of thirty rounds
    python -m bench.pipeline --profile    function calls a message, and where they are made
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import uvloop

from waypost import app
from waypost.config import Config, parse
from waypost.life.quick import quicken
from waypost.net.stream import Endpoint, Fault, FaultKind, Flushed, Hear, Speaks, Stream
from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Storage
from waypost.receive.house import House
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.reply import Reply

SESSIONS, BATCHES, ROUNDS = 20, 10, 30
CONFIG = """
[service]
hostname = "relay.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["*"]
to = "smtp://127.0.0.1:2526"
"""
CLIENT_SAYS = (
    b"EHLO client.example\r\n",
    b"MAIL FROM:<a@example.org>\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"DATA\r\n",
    (b"x" * 78 + b"\r\n") * 51 + b".\r\n",
    b"QUIT\r\n",
)
BANNER = Reply(220, ("relay.example.net ESMTP",))
_FLUSHED = Flushed()


class Scripted:
    """A stream whose far end has always just said the next thing."""

    peer = Endpoint("127.0.0.1", 40000)
    local = Endpoint("127.0.0.1", 2525)
    tls: TlsState = IN_CLEAR

    def __init__(self, *says: bytes) -> None:
        self._says = list(reversed(says))

    async def read(self, within: timedelta) -> bytes | Fault:  # noqa: ARG002 - nothing here takes time
        return self._says.pop() if self._says else Fault(FaultKind.CLOSED)

    async def listen(self, hear: Hear, within: timedelta) -> Flushed | Fault:  # noqa: ARG002 - likewise
        while self._says:
            if hear(self._says.pop()) <= timedelta():
                return _FLUSHED
        return Fault(FaultKind.CLOSED)

    def pending(self) -> bytes | Fault | Flushed:
        return _FLUSHED

    def stand_for(self, peer: Endpoint, unread: bytes) -> None:
        pass

    def write(self, octets: bytes) -> None:
        pass

    async def flush(self, within: timedelta) -> Flushed | Fault:  # noqa: ARG002 - likewise
        return _FLUSHED

    async def accept_tls(
        self,
        context: ssl.SSLContext,  # noqa: ARG002 - likewise
        within: timedelta,  # noqa: ARG002 - likewise
        *,
        implicit: bool = False,  # noqa: ARG002 - likewise
    ) -> TlsFacts | Fault:
        return Fault(FaultKind.TLS, "not here")

    async def close(self, peer_speaks: Speaks = Speaks.PERHAPS) -> None:
        pass

    def abort(self) -> None:
        pass


class NextHop(Scripted):
    """A stream to a server that offers PIPELINING and takes everything."""

    def __init__(self) -> None:
        super().__init__(b"220 sink.example ESMTP\r\n")

    def write(self, octets: bytes) -> None:
        if octets.startswith(b"EHLO"):
            self._says = [b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"]
        elif octets.startswith(b"MAIL"):
            self._says = [b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"]
        elif octets.endswith(b"\r\n.\r\n"):
            self._says = [b"250 2.0.0 Ok\r\n"]

    async def read(self, within: timedelta) -> bytes | Fault:
        await asyncio.sleep(0)
        return await super().read(within)


class NextHops:
    """A dialer that leads to such servers alone."""

    async def dial(self, endpoint: Endpoint, within: timedelta, source: str = "") -> Stream | Fault:  # noqa: ARG002 - likewise
        return NextHop()

    async def start_tls(self, stream: Stream, *_: object) -> Stream | Fault:
        return stream


@asynccontextmanager
async def pipeline() -> AsyncIterator[tuple[Receiver, Door, Storage]]:
    """A service with a queue in memory, on scripted wires."""
    receivers: list[tuple[Receiver, Door]] = []

    def receiver(doors: tuple[Door, ...], house: House) -> Receiver:
        made = Receiver(doors, house)
        receivers.append((made, doors[0]))
        return made

    storage = MemoryStorage()
    with tempfile.TemporaryDirectory() as directory:
        config = parse(CONFIG, where="bench", base=Path(directory))
        if not isinstance(config, Config):
            raise SystemExit(str(config))
        parts = app.Parts(storage=lambda _: storage, dialer=NextHops, receiver=receiver, probes=False)
        async with app.running(config, parts=parts):
            yield (*receivers[0], storage)


async def measure(profile: cProfile.Profile | None, rounds: int = ROUNDS) -> float:
    """Microseconds a message, in the best round."""
    best = float("inf")
    async with pipeline() as (receiver, door, storage):

        async def relay(batches: int) -> None:
            for _ in range(batches):
                await asyncio.gather(*(receiver.serve(door, BANNER, Scripted(*CLIENT_SAYS)) for _ in range(SESSIONS)))
            while (await storage.counts()).recipients:  # noqa: ASYNC110 - an empty queue rings no bell
                await asyncio.sleep(0.001)

        await relay(BATCHES)
        if profile is not None:
            profile.enable()
        for _ in range(rounds):
            began = time.thread_time()
            await relay(BATCHES)
            best = min(best, (time.thread_time() - began) / (SESSIONS * BATCHES) * 1e6)
        if profile is not None:
            profile.disable()
    return best


def calls(profile: cProfile.Profile, rounds: int) -> float:
    """Function calls a message. Not pstats' count: to it all constructors of dataclasses are one function."""
    return sum(entry.callcount for entry in profile.getstats()) / (SESSIONS * BATCHES * rounds)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--sort", default="tottime", help="what --profile sorts by: tottime, cumtime, ncalls")
    asked = arguments.parse_args()
    quicken()  # as `serve` does
    if not asked.profile:
        print(f"{uvloop.run(measure(None)):.0f} µs a message")
        return
    profile = cProfile.Profile()
    uvloop.run(measure(profile))
    stats = pstats.Stats(profile)
    stats.sort_stats(asked.sort).print_stats(80)
    print(f"{calls(profile, ROUNDS):.0f} function calls a message")


if __name__ == "__main__":
    main()
