"""Runs exchanges: asks who is behind a name, a password or a token, off the event loop, and keeps guessers at bay.

One `Authenticator` a service, one `Dialogue` an AUTH command. What it must not do: tell by its answer or its time
whether a user exists, hash on the event loop, or hash more at once than its threads (`THREADS`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar, assert_never

from waypost.auth.account import Account, own_address
from waypost.auth.attempts import Attempts, Blocked, GoOn
from waypost.auth.bearer import OAUTHBEARER, XOAUTH2, Bearer
from waypost.auth.exchange import (
    Challenge,
    CheckCertificate,
    CheckPassword,
    CheckToken,
    Exchange,
    External,
    Failed,
    Flaw,
    Login,
    Plain,
    Proven,
    Step,
)
from waypost.auth.scram import NAME, NO_BINDINGS, PLUS, Bindings, Keys, Scram, nobody
from waypost.auth.users import HASHER, Stamp, User, UsersError, load_users, stamp_of, verifies
from waypost.net.clock import Clock
from waypost.net.x509 import mail_addresses
from waypost.smtp.command import NoResponse
from waypost.smtp.reply import Reply

T = TypeVar("T")
#: Passwords hashed at once: each takes 19 MiB and a processor.
THREADS: Final = 2
#: For one judgement (a hash, a directory's answer) and the wait for its turn. A client waits longer than this.
PATIENCE: Final = timedelta(seconds=30)

WELCOME: Final = Reply.of(235, "2.7.0", "authentication successful")
WRONG: Final = Reply.of(535, "5.7.8", "authentication credentials invalid")
MALFORMED: Final = Reply.of(501, "5.5.2", "not what the mechanism says")
UNAVAILABLE: Final = Reply.of(454, "4.7.0", "temporary authentication failure; try again later")
TOO_OFTEN: Final = Reply.of(421, "4.7.0", "too many failed logins; try again later")


# ---- verdicts
@dataclass(frozen=True, slots=True)
class Accepted:
    """The client is this account: answer 235. `by`: the account that acts as it, "" where that is itself."""

    account: Account
    by: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """It is not, or nobody can tell. `username` as it was claimed; `why` is for the log, `reply` for the client."""

    reply: Reply
    username: str
    why: str


Verdict: TypeAlias = Challenge | Accepted | Refused


@dataclass(frozen=True, slots=True)
class NotKnown:
    """Wrong: no such user, or not his password, or no good token. `why` is for the log."""

    why: str


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Whoever judges does not answer. `why` names it and the remedy."""

    why: str


Judgement: TypeAlias = Account | NotKnown | CannotTell


class Passwords(Protocol):
    """Who knows passwords. Called in a thread; may block."""

    def check(self, username: str, password: str) -> Judgement:
        """Whose password this is. Takes as long for a user there is not."""
        ...

    def known(self, username: str) -> Judgement:
        """The account of a user whom somebody else has authenticated, and whom we believe."""
        ...

    def pinned(self, fingerprint: str) -> Judgement:
        """Whose certificate has this SHA-256, in hexadecimal."""
        ...


class Tokens(Protocol):
    """Who knows tokens."""

    @property
    def discovery(self) -> str:
        """Where a client finds its issuer, or ""."""
        ...

    async def check(self, username: str, token: str) -> Judgement:
        """Whose token this is; "" for a user name that the client left out."""
        ...


class NoTokens:
    """No issuer is trusted."""

    discovery = ""

    async def check(self, username: str, token: str) -> Judgement:  # noqa: ARG002 - nobody's
        return NotKnown("no issuer is configured")


class NoPasswords:
    """There are no accounts."""

    def check(self, username: str, password: str) -> Judgement:  # noqa: ARG002 - nobody's
        return NotKnown("there are no accounts")

    def known(self, username: str) -> Judgement:  # noqa: ARG002 - as above
        return NotKnown("there are no accounts")

    def pinned(self, fingerprint: str) -> Judgement:  # noqa: ARG002 - as above
        return NotKnown("there are no accounts")


