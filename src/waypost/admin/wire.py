"""The API on the wire, as both its ends know it: each operation's path, what is sent, what is answered; said once.

paths.py puts a handler behind each, and says what it is for and who may ask; client.py asks those that the command line
needs. Not here: what only a page asks, whose types are the server's own (paths.py). Light: a command imports this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

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
from waypost.admin.explanation import Explanation, Question

Body = TypeVar("Body")
Answer = TypeVar("Answer")

#: A segment of a path that is filled in: its name, and where not all will do, what will.
SEGMENT: Final = re.compile(r"\{(\w+)(?::([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Get(Generic[Answer]):
    """Looks, and changes nothing. `name`: of the operation, in the API's description."""

    name: str
    path: str
    answer: type[Answer]


@dataclass(frozen=True, slots=True)
class Post(Generic[Body, Answer]):
    """Changes something, or asks with more than fits in a path."""

    name: str
    path: str
    body: type[Body]
    answer: type[Answer]


@dataclass(frozen=True, slots=True)
class Octets:
    """Looks, and is answered with no JSON but this content type."""

    name: str
    path: str
    answer: str


Operation: TypeAlias = "Get[Any] | Post[Any, Any] | Octets"

_ACTION: Final = f"{{action:{'|'.join(ACTIONS)}}}"

# ---- the service
STATUS: Final = Get("status", "/api/status", Status)
EXPIRIES: Final = Get("expiries", "/api/expiries", Expiries)
# ---- the configuration
REVISIONS: Final = Get("revisions", "/api/config", Revisions)
REVISION: Final = Get("revision", "/api/config/{id}", RevisionText)
RELOAD: Final = Post("reload", "/api/config/reload", ReloadBody, Reloaded)
PREVIEW: Final = Post("preview", "/api/config/preview", Proposal, Preview)
# ---- what waits
QUEUE: Final = Get("queue", "/api/queue", QueuePage)
SHOW: Final = Get("show", "/api/queue/{id}", QueuedDetail)
RAW: Final = Octets("raw", "/api/queue/{id}/raw", "text/plain")
QUARANTINE: Final = Get("quarantine", "/api/quarantine", QueuePage)
ACT: Final = Post("act", f"/api/queue/{_ACTION}", ActBody, Acted)
ACT_ON_ONE: Final = Post("act_on_one", f"/api/queue/{{id}}/{_ACTION}", ActBody, Acted)
WHY: Final = Get("why", "/api/why/{asked}", Why)
# ---- what was taken out of the queue
BIN: Final = Get("bin", "/api/bin", BinPage)
RESTORE: Final = Post("restore", "/api/bin/restore", ActBody, Acted)
# ---- next hops
DESTINATIONS: Final = Get("destinations", "/api/destinations", Destinations)
FROZEN: Final = Get("frozen", "/api/frozen", Froze)
FREEZE: Final = Post("freeze", "/api/frozen/freeze", FreezeBody, Froze)
THAW: Final = Post("thaw", "/api/frozen/thaw", FreezeBody, Froze)
# ---- what happened
WATCHED: Final = Get("watched", "/api/watched", WatchedPeers)
WATCH: Final = Post("watch", "/api/watched", WatchBody, WatchedPeers)
TRACE: Final = Get("trace", "/api/trace/{asked}", Traces)
SEARCH: Final = Get("search", "/api/search", Traces)
# ---- what would happen
RESOLVE: Final = Get("resolve", "/api/resolve/{domain}", Resolution)
EXPLAIN: Final = Post("explain", "/api/explain", Question, Explanation)
# ---- what `capture:` keeps
INBOX: Final = Get("inbox", "/api/inbox", InboxPage)
CLEAR: Final = Post("clear", "/api/inbox/clear", Cleared, Cleared)
CAPTURED: Final = Get("captured", "/api/inbox/{number}", CapturedDetail)
CAPTURED_RAW: Final = Octets("captured_raw", "/api/inbox/{number}/raw", "text/plain")
