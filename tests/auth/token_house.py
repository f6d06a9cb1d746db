"""A token server over real HTTP on loopback, and an SMTP server that takes only the tokens it has granted."""

from __future__ import annotations

import hashlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from aiohttp import web

from waypost.auth.oauth import Authorisation
from waypost.net.stream import Fault, Stream

LONG = timedelta(days=30)


@dataclass
class TokenHouse:
    """What it grants, and what it refuses. `next`: answers to give before all others, status and JSON."""

    life: float = 3600.0
    refresh_life: float = 0.0
    is_authorised: bool = True
    next: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    pending: int = 0
    url: str = ""
    challenge: str = ""

    def __post_init__(self) -> None:
        self.granted = 0

    @property
    def good(self) -> str:
        """The one token that is good now; "" where none is."""
        return f"canary-access-{self.granted}" if self.is_authorised and self.granted else ""

    def authorisation(self, grant: str = "user") -> Authorisation:
        urls = (f"{self.url}/token", f"{self.url}/device", f"{self.url}/authorize")
        return Authorisation("provider", grant, *urls, "client", "canary-secret", "smtp")

    def grant(self) -> dict[str, object]:
        self.granted += 1
        answer: dict[str, object] = {"access_token": f"canary-access-{self.granted}", "expires_in": self.life}
        if self.refresh_life:
            answer["refresh_token_expires_in"] = self.refresh_life
        return answer | {"refresh_token": f"canary-refresh-{self.granted}"}

    async def token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append(form)
        if self.next:
            status, said = self.next.pop(0)
            return web.json_response(said, status=status)
        if form["client_secret"] != "canary-secret":
            return web.json_response({"error": "invalid_client"}, status=401)
        if not self.is_authorised:
            return web.json_response({"error": "invalid_grant", "error_description": "it was revoked"}, status=400)
        if form["grant_type"].endswith("device_code") and self.pending:
            self.pending -= 1
            return web.json_response({"error": "authorization_pending"}, status=400)
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != self.challenge or form["code"] != "the-code":
                return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(self.grant())

    async def device(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "device_code": "dev",
                "user_code": "ABCD-EFGH",
                "verification_uri": f"{self.url}/device-login",
                "expires_in": 600,
                "interval": 0.01,
            }
        )

    async def authorize(self, request: web.Request) -> web.Response:
        self.challenge = request.query["code_challenge"]
        raise web.HTTPFound(f"{request.query['redirect_uri']}?code=the-code&state={request.query['state']}")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TokenHouse]:
        app = web.Application()
        app.router.add_post("/token", self.token)
        app.router.add_post("/device", self.device)
        app.router.add_get("/authorize", self.authorize)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


class TokenPeer:
    """An SMTP server that knows XOAUTH2 alone, and asks the token house which token is good."""

    def __init__(self, house: TokenHouse, *, takes_any: bool = True) -> None:
        self.house = house
        self.takes_any = takes_any
        self.bodies: list[bytes] = []
        self.logins: list[str] = []

    async def __call__(self, stream: Stream) -> None:
        stream.write(b"220 provider.example\r\n")
        heard = b""
        while True:
            octets = await stream.read(LONG)
            if isinstance(octets, Fault):
                return
            heard += octets
            while b"\r\n" in heard:
                line, _, heard = heard.partition(b"\r\n")
                if line == b"DATA":
                    stream.write(b"354 go\r\n")
                    while b"\r\n.\r\n" not in heard:
                        octets = await stream.read(LONG)
                        if isinstance(octets, Fault):
                            return
                        heard += octets
                    body, _, heard = heard.partition(b"\r\n.\r\n")
                    self.bodies.append(body)
                    stream.write(b"250 2.0.0 taken\r\n")
                else:
                    stream.write(self.answer(line))

    def answer(self, line: bytes) -> bytes:
        match line.split(b" ")[0]:
            case b"EHLO":
                return b"250-provider.example\r\n250 AUTH XOAUTH2\r\n"
            case b"AUTH":
                said = b64decode(line.split(b" ")[2]).decode()
                token = said.partition("Bearer ")[2].rstrip("\1")
                self.logins.append(token)
                assert said.startswith("user=us@provider.example\1")
                is_good = self.takes_any and token == self.house.good
                return b"235 2.7.0 welcome\r\n" if is_good else b"535 5.7.3 authentication unsuccessful\r\n"
            case b"QUIT":
                return b"221 bye\r\n"
            case _:
                return b"250 OK\r\n"
