"""Maps in files follow the file; one that breaks is trouble, never an empty map."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.virtual import VirtualClock, virtual
from waypost.maps.file import LOOK, PatternFile, TableFile
from waypost.maps.lookup import Listed, MapTrouble, NotListed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "aliases"
    path.write_text("# ours\ninfo alice\n", "utf-8")
    return path


def write(file: Path, content: bytes) -> None:
    """What an administrator does meanwhile; no octets: he removes it."""
    if content:
        file.write_bytes(content)
    else:
        file.unlink()


@virtual
async def test_a_key_is_found_with_its_line(file: Path) -> None:
    table = TableFile("a", file, VirtualClock())
    assert await table.look_up("info") == Listed(("alice",), "aliases:2")
    assert await table.look_up("nobody") == NotListed()


@virtual
async def test_a_changed_file_is_read_again(file: Path) -> None:
    clock = VirtualClock()
    table = TableFile("a", file, clock)
    assert isinstance(await table.look_up("sales"), NotListed)
    write(file, b"sales bob\n")
    assert isinstance(await table.look_up("sales"), NotListed)  # within the same second nobody looks
    await clock.sleep(LOOK + timedelta(milliseconds=1))
    assert await table.look_up("sales") == Listed(("bob",), "aliases:1")
    assert isinstance(await table.look_up("info"), NotListed)


@pytest.mark.parametrize("broken", [b"alone\n", b"\xff\xfe", b""])
@virtual
async def test_a_broken_file_is_trouble_until_it_is_mended(file: Path, broken: bytes) -> None:
    clock = VirtualClock()
    table = TableFile("people", file, clock)
    await table.look_up("info")
    write(file, broken)
    await clock.sleep(LOOK * 2)
    trouble = await table.look_up("info")
    assert isinstance(trouble, MapTrouble)
    assert trouble.detail.startswith(f"map people: {file}: ")
    write(file, b"info carol\n")
    await clock.sleep(LOOK * 2)
    assert await table.look_up("info") == Listed(("carol",), "aliases:1")


@virtual
async def test_the_first_pattern_that_is_found_wins(tmp_path: Path) -> None:
    path = tmp_path / "patterns"
    path.write_text("/^info@/ alice\n/@/ bob\n", "utf-8")
    patterns = PatternFile("p", path, VirtualClock())
    assert await patterns.look_up("info@x.example") == Listed(("alice",), "patterns:1")
    assert await patterns.look_up("x@x.example") == Listed(("bob",), "patterns:2")
    assert await patterns.look_up("x") == NotListed()
