"""Requests over real TLS to a server on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import trustme
from aiohttp import web

from tests.route.written import WrittenResolver
from waypost.net.https import AiohttpHttps, HttpsAnswer, HttpsFailed, HttpsTrouble
from waypost.net.resolver import Addresses

CA = trustme.CA()
NAME = "mta-sts.far.example"
SOON = timedelta(seconds=20)
RESOLVER = WrittenResolver({}, {NAME: Addresses(("127.0.0.1",))})


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/text":
            return web.Response(text="hello", content_type="Text/Plain", charset="utf-8")
        case "/moved":
            raise web.HTTPMovedPermanently("/text")
        case "/large":
            return web.Response(body=b"x" * 2000)
        case "/slow":
            await asyncio.sleep(60)
        case "/post":
            return web.Response(body=await request.read(), content_type=request.headers["Content-Type"])
        case _:
            pass
    raise web.HTTPNotFound


@asynccontextmanager
async def server(name: str = NAME) -> AsyncIterator[int]:
    """The port of a server whose certificate is for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(name).configure_cert(context)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def client() -> AiohttpHttps:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return AiohttpHttps(RESOLVER, context)


async def get(port: int, path: str, within: timedelta = SOON) -> HttpsAnswer | HttpsFailed:
    return await client().get(f"https://{NAME}:{port}{path}", limit=1000, within=within)


async def test_a_file_is_fetched_with_its_media_type() -> None:
    async with server() as port:
        assert await get(port, "/text") == HttpsAnswer(200, "text/plain", b"hello")


async def test_a_redirection_is_not_followed() -> None:
    """RFC 8461 §3.3."""
    async with server() as port:
        answered = await get(port, "/moved")
    assert isinstance(answered, HttpsAnswer)
    assert answered.status == 301


async def test_what_is_posted_arrives_with_its_headers() -> None:
    async with server() as port:
        url = f"https://{NAME}:{port}/post"
        headers = {"Content-Type": "application/tlsrpt+gzip"}
        answered = await client().post(url, b"\x1f\x8b", headers, limit=1000, within=SOON)
    assert answered == HttpsAnswer(200, "application/tlsrpt+gzip", b"\x1f\x8b")


async def failed(port: int, path: str, within: timedelta = SOON) -> HttpsTrouble:
    answered = await get(port, path, within)
    assert isinstance(answered, HttpsFailed)
    return answered.trouble


async def test_a_certificate_for_another_name_is_refused() -> None:
    async with server("other.example") as port:
        assert await failed(port, "/text") is HttpsTrouble.CERTIFICATE


async def test_a_certificate_nobody_trusts_is_refused() -> None:
    async with server() as port:
        untrusting = AiohttpHttps(RESOLVER, ssl.create_default_context())
        answered = await untrusting.get(f"https://{NAME}:{port}/text", limit=1000, within=SOON)
    assert isinstance(answered, HttpsFailed)
    assert answered.trouble is HttpsTrouble.CERTIFICATE


async def test_an_answer_too_large_is_not_read_to_its_end() -> None:
    async with server() as port:
        assert await failed(port, "/large") is HttpsTrouble.TOO_LARGE


async def test_an_answer_that_does_not_come_is_given_up() -> None:
    async with server() as port:
        assert await failed(port, "/slow", timedelta(milliseconds=300)) is HttpsTrouble.TIMED_OUT


async def test_a_server_that_speaks_in_clear_is_no_https() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        assert await failed(listening.sockets[0].getsockname()[1], "/text") is HttpsTrouble.CERTIFICATE


async def test_a_name_without_an_address_is_not_reached() -> None:
    answered = await client().get("https://nowhere.example/x", limit=1000, within=SOON)
    assert isinstance(answered, HttpsFailed)
    assert answered.trouble is HttpsTrouble.UNREACHABLE


async def test_nothing_is_asked_for_in_clear() -> None:
    answered = await client().get(f"http://{NAME}/x", limit=1000, within=SOON)
    assert isinstance(answered, HttpsFailed)
    assert "no https:// address" in str(answered)
