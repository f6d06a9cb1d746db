"""The admin's HTTP face: the API (api.py), the probes, the metrics, and the dashboard's files (web/).

Every request passes the guard (guard.py); errors are JSON: `{"error": …, "remedy": …}`. Every answer has the headers
that shut a browser's doors: nothing but our own scripts and styles, no frames but our own, nothing kept.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib.resources import files
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import quote

import structlog
from aiohttp import web

from waypost.admin.answers import Alive, FailureKind, OperationError, Ready, to_json
from waypost.admin.api import BODY, Api, Raw, log_in, log_out
from waypost.admin.board import Board
from waypost.admin.desk import Desk
from waypost.admin.guard import Guard, Open
from waypost.admin.openapi import document
from waypost.admin.operations import Readiness
from waypost.admin.paths import Path, paths
from waypost.admin.request import Request
from waypost.auth.admins import Role
from waypost.net.stream import Endpoint
from waypost.net.web import SILENCE, body_of, runner_of

Metrics: TypeAlias = Callable[[], Awaitable[bytes]]
"""The metrics in Prometheus' text format."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATUS: Final = {
    FailureKind.BAD_REQUEST: 400,
    FailureKind.UNAUTHENTICATED: 401,
    FailureKind.FORBIDDEN: 403,
    FailureKind.NOT_FOUND: 404,
    FailureKind.REFUSED: 409,
    FailureKind.UNAVAILABLE: 503,
}
#: What a file of the dashboard is, by the end of its name. Others are not served.
_KINDS: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
#: Requests under way, once it is to stop.
ENDING: Final = timedelta(seconds=1)
_LOG: Final = structlog.get_logger("waypost.admin")


@dataclass(frozen=True, slots=True)
class Plain:
    """Without TLS: on loopback only."""


class AdminServer:
    """Serves a desk on one address. `async with` starts and stops it."""

    def __init__(
        self,
        desk: Desk,
        address: Endpoint,
        *,
        metrics: Metrics,
        not_ready: Readiness,
        guard: Guard,
        board: Board | None = None,
        tls: ssl.SSLContext | Plain | None = None,
        silence: timedelta = SILENCE,
    ) -> None:
        """`address` may be a Unix socket's; `silence`: how long a client may say nothing.

        Raises: ValueError, where it is not loopback, and there is no TLS or nobody is asked who he is.
        """
        self._tls = tls if isinstance(tls, ssl.SSLContext) else None
        is_near = _is_local(address) or ip_address(address.host).is_loopback
        if not is_near and (isinstance(guard.access, Open) or self._tls is None):
            raise ValueError(
                f"[admin] address {address} is not loopback, and the API would be open to whoever reaches it: give it "
                "users and tls, or use 127.0.0.1 or [::1], and a tunnel from elsewhere"
            )
        self._address = address
        served = application(desk, metrics=metrics, not_ready=not_ready, guard=guard, board=board or Board())
        self._runner = runner_of(served, silence=silence, ending=ENDING)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, once started."""
        if not _is_local(self._address):
            for host, port, *_ in self._runner.addresses:
                return Endpoint(host, port)
        return self._address

    async def start(self) -> Self:
        """Listen. Raises: OSError, with a sentence, where the address cannot be had."""
        await self._runner.setup()
        try:
            await self._site().start()
        except OSError as error:
            await self._runner.cleanup()
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(f"[admin] address {self._address}: {why}; is a Waypost running there already?") from error
        return self

    def _site(self) -> web.BaseSite:
        if _is_local(self._address):
            return web.UnixSite(self._runner, self._address.host)
        return web.TCPSite(self._runner, self._address.host, self._address.port, ssl_context=self._tls)

    async def stop(self) -> None:
        """Stop listening; requests under way get a second."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _is_local(address: Endpoint) -> bool:
    """Whether it is a Unix socket, whose directory says who may come."""
    return address.host.startswith("/")


def application(desk: Desk, *, metrics: Metrics, not_ready: Readiness, guard: Guard, board: Board) -> web.Application:
    """The routes over a desk."""
    table = paths(Api(desk, board))
    probes, pages, doors = _Probes(metrics, not_ready, guard, document(table)), _Pages(guard), _Doors(guard)
    served = web.Application(middlewares=[_answering], client_max_size=BODY)
    served.add_routes([web.route(path.method, path.operation.path, _served(path, guard)) for path in table])
    served.add_routes(
        [
            web.post("/api/login", doors.log_in),
            web.post("/api/logout", doors.log_out),
            web.get("/openapi.json", probes.openapi),
            web.get("/metrics", probes.metrics),
            web.get("/healthz", probes.alive),
            web.get("/readyz", probes.ready),
            web.get("/", pages.index),
            web.get("/web/{name:.+}", pages.file),
            web.get("/inbox/{number}", pages.captured),
            web.get("/trace/{asked}", pages.life),
        ]
    )
    return served


