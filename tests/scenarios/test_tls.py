"""The whole service with TLS at its listeners, on real sockets, configured by a file as users write it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.certificates import trusting, write_certificate
from tests.receive.test_tls import Client, send
from waypost import app
from waypost.admin.answers import OperationError
from waypost.config import Complaints, Config, load, parse
from waypost.config.parts import keyring
from waypost.net.certificates import CertificateFiles
from waypost.net.clock import SystemClock
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Storage

NAME = "mx.example.net"
SETTINGS = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@ours.example"
[[listener]]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
tls = "implicit"
[[listener]]
address = "127.0.0.1:0"
tls = "required"
[admin]
address = "127.0.0.1:0"
[[certificate]]
certificate = "mx.example.net.pem"
key = "mx.example.net.key"
[[certificate]]
certificate = "mail.example.org.pem"
key = "mail.example.org.key"
[[route]]
domains = ["ours.example"]
to = "capture:"
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> CertificateFiles:
    write_certificate(authority, tmp_path, "mail.example.org")
    return write_certificate(authority, tmp_path, NAME)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[app.Running, Storage]]:
    file = directory / "waypost.toml"
    file.write_text(SETTINGS)
    config = load(file)
    assert isinstance(config, Config), str(config)
    storage = MemoryStorage()
    async with app.running(config, parts=app.Parts(storage=lambda _: storage)) as service:
        yield service, storage


async def connect(service: app.Running, listener: int, context: ssl.SSLContext, name: str = NAME) -> Client:
    """Greeted by a listener of `SETTINGS`, under TLS."""
    end = service.receive_endpoints[listener]
    options = {"ssl": context, "server_hostname": name} if listener == 1 else {}
    client = Client(*await asyncio.open_connection(end.host, end.port, **options))  # type: ignore[arg-type]
    assert (await client.hear()).startswith("220")
    if listener != 1:
        await client.say("EHLO us.example")
        assert (await client.say("STARTTLS")).startswith("220")
        await client.writer.start_tls(context, server_hostname=name)
    return client


async def received_lines(storage: Storage) -> list[str]:
    headers = []
    for one in await storage.captured(before=0, limit=10):
        whole = b"".join([chunk async for chunk in await storage.captured_octets(one.number)])
        headers.append(whole.partition(b"\r\nSubject")[0].decode())
    return headers


async def test_mail_comes_in_over_each_kind_of_tls_and_its_received_line_names_it(
    files: CertificateFiles, authority: trustme.CA
) -> None:
    async with running(files.key.parent) as (service, storage):
        for listener in range(3):
            client = await connect(service, listener, trusting(authority))
            await send(client)
            client.writer.close()
        async with asyncio.timeout(5):
            while (await storage.counts()).recipients:  # noqa: ASYNC110 - an empty queue rings no bell
                await asyncio.sleep(0.01)
        lines = await received_lines(storage)
        assert len(lines) == 3
        for line in lines:
            assert "with ESMTPS (TLSv1.3) id " in line
            assert "tls TLS_AES_256_GCM_SHA384;" in line


async def test_a_name_leads_to_its_certificate(files: CertificateFiles, authority: trustme.CA) -> None:
    async with running(files.key.parent) as (service, _):
        for listener in range(3):
            client = await connect(service, listener, trusting(authority), "mail.example.org")
            await client.say("QUIT")
            client.writer.close()


async def test_no_mail_is_taken_in_clear_where_tls_is_required(files: CertificateFiles) -> None:
    async with running(files.key.parent) as (service, _):
        end = service.receive_endpoints[2]
        client = Client(*await asyncio.open_connection(end.host, end.port))
        await client.hear()
        await client.say("EHLO us.example")
        assert await client.say("MAIL FROM:<a@us.example>") == "530 5.7.0 Must issue a STARTTLS command first"
        client.writer.close()


async def test_a_reload_leads_to_the_new_certificate_and_a_broken_one_is_told_of_and_changes_nothing(
    files: CertificateFiles, authority: trustme.CA
) -> None:
    async with running(files.key.parent) as (service, _):
        write_certificate(authority, files.key.parent, NAME, "new.example")
        await service.operations.reload(by="SIGHUP")
        client = await connect(service, 1, trusting(authority), "new.example")
        await client.say("QUIT")
        client.writer.close()
        files.certificate.write_text("nothing")
        with pytest.raises(OperationError, match="holds no certificate in PEM"):
            await service.operations.reload(by="SIGHUP")
        client = await connect(service, 1, trusting(authority), "new.example")
        await client.say("QUIT")
        client.writer.close()


def test_every_fault_of_the_tls_settings_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = SETTINGS.replace('tls = "implicit"', 'tls = "implicit"\nclient_ca = "none.pem"')
    found = parse(text, where="waypost.toml", base=tmp_path)
    assert isinstance(found, Complaints)
    said = [(complaint.line, complaint.key) for complaint in found.complaints]
    assert said == [(10, "listener.client_ca"), (17, "certificate.certificate"), (20, "certificate.certificate")]


def test_tls_without_a_certificate_is_a_complaint(tmp_path: Path) -> None:
    text = SETTINGS.partition("[[certificate]]")[0] + "[[route]]" + SETTINGS.partition("[[route]]")[2]
    found = parse(text, where="waypost.toml", base=tmp_path)
    assert isinstance(found, Complaints)
    assert [complaint.line for complaint in found.complaints] == [9, 12]
    assert "there is no [[certificate]]" in str(found)


def test_a_listener_offers_tls_by_itself_where_there_is_a_certificate(files: CertificateFiles) -> None:
    config = parse(SETTINGS, where="waypost.toml", base=files.key.parent)
    assert isinstance(config, Config)
    assert [listener.tls for listener in config.listeners] == ["opportunistic", "implicit", "required"]


def test_a_certificate_that_ends_soon_is_a_warning_and_no_complaint(authority: trustme.CA, tmp_path: Path) -> None:
    write_certificate(authority, tmp_path, "mail.example.org", ends_in=timedelta(days=-2))
    write_certificate(authority, tmp_path, NAME, ends_in=timedelta(days=3, hours=1))
    config = parse(SETTINGS, where="waypost.toml", base=tmp_path)
    assert isinstance(config, Config)
    ring = keyring(config)
    ring.refresh()
    soon, expired = ring.warnings(SystemClock().now())
    assert "expires in 3 days" in soon
    assert "has expired 2 days ago" in expired
