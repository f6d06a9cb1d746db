"""Who is alive: each node tells the database that it is, and whose leases the others may take over shows by that.

**The clocks.** A node's time to live is counted twice: by the database, from when it hears of the node; by the node's
own steady clock, from before it spoke. So the node's own ends first, and it stops sending before others may begin. The
clocks need not agree on the time; they have to run at the same pace (1 second in 5 minutes is good enough).

**Taking over.** Whoever finds a node silent for longer than its time declares it dead, and what it had leased is due.
Its tokens stay where they are until somebody claims: a node that comes back in between may still write down what it
had done, and only then. A node that was itself cut off, as when the database failed over, waits for as long as a node's
time to live before it judges others, which had no chance to speak either.

**Being drained** is a matter of the host, not of a process: it outlasts a restart.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

import asyncpg
import structlog

from waypost.net.clock import Clock
from waypost.queue.postgres import writes
from waypost.queue.postgres.database import Connection, Database, within
from waypost.queue.storage import StorageError

T = TypeVar("T")

#: A node that is silent for so long is dead; with the pause between two looks, its mail is taken over within 10 s.
TIME_TO_LIVE: Final = timedelta(seconds=7)
#: The part of its time after which a transaction of a node that says nothing ends: before others take over.
STANDSTILL: Final = 0.7
#: Between two signs of life: some may go missing.
BEATS: Final = 5
#: The channel on which nodes tell that something has become due.
CHANNEL: Final = "waypost"
#: At most so often.
NOTIFY_EVERY: Final = timedelta(milliseconds=200)
#: What the history of a message says that was taken over. Where its final dot had left, nobody but the host knows.
TAKEN_OVER: Final = "taken over from {}, which fell silent; if it was just sending this, a second copy may arrive"
#: Bits of a token below its epoch.
TOKEN_BITS: Final = 32

_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_JOIN: Final = (
    f"INSERT INTO nodes (owner, version, opened_at, alive_until) VALUES ($1, $2, {_NOW}, {_NOW} + $3) RETURNING epoch"  # noqa: S608 - constants
)
_BEAT: Final = f"""
    UPDATE nodes SET alive_until = {_NOW} + $2 WHERE epoch = $1 AND ended_at = 0
    RETURNING EXISTS (SELECT 1 FROM drained WHERE host = split_part(owner, ':', 1))"""  # noqa: S608 - constants
#: Those just dead, and for a while after those that ended: what they had on the way may come in late.
_SILENT: Final = f"""
    SELECT epoch, owner, ended_at = 0 AS is_new FROM nodes
    WHERE (ended_at = 0 AND alive_until < {_NOW}) OR ended_at > {_NOW} - 60"""  # noqa: S608 - constants
_BURIED: Final = f"UPDATE nodes SET ended_at = {_NOW} WHERE epoch = $1 AND ended_at = 0"  # noqa: S608 - constants
_FREE: Final = """
    UPDATE recipients SET ready_at = due_at
    WHERE lease BETWEEN $1 AND $2 AND lease > 0 AND ready_at <> due_at
    RETURNING message, number, address"""
_RELEASE: Final = "UPDATE recipients SET lease = 0, ready_at = due_at WHERE lease BETWEEN $1 AND $2 AND lease > 0"
_DRAFTS: Final = "SELECT number FROM drafts WHERE number BETWEEN $1 AND $2 OR number BETWEEN -$2 AND -$1"
#: A writer of a node that has ended adds to its row again, should it still be at work: sums stay right.
_MERGE: Final = """
    WITH old AS (DELETE FROM counts WHERE shard BETWEEN $1 AND $2 RETURNING messages, recipients, held, reports)
    UPDATE counts AS c SET messages = c.messages + s.m, recipients = c.recipients + s.r, held = c.held + s.h,
        reports = c.reports + s.n
    FROM (SELECT sum(messages) AS m, sum(recipients) AS r, sum(held) AS h, sum(reports) AS n FROM old) AS s
    WHERE c.shard = 0 AND s.m IS NOT NULL"""


def tokens_of(epoch: int) -> tuple[int, int]:
    """The least and the greatest token of an epoch."""
    return epoch << TOKEN_BITS, (epoch + 1 << TOKEN_BITS) - 1


def shards_of(epoch: int) -> tuple[int, int]:
    """The rows of `counts` that an epoch's writers add to."""
    return epoch << 8, (epoch << 8) + 255


