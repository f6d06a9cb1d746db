"""The command line's way to a desk: the running service, or where none runs the spool itself.

The service is asked over its admin API (http.py). Where nothing listens there, the spool is opened for this process
alone, so no service can start in between, and the same Operations answer. Which of the two it was, the caller is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from waypost import __version__
from waypost.admin import wire
from waypost.admin.answers import (
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    FailureKind,
    FreezeBody,
    Froze,
    InboxPage,
    OperationError,
    Preview,
    Proposal,
    QueuedDetail,
    QueuePage,
    ReloadBody,
    Reloaded,
    Resolution,
    Revisions,
    RevisionText,
    Status,
    Traces,
    WatchBody,
    WatchedPeers,
    Why,
    from_json,
    to_json,
)
from waypost.admin.desk import Desk
from waypost.admin.explanation import Explanation, Question
from waypost.admin.wire import SEGMENT, Answer, Body, Get, Octets, Operation, Post
from waypost.mail.explain import plain
from waypost.net.stream import Endpoint
from waypost.queue.storage import Search, Selection

if TYPE_CHECKING:
    from waypost.config import Config

T = TypeVar("T")
#: What fills in a segment or a query; several are given one by one.
Given: TypeAlias = "str | int | tuple[str, ...]"
#: Where the command line finds its token, should the service ask for one.
TOKEN: Final = "WAYPOST_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class _Problem:
    error: str = "the service gave no reason"
    remedy: str = "see its log"


@dataclass(frozen=True, slots=True)
class ServiceDesk:
    """The running service, asked over HTTP. `timeout` in seconds; the service answers from its own disk."""

    address: Endpoint
    timeout: float = 60
    token: str = field(default_factory=lambda: os.environ.get(TOKEN, ""), repr=False)
    scheme: str = "http"

    async def metrics(self) -> bytes:
        """Its metrics, in Prometheus' text format."""
        return await self._ask("GET", "/metrics")

    async def is_there(self) -> bool:
        """Whether anything takes connections at the address."""
        return await asyncio.to_thread(self._connects)

    async def status(self) -> Status:
        return await self._get(wire.STATUS)

    async def queue(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage:
        return await self._get(wire.QUEUE, **_selected(selection), after=after, limit=limit)

    async def quarantine(self) -> QueuePage:
        return await self._get(wire.QUARANTINE)

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        return await self._octets(wire.RAW, id=id)

    async def destinations(self, *, limit: int = 100) -> Destinations:
        return await self._get(wire.DESTINATIONS, limit=limit)

    async def expiries(self) -> Expiries:
        return await self._get(wire.EXPIRIES)

    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        return await self._get(wire.SHOW, id=id)

    async def act(self, action: str, body: ActBody) -> Acted:
        return await self._post(wire.ACT, body, action=action)

    async def why(self, asked: str, *, limit: int = 100) -> Why:
        return await self._get(wire.WHY, asked=asked, limit=limit)

    async def bin(self, selection: Selection, *, after: str = "", limit: int = 100) -> BinPage:
        return await self._get(wire.BIN, **_selected(selection), after=after, limit=limit)

    async def restore(self, body: ActBody) -> Acted:
        return await self._post(wire.RESTORE, body)

    async def frozen(self) -> Froze:
        return await self._get(wire.FROZEN)

    async def freeze(self, body: FreezeBody) -> Froze:
        return await self._post(wire.FREEZE, body)

    async def thaw(self, body: FreezeBody) -> Froze:
        return await self._post(wire.THAW, body)

    async def trace(self, asked: str, *, limit: int = 10) -> Traces:
        return await self._get(wire.TRACE, asked=asked, limit=limit)

    async def search(self, search: Search, *, before: str = "", limit: int = 10) -> Traces:
        return await self._get(wire.SEARCH, **_fields(search), before=before, limit=limit)

    async def resolve(self, domain: str) -> Resolution:
        return await self._get(wire.RESOLVE, domain=domain)

    async def explain(self, question: Question) -> Explanation:
        return await self._post(wire.EXPLAIN, question)

    async def inbox(self, *, before: int = 0, limit: int = 50) -> InboxPage:
        return await self._get(wire.INBOX, before=before, limit=limit)

    async def captured(self, number: int) -> CapturedDetail:
        return await self._get(wire.CAPTURED, number=number)

    async def captured_octets(self, number: int) -> bytes:
        return await self._octets(wire.CAPTURED_RAW, number=number)

    async def reload(self, *, by: str) -> Reloaded:
        return await self._post(wire.RELOAD, ReloadBody(by))

    async def preview(self, proposal: Proposal) -> Preview:
        return await self._post(wire.PREVIEW, proposal)

    async def revisions(self) -> Revisions:
        return await self._get(wire.REVISIONS)

    async def revision(self, id: str) -> RevisionText:  # noqa: A002 - the field's own name
        return await self._get(wire.REVISION, id=id)

    async def watched(self) -> WatchedPeers:
        return await self._get(wire.WATCHED)

    async def watch(self, body: WatchBody) -> WatchedPeers:
        return await self._post(wire.WATCH, body)

    async def clear_inbox(self, *, keep: int) -> Cleared:
        return await self._post(wire.CLEAR, Cleared(keep))

    async def _get(self, operation: Get[Answer], **given: Given) -> Answer:
        return _understood(await self._ask("GET", _path(operation, given)), operation.answer)

    async def _post(self, operation: Post[Body, Answer], body: Body, **given: Given) -> Answer:
        return _understood(await self._ask("POST", _path(operation, given), to_json(body)), operation.answer)

    async def _octets(self, operation: Octets, **given: Given) -> bytes:
        return await self._ask("GET", _path(operation, given))

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            status, octets = await asyncio.to_thread(self._exchange, method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise OperationError(
                FailureKind.UNAVAILABLE,
                f"the service at {self.address} did not answer: {plain(str(error)).strip() or type(error).__name__}",
                "is it Waypost that listens there? compare [admin] address in the configuration",
            ) from error
        if status < 400:
            return octets
        raise _refused(status, octets)

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection = self._connection(self.timeout)
        try:
            connection.request(method, path, body or None, self._headers())
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.scheme == "http":
            return _connection(self.address, timeout)
        context = ssl.create_default_context()
        if ip_address(self.address.host).is_loopback:  # this very machine: the token need not be kept from itself
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(self.address.host, self.address.port, timeout=timeout, context=context)

    def _headers(self) -> dict[str, str]:
        return {"X-Waypost": "1", **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def _connects(self) -> bool:
        try:
            with contextlib.closing(self._connection(5)) as connection:
                connection.connect()
                return True
        except OSError:
            return False


def _path(operation: Operation, given: Mapping[str, Given]) -> str:
    """The operation's path, its segments filled in; what is given besides is its query, but for what says nothing."""
    place = SEGMENT.sub(lambda segment: _segment(str(given[segment[1]])), operation.path)
    segments = {name for name, _ in SEGMENT.findall(operation.path)}
    query = {name: value for name, value in given.items() if name not in segments and value not in {"", ()}}
    return f"{place}?{urlencode(query, doseq=True)}" if query else place


def _fields(asked: Search | Selection) -> dict[str, Given]:
    """Each as a query has it: instants in whole seconds, those that narrow nothing left out."""
    values = ((one.name, getattr(asked, one.name)) for one in fields(asked))
    return {name: str(int(value)) if isinstance(value, float) else value for name, value in values if value}


def _selected(selection: Selection) -> dict[str, Given]:
    """Its ids are told one by one."""
    asked = _fields(selection)
    return {"id": asked.pop("ids", ()), **asked}


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket, as the workers of one service speak it."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: Endpoint, timeout: float) -> http.client.HTTPConnection:
    if address.host.startswith("/"):
        return _Local(address.host, timeout)
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout)


def _segment(text: str) -> str:
    """`text` as one segment of a path. Raises: OperationError, where there is none."""
    if not text:
        raise OperationError(FailureKind.BAD_REQUEST, "nothing is named", "give a message's id, an address or a domain")
    return quote(text, safe="@")


def _refused(status: int, octets: bytes) -> OperationError:
    kinds = {
        400: FailureKind.BAD_REQUEST,
        401: FailureKind.UNAUTHENTICATED,
        403: FailureKind.FORBIDDEN,
        404: FailureKind.NOT_FOUND,
        409: FailureKind.REFUSED,
    }
    try:
        problem = from_json(octets, _Problem)
    except ValueError:
        problem = _Problem(f"HTTP status {status}, in no form of ours", "is it Waypost that listens there?")
    return OperationError(kinds.get(status, FailureKind.UNAVAILABLE), problem.error, problem.remedy)


def _understood(octets: bytes, kind: type[T]) -> T:
    try:
        return from_json(octets, kind)
    except ValueError as error:
        raise OperationError(
            FailureKind.UNAVAILABLE,
            f"the answer is no {kind.__name__}: {error}",
            f"the service may be of another version than this command ({__version__})",
        ) from error


# ---- whom to ask
DEFAULT_ADMIN: Final = Endpoint("127.0.0.1", 8025)


@dataclass(frozen=True, slots=True)
class NoConfig:
    """No configuration was named or found: what needs no queue can be answered by the defaults."""


@dataclass(frozen=True, slots=True)
class OnlyService:
    """A running service was named: nobody else is to answer in its name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the service would answer, and what is known of it: its configuration is read where no service answers."""

    address: Endpoint
    config: Callable[[], Config] | NoConfig | OnlyService
    tls: bool = False


@asynccontextmanager
async def desk(asked: Asked, *, spool: bool) -> AsyncIterator[tuple[Desk, str]]:
    """Somebody to ask, and in a sentence who it is. `spool`: whether the question needs the queue.

    Raises: OperationError, where no service runs and the spool cannot be opened in its stead.
    """
    service = ServiceDesk(asked.address, scheme="https" if asked.tls else "http")
    if await service.is_there():
        yield service, f"the service at {asked.address} answers"
        return
    if isinstance(asked.config, OnlyService) or (spool and isinstance(asked.config, NoConfig)):
        raise OperationError(
            FailureKind.UNAVAILABLE,
            f"no service is running at {asked.address}",
            "start it with waypost serve, or name its configuration with --config to read its spool without it",
        )
    from waypost.admin.offline import DEFAULTS, offline  # noqa: PLC0415 - the whole engine; a service asked needs none

    if isinstance(asked.config, NoConfig):
        config, who = DEFAULTS, "nor is there a configuration: the defaults answer, and send all mail by MX records"
    else:
        config = asked.config()
        who = f"{f'the spool at {config.queue_at}' if spool else config.where} answers"
    async with offline(config, spool=spool) as found:
        yield found, f"no service is running at {asked.address}; {who}"
