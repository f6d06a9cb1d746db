"""Making the changes that a hook asks for. Pure: a message and a Change in, a message out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from waypost.hooks.values import Change, Data, Message
from waypost.mail.header import field

_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_FIELDS: Final = re.compile(rb"^([!-9;-~]+)[ \t]*(:[^\n]*\n(?:[ \t][^\n]*\n)*)", re.MULTILINE)
TAGS: Final = "X-Waypost-Tags"


def changed(data: Data, change: Change) -> Data:
    """What the change makes of it. Raises: ValueError, where it asks for what no message can be; the hook's fault."""
    kept = [path for path in data.recipients if path not in change.drop]
    recipients = tuple(dict.fromkeys([*kept, *change.also]))
    if not recipients:
        raise ValueError("it leaves no recipient; refuse the message, or name another in also")
    return replace(
        data,
        recipients=recipients,
        message=_message(data.message, change),
        quarantine=change.quarantine or data.quarantine,
        tags=(*data.tags, *change.tags),
    )


def _message(message: Message, change: Change) -> Message:
    header = message.header
    for name in change.remove:
        header = _without(header, _field_name(name))
    for old, new in change.rename.items():
        header = _renamed(header, _field_name(old), _field_name(new))
    added = [*change.add, *([(TAGS, ", ".join(change.tags))] if change.tags else [])]
    header = b"".join(field(_field_name(name).decode(), value) for name, value in added) + header
    if isinstance(change.body, bytes):
        return Message(header + b"\r\n" + _judged_body(change.body))
    return Message(header + message.octets[len(message.header) :])


def _field_name(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header field")
    return name.encode()


def _judged_body(body: bytes) -> bytes:
    if any(alone in body.replace(b"\r\n", b"") for alone in (b"\r", b"\n")):
        raise ValueError("the body has a CR or LF alone; its lines end in CRLF")
    if b"\0" in body:
        raise ValueError("the body holds a NUL octet")
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"


def _without(header: bytes, name: bytes) -> bytes:
    return _FIELDS.sub(lambda found: b"" if found[1].lower() == name.lower() else found[0], header)


def _renamed(header: bytes, old: bytes, new: bytes) -> bytes:
    return _FIELDS.sub(lambda found: new + found[2] if found[1].lower() == old.lower() else found[0], header)
