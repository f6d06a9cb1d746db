"""The way to the service where that goes wrong: somebody else listens, or speaks another version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.admin.office import RELAYED, destination, office, served
from waypost.admin.answers import ActBody, FailureKind, FreezeBody, OperationError
from waypost.admin.client import ServiceDesk
from waypost.net.stream import Endpoint
from waypost.queue.storage import Selection
from waypost.route.state import Phase


@asynccontextmanager
async def something(answer: bytes) -> AsyncIterator[ServiceDesk]:
    """A server that answers anything with these octets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield ServiceDesk(Endpoint(*server.sockets[0].getsockname()[:2]), timeout=5)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"220 mx.example.net ESMTP\r\n", "did not answer"),
        (b"", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "no Status"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"later":1}', "no Status"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nhi", "HTTP status 502"),
    ],
)
async def test_whoever_is_not_waypost_is_an_error_with_a_remedy(answer: bytes, complaint: str) -> None:
    async with something(answer) as desk:
        with pytest.raises(OperationError, match=complaint) as failed:
            await desk.status()
        assert failed.value.kind is FailureKind.UNAVAILABLE
        assert failed.value.remedy


async def test_every_question_passes_through_and_comes_back_as_the_same_value() -> None:
    async with office() as found, served(found) as server:
        waiting, desk = await found.waiting(), ServiceDesk(server.endpoint)
        await found.captured()
        assert await desk.is_there()
        everything = Selection(ids=(waiting,), address="b@example.com", domain="example.com")
        assert await desk.queue(everything) == await found.desk.queue(everything)
        assert await desk.show(waiting) == await found.desk.show(waiting)
        found.delivering.append(destination("smtp://127.0.0.9", Phase.RESTING, cause="it refuses"))
        assert list((await desk.destinations()).destinations) == found.delivering
        assert (await desk.trace("b@example.com")).traces[0].id == waiting
        assert await desk.resolve("example.org") == await found.desk.resolve("example.org")
        assert await desk.resolve("[192.0.2.1]") == await found.desk.resolve("[192.0.2.1]")
        inbox = await desk.inbox()
        assert inbox == await found.desk.inbox()
        number = inbox.messages[0].number
        assert await desk.captured(number) == await found.desk.captured(number)
        assert await desk.captured_octets(number) == await found.desk.captured_octets(number)
        assert (await desk.act("hold", ActBody(ids=(waiting,), by="me", reason="why"))).recipients == 1
        assert (await desk.queue(everything)).entries[0].reason == "why"
        assert (await desk.why(waiting)).recipients == (await found.desk.why(waiting)).recipients
        odd = Selection(state="held", text="why", received_before=4e9)
        assert (await desk.queue(odd)).entries == (await found.desk.queue(odd)).entries != ()
        assert (await desk.freeze(FreezeBody(RELAYED, by="me"))).frozen == (await desk.frozen()).frozen
        assert (await desk.thaw(FreezeBody(RELAYED))).frozen == ()
        assert (await desk.act("delete", ActBody(ids=(waiting,), by="me"))).recipients == 1
        assert await desk.bin(Selection(ids=(waiting,))) == await found.desk.bin(Selection())
        assert (await desk.restore(ActBody(everything=True))).recipients == 1


async def test_what_the_service_refuses_keeps_its_kind() -> None:
    async with office() as found, served(found) as server:
        desk = ServiceDesk(server.endpoint)
        for asked, kind in [("nobody@example.com", FailureKind.NOT_FOUND), ("no-id", FailureKind.BAD_REQUEST)]:
            with pytest.raises(OperationError) as failed:
                await desk.trace(asked)
            assert failed.value.kind is kind
