"""What every live test needs: its peers installed, a directory all may enter, a way to print what it measured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.exim import BINARY as EXIM
from tests.live.process import open_directory

PROGRAMS = (
    "/usr/sbin/postfix",
    "/usr/sbin/smtp-source",
    "/usr/sbin/dovecot",
    "/usr/sbin/knotd",
    "/usr/sbin/unbound",
    "kdig",
    "swaks",
    "curl",
    "msmtp",
    "strace",
    "/usr/bin/chromium",
    "promtool",
    str(EXIM),
)


@pytest.fixture(scope="session", autouse=True)
def peers() -> None:
    """Fails, and never skips: a live test that quietly did not run would prove nothing."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.exit(f"live tests need {', '.join(missing)}; install them with: sudo tests/live/setup.sh", returncode=2)
    if os.geteuid() != 0:
        pytest.exit("Postfix, Exim and Dovecot only run as peers for root; run: sudo make test-live", returncode=2)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for one service or peer; each has its own."""
    with open_directory() as directory:
        yield directory


@pytest.fixture
def peer_place() -> Iterator[Path]:
    """A second one."""
    with open_directory() as directory:
        yield directory


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a finding, even where pytest keeps the output of tests that pass."""

    def speak(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {text}")  # noqa: T201 - that is what it is for

    return speak
