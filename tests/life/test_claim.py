"""A spool is one service's."""

import os
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from waypost.life.claim import claim, see_that_nobody_has
from waypost.net.clock import Instant
from waypost.queue.spool import SpoolInUseError, hold
from waypost.queue.storage import StorageError


class Later:
    """Whoever asks a second time is told that an hour has passed."""

    def __init__(self) -> None:
        self._hours = count()

    def now(self) -> Instant:
        return 0.0

    def monotonic(self) -> float:
        return next(self._hours) * 3600.0

    async def sleep(self, duration: timedelta) -> None:
        raise AssertionError(f"there is no loop to sleep {duration} in")


def test_a_spool_that_another_service_has_is_left_alone_and_the_other_named(tmp_path: Path) -> None:
    held = hold(tmp_path / "service")
    for asked in (see_that_nobody_has, claim):
        with pytest.raises(SpoolInUseError, match=f"is in use by process {os.getpid()}"):
            asked(tmp_path, Later())
    os.close(held)


def test_a_spool_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    claim(tmp_path / "var" / "spool", Later())
    assert (tmp_path / "var" / "spool" / "service").read_text() == f"{os.getpid()}\n"


def test_a_place_that_is_no_directory_is_told_in_the_words_of_the_spool(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as failure:
        claim(tmp_path / "file", Later())
    assert "cannot be used: Not a directory; service.spool must name a directory" in failure.value.fault.detail


def test_to_look_makes_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    see_that_nobody_has(tmp_path / "spool", Later())
    assert not (tmp_path / "spool").exists()
    (tmp_path / "service").touch()
    see_that_nobody_has(tmp_path, Later())
    claim(tmp_path, Later())
