"""Logging in with programs that people use, by each mechanism they know; and Postfix and Exim, in both directions."""

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
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.certificates import write_certificate
from tests.live.exim import BINARY, exim
from tests.live.mail import MESSAGES, route, send, to_port
from tests.live.postfix import postfix, relay_to
from tests.live.process import free_port, must_run, run, until
from tests.live.service import waypost
from tests.live.sink import Sink, sink
from waypost.auth.users import hashed, save_users
from waypost.net.clock import SystemClock

pytestmark = pytest.mark.live

NODE_MODULES: Final = Path("/var/cache/waypost-live/node/node_modules")
NODEMAILER: Final = Path(__file__).with_name("nodemailer.cjs")
USER, PASSWORD = "alice@origin.test", "open sesame"
PATH: Final = ("--mail-from", USER, "--mail-rcpt", "bob@example.test")
ISSUER, US = "https://issuer.test", "waypost"


@dataclass(frozen=True, slots=True)
class House:
    """A service that wants a login, over STARTTLS at one port and implicit TLS at another."""

    port: int
    implicit: int
    far_end: Sink
    ca: Path
    token: str
    log: Path


@contextlib.asynccontextmanager
async def house(place: Path) -> AsyncIterator[House]:
    authority, port, implicit, key = trustme.CA(), free_port(), free_port(), RSAKey.generate_key(2048, {"kid": "one"})
    ca = place / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    files = write_certificate(authority, place, "waypost.test", "127.0.0.1", file="server")
    save_users(place / "users", {USER: hashed(USER, PASSWORD)})
    (place / "keys.json").write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    claims = {"iss": ISSUER, "aud": US, "exp": int(SystemClock().now()) + 600, "email": USER}
    settings = f"""
[[listener]]
address = "127.0.0.1:{port}"
role = "submission"
tls = "required"
[[listener]]
address = "127.0.0.1:{implicit}"
role = "submission"
tls = "implicit"
[[certificate]]
certificate = "{files.certificate}"
key = "{files.key}"
[auth]
users = "{place / "users"}"
issuer = "{ISSUER}"
issuer_keys = "{place / "keys.json"}"
issuer_audience = "{US}"
"""
    async with sink() as far_end, waypost(place, settings + to_port(far_end.port)) as service:
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        yield House(port, implicit, far_end, ca, token, service.log)


Submit = Callable[[House, str, str], Awaitable[object]]


async def by_swaks(it: House, mechanism: str, secret: str) -> object:
    where = ("--server", f"127.0.0.1:{it.port}", "--from", USER, "--to", "bob@example.test", "--tls")
    return await run("swaks", *where, "--auth", mechanism, "--auth-user", USER, "--auth-password", secret or "wrong")


async def by_curl(it: House, mechanism: str, secret: str) -> object:
    login: tuple[str, ...] = ("--login-options", f"AUTH={mechanism}", "--user", f"{USER}:{secret or 'wrong'}")
    if mechanism in {"XOAUTH2", "OAUTHBEARER"}:
        login = ("--login-options", f"AUTH={mechanism}", "--user", USER, "--oauth2-bearer", it.token if secret else "x")
    url = f"smtps://127.0.0.1:{it.implicit}/origin.test"
    return await run("curl", "-sS", "--cacert", it.ca, *login, url, *PATH, "-T", "-", stdin=MESSAGES["plain"])


async def by_msmtp(it: House, mechanism: str, secret: str) -> object:
    shown = it.token if mechanism in {"xoauth2", "oauthbearer"} and secret else secret or "x"
    await asyncio.to_thread((it.ca.parent / "secret").write_text, shown)
    where = ("--file=/dev/null", "--host=127.0.0.1", f"--port={it.port}", f"--from={USER}")
    tls = ("--tls=on", "--tls-starttls=on", f"--tls-trust-file={it.ca}")
    login = (f"--auth={mechanism}", f"--user={USER}", f"--passwordeval=cat {it.ca.parent / 'secret'}")
    return await run("msmtp", *where, *tls, *login, "--", "bob@example.test", stdin=MESSAGES["plain"])


async def by_nodemailer(it: House, mechanism: str, secret: str) -> object:
    shown = it.token if mechanism == "XOAUTH2" and secret else secret or "x"
    return await run("node", NODEMAILER, NODE_MODULES, str(it.port), it.ca, mechanism, USER, shown)


async def told_of(it: House, mechanism: str) -> str:
    """What the service has told, once it has told of a login by this mechanism."""

    async def is_told() -> bool:
        return '"event":"logged in"' in (said := it.log.read_text()) and f'"mechanism":"{mechanism}"' in said

    await until(is_told, f"a login by {mechanism}", log=it.log)
    return it.log.read_text()


