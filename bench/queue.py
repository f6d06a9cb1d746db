# ruff: noqa: A005 - imported as bench.queue alone
"""How many messages a second the embedded spool takes in and settles, by how many come at once.

    python -m bench.queue [DIRECTORY]

Each message has 4 KiB and one recipient, is accepted with its lease, settled as delivered, and so deleted again; both
commits are fsync'd. "CPU" is what the whole process used, a message.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import uvloop

from waypost.mail.attempt import Attempt, Transcript
from waypost.mail.envelope import Envelope, InMemory, NextHop, Origin, Recipient
from waypost.mail.outcome import Delivered
from waypost.net.clock import SystemClock
from waypost.queue.ids import MessageIds
from waypost.queue.schedule import RetryPolicy, settle_recipient
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Settlement, StoreFault
from waypost.smtp.path import DomainName, Mailbox
from waypost.smtp.reply import Reply

BODY = random.Random(1).randbytes(4096)
DELIVERED = Delivered("mx.example.org[192.0.2.1:25]", Reply.of(250, "2.0.0", "Ok: queued as 4XyZ12"))
POLICY = RetryPolicy((timedelta(minutes=5),), timedelta(days=5))
LEASE = 2400.0


def envelope(number: int) -> Envelope:
    to = Mailbox(f"user{number}", DomainName("example.org"))
    origin = Origin("ESMTP", "192.0.2.7", "client.example.net", "192.0.2.2:25")
    return Envelope(
        Mailbox(f"from{number % 50}", DomainName("example.net")), (Recipient(to, NextHop("mx:example.org")),), origin
    )


def transcript() -> Transcript:
    lines = Transcript(0.0)
    for mark, text in (
        ("S", "220 mx.example.org ESMTP"),
        ("C", "EHLO us.example.net"),
        ("S", "250-mx.example.org PIPELINING SIZE 10240000 8BITMIME ENHANCEDSTATUSCODES"),
        ("C", "MAIL FROM:<a@example.net>"),
        ("C", "RCPT TO:<b@example.org>"),
        ("C", "DATA"),
        ("S", "250 2.1.0 Ok"),
        ("S", "250 2.1.5 Ok"),
        ("S", "354 End data with <CR><LF>.<CR><LF>"),
        ("S", "250 2.0.0 Ok: queued as 4XyZ12"),
    ):
        lines.add(0.0123, mark, text)
    return lines


class Bench:
    """A spool, and sessions that hand it one message after the other."""

    def __init__(self, storage: SqliteStorage) -> None:
        self.storage = storage
        self.clock = SystemClock()
        self.dice = random.Random(2)
        self.ids = MessageIds(self.clock, self.dice)

    async def session(self, messages: int) -> None:
        for number in range(messages):
            await self.pass_on(number)

    async def pass_on(self, number: int) -> None:
        now = self.clock.now()
        stored = await self.storage.accept(
            envelope(number), InMemory(BODY), id=self.ids.make(), now=now, claim_until=now + LEASE
        )
        if isinstance(stored, StoreFault):
            raise SystemExit(stored.detail)
        (lease,) = stored.leases
        message, recipients = lease.message, lease.recipients
        outcomes = tuple((one, DELIVERED) for one in recipients)
        attempt = Attempt(message, lease.next_hop, now, now + 0.02, outcomes, transcript())
        settled = tuple(
            settle_recipient(message, one, DELIVERED, policy=POLICY, now=now, dice=self.dice) for one in recipients
        )
        if not await self.storage.settle(Settlement(lease, attempt, settled)):
            raise SystemExit("a lease was lost")

    async def run(self, at_once: int, messages: int) -> str:
        commits, wall, cpu = self.storage.commits, time.perf_counter(), time.process_time()
        await asyncio.gather(*(self.session(messages // at_once) for _ in range(at_once)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        commits = self.storage.commits - commits
        return (
            f"{at_once:5} at once: {messages / wall:8,.0f} messages/s   CPU {cpu / messages * 1e6:5.0f} µs"
            f"   {2 * messages / commits:5.1f} operations a commit"
        )


async def main(folder: Path) -> None:
    storage = SqliteStorage(folder / "spool")
    await storage.open(owner="bench")
    bench = Bench(storage)
    await bench.run(32, 640)
    for at_once, messages in ((1, 1500), (8, 6000), (32, 16000), (128, 16000)):
        print(await bench.run(at_once, messages), flush=True)
    await storage.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        uvloop.run(main(Path(name)))
