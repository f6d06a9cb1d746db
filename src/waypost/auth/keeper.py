"""Keeps access tokens fresh, and knows when an authorisation has died: then its mail is held until somebody logs in.

`token` is asked before each session that needs one; `run` renews tokens ahead of their end, so that it rarely waits,
and notices a new login that another process (`waypost oauth login`) has put into the store.

Where several processes share the queue (`Fellows`), one at a time renews, and all have what it got: a token server that
gives a new refresh token with each access token takes the old one for stolen when somebody comes with it once more.

Not here: what holding means (deliver/), and who is told (`Alarm`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.auth.oauth import Authorisation, Denied, NoAnswer, Tokens, TokenServer
from waypost.auth.tokens import Dead, Live, TokenStore, TokenStoreError
from waypost.net.clock import Clock, Instant

#: An access token is renewed so long before its end: longer than any session lasts before it says AUTH.
AHEAD: Final = timedelta(minutes=5)
#: How often it is looked which tokens end soon, and whether somebody has logged in.
LOOK: Final = timedelta(seconds=15)
#: After a token server could not be asked, while no mail asks for it.
PAUSE: Final = timedelta(minutes=1)
#: After a token server has refused the program itself: too many failures lock accounts.
LONG_PAUSE: Final = timedelta(minutes=15)
#: While another process renews: between two looks at what came of it, and how many.
ASK: Final = timedelta(seconds=0.5)
ASKS: Final = 60
#: Seconds that a token has to live for to be of use.
LIVES: Final = AHEAD.total_seconds() / 5
#: Errors that pass by themselves (RFC 6749 §4.1.2.1); all others need somebody.
_PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})
_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and whether it was granted just now. Shown by no repr."""

    access: str
    is_fresh: bool

    def __repr__(self) -> str:
        return "Token(…)"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No token now, but soon perhaps: the token server does not answer. `why` is a sentence."""

    why: str


TokenAnswer: TypeAlias = Token | Dead | Unavailable


class Alarm(Protocol):
    """Who is told. Must not raise."""

    async def died(self, name: str, why: str) -> None:
        """An authorisation has ended: its mail is held."""
        ...

    def revived(self, name: str) -> None:
        """Somebody has logged in: its mail may flow."""
        ...


class NoAlarm:
    """Tells nobody."""

    async def died(self, name: str, why: str) -> None:
        pass

    def revived(self, name: str) -> None:
        pass


class Fellows(Protocol):
    """The other processes that use the same authorisations. None of this raises: who is not reached tells nothing."""

    async def begin(self, name: str) -> bool:
        """Whether we may renew now, and nobody else; until `end`, or for a minute."""
        ...

    async def end(self, name: str) -> None:
        """Others may."""
        ...

    async def tell(self, name: str, since: int, sealed: bytes) -> None:
        """Let all have what we have at rest."""
        ...

    async def hear(self, name: str) -> tuple[int, bytes]:
        """What all have, and since when (nanoseconds); (0, b""): nothing was told."""
        ...


class NoFellows:
    """There are none."""

    async def begin(self, name: str) -> bool:  # noqa: ARG002 - whichever
        return True

    async def end(self, name: str) -> None:
        pass

    async def tell(self, name: str, since: int, sealed: bytes) -> None:
        pass

    async def hear(self, name: str) -> tuple[int, bytes]:  # noqa: ARG002 - whichever
        return 0, b""


@dataclass(frozen=True, slots=True)
class AuthorisationState:
    """One authorisation, for those who look. `ends_at`: when a person has to log in again; 0: nobody knows."""

    name: str
    is_alive: bool
    why: str
    token_ends_at: Instant
    ends_at: Instant

    def days(self, now: Instant) -> float:
        """Days until a person has to log in; 0 where he has to now, infinite where no end is known."""
        if not self.is_alive:
            return 0.0
        return max(0.0, (self.ends_at - now) / _DAY) if self.ends_at else inf


@dataclass(slots=True)
class _Account:
    authorisation: Authorisation
    stamp: tuple[int, int] = (-1, -1)
    kept: Live | Dead = field(default_factory=lambda: Dead("not read yet"))
    trouble: str = ""
    asks_again_at: Instant = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Keeper:
    """The authorisations of one service."""

    def __init__(
        self,
        authorisations: Mapping[str, Authorisation],
        store: TokenStore,
        server: TokenServer,
        clock: Clock,
    ) -> None:
        self._accounts = {name: _Account(one) for name, one in authorisations.items()}
        self._store = store
        self._server = server
        self._clock = clock
        self.alarm: Alarm = NoAlarm()
        self.fellows: Fellows = NoFellows()

    async def token(self, name: str) -> TokenAnswer:
        """An access token that is good for a while yet."""
        account = self._accounts[name]
        async with account.lock:
            self._read(account)
            kept, now = account.kept, self._clock.now()
            if isinstance(kept, Live) and kept.tokens.expires_at > now + LIVES:
                return Token(kept.tokens.access, is_fresh=False)
            return await self._renew(account)

    async def renew(self, name: str, stale: str) -> TokenAnswer:
        """A new access token, because a server refuses the one there is; another may have seen to it meanwhile."""
        account = self._accounts[name]
        async with account.lock:
            self._read(account)
            if isinstance(account.kept, Live) and account.kept.tokens.access != stale:
                return Token(account.kept.tokens.access, is_fresh=True)
            return await self._renew(account)

    async def refused(self, name: str, why: str) -> None:
        """A server refuses a token granted just now: the authorisation is worth nothing."""
        account = self._accounts[name]
        async with account.lock:
            await self._bury(account, why)

    async def run(self) -> None:
        """Look, again and again, for what ends soon and for who has logged in."""
        while True:
            for account in self._accounts.values():
                async with account.lock:
                    await self._look_after(account)
            await self._clock.sleep(LOOK)

    def states(self) -> Sequence[AuthorisationState]:
        """How each authorisation stands."""
        return [_state(account) for account in self._accounts.values()]

    def read(self) -> Sequence[AuthorisationState]:
        """How each stands by what the store holds, for who only looks."""
        for account in self._accounts.values():
            self._read(account)
        return self.states()

    async def _look_after(self, account: _Account) -> None:
        await self._meet(account)
        now, kept = self._clock.now(), account.kept
        if now < account.asks_again_at:
            return
        match kept:
            case Live(tokens) if tokens.expires_at <= now + AHEAD.total_seconds():
                await self._renew(account)
            case Dead() if account.authorisation.grant == "client":
                await self._renew(account)
            case _:
                pass

    async def _meet(self, account: _Account) -> None:
        """Have what all have, or let all have what somebody put into the store here: the later of the two."""
        name = account.authorisation.name
        told_since, told = await self.fellows.hear(name)
        since, sealed = self._store.sealed(name)
        if told_since > since:
            try:
                self._store.put(name, told_since, told)
            except TokenStoreError as error:
                account.trouble = str(error)
        elif sealed and sealed != told:
            await self.fellows.tell(name, since, sealed)
        self._read(account)

    def _read(self, account: _Account) -> None:
        """What the store holds now; another process may have written it."""
        name = account.authorisation.name
        stamp = self._store.stamp(name)
        if stamp == account.stamp:
            return
        was_dead = isinstance(account.kept, Dead) and account.stamp != (-1, -1)
        try:
            account.kept = self._store.load(name)
        except TokenStoreError as error:
            account.kept = Dead(str(error))
        account.stamp = stamp
        if was_dead and isinstance(account.kept, Live):
            account.trouble, account.asks_again_at = "", 0.0
            self.alarm.revived(name)

    async def _renew(self, account: _Account) -> TokenAnswer:
        who, kept = account.authorisation, account.kept
        if isinstance(kept, Dead) and (who.grant == "user" or self._clock.now() < account.asks_again_at):
            return kept
        if not await self.fellows.begin(who.name):
            return await self._renewed_elsewhere(account)
        try:
            await self._meet(account)
            return self._news(account, kept) or await self._ask(account)
        finally:
            await self.fellows.end(who.name)

    def _news(self, account: _Account, before: Live | Dead) -> Token | Dead | None:
        """What another process got meanwhile, if it did."""
        match account.kept:
            case Live(tokens) if account.kept != before and tokens.expires_at > self._clock.now() + LIVES:
                return Token(tokens.access, is_fresh=True)
            case Dead() if account.kept != before:
                return account.kept
            case _:
                return None

    async def _renewed_elsewhere(self, account: _Account) -> TokenAnswer:
        """Another process is just renewing: it is waited for."""
        before = account.kept
        for _ in range(ASKS):
            await self._clock.sleep(ASK)
            await self._meet(account)
            if news := self._news(account, before):
                return news
        return self._not_now(account, "another process of this queue renews the token, and does not come to an end")

    async def _ask(self, account: _Account) -> TokenAnswer:
        who, kept = account.authorisation, account.kept
        if who.grant == "client":
            answer = await self._server.as_client(who)
        elif isinstance(kept, Dead) or not kept.tokens.refresh:
            return await self._bury(account, "the access token has ended, and there is none to renew it with")
        else:
            answer = await self._server.refresh(who, kept.tokens.refresh)
        match answer:
            case Tokens():
                was_dead = isinstance(kept, Dead)
                await self._keep(account, Live(answer))
                if was_dead:
                    self.alarm.revived(who.name)
                return Token(answer.access, is_fresh=True)
            case Denied(error) if error not in _PASSING:
                return await self._bury(account, f"the token server says {answer}")
            case Denied() | NoAnswer():
                return self._not_now(account, str(answer) if isinstance(answer, Denied) else answer.why)
            case _:
                assert_never(answer)

    def _not_now(self, account: _Account, why: str) -> TokenAnswer:
        """Go on with the token there is, as long as it lasts."""
        account.trouble = why
        now = self._clock.now()
        account.asks_again_at = now + PAUSE.total_seconds()
        if isinstance(account.kept, Live) and account.kept.tokens.expires_at > now:
            return Token(account.kept.tokens.access, is_fresh=False)
        return Unavailable(why)

    async def _bury(self, account: _Account, why: str) -> Dead:
        dead, was_alive = Dead(why), not isinstance(account.kept, Dead)
        account.trouble = why
        account.asks_again_at = self._clock.now() + LONG_PAUSE.total_seconds()
        await self._keep(account, dead)
        if was_alive:
            await self.alarm.died(account.authorisation.name, why)
        return dead

    async def _keep(self, account: _Account, kept: Live | Dead) -> None:
        """In memory whatever happens: a store that cannot be written costs a login after the next start."""
        account.kept = kept
        if isinstance(kept, Live):
            account.trouble, account.asks_again_at = "", 0.0
        try:
            self._store.save(account.authorisation.name, kept)
            account.stamp = self._store.stamp(account.authorisation.name)
        except TokenStoreError as error:
            account.trouble = str(error)
        else:
            await self.fellows.tell(account.authorisation.name, *self._store.sealed(account.authorisation.name))


def _state(account: _Account) -> AuthorisationState:
    name, kept = account.authorisation.name, account.kept
    if isinstance(kept, Dead):
        return AuthorisationState(name, is_alive=False, why=kept.why, token_ends_at=0.0, ends_at=0.0)
    tokens = kept.tokens
    renewable = tokens.refresh or account.authorisation.grant == "client"
    ends_at = tokens.refresh_expires_at if renewable else tokens.expires_at
    return AuthorisationState(
        name, is_alive=True, why=account.trouble, token_ends_at=tokens.expires_at, ends_at=ends_at
    )
