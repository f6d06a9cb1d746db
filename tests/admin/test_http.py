"""The API and the page over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from tests.admin.office import BODY, Office, office, served
from waypost.admin.guard import Guard, Open
from waypost.admin.http import AdminServer
from waypost.net.stream import Endpoint


@asynccontextmanager
async def browsing() -> AsyncIterator[tuple[Office, aiohttp.ClientSession]]:
    """A running API, and a client that may act."""
    async with office() as found, served(found) as server:
        headers = {"X-Waypost": "1"}
        async with aiohttp.ClientSession(f"http://{server.endpoint}", headers=headers) as browser:
            yield found, browser


async def got(browser: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with browser.get(path) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def posted(browser: aiohttp.ClientSession, path: str, body: object = None, status: int = 200) -> Any:
    async with browser.post(path, data=json.dumps(body) if body is not None else None) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_every_question_has_a_json_answer() -> None:
    async with browsing() as (found, browser):
        waiting = await found.waiting()
        await found.captured()
        assert (await got(browser, "/api/status"))["recipients"] == 1
        assert (await got(browser, "/api/queue"))["entries"][0]["state"] == "waiting"
        assert (await got(browser, "/api/destinations?limit=5"))["destinations"] == []
        assert (await got(browser, "/api/queue?domain=elsewhere.example"))["entries"] == []
        assert (await got(browser, f"/api/queue/{waiting}"))["reverse_path"] == "a@example.net"
        assert (await got(browser, f"/api/trace/{waiting}"))["traces"][0]["events"][0]["kind"] == "received"
        assert len((await got(browser, "/api/trace/a@example.net?limit=1"))["traces"]) == 1
        assert (await got(browser, "/api/resolve/example.com"))["hosts"] == ["127.0.0.9 at 127.0.0.9:2599"]
        number = (await got(browser, "/api/inbox"))["messages"][0]["number"]
        assert (await got(browser, f"/api/inbox/{number}"))["text"].startswith("Hello")


async def test_the_queue_is_changed_by_post_with_a_selection() -> None:
    async with browsing() as (found, browser):
        waiting = await found.waiting()
        assert await posted(browser, f"/api/queue/{waiting}/hold", {"reason": "why not"}) == {
            "action": "hold",
            "recipients": 1,
            "dry_run": False,
            "next": "",
        }
        assert (await got(browser, "/api/queue"))["entries"][0]["reason"] == "why not"
        assert (await posted(browser, "/api/queue/release", {"domain": "example.com"}))["recipients"] == 1
        assert (await posted(browser, "/api/queue/retry", {"everything": True}))["recipients"] == 0
        assert (await posted(browser, "/api/queue/delete", {"ids": [waiting], "by": "me"}))["recipients"] == 1


async def test_a_captured_message_can_be_had_raw_and_never_as_html() -> None:
    async with browsing() as (found, browser):
        await found.captured()
        number = (await got(browser, "/api/inbox"))["messages"][0]["number"]
        async with browser.get(f"/api/inbox/{number}/raw") as response:
            assert await response.read() == BODY
            assert response.content_type == "text/plain"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/queue/0000000000000", 404),
        ("/api/queue/no-id", 400),
        ("/api/trace/nobody@example.com", 404),
        ("/api/queue?limit=many", 400),
        ("/api/queue?after=nonsense", 400),
        ("/api/inbox/99", 404),
        ("/api/inbox/x", 400),
        ("/api/resolve/-bad-", 400),
        ("/nothing/here", 404),
    ],
)
async def test_an_error_names_its_remedy(path: str, status: int) -> None:
    async with browsing() as (_, browser):
        problem = await got(browser, path, status)
        assert problem["error"]
        assert problem["remedy"]


async def test_a_post_without_our_header_changes_nothing() -> None:
    async with browsing() as (found, browser):
        await found.waiting()
        async with aiohttp.ClientSession(browser._base_url) as page:
            problem = await posted(page, "/api/queue/delete", {"everything": True}, 403)
            assert "X-Waypost: 1" in problem["error"]
        assert (await got(browser, "/api/status"))["recipients"] == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_other_methods_are_refused_with_what_is_allowed(method: str) -> None:
    async with browsing() as (_, browser), browser.request(method, "/api/status") as response:
        assert response.status == 405
        assert "GET" in (await response.json())["remedy"]


@pytest.mark.parametrize("body", ["{", '{"ids": 7}', "[]", '{"everything": "yes"}'])
async def test_a_body_that_is_no_selection_is_refused(body: str) -> None:
    async with browsing() as (_, browser), browser.post("/api/queue/delete", data=body) as response:
        assert response.status == 400


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with browsing() as (_, browser), browser.post("/api/queue/delete", data=b" " * 300_000) as response:
        assert response.status == 413


@pytest.mark.parametrize("host", ["attacker.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]", "localhost"])
async def test_a_host_header_that_is_not_ours_is_refused(host: str) -> None:
    async with browsing() as (_, browser):
        port = str(browser._base_url.port if browser._base_url else "")
        async with browser.get("/api/status", headers={"Host": host.replace("{port}", port)}) as response:
            assert response.status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
async def test_our_own_names_are_taken_with_our_port(host: str) -> None:
    async with browsing() as (_, browser):
        port = browser._base_url.port if browser._base_url else 0
        async with browser.get("/api/status", headers={"Host": f"{host}:{port}"}) as response:
            assert response.status == 200


async def test_the_probes_and_metrics_answer() -> None:
    async with browsing() as (found, browser):
        assert await got(browser, "/healthz") == {"alive": True}
        assert await got(browser, "/readyz") == {"ready": True, "reasons": []}
        found.reasons.append("no disk")
        assert await got(browser, "/readyz", 503) == {"ready": False, "reasons": ["no disk"]}
        async with browser.get("/metrics") as response:
            assert await response.text() == "waypost_up 1\n"


async def test_the_dashboard_is_served_under_a_policy_without_inline_scripts_and_styles() -> None:
    async with browsing() as (_, browser):
        for path, kind in [("/", "text/html"), ("/web/app.js", "text/javascript"), ("/web/app.css", "text/css")]:
            async with browser.get(path) as response:
                assert (response.status, response.content_type) == (200, kind)
                policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        for path in ("/web/nothing.js", "/web/../http.py", "/web/%2e%2e/http.py", "/web/__init__.py"):
            await got(browser, path, 404)


async def test_addresses_of_the_older_page_lead_into_the_dashboard() -> None:
    async with browsing() as (_, browser):
        for old, new in [("/inbox/7", "/#/inbox/7"), ("/trace/1dvq3kbaxm00g", "/#/trace/1dvq3kbaxm00g")]:
            async with browser.get(old, allow_redirects=False) as response:
                assert (response.status, response.headers["Location"]) == (302, new)


async def test_html_mail_is_served_for_a_frame_in_which_nothing_loads_or_runs() -> None:
    async with browsing() as (found, browser):
        octets = b'Content-Type: text/html\r\n\r\n<img src="http://tracker.example/"><script>alert(1)</script>\r\n'
        await found.captured(octets=octets)
        number = (await got(browser, "/api/inbox"))["messages"][0]["number"]
        async with browser.get(f"/api/inbox/{number}/html") as response:
            policy = response.headers["Content-Security-Policy"]
            assert "<script>" in await response.text()
        assert "default-src 'none'" in policy
        assert policy.endswith("sandbox")
        assert "script-src" not in policy


async def test_an_attachment_is_had_decoded_and_only_to_be_saved() -> None:
    async with browsing() as (found, browser):
        octets = (
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello\r\n--x\r\n"
            b'Content-Type: text/html; name="a b.html"\r\nContent-Disposition: attachment; filename="a b.html"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--x--\r\n"
        )
        await found.captured(octets=octets)
        number = (await got(browser, "/api/inbox"))["messages"][0]["number"]
        assert (await got(browser, f"/api/inbox/{number}"))["attachments"] == ["a b.html"]
        async with browser.get(f"/api/inbox/{number}/parts/0") as response:
            assert await response.read() == b"<b>"
            assert response.content_type == "application/octet-stream"
            assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%20b.html"
        await got(browser, f"/api/inbox/{number}/parts/1", 404)


async def test_a_defect_answers_500_and_harms_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with browsing() as (found, browser):

        async def broken() -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(found.storage, "counts", broken)
        assert "defect" in (await got(browser, "/api/status", 500))["error"]
        assert await got(browser, "/healthz") == {"alive": True}


async def test_only_loopback_is_listened_on() -> None:
    async with office() as found:

        async def metrics() -> bytes:
            return b""

        with pytest.raises(ValueError, match="not loopback"):
            AdminServer(
                found.desk,
                Endpoint("0.0.0.0", 0),
                metrics=metrics,
                not_ready=found.desk.not_ready,
                guard=Guard(Open(), found.desk.clock),
            )


async def test_an_address_that_is_taken_is_named() -> None:
    async with office() as found, served(found) as first:

        async def metrics() -> bytes:
            return b""

        guard = Guard(Open(), found.desk.clock)
        second = AdminServer(found.desk, first.endpoint, metrics=metrics, not_ready=found.desk.not_ready, guard=guard)
        with pytest.raises(OSError, match=r"\[admin\] address 127\.0\.0\.1:\d+: Address already in use"):
            await second.start()


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/status"])
async def test_who_does_not_finish_a_header_is_cut_off_and_nobody_else(path: str) -> None:
    async with office() as found, served(found, silence=timedelta(seconds=0.4)) as server:
        reader, writer = await asyncio.open_connection(server.endpoint.host, server.endpoint.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Sl".encode())
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        async with aiohttp.ClientSession(f"http://{server.endpoint}") as browser, browser.get(path) as response:
            assert response.status == 200
