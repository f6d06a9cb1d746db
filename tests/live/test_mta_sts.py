"""MTA-STS proved with real parts: records served by Knot, a policy fetched over HTTPS, servers with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from tests.live.knot import knot
from tests.live.mail import MESSAGES, send
from tests.live.service import Service, waypost
from tests.live.sink import Attack, Sink, StartTls, sink
from tests.live.waiting import outcome_of_the_first_attempt

pytestmark = pytest.mark.live

PUBLIC, PRIVATE = trustme.CA(), trustme.CA()
#: Where the policy is served, on the port that RFC 8461 §3.3 has it on.
POLICY_HOST = "127.0.0.5"


@pytest.fixture(autouse=True)
def trust(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service, which inherits this environment, believes one authority."""
    file = place / "authority.pem"
    PUBLIC.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


@dataclass
class PolicyFile:
    """What the policy host serves, and how often it was asked. May be changed at any time."""

    mode: str = "enforce"
    mx: str = "mx.example.test"
    max_age: int = 86400
    status: int = 200
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.host}{request.path}")
        text = f"version: STSv1\r\nmode: {self.mode}\r\nmx: {self.mx}\r\nmax_age: {self.max_age}\r\n"
        return web.Response(text=text, status=self.status)


@contextlib.asynccontextmanager
async def served(file: PolicyFile, authority: trustme.CA) -> AsyncIterator[None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mta-sts.example.test").configure_cert(context)
    app = web.Application()
    app.router.add_get("/.well-known/mta-sts.txt", file.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, POLICY_HOST, 443, ssl_context=context).start()
    try:
        yield
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Scene:
    """A service, the exchanger of example.test, and its policy."""

    service: Service
    exchanger: Sink
    file: PolicyFile

    async def delivered(self, count: int = 1) -> str:
        """Send a message that arrives under TLS; what the trace tells."""
        await asyncio.to_thread(send, self.service, MESSAGES["plain"])
        taken = await self.exchanger.messages(count)
        assert taken[-1].under_tls
        return (await self.service.cli("trace", "bob@example.test")).output

    async def waits(self) -> str:
        """Send a message that stays in the queue; why it does."""
        before = len(self.exchanger.taken)
        await asyncio.to_thread(send, self.service, MESSAGES["plain"])
        said = await outcome_of_the_first_attempt(self.service)
        assert len(self.exchanger.taken) == before
        return said


@contextlib.asynccontextmanager
async def scene(
    place: Path,
    peer_place: Path,
    file: PolicyFile,
    *,
    shows: str = "mx.example.test",
    by: trustme.CA = PUBLIC,
    policy_by: trustme.CA = PUBLIC,
    attack: Attack = Attack.NONE,
    tls: str = "auto",
) -> AsyncIterator[Scene]:
    """`shows`: the name in the exchanger's certificate, which is issued by `by`; the policy host's by `policy_by`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    by.issue_cert(shows).configure_cert(context)
    records = f'@ MX 10 mx\nmx A 127.0.0.2\nmta-sts A {POLICY_HOST}\n_mta-sts TXT "v=STSv1; id=1;"\n'
    async with (
        sink(host="127.0.0.2", starttls=StartTls(context, attack)) as exchanger,
        served(file, policy_by),
        knot(peer_place, {"example.test": records}) as dns,
    ):
        routes = f'\n[[route]]\ndomains = ["*"]\nto = ["mx::{exchanger.port}"]\ntls = "{tls}"\n'
        settings = routes + dns.settings + "allow_loopback_mx = true\n"
        async with waypost(place, settings, pause="1h") as service:
            yield Scene(service, exchanger, file)


async def test_a_policy_that_is_kept_lets_mail_pass_and_is_fetched_once(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile()) as there:
        trace = await there.delivered()
        assert 'MTA-STS, by the policy "enforce" of example.test with the id 1' in " ".join(trace.split()), trace
        await there.delivered(2)
        assert there.file.asked == ["mta-sts.example.test/.well-known/mta-sts.txt"]


@pytest.mark.parametrize(
    ("shows", "by"), [("other.test", PUBLIC), ("mx.example.test", PRIVATE)], ids=["another name", "nobody's authority"]
)
async def test_under_enforce_a_certificate_that_does_not_do_holds_mail_back(
    place: Path, peer_place: Path, shows: str, by: trustme.CA
) -> None:
    async with scene(place, peer_place, PolicyFile(), shows=shows, by=by) as there:
        assert "CERTIFICATE_VERIFY_FAILED" in await there.waits()


async def test_under_enforce_a_host_that_the_policy_does_not_name_gets_nothing(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile(mx="*.other.test")) as there:
        assert "is no mail exchanger by the MTA-STS policy" in await there.waits()


async def test_under_testing_mail_goes_all_the_same(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile("testing", mx="*.other.test"), by=PRIVATE) as there:
        assert '"testing"' in await there.delivered()


@pytest.mark.parametrize("attack", [attack for attack in Attack if attack is not Attack.NONE])
async def test_no_attack_on_tls_wins_mail_in_clear(place: Path, peer_place: Path, attack: Attack) -> None:
    async with scene(place, peer_place, PolicyFile(), attack=attack) as there:
        assert await there.waits()
        assert "HELO" not in there.exchanger.verbs


async def test_a_policy_outlives_a_restart_and_its_own_file(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile()) as there:
        await there.delivered()
        there.file.status = 404
        assert await there.service.stop() == 0
        await there.service.start()
        assert '"enforce"' in await there.delivered(2)
        assert len(there.file.asked) == 1


async def test_a_policy_that_has_expired_and_is_gone_binds_nobody(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile(mx="*.other.test", max_age=1)) as there:
        assert "is no mail exchanger" in await there.waits()
        there.file.status = 404
        await there.service.cli("queue", "delete", "--all", "--yes")
        trace = await there.delivered()
        assert "no MTA-STS" in trace, trace


async def test_a_policy_from_a_host_nobody_vouches_for_is_none_and_where_one_is_demanded_mail_waits(
    place: Path, peer_place: Path
) -> None:
    async with scene(place, peer_place, PolicyFile(), policy_by=PRIVATE, tls="mta-sts") as there:
        assert "an MTA-STS policy is demanded" in await there.waits()
        told = await there.service.cli("resolve", "example.test")
        assert "could not be fetched: TLS failed" in " ".join(told.output.split()), told.output


async def test_resolve_tells_the_policy_and_the_level(place: Path, peer_place: Path) -> None:
    async with scene(place, peer_place, PolicyFile()) as there:
        told = " ".join((await there.service.cli("resolve", "example.test")).output.split())
        assert "TLS verified" in told, told
        assert "MTA-STS policy: 1: version: STSv1, mode: enforce, mx: mx.example.test, max_age: 86400" in told, told
