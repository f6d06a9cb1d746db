"""TLS with programs that people use: they submit, scan, relay to us and take mail from us."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme

from tests.certificates import write_certificate
from tests.live.exim import exim
from tests.live.mail import MESSAGES, route, send, to_port
from tests.live.postfix import mailboxes, postfix, relay_to
from tests.live.process import free_port, must_run, run, until
from tests.live.service import Service, waypost
from tests.live.sink import Sink, sink

pytestmark = pytest.mark.live

#: Where setup.sh puts it, in an environment of its own.
SSLYZE: Final = Path("/var/cache/waypost-live/sslyze/bin/sslyze")
SCANS: Final = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--compression", "--heartbleed", "--openssl_ccs", "--reneg", "--robot"),
)
NAME: Final = "waypost.test"
PATH: Final = ("--mail-from", "alice@origin.test", "--mail-rcpt", "bob@example.test")


@dataclass(frozen=True, slots=True)
class Secured:
    """A service with both kinds of TLS listeners, the server behind it, and the authority of its certificate."""

    service: Service
    implicit: int
    far_end: Sink
    ca: Path


@contextlib.asynccontextmanager
async def secured(place: Path) -> AsyncIterator[Secured]:
    authority, implicit = trustme.CA(), free_port()
    ca = place / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    files = write_certificate(authority, place, NAME, "127.0.0.1", file="server")
    settings = f"""
