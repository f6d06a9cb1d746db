"""The API's handlers: each turns a request into a question to the desk and gives the answer's value back.

Which path leads to which, and who may ask, is paths.py's table; wording, status codes and locks are http.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import structlog
from aiohttp import web

from waypost.admin.answers import (
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Desk,
    Destinations,
    Expiries,
    FailureKind,
    FreezeBody,
    Froze,
    InboxPage,
    Login,
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
from waypost.admin.board import Board, ConfigText, hide_secrets, soonest_first
from waypost.admin.explanation import Explanation, Question
from waypost.admin.flow import Flow, Sample
from waypost.admin.guard import COOKIE, Guard, Whoami
from waypost.admin.reading import attachment, html_page
from waypost.auth.admins import Role
from waypost.mail.envelope import MessageId
from waypost.queue.storage import CapturedMessage, Search, Selection

T = TypeVar("T")
_LOG: Final = structlog.get_logger("waypost.admin")

#: A POST's body is a selection: some ids. 256 KiB hold more ids than a person or a script names in one go.
BODY: Final = 256 * 1024
#: Streams of live data at once, and between two events of one.
STREAMS: Final = 50
BEAT: Final = timedelta(seconds=2)
#: The longest that one waits for a message, how often it is looked for, and how many of the newest are looked at.
WAIT: Final = timedelta(seconds=60)
LOOK: Final = timedelta(milliseconds=100)
NEWEST: Final = 50
#: What a browser may do with a message's HTML, in a frame of its own: show text, its own styles and inline pictures.
HTML_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox"
)


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of a path's query. `kind`: string or integer."""

    name: str
    about: str
    kind: str = "string"
    default: str = ""
    repeats: bool = False
    least: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Live:
    """What a stream tells every two seconds, each as an event's data."""

    sample: Sample
    status: Status
    destinations: Destinations


@dataclass(frozen=True, slots=True)
class Raw:
    """Octets, as `content_type`; `headers` besides."""

    content_type: str
    octets: bytes
    headers: tuple[tuple[str, str], ...] = ()


