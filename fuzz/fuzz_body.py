"""Bodies: read in pieces as read whole, as a model of ten lines has it; and what is sent is read back the same."""

from __future__ import annotations

import re

from fuzz.targets import head, segments
from waypost.smtp.body import BODY_LINE, BodyFault, BodyReader, DotStuffer
from waypost.smtp.errors import LocalProtocolError

_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def one(octets: bytes) -> None:
    """Octet 0: segments; the rest is a body, or what shall become one."""
    (size,), speech = head(octets, 1)
    whole, _ = _read(speech, 0)
    cut, body = _read(speech, size)
    assert (cut.ended, cut.rest if cut.ended else b"") == (whole.ended, whole.rest if whole.ended else b"")
    if whole.ended:
        _compare(speech, cut, body)
        assert (cut.fault, cut.size) == (whole.fault, whole.size) or whole.fault is not BodyFault.NONE
    _send(speech, size)


def _read(speech: bytes, size: int) -> tuple[BodyReader, bytes]:
    reader, body, rest = BodyReader(0), b"", b""
    for piece in segments(speech, size):
        if reader.ended:
            rest += piece
        else:
            body += reader.take(piece)
            rest = reader.rest
    reader.rest = rest
    return reader, body


def _compare(speech: bytes, reader: BodyReader, body: bytes) -> None:
    text, _, rest = (b"\r\n" + speech).partition(b"\r\n.\r\n")
    assert reader.rest == rest
    text += b"\r\n"
    faulty = bool(_LONE.search(text)) or b"\0" in text or max(map(len, text.split(b"\n"))) >= BODY_LINE
    assert (reader.fault is not BodyFault.NONE) == faulty, reader.fault
    if not faulty:
        assert body == text.replace(b"\r\n.", b"\r\n")[2:]


def _send(text: bytes, size: int) -> None:
    stuffer = DotStuffer()
    try:
        wire = b"".join(stuffer.stuff(piece) for piece in segments(text, size)) + stuffer.finish()
    except LocalProtocolError:
        assert _LONE.search(text)
        return
    assert not _LONE.search(text) or text.endswith(b"\r")
    reader = BodyReader(0)
    body = reader.take(wire)
    assert reader.ended
    assert reader.rest == b""
    if reader.fault is BodyFault.NONE:
        assert body == (text if text.endswith(b"\r\n") or not text else text.removesuffix(b"\r") + b"\r\n")
