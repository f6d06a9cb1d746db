"""What every storage keeps on its shelf: waypost/queue/shelf.py, sentence by sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.conftest import STORAGES, Restartable, make_storage
from tests.contract.letters import NOW
from waypost.queue.common_shelf import ShardStorage, prepare_shelf
from waypost.queue.shards import shard
from waypost.queue.shelf import FOR_EVER, Absent
from waypost.queue.storage import Storage, StorageError


def _shard(path: Path) -> tuple[Storage, Callable[[], Storage]]:
    """A worker's storage, and that of another worker beside it: what one keeps, the other has."""
    prepare_shelf(path / "spool")
    return ShardStorage(path / "spool", reserve=0), lambda: ShardStorage(shard(path / "spool", 3), reserve=0)


@pytest.fixture(params=[*STORAGES, "shard"])
async def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restartable]:
    storage, make = _shard(tmp_path) if request.param == "shard" else await make_storage(request, tmp_path)
    await storage.open(owner="first")
    both = Restartable(storage, make)
    yield both
    await both.now.close()


async def test_a_value_is_kept_up_to_its_end_and_then_gone(storage: Storage) -> None:
    await storage.keep("a", "key", b"\0\xff", until=NOW + 10)

    assert await storage.kept("a", "key", now=NOW + 9) == b"\0\xff"
    assert await storage.kept("a", "key", now=NOW + 10) == Absent()
    assert await storage.kept("b", "key", now=NOW) == Absent()


async def test_a_later_value_stands_in_the_place_of_an_earlier_one(storage: Storage) -> None:
    await storage.keep("a", "key", b"one", until=NOW + 10)
    await storage.keep("a", "key", b"two", until=FOR_EVER)

    assert await storage.kept("a", "key", now=NOW + 1e9) == b"two"


async def test_of_two_who_come_first_one_does(storage: Storage) -> None:
    first, second = await asyncio.gather(
        storage.keep_new("a", "key", b"one", until=NOW + 10, now=NOW),
        storage.keep_new("a", "key", b"two", until=NOW + 10, now=NOW),
    )
    assert [first, second] == [True, False]
    assert await storage.kept("a", "key", now=NOW) == b"one"
    assert await storage.keep_new("a", "key", b"three", until=NOW + 20, now=NOW + 10)


async def test_a_space_tells_all_it_has_by_key(storage: Storage) -> None:
    for key, until in (("é", NOW + 10), ("a", NOW + 10), ("gone", NOW), ("B", NOW + 10)):
        await storage.keep("a", key, key.encode(), until=until)
    await storage.keep("other", "c", b"", until=NOW + 10)

    assert await storage.all_kept("a", now=NOW) == [("B", b"B"), ("a", b"a"), ("é", "é".encode())]


async def test_numbers_add_up_whoever_adds_at_the_same_time_and_keep_their_first_end(storage: Storage) -> None:
    first = await storage.add("a", "n", 2, until=NOW + 10, now=NOW)
    sums = await asyncio.gather(*(storage.add("a", "n", 2, until=NOW + 11 + i, now=NOW) for i in range(49)))

    assert sorted([first, *sums]) == list(range(2, 101, 2))
    assert await storage.kept("a", "n", now=NOW + 9) == b"100"
    assert await storage.add("a", "n", -1, until=NOW + 99, now=NOW + 10) == -1


async def test_what_is_no_number_is_not_added_to(storage: Storage) -> None:
    await storage.keep("a", "n", b"words", until=NOW + 10)

    with pytest.raises(ValueError, match="words"):
        await storage.add("a", "n", 1, until=NOW + 10, now=NOW)
    assert await storage.kept("a", "n", now=NOW) == b"words"


async def test_what_is_dropped_is_gone(storage: Storage) -> None:
    await storage.keep("a", "key", b"", until=NOW + 10)

    assert await storage.drop("a", "key")
    assert not await storage.drop("a", "key")
    assert await storage.kept("a", "key", now=NOW) == Absent()


async def test_what_has_ended_is_cleared_away_bit_by_bit(storage: Storage) -> None:
    for key in ("a", "b", "c"):
        await storage.keep("a", key, b"", until=NOW + 1)
    await storage.keep("a", "d", b"", until=NOW + 3)

    assert [await storage.clear_shelf(now=NOW + 2, limit=2) for _ in range(3)] == [2, 1, 0]
    assert await storage.all_kept("a", now=NOW) == [("d", b"")]


async def test_it_is_there_after_a_restart(restartable: Restartable) -> None:
    await restartable.now.keep("a", "key", b"value", until=NOW + 10)

    assert await (await restartable.restart()).kept("a", "key", now=NOW) == b"value"


async def test_a_closed_storage_has_no_shelf(storage: Storage) -> None:
    await storage.close()

    for operation in (storage.keep("a", "k", b"", until=NOW), storage.kept("a", "k", now=NOW)):
        with pytest.raises(StorageError):
            await operation
