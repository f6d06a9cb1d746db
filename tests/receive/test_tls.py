"""TLS with clients, over real sockets, on asyncio's loop and uvloop's: what works, and each way a handshake fails.

Not here: who is shown which certificate (tests/net/test_certificates.py), what may be said when (tests/dialogue).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from tests.auth.people import ALICE, authenticator
from tests.certificates import trusting, write_certificate
from tests.receive.house import BANNER, HOSTNAME, Log, make_house
from waypost.net.certificates import Keyring, NoCertificate
from waypost.net.clock import SystemClock
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.net.tls import TlsFacts
from waypost.receive.house import House
from waypost.receive.login import NO_LOGINS, Logins
from waypost.receive.server import Receiver
from waypost.receive.settings import Door, ReceiveSettings
from waypost.smtp.settings import ServerSettings

HERE = Endpoint("127.0.0.1", 0)
SOON = timedelta(seconds=5)
Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    def runner(main: Main) -> None:
        with asyncio.Runner(loop_factory=request.param) as it:
            it.run(main())

    return runner


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def keyring(authority: trustme.CA, tmp_path: Path) -> Keyring:
    keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME)])
    keyring.refresh()
    return keyring


@dataclass
class Told(Log):
    """Remembers handshakes too, and tells when a session has ended."""

    handshakes: list[TlsFacts | Fault] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def handshake(self, client: Endpoint, door: str, result: TlsFacts | Fault) -> None:
        self.handshakes.append(result)

    def ended(self, client: Endpoint, reason: str, messages: int) -> None:
        super().ended(client, reason, messages)
        self.over.set()


@dataclass
class Client:
    """A client's end, which can be taken into TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *lines: str) -> str:
        """Say lines, each after the reply to the one before; the last reply."""
        reply = ""
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def hear(self) -> str:
        reply = ""
        while reply == "" or reply.splitlines()[-1][3:4] == "-":
            line = await self.reader.readline()
            if not line:
                return reply + "(end)"
            reply += line.decode()
        return reply.rstrip()

    async def shake(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname=HOSTNAME)

    async def ends(self) -> None:
        with suppress(OSError):
            assert await self.reader.read() == b""


@dataclass
class Scene:
    receiver: Receiver
    house: House
    told: Told
    clients: list[Client] = field(default_factory=list)

    async def connect(self, **options: Any) -> Client:
        end = self.receiver.endpoints[0]
        self.clients.append(Client(*await asyncio.open_connection(end.host, end.port, **options)))
        return self.clients[-1]

    async def greeted(self, **options: Any) -> Client:
        client = await self.connect(**options)
        assert await client.hear() == str(BANNER)
        return client


@asynccontextmanager
async def scene(
    context: Callable[[], ssl.SSLContext | NoCertificate],
    *,
    implicit: bool = False,
    required: bool = False,
    handshake: timedelta = SOON,
    connections: int = 100,
    logins: Logins = NO_LOGINS,
    mechanisms: tuple[str, ...] = (),
) -> AsyncIterator[Scene]:
    told = Told()
    settings = ReceiveSettings(handshake=handshake, connections=connections)
    house = replace(make_house(settings=settings), clock=SystemClock(), log=told, logins=logins)
    await house.storage.open(owner="test")
    smtp = ServerSettings(HOSTNAME, starttls=not implicit, tls_required=required, mechanisms=mechanisms)
    receiver = Receiver([Door(HERE, smtp, implicit_tls=implicit, context=context)], house)
    await receiver.start()
    it = Scene(receiver, house, told)
    try:
        yield it
    finally:
        for client in it.clients:
            client.writer.transport.abort()
        await receiver.stop(timedelta())


SEND = ("EHLO us.example", "MAIL FROM:<alice@us.example>", "RCPT TO:<bob@ours.example>", "DATA")


async def send(client: Client) -> None:
    assert (await client.say(*SEND)).startswith("354")
    assert (await client.say("Subject: x\r\n\r\nhello\r\n.")).startswith("250")
    assert (await client.say("QUIT")).startswith("221")


def test_a_message_comes_in_after_starttls_and_its_trace_says_so(
    run: Callable[[Main], None], keyring: Keyring, authority: trustme.CA
) -> None:
    async def main() -> None:
        async with scene(keyring.context) as it:
            client = await it.greeted()
            assert "250 STARTTLS" in await client.say("EHLO us.example")
            assert (await client.say("STARTTLS")).startswith("220")
            await client.shake(trusting(authority))
            await send(client)
            await it.told.over.wait()
            (_, envelope, _), (facts,) = it.told.taken[0], it.told.handshakes
            assert envelope.origin.protocol == "ESMTPS"
            assert envelope.origin.tls == str(facts) == "TLSv1.3 TLS_AES_256_GCM_SHA384"

    run(main)


def test_a_message_comes_in_under_implicit_tls(
    run: Callable[[Main], None], keyring: Keyring, authority: trustme.CA
) -> None:
    async def main() -> None:
        async with scene(keyring.context, implicit=True) as it:
            client = await it.greeted(ssl=trusting(authority), server_hostname=HOSTNAME)
            await send(client)
            assert it.told.taken[0][1].origin.protocol == "ESMTPS"

    run(main)


