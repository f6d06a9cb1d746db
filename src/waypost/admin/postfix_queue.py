"""A Postfix queue file, read as postcat(1) reads it: its envelope and its message, whole or not at all.

A file is a row of records: a letter, a length in base 128 (the low part first), so many octets; a pointer goes on
elsewhere. A recipient that was delivered is marked `D` in the place of its `R`. A file is complete once its owner may
execute it. Not here: which files there are, and where the mail goes (moving.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from waypost.admin.foreign import Asked, Foreign, QueueFileError

#: Records one file may have: a pointer that leads back would never end.
_RECORDS: Final = 10_000_000
_LINE: Final = ord("N")
_POINTER: Final = ord("p")
#: Attributes that are of the recipient behind them; and the bits of NOTIFY and RET, as Postfix has them.
_OF_RECIPIENTS: Final = frozenset({"notify_flags", "dsn_orig_rcpt"})
_NOTIFY: Final = {2: "SUCCESS", 4: "FAILURE", 8: "DELAY"}
_RETURN: Final = {"1": "FULL", "2": "HDRS"}


def read(octets: bytes, name: str = "", held: str = "") -> Foreign:
    """The message in the octets of a queue file; `name`: what Postfix calls it. Raises: QueueFileError."""
    found, content = _Envelope(), bytearray()
    is_content = is_whole = False
    for kind, data in _records(octets):
        match chr(kind):
            case "M":
                is_content = True
            case "X":
                is_content = False
            case "N" | "L" if is_content:
                content += data + (b"\n" if kind == _LINE else b"")
            case "E":
                is_whole = True
            case letter if not is_content:
                found.note(letter, _text(data))
            case _:
                pass
    if not is_whole or not found.senders:
        raise QueueFileError("it is not whole: no end of the file, or no sender")
    return found.whole(name, held, bytes(content))


@dataclass(slots=True)
class _Envelope:
    """What the records before the content say. Attributes stand before the recipient they are of, or the sender."""

    senders: list[str] = field(default_factory=list)
    recipients: dict[str, Asked] = field(default_factory=dict)
    received_at: float = 0.0
    said: dict[str, str] = field(default_factory=dict)
    said_of_next: dict[str, str] = field(default_factory=dict)

    def note(self, letter: str, text: str) -> None:
        match letter:
            case "T":
                self.received_at = _seconds(text)
            case "S":
                self.senders.append(text)
            case "A":
                name, _, value = text.partition("=")
                (self.said_of_next if name in _OF_RECIPIENTS else self.said)[name] = value
            case "R" | "D":
                asked = Asked(text, self._notify(), self.said_of_next.get("dsn_orig_rcpt", ""))
                if letter == "R":
                    self.recipients.setdefault(text, asked)
                self.said_of_next.clear()
            case _:
                pass

    def _notify(self) -> str:
        flags = _number(self.said_of_next.get("notify_flags", "0"))
        return "NEVER" if flags & 1 else ",".join(word for bit, word in _NOTIFY.items() if flags & bit)

    def whole(self, name: str, held: str, octets: bytes) -> Foreign:
        return Foreign(
            name,
            self.senders[0],
            tuple(self.recipients.values()),
            octets,
            self.received_at,
            ret=_RETURN.get(self.said.get("ret_flags", ""), ""),
            envelope_id=self.said.get("envelope_id", ""),
            held=held,
        )


def _seconds(text: str) -> float:
    """Of a record with seconds and microseconds."""
    return float(_number(text.split(maxsplit=1)[0] if text.split() else ""))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0


def _records(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """The records in the order they are read, pointers followed; up to the end mark."""
    at = 0
    for _ in range(_RECORDS):
        if at >= len(octets):
            return
        kind = octets[at]
        if not (65 <= kind <= 90 or 97 <= kind <= 122):
            raise QueueFileError(f"octet {at} begins no record")
        length, start = _length(octets, at + 1)
        data = octets[start : start + length]
        if len(data) < length:
            raise QueueFileError(f"the record at octet {at} is cut off")
        at = start + length
        if kind == _POINTER:
            target = data.strip().decode("ascii", "replace")
            if target.isdigit() and int(target) > 0:
                at = int(target)
            continue
        yield kind, data
        if kind == ord("E"):
            return
    raise QueueFileError("its pointers go in circles")


def _length(octets: bytes, at: int) -> tuple[int, int]:
    """A length, and where what it measures begins."""
    length = shift = 0
    while at < len(octets) and shift < 63:
        octet = octets[at]
        at += 1
        length |= (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            return length, at
    raise QueueFileError(f"octet {at} is in no length")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
