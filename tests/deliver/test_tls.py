"""STARTTLS with real certificates, over sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trustme

from tests.deliver.peer import CHOOSER, ROUTE, FixedHosts, lease
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool
from waypost.deliver.smtp import SmtpDelivery
from waypost.mail.attempt import Transcript
from waypost.mail.explain import describe
from waypost.mail.outcome import Deferred, Delivered, Host, LocalTrouble, Outcome
from waypost.net.clock import SystemClock
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint
from waypost.route.route import Hosts, SmtpServers, TlsPolicy

CA = trustme.CA()


@dataclass
class Seen:
    """What a server saw: whether each message came under TLS."""

    under_tls: list[bool]
    connections: int = 0


def context_for(name: str) -> ssl.SSLContext:
    """A server's context, with a certificate for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(name).configure_cert(context)
    return context


@asynccontextmanager
async def server(
    name: str,
    seen: Seen,
    *,
    breaks_handshake: bool = False,
    strips_starttls: bool = False,
    implicit: bool = False,
    breaks_ehlo: bool = False,
    under_tls: bytes = b"HELP",
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Endpoint]:
    """A server on loopback whose certificate is for `name`, or `context`'s.

    `implicit`: TLS from the first octet. `under_tls`: the extension it has there.
    """
    context = context or context_for(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        secured = implicit
        writer.write(b"220 peer.example\r\n")
        while line := await reader.readline():
            match line[:4].upper():
                case b"EHLO" if breaks_ehlo:
                    break
                case b"EHLO":
                    offered = under_tls if secured or strips_starttls else b"STARTTLS"
                    writer.write(b"250-peer.example\r\n250 %b\r\n" % offered)
                case b"STAR" if breaks_handshake:
                    writer.write(b"220 go\r\n")
                    await reader.read(100)
                    writer.write(b"what is this?\r\n" * 10)
                    break
                case b"STAR":
                    writer.write(b"220 go\r\n")
                    await writer.start_tls(context)
                    secured = True
                case b"DATA":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    seen.under_tls.append(secured)
                    writer.write(b"250 kept\r\n")
                case b"QUIT":
                    break
                case _:
                    writer.write(b"250 ok\r\n")
        writer.close()

    sessions: set[asyncio.Task[None]] = set()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(serve(reader, writer))
        sessions.add(session)
        try:
            await session
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()

    listening = await asyncio.start_server(quietly, "127.0.0.1", 0, ssl=context if implicit else None)
    host, port = listening.sockets[0].getsockname()[:2]
    try:
        yield Endpoint(host, port)
    finally:
        listening.close()
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        await listening.wait_closed()


async def deliver(endpoint: Endpoint, policy: TlsPolicy, *, implicit: bool = False) -> Outcome:
    """The outcome of one attempt at the host `mx.example`; `implicit`: by `smtps://`."""
    clock = SystemClock()
    trusting = ssl.create_default_context()
    CA.configure_trust(trusting)
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    pool = Pool(clock)
    opener = Opener(
        Ends(AsyncioDialer(), clock, "us.example", TimeOuts()), HostMemory(clock), TlsContexts(unverified, trusting)
    )
    smtp = SmtpDelivery(FixedHosts(Hosts((Host("mx.example", endpoint, implicit),))), CHOOSER, opener, pool, clock)
    sent = lease()
    fates = Fates(sent.recipients)
    route = replace(ROUTE, tls=policy)
    assert isinstance(route.transport, SmtpServers)
    await smtp.deliver(sent, route, route.transport, fates, Transcript(clock.monotonic()))
    await pool.close()
    ((_, outcome),) = fates.closed(deferred(LocalTrouble("no host was asked")))
    return outcome


@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY])
async def test_a_good_certificate_serves_every_policy(policy: TlsPolicy) -> None:
    seen = Seen([])
    async with server("mx.example", seen) as endpoint:
        outcome = await deliver(endpoint, policy)
    assert isinstance(outcome, Delivered), describe(outcome)
    assert seen.under_tls == [True]


@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED])
async def test_any_certificate_serves_where_none_is_checked(policy: TlsPolicy) -> None:
    seen = Seen([])
    async with server("another.example", seen) as endpoint:
        assert isinstance(await deliver(endpoint, policy), Delivered)
    assert seen.under_tls == [True]


async def test_a_certificate_for_another_name_is_refused_where_names_are_checked() -> None:
    seen = Seen([])
    async with server("another.example", seen) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.VERIFY)
    assert isinstance(outcome, Deferred)
    assert "CERTIFICATE_VERIFY_FAILED" in describe(outcome) or "certificate" in describe(outcome)
    assert seen.under_tls == []


async def test_no_tls_is_asked_for_where_the_route_wants_none() -> None:
    seen = Seen([])
    async with server("mx.example", seen) as endpoint:
        assert isinstance(await deliver(endpoint, TlsPolicy.NONE), Delivered)
    assert seen.under_tls == [False]


@pytest.mark.parametrize(("policy", "came"), [(TlsPolicy.OPPORTUNISTIC, [False]), (TlsPolicy.REQUIRED, [])])
async def test_a_handshake_that_breaks_goes_in_clear_only_where_it_may(policy: TlsPolicy, came: list[bool]) -> None:
    seen = Seen([])
    async with server("mx.example", seen, breaks_handshake=True) as endpoint:
        outcome = await deliver(endpoint, policy)
    assert isinstance(outcome, Delivered if came else Deferred), describe(outcome)
    assert seen.under_tls == came
    assert seen.connections == (2 if came else 1)


# ---- TLS from the first octet (RFC 8314 §3)
@pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.VERIFY])
async def test_a_server_of_implicit_tls_is_spoken_to_under_tls_from_the_first_octet(policy: TlsPolicy) -> None:
    seen = Seen([])
    async with server("mx.example", seen, implicit=True) as endpoint:
        outcome = await deliver(endpoint, policy, implicit=True)
    assert isinstance(outcome, Delivered), describe(outcome)
    assert seen.under_tls == [True]


async def test_a_server_in_clear_where_implicit_tls_is_due_gets_nothing() -> None:
    seen = Seen([])
    async with server("mx.example", seen) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.REQUIRED, implicit=True)
    assert isinstance(outcome, Deferred)
    assert "TLS" in describe(outcome)
    assert seen.under_tls == []
    assert seen.connections == 1


async def test_a_certificate_of_another_name_is_refused_under_implicit_tls_too() -> None:
    seen = Seen([])
    async with server("other.example", seen, implicit=True) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.VERIFY, implicit=True)
    assert isinstance(outcome, Deferred)
    assert seen.under_tls == []


async def test_a_server_that_breaks_on_ehlo_under_implicit_tls_gets_helo_which_gives_up_no_tls() -> None:
    seen = Seen([])
    async with server("mx.example", seen, implicit=True, breaks_ehlo=True) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.VERIFY, implicit=True)
    assert isinstance(outcome, Delivered), describe(outcome)
    assert seen.under_tls == [True]
    assert seen.connections == 2
