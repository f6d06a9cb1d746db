"""How octets become command lines and replies, and every limit on them with its origin.

Readers take octets in any segmentation and hold back only what is undecided.

Line ends (RFC 5321 §2.3.8): only CRLF ends a command; one that ends in LF alone, or holds a CR, is refused. A reply may
end in a bare LF: there it opens no hole, but it is noted.

Not here: bodies (body.py), and what a line or a reply means (command.py, server.py, client.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from waypost.smtp.reply import Reply

# ---- limits, in octets unless said otherwise

#: One command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512, and each extension on offer for more: SIZE 26
#: (RFC 1870 §3), BODY 17 (RFC 6152 §2), SMTPUTF8 10 (RFC 6531 §3.1), RET and ENVID 107, NOTIFY and ORCPT 528
#: (RFC 3461 §4). They sum up to 1200; the next power of two leaves room for sloppy spacing.
COMMAND_LINE: Final = 2048
#: One line of an AUTH exchange, and AUTH with its initial response: RFC 4954 §4 takes 12,288 octets of base64 to be
#: enough for any mechanism; the command itself, a mechanism's name and CRLF stand beside them.
AUTH_LINE: Final = 12_288 + 64
#: What a client may send without a line end before it is cut off: no client of good faith is 32 times over.
COMMAND_FLOOD: Final = 64 * 1024
#: One reply line. RFC 5321 §4.5.3.1.5 asks for 512; real hosts explain themselves at more length.
REPLY_LINE: Final = 4096
#: One reply, all its lines.
REPLY_OCTETS: Final = 64 * 1024
#: Lines of one reply: an EHLO reply has some 20; one without end must not hold us for ever.
REPLY_LINES: Final = 256
#: Characters of a peer's words that a log line or a fault quotes.
EXCERPT: Final = 120

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Incomplete(Enum):
    """What came so far tells nothing yet."""

    INCOMPLETE = auto()


INCOMPLETE: Final = Incomplete.INCOMPLETE


def excerpt(octets: bytes) -> str:
    """The beginning of `octets` as one printable line."""
    text = repr(octets[:EXCERPT])[2:-1]
    return text + "…" if len(octets) > EXCERPT else text


# ---- command lines


class LineFault(Enum):
    """Why what ended in LF is no command line."""

    OVER_LONG = auto()  # read to its end and thrown away; the session can go on
    FLOOD = auto()  # beyond COMMAND_FLOOD: the session is over
    BARE_NEWLINE = auto()  # ended by LF alone, or with a CR inside
    CONTROL = auto()  # NUL or another control character
    NOT_UTF8 = auto()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be a command, and an excerpt of it for the log."""

    fault: LineFault
    excerpt: str


class CommandReader:
    """Octets in, command lines out; `take_rest` hands the octets behind a line to whoever reads on from there."""

    __slots__ = ("_at", "_beginning", "_discarded", "_octets", "limit", "pending")

    def __init__(self) -> None:
        self.limit = COMMAND_LINE  # octets of a line
        self.pending = False  # whether octets wait that no line was made of yet
        self._octets = b""
        self._at = 0
        self._discarded = 0  # octets of an over-long line that were thrown away so far
        self._beginning = b""  # its first octets, for the log

    def feed(self, octets: bytes) -> None:
        """Take what was read."""
        self._octets = self._octets[self._at :] + octets if self._octets else octets
        self._at = 0
        self.pending = self._octets != b""

    def starts_with(self, prefix: bytes) -> bool:
        """Whether the waiting octets begin so."""
        return self._octets.startswith(prefix, self._at)

    def take_rest(self) -> bytes:
        """All waiting octets; the reader is empty after it."""
        rest = self._octets[self._at :]
        self._octets = b""
        self._at = 0
        self.pending = False
        return rest

    def next_line(self) -> str | BadLine | Incomplete:
        """The next line without its CRLF."""
        octets, begin = self._octets, self._at
        end = octets.find(b"\n", begin) + 1
        if end == 0:
            return self._wait()
        if end < len(octets):
            octets = octets[begin:end]
            self._at = end
        else:  # as `take_rest` does: a client that waits for each reply sends line by line
            octets = octets[begin:]
            self._octets = b""
            self._at = 0
            self.pending = False
        if self._discarded or len(octets) > self.limit:
            return self._over_long(octets)
        return _command_text(octets)

    def _over_long(self, line: bytes) -> BadLine:
        length = len(line) + self._discarded
        beginning = self._beginning if self._discarded else line
        self._discarded = 0
        return BadLine(LineFault.FLOOD if length > COMMAND_FLOOD else LineFault.OVER_LONG, excerpt(beginning))

    def _wait(self) -> BadLine | Incomplete:
        # An over-long line is not gathered: only its length is, until its end comes.
        waiting = len(self._octets) - self._at
        if self._discarded + waiting <= self.limit:
            return INCOMPLETE
        rest = self.take_rest()
        if not self._discarded:
            self._beginning = rest[: EXCERPT + 1]
        self._discarded += waiting
        return BadLine(LineFault.FLOOD, excerpt(self._beginning)) if self._discarded > COMMAND_FLOOD else INCOMPLETE


