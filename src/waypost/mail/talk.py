"""A dialogue with an SMTP or LMTP server a line and its reply at a time, for who wants an answer and sends no message.

Not here: sending (errand.py), and what the answers mean to who asked.
"""

from __future__ import annotations

from datetime import timedelta

from waypost.net.stream import Fault, Stream
from waypost.smtp.framing import BadReply, Incomplete, ReplyReader
from waypost.smtp.reply import Reply


class TalkError(Exception):
    """The server said nothing, or what is no reply; the text says which."""


class Talk:
    """Our end; each step may take `within`."""

    def __init__(self, stream: Stream, within: timedelta) -> None:
        self._stream = stream
        self._within = within
        self._reader = ReplyReader()

    async def say(self, line: str) -> Reply:
        """The reply to `line`. Raises: TalkError."""
        self._stream.write(f"{line}\r\n".encode())
        await self._stream.flush(self._within)  # a fault shows again at the read
        return await self.hear()

    async def hear(self) -> Reply:
        """The next reply. Raises: TalkError."""
        while True:
            match self._reader.next_reply():
                case Reply() as reply:
                    return reply
                case BadReply() as bad:
                    raise TalkError(f"{bad.detail}: {bad.heard!r}")
                case Incomplete():
                    octets = await self._stream.read(self._within)
                    if isinstance(octets, Fault):
                        raise TalkError(str(octets))
                    self._reader.feed(octets)

    async def leave(self) -> None:
        """Say that no message will come."""
        self._stream.write(b"QUIT\r\n")
        await self._stream.flush(self._within)
