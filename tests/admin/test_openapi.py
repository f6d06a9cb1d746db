"""The description of the API: it is what the manual prints, and what the service does, whatever it is asked."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import hypothesis
import msgspec
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.admin.office import office, served
from waypost.admin.api import Api, Live
from waypost.admin.board import Board
from waypost.admin.desk import Desk
from waypost.admin.openapi import document, reference
from waypost.admin.paths import paths

#: The table alone: nobody is asked.
TABLE = paths(Api(cast("Desk", None), Board()))
#: Left out, and asked by hand below: what never ends (events), what lasts as long as it is told to (wait), and what can
#: only be answered with 503 where no service runs (reload). Login and logout are not of the table: they come before
#: anybody is known, and answer with a cookie (test_guard.py).
SCHEMA = schemathesis.openapi.from_dict(document(TABLE)).exclude(path_regex=r"/api/(events|inbox/wait|config/reload)")
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


def _answers(path: str, method: str) -> dict[str, Any]:
    described: dict[str, Any] = document(TABLE)["paths"][path][method]["responses"]
    return described


async def test_what_is_left_out_answers_as_described_too() -> None:
    async with office() as found, served(found) as server, aiohttp.ClientSession(f"http://{server.endpoint}") as client:
        async with client.get("/api/events") as events:
            first = await events.content.readuntil(b"\n\n")
            assert events.content_type in _answers("/api/events", "get")["200"]["content"]
            assert msgspec.json.decode(first.partition(b"data: ")[2], type=Live).status.service.hostname
        async with client.get("/api/inbox/wait", params={"timeout": "0"}) as none:
            assert (none.status, str(none.status) in _answers("/api/inbox/wait", "get")) == (404, True)
        await found.captured()
        for asked, status in (({"timeout": "0"}, 200), ({"timeout": "61"}, 400), ({"after": "x"}, 400)):
            async with client.get("/api/inbox/wait", params=asked) as answer:
                assert (answer.status, str(status) in _answers("/api/inbox/wait", "get")) == (status, True)
        for body, status in ((b"", 503), (b"{}", 503), (b"[]", 400), (b"\xff", 400)):
            async with client.post("/api/config/reload", data=body, headers={"X-Waypost": "1"}) as answer:
                assert (answer.status, str(status) in _answers("/api/config/reload", "post")) == (status, True)
                assert set(await answer.json()) == {"error", "remedy"}
