"""The description of the API: it is what the manual prints, and what the service does, whatever it is asked."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.admin.office import office, served
from waypost.admin.answers import Desk
from waypost.admin.api import Api
from waypost.admin.board import Board
from waypost.admin.guard import Guard, Open
from waypost.admin.openapi import document, reference
from waypost.admin.paths import paths
from waypost.net.clock import SystemClock

#: The table alone: nobody is asked.
TABLE = paths(Api(cast("Desk", None), Board(), Guard(Open(), SystemClock())))
#: All but what is endless, slow, another test's, or 503 where no service runs.
SCHEMA = schemathesis.openapi.from_dict(document(TABLE)).exclude(
    path_regex=r"/api/(events|inbox/wait|log.*|config/reload)"
)
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


def test_the_manual_is_what_is_printed_of_the_table() -> None:
    written = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
    assert written.read_text("utf-8") == reference(TABLE)


def test_every_path_has_a_summary_an_answer_and_its_failures() -> None:
    described = document(TABLE)
    names = [one["operationId"] for methods in described["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")
            assert "400" in operation["responses"]


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A desk with a message in each state, served from a thread of its own."""
    found: list[str] = []
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with office() as desk, served(desk) as server:
            for _ in range(3):
                await desk.waiting()
                await desk.delivered()
                await desk.captured()
            found.append(f"http://{server.endpoint}")
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_up.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)
def test_whatever_is_asked_is_answered_as_described(case: Any, service: str) -> None:
    case.call_and_validate(base_url=service, checks=CHECKS, timeout=30)
