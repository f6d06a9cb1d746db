"""The trace of a message's way: writing our Received line (RFC 5321 §4.4), and counting those that others wrote.

Not here: any other header field. We add one line in front and change no octet behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from waypost.mail.envelope import MessageId, Origin, Recipient
from waypost.mail.header import first_field, header_of
from waypost.mail.trace_context import traceparent
from waypost.net.clock import Instant
from waypost.smtp.path import bracketed

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: What a client may call itself in our header: a domain or an address literal. Nothing in it can open a comment, end
#: the line or begin another field, whatever the command parser lets through.
_CLIENT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}|\[[A-Za-z0-9.:]{1,60}\]")

_END: Final = b"\r\n\r\n"
_MESSAGE_ID: Final = b"\r\nmessage-id:"
#: What stands behind it (RFC 5322 §3.6.4), on the next line, where somebody folds there.
_ID: Final = re.compile(rb"\s*<?([^\s<>]{1,998})(?=[\s>])")
_FIELD: Final = b"\r\nreceived:"


def received_line(
    origin: Origin,
    recipients: Sequence[Recipient],
    *,
    hostname: str,
    id: MessageId,  # noqa: A002 - the field's own name for it
    at: Instant,
    priority: int = 0,
) -> bytes:
    """The Received field, folded, with its last CRLF. A recipient is named only where there is no other to betray."""
    client = _client(origin.client_name, origin.client_host)
    version, suite = _suite(origin.tls)
    whose = f"\r\n\tfor {bracketed(recipients[0].forward_path)}" if len(recipients) == 1 else ""
    urgency = f"\r\n\tPRIORITY {priority}" if priority else ""  # RFC 6710 §6
    return (
        f"Received: from {client}\r\n\tby {hostname} with {origin.protocol}{version} id {id}{whose}{suite}{urgency};"
        f"\r\n\t{date(int(at))}\r\n"
    ).encode()


@lru_cache(maxsize=64)  # some versions, some suites
def _suite(tls: str) -> tuple[str, str]:
    """The version as a comment, and RFC 8314 §4.3's clause; both empty in clear."""
    version, _, rest = tls.partition(" ")
    suite = rest.partition(",")[0]
    return (f" ({version})", f"\r\n\ttls {suite}") if version else ("", "")


def protocol(verb: str, *, smtputf8: bool, secured: bool = False, authenticated: bool = False) -> str:
    """The word after "with", for how the client said hello (RFC 3848 §3; RFC 6531 §4.3 for SMTPUTF8)."""
    ending = ("S" if secured else "") + ("A" if authenticated else "")
    match verb:
        case "LHLO":
            return f"UTF8LMTP{ending}" if smtputf8 else f"LMTP{ending}"
        case "EHLO":
            return f"UTF8SMTP{ending}" if smtputf8 else f"ESMTP{ending}"
        case _:
            return "SMTP"


@lru_cache(maxsize=4)
def date(second: int) -> str:
    """A date-time as RFC 5322 §3.3 writes it, in UTC: `Thu, 01 Jan 2026 00:00:00 +0000`. Made once a second."""
    # Not strftime: its names of days and months follow the locale.
    at = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    )


@lru_cache(maxsize=1024)
def _client(name: str, host: str) -> str:
    """`name ([192.0.2.1])`; the address stands for a name that could harm the line (RFC 5321 §4.4 From-domain)."""
    literal = _literal(host)
    if _CLIENT_NAME.fullmatch(name) is None:
        name = literal or "unknown"
    return f"{name} ({literal})" if literal else name


def _literal(host: str) -> str:
    if not host or host.startswith("/"):
        return ""
    address = ip_address(host.partition("%")[0])
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"


#: Fields that say how a message is to be handed on (RFC 8689 §3, RFC 6758 §3), or what it belongs to (W3C).
_TLS_REQUIRED: Final = b"tls-required"
_PRIORITY: Final = b"mt-priority"
_TRACEPARENT: Final = b"traceparent"
_MARKS: Final = tuple(b"\r\n" + name + b":" for name in (_TLS_REQUIRED, _PRIORITY, _TRACEPARENT))
#: Octets of a header in which they are looked for.
_HELD: Final = 64 * 1024
_PRIORITY_VALUE: Final = re.compile(rb"[-+]?[0-9]")


class HeaderScan:
    """Counts Received lines in a message that comes in pieces, cut anywhere; looks at nothing behind the header.

    `message_id`: the Message-ID without its brackets, to find the message by; "" where there is none so far, or where a
    cut goes through it.
    """

    __slots__ = ("_head", "_tail", "ended", "is_marked", "message_id", "received")

    def __init__(self) -> None:
        self._tail = b"\r\n"  # as if a line had ended: so the first field, and an empty header, look like any other
        self._head = b""
        #: Whether `tls_optional`, `priority` and `traceparent` may have something to say; else they need not be asked.
        self.is_marked = False
        self.ended = False
        self.received = 0
        self.message_id = ""

    def feed(self, octets: bytes) -> None:
        """The next octets. Cheap once the header has ended."""
        if self.ended:
            return
        seen = self._tail + octets
        end = seen.find(_END)
        self.ended = end >= 0
        header = seen[: end + 2] if self.ended else seen
        lowered = header.lower()
        self.received += lowered.count(_FIELD)
        at = lowered.find(_MESSAGE_ID)
        if at >= 0 and (found := _ID.match(header, at + len(_MESSAGE_ID))):
            self.message_id = found[1].decode("ascii", "backslashreplace")
        tls_required, priority, traced = _MARKS
        if tls_required in lowered or priority in lowered or traced in lowered:
            self.is_marked = True
        if len(self._head) < _HELD:
            self._head += octets
        if not self.ended:
            # As much as may be the beginning of a word that is looked for; what is whole in it has been counted.
            self._tail = seen[1 - len(tls_required) :]
            self.received -= self._tail.lower().count(_FIELD)

    @property
    def tls_optional(self) -> bool:
        """Whether the header says `TLS-Required: No` (RFC 8689 §3)."""
        return self._first(_TLS_REQUIRED).lower() == b"no"

    @property
    def priority(self) -> int:
        """What the header says in `MT-Priority` (RFC 6758 §3); 0 where it says nothing, or nothing of sense."""
        said = self._first(_PRIORITY).partition(b"(")[0].strip()
        return int(said) if _PRIORITY_VALUE.fullmatch(said) else 0

    @property
    def traceparent(self) -> str:
        """The trace context that the header names; "" where it names none."""
        return traceparent(self._first(_TRACEPARENT).decode("ascii", "replace"))

    def _first(self, name: bytes) -> bytes:
        return first_field(header_of(self._head), name)
