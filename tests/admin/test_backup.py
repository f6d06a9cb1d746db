"""Copying a spool that is in use, and putting it back."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.contract.letters import NOW, accept, read, to
from waypost.admin.backup import BackupError, put_back, take
from waypost.queue.shards import shard
from waypost.queue.sqlite import SqliteStorage

BERT = to("bert@example.org")


async def test_a_copy_of_a_spool_in_use_holds_what_was_promised_and_can_be_put_back(tmp_path: Path) -> None:
    spool, copy = tmp_path / "spool", tmp_path / "copy"
    storage, other = SqliteStorage(spool), SqliteStorage(shard(spool, 2))
    await storage.open(owner="service")
    await other.open(owner="service")
    await accept(storage, 1, BERT, octets=b"x" * 600_000)
    await accept(other, 2, BERT)
    (spool / "oauth").mkdir()
    (spool / "oauth" / "a.token").write_text("secret")

    copied = take(spool, copy)
    await accept(storage, 3, BERT)  # it goes on
    await storage.close()
    await other.close()

    assert (copied.shards, copied.messages) == ((0, 2), 2)
    restored = tmp_path / "restored"
    assert put_back(copy, restored) == copied
    assert (restored / "oauth" / "a.token").read_text() == "secret"
    again = SqliteStorage(restored)
    await again.open(owner="later")
    try:
        (lease,) = await again.claim(BERT.next_hop, now=NOW + 99, until=NOW + 199, messages=9)
        assert await read(lease.octets) == b"x" * 600_000
    finally:
        await again.close()


def test_a_place_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    with pytest.raises(BackupError, match="is not empty"):
        take(tmp_path, tmp_path / "copy")
    with pytest.raises(BackupError, match="there is no spool at"):
        take(tmp_path / "nowhere", tmp_path / "new")


async def test_what_is_no_backup_or_damaged_is_not_put_back(tmp_path: Path) -> None:
    spool, copy = tmp_path / "spool", tmp_path / "copy"
    storage = SqliteStorage(spool)
    await storage.open(owner="service")
    take(spool, copy)
    await storage.close()

    with pytest.raises(BackupError, match="is no backup that was finished"):
        put_back(tmp_path, tmp_path / "new")
    with pytest.raises(BackupError, match="there is a spool at"):
        put_back(copy, spool)
    octets = bytearray((copy / "queue.db").read_bytes())
    octets[4096:12288] = b"\xff" * 8192
    (copy / "queue.db").write_bytes(octets)
    with pytest.raises((BackupError, sqlite3.Error)):
        put_back(copy, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert json.loads((copy / "backup.json").read_bytes())["spool"] == str(spool)
