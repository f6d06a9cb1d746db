"""Who renews an access token, where several processes use it: one at a time, and all have what it got."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet

from tests.virtual import VirtualClock, virtual
from waypost.auth.keeper import Keeper, Token, Unavailable
from waypost.auth.oauth import Authorisation, Denied, Tokens
from waypost.auth.tokens import Dead, Live, TokenStore
from waypost.deliver.authorisations import RENEWING, ShelvedTokens
from waypost.queue.memory import MemoryStorage

KEY = Fernet.generate_key()
URL = "https://token.example"
WHO = Authorisation("google", "user", URL, URL, URL, "client", "secret", "smtp")


@dataclass
class House:
    """A token server: each refresh token is good once, and who brings an old one has the whole authorisation ended."""

    clock: VirtualClock
    number: int = 0
    is_ended: bool = False
    asked: int = 0

    async def refresh(self, who: Authorisation, refresh: str) -> Tokens | Denied:
        self.asked += 1
        await asyncio.sleep(2)
        if self.is_ended or refresh != f"refresh{self.number}":
            self.is_ended = True
            return Denied("invalid_grant", "used twice")
        self.number += 1
        return self.tokens()

    async def as_client(self, who: Authorisation) -> Tokens:
        raise AssertionError("there is a user")

    def tokens(self) -> Tokens:
        now = self.clock.now()
        return Tokens(f"access{self.number}", now + 3600, f"refresh{self.number}", 0.0, now)


@dataclass
class Processes:
    """Keepers, each with a directory of its own, on one shelf."""

    place: Path
    count: int = 3
    clock: VirtualClock = field(default_factory=VirtualClock)
    shelf: MemoryStorage = field(default_factory=MemoryStorage)

    async def begin(self) -> list[Keeper]:
        await self.shelf.open(owner="test")
        self.house = House(self.clock)
        self.stores = [TokenStore(self.place / f"node{number}", KEY) for number in range(self.count)]
        self.stores[0].save("google", Live(self.house.tokens()))
        keepers = []
        for store in self.stores:
            keeper = Keeper({"google": WHO}, store, self.house, self.clock)  # type: ignore[arg-type]  # stands in for it
            keeper.fellows = ShelvedTokens(self.shelf, self.clock)
            keepers.append(keeper)
        for keeper in keepers:
            await keeper._look_after(keeper._accounts["google"])
        return keepers


@virtual
async def test_a_login_at_one_process_is_known_to_all(tmp_path: Path) -> None:
    all_ = Processes(tmp_path)
    keepers = await all_.begin()
    assert [await keeper.token("google") for keeper in keepers] == [Token("access0", is_fresh=False)] * 3


@virtual
async def test_all_who_need_a_new_token_at_once_have_it_renewed_once(tmp_path: Path) -> None:
    all_ = Processes(tmp_path)
    keepers = await all_.begin()
    for round_ in range(1, 4):
        await asyncio.sleep(3590)
        found = await asyncio.gather(*(keeper.token("google") for keeper in keepers))
        assert {one.access for one in found if isinstance(one, Token)} == {f"access{round_}"}
        assert all_.house.asked == round_


@virtual
async def test_who_was_away_while_others_renewed_goes_on_with_what_they_have(tmp_path: Path) -> None:
    all_ = Processes(tmp_path)
    one, two, away = await all_.begin()
    await asyncio.sleep(3590)
    await one.token("google")
    await asyncio.sleep(3590)
    await two.token("google")
    assert await away.token("google") == Token("access2", is_fresh=True)
    assert all_.house.asked == 2


@virtual
async def test_one_that_died_while_it_renewed_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    all_ = Processes(tmp_path)
    one, _, _ = await all_.begin()
    await asyncio.sleep(3700)
    await all_.shelf.keep(RENEWING, "google", b"", until=all_.clock.now() + 60)
    assert isinstance(await one.token("google"), Unavailable)
    await asyncio.sleep(61)
    assert await one.token("google") == Token("access1", is_fresh=True)


@virtual
async def test_an_authorisation_that_has_ended_has_ended_for_all(tmp_path: Path) -> None:
    all_ = Processes(tmp_path)
    one, two, _ = await all_.begin()
    all_.house.is_ended = True
    await asyncio.sleep(3590)
    assert isinstance(await one.token("google"), Dead)
    assert isinstance(await two.token("google"), Dead)
    assert all_.house.asked == 1
