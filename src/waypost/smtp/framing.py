"""How octets become lines, replies and bodies, and back: all framing, and every limit with its origin.

Readers take octets in any segmentation and hold back only what is undecided. None of them loops over octets or body
lines in Python: bodies are moved by `bytes.find` and `replace`, in pieces as large as they came.

Line ends (RFC 5321 §2.3.8): only CRLF ends a command, and only CRLF.CRLF ends a body; a CR or LF that stands alone is
refused, because two systems that disagree on it can be made to see two messages where one was sent (SMTP smuggling).
A reply may end in a bare LF: there it opens no such hole, but it is noted.

Not here: what a line or a reply means (command.py, server.py, client.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from io import IncrementalNewlineDecoder
from typing import Final, TypeAlias

from waypost.smtp.errors import LocalProtocolError
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
#: One body line with its CRLF. RFC 5321 §4.5.3.1.6 asks for 1000, and much real mail (HTML in one line) breaks that
#: harmlessly: we keep lines as they came. A line beyond this fits no line buffer of any next hop.
BODY_LINE: Final = 64 * 1024
#: Characters of a peer's words that a log line or a fault quotes.
EXCERPT: Final = 120

_DOT: Final = b"\r\n."
_END_OF_DATA: Final = b"\r\n.\r\n"
#: What the end of a piece may be the beginning of `_END_OF_DATA` by, longest first.
_UNDECIDED: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
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
        else:
            octets = self.take_rest()
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


# ---- bodies


def has_lone_newline(octets: bytes) -> bool:
    """Whether a CR or LF in them is not part of CRLF. The decoder tells which line ends it saw, in one fast pass."""
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(octets.decode("latin-1"), final=True)
    return seen.newlines not in (None, "\r\n")  # None: it saw none


class BodyFault(Enum):
    """Why a body cannot be taken, though it was read to its true end so that the dialogue stays in step."""

    NONE = auto()
    BARE_NEWLINE = auto()  # a CR or LF not part of CRLF: SMTP smuggling
    TOO_LARGE = auto()  # beyond the session's size limit; octets past it were thrown away
    LINE_TOO_LONG = auto()  # beyond BODY_LINE
    NUL = auto()  # RFC 5321 §2.3.8 leaves no room for it, and C programs down the road would stop at it


class _Gauge:
    """What is judged of every body, piece by piece; a piece of text never ends between CR and LF.

    After the first fault nothing more is handed on, but reading goes on to the true end.
    """

    __slots__ = ("_limit", "_line", "fault", "size")

    def __init__(self, limit: int) -> None:
        """Raise the fault TOO_LARGE above `limit` octets; 0 sets no limit."""
        self.size = 0
        self.fault = BodyFault.NONE
        self._line = 0
        self._limit = limit

    def _admit(self, piece: bytes, fault: BodyFault) -> bytes:
        self.size += len(piece)
        if fault is BodyFault.NONE and self._limit and self.size > self._limit:
            fault = BodyFault.TOO_LARGE
        if self.fault is BodyFault.NONE:
            self.fault = fault
        return b"" if self.fault is not BodyFault.NONE else piece

    def _judge(self, piece: bytes) -> BodyFault:
        if has_lone_newline(piece):  # a piece never ends between CR and LF: a last CR is held back
            return BodyFault.BARE_NEWLINE
        if b"\0" in piece:
            return BodyFault.NUL
        return BodyFault.LINE_TOO_LONG if self._has_long_line(piece) else BodyFault.NONE

    def _has_long_line(self, piece: bytes) -> bool:
        """Whether a line passes BODY_LINE, in one look a BODY_LINE of octets."""
        begin = -self._line
        while len(piece) - begin > BODY_LINE:
            end = piece.rfind(b"\n", max(begin, 0), begin + BODY_LINE)
            if end < 0:
                return True
            begin = end + 1
        last = piece.rfind(b"\n", max(begin, 0))
        self._line = len(piece) - (last + 1 if last >= 0 else begin)
        return False


class BodyReader(_Gauge):
    """One body, from behind the CRLF of DATA to its final dot (RFC 5321 §4.1.1.4), dot-stuffing removed (§4.5.2).

    Held back between two pieces is only what may turn out to be the final dot: at most four octets.
    """

    __slots__ = ("_held", "_skip", "ended", "rest")

    def __init__(self, limit: int) -> None:
        """Raise the fault TOO_LARGE above `limit` octets; 0 sets no limit."""
        super().__init__(limit)
        self.ended = False
        self.rest = b""
        # The CRLF of the DATA command stands before the body: a dot right behind it is a dot at a line's beginning.
        self._held = b"\r\n"
        self._skip = 2

    def take(self, octets: bytes) -> bytes:
        """The body octets that can be told now; once `ended`, `rest` holds what came behind the final dot."""
        data = self._held + octets
        # One search, where as a rule the first line that begins with a dot is the last one.
        dot = data.find(_DOT)
        end = data.find(_END_OF_DATA, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self.rest = data[end + 5 :]
            piece = data[: end + 2]
        else:
            self._held = next((tail for tail in _UNDECIDED if data.endswith(tail)), b"")
            piece = data[: len(data) - len(self._held)]
        return self._pass_on(piece, stuffed=0 <= dot < len(piece) - 2) if piece else b""

    def _pass_on(self, piece: bytes, *, stuffed: bool) -> bytes:
        fault = self._judge(piece)
        if stuffed:
            piece = piece.replace(_DOT, b"\r\n")
        if self._skip:
            piece = piece[self._skip :]
            self._skip = 0
        return self._admit(piece, fault)


class ChunkReader(_Gauge):
    """One body in chunks whose octets are counted (RFC 3030 §2): nothing is looked for in them, nor can be hidden.

    Text has to keep the rules it has under DATA, for the next hop may know no other way; a `binary` body
    (BODY=BINARYMIME) has none. A CRLF may be cut by the end of a chunk: a CR in that place is held back.
    """

    __slots__ = ("_binary", "_held", "is_last", "missing", "rest")

    def __init__(self, limit: int, *, binary: bool) -> None:
        """Raise the fault TOO_LARGE above `limit` octets; 0 sets no limit."""
        super().__init__(limit)
        self._binary = binary
        self._held = b""
        self.missing = 0
        self.is_last = False
        self.rest = b""

    def begin(self, size: int, *, last: bool) -> None:
        """A chunk of so many octets is next."""
        self.missing = size
        self.is_last = last

    def take(self, octets: bytes) -> bytes:
        """The body octets that can be told now; `rest` holds what came behind the chunk, once none is `missing`."""
        data, self.rest = octets[: self.missing], octets[self.missing :]
        self.missing -= len(data)
        if self._binary:
            return self._admit(data, BodyFault.NONE)
        data = self._held + data
        ends = self.is_last and not self.missing
        self._held = b"\r" if data.endswith(b"\r") and not ends else b""
        piece = data[: len(data) - len(self._held)]
        return self._admit(piece, self._judge(piece)) if piece else b""


class ChunkSender:
    """The sending half: one chunk, the last, of `size` octets (RFC 3030 §2).

    Its last octet is held back until `finish`: what stands for the final dot is the end of the count.
    """

    __slots__ = ("_head", "_held", "_missing")

    def __init__(self, size: int) -> None:
        self._head = f"BDAT {size} LAST\r\n".encode()
        self._missing = size
        self._held = b""

    def stuff(self, octets: bytes) -> bytes:
        """`octets` ready to be written. Raises: LocalProtocolError, where they are more than was said."""
        if not octets:
            return b""
        self._missing -= len(octets)
        if self._missing < 0:
            raise LocalProtocolError("a body has more octets than its chunk was said to have; it may not go")
        ready = self._head + self._held + octets
        self._head = b""
        self._held = ready[-1:]
        return ready[:-1]

    def finish(self) -> bytes:
        """The end of the chunk. Raises: LocalProtocolError, where octets are missing."""
        if self._missing:
            raise LocalProtocolError(f"a body lacks {self._missing} octets of the chunk it was said to be")
        return self._head + self._held


class DotStuffer:
    """The sending half: a dot is put before each line's leading dot (RFC 5321 §4.5.2); pieces may be cut anywhere.

    What it is given must hold CRLF line ends only. A bare CR or LF is refused, so that no body can leave us that the
    next hop might read as two messages.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the CRLF of the DATA command

    def stuff(self, octets: bytes) -> bytes:
        """`octets` ready to be written. Raises: LocalProtocolError, where a CR or LF stands alone."""
        if not octets:
            return b""
        tail = self._tail
        self._check(octets, after_cr=tail[-1:] == b"\r")
        stuffed = octets.replace(b"\r\n.", b"\r\n..")
        if tail == b"\r\n" and octets[0] == 0x2E:
            stuffed = b"." + stuffed
        elif tail[-1:] == b"\r" and octets.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = (tail + octets[-2:])[-2:]
        return stuffed

    @staticmethod
    def _check(octets: bytes, *, after_cr: bool) -> None:
        # A piece may begin or end inside a CRLF.
        begins_inside = after_cr and octets[:1] == b"\n"
        if begins_inside:
            octets = octets[1:]
        if octets[-1:] == b"\r":
            octets = octets[:-1]
        if has_lone_newline(octets) or (after_cr and not begins_inside):
            raise LocalProtocolError("a body to be sent holds a CR or LF that is not part of CRLF; it may not go")

    def finish(self) -> bytes:
        """The final dot, after a CRLF where the body lacks one."""
        if self._tail == b"\r\n":
            return b".\r\n"
        return b"\n.\r\n" if self._tail[-1:] == b"\r" else b"\r\n.\r\n"


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