LOGINS: Final = [
    *((by_swaks, word) for word in ("PLAIN", "LOGIN")),
    *((by_curl, word) for word in ("PLAIN", "LOGIN", "OAUTHBEARER")),  # with a token it knows no other
    *((by_msmtp, word) for word in ("plain", "login", "scram-sha-256", "xoauth2", "oauthbearer")),
    *((by_nodemailer, word) for word in ("PLAIN", "LOGIN", "XOAUTH2")),
]


@pytest.mark.parametrize(("submit", "mechanism"), LOGINS)
async def test_programs_log_in_by_each_mechanism_they_know_and_nobody_does_with_a_wrong_secret(
    place: Path, submit: Submit, mechanism: str
) -> None:
    async with house(place) as it:
        await submit(it, mechanism, "")
        await submit(it, mechanism, PASSWORD)
        (taken,) = await it.far_end.messages(1)
        assert b"with ESMTPSA (TLSv1." in taken.octets
        said = await told_of(it, mechanism.upper())
        assert PASSWORD not in said
        assert it.token not in said


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_postfix_logs_in_and_relays_to_us(place: Path, peer_place: Path, mechanism: str) -> None:
    async with house(place) as it:
        settings = relay_to(it.port) | {
            "smtp_tls_security_level": "encrypt",
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": f"inline:{{{{[127.0.0.1]:{it.port}={USER}:{PASSWORD.replace(' ', '')}}}}}",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_mechanism_filter": mechanism.lower(),
        }
        save_users(place / "users", {USER: hashed(USER, PASSWORD.replace(" ", ""))})
        async with postfix(peer_place, settings) as before:
            where = ("--server", f"127.0.0.1:{before.port}", "--from", USER, "--to", "bob@example.test")
            await must_run("swaks", *where)
            (taken,) = await it.far_end.messages(1)
            assert b"with ESMTPSA (TLSv1.3)" in taken.octets
            await told_of(it, mechanism)


AUTHENTICATOR = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""


async def test_exim_takes_our_login_over_tls(place: Path, peer_place: Path) -> None:
    files = write_certificate(trustme.CA(), peer_place, "exim.test")
    files.key.chmod(0o644)
    tls = (
        f"tls_advertise_hosts = *\ntls_certificate = {files.certificate}\ntls_privatekey = {files.key}\n"
        "auth_advertise_hosts = ${if def:tls_in_cipher{*}{}}\n"
    )
    sections = AUTHENTICATOR.format(user=USER, password="sesame")
    (place / "password").write_text("sesame")
    login = f'username = "{USER}"\npassword_file = "{place / "password"}"\ntls = "required"'
    async with exim(peer_place, "example.test", "bob", tls=tls, more=sections) as peer:
        target = route("example.test", f"smtp://127.0.0.1:{peer.port}", extra=login)
        async with waypost(place, target) as service:
            await asyncio.to_thread(send, service, MESSAGES["plain"])
            await until(lambda: _has_mail(peer.mailbox("bob")), "the message is there", log=service.log)
            (message,) = peer.mailbox("bob").iterdir()
            assert "with esmtpsa" in message.read_text()


SMART_HOST = """
onward:
  driver = manualroute
  domains = ! +ours
  route_list = * 127.0.0.1::{port} byname
  transport = onward
  self = send
"""
TRANSPORT = """
onward:
  driver = smtp
  hosts_require_tls = *
  hosts_require_auth = *
  tls_tempfail_tryclear = false

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""


async def test_exim_logs_in_and_relays_to_us_over_tls(place: Path, peer_place: Path) -> None:
    async with house(place) as it:
        password = PASSWORD.replace(" ", "")
        save_users(place / "users", {USER: hashed(USER, password)})
        onward = SMART_HOST.format(port=it.port)
        more = TRANSPORT.format(user=USER, password=password)
        async with exim(peer_place, "exim.test", "carl", more=more, routers=onward) as peer:
            send_by = (str(BINARY), "-C", str(peer.directory / "exim.conf"), "-f", USER, "-odf", "bob@example.test")
            await must_run(*send_by, stdin=b"From: alice@house.test\nSubject: by Exim\n\nhello\n")
            (taken,) = await it.far_end.messages(1)
            assert b"with ESMTPSA (TLSv1.3)" in taken.octets
            await told_of(it, "PLAIN")


async def _has_mail(mailbox: Path) -> bool:
    return await asyncio.to_thread(lambda: mailbox.is_dir() and any(mailbox.iterdir()))
