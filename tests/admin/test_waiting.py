"""The API's ends for test suites and for watching: wait for a message, live data, the flow lately."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from tests.admin.office import Office, office, served
from tests.admin.test_http import browsing, got, posted
from waypost.admin import revisions
from waypost.admin.answers import Expiring
from waypost.admin.board import HIDDEN, Board, ConfigText, hide_secrets, soonest_first
from waypost.admin.flow import POINTS, FlowKeeper
from waypost.net.clock import SystemClock
from waypost.queue.storage import Counts, Search


async def test_who_waits_for_a_message_gets_it_when_it_comes() -> None:
    async with browsing() as (found, browser):
        await found.captured()
        newest = (await got(browser, "/api/inbox"))["messages"][0]["number"]
        waiting = asyncio.create_task(
            got(browser, f"/api/inbox/wait?to=D@captured.example&subject=GR%C3%9C%C3%9FE&after={newest}&timeout=20")
        )
        await asyncio.sleep(0)
        await found.captured()
        detail = await waiting
        assert detail["message"]["number"] > newest
        assert detail["text"].startswith("Hello")


@pytest.mark.parametrize(
    "query", ["to=x@captured.example", "subject=other", "text=Goodbye", "sender=x@example.net", "after=99"]
)
async def test_what_does_not_fit_is_waited_for_until_the_time_is_over(query: str) -> None:
    async with browsing() as (found, browser):
        await found.captured()
        problem = await got(browser, f"/api/inbox/wait?{query}&timeout=0", 404)
        assert "within 0 s" in problem["error"]


async def test_the_inbox_is_emptied_but_for_the_newest() -> None:
    async with browsing() as (found, browser):
        for _ in range(3):
            await found.captured()
        assert await posted(browser, "/api/inbox/clear", {"messages": 1}) == {"messages": 2}
        assert await posted(browser, "/api/inbox/clear") == {"messages": 1}
        assert (await got(browser, "/api/inbox"))["messages"] == []


async def test_live_data_comes_as_server_sent_events() -> None:
    async with browsing() as (found, browser), browser.get("/api/events") as response:
        assert response.content_type == "text/event-stream"
        await found.waiting()
        assert await response.content.readline() == b"event: live\n"
        live = json.loads((await response.content.readline()).removeprefix(b"data: "))
        assert live["status"]["service"]["hostname"] == "mx.example.net"
        assert live["sample"]["at"] > 0


async def counts() -> Counts:
    return Counts(1, 2, 1, 0)


async def totals() -> dict[str, float]:
    return {"received": 7.0, "delivered": 5.0}


async def test_the_flow_lately_is_thinned_out_to_what_a_chart_can_show() -> None:
    flow = FlowKeeper(totals, counts, SystemClock())
    now = await flow.now()
    assert (now.received, now.delivered, now.queued, now.held) == (7.0, 5.0, 2, 1)
    flow._samples.extend(replace(now, at=now.at - 1000 + number) for number in range(1000))
    found = flow.since(timedelta(minutes=10)).samples
    assert POINTS // 2 < len(found) <= POINTS
    assert found[-1].at == now.at - 1
    assert found[0].at >= now.at - 600


async def test_what_ends_first_stands_first() -> None:
    one = Expiring("certificate", "late", "", 2e9, 900)
    board = Board(expiring=lambda: (one, replace(one, name="never", ends=0.0), replace(one, name="soon", ends=1.9e9)))
    assert [item.name for item in soonest_first(board.expiring()).items] == ["soon", "late", "never"]
    async with office() as found:
        answer = await browsed(found, "/api/expiries", board)
        assert [one["name"] for one in answer["items"]] == ["soon", "late", "never"]
        found.desk.expiring = lambda: (one, replace(one, kind="authorisation"))  # a worker's: one is known here, too
        answer = await browsed(found, "/api/expiries", board)
        assert [(one["kind"], one["name"]) for one in answer["items"]] == [
            ("certificate", "soon"),
            ("certificate", "late"),
            ("authorisation", "late"),
            ("certificate", "never"),
        ]


async def test_the_configuration_shown_is_that_of_the_last_reload_with_its_secrets_hidden() -> None:
    async with office() as found:
        board = Board(config=ConfigText("waypost.toml", "old"))
        assert await browsed(found, "/api/configuration", board) == {"where": "waypost.toml", "text": "old"}
        text = 'password = "hunter2"'
        await revisions.note(found.storage, text, by="eve", where="new.toml", now=found.desk.clock.now())
        shown = await browsed(found, "/api/configuration", board)
        assert shown == {"where": "new.toml", "text": f'password = "{HIDDEN}"'}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('password = "hunter2"', f'password = "{HIDDEN}"'),
        ("  client_secret = 'hunter2' # mine", f'  client_secret = "{HIDDEN}"'),
        ('password_file = "/etc/secret"', 'password_file = "/etc/secret"'),
        ('token_endpoint = "https://a.example/token"', 'token_endpoint = "https://a.example/token"'),
        ('to = "smtp://user:hunter2@a.example:25"', f'to = "smtp://user:{HIDDEN}@a.example:25"'),
        ('x = { user = "me", password = "hunter2" }', f'x = {{ user = "me", password = "{HIDDEN}" }}'),
        ('hostname = "mx.example.net"', 'hostname = "mx.example.net"'),
    ],
)
def test_secrets_are_hidden_where_the_configuration_is_shown(line: str, shown: str) -> None:
    assert hide_secrets(line) == shown


async def test_a_life_is_found_by_what_a_host_replied() -> None:
    async with office() as found:
        waiting, delivered = await found.waiting(), await found.delivered()

        async def ids(search: Search) -> list[str]:
            return [trace.id for trace in (await found.desk.search(search)).traces]

        assert await ids(Search(text="4.2.1 LATER <script>")) == [waiting]
        assert await ids(Search(outcome="delivered")) == [delivered]
        assert await ids(Search(domain="example.com")) == [delivered, waiting]
        assert await ids(Search(address="b@example.com", outcome="delivered")) == []


async def browsed(found: Office, path: str, board: Board | None = None) -> dict[str, Any]:
    async with (
        served(found, board=board) as server,
        aiohttp.ClientSession() as browser,
        browser.get(f"http://{server.endpoint}{path}") as response,
    ):
        return dict(await response.json())


async def test_a_search_is_paged_over_the_api() -> None:
    async with office() as found:
        older, newer = await found.delivered(), await found.delivered()
        page = await browsed(found, "/api/search?domain=example.com&limit=1")
        assert page["next"] == newer
        assert "traces" in page
        page = await browsed(found, f"/api/search?domain=example.com&limit=1&before={newer}")
        assert older in str(page["traces"])
        assert page["next"] == ""
