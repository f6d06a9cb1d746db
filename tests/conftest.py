"""What holds for every test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

from waypost import collect_seldom

if TYPE_CHECKING:
    from tests.postgres import Server

# No deadline for an example: on a busy machine a pause is no fault of the code (pytest-timeout judges hangs).
settings.register_profile("waypost", deadline=None)
settings.load_profile("waypost")


def pytest_configure() -> None:
    """Ten thousand tests stay in memory to the end: a tenth of the time was spent looking through them for cycles."""
    collect_seldom()


def pytest_collection_finish() -> None:
    """None of them is looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _the_log_is_nobodys() -> Iterator[None]:
    """A service that a test runs in this process makes its log everybody's; the next test has its own again."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def postgres_server() -> Server:
    """A PostgreSQL of this session's own, begun where a test first asks for it."""
    from tests.postgres import shared_server  # noqa: PLC0415 - an extra, and a server, that few tests need

    return shared_server()