Answer: TypeAlias = "Awaitable[object]"
Handler: TypeAlias = Callable[[web.Request, Whoami], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Path:
    """One method of one path. `answer`: a type that is written as JSON, or the content type of what is not."""

    method: str
    path: str
    about: str
    handler: Handler
    answer: Any
    role: Role = Role.VIEWER
    body: Any = None
    query: tuple[Query, ...] = ()
    tag: str = "service"


LIMIT: Final = Query("limit", "At most so many, up to 1000.", "integer", "100", least=1, most=1000)
AFTER: Final = Query("after", "`next` of the page before.")
SELECTION: Final = (
    Query("id", "This message; may be repeated.", repeats=True),
    Query("address", "From or to this address."),
    Query("domain", "To this domain."),
    Query("next_hop", "Waiting for this next hop."),
    Query("state", "`due`, `waiting`, `in delivery` or `held`."),
    Query("text", "Part of the last outcome, or of why it is held."),
    Query("received_before", "Seconds since 1970.", "integer", "0"),
)


#: What of a search is text.
SEARCHED: Final = ("address", "domain", "message_id", "next_hop", "outcome", "text")


@dataclass(slots=True)
class Api:
    """The handlers, over a desk."""

    desk: Desk
    board: Board
    guard: Guard
    streams: int = 0

    # ---- the service
    async def status(self, _request: web.Request, _who: Whoami) -> Status:
        return await self.desk.status()

    async def flow(self, request: web.Request, _who: Whoami) -> Flow:
        minutes = number(request.query.get("minutes", "60"), "minutes", most=1440)
        return self.board.flow.since(timedelta(minutes=minutes))

    async def events(self, request: web.Request, _who: Whoami) -> web.StreamResponse:
        """Live data, as server-sent events, until the client goes."""
        if self.streams >= STREAMS:
            raise OperationError(
                FailureKind.UNAVAILABLE, f"{STREAMS} look on already", "close a dashboard, or ask /api/status"
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self.streams += 1
        try:
            await response.prepare(request)
            async for event in self._live():
                await response.write(event)
        except ConnectionError:
            pass  # the client has gone: that is how a stream ends
        finally:
            self.streams -= 1
        return response

    async def _live(self) -> AsyncIterator[bytes]:
        while True:
            with suppress(OperationError):  # a store in trouble: the next event may have it again
                live = Live(
                    await self.board.flow.now(), await self.desk.status(), await self.desk.destinations(limit=50)
                )
                yield b"event: live\ndata: " + to_json(live) + b"\n\n"
            await self.board.clock.sleep(BEAT)

    async def expiries(self, _request: web.Request, _who: Whoami) -> Expiries:
        return soonest_first((*(await self.desk.expiries()).items, *self.board.expiring()))

    async def config(self, _request: web.Request, _who: Whoami) -> ConfigText:
        """What is in force: since the last reload, where there was one."""
        kept = (await self.desk.revisions()).revisions
        if not kept:
            return self.board.config
        return ConfigText(kept[0].where, hide_secrets((await self.desk.revision(kept[0].id)).text))

    async def revisions(self, _request: web.Request, _who: Whoami) -> Revisions:
        return await self.desk.revisions()

    async def revision(self, request: web.Request, _who: Whoami) -> RevisionText:
        return await self.desk.revision(request.match_info["id"])

    async def reload(self, request: web.Request, who: Whoami) -> Reloaded:
        octets = await request.read()
        body = read(octets, ReloadBody) if octets else ReloadBody()
        return await self.desk.reload(by=_by(body.by, who))

    async def preview(self, request: web.Request, _who: Whoami) -> Preview:
        return await self.desk.preview(read(await request.read(), Proposal))

    # ---- who asks
    async def session(self, _request: web.Request, who: Whoami) -> Whoami:
        return who

    # ---- the queue
    async def queue(self, request: web.Request, _who: Whoami) -> QueuePage:
        return await self.desk.queue(_selection(request), after=request.query.get("after", ""), limit=_limit(request))

    async def show(self, request: web.Request, _who: Whoami) -> QueuedDetail:
        return await self.desk.show(request.match_info["id"])

    async def raw(self, request: web.Request, _who: Whoami) -> Raw:
        return Raw("text/plain; charset=utf-8", await self.desk.octets(request.match_info["id"]))  # as `captured_raw`

    async def quarantine(self, _request: web.Request, _who: Whoami) -> QueuePage:
        return await self.desk.quarantine()

    async def act(self, request: web.Request, who: Whoami) -> Acted:
        return await self._act(request.match_info["action"], await _act_body(request), who)

    async def act_on_one(self, request: web.Request, who: Whoami) -> Acted:
        body = replace(await _act_body(request), ids=(MessageId(request.match_info["id"]),))
        return await self._act(request.match_info["action"], body, who)

    async def _act(self, action: str, asked: ActBody, who: Whoami) -> Acted:
        body = replace(asked, by=_by(asked.by, who))
        acted = await self.desk.act(action, body)
        if not acted.dry_run:
            _acted(action, body.by, body.reason, recipients=acted.recipients)
        return acted

    async def why(self, request: web.Request, _who: Whoami) -> Why:
        return await self.desk.why(request.match_info["asked"], limit=_limit(request))

    async def bin(self, request: web.Request, _who: Whoami) -> BinPage:
        return await self.desk.bin(_selection(request), after=request.query.get("after", ""), limit=_limit(request))

    async def restore(self, request: web.Request, who: Whoami) -> Acted:
        asked = await _act_body(request)
        body = replace(asked, by=_by(asked.by, who))
        acted = await self.desk.restore(body)
        _acted("restore", body.by, body.reason, recipients=acted.recipients)
        return acted

    # ---- destinations
    async def destinations(self, request: web.Request, _who: Whoami) -> Destinations:
        return await self.desk.destinations(limit=_limit(request))

    async def frozen(self, _request: web.Request, _who: Whoami) -> Froze:
        return await self.desk.frozen()

    async def freeze(self, request: web.Request, who: Whoami) -> Froze:
        body = await _freeze_body(request, who)
        froze = await self.desk.freeze(body)
        _acted("freeze", body.by, body.reason, place=body.place)
        return froze

    async def thaw(self, request: web.Request, who: Whoami) -> Froze:
        body = await _freeze_body(request, who)
        froze = await self.desk.thaw(body)
        _acted("thaw", body.by, body.reason, place=body.place)
        return froze

    async def watched(self, _request: web.Request, _who: Whoami) -> WatchedPeers:
        return await self.desk.watched()

    async def watch(self, request: web.Request, who: Whoami) -> WatchedPeers:
        asked = read(await request.read(), WatchBody)
        body = replace(asked, by=_by(asked.by, who))
        watched = await self.desk.watch(body)
        _acted("watch" if body.on else "watch no more", body.by, "", peer=body.peer, minutes=body.minutes)
        return watched

    # ---- what happened, and what would
    async def trace(self, request: web.Request, _who: Whoami) -> Traces:
        limit = number(request.query.get("limit", "10"), "limit", least=1, most=1000)
        return await self.desk.trace(request.match_info["asked"], limit=limit)

    async def search(self, request: web.Request, _who: Whoami) -> Traces:
        query = request.query
        wanted = Search(
            **{name: query.get(name, "") for name in SEARCHED},
            since=float(number(query.get("since", "0"), "since")),
            until=float(number(query.get("until", "0"), "until")),
        )
        limit = number(query.get("limit", "10"), "limit", least=1, most=100)
        return await self.desk.search(wanted, before=query.get("before", ""), limit=limit)

    async def resolve(self, request: web.Request, _who: Whoami) -> Resolution:
        return await self.desk.resolve(request.match_info["domain"])

    async def explain(self, request: web.Request, _who: Whoami) -> Explanation:
        return await self.desk.explain(read(await request.read(), Question))

    # ---- the inbox
    async def inbox(self, request: web.Request, _who: Whoami) -> InboxPage:
        before = number(request.query.get("before", "0"), "before")
        limit = number(request.query.get("limit", "50"), "limit", least=1, most=1000)
        return await self.desk.inbox(before=before, limit=limit)

    async def captured(self, request: web.Request, _who: Whoami) -> CapturedDetail:
        return await self.desk.captured(_captured_number(request))

    async def captured_raw(self, request: web.Request, _who: Whoami) -> Raw:
        # Never message/rfc822 or text/html: a browser shall show octets, not act on them.
        return Raw("text/plain; charset=utf-8", await self.desk.captured_octets(_captured_number(request)))

    async def captured_html(self, request: web.Request, _who: Whoami) -> Raw:
        detail = await self.desk.captured(_captured_number(request))
        page = html_page(detail.html).encode("utf-8", "replace")
        return Raw("text/html; charset=utf-8", page, (("Content-Security-Policy", HTML_POLICY),))

    async def captured_part(self, request: web.Request, _who: Whoami) -> Raw:
        captured, part = _captured_number(request), number(request.match_info["part"], "the part")
        found = attachment(await self.desk.captured_octets(captured), part)
        if found is None:
            raise OperationError(
                FailureKind.NOT_FOUND, f"message {captured} has no attachment {part}", "see its list of attachments"
            )
        disposition = f"attachment; filename*=UTF-8''{found.quoted_name}"
        return Raw("application/octet-stream", found.octets, (("Content-Disposition", disposition),))

    async def wait(self, request: web.Request, _who: Whoami) -> CapturedDetail:
        """The first message that fits, as soon as it is there."""
        query = request.query
        timeout = number(query.get("timeout", "30"), "timeout", most=int(WAIT.total_seconds()))
        after = number(query.get("after", "0"), "after")
        ends = self.board.clock.monotonic() + timeout
        seen: set[int] = set()
        while True:
            for message in reversed((await self.desk.inbox(limit=NEWEST)).messages):
                if message.number > after and message.number not in seen and _is_between(message, query):
                    detail = await self.desk.captured(message.number)
                    if _says(detail, query):
                        return detail
                    seen.add(message.number)
            if self.board.clock.monotonic() >= ends:
                raise OperationError(
                    FailureKind.NOT_FOUND,
                    f"no message that fits came within {timeout} s",
                    "see what came: waypost inbox list; or what became of it: waypost trace ADDRESS",
                )
            await asyncio.sleep(LOOK.total_seconds())

    async def clear(self, request: web.Request, who: Whoami) -> Cleared:
        body = await request.read()
        keep = read(body, Cleared).messages if body else 0
        cleared = await self.desk.clear_inbox(keep=keep)
        _acted("clear inbox", _by("", who), "", messages=cleared.messages)
        return cleared


# ---- what a request says
def read(octets: bytes, kind: type[T]) -> T:
    """A request's body. Raises: OperationError."""
    try:
        return from_json(octets, kind)
    except ValueError as error:
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"the request's body is not as expected: {error}",
            "send the fields that docs/reference/api.md names",
        ) from None


def number(text: str, name: str, *, least: int = 0, most: int = 10**18 - 1) -> int:
    """A number in a query or path. Raises: OperationError."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most:
        return int(text)
    bound = f", at most {most}" if most < 10**17 else ""
    raise OperationError(FailureKind.BAD_REQUEST, f"{name} is {text!r}", f"give a whole number, {least} or more{bound}")


def _limit(request: web.Request) -> int:
    return number(request.query.get("limit", LIMIT.default), "limit", least=LIMIT.least, most=LIMIT.most)


def _captured_number(request: web.Request) -> int:
    return number(request.match_info["number"], "the number")


async def _act_body(request: web.Request) -> ActBody:
    octets = await request.read()
    return read(octets, ActBody) if octets else ActBody()


async def _freeze_body(request: web.Request, who: Whoami) -> FreezeBody:
    body = read(await request.read(), FreezeBody)
    return replace(body, by=_by(body.by, who))


def _by(said: str, who: Whoami) -> str:
    """Who did it: whoever has to log in cannot say that he is another."""
    if not who.asks:
        return said or "admin API"
    return who.name if not said or said == "admin API" else f"{who.name}, for {said}"


def _selection(request: web.Request) -> Selection:
    query = request.query
    return Selection(
        ids=tuple(MessageId(each) for each in query.getall("id", [])),
        address=query.get("address", ""),
        domain=query.get("domain", ""),
        next_hop=query.get("next_hop", ""),
        state=query.get("state", ""),
        text=query.get("text", ""),
        received_before=float(number(query.get("received_before", "0"), "received_before")),
    )


def _is_between(message: CapturedMessage, query: web.BaseRequest | Any) -> bool:
    """Whether its envelope is as asked."""
    to, sender = query.get("to", "").lower(), query.get("sender", "").lower()
    recipients = [one.lower() for one in message.recipients]
    return (not to or to in recipients) and (not sender or sender == message.reverse_path.lower())


def _says(detail: CapturedDetail, query: Any) -> bool:
    """Whether its content is as asked."""
    subject, text = query.get("subject", "").lower(), query.get("text", "")
    subjects = [value.lower() for name, value in detail.header if name.lower() == "subject"]
    fits_subject = not subject or any(subject in one for one in subjects)
    return fits_subject and (not text or text in detail.text or text in detail.html)


def _acted(action: str, by: str, reason: str, **what: object) -> None:
    _LOG.info("operator acted", action=action, by=by, **({"reason": reason} if reason else {}), **what)


# ---- sessions: these two are asked by whom nobody knows yet
async def log_in(request: web.Request, guard: Guard) -> web.Response:
    """Begin a session."""
    login = read(await request.read(), Login)
    who, cookie = await guard.log_in(request, login.name, login.password)
    _LOG.info("administrator logged in", name=who.name, role=who.role.value, client=request.remote)
    response = web.Response(body=to_json(who), content_type="application/json")
    response.set_cookie(COOKIE, cookie, httponly=True, samesite="Strict", secure=guard.secure, path="/")
    return response


async def log_out(request: web.Request, guard: Guard) -> web.Response:
    """End it."""
    guard.log_out(request)
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=guard.secure)
    return response