def test_a_client_hello_that_comes_with_the_connection_is_heard(
    run: Callable[[Main], None], keyring: Keyring, authority: trustme.CA
) -> None:
    """Under implicit TLS a client speaks first, and may have spoken before the session runs."""

    async def main() -> None:
        async with scene(keyring.context, implicit=True) as it:
            clients = [it.greeted(ssl=trusting(authority), server_hostname=HOSTNAME) for _ in range(20)]
            for client in await asyncio.gather(*clients):
                assert (await client.say("QUIT")).startswith("221")

    run(main)


def test_one_version_and_cipher_of_tls_1_2_is_named_as_iana_names_it(
    run: Callable[[Main], None], keyring: Keyring, authority: trustme.CA
) -> None:
    async def main() -> None:
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with scene(keyring.context, implicit=True) as it:
            client = await it.greeted(ssl=context, server_hostname=HOSTNAME)
            await client.say("QUIT")
            (facts,) = it.told.handshakes
            assert str(facts) == "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"

    run(main)


def test_a_client_is_asked_for_its_certificate_where_the_listener_says_whose(
    run: Callable[[Main], None], authority: trustme.CA, tmp_path: Path
) -> None:
    async def main() -> None:
        ca = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca))
        keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME)], client_cas=[str(ca)])
        keyring.refresh()
        known, unknown = trusting(authority), trusting(authority)
        authority.issue_cert("client.example", common_name="client.example").configure_cert(known)
        trustme.CA().issue_cert("client.example").configure_cert(unknown)
        async with scene(lambda: keyring.context(str(ca)), implicit=True) as it:
            for context in (known, trusting(authority)):
                client = await it.greeted(ssl=context, server_hostname=HOSTNAME)
                await client.say("QUIT")
            asked, not_shown = it.told.handshakes
            assert isinstance(asked, TlsFacts)
            assert isinstance(not_shown, TlsFacts)
            assert "CN=client.example" in asked.peer_name
            assert not_shown.peer_name == ""
            it.told.over.clear()
            with suppress(OSError):
                stranger = await it.connect(ssl=unknown, server_hostname=HOSTNAME)
                await stranger.hear()
            await it.told.over.wait()
            refused = it.told.handshakes[2]
            assert isinstance(refused, Fault)
            assert refused.kind is FaultKind.TLS

    run(main)


def test_who_shows_a_certificate_of_his_logs_in_by_it_and_nobody_else_is_offered_that(
    run: Callable[[Main], None], authority: trustme.CA, tmp_path: Path
) -> None:
    """RFC 4422 app. A: EXTERNAL is worth nothing where TLS has shown nothing."""

    async def main() -> None:
        ca = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca))
        keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME)], client_cas=[str(ca)])
        keyring.refresh()
        known = trusting(authority)
        authority.issue_cert(ALICE).configure_cert(known)
        logins, offered = authenticator(tmp_path), ("EXTERNAL", "PLAIN")
        async with scene(lambda: keyring.context(str(ca)), logins=logins, mechanisms=offered) as it:
            client = await it.greeted()
            assert "AUTH PLAIN" in await client.say("EHLO us.example")
            await client.say("STARTTLS")
            await client.shake(known)
            assert "AUTH EXTERNAL PLAIN" in await client.say("EHLO us.example")
            assert await client.say("AUTH EXTERNAL =") == "235 2.7.0 authentication successful"
            stranger = await it.greeted()
            await stranger.say("EHLO us.example", "STARTTLS")
            await stranger.shake(trusting(authority))
            assert "EXTERNAL" not in await stranger.say("EHLO us.example")
            assert (await stranger.say("AUTH EXTERNAL =")).startswith("504")

    run(main)


def test_a_new_certificate_is_used_by_the_next_handshake_and_sessions_under_way_go_on(
    run: Callable[[Main], None], authority: trustme.CA, tmp_path: Path
) -> None:
    async def main() -> None:
        keyring = Keyring([write_certificate(authority, tmp_path, HOSTNAME, file="x")])
        keyring.refresh()
        async with scene(keyring.context, implicit=True) as it:
            before = await it.greeted(ssl=trusting(authority), server_hostname=HOSTNAME)
            write_certificate(authority, tmp_path, HOSTNAME, "new.example", file="x")
            keyring.refresh()
            after = await it.greeted(ssl=trusting(authority), server_hostname="new.example")
            for client in (before, after):
                await send(client)

    run(main)


# ---- handshakes that fail

Wrong = Callable[[Client], Awaitable[None]]


async def plain_text(client: Client) -> None:
    client.writer.write(b"EHLO us.example\r\nMAIL FROM:<a@us.example>\r\n" * 10)


