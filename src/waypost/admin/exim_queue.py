"""A message in Exim's spool, as Exim reads it: the file NAME-H with envelope and header, NAME-D with the body.

    NAME-H
    login uid gid
    <reverse-path>
    received-at warnings-sent
    -variable value                    some dozens; those of DSN, and that it is frozen, count here
    XX                                 or a tree of the addresses that were delivered to, a node a line
    2                                  recipients, a line each, at the end of which may stand what DSN asked for
    …
    037T To: bob@example.net           the header: a length, a letter (* for what is not sent), the field

What was delivered since a crash stands in NAME-J. Not here: which files there are, and where the mail goes (moving.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from waypost.admin.foreign import Asked, Foreign, QueueFileError
from waypost.smtp.xtext import decode_xtext

#: What a recipient's line may end in (spool_in.c): `errors-to length,parent` where bit 1 is set, before it
#: `orcpt length,flags` where bit 2 is.
_EXTRA: Final = re.compile(rb"#(\d+)$")
_LENGTH: Final = re.compile(rb" ?(\d+),(-?\d+)$")
#: DSN's NOTIFY among Exim's flags of a recipient, and RET among its variables.
_NEVER, _SUCCESS, _FAILURE, _DELAY = 2, 4, 8, 16
_RETURN: Final = {"1": "FULL", "2": "HDRS"}
_FIELD: Final = re.compile(rb"(\d+)(.) ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of the envelope, one after the other."""

    octets: bytes
    at: int = 0

    def take(self) -> tuple[bytes, _Lines]:
        """The next one. Raises: QueueFileError."""
        end = self.octets.find(b"\n", self.at)
        if end < 0:
            raise QueueFileError("the file NAME-H ends within the envelope")
        return self.octets[self.at : end], _Lines(self.octets, end + 1)


def read(name: str, head: bytes, body: bytes, journal: bytes) -> Foreign:
    """The message `name`, out of what its files hold. Raises: QueueFileError."""
    first, lines = _Lines(head).take()
    if first != f"{name}-H".encode() or not body.startswith(f"{name}-D\n".encode()):
        raise QueueFileError("it is not whole, or not Exim's: its files do not begin with their names")
    _, lines = lines.take()
    sender, lines = lines.take()
    times, lines = lines.take()
    variables, lines = _variables(lines)
    if "spool_file_wireformat" in variables:
        raise QueueFileError("its body is kept as it came over the wire (spool_wireformat); let Exim deliver it")
    delivered, lines = _delivered(lines)
    recipients, lines = _recipients(lines)
    done = {address.lower() for address in (*delivered, *journal.splitlines())}
    received_at, warnings = _times(times)
    return Foreign(
        name=name,
        sender=_text(sender.removeprefix(b"<").removesuffix(b">")),
        recipients=tuple(asked for address, asked in recipients if address.lower() not in done),
        octets=b"".join(_header(lines)) + b"\n" + body.partition(b"\n")[2],
        received_at=received_at,
        ret=_RETURN.get(variables.get("dsn_ret", ""), ""),
        envelope_id=_decoded(variables.get("dsn_envid", "")),
        warned=warnings > 0,
        held="it was frozen in Exim" if "frozen" in variables else "",
    )


def _times(line: bytes) -> tuple[float, int]:
    try:
        received_at, warnings = line.split()
        return float(int(received_at)), int(warnings)
    except ValueError:
        raise QueueFileError(f"its fourth line is {_text(line)!r}, and no time with a count") from None


def _variables(lines: _Lines) -> tuple[dict[str, str], _Lines]:
    """Those that stand there, without their dashes; of one twice over, the last."""
    found: dict[str, str] = {}
    while True:
        line, rest = lines.take()
        if not line.startswith(b"-"):
            return found, lines
        name, _, value = _text(line).lstrip("-").partition(" ")
        found[name] = value
        lines = rest


def _delivered(lines: _Lines) -> tuple[list[bytes], _Lines]:
    """A tree in the order of its nodes: two letters, whether a left and a right one follow, and an address."""
    line, lines = lines.take()
    if line == b"XX":
        return [], lines
    found, due = [], 1
    while due:
        if line[:1] not in (b"Y", b"N") or line[1:2] not in (b"Y", b"N"):
            raise QueueFileError(f"{_text(line)!r} is no node of the tree of addresses delivered to")
        found.append(line[3:])
        due += line[:2].count(b"Y") - 1
        if due:
            line, lines = lines.take()
    return found, lines


def _recipients(lines: _Lines) -> tuple[list[tuple[bytes, Asked]], _Lines]:
    count, lines = lines.take()
    if not count.isdigit():
        raise QueueFileError(f"{_text(count)!r} is no number of recipients")
    found = []
    for _ in range(int(count)):
        line, lines = lines.take()
        found.append(_recipient(line))
    blank, lines = lines.take()
    if blank:
        raise QueueFileError("no empty line behind the recipients")
    return found, lines


def _recipient(line: bytes) -> tuple[bytes, Asked]:
    """The address, and what was asked for; read from the end, for an address may have spaces."""
    extra = _EXTRA.search(line)
    if extra is None:
        address = re.sub(rb" \d+(,\d+,\d+)?$", b"", line)  # Exim 3 and the first of 4: a parent's number
        return address, Asked(_text(address))
    kinds, rest = int(extra[1]), line[: extra.start()]
    if kinds & 1:
        rest, _, _ = _taken(rest)
    orcpt, flags = b"", 0
    if kinds & 2:
        rest, orcpt, flags = _taken(rest)
    return rest, Asked(_text(rest), _notify(flags), _decoded(_text(orcpt)))


def _taken(line: bytes) -> tuple[bytes, bytes, int]:
    """What stands before the last text, the text, and the number behind its length."""
    found = _LENGTH.search(line)
    if found is None or int(found[1]) > found.start():
        raise QueueFileError(f"{_text(line)!r} is no recipient")
    length, rest = int(found[1]), line[: found.start()]
    return rest[: len(rest) - length].rstrip(b" "), rest[len(rest) - length :], int(found[2])


def _notify(flags: int) -> str:
    """As NOTIFY says it; "" where nothing was said."""
    if flags & _NEVER:
        return "NEVER"
    words = {_SUCCESS: "SUCCESS", _FAILURE: "FAILURE", _DELAY: "DELAY"}
    return ",".join(word for bit, word in words.items() if flags & bit)


def _header(lines: _Lines) -> Iterator[bytes]:
    """The fields that are sent, each with its last line's end."""
    octets, at = lines.octets, lines.at
    while at < len(octets):
        found = _FIELD.match(octets, at)
        if found is None:
            raise QueueFileError(f"octet {at} of NAME-H begins no header field")
        start, at = found.end(), found.end() + int(found[1])
        if at > len(octets):
            raise QueueFileError("the last header field is cut off")
        if found[2] != b"*":
            yield octets[start:at]


def _decoded(xtext: str) -> str:
    """What was said in xtext (RFC 3461 §4), as Exim keeps it; what is none counts as it is."""
    try:
        return decode_xtext(xtext)
    except ValueError:
        return xtext


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
