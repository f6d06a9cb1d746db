"""The admin's HTTP face: a JSON API, the probes, the metrics, and a small page for reading (page.py).

It listens on loopback only and knows no users: whoever may open a socket on this machine may ask. Against web pages in
a browser on the same machine there are three locks: the Host header must name us (DNS rebinding), a request that
changes something must be a POST with `X-Waypost: 1` (a form cannot send it; CSRF), and no answer allows another origin.
Errors are JSON: `{"error": …, "remedy": …}`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self, TypeAlias, TypedDict, TypeVar

import structlog
from aiohttp import web

from waypost.admin import page
from waypost.admin.answers import (
    ACTIONS,
    ActBody,
    Desk,
    FailureKind,
    FreezeBody,
    OperationError,
    Proposal,
    ReloadBody,
    from_json,
    to_json,
)
from waypost.admin.explanation import Question
from waypost.admin.operations import Readiness
from waypost.mail.envelope import MessageId
from waypost.net.stream import Endpoint
from waypost.queue.storage import Selection

Metrics: TypeAlias = Callable[[], Awaitable[bytes]]
"""The metrics in Prometheus' text format."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T")

#: A POST's body is a selection: some ids. 256 KiB hold more ids than a person or a script names in one go.
BODY: Final = 256 * 1024
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STATUS: Final = {
    FailureKind.BAD_REQUEST: 400,
    FailureKind.FORBIDDEN: 403,
    FailureKind.NOT_FOUND: 404,
    FailureKind.REFUSED: 409,
    FailureKind.UNAVAILABLE: 503,
}
_LOG: Final = structlog.get_logger("waypost.admin")


class AdminServer:
    """Serves a desk on one loopback address. `async with` starts and stops it."""

    def __init__(self, desk: Desk, address: Endpoint, *, metrics: Metrics, not_ready: Readiness) -> None:
        """`address` may be a Unix socket's. Raises: ValueError, where it is not loopback."""
        if not _is_local(address) and not ip_address(address.host).is_loopback:
            raise ValueError(
                f"[admin] address {address} is not loopback, and the API has no users or passwords: "
                "use 127.0.0.1 or [::1], and a tunnel from elsewhere"
            )
        self._address = address
        self._runner = web.AppRunner(application(desk, metrics=metrics, not_ready=not_ready), access_log=None)

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
        return web.TCPSite(self._runner, self._address.host, self._address.port)

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


def application(desk: Desk, *, metrics: Metrics, not_ready: Readiness) -> web.Application:
    """The routes over a desk."""
    api, probes, pages = _Api(desk), _Probes(metrics, not_ready), page.Pages(desk)
    served = web.Application(middlewares=[_answering, _guarded], client_max_size=BODY)
    served.add_routes(
        [
            web.get("/api/status", api.status),
            web.get("/api/queue", api.queue),
            web.get("/api/queue/{id}", api.show),
            web.post(f"/api/queue/{{action:{'|'.join(ACTIONS)}}}", api.act),
            web.post(f"/api/queue/{{id}}/{{action:{'|'.join(ACTIONS)}}}", api.act_on_one),
            web.get("/api/why/{asked}", api.why),
            web.get("/api/bin", api.bin),
            web.post("/api/bin/restore", api.restore),
            web.get("/api/queue/{id}/raw", api.raw),
            web.get("/api/quarantine", api.quarantine),
            web.get("/api/destinations", api.destinations),
            web.get("/api/frozen", api.frozen),
            web.post("/api/frozen/freeze", api.freeze),
            web.post("/api/frozen/thaw", api.thaw),
            web.get("/api/trace/{asked}", api.trace),
            web.get("/api/resolve/{domain}", api.resolve),
            web.post("/api/explain", api.explain),
            web.get("/api/config", api.revisions),
            web.get("/api/config/{id}", api.revision),
            web.post("/api/config/reload", api.reload),
            web.post("/api/config/preview", api.preview),
            web.get("/api/inbox", api.inbox),
            web.get("/api/inbox/{number}", api.captured),
            web.get("/api/inbox/{number}/raw", api.captured_raw),
            web.get("/metrics", probes.metrics),
            web.get("/healthz", probes.alive),
            web.get("/readyz", probes.ready),
            web.get("/", pages.overview),
            web.get("/inbox/{number}", pages.captured),
            web.get("/trace/{asked}", pages.life),
            web.get("/style.css", pages.style),
        ]
    )
    return served