class UserFile:
    """The users' file, read again when it has changed. Its methods are called in threads."""

    def __init__(self, path: Path, domain: str) -> None:
        """`domain`: where a user whose name is no address has his own."""
        self.path = path
        self._domain = domain
        self._read: tuple[Stamp, Mapping[str, User]] = (Stamp(0, 0, 0), {})
        self._secret = secrets.token_bytes(32)
        self._nobody = HASHER.hash(secrets.token_hex())

    def users(self) -> Mapping[str, User]:
        """Everybody there is now. Raises: UsersError."""
        stamp = stamp_of(self.path)
        if stamp != self._read[0]:
            self._read = stamp, load_users(self.path)
        return self._read[1]

    def check(self, username: str, password: str) -> Judgement:
        try:
            user = self.users().get(username.lower())
            # Somebody who is not there costs as much as somebody who is.
            is_right = verifies(password, user.password if user else self._nobody)
        except UsersError as error:
            return CannotTell(str(error))
        if user is None:
            return NotKnown("no such user")
        return self.account(user) if is_right else NotKnown("wrong password")

    def known(self, username: str) -> Judgement:
        try:
            user = self.users().get(username.lower())
        except UsersError as error:
            return CannotTell(str(error))
        return self.account(user) if user else NotKnown("no such user")

    def pinned(self, fingerprint: str) -> Judgement:
        try:
            users = self.users().values()
        except UsersError as error:
            return CannotTell(str(error))
        mine = (self.account(user) for user in users if fingerprint in user.certificates)
        return next(mine, NotKnown("nobody has this certificate"))

    def keys(self, users: Mapping[str, User], username: str) -> Keys:
        """The SCRAM keys of a user, or some that nobody has."""
        user = users.get(username.lower())
        return user.scram if user else nobody(username, self._secret)

    def account(self, user: User) -> Account:
        """The account of a user."""
        own = user.may_send_as or (own_address(user.name, self._domain),)
        return Account(user.name, own, user.may_act_as)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """What all AUTH commands share. `passwords` is asked by PLAIN and LOGIN; a UserFile also serves SCRAM."""

    clock: Clock
    attempts: Attempts
    passwords: Passwords
    tokens: Tokens = field(default_factory=NoTokens)
    pool: Executor = field(default_factory=partial(ThreadPoolExecutor, THREADS, "auth"))

    def dialogue(
        self, mechanism: str, network: str, bindings: Bindings = NO_BINDINGS, certificate: bytes = b""
    ) -> Dialogue:
        """An exchange with a client of `network`. `mechanism` is one that was offered to it.

        `certificate`: the one the client has shown and the handshake has verified (DER), b"" for none.
        """
        return Dialogue(self, mechanism, network, bindings, certificate)

    async def vouched(self, username: str) -> Judgement:
        """The account of somebody whom a trusted client has authenticated."""
        try:
            return await self.run(partial(self.passwords.known, username))
        except TimeoutError:
            return CannotTell(f"no answer within {PATIENCE.total_seconds():g} s")

    def certified(self, certificate: bytes) -> Judgement:
        """Whose certificate this is: it is pinned to an account, or names one by its address. May block."""
        found = self.passwords.pinned(sha256(certificate).hexdigest())
        for address in mail_addresses(certificate) if isinstance(found, NotKnown) else ():
            found = self.passwords.known(address)
            if not isinstance(found, NotKnown):
                break
        return found

    def close(self) -> None:
        """End the threads; a hash under way is not waited for."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[[], T]) -> T:
        """The value of a function that may block, from a thread. Raises: TimeoutError, after PATIENCE."""
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.run_in_executor(self.pool, function), PATIENCE.total_seconds())


class Dialogue:
    """One AUTH, from the command to its last reply."""

    def __init__(
        self, shared: Authenticator, mechanism: str, network: str, bindings: Bindings, certificate: bytes
    ) -> None:
        self._certificate = certificate
        self.mechanism = mechanism
        self._shared = shared
        self._network = network
        self._bindings = bindings
        self._users: Mapping[str, User] = {}

    async def begin(self, response: bytes | NoResponse) -> Verdict:
        """The verdict on AUTH itself. Never raises: who cannot judge says so."""
        judged = self._shared.attempts.judge("", self._network)
        if isinstance(judged, Blocked):
            return Refused(TOO_OFTEN, "", str(judged))
        try:
            self._exchange = await self._make()
        except (UsersError, TimeoutError) as error:
            return Refused(UNAVAILABLE, "", str(error) or "no answer in time")
        return await self._follow(self._exchange.begin(response))

    async def take(self, response: bytes) -> Verdict:
        """The verdict on a response to the last challenge."""
        return await self._follow(self._exchange.take(response))

    async def _make(self) -> Exchange:
        match self.mechanism:
            case "PLAIN":
                return Plain()
            case "LOGIN":
                return Login()
            case "EXTERNAL":
                return External()
            case name if name in (NAME, PLUS):
                return await self._make_scram(name)
            case name if name in (OAUTHBEARER, XOAUTH2):
                return Bearer(name, self._shared.tokens.discovery)
            case other:
                raise ValueError(f"{other} was never offered")

    async def _make_scram(self, name: str) -> Exchange:
        file = self._shared.passwords
        if not isinstance(file, UserFile):
            raise UsersError("SCRAM needs the users' file")  # config/ offers it with nothing else
        self._users = await self._shared.run(file.users)
        return Scram(partial(file.keys, self._users), self._bindings, plus=name == PLUS)

    async def _follow(self, step: Step) -> Verdict:
        """From a step of the exchange to what is to be said."""
        match step:
            case Challenge():
                return step
            case CheckPassword(username, _, acting_as):
                return await self._check(step, username, acting_as)
            case CheckToken(username):
                return await self._check(step, username)
            case CheckCertificate(acting_as):
                return await self._check(step, "", acting_as)
            case Proven(username, acting_as):
                return await self._proven(username, acting_as)
            case Failed(Flaw.MALFORMED, username, why):
                return Refused(MALFORMED, username, why)
            case Failed(_, username, why):
                return self._failed(username, why)
            case _:
                assert_never(step)

    async def _check(
        self, step: CheckPassword | CheckToken | CheckCertificate, username: str, acting_as: str = ""
    ) -> Verdict:
        match await self._judge(step, username):
            case Account() as account:
                return await self._accepted(account, acting_as)
            case NotKnown(why):
                match self._exchange.refused(username, why):
                    case Challenge() as last:
                        return last
                    case _:
                        return self._failed(username, why)
            case CannotTell(why):
                return Refused(UNAVAILABLE, username, why)
            case Blocked() as blocked:
                return Refused(TOO_OFTEN, username, str(blocked))
            case judgement:
                assert_never(judgement)

    async def _judge(self, step: CheckPassword | CheckToken | CheckCertificate, username: str) -> Judgement | Blocked:
        allowed = await self._wait(username)
        if isinstance(allowed, Blocked):
            return allowed
        try:
            if isinstance(step, CheckToken):
                return await self._shared.tokens.check(username, step.token)
            if isinstance(step, CheckCertificate):
                return await self._shared.run(partial(self._shared.certified, self._certificate))
            return await self._shared.run(partial(self._shared.passwords.check, username, step.password))
        except TimeoutError:
            return CannotTell(f"no answer within {PATIENCE.total_seconds():g} s")
        except Exception as error:  # noqa: BLE001 - a directory's library may raise anything; the client tries again
            return CannotTell(f"{type(error).__name__}: {error}")

    async def _wait(self, username: str) -> GoOn | Blocked:
        """The growing delay after failures, for a right password as for a wrong one."""
        allowed = self._shared.attempts.judge(username.lower(), self._network)
        if isinstance(allowed, GoOn) and allowed.delay:
            await self._shared.clock.sleep(allowed.delay)
        return allowed

    async def _proven(self, username: str, acting_as: str) -> Verdict:
        allowed = await self._wait(username)
        if isinstance(allowed, Blocked):
            return Refused(TOO_OFTEN, username, str(allowed))
        user, file = self._users.get(username.lower()), self._shared.passwords
        if user is None or not isinstance(file, UserFile):
            return self._failed(username, "no such user")
        return await self._accepted(file.account(user), acting_as)

    async def _accepted(self, account: Account, acting_as: str) -> Verdict:
        """The account that was proven, or the one it may act as (RFC 4422 §3.4.1)."""
        if acting_as and not account.may_be(acting_as):
            return self._failed(account.name, f"{self.mechanism}: may not act as {acting_as}")
        self._shared.attempts.succeeded(account.name.lower(), self._network)
        if acting_as.lower() in ("", account.name.lower()):
            return Accepted(account)
        match await self._shared.vouched(acting_as):
            case Account() as other:
                return Accepted(other, by=account.name)
            case NotKnown():
                return Refused(WRONG, account.name, f"{self.mechanism}: there is no {acting_as} to act as")
            case CannotTell(why):
                return Refused(UNAVAILABLE, account.name, why)
            case judgement:
                assert_never(judgement)

    def _failed(self, username: str, why: str) -> Refused:
        self._shared.attempts.failed(username.lower(), self._network)
        return Refused(WRONG, username, why)
