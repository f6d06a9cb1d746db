"""The table of the API's paths: what each is called with, what it answers, and who may ask.

The handlers are api.py's. http.py serves the table, openapi.py describes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from waypost.admin.answers import (
    ACTIONS,
    ActBody,
    Acted,
    BinPage,
    CapturedDetail,
    Cleared,
    Destinations,
    Expiries,
    FreezeBody,
    Froze,
    InboxPage,
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
)
from waypost.admin.api import AFTER, LIMIT, SELECTION, Api, Path, Query
from waypost.admin.board import ConfigText
from waypost.admin.explanation import Explanation, Question
from waypost.admin.flow import Flow
from waypost.admin.guard import Whoami
from waypost.auth.admins import Role

_ACTION: Final = f"{{action:{'|'.join(ACTIONS)}}}"


def paths(api: Api) -> tuple[Path, ...]:
    """All of them."""
    parts = (_service, _configuration, _queue, _bin, _destinations, _history, _routing, _inbox, _captured)
    return tuple(path for part in parts for path in part(api))


def _service(api: Api) -> tuple[Path, ...]:
    """The service as a whole, and who asks."""
    return (
        Path("GET", "/api/status", "The service at a glance, and why it is not ready.", api.status, Status),
        Path(
            "GET",
            "/api/flow",
            "How much mail has flowed lately: samples, oldest first.",
            api.flow,
            Flow,
            query=(Query("minutes", "So long until now.", "integer", "60", most=1440),),
        ),
        Path(
            "GET",
            "/api/events",
            "Live data as server-sent events: every two seconds an event `live`, its data a `Live`.",
            api.events,
            "text/event-stream",
        ),
        Path(
            "GET",
            "/api/expiries",
            "Certificates and authorisations, with the days they have left.",
            api.expiries,
            Expiries,
        ),
        Path("GET", "/api/session", "Who asks, by what role; and what a page sends as `X-CSRF`.", api.session, Whoami),
    )


def _configuration(api: Api) -> tuple[Path, ...]:
    """What is in force, and what would be."""
    return (
        Path("GET", "/api/configuration", "The configuration as it was read, secrets hidden.", api.config, ConfigText),
        Path(
            "GET",
            "/api/config",
            "The revisions that were in force.",
            api.revisions,
            Revisions,
            Role.ADMIN,
            tag="config",
        ),
        Path("GET", "/api/config/{id}", "One of them, whole.", api.revision, RevisionText, Role.ADMIN, tag="config"),
        Path(
            "POST",
            "/api/config/reload",
            "Read the configuration's file anew and put it in force, whole or not at all.",
            api.reload,
            Reloaded,
            Role.ADMIN,
            ReloadBody,
            tag="config",
        ),
        Path(
            "POST",
            "/api/config/preview",
            "What a configuration would do to what waits and to the traffic there was. Nothing changes.",
            api.preview,
            Preview,
            Role.ADMIN,
            Proposal,
            tag="config",
        ),
    )


def _queue(api: Api) -> tuple[Path, ...]:
    """What waits."""
    return (
        Path(
            "GET",
            "/api/queue",
            "Recipients in the queue, a page at a time.",
            api.queue,
            QueuePage,
            query=(*SELECTION, AFTER, LIMIT),
            tag="queue",
        ),
        Path(
            "GET", "/api/queue/{id}", "One message: envelope, recipients, header.", api.show, QueuedDetail, tag="queue"
        ),
        Path("GET", "/api/queue/{id}/raw", "Its octets.", api.raw, "text/plain", tag="queue"),
        Path(
            "GET",
            "/api/quarantine",
            "What is held in quarantine, with why; `release` and `delete` of `/api/queue` are for it, too.",
            api.quarantine,
            QueuePage,
            tag="queue",
        ),
        Path(
            "POST",
            f"/api/queue/{_ACTION}",
            "Do it to the recipients that the body selects.",
            api.act,
            Acted,
            Role.OPERATOR,
            ActBody,
            tag="queue",
        ),
        Path(
            "POST",
            f"/api/queue/{{id}}/{_ACTION}",
            "The same for one message.",
            api.act_on_one,
            Acted,
            Role.OPERATOR,
            ActBody,
            tag="queue",
        ),
        Path(
            "GET",
            "/api/why/{asked}",
            "Why mail waits: for each recipient of a message id, domain, address or next hop the one thing it waits "
            "for, and when that ends; and the destinations it waits for.",
            api.why,
            Why,
            query=(LIMIT,),
            tag="queue",
        ),
    )


def _bin(api: Api) -> tuple[Path, ...]:
    """What was taken out of the queue."""
    return (
        Path(
            "GET",
            "/api/bin",
            "What operators deleted or bounced, and can be brought back.",
            api.bin,
            BinPage,
            query=(*SELECTION, AFTER, LIMIT),
            tag="queue",
        ),
        Path(
            "POST",
            "/api/bin/restore",
            "Bring back from the bin what the body selects.",
            api.restore,
            Acted,
            Role.OPERATOR,
            ActBody,
            tag="queue",
        ),
    )


def _destinations(api: Api) -> tuple[Path, ...]:
    """Next hops."""
    return (
        Path(
            "GET",
            "/api/destinations",
            "What each next hop is doing, those in trouble first.",
            api.destinations,
            Destinations,
            query=(LIMIT,),
            tag="destinations",
        ),
        Path("GET", "/api/frozen", "What is frozen, by whom and why.", api.frozen, Froze, tag="destinations"),
        Path(
            "POST",
            "/api/frozen/freeze",
            "Try nothing at a next hop, or at any of a route's (`route NAME`), until it is thawed.",
            api.freeze,
            Froze,
            Role.OPERATOR,
            FreezeBody,
            tag="destinations",
        ),
        Path(
            "POST",
            "/api/frozen/thaw",
            "Let it be tried again.",
            api.thaw,
            Froze,
            Role.OPERATOR,
            FreezeBody,
            tag="destinations",
        ),
    )


def _history(api: Api) -> tuple[Path, ...]:
    """What happened."""
    return (
        Path(
            "GET",
            "/api/watched",
            "Whose dialogues are logged, and until when.",
            api.watched,
            WatchedPeers,
            tag="history",
        ),
        Path(
            "POST",
            "/api/watched",
            "Log the dialogues with a peer for a while, or no more.",
            api.watch,
            WatchedPeers,
            Role.OPERATOR,
            WatchBody,
            tag="history",
        ),
        Path(
            "GET",
            "/api/trace/{asked}",
            "The life of the message with this id, or of the newest from or to this address.",
            api.trace,
            Traces,
            query=(replace(LIMIT, default="10"),),
            tag="history",
        ),
        Path(
            "GET",
            "/api/search",
            "Lives of messages in the queue or done, newest first. A bounded number is looked through at a time: go on "
            "with `next`.",
            api.search,
            Traces,
            query=(
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
            ),
            tag="history",
        ),
    )


def _routing(api: Api) -> tuple[Path, ...]:
    """What would happen."""
    return (
        Path(
            "GET",
            "/api/resolve/{domain}",
            "Where mail for the domain goes now, and why.",
            api.resolve,
            Resolution,
            tag="routing",
        ),
        Path(
            "POST",
            "/api/explain",
            "What would become of a message, step by step. Nothing is sent.",
            api.explain,
            Explanation,
            body=Question,
            tag="routing",
        ),
    )


def _inbox(api: Api) -> tuple[Path, ...]:
    """What `capture:` keeps, as a list."""
    return (
        Path(
            "GET",
            "/api/inbox",
            "Captured messages, newest first.",
            api.inbox,
            InboxPage,
            query=(
                Query("before", "Older than this number: `next` of the page before.", "integer", "0"),
                replace(LIMIT, default="50"),
            ),
            tag="inbox",
        ),
        Path(
            "GET",
            "/api/inbox/wait",
            "Wait for a captured message that fits, and answer with it: for test suites. 404 once the time is over.",
            api.wait,
            CapturedDetail,
            query=(
                Query("to", "One of its recipients."),
                Query("sender", "Its reverse-path."),
                Query("subject", "Part of its Subject, in any case."),
                Query("text", "Part of its text or HTML."),
                Query("after", "Only with a greater number: that of the newest before the test began.", "integer", "0"),
                Query("timeout", "Seconds to wait.", "integer", "30", most=60),
            ),
            tag="inbox",
        ),
        Path(
            "POST",
            "/api/inbox/clear",
            "Drop captured messages, all but the newest `messages` that the body names (none, without a body).",
            api.clear,
            Cleared,
            Role.OPERATOR,
            Cleared,
            tag="inbox",
        ),
    )


def _captured(api: Api) -> tuple[Path, ...]:
    """One message of it."""
    return (
        Path(
            "GET",
            "/api/inbox/{number}",
            "One of them, taken apart for reading.",
            api.captured,
            CapturedDetail,
            tag="inbox",
        ),
        Path(
            "GET",
            "/api/inbox/{number}/raw",
            "Its octets.",
            api.captured_raw,
            "text/plain",
            tag="inbox",
        ),
        Path(
            "GET",
            "/api/inbox/{number}/html",
            "Its HTML, with a policy under which it can load and run nothing: for a frame.",
            api.captured_html,
            "text/html",
            tag="inbox",
        ),
        Path(
            "GET",
            "/api/inbox/{number}/parts/{part}",
            "One of its attachments, counted from 0 as they are listed.",
            api.captured_part,
            "application/octet-stream",
            tag="inbox",
        ),
    )
