"""OAuth 2.0 as a client: how access tokens are asked for, and what the token server says (RFC 6749).

Grants: device authorisation (RFC 8628), authorisation code with PKCE and a loopback redirect (RFC 7636, RFC 8252),
refresh, and client credentials. Every request ends, by a time-out at the latest; every answer is a value. Not here:
where tokens are kept (tokens.py), and when they are asked for (keeper.py).
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeAlias
from urllib.parse import urlencode

import aiohttp
import msgspec

from waypost.net.clock import Clock, Instant

#: For one request to a token server, all of it.
PATIENCE: Final = timedelta(seconds=30)
#: What a token server may answer with; a token has a few kilobytes.
LARGEST: Final = 256 * 1024
#: Of an access token whose server names no life time.
USUAL_LIFE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What one `[[oauth]]` says. `grant`: "user" (somebody logs in once) or "client" (the program is its own user)."""

    name: str
    grant: str
    token_url: str
    device_url: str
    authorize_url: str
    client_id: str
    client_secret: str
    scope: str

    def __repr__(self) -> str:
        return f"Authorisation({self.name!r}, …)"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token server has granted; shown by no repr. Times are wall-clock seconds, 0 where it names none."""

    access: str
    expires_at: Instant
    refresh: str = ""
    refresh_expires_at: Instant = 0.0
    obtained_at: Instant = 0.0

    def __repr__(self) -> str:
        return "Tokens(…)"


@dataclass(frozen=True, slots=True)
class Denied:
    """The token server says no. `error` is its code (RFC 6749 §5.2): somebody has to do something, or wait."""

    error: str
    detail: str

    def __str__(self) -> str:
        return f"{self.error}: {self.detail}" if self.detail else self.error


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The token server cannot be asked now, or answers what nobody understands."""

    why: str


Answer: TypeAlias = Tokens | Denied | NoAnswer


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person is asked to do: open `url`, type `user_code` (RFC 8628 §3.2)."""

    user_code: str
    url: str
    device_code: str
    interval: timedelta
    expires_at: Instant

    def __repr__(self) -> str:
        return f"DeviceCode({self.user_code!r}, {self.url!r}, …)"


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """An authorisation-code request: the address to open, and what its answer is checked by and redeemed with."""

    url: str
    state: str
    verifier: str
    redirect: str

    def __repr__(self) -> str:
        return f"CodeRequest({self.url!r}, …)"


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = USUAL_LIFE.total_seconds()
    refresh_token: str = ""
    refresh_token_expires_in: float = 0.0


class _Error(msgspec.Struct):
    error: str
    error_description: str = ""


class _Device(msgspec.Struct):
    device_code: str
    user_code: str
    expires_in: float
    verification_uri: str = ""
    verification_url: str = ""  # Google's spelling
    interval: float = 5.0


class TokenServer:
    """Asks token servers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def refresh(self, who: Authorisation, refresh_token: str) -> Answer:
        """A new access token for a refresh token (RFC 6749 §6); the old refresh token stays where none comes."""
        answer = await self._grant(who, {"grant_type": "refresh_token", "refresh_token": refresh_token})
        if isinstance(answer, Tokens) and not answer.refresh:
            return replace(answer, refresh=refresh_token)
        return answer

    async def as_client(self, who: Authorisation) -> Answer:
        """A token for the program itself (RFC 6749 §4.4)."""
        return await self._grant(who, {"grant_type": "client_credentials", "scope": who.scope})

    async def ask_device(self, who: Authorisation) -> DeviceCode | Denied | NoAnswer:
        """Begin a login on another device."""
        answer = await self._post(who.device_url, {"client_id": who.client_id, "scope": who.scope})
        if not isinstance(answer, bytes):
            return answer
        try:
            told = msgspec.json.decode(answer, type=_Device)
        except msgspec.DecodeError as error:
            return NoAnswer(f"{who.device_url} answers what is no device code: {error}")
        expires_at = self._clock.now() + told.expires_in
        url = told.verification_uri or told.verification_url
        return DeviceCode(told.user_code, url, told.device_code, timedelta(seconds=told.interval), expires_at)

    async def wait_for_device(self, who: Authorisation, code: DeviceCode) -> Answer:
        """Ask until the person has logged in, or refused, or time is up (RFC 8628 §3.5)."""
        interval = code.interval
        grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code.device_code}
        while self._clock.now() < code.expires_at:
            await self._clock.sleep(interval)
            answer = await self._grant(who, grant)
            match answer:
                case Denied("authorization_pending"):
                    pass
                case Denied("slow_down"):
                    interval += timedelta(seconds=5)
                case NoAnswer():
                    interval *= 2
                case _:
                    return answer
        return Denied("expired_token", "nobody logged in in time")

    def ask_code(self, who: Authorisation, redirect: str) -> CodeRequest:
        """Begin a login in a browser that comes back to `redirect` (RFC 8252 §7.3)."""
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": who.client_id,
            "redirect_uri": redirect,
            "scope": who.scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",  # Google gives no refresh token without these two; others pass over them
            "prompt": "consent",
        }
        return CodeRequest(f"{who.authorize_url}?{urlencode(query)}", state, verifier, redirect)

    async def redeem(self, who: Authorisation, request: CodeRequest, code: str) -> Answer:
        """The tokens for the code that the browser brought back (RFC 7636 §4.5)."""
        grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": request.redirect}
        return await self._grant(who, grant | {"code_verifier": request.verifier})

    async def _grant(self, who: Authorisation, grant: Mapping[str, str]) -> Answer:
        secret = {"client_secret": who.client_secret} if who.client_secret else {}
        answer = await self._post(who.token_url, {**grant, "client_id": who.client_id, **secret})
        if not isinstance(answer, bytes):
            return answer
        try:
            told = msgspec.json.decode(answer, type=_Granted)
        except msgspec.DecodeError as error:
            return NoAnswer(f"{who.token_url} answers what is no token: {error}")
        now = self._clock.now()
        refresh_ends = now + told.refresh_token_expires_in if told.refresh_token_expires_in else 0.0
        return Tokens(told.access_token, now + told.expires_in, told.refresh_token, refresh_ends, now)

    async def _post(self, url: str, form: Mapping[str, str]) -> bytes | Denied | NoAnswer:
        timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, data=form, headers={"Accept": "application/json"}, allow_redirects=False) as response,
            ):
                body = await response.content.read(LARGEST)
                return body if response.status == 200 else _refusal(url, response.status, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return NoAnswer(f"{url} cannot be asked: {type(error).__name__} {error}".rstrip())


def _refusal(url: str, status: int, body: bytes) -> Denied | NoAnswer:
    """4xx with an error code is a word; anything else may pass."""
    if 400 <= status < 500 and status != 429:
        try:
            told = msgspec.json.decode(body, type=_Error)
        except msgspec.DecodeError:
            return NoAnswer(f"{url} answers {status}, without a reason")
        return Denied(told.error, told.error_description)
    return NoAnswer(f"{url} answers {status}")
