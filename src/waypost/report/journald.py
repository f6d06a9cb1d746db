"""The log in systemd's journal, by its own protocol: each event an entry with fields of its own, to be searched by.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: a datagram an entry, a line a field, and a value with a newline in it by
its length. `MESSAGE` is the event with its fields, as a person reads it; every field is there besides as `WAYPOST_…`:
`journalctl WAYPOST_ID=1dvq3kbaxm00g` is a message's whole life. Not here: which events there are (journal.py).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from waypost.mail.explain import plain
from waypost.report.log import EventDict

#: Where the journal listens.
JOURNAL: Final = Path("/run/systemd/journal/socket")
#: Octets of a value; an entry has to fit into a datagram.
WIDTH: Final = 16 * 1024
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NONE: Final[Mapping[str, object]] = {}


class Entry:
    """Renders an event as a datagram. `always`: what every entry says besides."""

    def __init__(self, always: Mapping[str, object] = _NONE) -> None:
        self._always = always

    def __call__(self, logger: object, level: str, fields: EventDict) -> bytes:
        event = str(fields.pop("event", ""))
        if "exc_info" in fields:
            structlog.processors.format_exc_info(logger, level, fields)
        told = {key: str(value) for key, value in (*self._always.items(), *fields.items())}
        said = " ".join([event, *(f"{key}={plain(value)}" for key, value in told.items() if key != "exception")])
        entry = {
            "MESSAGE": said,
            "PRIORITY": str(_PRIORITIES.get(level, 6)),
            "SYSLOG_IDENTIFIER": "waypost",
            "WAYPOST_EVENT": event,
            **{f"WAYPOST_{_name(key)}": value for key, value in told.items()},
        }
        return b"".join(_field(name, value) for name, value in entry.items())


def _name(key: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in key.upper())


def _field(name: str, value: str) -> bytes:
    octets = value.encode("utf-8", "backslashreplace")[:WIDTH]
    if b"\n" not in octets:
        return name.encode() + b"=" + octets + b"\n"
    return name.encode() + b"\n" + len(octets).to_bytes(8, "little") + octets + b"\n"


class ToJournal:
    """Hands entries over, each in a datagram. What the journal does not take is lost, counted, and owned up to."""

    def __init__(self, place: Path = JOURNAL) -> None:
        self._place = str(place)
        self.lost = 0  # entries

    def write(self, lines: Sequence[bytes]) -> None:
        """Hand them over, in this order."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            for line in lines:
                if not self._hand_over(way, line):
                    self.lost += 1
            confession = Entry()(self, "warning", {"event": "log lines lost", "lines": self.lost})
            if self.lost and self._hand_over(way, confession):
                self.lost = 0

    def _hand_over(self, way: socket.socket, entry: bytes) -> bool:
        with suppress(OSError):
            way.sendto(entry, self._place)
            return True
        return False