async def http(client: Client) -> None:
    client.writer.write(b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n")


async def hang_up(client: Client) -> None:
    client.writer.close()


async def half_a_hello(client: Client) -> None:
    client.writer.write(b"\x16\x03\x01\x02\x00\x01")
    client.writer.write_eof()


async def reset(client: Client) -> None:
    client.writer.write(b"\x16\x03\x01")
    client.writer.transport.abort()


async def old_version(client: Client) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ECDHE+AES:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
    with suppress(OSError):
        await client.shake(context)


async def distrust(client: Client) -> None:
    with suppress(OSError):
        await client.shake(ssl.create_default_context())


WRONG: dict[Wrong, tuple[set[FaultKind], str]] = {
    plain_text: ({FaultKind.TLS}, "spoke in clear"),
    http: ({FaultKind.TLS}, "HTTP"),
    hang_up: ({FaultKind.CLOSED, FaultKind.RESET, FaultKind.TLS}, ""),
    half_a_hello: ({FaultKind.CLOSED, FaultKind.RESET, FaultKind.TLS}, ""),
    reset: ({FaultKind.CLOSED, FaultKind.RESET, FaultKind.TLS}, ""),
    old_version: ({FaultKind.TLS}, "no cipher suite"),
    distrust: ({FaultKind.CLOSED, FaultKind.RESET, FaultKind.TLS}, ""),
}


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_handshake_that_fails_ends_its_session_alone_and_is_told(
    run: Callable[[Main], None], *, keyring: Keyring, authority: trustme.CA, wrong: Wrong, implicit: bool
) -> None:
    async def main() -> None:
        async with scene(keyring.context, implicit=implicit) as it:
            client = await it.connect()
            if not implicit:
                await client.hear()
                await client.say("EHLO us.example", "STARTTLS")
            await wrong(client)
            await it.told.over.wait()
            kinds, words = WRONG[wrong]
            (fault,) = it.told.handshakes
            assert isinstance(fault, Fault)
            assert fault.kind in kinds
            assert words in fault.detail
            assert it.told.ends == [(f"TLS handshake: {fault}", 0)]
            assert it.told.troubles == []
            await another_session_works(it, authority, implicit=implicit)

    run(main)


async def another_session_works(it: Scene, authority: trustme.CA, *, implicit: bool) -> None:
    options = {"ssl": trusting(authority), "server_hostname": HOSTNAME} if implicit else {}
    client = await it.greeted(**options)
    await send(client)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_handshake_that_stalls_is_cut_off(run: Callable[[Main], None], *, keyring: Keyring, implicit: bool) -> None:
    async def main() -> None:
        async with scene(keyring.context, implicit=implicit, handshake=timedelta(milliseconds=30)) as it:
            client = await it.connect()
            if not implicit:
                await client.hear()
                await client.say("EHLO us.example", "STARTTLS")
            await client.ends()
            await it.told.over.wait()
            assert it.told.handshakes == [Fault(FaultKind.TIMED_OUT, "no TLS handshake within 0.03 s")]

    run(main)


def test_octets_sent_with_starttls_are_never_read_as_if_tls_had_protected_them(
    run: Callable[[Main], None], keyring: Keyring
) -> None:
    async def main() -> None:
        async with scene(keyring.context) as it:
            client = await it.greeted()
            await client.say("EHLO us.example")
            client.writer.write(b"STARTTLS\r\nMAIL FROM:<mallory@elsewhere.example>\r\n")
            assert (await client.hear()).startswith("554 5.5.0")
            await client.ends()
            await it.told.over.wait()
            assert it.told.ends == [("the client said more behind STARTTLS", 0)]
            assert it.told.handshakes == []

    run(main)


def test_without_a_certificate_starttls_is_answered_454_and_the_session_goes_on(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with scene(NoCertificate) as it:
            client = await it.greeted()
            assert (await client.say("EHLO us.example", "STARTTLS")).startswith("454 4.7.0")
            await send(client)

    run(main)


def test_without_a_certificate_implicit_tls_ends_at_once(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with scene(NoCertificate, implicit=True) as it:
            client = await it.connect()
            await client.ends()
            await it.told.over.wait()
            assert it.told.ends == [("no certificate could be read for TLS", 0)]

    run(main)


def test_whom_there_is_no_room_for_costs_no_handshake(
    run: Callable[[Main], None], keyring: Keyring, authority: trustme.CA
) -> None:
    async def main() -> None:
        async with scene(keyring.context, implicit=True, connections=1) as it:
            first = await it.greeted(ssl=trusting(authority), server_hostname=HOSTNAME)
            second = await it.connect()
            await second.ends()
            await it.told.over.wait()
            assert it.told.ends[0][0].startswith("turned away: 421")
            assert len(it.told.handshakes) == 1
            await send(first)

    run(main)


def test_a_service_that_stops_waits_for_no_handshake(run: Callable[[Main], None], keyring: Keyring) -> None:
    async def main() -> None:
        async with scene(keyring.context, handshake=timedelta(minutes=5)) as it:
            client = await it.greeted()
            await client.say("EHLO us.example", "STARTTLS")
            await it.receiver.stop(timedelta())
            assert it.told.ends == [("cut off", 0)]
            await client.ends()

    run(main)
