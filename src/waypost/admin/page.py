"""The page a browser shows at [admin] address: status, the head of the queue, captured messages, lives. To read only.

Rendered here, without a script; every text that came from outside is escaped, HTML mail is shown as its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import quote

from aiohttp import web

from waypost import with_build
from waypost.admin import words
from waypost.admin.answers import CapturedDetail, Desk, FailureKind, InboxPage, OperationError, QueuePage, Status
from waypost.admin.words import counted
from waypost.net.clock import Instant
from waypost.queue.storage import QueueEntry, Selection

#: Queue entries and captured messages on the page; all of them are an API call away.
ROWS: Final = 25

STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --soft: #777; --good: #2a7d3f; --bad: #b3261e; --wait: #855c00; }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; --good: #6fcf85; --bad: #ff8a80; --wait: #e3b341; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; vertical-align: top; }
th { color: var(--soft); font-weight: 500; } tr { border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } .number, .when { white-space: nowrap; } .number { text-align: right; }
ol { list-style: none; padding: 0; } li { border-bottom: 1px solid var(--line); padding: .4rem .6rem; }
li p { margin: 0; overflow-wrap: anywhere; } .why { color: var(--wait); }
@media (max-width: 40rem) { body { margin-top: 1rem; } .wide { display: none; } }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem; border: 1px solid var(--line); }
"""


@dataclass(frozen=True, slots=True)
class Pages:
    """The handlers."""

    desk: Desk

    async def overview(self, _request: web.Request) -> web.Response:
        """The overview, at `/`."""
        status = await self.desk.status()
        queue = await self.desk.queue(Selection(), limit=ROWS)
        inbox = await self.desk.inbox(limit=ROWS)
        return _page(status.service.hostname, _status(status) + _queue(queue) + _inbox(inbox))

    async def captured(self, request: web.Request) -> web.Response:
        """One captured message, at `/inbox/7`."""
        text = request.match_info["number"]
        if not (text.isascii() and text.isdigit()):
            raise OperationError(FailureKind.NOT_FOUND, f"no captured message {text}", "see the list at /")
        detail = await self.desk.captured(int(text))
        return _page(f"Message {detail.message.number}", _captured(detail, await self.desk.captured_octets(int(text))))

    async def life(self, request: web.Request) -> web.Response:
        """What became of a message, at `/trace/1dvq3kbaxm00g`; or of those from or to an address."""
        asked = request.match_info["asked"]
        told = "\n".join(line.plain for line in words.traces(await self.desk.trace(asked)))
        return _page(f"What became of {asked}", _BACK + _source(told))

    async def style(self, _request: web.Request) -> web.Response:
        """The style sheet."""
        return web.Response(text=STYLE, content_type="text/css")


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)} — Waypost</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/style.css">\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )
    return web.Response(text=text, content_type="text/html")


def _status(status: Status) -> str:
    service = status.service
    ready = "".join(f'<p class="bad">Not ready: {escape(reason)}</p>\n' for reason in status.not_ready)
    ready = ready or '<p class="good">Ready</p>\n'
    ready += "".join(f'<p class="bad">Warning: {escape(warning)}</p>\n' for warning in status.warnings)
    listeners = ", ".join(f"{each.role} on {each.address}" for each in service.listeners)
    return ready + _table(
        (),
        [
            (
                "Waypost",
                f"{with_build(service.version, compiled=service.compiled)}, up since {_time(service.started_at)}",
            ),
            ("Listening", listeners or "nowhere"),
            ("Spool", f"{service.spool} (a 250 means: {service.durability})"),
            (
                "Queue",
                f"{counted(status.messages, 'message')}, {counted(status.recipients, 'recipient')}, {status.held} held",
            ),
            ("Reports due", str(status.reports_due)),
        ],
    )


def _queue(queue: QueuePage) -> str:
    rows = "".join(f"<li>{_entry(entry)}\n" for entry in queue.entries)
    more = '<p class="soft">… and more: <code>waypost queue list</code></p>\n' if queue.next else ""
    return "<h2>Queue</h2>\n" + (f"<ol>\n{rows}</ol>\n" if rows else '<p class="soft">Empty.</p>\n') + more


def _entry(entry: QueueEntry) -> str:
    """A recipient that waits, as `queue list` puts it; its message's id leads to what became of it so far."""
    first, *others = (line.plain for line in words.waiting(entry))
    link = f'<a href="/trace/{quote(entry.id)}">{escape(entry.id)}</a>'
    about, *whys = (escape(line.strip()) for line in others)
    reasons = "".join(f'<p class="why">{why}' for why in whys)
    return f'<p>{link}{escape(first.removeprefix(entry.id))}<p class="soft">{about}{reasons}'


def _inbox(inbox: InboxPage) -> str:
    rows = "".join(
        f'<tr><td><a href="/inbox/{m.number}">{m.number}</a>'
        f'<td class="wide">{escape(m.reverse_path or "<>")}<td>{escape(", ".join(m.recipients))}'
        f'<td class="when">{_time(m.captured_at)}<td class="number wide">{m.size}\n'
        for m in inbox.messages
    )
    more = '<p class="soft">… and more: <code>waypost inbox list</code></p>\n' if inbox.next else ""
    head = '<tr><th>Number<th class="wide">From<th>For<th>Captured<th class="number wide">Octets\n'
    return (
        "<h2>Captured messages</h2>\n"
        + (f"<table>{head}{rows}</table>\n" if rows else '<p class="soft">None.</p>\n')
        + more
    )


def _captured(detail: CapturedDetail, raw: bytes) -> str:
    message = detail.message
    parts = [
        _BACK,
        f'<p><a href="/trace/{quote(message.id)}">What became of it</a></p>\n',
        _table((), [("Reverse-path", message.reverse_path or "<>"), ("For", ", ".join(message.recipients))]),
        "<h2>Header</h2>\n" + _table((), detail.header),
        "<h2>Text</h2>\n" + (_source(detail.text) if detail.text else '<p class="soft">No text/plain part.</p>\n'),
        f"<h2>HTML, as its source</h2>\n{_source(detail.html)}" if detail.html else "",
        _table(("Attachments",), [(name,) for name in detail.attachments]) if detail.attachments else "",
        '<p class="soft">Only the beginning was taken apart: the message is large.</p>\n' if detail.cut else "",
        f'<h2>Source</h2>\n<p><a href="/api/inbox/{message.number}/raw">Raw octets</a></p>\n',
        _source(raw[:65536].decode("utf-8", "backslashreplace")),
    ]
    return "".join(parts)


_BACK: Final = '<p><a href="/">Back</a></p>\n'


def _source(text: str) -> str:
    return f"<pre>{escape(text)}</pre>\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text cells only; the first cell of a row names it where there is no head."""
    cell = "td" if head else "th"
    lines = ["<tr>" + "".join(f"<th>{escape(text)}" for text in head)] if head else []
    for first, *others in rows:
        lines.append(f"<tr><{cell}>{escape(first)}" + "".join(f"<td>{escape(text)}" for text in others))
    return "<table>" + "\n".join(lines) + "</table>\n"


def _time(at: Instant) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
