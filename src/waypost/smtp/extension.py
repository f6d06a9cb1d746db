"""EHLO keywords and the parameters they add to MAIL and RCPT.

Sources: SIZE RFC 1870, 8BITMIME RFC 6152, PIPELINING RFC 2920, ENHANCEDSTATUSCODES RFC 2034, SMTPUTF8 RFC 6531,
DSN RFC 3461, STARTTLS RFC 3207, AUTH RFC 4954, REQUIRETLS RFC 8689, CHUNKING and BINARYMIME RFC 3030,
LIMITS RFC 9422, MT-PRIORITY RFC 6710, FUTURERELEASE RFC 4865, DELIVERBY RFC 2852, PRDR draft-hall-prdr-00.

Not here: how text is encoded in them (xtext.py), the commands they stand behind (command.py), and what is on offer
(settings.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, Flag, auto
from functools import lru_cache
from typing import Any, Final

from waypost.smtp.reply import Reply
from waypost.smtp.xtext import decode_utf8_address, decode_xtext, encode_utf8_address, encode_xtext

#: RFC 3461 §4.4 and §4.2: octets of ENVID and ORCPT as they stand in the command.
ENVID_LIMIT: Final = 100
ORCPT_LIMIT: Final = 500
#: RFC 9422 §4: a limit has at most 6 digits, and is not 0.
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,5}")
_PRIORITY: Final = re.compile(r"-?[1-9]|0")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_BY: Final = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_UTC: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
#: RFC 1870 §3: SIZE has at most 20 digits.
SIZE_DIGITS: Final = 20
#: RFC 4954 §3: octets by which AUTH= makes MAIL longer.
SUBMITTER_LIMIT: Final = 500


class BodyType(Enum):
    """What BODY= declares (RFC 6152 §3, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Return(Enum):
    """RET= (RFC 3461 §4.3): how much of the message a failure report carries back."""

    FULL = "FULL"
    HEADERS = "HDRS"
    UNSPECIFIED = ""


class ByMode(Enum):
    """What a client wants where a message is late (RFC 2852 §4): to have it back, or to be told while it goes on."""

    NONE = ""
    NOTIFY = "N"
    RETURN = "R"


@dataclass(frozen=True, slots=True)
class By:
    """BY= (RFC 2852 §4): `seconds` from receipt, of meaning unless `mode` is NONE; `trace`: each relay is told of."""

    seconds: int
    mode: ByMode
    trace: bool = False

    def __str__(self) -> str:
        return f"{self.seconds};{self.mode.value}{'T' if self.trace else ''}"


@lru_cache(maxsize=64)
def by_of(text: str) -> By:
    """What `MailParameters.by` says, which has been read once; mode NONE where it is empty."""
    found = _BY.fullmatch(text)
    return By(int(found[1]), ByMode(found[2].upper()), bool(found[3])) if found else By(0, ByMode.NONE)


class Notify(Flag):
    """NOTIFY= (RFC 3461 §4.1). `NEVER` is no bit at all; what an absent parameter means is `DEFAULT`."""

    NEVER = 0
    SUCCESS = auto()
    FAILURE = auto()
    DELAY = auto()
    UNSPECIFIED = auto()

    @property
    def wants_failure(self) -> bool:
        """Whether a failure is to be reported: asked for, or nothing was asked (RFC 3461 §4.1)."""
        return bool(self & (Notify.FAILURE | Notify.UNSPECIFIED))

    @property
    def wants_delay(self) -> bool:
        """Whether a delay may be reported."""
        return bool(self & (Notify.DELAY | Notify.UNSPECIFIED))

    @property
    def wants_success(self) -> bool:
        """Whether success is to be reported: only where asked."""
        return Notify.SUCCESS in self


@dataclass(frozen=True, slots=True)
class MailParameters:
    """What MAIL carries beside the reverse-path; an absent parameter is its empty value here.

    `size` is the declared size in octets, 0 where none was declared (RFC 1870 §3 treats both alike).
    `envelope_id` is ENVID decoded from xtext (RFC 3461 §4.4). `submitter` is AUTH= decoded from xtext: a mailbox, or
    `<>` where it is not known or not believed (RFC 4954 §5). `priority` is -9 to 9 (RFC 6710 §4). `hold_for` in seconds
    from receipt, `hold_until` in seconds since 1970; one of them at most (RFC 4865 §4). `by`: when it is to have been
    delivered, as BY= has it: `by_of` reads it (RFC 2852 §4). `prdr`: each recipient is answered for itself behind the
    final dot (draft-hall-prdr-00).
    """

    size: int = 0
    body: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    submitter: str = ""
    requiretls: bool = False
    priority: int = 0
    hold_for: int = 0
    hold_until: int = 0
    by: str = ""
    prdr: bool = False

    def as_sent(self, size: int, body: BodyType, by: str, *, prdr: bool) -> MailParameters:
        """The parameters for a peer, with what depends on it; written out, because `replace` costs twenty calls."""
        return MailParameters(
            size,
            body,
            self.smtputf8,
            self.ret,
            self.envelope_id,
            self.submitter,
            self.requiretls,
            self.priority,
            self.hold_for,
            self.hold_until,
            by,
            prdr,
        )


@dataclass(frozen=True, slots=True)
class RcptParameters:
    """What RCPT carries beside the forward-path; `original_recipient` is ORCPT as `type;address`, xtext decoded."""

    notify: Notify = Notify.UNSPECIFIED
    original_recipient: str = ""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a peer offered in its EHLO reply: keyword in upper case → its parameters. HELO offers nothing."""

    offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.offered

    def without(self, keyword: str) -> Extensions:
        """All but one."""
        if keyword not in self.offered:
            return self
        return Extensions({word: parameters for word, parameters in self.offered.items() if word != keyword})

    @property
    def size_limit(self) -> int:
        """The fixed maximum of RFC 1870 §4 in octets; 0 where none is declared."""
        first = (*self.offered.get("SIZE", ()), "")[0]
        return int(first) if first.isascii() and first.isdigit() and len(first) <= 20 else 0

    def limit(self, name: str) -> int:
        """A limit declared by LIMITS (RFC 9422 §4), such as RCPTMAX; 0 where none is."""
        for word in self.offered.get("LIMITS", ()):
            key, _, value = word.partition("=")
            if key.upper() == name and _LIMIT.fullmatch(value):
                return int(value)
        return 0

    @property
    def least_by_time(self) -> int:
        """The shortest time to deliver a message by, in seconds, that is taken where lateness returns it; 0: any."""
        first = (*self.offered.get("DELIVERBY", ()), "")[0]
        return int(first) if _SECONDS.fullmatch(first) else 0

    @property
    def auth_mechanisms(self) -> frozenset[str]:
        """The SASL mechanisms offered, in upper case."""
        return frozenset(name.upper() for name in self.offered.get("AUTH", ()))


# ---- the EHLO reply

_KEYWORD: Final = re.compile(r"[A-Z0-9][A-Z0-9-]*")


@lru_cache(maxsize=128)  # a host says the same each time; bounded, because a host chooses what it says
def read_extensions(reply: Reply) -> Extensions:
    """What an EHLO reply offers (RFC 5321 §4.1.1.1). Lines that are no keyword promise nothing."""
    offered: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        # Servers of before RFC 2554 wrote AUTH=LOGIN; some still write both.
        keyword, *parameters = line.replace("AUTH=", "AUTH ", 1).split() or [""]
        keyword = keyword.upper()
        if _KEYWORD.fullmatch(keyword):
            offered[keyword] = (*offered.get(keyword, ()), *parameters)
    return Extensions(offered)


def extension_lines(extensions: Extensions) -> tuple[str, ...]:
    """The lines of an EHLO reply that offer `extensions`, without the first one, which names the host."""
    return tuple(" ".join((keyword, *parameters)) for keyword, parameters in extensions.offered.items())


# ---- parameters of MAIL and RCPT


class ParameterError(ValueError):
    """A parameter's value is not what its RFC allows, or it stands twice. The client's fault: 501 5.5.4."""


class UnknownParameterError(ParameterError):
    """A parameter that no extension on offer defines. The client's fault: 555 5.5.4 (RFC 5321 §4.1.1.11)."""


#: How one value is read: what it adds to the keyword arguments of MailParameters or RcptParameters.
_Read = Callable[[str], tuple[str, Any]]


def _size(value: str) -> tuple[str, int]:
    if not (value.isascii() and value.isdigit() and len(value) <= SIZE_DIGITS):
        raise ParameterError(f"SIZE is a number of octets of at most {SIZE_DIGITS} digits, not {value!r}")
    return "size", int(value)


def _body(value: str) -> tuple[str, BodyType]:
    try:
        return "body", BodyType(value.upper())
    except ValueError:
        raise ParameterError(f"BODY is 7BIT, 8BITMIME or BINARYMIME, not {value!r}") from None


def _smtputf8(value: str) -> tuple[str, bool]:
    if value:
        raise ParameterError("SMTPUTF8 takes no value")
    return "smtputf8", True


def _prdr(value: str) -> tuple[str, bool]:
    if value:
        raise ParameterError("PRDR takes no value")
    return "prdr", True


def _by(value: str) -> tuple[str, str]:
    by = by_of(value)
    if by.mode is ByMode.NONE:
        raise ParameterError(f"BY is seconds;R or seconds;N, and T behind it for a trace, not {value!r}")
    if by.mode is ByMode.RETURN and by.seconds <= 0:
        raise ParameterError("BY with R needs a time that is not over yet")
    return "by", str(by)


def _requiretls(value: str) -> tuple[str, bool]:
    if value:
        raise ParameterError("REQUIRETLS takes no value")
    return "requiretls", True


def _ret(value: str) -> tuple[str, Return]:
    if value.upper() not in ("FULL", "HDRS"):
        raise ParameterError(f"RET is FULL or HDRS, not {value!r}")
    return "ret", Return(value.upper())


def _envid(value: str) -> tuple[str, str]:
    if not 1 <= len(value) <= ENVID_LIMIT:
        raise ParameterError(f"ENVID has 1 to {ENVID_LIMIT} characters")
    return "envelope_id", _decoded("ENVID", decode_xtext, value)


def _auth(value: str) -> tuple[str, str]:
    if not 1 <= len(value) <= SUBMITTER_LIMIT:
        raise ParameterError(f"AUTH has 1 to {SUBMITTER_LIMIT} characters")
    submitter = _decoded("AUTH", decode_xtext, value)
    if submitter != "<>" and not all(submitter.rpartition("@")):
        raise ParameterError(f"AUTH is <> or a mailbox, not {submitter[:80]!r}")
    return "submitter", submitter


def _priority(value: str) -> tuple[str, int]:
    if not _PRIORITY.fullmatch(value):
        raise ParameterError(f"MT-PRIORITY is a whole number from -9 to 9, not {value!r}")
    return "priority", int(value)


def _hold_for(value: str) -> tuple[str, int]:
    if not _SECONDS.fullmatch(value):
        raise ParameterError(f"HOLDFOR is a number of seconds of at most 9 digits, not {value!r}")
    return "hold_for", int(value)


def _hold_until(value: str) -> tuple[str, int]:
    text = value.upper() if _UTC.fullmatch(value.upper()) else ""
    try:
        return "hold_until", int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise ParameterError(f"HOLDUNTIL is a time such as 2026-01-31T12:00:00Z, not {value!r}") from None


_NOTIFY_WORDS: Final = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


def _notify(value: str) -> tuple[str, Notify]:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return "notify", Notify.NEVER
    if len(set(words)) != len(words) or not _NOTIFY_WORDS.keys() >= set(words):
        raise ParameterError(f"NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY with commas, not {value!r}")
    wanted = Notify.NEVER
    for word in words:
        wanted |= _NOTIFY_WORDS[word]
    return "notify", wanted


def _orcpt(value: str) -> tuple[str, str]:
    kind, semicolon, address = value.partition(";")
    if not (semicolon and address and _KEYWORD.fullmatch(kind.upper())) or len(value) > ORCPT_LIMIT:
        raise ParameterError(f"ORCPT is type;address of at most {ORCPT_LIMIT} characters, not {value[:80]!r}")
    decode = decode_utf8_address if kind.lower() == "utf-8" else decode_xtext
    return "original_recipient", f"{kind};{_decoded('ORCPT', decode, address)}"


def _decoded(keyword: str, decode: Callable[[str], str], value: str) -> str:
    try:
        return decode(value)
    except ValueError as error:
        raise ParameterError(f"{keyword}: {error}") from None


#: Parameter → the EHLO keyword that must be on offer for it, and its reader.
_MAIL: Final[Mapping[str, tuple[str, _Read]]] = {
    "SIZE": ("SIZE", _size),
    "BODY": ("8BITMIME", _body),
    "SMTPUTF8": ("SMTPUTF8", _smtputf8),
    "RET": ("DSN", _ret),
    "ENVID": ("DSN", _envid),
    "AUTH": ("AUTH", _auth),
    "REQUIRETLS": ("REQUIRETLS", _requiretls),
    "MT-PRIORITY": ("MT-PRIORITY", _priority),
    "HOLDFOR": ("FUTURERELEASE", _hold_for),
    "HOLDUNTIL": ("FUTURERELEASE", _hold_until),
    "BY": ("DELIVERBY", _by),
    "PRDR": ("PRDR", _prdr),
}
_RCPT: Final[Mapping[str, tuple[str, _Read]]] = {
    "NOTIFY": ("DSN", _notify),
    "ORCPT": ("DSN", _orcpt),
}
_NO_MAIL_PARAMETERS: Final = MailParameters()
_NO_RCPT_PARAMETERS: Final = RcptParameters()


def parse_mail_parameters(text: str, offered: Extensions) -> MailParameters:
    """What follows the reverse-path in MAIL. Raises: ParameterError, UnknownParameterError, the client's fault."""
    if not text:
        return _NO_MAIL_PARAMETERS
    values = _read(text, _MAIL, offered)
    if "hold_for" in values and "hold_until" in values:
        raise ParameterError("HOLDFOR and HOLDUNTIL exclude each other")
    return MailParameters(**values)


def parse_rcpt_parameters(text: str, offered: Extensions) -> RcptParameters:
    """What follows the forward-path in RCPT. Raises: ParameterError, UnknownParameterError, the client's fault."""
    return RcptParameters(**_read(text, _RCPT, offered)) if text else _NO_RCPT_PARAMETERS


def _read(text: str, known: Mapping[str, tuple[str, _Read]], offered: Extensions) -> dict[str, Any]:
    if text[0] != " ":
        raise ParameterError(f"a space is due between the path and {text!r}")
    values: dict[str, Any] = {}
    for word in filter(None, text.split(" ")):  # a space beyond ASCII parts nothing (RFC 5321 §4.1.2)
        keyword, equals, value = word.partition("=")
        extension, read = known.get(keyword.upper() if keyword.isascii() else "", ("", _smtputf8))
        if extension not in offered:
            raise UnknownParameterError(f"the parameter {keyword!r} is not on offer here")
        if equals and not value:
            raise ParameterError(f"{keyword} has no value behind its equals sign")
        name, meaning = read(value)
        if meaning is BodyType.BINARY_MIME and "BINARYMIME" not in offered:
            raise UnknownParameterError("BODY=BINARYMIME is not on offer here")
        if name in values:
            raise ParameterError(f"{keyword} stands twice")
        values[name] = meaning
    return values


def format_mail_parameters(parameters: MailParameters, offered: Extensions) -> str:
    """The parameters as they stand behind the reverse-path, each with its leading space; only what the peer offers."""
    words, keywords = "", offered.offered
    if parameters.size and "SIZE" in keywords:
        words += f" SIZE={parameters.size}"
    if parameters.body is not BodyType.SEVEN_BIT and parameters.body.value in keywords:
        words += f" BODY={parameters.body.value}"
    if parameters.smtputf8 and "SMTPUTF8" in keywords:
        words += " SMTPUTF8"
    if parameters.requiretls and "REQUIRETLS" in keywords:
        words += " REQUIRETLS"
    if parameters.priority and "MT-PRIORITY" in keywords:
        words += f" MT-PRIORITY={parameters.priority}"
    if parameters.by and "DELIVERBY" in keywords:
        words += f" BY={parameters.by}"
    if parameters.prdr and "PRDR" in keywords:
        words += " PRDR"
    if "DSN" in keywords:
        if parameters.ret is not Return.UNSPECIFIED:
            words += f" RET={parameters.ret.value}"
        if parameters.envelope_id:
            words += f" ENVID={encode_xtext(parameters.envelope_id)}"
    if parameters.submitter and "AUTH" in keywords:
        words += f" AUTH={encode_xtext(parameters.submitter)}"
    return words


def format_rcpt_parameters(parameters: RcptParameters, offered: Extensions) -> str:
    """The parameters as they stand behind the forward-path, each with its leading space; only what the peer offers."""
    if "DSN" not in offered.offered or parameters == _NO_RCPT_PARAMETERS:
        return ""
    words = ""
    if parameters.notify is not Notify.UNSPECIFIED:
        names = [word for word, flag in _NOTIFY_WORDS.items() if parameters.notify & flag]
        words += f" NOTIFY={','.join(names) or 'NEVER'}"
    if parameters.original_recipient:
        kind, _, address = parameters.original_recipient.partition(";")
        encode = encode_utf8_address if kind.lower() == "utf-8" else encode_xtext
        value = f"{kind};{encode(address)}"
        # What came as UTF-8 may be six times as long in ASCII: better the mail without it than neither.
        if len(value) <= ORCPT_LIMIT:
            words += f" ORCPT={value}"
    return words
