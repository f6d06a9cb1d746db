"""A message as programs and mailboxes of this machine take it: two trace lines before it, and LF for CRLF.

Return-Path (RFC 5321 §4.4) and Delivered-To, which tells for whom this copy is. Not here: where the octets go
(maildir.py, pipe.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from waypost.mail.envelope import Octets, QueuedMessage, QueuedRecipient
from waypost.smtp.path import bracketed

#: Octets gathered before they are handed on: nearly every message is one piece.
PIECE: Final = 1024 * 1024


def trace(message: QueuedMessage, recipient: QueuedRecipient) -> bytes:
    """The two lines."""
    delivered_to = bracketed(recipient.forward_path)[1:-1]
    return f"Return-Path: {bracketed(message.reverse_path)}\nDelivered-To: {delivered_to}\n".encode(
        "utf-8", "surrogateescape"
    )


async def with_local_line_ends(first: bytes, octets: Octets) -> AsyncIterator[bytes]:
    """`first`, then the message with LF for CRLF, in pieces of some PIECE octets. Raises: StorageError."""
    gathered, size, carry = [first], len(first), b""
    async for chunk in octets:
        whole = carry + chunk
        carry = b"\r" if whole.endswith(b"\r") else b""
        gathered.append((whole[:-1] if carry else whole).replace(b"\r\n", b"\n"))
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join([*gathered, carry])
