"""Replies: the three digits, the enhanced status code and the text (RFC 5321 §4.2, RFC 3463, RFC 2034).

Not here: reading them off the wire (framing.py), and what they mean for a message (mail/outcome.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?= |$)")


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """`class.subject.detail` of RFC 3463 §2; the class is 2, 4 or 5."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> EnhancedStatus:
        """The status that `text` begins with. Raises: ValueError, where it begins with none."""
        found = _ENHANCED.match(text)
        if found is None:
            raise ValueError(f"no enhanced status code (such as 5.7.1) at the start of {text!r}")
        return cls(int(found[1]), int(found[2]), int(found[3]))

    def as_transient(self) -> EnhancedStatus:
        """The same subject and detail, said to pass: 5.7.1 becomes 4.7.1."""
        return EnhancedStatus(4, self.subject, self.detail)

    def as_permanent(self) -> EnhancedStatus:
        """The same subject and detail, said to stay: 4.4.7 becomes 5.4.7."""
        return EnhancedStatus(5, self.subject, self.detail)


@dataclass(frozen=True)  # no slots: they would cost each reply an assignment of the empty `_octets`
class Reply:
    """One SMTP reply; `code` is 200 to 599, `lines` holds one text a line, without code, separator or CRLF."""

    code: int
    lines: tuple[str, ...]
    #: What `encode` made: what a server says is, but for one reply a message, one of a few dozen constants.
    _octets: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"a reply code is 200 to 599 (RFC 5321 §4.2), not {self.code}")

    @classmethod
    def of(cls, code: int, status: str, *lines: str) -> Reply:
        """A reply of ours that carries an enhanced status code on every line (RFC 2034 §4)."""
        return cls(code, tuple(f"{status} {line}" for line in lines))

    @property
    def status(self) -> EnhancedStatus:
        """The enhanced status code the text carries; where it carries none of the code's class, `class.0.0`."""
        kind = self.code // 100
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        if found is None or int(found[1]) != kind:
            return EnhancedStatus(4 if kind == 3 else kind, 0, 0)
        return EnhancedStatus(kind, int(found[2]), int(found[3]))

    @property
    def is_positive(self) -> bool:
        """2yz: done as asked (RFC 5321 §4.2.1; only the first digit is read, §4.3.2)."""
        return self.code // 100 == 2

    @property
    def is_intermediate(self) -> bool:
        """3yz: go on."""
        return self.code // 100 == 3

    @property
    def is_transient(self) -> bool:
        """4yz: not now."""
        return self.code // 100 == 4

    @property
    def is_permanent(self) -> bool:
        """5yz: not so."""
        return self.code // 100 == 5

    def encode(self) -> bytes:
        """The octets on the wire, CRLF and all."""
        if not self._octets:
            *first, last = self.lines or ("",)
            text = "".join([f"{self.code}-{line}\r\n" for line in first]) + f"{self.code} {last}\r\n"
            object.__setattr__(self, "_octets", text.encode("utf-8", "surrogateescape"))
        return self._octets

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}".rstrip()
