"""Who stands behind a request to the admin API, and what he may do.

Without `[admin] users` nobody is asked: whoever may open a socket on this machine is an admin. With it a request brings
a session's cookie (a browser, after a login) or a token (a program); what it may do is its role's. Against web pages in
a browser: the Host header must name us (DNS rebinding), an Origin that is sent must be ours, and a request that changes
something carries `X-Waypost: 1`, and with a cookie the session's own `X-CSRF`, which no form can send.

Sessions live in memory: a restart logs everybody out.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

from aiohttp import web

from waypost.admin.answers import FailureKind, OperationError
from waypost.auth.admins import Administrator, Role, by_token, is_password_of, load_administrators
from waypost.auth.attempts import Attempts, Blocked
from waypost.auth.users import UsersError
from waypost.net.clock import Clock

COOKIE: Final = "waypost"
#: A session that is not used ends; one that is, after the longer time.
IDLE: Final = timedelta(hours=2)
LONGEST: Final = timedelta(hours=12)
#: Sessions at once; the one least lately used goes first.
SESSIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class Open:
    """Nobody is asked: the API listens on loopback, and no administrators are named."""


@dataclass(frozen=True, slots=True)
class Users:
    """Administrators stand in this file, which is read again at each login and for each token."""

    path: Path


Access: TypeAlias = Open | Users


@dataclass(frozen=True, slots=True)
class Whoami:
    """Who asks. `csrf`: what a page sends back with what changes something."""

    name: str
    role: Role
    csrf: str = ""
    asks: bool = True  # whether anybody is asked who he is


@dataclass(slots=True)
class _Session:
    name: str
    role: Role
    csrf: str
    began: float
    used: float


@dataclass(slots=True)
class Guard:
    """Judges requests. `names`: host names, besides the address, by which we may be asked for."""

    access: Access
    clock: Clock
    names: frozenset[str] = frozenset()
    secure: bool = False  # whether we are reached over TLS
    _sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)
    _attempts: list[Attempts] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._attempts.append(Attempts(self.clock))

    # ---- each request
    async def judge(self, request: web.Request, needed: Role) -> Whoami:
        """Who asks. Raises: OperationError, where he may not."""
        self.require_our_name(request)
        self._require_our_page(request)
        who = await self._who(request)
        if not who.role.may_act_as(needed):
            raise OperationError(
                FailureKind.FORBIDDEN,
                f"{who.name} is {who.role.value}, and this is for {needed.value}s",
                "ask an administrator for it, or log in as another",
            )
        if request.method not in {"GET", "HEAD"}:
            _require_header(request, "X-Waypost", "1")
            if who.csrf:
                _require_header(request, "X-CSRF", who.csrf)
        return who

    def require_our_name(self, request: web.Request) -> None:
        """Raises: OperationError, where another's name is asked for."""
        if not self._names_us(request):
            raise OperationError(
                FailureKind.FORBIDDEN,
                f"the Host header {request.host!r} is not this service's",
                "ask for http://127.0.0.1 or http://localhost with the port of [admin] address, or for the "
                "service's own name where it serves TLS",
            )

    def _names_us(self, request: web.Request) -> bool:
        if request.transport is None:
            return False
        if request.transport.get_extra_info("socket").family == socket.AF_UNIX:
            return True  # no browser comes this way
        host, port, *_ = request.transport.get_extra_info("sockname")
        ours = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host, *self.names}
        name, _, asked_port = request.host.lower().rpartition(":")
        if not name or request.host.endswith("]"):
            name, asked_port = request.host.lower(), "443" if self.secure else "80"
        return name in ours and asked_port == str(port)

    @staticmethod
    def _require_our_page(request: web.Request) -> None:
        """A browser names the page that asks; it has to be ours."""
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        strange = origin is not None and origin.lower() not in {f"http://{request.host}", f"https://{request.host}"}
        if strange or (site not in {"none", "same-origin"} and request.path.startswith("/api/")):
            raise OperationError(
                FailureKind.FORBIDDEN, "another site's page asks for this", "open the dashboard at its own address"
            )

    async def _who(self, request: web.Request) -> Whoami:
        if isinstance(self.access, Open):
            return Whoami("local", Role.ADMIN, asks=False)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._by_token(request, token.strip(), self.access)
        session = self._session(request.cookies.get(COOKIE, ""))
        if session is None:
            raise OperationError(
                FailureKind.UNAUTHENTICATED,
                "nobody has logged in",
                "log in at the dashboard, or send a token: Authorization: Bearer …; `waypost admin token` makes one",
            )
        return Whoami(session.name, session.role, session.csrf)

    async def _by_token(self, request: web.Request, token: str, users: Users) -> Whoami:
        network = _network(request)
        self._require_patience("", network)
        found = by_token(await _administrators(users), token)
        if found is None:
            self._attempts[0].failed("", network)
            raise OperationError(
                FailureKind.UNAUTHENTICATED, "this token is nobody's", "`waypost admin token` makes a new one"
            )
        return Whoami(found.name, found.role)

    # ---- sessions
    async def log_in(self, request: web.Request, name: str, password: str) -> tuple[Whoami, str]:
        """Who that is, and his session's cookie. Raises: OperationError."""
        self.require_our_name(request)
        self._require_our_page(request)
        _require_header(request, "X-Waypost", "1")
        if isinstance(self.access, Open):
            raise OperationError(
                FailureKind.BAD_REQUEST, "nobody has to log in here", "name a file in `[admin] users` to have it asked"
            )
        name, network = name.strip().lower(), _network(request)
        self._require_patience(name, network)
        found = (await _administrators(self.access)).get(name, _NOBODY)
        if not await asyncio.to_thread(is_password_of, found, password):
            self._attempts[0].failed(name, network)
            raise OperationError(
                FailureKind.UNAUTHENTICATED, "no such name, or another password", "try again, or `waypost admin passwd`"
            )
        self._attempts[0].succeeded(name, network)
        return self._begin(found)

    def _begin(self, found: Administrator) -> tuple[Whoami, str]:
        cookie, now = secrets.token_urlsafe(32), self.clock.monotonic()
        session = _Session(found.name, found.role, secrets.token_urlsafe(32), now, now)
        self._sessions[cookie] = session
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return Whoami(session.name, session.role, session.csrf), cookie

    def log_out(self, request: web.Request) -> None:
        """End the session of this request."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def _session(self, cookie: str) -> _Session | None:
        found, now = self._sessions.get(cookie), self.clock.monotonic()
        if found is None:
            return None
        if now - found.used > IDLE.total_seconds() or now - found.began > LONGEST.total_seconds():
            del self._sessions[cookie]
            return None
        found.used = now
        self._sessions.move_to_end(cookie)
        return found

    def _require_patience(self, name: str, network: str) -> None:
        verdict = self._attempts[0].judge(name, network)
        if isinstance(verdict, Blocked):
            raise OperationError(FailureKind.FORBIDDEN, str(verdict), "wait, or come from another network")


#: Whom an unknown name is compared with: it takes as long, and is never right.
_NOBODY: Final = Administrator(
    "",
    Role.VIEWER,
    password="$argon2id$v=19$m=19456,t=2,p=1$d2F5cG9zdC1ub2JvZHk$7oT2yV5l1Xq3qvY4k0mJ0p0o7m1uW3o4x7c5s9n1b2E",  # noqa: S106
)


async def _administrators(users: Users) -> Mapping[str, Administrator]:
    try:
        return await asyncio.to_thread(load_administrators, users.path)
    except UsersError as error:
        problem, _, remedy = str(error).partition("; ")
        raise OperationError(FailureKind.UNAVAILABLE, problem, remedy or "see [admin] users") from error


def _require_header(request: web.Request, name: str, value: str) -> None:
    if not hmac.compare_digest(request.headers.get(name, "").encode(), value.encode()):
        what = f"{name}: {value}" if name == "X-Waypost" else f"{name} with the session's own value"
        raise OperationError(
            FailureKind.FORBIDDEN,
            f"a request that changes something needs the header {what}",
            f"send it with the request (curl -H '{name}: …'); it keeps web pages from acting for you",
        )


def _network(request: web.Request) -> str:
    """The network failures are counted by: an address, or of IPv6 its /64."""
    try:
        address = ip_address(request.remote or "")
    except ValueError:
        return "?"
    return str(address) if address.version == 4 else str(address.exploded)[:19]
