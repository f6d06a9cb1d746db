"""The how-to guides' configurations work as printed: only addresses of this test take the place of the printed ones."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import write_certificate
from tests.live.dovecot import dovecot
from tests.live.mail import MESSAGES, send
from tests.live.process import free_port, run, until
from tests.live.service import Service, running
from tests.live.sink import sink

pytestmark = pytest.mark.live

GUIDES = Path(__file__).resolve().parent.parent.parent / "docs/howto"
PASSWORD = "smart-host.password"
SECRET = "webhook.secret"
SIGNING = "dkim.pem"


def printed(guide: str) -> str:
    """The one configuration of a guide."""
    (config,) = re.findall(r"^```toml\n(.*?)^```$", (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL)
    return str(config)


@contextlib.asynccontextmanager
async def as_printed(guide: str, place: Path, instead: Mapping[str, str]) -> AsyncIterator[Service]:
    """The service as a guide has it, but for what stands in `instead`; each of that must be in the guide."""
    text, admin_port, port = printed(guide), free_port(), free_port()
    for old, new in instead.items():
        if old not in text:
            raise AssertionError(f"{guide} no longer has {old!r}")
        text = text.replace(old, new)
    text, listeners = re.subn(r'address = ".*:(25|2525)"', f'address = "127.0.0.1:{port}"', text)
    assert listeners == 1
    text = re.sub(r'\[admin\]\naddress = ".*"\n', "", text) + f'\n[admin]\naddress = "127.0.0.1:{admin_port}"\n'
    config = place / "waypost.toml"
    config.write_text(text)
    async with running(Service(place, config, port, admin_port)) as service:
        yield service


@pytest.mark.parametrize("guide", [path.name for path in GUIDES.glob("*.md") if "```toml" in path.read_text()])
async def test_the_printed_configuration_is_in_order_as_it_stands(guide: str, place: Path) -> None:
    config = place / "waypost.toml"
    config.write_text(printed(guide))
    files = r"^```text\n(# ([\w.-]+)\n.*?)^```$"
    for text in re.findall(files, (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL):
        (place / text[1]).write_text(text[0])
    (place / PASSWORD).write_text("secret\n")
    (place / SECRET).write_text("c0ffee\n")
    write_certificate(trustme.CA(), place, "mx.example.net", file="mx")
    (place / SIGNING).write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )

    checked = await run(sys.executable, "-m", "waypost", "check", "--config", config)

    assert checked.code == 0, checked.output + checked.errors


async def test_the_smart_host_gets_no_password_without_tls_and_the_mail_waits(place: Path) -> None:
    (place / PASSWORD).write_text("secret\n")
    async with sink(extensions=("AUTH PLAIN LOGIN",)) as provider:
        instead = {
            "/var/spool/waypost": str(place / "spool"),
            "smtp://smtp.provider.example:587": f"smtp://127.0.0.1:{provider.port}",
        }
        async with as_printed("smart-host.md", place, instead) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])

            async def tried() -> bool:
                return any(entry["attempts"] for entry in await service.queue())

            await until(tried, "an attempt", log=service.log)
            (entry,) = await service.queue()
            assert "TLS" in str(entry["last_outcome"]), entry
            assert provider.taken == []
            assert "AUTH" not in provider.verbs


async def test_the_application_gets_its_mail_signed(place: Path) -> None:
    (place / SECRET).write_text("c0ffee\n")
    bodies: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append((request.headers["Waypost-Signature"], await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/mail", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    instead = {
        "/var/spool/waypost": str(place / "spool"),
        "https://app.example.net": f"http://127.0.0.1:{runner.addresses[0][1]}",
    }
    async with as_printed("webhook.md", place, instead) as service:
        await asyncio.to_thread(send, service, MESSAGES["plain"], "queue@tickets.example.net")

        async def taken() -> bool:
            return bool(bodies)

        await until(taken, "the request", log=service.log)
    await runner.cleanup()
    (signature, body), *_ = bodies
    moment, digest = (part.partition("=")[2] for part in signature.split(","))
    assert digest == hmac.new(b"c0ffee", f"{moment}.".encode() + body, "sha256").hexdigest()
    assert json.loads(body)["to"] == ["queue@tickets.example.net"]


def for_nobody(place: Path) -> None:
    """Let nobody write there, as whom the program runs."""
    place.chmod(0o777)


async def test_the_program_reads_its_mail(place: Path) -> None:
    for_nobody(place)
    program = place / "list-intake"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {place}/called\ncat > {place}/read.part\nmv {place}/read.part {place}/read\n'
    )
    program.chmod(0o755)
    instead = {"/var/spool/waypost": str(place / "spool"), "list-intake": str(program)}
    async with as_printed("pipe.md", place, instead) as service:
        await asyncio.to_thread(send, service, MESSAGES["plain"], "news@lists.example.net")

        async def read() -> bool:
            return (place / "read").exists()

        await until(read, "the message on the program's standard input", log=service.log)
    assert (place / "called").read_text().startswith("--list news --from ")
    assert "Delivered-To: news@lists.example.net\n" in (place / "read").read_text()


async def test_the_mx_puts_mail_into_dovecots_mailboxes(place: Path, peer_place: Path) -> None:
    async with dovecot(peer_place, "bob") as store:
        instead = {
            "/var/spool/waypost": str(place / "spool"),
            "/run/dovecot/lmtp": str(store.socket),
            "=example.com": "=example.test",
        }
        async with as_printed("mx-for-dovecot.md", place, instead) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])

            async def there() -> bool:
                return store.mailbox("bob").exists() and any(store.mailbox("bob").iterdir())

            await until(there, "the message in bob's mailbox", log=service.log)


async def test_the_inbox_shows_what_an_application_sent(place: Path) -> None:
    async with as_printed("inbox-for-development.md", place, {}) as service:
        await asyncio.to_thread(send, service, MESSAGES["plain"], "you@example.com")

        async def kept() -> bool:
            return bool(inbox(service))

        await until(kept, "the message in the inbox", log=service.log)
        assert [message["recipients"] for message in inbox(service)] == [["you@example.com"]]


def inbox(service: Service) -> list[dict[str, object]]:
    """What GET /api/inbox tells."""
    with urlopen(f"http://127.0.0.1:{service.admin_port}/api/inbox", timeout=10) as answer:
        messages: list[dict[str, object]] = json.load(answer)["messages"]
        return messages
