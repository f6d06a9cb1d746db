"""What a message that is submitted may lack, and gets here: Date, Message-ID and Sender (RFC 6409 §8.1 to §8.3).

Only a submission server may add them, and only where they are missing: what is relayed is passed on as it came.
"""

from __future__ import annotations

import re
from typing import Final

from waypost.mail.envelope import MessageId
from waypost.mail.header import ends_header, header_of
from waypost.mail.trace import date
from waypost.net.clock import Instant
from waypost.receive.authorship import AddSender, Author, Authorship, Good, NoAuthor, judge_author

#: Octets of a header that are held back to look for them; one that is longer is taken for complete.
HELD: Final = 64 * 1024
_DATE: Final = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)


NOBODY: Final = NoAuthor()


class Completion:
    """One message's header, held back until it is whole."""

    __slots__ = ("_at", "_author", "_done", "_held", "_message_id", "authorship")

    def __init__(
        self,
        id: MessageId,  # noqa: A002 - the field's own name for it
        hostname: str,
        at: Instant,
        author: Author | NoAuthor = NOBODY,
    ) -> None:
        self._author = author
        #: What became of its author's fields, once the header is whole: a Reply refuses the message.
        self.authorship: Authorship = Good()
        self._message_id = f"<{id}@{hostname}>"
        self._at = at
        self._held = b""
        self._done = False

    def feed(self, octets: bytes) -> bytes:
        """The next octets of the message, with what was missing before them; none while the header goes on."""
        if self._done:
            return octets
        self._held += octets
        return self.finish() if ends_header(self._held) or len(self._held) > HELD else b""

    def finish(self) -> bytes:
        """What is still held back, at the end of the message."""
        if self._done:
            return b""
        self._done = True
        header, whole = header_of(self._held), len(self._held) <= HELD
        self.authorship = judge_author(header, self._author, whole=whole)
        sender = self.authorship.field if isinstance(self.authorship, AddSender) else b""
        return sender + (self._missing(header) if whole else b"") + self._held

    def _missing(self, header: bytes) -> bytes:
        lines = b""
        if not _DATE.search(header):
            lines += f"Date: {date(int(self._at))}\r\n".encode()
        if not _MESSAGE_ID.search(header):
            lines += f"Message-ID: {self._message_id}\r\n".encode()
        return lines
