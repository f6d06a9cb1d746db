"""Bearer tokens: only what the issuer signed, for us, now, and for the one who says so."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.virtual import START, VirtualClock, virtual
from waypost.auth.account import Account
from waypost.auth.attempts import Attempts
from waypost.auth.authenticator import (
    WRONG,
    Accepted,
    Authenticator,
    CannotTell,
    Judgement,
    NotKnown,
    Refused,
)
from waypost.auth.exchange import Challenge
from waypost.auth.jwt import FETCH_PAUSE, IssuedTokens, Issuer

ISSUER, US = "https://issuer.example", "waypost"
KEY = RSAKey.generate_key(2048, {"kid": "one"})
GOOD = {"iss": ISSUER, "aud": US, "exp": int(START) + 600, "email": "Alice@example.net"}
ALICE = Account("alice@example.net", ("alice@example.net",))


def public(*keys: RSAKey) -> str:
    return json.dumps(KeySet(list(keys)).as_dict(private=False))


def token(key: Any = KEY, **claims: object) -> str:
    said = {name: value for name, value in (GOOD | claims).items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": key.kid}, said, key)


def judge(place: Path, keys: str | None = None, claim: str = "email") -> IssuedTokens:
    file = place / "keys.json"
    file.write_text(public(KEY) if keys is None else keys)
    return IssuedTokens(Issuer(ISSUER, US, str(file), claim), lambda name: Account(name, (name,)), VirtualClock())


@virtual
async def test_a_token_of_the_issuer_is_its_owners(tmp_path: Path) -> None:
    tokens = judge(tmp_path)
    for name in ("alice@example.net", "ALICE@example.net", ""):
        assert await tokens.check(name, token()) == ALICE
    assert await tokens.check("", token(aud=["other", US])) == ALICE
    assert tokens.discovery == "https://issuer.example/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": int(START) - 120}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": int(START) + 120}, "not yet valid"),
        ({"iss": "https://other.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": None}, "aud"),
        ({"email": None}, "has no email"),
        ({"email": 7}, "has no email"),
        ({"email": "bob@example.net"}, "is bob@example.net's"),
    ],
)
@virtual
async def test_a_token_that_says_otherwise_is_not(tmp_path: Path, claims: dict[str, Any], why: str) -> None:
    verdict = await judge(tmp_path).check("alice@example.net", token(**claims))
    assert isinstance(verdict, NotKnown)
    assert why in verdict.why


@virtual
async def test_clocks_may_differ_by_a_minute(tmp_path: Path) -> None:
    assert await judge(tmp_path).check("", token(exp=int(START) - 30, nbf=int(START) + 30)) == ALICE


@virtual
async def test_nobody_else_can_sign(tmp_path: Path) -> None:
    """A stranger's key of the same name, no signature at all, and the public key used as a secret."""
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    head, body, _ = token().split(".")
    mac = hmac.digest(KEY.as_pem(private=False), f"{header}.{body}".encode(), "sha256")
    as_secret = f"{header}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    unsigned = f"eyJhbGciOiJub25lIn0.{body}."
    for forged in (token(stranger), as_secret, unsigned, f"{head}.{body}.", "x", "", "a.b.c"):
        assert isinstance(await judge(tmp_path).check("", forged), NotKnown), forged


@virtual
async def test_keys_that_cannot_be_had_are_our_trouble(tmp_path: Path) -> None:
    for keys in ("", "{}", '{"keys": 1}', "[]"):
        verdict: Judgement = await judge(tmp_path, keys).check("", token())
        assert isinstance(verdict, CannotTell | NotKnown), keys
    tokens = judge(tmp_path)
    (tmp_path / "keys.json").unlink()
    assert isinstance(await tokens.check("", token()), CannotTell)


@virtual
async def test_keys_are_fetched_again_when_the_issuer_has_a_new_one_but_not_for_every_stranger() -> None:
    served, fetched = [KEY], 0

    async def keys(_: web.Request) -> web.Response:
        nonlocal fetched
        fetched += 1
        return web.Response(text=public(*served))

    app = web.Application()
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    clock = VirtualClock()
    tokens = IssuedTokens(Issuer(ISSUER, US, url), lambda name: Account(name, (name,)), clock)
    assert await tokens.check("", token()) == ALICE
    second = RSAKey.generate_key(2048, {"kid": "two"})
    served.append(second)
    for _ in range(5):
        assert isinstance(await tokens.check("", token(second)), NotKnown)
    assert fetched == 1
    await clock.sleep(FETCH_PAUSE * 1.1)
    assert await tokens.check("", token(second)) == ALICE
    assert fetched == 2
    await runner.cleanup()


@virtual
async def test_a_whole_login_by_token_and_the_json_that_refuses_one(tmp_path: Path) -> None:
    class Nobody:
        def check(self, username: str, password: str) -> Judgement:
            return NotKnown("no passwords here")

        def known(self, username: str) -> Judgement:
            return NotKnown(username)

        def pinned(self, fingerprint: str) -> Judgement:
            return NotKnown(fingerprint)

    clock = VirtualClock()
    shared = Authenticator(clock, Attempts(clock), Nobody(), judge(tmp_path))
    said = f"n,a=alice@example.net,\1auth=Bearer {token()}\1\1".encode()
    assert await shared.dialogue("OAUTHBEARER", "192.0.2.1").begin(said) == Accepted(ALICE)
    late = f"user=alice@example.net\1auth=Bearer {token(exp=1)}\1\1".encode()
    dialogue = shared.dialogue("XOAUTH2", "192.0.2.1")
    told = await dialogue.begin(late)
    assert isinstance(told, Challenge)
    assert json.loads(told.octets)["status"] == "401"
    verdict = await dialogue.take(b"")
    assert isinstance(verdict, Refused)
    assert verdict.reply == WRONG
    assert "expired" in verdict.why.lower()
