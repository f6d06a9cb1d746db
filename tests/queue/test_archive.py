"""The queue as a file: all of it comes back, a changed or cut one is refused, whatever octets it is made of."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.letters import NOW
from tests.queue.test_moving import FIRST, fill
from waypost.queue.archive import END, ArchiveError, Head, Writer, read
from waypost.queue.moving import Parcel
from waypost.queue.moving_sqlite import SqliteEnd, queued_in
from waypost.queue.sqlite import SqliteStorage
from waypost.queue.storage import Selection


@pytest.fixture
async def archive(tmp_path: Path) -> Path:
    """Of a spool with mail in every state."""
    storage = SqliteStorage(tmp_path / "spool")
    await storage.open(owner="service:1")
    await fill(storage)
    with Writer(tmp_path / "queue.tar", "waypost", "mx.example.net", 1.0) as writer:
        for parcel in queued_in(tmp_path / "spool"):  # while it is in use
            writer.add(parcel)
    await storage.close()
    return tmp_path / "queue.tar"


def parcels(path: Path) -> list[Parcel]:
    return [part for part in read(path) if isinstance(part, Parcel)]


def test_what_waits_comes_back_as_it_was_with_its_reports_and_its_history(archive: Path, tmp_path: Path) -> None:
    before = list(queued_in(tmp_path / "spool"))
    kept = [Parcel(one.id, one.stored, one.recipients, one.reports, events=one.events) for one in before]
    assert parcels(archive) == kept
    assert len(kept) == 6  # of eight: one is done, one is only in the inbox
    assert any(one.reports for one in kept)
    assert any(one.events for one in kept)
    assert next(iter(read(archive))) == Head(1, "waypost", "mx.example.net", 1.0)
    assert archive.stat().st_mode & 0o777 == 0o600


async def test_put_into_another_spool_it_is_the_same_queue(archive: Path, tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "other")
    await storage.open(owner="command line:1")
    end = SqliteEnd(storage)
    for parcel in parcels(archive):
        assert not await end.has(parcel.id)
        await end.put(parcel)
        assert await end.has(parcel.id)
    there = await storage.entries(Selection(), after=FIRST, limit=99, now=NOW)
    counts = await storage.counts()
    await storage.close()
    again = SqliteStorage(tmp_path / "spool")
    await again.open(owner="service:1")
    here = await again.entries(Selection(), after=FIRST, limit=99, now=NOW)
    assert counts == await again.counts()
    await again.close()
    assert there == here


def members(archive: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        return [(member.name, file.read()) for member in tar if (file := tar.extractfile(member))]


def written(path: Path, found: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, octets in found:
            info = tarfile.TarInfo(name)
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))
    return path


def test_a_message_that_was_changed_is_refused_by_name(archive: Path, tmp_path: Path) -> None:
    found = [(name, octets + b"x" if name.endswith(".eml") else octets) for name, octets in members(archive)]
    with pytest.raises(ArchiveError, match=r"\.eml is not what .*\.json says"):
        parcels(written(tmp_path / "changed.tar", found))


def test_what_is_missing_is_told(archive: Path, tmp_path: Path) -> None:
    found = members(archive)
    with pytest.raises(ArchiveError, match="not whole"):
        parcels(written(tmp_path / "endless.tar", [one for one in found if one[0] != END]))
    with pytest.raises(ArchiveError, match="counts other messages"):
        parcels(written(tmp_path / "fewer.tar", [found[0], *found[3:]]))
    with pytest.raises(ArchiveError, match="should come where"):
        parcels(written(tmp_path / "headless.tar", found[1:]))
    with pytest.raises(ArchiveError, match="format 2"):
        parcels(written(tmp_path / "newer.tar", [(found[0][0], found[0][1].replace(b'"format": 1', b'"format": 2'))]))


def test_cut_anywhere_it_is_refused_and_what_came_before_is_whole(archive: Path, tmp_path: Path) -> None:
    octets, whole = archive.read_bytes(), parcels(archive)
    cut = tmp_path / "cut.tar"
    for length in range(0, len(octets) - 10240, 7001):
        cut.write_bytes(octets[:length])
        came: list[Parcel] = []
        with pytest.raises(ArchiveError):
            came.extend(part for part in read(cut) if isinstance(part, Parcel))
        assert came == whole[: len(came)]


@given(st.binary(max_size=2000))
def test_any_octets_are_an_archive_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(octets)
    with pytest.raises(ArchiveError):
        parcels(path)


def test_an_archive_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "queue.tar"
    with pytest.raises(RuntimeError), Writer(path, "waypost", "mx.example.net", 1.0):
        raise RuntimeError("cut off")
    assert list(tmp_path.iterdir()) == []
