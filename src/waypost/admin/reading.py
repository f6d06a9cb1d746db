"""A captured message taken apart for a person to read: header fields, text, the source of its HTML.

Whatever arrived can be shown, however broken its MIME structure is: the standard library's parser collects defects, and
where decoding one part fails, that part is shown as it is. Nothing is rendered here and nothing fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default as modern
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from waypost.admin.answers import CapturedDetail
from waypost.mail.envelope import Octets
from waypost.mail.explain import plain
from waypost.queue.storage import CapturedMessage

Part: TypeAlias = "Message[Any, Any]"  # subscriptable from Python 3.13 on only

#: More octets than any message has.
WHOLE: Final = 2**62


async def first(octets: Octets, limit: int) -> bytes:
    """The first `limit` octets of a message. Raises: StorageError."""
    read = bytearray()
    async for chunk in octets:
        read += chunk
        if len(read) >= limit:
            break
    return bytes(read[:limit])


def taken_apart(message: CapturedMessage, octets: bytes) -> CapturedDetail:
    """`octets` are the message's first ones, all or as many as are to be read."""
    parsed = message_from_bytes(octets, _class=EmailMessage, policy=modern)
    parts = list(parsed.walk())
    return CapturedDetail(
        message=message,
        header=tuple((plain(name), _field(name, value)) for name, value in parsed.raw_items()),
        text=_first_text(parts, "text/plain"),
        html=_first_text(parts, "text/html"),
        attachments=tuple(name for part in parts if (name := _file_name(part))),
        cut=len(octets) < message.size,
    )


@dataclass(frozen=True, slots=True)
class Attachment:
    """One, decoded. `quoted_name`: its name as RFC 5987 §3.2 quotes it."""

    quoted_name: str
    octets: bytes


def attachment(octets: bytes, number: int) -> Attachment | None:
    """The `number`th of a message, as `CapturedDetail.attachments` lists them; None where there are fewer."""
    parts = message_from_bytes(octets, _class=EmailMessage, policy=modern).walk()
    named = [(name, part) for part in parts if (name := _file_name(part))]
    if number >= len(named):
        return None
    name, part = named[number]
    decoded = part.get_payload(decode=True)
    return Attachment(quote(name, safe=""), decoded if isinstance(decoded, bytes) else bytes(part))


def html_page(html: str) -> str:
    """A message's HTML as a page for a frame: links lead to a window of their own, if a browser lets them at all."""
    return f'<!doctype html><meta charset="utf-8"><base target="_blank">{html}'


def _field(name: str, raw: str) -> str:
    """The field's body on one line, encoded words decoded (RFC 2047)."""
    try:
        text = str(modern.header_fetch_parse(name, raw))
    except Exception:  # noqa: BLE001 - the parser has bugs for hostile fields, and each raises its own way
        text = raw
    return plain(" ".join(text.split()))


def _first_text(parts: Sequence[Part], kind: str) -> str:
    for part in parts:
        if part.get_content_type() == kind and not _file_name(part):
            return _decoded(part)
    return ""


def _decoded(part: Part) -> str:
    octets = part.get_payload(decode=True)
    if not isinstance(octets, bytes):
        return ""
    try:
        return octets.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # a charset nobody knows
        return octets.decode("utf-8", "replace")


def _file_name(part: Part) -> str:
    try:
        return plain(part.get_filename(""))
    except Exception:  # noqa: BLE001 - as in `_field`
        return "?"