[[listener]]
address = "127.0.0.1:{implicit}"
tls = "implicit"
[[certificate]]
certificate = "{files.certificate}"
key = "{files.key}"
"""
    async with sink() as far_end, waypost(place, settings + to_port(far_end.port)) as service:
        yield Secured(service, implicit, far_end, ca)


async def by_swaks_starttls(it: Secured) -> object:
    where = ("--server", f"127.0.0.1:{it.service.port}", "--from", "alice@origin.test", "--to", "bob@example.test")
    return await must_run("swaks", *where, "--tls", "--tls-verify", "--tls-ca-path", it.ca)


async def by_swaks_implicit(it: Secured) -> object:
    where = ("--server", f"127.0.0.1:{it.implicit}", "--from", "alice@origin.test", "--to", "bob@example.test")
    return await must_run("swaks", *where, "--tls-on-connect")


async def by_curl_starttls(it: Secured) -> object:
    url = f"smtp://127.0.0.1:{it.service.port}/origin.test"
    return await must_run(
        "curl", "-sS", "--ssl-reqd", "--cacert", it.ca, url, *PATH, "-T", "-", stdin=MESSAGES["plain"]
    )


async def by_curl_implicit(it: Secured) -> object:
    url = f"smtps://127.0.0.1:{it.implicit}/origin.test"
    return await must_run("curl", "-sS", "--cacert", it.ca, url, *PATH, "-T", "-", stdin=MESSAGES["plain"])


async def by_msmtp_starttls(it: Secured) -> object:
    where = ("--file=/dev/null", "--host=127.0.0.1", f"--port={it.service.port}", "--from=alice@origin.test")
    tls = ("--tls=on", "--tls-starttls=on", f"--tls-trust-file={it.ca}")
    return await must_run("msmtp", *where, *tls, "--", "bob@example.test", stdin=MESSAGES["plain"])


@pytest.mark.parametrize(
    "submit", [by_swaks_starttls, by_swaks_implicit, by_curl_starttls, by_curl_implicit, by_msmtp_starttls]
)
async def test_programs_submit_over_tls_and_the_received_line_says_so(
    place: Path, submit: Callable[[Secured], Awaitable[object]]
) -> None:
    async with secured(place) as it:
        await submit(it)
        (taken,) = await it.far_end.messages(1)
        assert b"with ESMTPS (TLSv1.3)" in taken.octets
        assert b"tls TLS_" in taken.octets


async def is_verified(it: Secured, ca: Path, place: Path) -> bool:
    """Whether Postfix' own probe finds the certificate to be `NAME`'s, by that authority."""
    await asyncio.to_thread((place / "main.cf").touch)
    where = ("-F", ca, "-L", "summary", f"[127.0.0.1]:{it.service.port}", NAME)
    found = await run("posttls-finger", "-c", "-l", "secure", *where, env={"MAIL_CONFIG": str(place)})
    return "Verified TLS connection established" in found.output + found.errors


async def test_posttls_finger_verifies_name_and_authority(place: Path) -> None:
    async with secured(place) as it:
        assert await is_verified(it, it.ca, place)


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
async def test_a_scanner_finds_nothing_weak(place: Path, kind: str) -> None:
    """No old version, no suite without forward secrecy, none of the known holes."""
    async with secured(place) as it:
        port = it.service.port if kind == "starttls" else it.implicit
        found = place / "found.json"
        how = ("--starttls", "smtp") if kind == "starttls" else ()
        await must_run(SSLYZE, *SCANS, *how, "--mozilla_config", "disable", "--json_out", found, f"127.0.0.1:{port}")
        (server,) = json.loads(found.read_text())["server_scan_results"]
        assert server["connectivity_status"] == "COMPLETED", server
        result = server["scan_result"]
        for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
            assert result[f"{old}_cipher_suites"]["result"]["accepted_cipher_suites"] == []
        for new in ("tls_1_2", "tls_1_3"):
            accepted = result[f"{new}_cipher_suites"]["result"]["accepted_cipher_suites"]
            names = [suite["cipher_suite"]["name"] for suite in accepted]
            assert names
            assert all("GCM" in name or "CHACHA20" in name for name in names)
        assert result["tls_compression"]["result"]["supports_compression"] is False
        assert result["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] is False
        assert result["openssl_ccs_injection"]["result"]["is_vulnerable_to_ccs_injection"] is False
        assert result["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"] is False
        assert result["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")


async def test_postfix_relays_to_us_over_tls(place: Path, peer_place: Path) -> None:
    settings = {"smtp_tls_security_level": "encrypt", "smtp_tls_loglevel": "1"}
    async with secured(place) as it, postfix(peer_place, relay_to(it.service.port) | settings) as before:
        await asyncio.to_thread(_hand_over, before.port)
        (taken,) = await it.far_end.messages(1)
        assert b"with ESMTPS (TLSv1.3)" in taken.octets


def _hand_over(port: int) -> None:
    import smtplib  # noqa: PLC0415 - for this one

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("alice@origin.test", ["bob@example.test"], MESSAGES["plain"])


async def test_postfix_takes_mail_from_us_over_tls(place: Path, peer_place: Path) -> None:
    files = write_certificate(trustme.CA(), peer_place, "postfix.test")
    settings = mailboxes(peer_place, "example.test", "bob") | {
        "smtpd_tls_cert_file": str(files.certificate),
        "smtpd_tls_key_file": str(files.key),
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_received_header": "yes",
    }
    async with postfix(peer_place, settings) as peer:
        target = route("example.test", f"smtp://127.0.0.1:{peer.port}", extra='tls = "required"')
        async with waypost(place, target) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])
            await until(lambda: _has_mail(peer.mailbox("bob")), "the message is there", log=peer.log)
            (message,) = peer.mailbox("bob").iterdir()
            assert "using TLSv1.3 with cipher" in message.read_text()


async def _has_mail(mailbox: Path) -> bool:
    return await asyncio.to_thread(lambda: mailbox.is_dir() and any(mailbox.iterdir()))


async def test_exim_takes_mail_from_us_over_tls(place: Path, peer_place: Path) -> None:
    files = write_certificate(trustme.CA(), peer_place, "exim.test")
    files.key.chmod(0o644)
    tls = f"tls_advertise_hosts = *\ntls_certificate = {files.certificate}\ntls_privatekey = {files.key}\n"
    async with exim(peer_place, "example.test", "bob", tls=tls) as peer:
        target = route("example.test", f"smtp://127.0.0.1:{peer.port}", extra='tls = "required"')
        async with waypost(place, target) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])
            await until(lambda: _has_mail(peer.mailbox("bob")), "the message is there", log=service.log)
            (message,) = peer.mailbox("bob").iterdir()
            assert "with esmtps" in message.read_text()


async def test_a_new_certificate_is_shown_without_a_restart(place: Path) -> None:
    async with secured(place) as it:
        renewed = trustme.CA()
        new_ca = place / "new.pem"
        renewed.cert_pem.write_to_path(str(new_ca))
        write_certificate(renewed, place, NAME, "127.0.0.1", file="server")
        await until(lambda: is_verified(it, new_ca, place), "the new certificate is shown", log=it.service.log)
