"""STARTTLS with real certificates, over sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from waypost.route.level import TlsLevel
from waypost.route.route import Hosts, Manner, Route, SmtpServers, TlsPolicy
from waypost.smtp.login import Credentials

CA = trustme.CA()


@dataclass
class Seen:
    """What a server saw: whether each message came under TLS."""

    under_tls: list[bool]
    connections: int = 0
    #: What AUTH said, and the host name in the certificate that the client had shown.
    logins: list[tuple[str, str]] = field(default_factory=list)


def context_for(name: str) -> ssl.SSLContext:
    """A server's context, with a certificate for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(name).configure_cert(context)
    return context


def judged(line: bytes, writer: asyncio.StreamWriter, seen: Seen) -> bytes:
    """The reply to AUTH: who has shown a certificate is welcome."""
    shown = writer.get_extra_info("ssl_object").getpeercert() or {}
    name = ", ".join(value for _, value in shown.get("subjectAltName", ()))
    seen.logins.append((line.decode().strip(), name))
    return b"235 welcome\r\n" if name else b"535 5.7.8 no certificate\r\n"


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
            if line.startswith((b"QUIT", b"EHLO" if breaks_ehlo else b"QUIT")):
                break
            match line[:4].upper():
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
                case b"AUTH":
                    writer.write(judged(line, writer, seen))
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


async def deliver(endpoint: Endpoint, policy: TlsPolicy, *, implicit: bool = False, route: Route = ROUTE) -> Outcome:
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
    route = replace(route, tls=policy)
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


# ---- by a certificate of ours (RFC 4422 app. A)
def by_certificate(place: Path, name: str = "us.example", act_as: str = "") -> Route:
    """A route that shows a certificate for `name`, and logs in by it."""
    leaf = CA.issue_cert(name)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(place / "client.pem"))
    file = str(place / "client.pem")
    credentials = Credentials("", "", external=True, act_as=act_as)
    return replace(ROUTE, credentials=credentials, manner=Manner(certificate=file, key=file))


def asking_for_certificates() -> ssl.SSLContext:
    context = context_for("mx.example")
    context.verify_mode = ssl.CERT_OPTIONAL
    CA.configure_trust(context)
    return context


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_a_server_that_asks_for_our_certificate_gets_it_and_a_login_by_it(
    tmp_path: Path,
    implicit: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    seen, context = Seen([]), asking_for_certificates()
    async with server("mx.example", seen, implicit=implicit, under_tls=b"AUTH EXTERNAL", context=context) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.REQUIRED, implicit=implicit, route=by_certificate(tmp_path))
    assert isinstance(outcome, Delivered), describe(outcome)
    assert seen.logins == [("AUTH EXTERNAL =", "us.example")]


async def test_a_certificate_that_has_changed_is_read_again(tmp_path: Path) -> None:
    contexts, manner = TlsContexts.system(), by_certificate(tmp_path).manner
    first = contexts.of(TlsLevel.REQUIRED, manner)
    assert contexts.of(TlsLevel.REQUIRED, manner) is first
    by_certificate(tmp_path, "other.example")
    os.utime(tmp_path / "client.pem", ns=(1, 1))
    assert contexts.of(TlsLevel.REQUIRED, manner) is not first
    assert len(contexts.showing) == 1


@pytest.mark.parametrize("spoilt", ["gone", "no certificate"])
async def test_mail_waits_while_our_certificate_cannot_be_read_and_no_server_is_bothered(
    tmp_path: Path, spoilt: str
) -> None:
    seen, route = Seen([]), by_certificate(tmp_path)
    (tmp_path / "client.pem").unlink()
    if spoilt != "gone":
        (tmp_path / "client.pem").write_text(spoilt)
    async with server("mx.example", seen, context=asking_for_certificates()) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.REQUIRED, route=route)
    assert isinstance(outcome, Deferred)
    assert "client.pem cannot be used" in describe(outcome)
    assert seen.connections == 0


async def test_without_tls_nobody_is_told_who_we_are_and_mail_waits(tmp_path: Path) -> None:
    seen = Seen([])
    async with server("mx.example", seen, strips_starttls=True) as endpoint:
        outcome = await deliver(endpoint, TlsPolicy.OPPORTUNISTIC, route=by_certificate(tmp_path))
    assert isinstance(outcome, Deferred)
    assert "none of EXTERNAL is offered" in describe(outcome)
