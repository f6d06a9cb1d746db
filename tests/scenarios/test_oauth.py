"""A smart host that takes OAuth tokens: fresh ones before the old end, and mail that is held when there are none.

The token server speaks real HTTP; the smart host asks it which token is good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.auth.token_house import TokenHouse, TokenPeer
from tests.scenarios.whole import HOUR, MINUTE, SCHEDULE, Whole, whole
from tests.virtual import START, virtual
from waypost.auth.oauth import Tokens
from waypost.auth.tokens import Dead, Live, TokenStore, key_in
from waypost.route.state import Phase

HOST = "127.0.0.9"
EXPIRE = 'expire = "8h"\n'


def text(house: TokenHouse, grant: str = "user") -> str:
    return f"""\
[auth]
token_key_file = "oauth.key"
[[oauth]]
name = "provider"
grant = "{grant}"
client_id = "client"
client_secret_file = "secret"
token_url = "{house.url}/token"
scope = "smtp"
[[route]]
domains = ["*"]
to = "smtp://{HOST}:25"
tls = "none"
username = "us@provider.example"
oauth = "provider"
"""


def store_in(place: Path) -> TokenStore:
    return TokenStore(place / "spool" / "oauth", key_in(place / "oauth.key", make=True))


def log_in(place: Path, house: TokenHouse, now: float) -> None:
    """What `waypost oauth login` leaves."""
    (place / "spool").mkdir(exist_ok=True)
    granted = house.grant()
    tokens = Tokens(str(granted["access_token"]), now + house.life, str(granted["refresh_token"]), obtained_at=now)
    store_in(place).save("provider", Live(tokens))


@asynccontextmanager
async def flowing(place: Path, house: TokenHouse, peer: TokenPeer, grant: str = "user") -> AsyncIterator[Whole]:
    (place / "secret").write_text("canary-secret\n")
    async with house.open():
        if grant == "user":
            log_in(place, house, START)
        async with whole(text(house, grant), {HOST: peer}, schedule=SCHEDULE + EXPIRE, base=place) as service:
            yield service


def days(service: Whole, metrics: bytes) -> float:
    (line,) = [line for line in metrics.decode().splitlines() if line.startswith("waypost_oauth_days ")]
    return float(line.split()[1])


@virtual
async def test_a_token_is_renewed_before_it_ends_and_no_login_ever_fails(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        await service.take("bob@elsewhere.example")
        await asyncio.sleep(5 * HOUR)
        assert house.granted >= 5
        await service.take("carol@elsewhere.example")
        await asyncio.sleep(MINUTE)
        assert len(peer.bodies) == 2
        assert peer.logins == ["canary-access-1", house.good]


@virtual
async def test_when_the_authorisation_ends_mail_is_held_and_flows_again_after_a_login(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        house.is_authorised = False
        name = await service.take("bob@elsewhere.example")
        await asyncio.sleep(9 * HOUR)  # longer than [retry] expire

        (entry,) = await service.queue()
        assert entry.id == name
        assert entry.attempts == 0
        assert await service.attempts(name) == 0
        (state,) = (await service.running.operations.destinations(limit=10)).destinations
        assert state.phase is Phase.HELD
        assert "waypost oauth login provider" in state.cause
        (alarm,) = await service.inbox()  # and no report to the author, whose mail is not lost
        assert b"Subject: Mail is held: the authorisation provider has ended" in alarm
        assert b"invalid_grant: it was revoked" in alarm
        status = await service.running.operations.status()
        assert any("OAuth provider" in warning for warning in status.warnings)
        logins = len(peer.logins)
        assert logins <= 2

        house.is_authorised = True
        log_in(tmp_path, house, service.clock.now())
        await asyncio.sleep(MINUTE)
        assert len(peer.bodies) == 1
        assert await service.queue() == []
        assert len(await service.inbox()) == 1


@virtual
async def test_a_fresh_token_that_is_refused_ends_the_authorisation(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house, takes_any=False)
    async with flowing(tmp_path, house, peer) as service:
        name = await service.take("bob@elsewhere.example")
        await asyncio.sleep(HOUR)
        assert peer.logins == ["canary-access-1", "canary-access-2"]
        assert await service.attempts(name) == 0
        (entry,) = await service.queue()
        assert entry.attempts == 0
        kept = store_in(tmp_path).load("provider")
        assert isinstance(kept, Dead)
        assert "a fresh token is refused" in kept.why


@virtual
async def test_a_token_revoked_before_its_time_is_replaced_within_the_attempt(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        house.granted = 7  # what was granted before is good no more
        await service.take("bob@elsewhere.example")
        await asyncio.sleep(1)
        assert peer.logins == ["canary-access-1", "canary-access-8"]
        assert len(peer.bodies) == 1


@virtual
async def test_a_token_server_that_is_away_costs_nothing_while_the_token_lasts(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        house.next = [(503, {})] * 3
        await asyncio.sleep(56 * MINUTE)
        await service.take("bob@elsewhere.example")
        await asyncio.sleep(1)
        assert len(peer.bodies) == 1
        await asyncio.sleep(10 * MINUTE)
        assert house.good == "canary-access-2"


@virtual
async def test_while_no_token_can_be_had_mail_is_deferred_like_for_any_host_that_is_away(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        house.next = [(503, {})] * 500
        await asyncio.sleep(2 * HOUR)
        name = await service.take("bob@elsewhere.example")
        await asyncio.sleep(MINUTE * 2)
        assert await service.attempts(name) >= 1
        assert peer.logins == []
        house.next = []
        await asyncio.sleep(HOUR)
        assert len(peer.bodies) == 1


@virtual
async def test_the_program_as_its_own_user_needs_nobody(tmp_path: Path) -> None:
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer, grant="client") as service:
        await service.take("bob@elsewhere.example")
        await asyncio.sleep(MINUTE)
        assert len(peer.bodies) == 1
        assert house.asked[0]["grant_type"] == "client_credentials"


@virtual
async def test_no_secret_stands_in_the_spool_the_history_or_an_alarm(tmp_path: Path) -> None:
    """A canary in each secret; the spool's own files are encrypted, the transcripts leave tokens out."""
    house = TokenHouse()
    peer = TokenPeer(house)
    async with flowing(tmp_path, house, peer) as service:
        name = await service.take("bob@elsewhere.example")
        await asyncio.sleep(MINUTE)
        house.is_authorised = False
        await asyncio.sleep(2 * HOUR)
        await service.take("carol@elsewhere.example")
        await asyncio.sleep(MINUTE)
        told = repr(await service.history(name)) + repr(await service.inbox()) + repr(await service.queue())
        told += repr(await service.running.operations.status())
        assert "AUTH XOAUTH2" in told
        assert "canary" not in told
    written = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert written
    assert not any(b"canary" in path.read_bytes() for path in written)
    assert all(path.stat().st_mode & 0o077 == 0 for path in written)