# ---- around every request
@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Failures as JSON, and on every answer the headers that shut a browser's doors."""
    try:
        response = await handler(request)
    except OperationError as failure:
        response = _failed(_STATUS[failure.kind], failure.error, failure.remedy)
    except web.HTTPException as refusal:
        response = _refused(request, refusal)
    except Exception:  # noqa: BLE001 - one bad request harms one request
        _LOG.exception("admin request failed", method=request.method, path=request.path)
        response = _failed(500, "the request met a defect of this service", "see its log, and report what stands there")
    response.headers.update(HEADERS)
    return response


def _refused(request: web.Request, refusal: web.HTTPException) -> web.Response:
    match refusal:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refusal.allowed_methods))
            return _failed(405, f"{request.method} is not for {request.path}", f"use {allowed}")
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


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The locks: Host names us, and what changes something carries our header."""
    if not _names_us(request):
        raise OperationError(
            FailureKind.FORBIDDEN,
            f"the Host header {request.host!r} is not this service's",
            "ask for http://127.0.0.1 or http://localhost with the port of [admin] address",
        )
    if request.method not in {"GET", "HEAD"} and request.headers.get("X-Waypost") != "1":
        raise OperationError(
            FailureKind.FORBIDDEN,
            "a request that changes something needs the header X-Waypost: 1",
            "send it with the request (curl -H 'X-Waypost: 1' …); it keeps web pages from acting for you",
        )
    return await handler(request)


def _names_us(request: web.Request) -> bool:
    if request.transport is None:
        return False
    if request.transport.get_extra_info("socket").family == socket.AF_UNIX:
        return True  # no browser comes this way
    host, port, *_ = request.transport.get_extra_info("sockname")
    names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    asked, _, asked_port = request.host.lower().rpartition(":") if not request.host.endswith("]") else ("", "", "")
    return asked in names and asked_port == str(port)


# ---- the questions
@dataclass(frozen=True, slots=True)
class _Api:
    desk: Desk

    async def status(self, _request: web.Request) -> web.Response:
        return _json(await self.desk.status())

    async def queue(self, request: web.Request) -> web.Response:
        return _json(await self.desk.queue(_selection(request), **_page(request)))

    async def raw(self, request: web.Request) -> web.Response:
        octets = await self.desk.octets(request.match_info["id"])
        return web.Response(body=octets, content_type="text/plain", charset="utf-8")  # as in `captured_raw`

    async def quarantine(self, _request: web.Request) -> web.Response:
        return _json(await self.desk.quarantine())

    async def destinations(self, request: web.Request) -> web.Response:
        return _json(await self.desk.destinations(limit=_number(request.query.get("limit", "100"), "limit")))

    async def show(self, request: web.Request) -> web.Response:
        return _json(await self.desk.show(request.match_info["id"]))

    async def act(self, request: web.Request) -> web.Response:
        return await self._act(request.match_info["action"], await _body(request))

    async def act_on_one(self, request: web.Request) -> web.Response:
        body = await _body(request)
        return await self._act(request.match_info["action"], replace(body, ids=(MessageId(request.match_info["id"]),)))

    async def _act(self, action: str, body: ActBody) -> web.Response:
        acted = await self.desk.act(action, body)
        if not acted.dry_run:
            _acted(action, body.by, body.reason, recipients=acted.recipients)
        return _json(acted)

    async def why(self, request: web.Request) -> web.Response:
        limit = _number(request.query.get("limit", "100"), "limit")
        return _json(await self.desk.why(request.match_info["asked"], limit=limit))

    async def bin(self, request: web.Request) -> web.Response:
        return _json(await self.desk.bin(_selection(request), **_page(request)))

    async def restore(self, request: web.Request) -> web.Response:
        body = await _body(request)
        acted = await self.desk.restore(body)
        _acted("restore", body.by, body.reason, recipients=acted.recipients)
        return _json(acted)

    async def frozen(self, _request: web.Request) -> web.Response:
        return _json(await self.desk.frozen())

    async def freeze(self, request: web.Request) -> web.Response:
        body = _read(await request.read(), FreezeBody)
        froze = await self.desk.freeze(body)
        _acted("freeze", body.by, body.reason, place=body.place)
        return _json(froze)

    async def thaw(self, request: web.Request) -> web.Response:
        body = _read(await request.read(), FreezeBody)
        froze = await self.desk.thaw(body)
        _acted("thaw", body.by, body.reason, place=body.place)
        return _json(froze)

    async def trace(self, request: web.Request) -> web.Response:
        limit = _number(request.query.get("limit", "10"), "limit")
        return _json(await self.desk.trace(request.match_info["asked"], limit=limit))

    async def explain(self, request: web.Request) -> web.Response:
        return _json(await self.desk.explain(_read(await request.read(), Question)))

    async def resolve(self, request: web.Request) -> web.Response:
        return _json(await self.desk.resolve(request.match_info["domain"]))

    async def revisions(self, _request: web.Request) -> web.Response:
        return _json(await self.desk.revisions())

    async def revision(self, request: web.Request) -> web.Response:
        return _json(await self.desk.revision(request.match_info["id"]))

    async def reload(self, request: web.Request) -> web.Response:
        octets = await request.read()
        body = _read(octets, ReloadBody) if octets else ReloadBody()
        return _json(await self.desk.reload(by=body.by))

    async def preview(self, request: web.Request) -> web.Response:
        return _json(await self.desk.preview(_read(await request.read(), Proposal)))

    async def inbox(self, request: web.Request) -> web.Response:
        before = _number(request.query.get("before", "0"), "before")
        return _json(await self.desk.inbox(before=before, limit=_number(request.query.get("limit", "50"), "limit")))

    async def captured(self, request: web.Request) -> web.Response:
        return _json(await self.desk.captured(_number(request.match_info["number"], "the number")))

    async def captured_raw(self, request: web.Request) -> web.Response:
        octets = await self.desk.captured_octets(_number(request.match_info["number"], "the number"))
        # Never message/rfc822 or text/html: a browser shall show octets, not act on them.
        return web.Response(body=octets, content_type="text/plain", charset="utf-8")


@dataclass(frozen=True, slots=True)
class _Probes:
    collect: Metrics
    not_ready: Readiness

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await self.collect(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def alive(self, _request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def ready(self, _request: web.Request) -> web.Response:
        reasons = tuple(await self.not_ready())
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


class _Page(TypedDict):
    after: str
    limit: int


def _page(request: web.Request) -> _Page:
    return {"after": request.query.get("after", ""), "limit": _number(request.query.get("limit", "100"), "limit")}


def _selection(request: web.Request) -> Selection:
    query = request.query
    return Selection(
        ids=tuple(MessageId(each) for each in query.getall("id", [])),
        address=query.get("address", ""),
        domain=query.get("domain", ""),
        next_hop=query.get("next_hop", ""),
        state=query.get("state", ""),
        text=query.get("text", ""),
        received_before=float(_number(query.get("received_before", "0"), "received_before")),
    )


def _acted(action: str, by: str, reason: str, **what: object) -> None:
    _LOG.info("operator acted", action=action, by=by, **({"reason": reason} if reason else {}), **what)


async def _body(request: web.Request) -> ActBody:
    octets = await request.read()
    if not octets:
        return ActBody()
    return _read(octets, ActBody)


def _read(octets: bytes, kind: type[T]) -> T:
    try:
        return from_json(octets, kind)
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"the request's body is not as expected: {error}",
            "send the fields that docs/reference/api.md names",
        ) from None


def _number(text: str, name: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise OperationError(FailureKind.BAD_REQUEST, f"{name} is {text!r}", "give a whole number, 0 or more")