def _command_text(line: bytes) -> str | BadLine:
    octets, _, end = line.partition(b"\r")
    if end != b"\n":
        return BadLine(LineFault.BARE_NEWLINE, excerpt(line))
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return BadLine(LineFault.NOT_UTF8, excerpt(line))
    if not text.isprintable() and _CONTROLS.search(text):
        return BadLine(LineFault.CONTROL, excerpt(line))
    return text


# ---- replies


@dataclass(frozen=True, slots=True)
class BadReply:
    """What came is no reply: `detail` says why, `heard` is an excerpt."""

    detail: str
    heard: str


ReplyRead: TypeAlias = Reply | BadReply | Incomplete


class ReplyReader:
    """Octets in, replies out (RFC 5321 §4.2). After a BadReply it is of no more use: the stream is out of step."""

    __slots__ = ("_at", "_code", "_lines", "_octets", "_size", "bare_newline")

    def __init__(self) -> None:
        self.bare_newline = False  # whether a line has ever ended in LF alone
        self._octets = b""
        self._at = 0
        self._code = 0  # of the multi-line reply being read, 0 between replies
        self._lines: list[str] = []
        self._size = 0

    def feed(self, octets: bytes) -> None:
        """Take what was read."""
        self._octets = self._octets[self._at :] + octets if self._octets else octets
        self._at = 0

    @property
    def pending(self) -> bool:
        """Whether part of a reply, or of several, has come and was not given out."""
        return self._at < len(self._octets) or self._code != 0

    def next_reply(self) -> ReplyRead:
        """The next whole reply."""
        while True:
            end = self._octets.find(b"\n", self._at)
            if end < 0:
                return self._wait()
            line = self._octets[self._at : end]
            self._at = end + 1
            if line[-1:] == b"\r":
                line = line[:-1]
            else:
                self.bare_newline = True
            read = self._take_line(line)
            if read is not INCOMPLETE:
                return read

    def _wait(self) -> BadReply | Incomplete:
        if len(self._octets) - self._at > REPLY_LINE:
            return BadReply(f"a reply line of more than {REPLY_LINE} octets", excerpt(self._octets[self._at :]))
        return INCOMPLETE

    def _take_line(self, line: bytes) -> ReplyRead:
        digits, length = line[:3], len(line)
        code = int(digits) if length >= 3 and digits.isdigit() else 0
        separator = line[3:4]
        if not 200 <= code <= 599 or separator not in (b" ", b"-", b""):
            return BadReply("not a reply: a line begins with three digits from 200 to 599 and a space", excerpt(line))
        if self._code not in (0, code):
            return BadReply(f"one reply with two codes, {self._code} and {code}", excerpt(line))
        self._size += length
        text = _reply_text(line[4:])
        if length > REPLY_LINE or self._size > REPLY_OCTETS or len(self._lines) >= REPLY_LINES:
            return BadReply(f"a reply of more than {REPLY_LINES} lines or {REPLY_OCTETS} octets", excerpt(line))
        if separator == b"-":
            self._code = code
            self._lines.append(text)
            return INCOMPLETE
        reply = Reply(code, (*self._lines, text))
        self._code = 0
        self._size = 0
        if self._lines:
            self._lines = []
        return reply


def _reply_text(octets: bytes) -> str:
    """The text of a reply line, with what cannot stand in a log replaced by U+FFFD."""
    text = octets.decode("utf-8", "replace")
    return text if text.isprintable() else _CONTROLS.sub("\ufffd", text)
