"""`waypost oauth`: both ways to log in, against a token server over real HTTP, and what is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from rich.text import Text
from typer.testing import CliRunner

from tests.auth.token_house import TokenHouse
from waypost.__main__ import program
from waypost.admin import oauth
from waypost.auth.oauth import Denied, NoAnswer, Tokens
from waypost.auth.tokens import Dead, Live, TokenStore, TokenStoreError, key_in
from waypost.config import Complaints, Config, parse
from waypost.net.clock import SystemClock

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.org"
[[listener]]
address = "127.0.0.1:0"
[auth]
token_key_file = "oauth.key"
[[oauth]]
name = "provider"
provider = "microsoft"
client_id = "client"
[[route]]
domains = ["example.org"]
to = "capture:"
[[route]]
domains = ["*"]
to = "smtp://smtp.provider.example:587"
tls = "verify"
username = "us@provider.example"
oauth = "provider"
"""


class Screen:
    """What a person reads, and does at once: opens the address."""

    def __init__(self, opens: Callable[[str], str] = lambda url: url) -> None:
        self.opens = opens
        self.said: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def print(self, text: Text) -> None:
        self.said.append(text.plain)
        url = text.plain.rpartition("\n")[2]
        if url.startswith("http"):
            self.tasks.append(asyncio.ensure_future(self.browse(self.opens(url))))

    async def browse(self, url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200


async def test_a_login_on_another_device_waits_for_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(oauth, "err", lambda: screen)
    async with TokenHouse(pending=2).open() as house:
        answer = await oauth._log_in(house.authorisation(), "device", 0, SystemClock())
    assert isinstance(answer, Tokens)
    assert answer.refresh == "canary-refresh-1"
    assert "ABCD-EFGH" in screen.said[0]
    assert "canary" not in repr(answer)


async def test_a_login_in_a_browser_comes_back_with_a_code_bound_to_its_verifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(oauth, "err", lambda: screen)
    async with TokenHouse().open() as house:
        answer = await oauth._log_in(house.authorisation(), "code", 0, SystemClock())
        assert isinstance(answer, Tokens)
        assert house.asked[0]["code_verifier"]


async def test_the_answer_to_another_login_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6749 §10.12: the state ties the answer to the question."""
    screen = Screen(lambda url: url.replace("state=", "state=x"))
    monkeypatch.setattr(oauth, "err", lambda: screen)
    async with TokenHouse().open() as house:
        answer = await oauth._log_in(house.authorisation(), "code", 0, SystemClock())
        assert isinstance(answer, NoAnswer)
        assert house.asked == []


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, {"error": "invalid_grant"}, Denied),
        (400, {}, NoAnswer),
        (503, {"error": "busy"}, NoAnswer),
        (429, {"error": "slow"}, NoAnswer),
        (200, {"token": 1}, NoAnswer),
        (302, {}, NoAnswer),
    ],
)
async def test_what_a_token_server_says_is_a_word_or_passes(status: int, said: dict[str, object], kind: type) -> None:
    async with TokenHouse(next=[(status, said)]).open() as house:
        assert isinstance(await oauth._log_in(house.authorisation("client"), "", 0, SystemClock()), kind)


async def test_a_token_server_that_is_not_there_is_no_answer() -> None:
    house = TokenHouse()
    async with house.open():
        who = house.authorisation("client")
    answer = await oauth._log_in(who, "", 0, SystemClock())
    assert isinstance(answer, NoAnswer)
    assert "cannot be asked" in answer.why


# ---- the store


def test_tokens_are_kept_encrypted_and_read_back(tmp_path: Path) -> None:
    key = key_in(tmp_path / "key", make=True)
    store = TokenStore(tmp_path / "oauth", key)
    assert store.load("x") == Dead("nobody has logged in yet")
    tokens = Tokens("canary", 1.0, "canary-too", 2.0, 3.0)
    store.save("x", Live(tokens))
    assert store.load("x") == Live(tokens)
    assert b"canary" not in (tmp_path / "oauth" / "x.token").read_bytes()
    store.save("x", Dead("why"))
    assert store.load("x") == Dead("why")


def test_another_key_reads_nothing_and_says_so(tmp_path: Path) -> None:
    TokenStore(tmp_path, key_in(tmp_path / "one", make=True)).save("x", Dead("y"))
    with pytest.raises(TokenStoreError, match="another key"):
        TokenStore(tmp_path, key_in(tmp_path / "two", make=True)).load("x")
    with pytest.raises(TokenStoreError, match="no"):
        TokenStore(tmp_path, b"short")


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    key_in(tmp_path / "key", make=True)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        key_in(tmp_path / "key")


# ---- settings and status


def config(text: str = CONFIG, place: Path = Path("/nowhere")) -> Config | Complaints:
    return parse(text, where="waypost.toml", base=place)


def test_a_provider_brings_its_addresses() -> None:
    found = config()
    assert isinstance(found, Config), str(found)
    who = found.oauth.by_name["provider"]
    assert who.token_url == "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    assert who.scope == "https://outlook.office.com/SMTP.Send offline_access"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('oauth = "provider"', 'oauth = "other"', 'no [[oauth]] named "other"'),
        ('token_key_file = "oauth.key"', "", "there is no key"),
        ('provider = "microsoft"', "", "token_url: is missing"),
        ('provider = "microsoft"', 'token_url = "http://x.example/"', "is not https"),
        ('provider = "microsoft"', 'provider = "microsoft"\ngrant = "client"', "needs a secret"),
        ('provider = "microsoft"', 'provider = "microsoft"\nnotify = "nobody"', "oauth.notify"),
        ('domains = ["example.org"]', 'domains = ["example.com"]', "by this authorisation itself"),
        ('tls = "verify"', "", "could read the password"),
        ('oauth = "provider"', 'oauth = "provider"\npassword_env = "X"', "needs one password"),
    ],
)
def test_what_cannot_work_is_complained_of(old: str, new: str, complaint: str) -> None:
    found = config(CONFIG.replace(old, new))
    assert isinstance(found, Complaints)
    assert complaint in str(found)


def test_status_tells_what_is_authorised_and_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "waypost.toml"
    path.write_text(CONFIG)

    def status(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(program(), ["oauth", "status", *words, "--config", str(path)])
        return done.exit_code, done.output

    assert status("--json")[0] == 1
    assert "nobody has logged in yet" in status()[1]
    found = config(place=tmp_path)
    assert isinstance(found, Config)
    now = SystemClock().now()
    found.oauth.store().save("provider", Live(Tokens("canary", now + 60, "r", now + 86400 * 10)))
    code, said = status()
    assert code == 0
    assert "log in again in 10.0 days" in said
    assert "canary" not in said
    found.oauth.store().save("provider", Live(Tokens("canary", now + 60, "r")))
    assert "log in again" not in status()[1]
    (state,) = json.loads(status("--json")[1], parse_constant=pytest.fail)
    assert state["is_alive"] is True
    assert status("nobody")[0] == 1
