"""Webhooks: real requests to a server on loopback, and what each kind of answer, or none, makes of the mail."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.deliver.peer import BODY, lease, message, recipient
from tests.route.written import WrittenResolver
from tests.virtual import settled
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.smtp import Reached, Unreachable
from waypost.deliver.webhook import LONGEST_RETRY_AFTER, WebhookDelivery, idempotency_key
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import InMemory, Octets
from waypost.mail.explain import describe, report_fields
from waypost.mail.outcome import (
    ConnectionLost,
    Deferred,
    Delivered,
    HttpAnswered,
    InDoubt,
    LocalTrouble,
    NotConnected,
    Outcome,
    Rejected,
)
from waypost.net.clock import SystemClock
from waypost.net.resolver import Addresses
from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind
from waypost.route.route import HookFormat, Webhook

NAME = "app.example"
RESOLVER = WrittenResolver({}, {NAME: Addresses(("127.0.0.1",))})
CA = trustme.CA()
CONTEXT = ssl.create_default_context()
CA.configure_trust(CONTEXT)
DELIVERY = WebhookDelivery(RESOLVER, CONTEXT, SystemClock())
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def application(handler: Handler, *, certificate: str = "", authority: trustme.CA = CA) -> AsyncIterator[str]:
    """The URL of an application whose every request `handler` answers."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if certificate:
        authority.issue_cert(certificate).configure_cert(context)
    app = web.Application(client_max_size=10**8)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context if certificate else None).start()
    try:
        yield f"http{'s' if certificate else ''}://{NAME}:{runner.addresses[0][1]}/mail"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def wire(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a server that speaks HTTP as badly as `handle` does."""
    sessions: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions[asyncio.current_task()] = writer
        with contextlib.suppress(asyncio.CancelledError):
            await handle(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://{NAME}:{server.sockets[0].getsockname()[1]}/mail"
        for task, writer in sessions.items():
            writer.transport.abort()
            if task:
                task.cancel()
        await asyncio.gather(*filter(None, sessions), return_exceptions=True)
        await settled()


async def post(
    webhook: Webhook, *, octets: Octets | None = None, count: int = 1, most: int = 100, traceparent: str = ""
) -> tuple[list[Outcome], Reached | Unreachable, Transcript]:
    """One attempt for `count` recipients."""
    sent = lease([recipient(number) for number in range(count)], octets=octets)
    sent = replace(sent, message=replace(sent.message, traceparent=traceparent))
    fates, transcript = Fates(sent.recipients), Transcript(SystemClock().monotonic())
    reach = await DELIVERY.deliver(sent, webhook, most, fates, transcript)
    assert isinstance(reach, Reached | Unreachable)
    return [outcome for _, outcome in fates.closed(deferred(LocalTrouble("untouched")))], reach, transcript


async def test_an_application_with_a_private_authority_is_believed_by_it_alone(tmp_path: Path) -> None:
    private, strange = trustme.CA(), trustme.CA()
    for authority, name in ((private, "private.pem"), (strange, "strange.pem")):
        authority.cert_pem.write_to_path(str(tmp_path / name))

    async def take(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=204)

    async with application(take, certificate=NAME, authority=private) as url:
        believed = Webhook(url, ca=str(tmp_path / "private.pem"))
        ((outcome,), _, _) = await post(believed)
        assert isinstance(outcome, Delivered)
        for webhook in (Webhook(url), Webhook(url, ca=str(tmp_path / "strange.pem"))):
            ((outcome,), reach, _) = await post(webhook)
            assert isinstance(reach, Unreachable)
            assert "certificate" in describe(outcome)
        ((outcome,), _, _) = await post(Webhook(url, ca=str(tmp_path / "gone.pem")))
        assert isinstance(outcome, Deferred)
        assert "gone.pem" in describe(outcome)


async def answered(status: int, headers: dict[str, str] | None = None) -> Outcome:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text="so it is\r\nand more", headers=headers)

    async with application(answer) as url:
        (outcome,), _, _ = await post(Webhook(url))
    return outcome


async def test_json_has_envelope_header_and_message() -> None:
    seen: list[dict[str, object]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return web.Response(text="thanks")

    async with application(answer) as url:
        (outcome, _), reach, transcript = await post(Webhook(url), count=2)
    assert isinstance(outcome, Delivered)
    assert outcome.final
    assert isinstance(reach, Reached)
    (told,) = seen
    assert (told["from"], told["to"]) == ("alice@example.org", ["user0@example.com", "user1@example.com"])
    assert told["headers"] == [["Subject", "test"]]
    assert b64decode(str(told["message"])) == BODY
    assert "S 200 OK" in str(transcript)
    assert "hello" not in str(transcript)


async def test_raw_has_the_octets_as_they_are_and_the_envelope_in_a_header() -> None:
    seen: list[tuple[str, dict[str, object], bytes]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        envelope = json.loads(request.headers["Waypost-Envelope"])
        seen.append((request.content_type, envelope, await request.read()))
        return web.Response(status=202)

    async with application(answer) as url:
        outcomes, _, _ = await post(Webhook(url, HookFormat.RAW), count=25)
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert [(kind, body) for kind, _, body in seen] == [("message/rfc822", BODY)] * 2
    told = [address for _, envelope, _ in seen for address in envelope["to"]]  # type: ignore[attr-defined]  # JSON
    assert told == [f"user{number}@example.com" for number in range(25)]


@pytest.mark.parametrize("form", HookFormat)
async def test_the_signature_is_over_what_was_sent_and_when(form: HookFormat) -> None:
    seen: list[tuple[str, bytes, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        seen.append((request.headers["Waypost-Signature"], await request.read(), key))
        return web.Response()

    async with application(answer) as url:
        await post(Webhook(url, form, "s3cret"))
        await post(Webhook(url, form, "s3cret"))
    (signature, body, key), (_, _, again) = seen
    moment, digest = (part.partition("=")[2] for part in signature.split(","))
    assert digest == hmac.new(b"s3cret", f"{moment}.".encode() + body, sha256).hexdigest()
    assert abs(int(moment) - SystemClock().now()) < 60
    assert key == again == idempotency_key(message(), [recipient(0)])


def test_a_key_is_told_apart_by_message_and_recipients() -> None:
    many = [recipient(number) for number in range(50)]
    keys = {idempotency_key(message(), batch) for batch in ([many[0]], [many[1]], many[:2], many, many[:49])}
    assert len(keys | {idempotency_key(message(name="M000000000002"), [many[0]])}) == 6
    assert max(map(len, keys)) < 64


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2yz_is_delivery(status: int) -> None:
    assert isinstance(await answered(status), Delivered)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 422])
async def test_4yz_refuses_for_good(status: int) -> None:
    outcome = await answered(status)
    assert isinstance(outcome, Rejected)
    assert str(status) in describe(outcome)
    assert report_fields(outcome).diagnostic.startswith(f"x-http; {status}")


@pytest.mark.parametrize("status", [301, 302, 408, 425, 429, 500, 502, 503, 504])
async def test_what_asks_for_another_try_and_what_only_an_administrator_can_mend_waits(status: int) -> None:
    outcome = await answered(status, {"Location": "/elsewhere"})
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, HttpAnswered)
    assert outcome.not_before == 0.0


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("120", 120), ("999999999999", LONGEST_RETRY_AFTER), ("Fri, 31 Dec 2999 23:59:59 GMT", LONGEST_RETRY_AFTER)],
)
async def test_retry_after_is_honoured_within_bounds(retry_after: str, seconds: float) -> None:
    outcome = await answered(429, {"Retry-After": retry_after})
    assert isinstance(outcome, Deferred)
    assert abs(outcome.not_before - SystemClock().now() - seconds) < 60
    assert "not before" in describe(outcome)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40))
def test_no_retry_after_however_odd_is_trouble(text: str) -> None:
    moment = DELIVERY._not_before(text)
    assert 0.0 <= moment <= SystemClock().now() + LONGEST_RETRY_AFTER + 1


async def test_an_application_that_answers_nothing_to_a_whole_request_leaves_it_in_doubt() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.close()

    async with wire(hang_up) as url:
        (outcome,), _, transcript = await post(Webhook(url))
    assert isinstance(outcome, InDoubt)
    assert "went out whole" in str(transcript)


async def test_an_application_that_hangs_up_within_the_request_has_not_got_it() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with wire(reset) as url:
        (outcome,), reach, _ = await post(Webhook(url), octets=InMemory(b"x" * 20_000_000))
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, ConnectionLost)
    assert isinstance(reach, Unreachable)


async def test_silence_ends_with_the_time_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with wire(silent) as url:
        (outcome,), _, _ = await post(Webhook(url, timeout=timedelta(milliseconds=200)))
    assert isinstance(outcome, InDoubt)
    assert "0.2 s" in describe(outcome)


async def test_what_is_no_http_leaves_it_in_doubt() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(b"220 this is SMTP\r\n")
        await writer.drain()
        writer.close()

    async with wire(babble) as url:
        (outcome,), _, _ = await post(Webhook(url))
    assert isinstance(outcome, InDoubt)


async def test_nobody_there_defers_and_the_destination_is_told_of() -> None:
    async with wire(lambda *_: asyncio.sleep(0)) as url:
        pass
    (one, other), reach, _ = await post(Webhook(url), count=2, most=1)
    assert isinstance(one, Deferred)
    assert isinstance(one.cause, NotConnected)
    assert one == other
    assert isinstance(reach, Unreachable)


async def test_a_name_without_address_defers() -> None:
    (outcome,), _, _ = await post(Webhook("https://nowhere.example/mail"))
    assert isinstance(outcome, Deferred)


async def test_a_certificate_of_anothers_gets_no_mail() -> None:
    requests: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        return web.Response()

    async with application(answer, certificate="other.example") as url:
        (outcome,), _, _ = await post(Webhook(url))
    assert isinstance(outcome, Deferred)
    assert requests == []
    async with application(answer, certificate=NAME) as url:
        (outcome,), _, _ = await post(Webhook(url))
    assert isinstance(outcome, Delivered)


class Torn:
    size = 3_000_000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        raise StorageError(StoreFault(StoreFaultKind.FAILED, "sector 7"))


async def test_an_unreadable_spool_sends_no_whole_request() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        raise AssertionError("a whole request came")

    async with application(answer) as url:
        (outcome,), _, _ = await post(Webhook(url, HookFormat.RAW), octets=Torn())
    assert isinstance(outcome, Deferred)
    assert "sector 7" in describe(outcome)


@given(st.binary(max_size=300), st.integers(1, 100))
def test_any_octets_come_through_json_as_they_are(octets: bytes, cut: int) -> None:
    class Cut:
        size = len(octets)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for start in range(0, len(octets), cut):
                yield octets[start : start + cut]

    async def told() -> bytes:
        content, headers = await DELIVERY._request(message(), Cut(), Webhook("https://a/"), [recipient(0)])
        body = b"".join([piece async for piece in content])
        assert len(body) == int(headers["Content-Length"])
        return body

    assert b64decode(json.loads(asyncio.run(told()))["message"]) == octets


async def test_addresses_beyond_ascii_and_beyond_utf_8_do_not_break_the_envelope() -> None:
    odd = [recipient(0, "jürgen@example.com"), replace(recipient(1, "x@example.com"))]
    _, headers = await DELIVERY._request(message(), InMemory(BODY), Webhook("https://a/", HookFormat.RAW), odd)
    assert headers["Waypost-Envelope"].isascii()
    assert json.loads(headers["Waypost-Envelope"])["to"][0] == "jürgen@example.com"


async def test_a_request_says_which_trace_it_belongs_to_where_its_message_does() -> None:
    said: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        said.append(request.headers.get("traceparent", ""))
        return web.Response()

    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with application(answer) as url:
        await post(Webhook(url), traceparent=given)
        await post(Webhook(url))
    assert said == [given, ""]
