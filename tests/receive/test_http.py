"""POST /v1/messages: 202 after the commit, a reply a recipient, accounts, keys, and honest errors."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as modern
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.auth.people import ALICE, PASSWORD, authenticator
from tests.receive.house import FULL, Failing
from tests.receive.inside import DOOR, Inside, inside
from waypost.net.stream import Endpoint
from waypost.net.web import SILENCE
from waypost.policy.admission import RelayPolicy
from waypost.queue.memory import MemoryStorage
from waypost.receive.http import Guard, HttpDoor, status_of
from waypost.receive.login import NO_LOGINS
from waypost.smtp.reply import Reply

LETTER = {"from": "Ann <ann@example.org>", "to": ["Bob <bob@elsewhere.example>"], "subject": "Grüße", "text": "hello\n"}
RAW = b"From: ann@example.org\nTo: bob@elsewhere.example\nBcc: carl@elsewhere.example\n\nraw\n"


def basic(password: str) -> str:
    return f"Basic {b64encode(f'{ALICE}:{password}'.encode()).decode()}"


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Shop:
    """A door over HTTP, and a client of it."""

    place: Inside
    url: str
    client: aiohttp.ClientSession

    async def post(self, body: object, query: str = "", **headers: str) -> tuple[int, Mapping[str, Any]]:
        """Status and answer. What is no octets is sent as JSON."""
        kind = "message/rfc822" if isinstance(body, bytes) else "application/json"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(f"{self.url}{query}", data=data, headers=named) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def shop(
    storage: MemoryStorage | None = None,
    users: Path | None = None,
    *,
    relay: bool = True,
    connections: int = 0,
    silence: timedelta = SILENCE,
) -> AsyncIterator[Shop]:
    place = await inside(storage, replace(DOOR, endpoint=Endpoint("127.0.0.1", 0), connections=connections))
    networks = RelayPolicy((ip_network("127.0.0.0/8"),) if relay else ())
    logins = authenticator(users) if users else NO_LOGINS
    guard = Guard(logins, networks, place.house.log, place.house.clock, ("PLAIN",) if users else ())
    async with HttpDoor(place.intake, guard, silence=silence) as door, aiohttp.ClientSession() as client:
        yield Shop(place, f"http://{door.endpoint}/v1/messages", client)


def recipients(answer: Mapping[str, Any]) -> list[tuple[str, bool]]:
    return [(each["address"], each["accepted"]) for each in answer["recipients"]]


async def test_a_described_message_is_written_and_kept() -> None:
    async with shop() as here:
        file = {"filename": "täst.png", "content": "iVBORw==", "content_type": "image/png"}
        more = {
            "html": "<b>hello</b>",
            "bcc": ["x@closed.example"],
            "attachments": [file],
            "headers": {"X-Tag": "a\u00e9"},
        }
        status, answer = await here.post(LETTER | more)
        assert status == 202
        assert recipients(answer) == [("bob@elsewhere.example", True), ("x@closed.example", False)]
        (entry,) = await here.place.queued()
        assert entry.id == answer["id"]
        assert entry.reverse_path == "ann@example.org"
        octets = await here.place.octets(entry)
        assert b"x@closed.example" not in octets
        message = message_from_bytes(octets, policy=modern)
        assert (message["Subject"], message["To"], message["X-Tag"]) == ("Grüße", "Bob <bob@elsewhere.example>", "aé")
        kinds = [part.get_content_type() for part in message.walk()]
        assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "image/png"]
        assert [part.get_filename() for part in message.iter_attachments()] == ["täst.png"]


async def test_a_raw_message_goes_by_its_header_or_by_the_query() -> None:
    async with shop() as here:
        status, answer = await here.post(RAW)
        assert status == 202
        assert [each for each, _ in recipients(answer)] == ["bob@elsewhere.example", "carl@elsewhere.example"]
        octets = await here.place.octets((await here.place.queued())[0])
        assert octets.endswith(b"\r\n\r\nraw\r\n")
        assert b"Bcc" not in octets
        status, answer = await here.post(RAW, "?from=%3C%3E&to=dora@elsewhere.example")
        assert [each for each, _ in recipients(answer)] == ["dora@elsewhere.example"]
        assert (await here.place.queued())[-1].reverse_path == ""


async def test_the_same_idempotency_key_stores_nothing_twice() -> None:
    async with shop() as here:
        first = await here.post(LETTER, Idempotency_Key="order-17")
        again = await here.post(LETTER, Idempotency_Key="order-17")
        assert (first[0], again[0]) == (202, 202)
        assert again[1] == {**first[1], "repeated": True}
        assert len(await here.place.queued()) == 1
        status, answer = await here.post(LETTER | {"text": "other"}, Idempotency_Key="order-17")
        assert (status, answer["error"]) == (409, "another message was handed in under the same key")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"from": "nobody"}, "\"from\" is 'nobody'"),
        ({"to": []}, "no recipient"),
        ({"text": ""}, '"text" and "html" are both missing'),
        ({"txt": "hello"}, "txt"),
        ({"to": "bob@example.org"}, "to"),
        ({"headers": {"Subject": "again"}}, "'Subject'"),
        ({"headers": {"X-A": "b\r\nBcc: all@example.org"}}, "cannot be written"),
        ({"attachments": [{"filename": "a", "content": "?"}]}, "not base64"),
        ({"attachments": [{"filename": "a", "content": "", "content_type": "message/rfc822"}]}, "content_type"),
        ({"subject": "a\nb"}, "cannot be written"),
    ],
)
async def test_what_is_no_message_is_told_by_its_key(change: Mapping[str, object], error: str) -> None:
    async with shop() as here:
        status, answer = await here.post({**LETTER, **change})
        assert status == 400
        assert error in answer["error"]
        assert await here.place.queued() == []


async def test_a_message_nobody_may_have_is_told_with_each_reply() -> None:
    async with shop() as here:
        status, answer = await here.post(LETTER | {"to": ["x@closed.example"]})
        assert status == 422
        said = {"address": "x@closed.example", "accepted": False, "reply": "550 5.1.1 no such user here"}
        assert answer["recipients"] == [said]


async def test_a_spool_in_trouble_is_no_fault_of_the_client() -> None:
    async with shop(Failing(FULL)) as here, here.client.post(here.url, json=LETTER) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        assert "452 4.3.1" in (await answer.json())["recipients"][0]["reply"]


async def test_without_an_account_only_relay_networks_may_send() -> None:
    async with shop(relay=False) as here:
        status, answer = await here.post(LETTER)
        assert status == 401
        assert "127.0.0.1 is in no network of [relay]" in answer["error"]
        assert await here.place.queued() == []


async def test_an_account_sends_as_itself_alone(tmp_path: Path) -> None:
    async with shop(users=tmp_path, relay=False) as here:
        login = basic(PASSWORD)
        status, _ = await here.post(LETTER | {"from": f"Alice <{ALICE}>"}, Authorization=login)
        assert status == 202
        status, answer = await here.post(LETTER, Authorization=login)
        assert status == 403
        assert "is no reverse-path of" in answer["recipients"][0]["reply"]


@pytest.mark.parametrize("header", ["Basic !!!", "Digest x", "Bearer abc", basic("wrong")])
async def test_a_wrong_login_is_refused(tmp_path: Path, header: str) -> None:
    async with shop(users=tmp_path) as here:
        status, _ = await here.post(LETTER, Authorization=header)
        assert status == 401
        assert await here.place.queued() == []


async def test_other_requests_are_told_what_is_wrong() -> None:
    async with shop() as here:
        async with here.client.get(here.url) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with here.client.post(here.url, data=b"x", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 415
        async with here.client.post(f"{here.url}/more", data=b"x") as answer:
            assert answer.status == 404
        status, answer_ = await here.post(b"From: a@b.example\nTo: b@ours.example\n\n" + b"x" * 400_000)
        assert (status, answer_["error"]) == (413, "the request is larger than any message that is taken here")
        status, _ = await here.post(b"From: a@b.example\nTo: b@ours.example\n\n" + b"x\n" * 60_000)
        assert status == 413
        status, _ = await here.post(LETTER, Idempotency_Key="x" * 256)
        assert status == 400


async def test_a_listener_with_a_limit_of_its_own_answers_503_to_one_more_connection() -> None:
    async with shop(connections=1) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(here.url).port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        status, answer = await here.post(LETTER)
        assert (status, answer["error"]) == (
            503,
            "more than 1 connections at once, which is all that this listener may have",
        )
        writer.close()
        await here.client.close()  # aiohttp keeps its own connection, which counts


@pytest.mark.parametrize("said", [b"", b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Sl"])
async def test_who_does_not_finish_a_header_is_cut_off(said: bytes) -> None:
    async with shop(silence=timedelta(seconds=0.4)) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(here.url).port)
        writer.write(said)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("reply", "status"),
    [("450 4.7.1 slow down", 429), ("451 4.3.0 later", 503), ("552 5.3.4 large", 413), ("550 5.7.1 no", 403)],
)
def test_a_reply_has_its_status(reply: str, status: int) -> None:
    code, _, text = reply.partition(" ")
    assert status_of((Reply(int(code), (text,)), Reply(250, ("ok",)))) == status


@pytest.mark.parametrize(("said", "kept"), [(TRACEPARENT, TRACEPARENT), (f"{TRACEPARENT}-no", "")])
async def test_a_message_belongs_to_the_trace_that_its_request_or_its_header_names(said: str, kept: str) -> None:
    async with shop() as here:
        await here.post(LETTER, traceparent=said)
        await here.post(b"Traceparent: " + said.encode() + b"\r\n" + RAW)
        for entry in await here.place.queued():
            message, _ = await here.place.storage.message(entry.id)
            assert message.traceparent == kept
