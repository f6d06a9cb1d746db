"""The table of the API's paths: what each operation is for, who answers it, and who may ask.

Handlers that do more than pass a question on are api.py's. http.py serves the table, openapi.py describes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from aiohttp import web

from waypost.admin import wire
from waypost.admin.answers import CapturedDetail
from waypost.admin.api import Api, Raw
from waypost.admin.board import ConfigText
from waypost.admin.flow import Flow
from waypost.admin.guard import Whoami
from waypost.admin.request import Query, Request
from waypost.admin.wire import Answer, Get, Octets, Operation, Post
from waypost.auth.admins import Role

Handler: TypeAlias = Callable[[Request], Awaitable[object]]

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
PAGE: Final = (*SELECTION, AFTER, LIMIT)
SEARCH: Final = (
    Query("address", "From or to this address."),
    Query("domain", "To this domain."),
    Query("message_id", "The header's Message-ID."),
    Query("next_hop", "Tried at this next hop."),
    Query("outcome", "`delivered`, `deferred`, `rejected` or `in doubt`."),
    Query("text", "Part of what a host replied, or of another outcome."),
    Query("since", "Received then or later, in seconds since 1970.", "integer", "0"),
    Query("until", "Received before then.", "integer", "0"),
    Query("before", "`next` of the page before."),
    replace(LIMIT, default="10", most=100),
)
INBOX: Final = (
    Query("before", "Older than this number: `next` of the page before.", "integer", "0"),
    replace(LIMIT, default="50"),
)
WAIT: Final = (
    Query("to", "One of its recipients."),
    Query("sender", "Its reverse-path."),
    Query("subject", "Part of its Subject, in any case."),
    Query("text", "Part of its text or HTML."),
    Query("after", "Only with a greater number: that of the newest before the test began.", "integer", "0"),
    Query("timeout", "Seconds to wait.", "integer", "30", most=60),
)


@dataclass(frozen=True, slots=True)
class Path:
    """An operation that is served."""

    operation: Operation
    about: str
    handler: Handler
    role: Role = Role.VIEWER
    query: tuple[Query, ...] = ()
    tag: str = "service"

    @property
    def method(self) -> str:
        """By which it is asked."""
        return "POST" if isinstance(self.operation, Post) else "GET"


def get(
    operation: Get[Answer],
    about: str,
    handler: Callable[[Request], Awaitable[Answer]],
    *,
    role: Role = Role.VIEWER,
    query: tuple[Query, ...] = (),
) -> Path:
    """One that only looks."""
    return Path(operation, about, handler, role, query)


def post(
    operation: Post[Any, Answer],
    about: str,
    handler: Callable[[Request], Awaitable[Answer]],
    *,
    role: Role,
) -> Path:
    """One that changes something, or is asked with a body."""
    return Path(operation, about, handler, role)


def octets(operation: Octets, about: str, handler: Callable[[Request], Awaitable[Raw | web.StreamResponse]]) -> Path:
    """One that is answered with no JSON."""
    return Path(operation, about, handler)


def paths(api: Api) -> tuple[Path, ...]:
    """All of them."""
    parts = {
        "service": (_service,),
        "config": (_configurations,),
        "queue": (_queue, _bin),
        "destinations": (_destinations,),
        "history": (_history,),
        "routing": (_routing,),
        "inbox": (_inbox, _captured),
    }
    return tuple(replace(path, tag=tag) for tag, some in parts.items() for part in some for path in part(api))


def _service(api: Api) -> tuple[Path, ...]:
    """The service as a whole, and who asks."""
    return (
        get(wire.STATUS, "The service at a glance, and why it is not ready.", lambda _: api.desk.status()),
        get(
            Get("flow", "/api/flow", Flow),
            "How much mail has flowed lately: samples, oldest first.",
            api.flow,
            query=(Query("minutes", "So long until now.", "integer", "60", most=1440),),
        ),
        octets(
            Octets("events", "/api/events", "text/event-stream"),
            "Live data as server-sent events: every two seconds an event `live`, its data a `Live`.",
            api.events,
        ),
        get(wire.EXPIRIES, "Certificates and authorisations, with the days they have left.", api.expiries),
        get(
            Get("session", "/api/session", Whoami),
            "Who asks, by what role; and what a page sends as `X-CSRF`.",
            api.session,
        ),
        get(
            Get("config", "/api/configuration", ConfigText),
            "The configuration as it was read, secrets hidden.",
            api.config,
        ),
    )


def _configurations(api: Api) -> tuple[Path, ...]:
    """What was in force, and what might be."""
    return (
        get(wire.REVISIONS, "The revisions that were in force.", lambda _: api.desk.revisions(), role=Role.ADMIN),
        get(
            wire.REVISION, "One of them, whole.", lambda asked: api.desk.revision(asked.segment("id")), role=Role.ADMIN
        ),
        post(
            wire.RELOAD,
            "Read the configuration's file anew and put it in force, whole or not at all.",
            api.reload,
            role=Role.ADMIN,
        ),
        post(
            wire.PREVIEW,
            "What a configuration would do to what waits and to the traffic there was. Nothing changes.",
            api.preview,
            role=Role.ADMIN,
        ),
    )


def _queue(api: Api) -> tuple[Path, ...]:
    """What waits."""
    desk = api.desk
    return (
        get(
            wire.QUEUE,
            "Recipients in the queue, a page at a time.",
            lambda asked: desk.queue(asked.selection(), after=asked.text("after"), limit=asked.number("limit")),
            query=PAGE,
        ),
        get(wire.SHOW, "One message: envelope, recipients, header.", lambda asked: desk.show(asked.segment("id"))),
        octets(wire.RAW, "Its octets.", api.raw),
        get(
            wire.QUARANTINE,
            "What is held in quarantine, with why; `release` and `delete` of `/api/queue` are for it, too.",
            lambda _: desk.quarantine(),
        ),
        post(wire.ACT, "Do it to the recipients that the body selects.", api.act, role=Role.OPERATOR),
        post(wire.ACT_ON_ONE, "The same for one message.", api.act_on_one, role=Role.OPERATOR),
        get(
            wire.WHY,
            "Why mail waits: for each recipient of a message id, domain, address or next hop the one thing it waits "
            "for, and when that ends; and the destinations it waits for.",
            lambda asked: desk.why(asked.segment("asked"), limit=asked.number("limit")),
            query=(LIMIT,),
        ),
    )


def _bin(api: Api) -> tuple[Path, ...]:
    """What was taken out of the queue."""
    return (
        get(
            wire.BIN,
            "What operators deleted or bounced, and can be brought back.",
            lambda asked: api.desk.bin(asked.selection(), after=asked.text("after"), limit=asked.number("limit")),
            query=PAGE,
        ),
        post(wire.RESTORE, "Bring back from the bin what the body selects.", api.restore, role=Role.OPERATOR),
    )


def _destinations(api: Api) -> tuple[Path, ...]:
    """Next hops."""
    return (
        get(
            wire.DESTINATIONS,
            "What each next hop is doing, those in trouble first.",
            lambda asked: api.desk.destinations(limit=asked.number("limit")),
            query=(LIMIT,),
        ),
        get(wire.FROZEN, "What is frozen, by whom and why.", lambda _: api.desk.frozen()),
        post(
            wire.FREEZE,
            "Try nothing at a next hop, or at any of a route's (`route NAME`), until it is thawed.",
            api.freeze,
            role=Role.OPERATOR,
        ),
        post(wire.THAW, "Let it be tried again.", api.thaw, role=Role.OPERATOR),
    )


def _history(api: Api) -> tuple[Path, ...]:
    """What happened."""
    return (
        get(wire.WATCHED, "Whose dialogues are logged, and until when.", lambda _: api.desk.watched()),
        post(wire.WATCH, "Log the dialogues with a peer for a while, or no more.", api.watch, role=Role.OPERATOR),
        get(
            wire.TRACE,
            "The life of the message with this id, or of the newest from or to this address.",
            lambda asked: api.desk.trace(asked.segment("asked"), limit=asked.number("limit")),
            query=(replace(LIMIT, default="10"),),
        ),
        get(
            wire.SEARCH,
            "Lives of messages in the queue or done, newest first. A bounded number is looked through at a time: go on "
            "with `next`.",
            api.search,
            query=SEARCH,
        ),
    )


def _routing(api: Api) -> tuple[Path, ...]:
    """What would happen."""
    return (
        get(
            wire.RESOLVE,
            "Where mail for the domain goes now, and why.",
            lambda asked: api.desk.resolve(asked.segment("domain")),
        ),
        post(
            wire.EXPLAIN,
            "What would become of a message, step by step. Nothing is sent.",
            api.explain,
            role=Role.VIEWER,
        ),
    )


def _inbox(api: Api) -> tuple[Path, ...]:
    """What `capture:` keeps, as a list."""
    return (
        get(
            wire.INBOX,
            "Captured messages, newest first.",
            lambda asked: api.desk.inbox(before=asked.number("before"), limit=asked.number("limit")),
            query=INBOX,
        ),
        get(
            Get("wait", "/api/inbox/wait", CapturedDetail),
            "Wait for a captured message that fits, and answer with it: for test suites. 404 once the time is over.",
            api.wait,
            query=WAIT,
        ),
        post(
            wire.CLEAR,
            "Drop captured messages, all but the newest `messages` that the body names (none, without a body).",
            api.clear,
            role=Role.OPERATOR,
        ),
    )


def _captured(api: Api) -> tuple[Path, ...]:
    """One message of it."""
    return (
        get(wire.CAPTURED, "One of them, taken apart for reading.", api.captured),
        octets(wire.CAPTURED_RAW, "Its octets.", api.captured_raw),
        octets(
            Octets("captured_html", "/api/inbox/{number}/html", "text/html"),
            "Its HTML, with a policy under which it can load and run nothing: for a frame.",
            api.captured_html,
        ),
        octets(
            Octets("captured_part", "/api/inbox/{number}/parts/{part}", "application/octet-stream"),
            "One of its attachments, counted from 0 as they are listed.",
            api.captured_part,
        ),
    )
