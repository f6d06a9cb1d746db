"""The API's handlers that do more than pass a question on: each turns a request into one to the desk, and answers.

Which path leads to which, and who may ask, is paths.py's table, which also has the plain ones; how a request is read is
request.py's; wording, status codes and locks are http.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog
from aiohttp import web

from waypost.admin.answers import (
    ActBody,
    Acted,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    FailureKind,
    FreezeBody,
    Froze,
    Login,
    OperationError,
    Preview,
    Proposal,
    ReloadBody,
    Reloaded,
    Status,
    Traces,
    WatchBody,
    WatchedPeers,
    to_json,
)
from waypost.admin.board import Board, ConfigText, hide_secrets, soonest_first
from waypost.admin.desk import Desk
from waypost.admin.explanation import Explanation, Question
from waypost.admin.flow import Flow, Sample
from waypost.admin.guard import COOKIE, Guard, Whoami
from waypost.admin.reading import attachment, html_page
from waypost.admin.request import Request, read
from waypost.mail.envelope import MessageId
from waypost.queue.storage import CapturedMessage, Search

_LOG: Final = structlog.get_logger("waypost.admin")

#: A POST's body is a selection: some ids. 256 KiB hold more ids than a person or a script names in one go.
BODY: Final = 256 * 1024
#: Streams of live data at once, and between two events of one.
STREAMS: Final = 50
BEAT: Final = timedelta(seconds=2)
#: How often a message that is waited for is looked for, and how many of the newest are looked at.
LOOK: Final = timedelta(milliseconds=100)
NEWEST: Final = 50
#: What the octets of a message are shown as. Never message/rfc822 or text/html: a browser shall show, not act on them.
SHOWN_ALONE: Final = "text/plain; charset=utf-8"
#: What a browser may do with a message's HTML, in a frame of its own: show text, its own styles and inline pictures.
HTML_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox"
)


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


#: What of a search is text.
SEARCHED: Final = ("address", "domain", "message_id", "next_hop", "outcome", "text")


@dataclass(slots=True)
class Api:
    """The handlers, over a desk."""

    desk: Desk
    board: Board
    streams: int = 0

    # ---- the service
    async def flow(self, asked: Request) -> Flow:
        return self.board.flow.since(timedelta(minutes=asked.number("minutes")))

    async def events(self, asked: Request) -> web.StreamResponse:
        """Live data, as server-sent events, until the client goes."""
        if self.streams >= STREAMS:
            raise OperationError(
                FailureKind.UNAVAILABLE, f"{STREAMS} look on already", "close a dashboard, or ask /api/status"
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self.streams += 1
        try:
            await response.prepare(asked.http)
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

    async def expiries(self, _asked: Request) -> Expiries:
        return soonest_first((*(await self.desk.expiries()).items, *self.board.expiring()))

    async def config(self, _asked: Request) -> ConfigText:
        """What is in force: since the last reload, where there was one."""
        kept = (await self.desk.revisions()).revisions
        if not kept:
            return self.board.config
        return ConfigText(kept[0].where, hide_secrets((await self.desk.revision(kept[0].id)).text))

    async def reload(self, asked: Request) -> Reloaded:
        body = await asked.body_or(ReloadBody())
        return await self.desk.reload(by=asked.by(body.by))

    async def preview(self, asked: Request) -> Preview:
        return await self.desk.preview(await asked.body(Proposal))

    async def session(self, asked: Request) -> Whoami:
        return asked.who

    # ---- the queue
    async def raw(self, asked: Request) -> Raw:
        return Raw(SHOWN_ALONE, await self.desk.octets(asked.segment("id")))

    async def act(self, asked: Request) -> Acted:
        return await self._act(asked, await asked.body_or(ActBody()))

    async def act_on_one(self, asked: Request) -> Acted:
        body = await asked.body_or(ActBody())
        return await self._act(asked, replace(body, ids=(MessageId(asked.segment("id")),)))

    async def _act(self, asked: Request, said: ActBody) -> Acted:
        body = asked.signed(said)
        acted = await self.desk.act(asked.segment("action"), body)
        if not acted.dry_run:
            _acted(acted.action, body.by, body.reason, recipients=acted.recipients)
        return acted

    async def restore(self, asked: Request) -> Acted:
        body = asked.signed(await asked.body_or(ActBody()))
        acted = await self.desk.restore(body)
        _acted("restore", body.by, body.reason, recipients=acted.recipients)
        return acted

    # ---- next hops and peers
    async def freeze(self, asked: Request) -> Froze:
        body = asked.signed(await asked.body(FreezeBody))
        froze = await self.desk.freeze(body)
        _acted("freeze", body.by, body.reason, place=body.place)
        return froze

    async def thaw(self, asked: Request) -> Froze:
        body = asked.signed(await asked.body(FreezeBody))
        froze = await self.desk.thaw(body)
        _acted("thaw", body.by, body.reason, place=body.place)
        return froze

    async def watch(self, asked: Request) -> WatchedPeers:
        body = asked.signed(await asked.body(WatchBody))
        watched = await self.desk.watch(body)
        _acted("watch" if body.on else "watch no more", body.by, "", peer=body.peer, minutes=body.minutes)
        return watched

    # ---- what happened, and what would
    async def search(self, asked: Request) -> Traces:
        wanted = Search(
            **{name: asked.text(name) for name in SEARCHED},
            since=float(asked.number("since")),
            until=float(asked.number("until")),
        )
        return await self.desk.search(wanted, before=asked.text("before"), limit=asked.number("limit"))

    async def explain(self, asked: Request) -> Explanation:
        return await self.desk.explain(await asked.body(Question))

    # ---- the inbox
    async def captured(self, asked: Request) -> CapturedDetail:
        return await self.desk.captured(_captured(asked))

    async def captured_raw(self, asked: Request) -> Raw:
        return Raw(SHOWN_ALONE, await self.desk.captured_octets(_captured(asked)))

    async def captured_html(self, asked: Request) -> Raw:
        detail = await self.desk.captured(_captured(asked))
        page = html_page(detail.html).encode("utf-8", "replace")
        return Raw("text/html; charset=utf-8", page, (("Content-Security-Policy", HTML_POLICY),))

    async def captured_part(self, asked: Request) -> Raw:
        captured, part = _captured(asked), asked.number_in_path("part", "the part")
        found = attachment(await self.desk.captured_octets(captured), part)
        if found is None:
            raise OperationError(
                FailureKind.NOT_FOUND, f"message {captured} has no attachment {part}", "see its list of attachments"
            )
        disposition = f"attachment; filename*=UTF-8''{found.quoted_name}"
        return Raw("application/octet-stream", found.octets, (("Content-Disposition", disposition),))

    async def wait(self, asked: Request) -> CapturedDetail:
        """The first message that fits, as soon as it is there."""
        timeout, after = asked.number("timeout"), asked.number("after")
        ends = self.board.clock.monotonic() + timeout
        seen: set[int] = set()
        while True:
            for message in reversed((await self.desk.inbox(limit=NEWEST)).messages):
                if message.number > after and message.number not in seen and _is_between(message, asked):
                    detail = await self.desk.captured(message.number)
                    if _says(detail, asked):
                        return detail
                    seen.add(message.number)
            if self.board.clock.monotonic() >= ends:
                raise OperationError(
                    FailureKind.NOT_FOUND,
                    f"no message that fits came within {timeout} s",
                    "see what came: waypost inbox list; or what became of it: waypost trace ADDRESS",
                )
            await asyncio.sleep(LOOK.total_seconds())

    async def clear(self, asked: Request) -> Cleared:
        cleared = await self.desk.clear_inbox(keep=(await asked.body_or(Cleared(0))).messages)
        _acted("clear inbox", asked.by(""), "", messages=cleared.messages)
        return cleared


def _captured(asked: Request) -> int:
    return asked.number_in_path("number", "the number")


def _is_between(message: CapturedMessage, asked: Request) -> bool:
    """Whether its envelope is as asked."""
    to, sender = asked.text("to").lower(), asked.text("sender").lower()
    recipients = [one.lower() for one in message.recipients]
    return (not to or to in recipients) and (not sender or sender == message.reverse_path.lower())


def _says(detail: CapturedDetail, asked: Request) -> bool:
    """Whether its content is as asked."""
    subject, text = asked.text("subject").lower(), asked.text("text")
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