def _served(path: Path, guard: Guard) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        who = await guard.judge(request, path.role)
        answer = await path.handler(Request(request, who, path.query))
        match answer:
            case web.StreamResponse():
                return answer
            case Raw(content_type, octets, headers):
                return web.Response(body=octets, headers=dict(headers) | {"Content-Type": content_type})
            case _:
                return _json(answer)

    return handle


# ---- around every request
@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Failures as JSON, and on every answer the headers that shut a browser's doors."""
    try:
        await body_of(request)  # read once: handlers find it there
        response = await handler(request)
    except OperationError as failure:
        response = _failed(_STATUS[failure.kind], failure.error, failure.remedy)
    except web.HTTPException as refusal:
        response = _refused(request, refusal)
    except Exception:  # noqa: BLE001 - one bad request harms one request
        _LOG.exception("admin request failed", method=request.method, path=request.path)
        response = _failed(500, "the request met a defect of this service", "see its log, and report what stands there")
    if not response.prepared:
        response.headers.update({name: value for name, value in HEADERS.items() if name not in response.headers})
    return response


def _refused(request: web.Request, refusal: web.HTTPException) -> web.Response:
    match refusal:
        case web.HTTPRedirection():
            return web.Response(status=refusal.status, headers={"Location": refusal.headers["Location"]})
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refusal.allowed_methods))
            response = _failed(405, f"{request.method} is not for {request.path}", f"use {allowed}")
            response.headers["Allow"] = allowed
            return response
        case web.HTTPNotFound():
            return _failed(404, f"there is nothing at {request.path}", "docs/reference/api.md lists all paths")
        case web.HTTPRequestEntityTooLarge():
            return _failed(413, f"the request's body is larger than {BODY} octets", "name fewer ids at a time")
        case _:
            return _failed(refusal.status, refusal.reason, "see docs/reference/api.md")


def _failed(status: int, error: str, remedy: str) -> web.Response:
    return _json({"error": error, "remedy": remedy}, status)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=to_json(value), status=status, content_type="application/json")


# ---- beside the API
@dataclass(frozen=True, slots=True)
class _Doors:
    guard: Guard

    async def log_in(self, request: web.Request) -> web.Response:
        return await log_in(request, self.guard)

    async def log_out(self, request: web.Request) -> web.Response:
        await self.guard.judge(request, Role.VIEWER)
        return await log_out(request, self.guard)


@dataclass(frozen=True, slots=True)
class _Probes:
    """What machines ask. Who watches a service has no name: liveness and readiness are anybody's."""

    collect: Metrics
    not_ready: Readiness
    guard: Guard
    described: Mapping[str, object]

    async def metrics(self, request: web.Request) -> web.Response:
        await self.guard.judge(request, Role.VIEWER)
        return web.Response(
            body=await self.collect(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def openapi(self, request: web.Request) -> web.Response:
        self.guard.require_our_name(request)
        return _json(self.described)

    async def alive(self, request: web.Request) -> web.Response:
        self.guard.require_our_name(request)
        return _json(Alive(alive=True))

    async def ready(self, request: web.Request) -> web.Response:
        self.guard.require_our_name(request)
        reasons = tuple(await self.not_ready())
        return _json(Ready(not reasons, reasons), 503 if reasons else 200)


@dataclass(frozen=True, slots=True)
class _Pages:
    """The dashboard's files, which hold nothing that is secret: what they show, they ask of the API."""

    guard: Guard

    async def index(self, request: web.Request) -> web.Response:
        return self._file(request, "index.html")

    async def file(self, request: web.Request) -> web.Response:
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.Response:
        self.guard.require_our_name(request)
        kind = _KINDS.get(os.path.splitext(name)[1], "")  # noqa: PTH122 - a name, not a path
        octets = _web().get(name)
        if octets is None or not kind:
            raise web.HTTPNotFound
        return web.Response(body=octets, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"})

    async def captured(self, request: web.Request) -> web.Response:
        """An address that older messages and other programs know."""
        raise _moved(f"/#/inbox/{quote(request.match_info['number'])}")

    async def life(self, request: web.Request) -> web.Response:
        """The same."""
        raise _moved(f"/#/trace/{quote(request.match_info['asked'])}")


def _moved(place: str) -> web.HTTPException:
    return web.HTTPFound(place)


@lru_cache(maxsize=1)
def _web() -> Mapping[str, bytes]:
    """The dashboard's files by name: some hundred KiB."""
    place = files("waypost.admin") / "web"
    return {found.name: found.read_bytes() for found in place.iterdir() if found.is_file()}
