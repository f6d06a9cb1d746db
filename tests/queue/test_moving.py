"""From one spool to another: everything arrives as it was, and being killed anywhere neither loses nor doubles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.contract.letters import BUSY, HOP, NO_SUCH_USER, NOW, OK, accept, name, read, settlement, to, wait
from tests.postgres import Server
from waypost.mail.envelope import MessageId, NextHop
from waypost.mail.outcome import Outcome
from waypost.net.clock import SystemClock
from waypost.queue import ids
from waypost.queue.moving import MARK, Destination, MoveError, Source, Tally, move
from waypost.queue.moving_sqlite import SqliteEnd
from waypost.queue.postgres.moving import PostgresEnd
from waypost.queue.postgres.storage import PostgresStorage
from waypost.queue.shelf import FOR_EVER
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Counts, Gone, Hold, Next, Notice, Selection, Storage

CLOCK = SystemClock()
FIRST = (MessageId(""), -1)


class End:
    """A spool, and how a move sees it."""

    def __init__(self, storage: SqliteStorage | PostgresStorage) -> None:
        self.storage: Storage = storage
        self.end = SqliteEnd(storage) if isinstance(storage, SqliteStorage) else PostgresEnd(storage, CLOCK)


Make: TypeAlias = Callable[[str, str], End]


@asynccontextmanager
async def two(way: str, server: Server, path: Path) -> AsyncIterator[tuple[End, End]]:
    dsn = await server.emptied()
    made = [
        End(SqliteStorage(path / f"s{n}") if one == "s" else PostgresStorage(dsn, CLOCK, connections=4))
        for n, one in enumerate(way)
    ]
    for one in made:
        await one.storage.open(owner="mover:1")
    yield made[0], made[1]
    for one in made:
        await one.storage.close()


async def fill(storage: Storage) -> None:
    """Mail in every state there is."""
    await accept(storage, 1, to("bert@example.org"), to("carl@example.com", "mx:example.com"), octets=b"due")
    await accept(storage, 2, octets=bytes(range(256)) * 3000, sender="")
    fates: tuple[tuple[Outcome, Next, Notice], ...] = (
        (OK, Gone(), Notice.NONE),
        (OK, Gone(captured=True), Notice.NONE),
        (NO_SUCH_USER, Gone(), Notice.FAILED),
        (BUSY, wait(NOW + 500), Notice.DELAYED),
        (BUSY, Hold("set aside"), Notice.NONE),
    )
    for number, (outcome, then, notice) in enumerate(fates, start=3):
        (lease,) = (await accept(storage, number, to("Bert@example.org"), priority=number % 3, claim_for=60)).leases
        await storage.settle(settlement(lease, outcome=outcome, then=then, notice=notice))
    await accept(storage, 8, to("dora@example.org"), to("eva@example.org"))
    await storage.delete(Selection(address="dora@example.org"), now=NOW, by="root")
    await storage.reroute(Selection(address="eva@example.org"), NextHop("mx:smart"), now=NOW, by="root")
    await storage.keep("space", "key", b"\0value", until=FOR_EVER)


async def told(storage: Storage) -> object:
    """All that a spool says of its mail."""
    numbers = range(1, 9)
    return (
        await storage.counts(),
        await storage.entries(Selection(), after=FIRST, limit=99, now=NOW),
        [await storage.history(name(number)) for number in numbers],
        await storage.find("bert@example.org", limit=99),
        [(one.id, one.recipients, one.captured_at) for one in await storage.captured(before=0, limit=99)],
        [(one.message, one.notice, one.recipients) for one in await storage.reports(limit=99)],
        [await read((await storage.message(name(number)))[1]) for number in (1, 2, 4, 5, 6, 7, 8)],
        await storage.all_kept("space", now=NOW),
        await storage.hops(),
        await storage.binned(Selection(), after=FIRST, limit=99),
    )


async def _quietly(_: Tally) -> None:
    pass


@pytest.mark.parametrize("way", ["sp", "ps", "ss"])
async def test_all_that_is_known_of_every_message_arrives_and_nothing_stays(
    way: str, postgres_server: Server, tmp_path: Path
) -> None:
    async with two(way, postgres_server, tmp_path) as (source, destination):
        await fill(source.storage)
        before = await told(source.storage)

        tally = await move(source.end, destination.end, CLOCK, _quietly)

        assert await told(destination.storage) == before
        assert await source.storage.counts() == Counts(0, 0, 0, 0)
        assert await source.end.names(-1, 99) == []
        assert (tally.messages, tally.recipients, tally.found) == (8, 6, 0)
        (lease,) = await destination.storage.claim(HOP, now=NOW, until=NOW + 60, messages=1)
        assert await destination.storage.settle(settlement(lease))


class KilledError(Exception):
    pass


class Mortal:
    """An end of a move at which the process is killed: before, or after, its `at`th step."""

    def __init__(self, end: SqliteEnd | PostgresEnd, steps: list[int], *, after: bool) -> None:
        self._end = end
        self._steps = steps
        self._after = after

    def __getattr__(self, what: str) -> Callable[..., object]:
        real = getattr(self._end, what)

        async def step(*arguments: object) -> object:
            self._steps[0] -= 1
            if self._steps[0] == 0 and not self._after:
                raise KilledError
            answer = await real(*arguments)
            if self._steps[0] == 0:
                raise KilledError
            return answer

        return step


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", ["sp", "ps"])
async def test_a_move_killed_at_any_step_is_ended_by_the_next_one_and_nothing_is_lost_or_doubled(
    way: str,
    after: bool,  # noqa: FBT001 - drawn
    postgres_server: Server,
    tmp_path: Path,
) -> None:
    at, ended = 0, False
    while not ended:
        at += 3
        async with two(way, postgres_server, tmp_path / str(at)) as (source, destination):
            await fill(source.storage)
            before = await told(source.storage)
            steps = [at]
            try:
                await move(
                    _as_source(Mortal(source.end, steps, after=after)),
                    _as_destination(Mortal(destination.end, steps, after=after)),
                    CLOCK,
                    _quietly,
                )
                ended = True
            except KilledError:
                for number in range(1, 9):
                    assert await known(source, number) + await known(destination, number) >= 1, "lost"
                    assert await triable(source, number) + await triable(destination, number) <= 1, "doubled"
                await move(source.end, destination.end, CLOCK, _quietly)

            assert await told(destination.storage) == before
            assert await source.storage.counts() == Counts(0, 0, 0, 0)
    assert at > 20


def _as_source(end: object) -> Source:
    return end  # type: ignore[return-value] # it passes everything on to one


def _as_destination(end: object) -> Destination:
    return end  # type: ignore[return-value] # likewise


async def known(end: End, number: int) -> bool:
    return ids.to_number(name(number)) in await end.end.names(-1, 99)


async def triable(end: End, number: int) -> bool:
    """Whether somebody would deliver it from there."""
    entries = await end.storage.entries(Selection(ids=(name(number),)), after=FIRST, limit=99, now=NOW)
    return any(not entry.reason.startswith(MARK) for entry in entries)


async def test_what_the_destination_has_delivered_meanwhile_is_not_put_there_again(
    postgres_server: Server, tmp_path: Path
) -> None:
    async with two("sp", postgres_server, tmp_path) as (source, destination):
        await accept(source.storage, 1)
        number = ids.to_number(name(1))
        await source.end.mark(number)
        await destination.end.put((await source.end.parcel(number)).unmarked())
        (lease,) = await destination.storage.claim(HOP, now=NOW, until=NOW + 60, messages=1)
        await destination.storage.settle(settlement(lease))

        tally = await move(source.end, destination.end, CLOCK, _quietly)

        assert tally.found == 1
        assert await destination.storage.counts() == await source.storage.counts() == Counts(0, 0, 0, 0)


async def test_what_a_node_is_delivering_waits_for_its_end(postgres_server: Server, tmp_path: Path) -> None:
    async with two("ps", postgres_server, tmp_path) as (source, destination):
        now = CLOCK.now()
        (lease,) = (await accept(source.storage, 1, now=now, claim_for=60)).leases
        looks = []

        async def tell(tally: Tally) -> None:
            looks.append(tally.messages)
            if len(looks) == 1:
                await source.storage.settle(settlement(lease, outcome=BUSY, then=wait(now + 500), at=now))

        await move(source.end, destination.end, CLOCK, tell)

        assert looks[0] == 0
        (entry,) = await destination.storage.entries(Selection(), after=FIRST, limit=9, now=now)
        assert entry.attempts == 1


async def test_what_does_not_read_back_alike_does_not_count(postgres_server: Server, tmp_path: Path) -> None:
    async with two("ps", postgres_server, tmp_path) as (source, destination):
        await accept(source.storage, 1)
        assert isinstance(destination.storage, SqliteStorage)
        spoils = "UPDATE recipients SET attempts = 7 WHERE message = new.message"
        await destination.storage.in_transaction(
            lambda writes: writes.connection.execute(
                f"CREATE TRIGGER spoils AFTER INSERT ON recipients BEGIN {spoils}; END"
            )
        )

        with pytest.raises(MoveError, match="does not read back"):
            await move(source.end, destination.end, CLOCK, _quietly)

        assert await destination.end.names(-1, 9) == []
        assert await source.storage.counts() == Counts(1, 1, 1, 0)
