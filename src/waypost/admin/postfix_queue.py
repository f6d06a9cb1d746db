"""A Postfix queue file, read as postcat(1) reads it: its envelope and its message, whole or not at all.

A file is a row of records: a letter, a length in base 128 (the low part first), so many octets; a pointer goes on
elsewhere. A recipient that was delivered is marked `D` in the place of its `R`. A file is complete once its owner may
execute it. Not here: which files there are, and where the mail goes (moving.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: Records one file may have: a pointer that leads back would never end.
_RECORDS: Final = 10_000_000
_LINE: Final = ord("N")
_POINTER: Final = ord("p")


class QueueFileError(ValueError):
    """The file is no queue file, or not a whole one; the text says where."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits in Postfix. `recipients`: those that are still to be delivered to; may be none."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes  # lines end in LF


def read(octets: bytes) -> Queued:
    """The message in the octets of a queue file. Raises: QueueFileError."""
    senders: list[str] = []
    recipients: list[str] = []
    content = bytearray()
    is_content = is_whole = False
    for kind, data in _records(octets):
        match chr(kind):
            case "S":
                senders.append(_text(data))
            case "R" if not is_content:
                recipients.append(_text(data))
            case "M":
                is_content = True
            case "X":
                is_content = False
            case "N" | "L" if is_content:
                content += data + (b"\n" if kind == _LINE else b"")
            case "E":
                is_whole = True
            case _:
                pass
    if not is_whole or not senders:
        raise QueueFileError("it is not whole: no end of the file, or no sender")
    return Queued(senders[0], tuple(dict.fromkeys(recipients)), bytes(content))


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