class Membership:
    """What makes this process one of the nodes. `news` is called where something may have become due."""

    def __init__(self, database: Database, clock: Clock, owner: str, version: str, time_to_live: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._version = version
        self._lives = time_to_live.total_seconds()
        self._alive_until = -math.inf  # by our steady clock
        self._heard_since = math.inf  # since when the database has answered us without a break
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()  # of the connection that beats and tells
        self.epoch = 0
        self.epochs: set[int] = set()
        self.is_drained = False
        self.is_listening = False
        self.refused: list[tuple[int, int]] = []  # (id, acceptance) of messages that may be in the database, refused
        self.news: Callable[[], None] = lambda: None

    # ---- what the storage asks
    @property
    def may_act(self) -> bool:
        """Whether no other node can have taken over what this one has leased; and the database is not out of reach."""
        return self._clock.monotonic() < self._alive_until and self._heard_since < math.inf

    def lost(self) -> None:
        """The database did not answer somebody."""
        self._heard_since = math.inf

    def tell(self) -> None:
        """Something has become due that other nodes may take."""
        self._news.set()

    # ---- joining, and leaving
    async def join(self) -> None:
        """Begin an epoch, and look after the others. Raises: StorageError."""
        await self._begin()
        await self._database.run(self._look)

    async def _begin(self) -> None:
        spoke = self._clock.monotonic()

        async def join(connection: Connection) -> int:
            return int(await connection.fetchval(_JOIN, self._owner, self._version, self._lives))

        self.epoch = await self._database.run(join)
        self.epochs.add(self.epoch)
        self._heard(spoke)

    async def leave(self) -> None:
        """End the epoch: all that it had leased is due. Raises: StorageError."""

        async def leave(connection: Connection) -> None:
            await connection.execute(_RELEASE, *tokens_of(self.epoch))
            await self._clear_up(connection, self.epoch)
            await connection.execute("SELECT pg_notify($1, '')", CHANNEL)

        self._alive_until = -math.inf
        await self._database.transact(leave)

    def _heard(self, spoke: float) -> None:
        self._alive_until = spoke + self._lives
        if self._heard_since == math.inf:
            self._heard_since = spoke

    # ---- while it lives
    async def run(self) -> None:
        """Give signs of life, listen, and look after the others, until cancelled."""
        log = structlog.get_logger()
        while True:
            try:
                await self._live()
            except (StorageError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self.lost()
                log.warning("the database does not answer: nothing new is begun", detail=str(error))
                await self._clock.sleep(timedelta(seconds=self._lives / BEATS))

    async def _live(self) -> None:
        connection = await self._database.connect()
        try:
            await self._within(connection, self._listen)
            notifying = asyncio.create_task(self._notify(connection))
            try:
                while True:
                    await self._beat(connection)
                    await self._clock.sleep(timedelta(seconds=self._lives / BEATS))
            finally:
                notifying.cancel()
                await asyncio.gather(notifying, return_exceptions=True)
        finally:
            connection.terminate()

    async def _listen(self, connection: Connection) -> None:
        # A sign of life that a crash of the database takes back is given again: it need not wait for the disk.
        await connection.execute("SET synchronous_commit = off")
        await connection.add_listener(CHANNEL, lambda *_: self.news())
        self.is_listening = True

    async def _notify(self, connection: Connection) -> None:
        """Notifying takes a lock that all share, so it is done seldom, by this connection alone."""
        while True:
            await self._news.wait()
            self._news.clear()
            async with self._turn:
                await self._within(connection, _tell)
            await self._clock.sleep(NOTIFY_EVERY)

    async def _within(self, connection: Connection, operation: Callable[[Connection], Awaitable[T]]) -> T:
        return await within(connection, operation, self._lives / 2)

    async def _beat(self, connection: Connection) -> None:
        was_alone = self._heard_since == math.inf
        async with self._turn:
            spoke = self._clock.monotonic()
            if await self._within(connection, self._sign):
                self._heard(spoke)
            else:
                await self._begin_anew()
            if self.refused:
                await self._within(connection, self._disown)
            if self._clock.monotonic() - self._heard_since >= self._lives:
                await self._within(connection, self._look)
        if was_alone:
            structlog.get_logger().info("the database answers", epoch=self.epoch)
            self.news()

    async def _sign(self, connection: Connection) -> bool:
        """Whether this node's epoch goes on: nobody has declared it dead."""
        row = await connection.fetchrow(_BEAT, self.epoch, self._lives)
        if row is not None:
            self._is_drained(now=row[0])
        return row is not None

    async def _begin_anew(self) -> None:
        was, self._alive_until = self.epoch, -math.inf
        await self._begin()
        structlog.get_logger().error(
            "this node was silent for too long and others have taken over what it had leased; it begins anew",
            epoch=self.epoch,
            was=was,
        )

    def _is_drained(self, *, now: bool) -> None:
        if now != self.is_drained:
            self.is_drained = now
            structlog.get_logger().warning("this node takes no new work" if now else "this node takes work again")
            self.news()

    async def _disown(self, connection: Connection) -> None:
        """Drop what clients were told was not taken, and was: they send it again."""
        refused = list(self.refused)
        found = await writes.disown(connection, refused)
        del self.refused[: len(refused)]
        if found:
            structlog.get_logger().warning("messages refused with 451 had been stored; dropped", messages=len(found))

    async def _look(self, connection: Connection) -> None:
        """Take over from those that are silent."""
        taken = 0
        for epoch, owner, is_new in await connection.fetch(_SILENT):
            if epoch == self.epoch:
                continue
            try:
                async with connection.transaction():
                    recipients = await self._take_over(connection, epoch, owner)
            except asyncpg.LockNotAvailableError:
                continue  # a transaction of its own is still open: the database ends it soon, and we come again
            taken += recipients
            if is_new:
                structlog.get_logger().error("a node is dead", node=owner, epoch=epoch, taken_over=recipients)
        if taken:
            self.tell()
            self.news()

    async def _take_over(self, connection: Connection, epoch: int, owner: str) -> int:
        await connection.execute(f"SET LOCAL lock_timeout = {self._lives / BEATS * 1000:.0f}")
        freed = await connection.fetch(_FREE, *tokens_of(epoch))
        await writes.operated(connection, writes.in_order(freed), self._clock.now(), TAKEN_OVER.format(owner))
        await self._clear_up(connection, epoch)
        return len(freed)

    async def _clear_up(self, connection: Connection, epoch: int) -> None:
        drafts = [row["number"] for row in await connection.fetch(_DRAFTS, *tokens_of(epoch))]
        await writes.discard(connection, drafts)
        await connection.execute(_MERGE, *shards_of(epoch))
        await connection.execute(_BURIED, epoch)


class Visitor(Membership):
    """Who asks the queue and changes what waits in it, and is no node: nobody counts it, and it takes nothing over."""

    async def join(self) -> None:
        """Nothing begins."""

    async def run(self) -> None:
        """Tell the nodes of what became due, until cancelled."""
        while True:
            await self._news.wait()
            await self._clock.sleep(NOTIFY_EVERY)
            await self.leave()

    async def leave(self) -> None:
        """Tell them of what they were not told yet; they look by themselves, too. Raises: StorageError."""
        if self._news.is_set():
            self._news.clear()
            await self._database.run(_tell)


async def _tell(connection: Connection) -> None:
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)


def hosts_of(owners: Sequence[str]) -> list[str]:
    """The hosts of processes."""
    return sorted({owner.partition(":")[0] for owner in owners})
