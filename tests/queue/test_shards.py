"""The parts of a spool that several workers share."""

from pathlib import Path

import pytest

from tests.contract.letters import NOW
from waypost.queue.common_shelf import ShardStorage, prepare_shelf
from waypost.queue.shards import remove_blank, shard, shards, shelf_of
from waypost.queue.shelf import FOR_EVER
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import StorageError


async def a_shard(spool: Path, index: int) -> None:
    storage = SqliteStorage(shard(spool, index))
    await storage.open(owner="test")
    await storage.close()


def test_a_spool_of_one_process_is_shard_0(tmp_path: Path) -> None:
    assert shards(tmp_path) == [0]
    assert shard(tmp_path, 0) == tmp_path
    assert shelf_of(tmp_path) == shelf_of(shard(tmp_path, 12)) == tmp_path / "shelf.db"


async def test_every_shard_that_exists_is_found(tmp_path: Path) -> None:
    for index in (10, 2):
        await a_shard(tmp_path, index)
    (tmp_path / "shards" / "note").mkdir()

    assert shards(tmp_path) == [0, 2, 10]


async def test_only_shards_beyond_the_workers_that_hold_nothing_are_removed(tmp_path: Path) -> None:
    for index in (0, 1, 2, 3):
        await a_shard(tmp_path, index)
    (shard(tmp_path, 3) / "queue.db").write_bytes(b"no database at all")

    assert remove_blank(tmp_path, 2) == [2]
    assert shards(tmp_path) == [0, 1, 3]


async def test_a_shard_that_a_process_has_stays_though_it_holds_nothing(tmp_path: Path) -> None:
    """A service that was started by mistake, with fewer workers, took it from under a worker about to take mail."""
    await a_shard(tmp_path, 0)
    storage = SqliteStorage(shard(tmp_path, 1))
    await storage.open(owner="a worker that runs")

    assert remove_blank(tmp_path, 1) == []
    assert shards(tmp_path) == [0, 1]
    await storage.close()
    assert remove_blank(tmp_path, 1) == [1]
    assert shards(tmp_path) == [0]


async def test_the_shelf_of_one_process_is_that_of_all_workers_to_come(tmp_path: Path) -> None:
    one = SqliteStorage(tmp_path)
    await one.open(owner="one process")
    await one.keep("greylist", "triplet", b"seen", until=FOR_EVER)
    await one.close()

    prepare_shelf(tmp_path)
    prepare_shelf(tmp_path)
    worker = ShardStorage(shard(tmp_path, 1), reserve=0)
    await worker.open(owner="worker 1")
    try:
        assert await worker.kept("greylist", "triplet", now=NOW) == b"seen"
    finally:
        await worker.close()


def test_a_shelf_that_cannot_be_made_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(StorageError, match=r"spool/shelf\.db cannot be made"):
        prepare_shelf(tmp_path / "spool")
