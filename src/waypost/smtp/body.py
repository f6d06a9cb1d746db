"""How a body comes and goes: behind DATA, with its dots stuffed, or in chunks whose octets are counted (BDAT).

Readers take octets in any segmentation and hold back only what is undecided. None of them loops over octets or lines in
Python: bodies are moved by `bytes.find` and `replace`, in pieces as large as they came.

Line ends (RFC 5321 §2.3.8): only CRLF.CRLF ends a body; a CR or LF that stands alone is refused, because two systems
that disagree on it can be made to see two messages where one was sent (SMTP smuggling).

Not here: command lines and replies (framing.py), and what a body says (mail/).
"""

from __future__ import annotations

from enum import Enum, auto
from io import IncrementalNewlineDecoder
from typing import Final

from waypost.smtp.errors import LocalProtocolError

#: One body line with its CRLF. RFC 5321 §4.5.3.1.6 asks for 1000, and much real mail (HTML in one line) breaks that
#: harmlessly: we keep lines as they came. A line beyond this fits no line buffer of any next hop.
BODY_LINE: Final = 64 * 1024

_DOT: Final = b"\r\n."
_END_OF_DATA: Final = b"\r\n.\r\n"
#: What the end of a piece may be the beginning of `_END_OF_DATA` by, longest first.
_UNDECIDED: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")


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

    __slots__ = ("_binary", "_held", "_missing", "ended", "is_last", "rest")

    def __init__(self, limit: int, *, binary: bool) -> None:
        """Raise the fault TOO_LARGE above `limit` octets; 0 sets no limit."""
        super().__init__(limit)
        self._binary = binary
        self._held = b""
        self._missing = 0
        self.ended = False
        self.is_last = False
        self.rest = b""

    def begin(self, size: int, *, last: bool) -> None:
        """A chunk of so many octets is next; one of none has ended with that."""
        self._missing = size
        self.is_last = last
        self.ended = False
        if not size:
            self.take(b"")  # a CR held back is lone now: that is a fault, and nothing to be told

    def take(self, octets: bytes) -> bytes:
        """The body octets that can be told now; once the chunk has `ended`, `rest` holds what came behind it."""
        data, self.rest = octets[: self._missing], octets[self._missing :]
        self._missing -= len(data)
        self.ended = not self._missing
        if self._binary:
            return self._admit(data, BodyFault.NONE)
        data = self._held + data
        ends = self.is_last and self.ended
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
