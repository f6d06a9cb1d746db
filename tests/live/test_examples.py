"""The examples with real peers: Dovecot, swaks, curl, waypost-sendmail, a web server.

What needs none of these is played in memory (tests/examples).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from aiohttp import web

from tests.auth.token_house import TokenHouse, TokenPeer
from tests.certificates import write_certificate
from tests.live.dovecot import dovecot
from tests.live.process import free_port, must_run, run, until
from tests.live.service import Service, running
from tests.live.sink import Sink, sink
from tests.postgres import server
from waypost.auth.users import hashed, save_users
from waypost.net.stream import Fault, FaultKind, Stream

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BIN = Path(sys.executable).parent
SECRET = "a secret"


@dataclass(frozen=True, slots=True)
class Example:
    """One that runs, and the port that each address of its listeners has become."""

    service: Service
    ports: Mapping[str, int]

    async def swaks(self, *arguments: str) -> str:
        """What a session of swaks with the first listener shows."""
        first = next(iter(self.ports.values()))
        return (await run("swaks", "--server", f"127.0.0.1:{first}", *arguments)).output

    async def etrn(self, domain: str) -> None:
        """Have the mail for a domain tried."""
        await must_run("curl", "--silent", f"smtp://127.0.0.1:{self.service.port}", "--request", f"ETRN {domain}")


@asynccontextmanager
async def as_written(
    name: str,
    place: Path,
    instead: Mapping[str, object],
    *,
    pause: str = "1s",
    spool: str = "/var/spool/waypost",
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Example]:
    """The service of an example, on free ports; each of `instead` must be in it."""
    text, ports = (EXAMPLES / f"{name}.toml").read_text("utf-8"), dict[str, int]()
    for line in text.splitlines():
        if line.startswith('address = "'):
            address = line.split('"')[1]
            ports[address] = free_port()
            text = text.replace(f'"{address}"', f'"127.0.0.1:{ports[address]}"')
    for old, new in {spool: place / "spool", **instead}.items():
        assert old in text, f"{name} no longer has {old!r}"
        text = text.replace(old, str(new))
    admin = free_port()
    text += f'\n[admin]\naddress = "127.0.0.1:{admin}"\n'
    if "[retry]" not in text:
        text += f'[retry]\nschedule = ["{pause}"]\n'
    (place / "waypost.toml").write_text(text, "utf-8")
    shutil.copytree(EXAMPLES / "hooks", place / "hooks")
    first = next(iter(ports.values()))
    service = Service(
        place, place / "waypost.toml", first, admin, environment={"WEBHOOK_SECRET": SECRET, **(environment or {})}
    )
    async with running(service):
        yield Example(service, ports)


def recipients(peer: Sink) -> list[str]:
    return [path for message in peer.taken for path in message.forward_paths]


async def test_programs_of_a_null_client_send_while_the_hubs_are_away_and_the_service_is_down(place: Path) -> None:
    async with sink() as hub:
        hubs = {"hub1.example.net:25": f"127.0.0.1:{free_port()}", "hub2.example.net:25": f"127.0.0.1:{hub.port}"}
        async with as_written("null-client", place, hubs) as example:
            environment = {"WAYPOST_CONFIG": str(example.service.config)}
            text = b"To: bob@example.org\nSubject: cron\n\nit ran\n"
            await must_run(BIN / "waypost-sendmail", "-t", "-i", stdin=text, env=environment)
            await hub.messages(1)

            async def is_cleared() -> bool:
                return not list((place / "spool-pickup").glob("*.eml"))

            await until(is_cleared, "the file is removed that was taken", log=example.service.log)
            await example.service.stop()
            await must_run(BIN / "waypost-sendmail", "-i", "carl@example.org", stdin=b"later\n", env=environment)
            assert len(list((place / "spool-pickup").glob("*.eml"))) == 1
            await example.service.start()
            await hub.messages(2)
        assert sorted(recipients(hub)) == ["bob@example.org", "carl@example.org"]
        assert hub.taken[0].octets.endswith(b"Subject: cron\r\n\r\nit ran\r\n")


async def test_dovecot_says_who_exists_and_gets_their_mail(place: Path, peer_place: Path) -> None:
    async with (
        dovecot(peer_place, "alice", "bob") as store,
        as_written("mx-for-dovecot", place, {"/run/dovecot/lmtp": store.socket}) as example,
    ):
        refused = await example.swaks("--from", "x@far.example", "--to", "nobody@example.com")
        assert "550 5.1.1" in refused
        taken = await example.swaks("--from", "x@far.example", "--to", "info@example.com,alice+shop@example.com")
        assert "250 2.0.0 Ok: queued" in taken

        async def delivered() -> bool:
            return [len(list(store.mailbox(user).glob("*"))) for user in ("alice", "bob")] == [2, 1]

        await until(delivered, "both mailboxes have their mail", log=example.service.log)


async def test_mail_waits_at_the_hub_and_goes_when_the_spoke_asks(place: Path, peer_place: Path) -> None:
    port = free_port()
    hub_settings = {"10.8.0.7:25": f"127.0.0.1:{port}", "10.8.0.0/24": "127.0.0.0/8"}
    async with as_written("hub", place, hub_settings) as hub:
        assert "250 2.0.0" in await hub.swaks("--from", "x@far.example", "--to", "ann@branch.example.net")

        async def waits() -> bool:
            return [entry["state"] for entry in await hub.service.queue()] == ["waiting"]

        await until(waits, "the line is down", log=hub.service.log)
        spoke_settings = {
            "0.0.0.0:25": f"127.0.0.1:{port}",
            "/var/mail": peer_place / "mail",
            "10.8.0.1:25": "127.0.0.1:1",
        }
        text = (EXAMPLES / "spoke.toml").read_text("utf-8")
        for old, new in {"/var/spool/waypost": peer_place / "spool", **spoke_settings}.items():
            text = text.replace(old, str(new))
        admin = free_port()
        (peer_place / "waypost.toml").write_text(f'{text}\n[admin]\naddress = "127.0.0.1:{admin}"\n')
        async with running(Service(peer_place, peer_place / "waypost.toml", port, admin)):
            await hub.etrn("branch.example.net")

            async def arrived() -> bool:
                return len(list((peer_place / "mail/branch.example.net/ann").glob("new/*"))) == 1

            await until(arrived, "the spoke has its mail", log=hub.service.log)


async def test_the_application_sends_and_gets_its_mail_over_http(place: Path) -> None:
    posted: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        posted.append((request.headers["Waypost-Signature"], await request.read()))
        return web.Response()

    application = web.Application()
    application.router.add_post("/mail", take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with sink() as relay:
        instead = {
            "127.0.0.1:9000": f"127.0.0.1:{runner.addresses[0][1]}",
            "relay.example.net:25": f"127.0.0.1:{relay.port}",
        }
        async with as_written("gateway", place, instead) as example:
            url = f"http://127.0.0.1:{example.ports['127.0.0.1:8080']}/v1/messages"
            letter = '{"from": "app@example.net", "to": ["ann@example.org"], "subject": "hello", "text": "hi"}'
            ask = (
                "curl",
                "--silent",
                url,
                "-H",
                "Content-Type: application/json",
                "-H",
                "Idempotency-Key: 1",
                "-d",
                letter,
            )
            first, again = [json.loads((await must_run(*ask)).output) for _ in range(2)]
            assert (first["recipients"][0]["accepted"], again["repeated"], again["id"]) == (True, True, first["id"])
            await relay.messages(1)
            assert "250 2.0.0" in await example.swaks("--from", "ann@example.org", "--to", "reply@app.example.net")

            async def came() -> bool:
                return bool(posted)

            await until(came, "the webhook is called", log=example.service.log)
        assert recipients(relay) == ["ann@example.org"]
    await runner.cleanup()
    _check(*posted[0])


def _check(signature: str, body: bytes) -> None:
    moment, digest = (part.partition("=")[2] for part in signature.split(","))
    assert digest == hmac.new(SECRET.encode(), f"{moment}.".encode() + body, "sha256").hexdigest()
    said: dict[str, Any] = json.loads(body)
    assert said["to"] == ["reply@app.example.net"]
    assert b"This is a test mailing" in base64.b64decode(said["message"])


async def test_the_mailing_gateway_runs_its_hooks_in_threads_of_their_own(place: Path) -> None:
    async with sink() as relay, sink() as store:
        instead = {"relay.example.net:25": f"127.0.0.1:{relay.port}", "mail.example.net:25": f"127.0.0.1:{store.port}"}
        async with as_written("mailing", place, instead) as example:
            said = await example.swaks("--from", "ann@example.net", "--to", "bob@far.example", "--body", "hello")
            assert "250 2.0.0" in said
            assert "no mail for <x@rival.example>" in await example.swaks(
                "--from", "ann@example.net", "--to", "x@rival.example"
            )
            await relay.messages(1)
            await store.messages(1)
        assert b"Example Ltd., 1 Example Street" in relay.taken[0].octets
        assert recipients(store) == ["journal@example.net"]


async def test_two_workers_serve_one_address(place: Path) -> None:
    async with sink() as store:
        instead = {"store.example.com:25": f"127.0.0.1:{store.port}"}
        async with as_written("workers", place, instead) as example:
            for number in range(6):
                assert "250 2.0.0" in await example.swaks("--from", "x@far.example", "--to", f"u{number}@example.com")
            await store.messages(6)
            assert len(recipients(store)) == 6
            assert (await example.service.cli("status")).code == 0


async def test_the_backup_hands_on_what_it_took(place: Path) -> None:
    async with sink() as first:
        instead = {'to = "mx:"': f'to = "smtp://127.0.0.1:{first.port}"'}
        async with as_written("backup-mx", place, instead) as example:
            assert "550 5.1.1" in await example.swaks("--from", "x@far.example", "--to", "nobody@example.com")
            assert "250 2.0.0" in await example.swaks("--from", "x@far.example", "--to", "ann@example.com")
            await first.messages(1)


async def test_each_sender_goes_by_its_relay(place: Path) -> None:
    async with sink() as office, sink() as bulk:
        instead = {
            "smtp.provider.example:587": f"127.0.0.1:{office.port}",
            "smtp.bulk.example:587": f"127.0.0.1:{bulk.port}",
        }
        async with as_written("sender-relays", place, instead) as example:
            assert "250 2.0.0" in await example.swaks("--from", "x@news.example.net", "--to", "a@far.example")
            assert "250 2.0.0" in await example.swaks("--from", "dan@example.net", "--to", "b@far.example")
            await asyncio.gather(office.messages(1), bulk.messages(1))
        assert (recipients(office), recipients(bulk)) == (["b@far.example"], ["a@far.example"])


async def test_a_split_domain_is_split(place: Path) -> None:
    async with sink() as new, sink() as old:
        instead = {"new.example.com:25": f"127.0.0.1:{new.port}", "old.example.com:25": f"127.0.0.1:{old.port}"}
        async with as_written("split-domain", place, instead) as example:
            to = "ann@example.com,carl@example.com"
            assert "250 2.0.0" in await example.swaks("--from", "x@far.example", "--to", to)
            await asyncio.gather(new.messages(1), old.messages(1))
        assert (recipients(new), recipients(old)) == (["ann@example.com"], ["carl@example.com"])


async def test_what_a_dead_node_has_taken_is_delivered_by_the_other(place: Path, peer_place: Path) -> None:
    with server() as database:
        dsn, port = database.database(), free_port()
        db = "postgresql://waypost@db1.example.com:5432,db2.example.com:5432/waypost?sslmode=verify-full"
        instead = {db: dsn, "store.example.com:25": f"127.0.0.1:{port}"}
        one = as_written("cluster", place, instead, spool="/var/lib/waypost")
        async with as_written("cluster", peer_place, instead, spool="/var/lib/waypost"), one as first:
            assert "250 2.0.0" in await first.swaks("--from", "x@far.example", "--to", "ann@example.com")
            await first.service.kill()
            async with sink(port=port) as store:
                await store.messages(1)
                assert recipients(store) == ["ann@example.com"]
            await first.service.start()


async def test_a_branch_fetches_its_mail_and_sends_by_the_hub_over_the_connections_it_makes(
    place: Path, peer_place: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    write_certificate(authority, place, "localhost", file="mx")
    save_users(place / "users", {"branch": hashed("branch", "sesame", ("branch.example.net",))})
    async with sink() as world:
        outward = {'to = "mx:"': f'to = "smtp://127.0.0.1:{world.port}"'}
        async with as_written("atrn-hub", place, outward) as hub:
            assert "250 2.0.0" in await hub.swaks("--from", "x@far.example", "--to", "ann@branch.example.net")
            at_hub = f"localhost:{hub.ports['0.0.0.0:366']}"
            inward = {"hub.example.net:366": at_hub, "/var/mail": peer_place / "mail", 'every = "5m"': 'every = "1s"'}
            trusting = {"HUB_PASSWORD": "sesame", "SSL_CERT_FILE": str(place / "ca.pem")}
            async with as_written("atrn-spoke", peer_place, inward, environment=trusting) as branch:

                async def arrived() -> bool:
                    return len(list((peer_place / "mail/branch.example.net/ann").glob("new/*"))) == 1

                await until(arrived, "the branch has its mail", log=branch.service.log)
                assert not await hub.service.queue()
                sent = await branch.swaks("--from", "ann@branch.example.net", "--to", "bob@far.example")
                assert "250 2.0.0" in sent
                (taken,) = await world.messages(1)
                assert taken.forward_paths == ("bob@far.example",)
                assert b"with ESMTPSA (TLSv1.3)" in taken.octets


class _Wire:
    """A connection of asyncio as TokenPeer wants one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def write(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def read(self, within: timedelta) -> bytes | Fault:
        async with asyncio.timeout(within.total_seconds()):
            return await self._reader.read(65536) or Fault(FaultKind.CLOSED)


@asynccontextmanager
async def provider(house: TokenHouse, context: ssl.SSLContext) -> AsyncIterator[tuple[TokenPeer, int]]:
    """A smart host under TLS that takes the tokens of that house, and its port."""
    peer = TokenPeer(house)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await peer(cast("Stream", _Wire(reader, writer)))
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield peer, listening.sockets[0].getsockname()[1]


async def test_mail_for_a_smart_host_waits_for_a_login_and_goes_with_the_token(place: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    authority.issue_cert("localhost").configure_cert(context)
    (place / "client.secret").write_text("canary-secret\n")
    house = TokenHouse()
    async with house.open(), provider(house, context) as (peer, port):
        instead = {
            'tenant = "example.net"': f'token_url = "{house.url}/token"\ndevice_url = "{house.url}/device"\n'
            'client_secret_file = "client.secret"',
            "smtp://smtp.office365.com:587": f"smtps://localhost:{port}",
            'username = "relay@example.net"': 'username = "us@provider.example"',
        }
        trusting = {"SSL_CERT_FILE": str(place / "ca.pem")}
        async with as_written("smart-host-oauth", place, instead, environment=trusting) as example:
            assert "250 2.0.0" in await example.swaks("--from", "app@example.net", "--to", "bob@far.example")

            async def is_held() -> bool:
                return "authorisation ended" in example.service.log.read_text()

            await until(is_held, "it is told that somebody has to log in", log=example.service.log)
            why = await example.service.cli("queue", "why", "bob@far.example", "--json")
            assert "waypost oauth login microsoft" in why.output, why.errors
            assert (peer.bodies, peer.logins) == ([], [])
            login = await example.service.cli("oauth", "login", "microsoft", "--flow", "device")
            assert login.code == 0, login.errors
            assert "type ABCD-EFGH there" in " ".join(login.errors.split())

            async def gone() -> bool:
                return len(peer.bodies) == 1

            await until(gone, "the mail has gone", log=example.service.log)
            assert peer.logins == [house.good]
            assert (await example.service.cli("oauth", "status")).code == 0
