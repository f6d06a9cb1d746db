"""Commands: a frozen class for each verb that carries something, and the parsers that read them off a line.

`Hello`, `Auth`, `Mail` and `Rcpt` are also the events of a ServerSession and what a ClientSession says: one meaning,
read and written in one place. A line that is wrong is a value too: the Reply that refuses it.

Not here: which command may come when (server.py), and whether what it asks for is granted.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Final

from waypost.smtp.extension import (
    SIZE_DIGITS,
    Extensions,
    MailParameters,
    ParameterError,
    RcptParameters,
    UnknownParameterError,
    format_mail_parameters,
    format_rcpt_parameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
)
from waypost.smtp.path import (
    DOMAIN_LIMIT,
    ForwardPath,
    PathError,
    ReversePath,
    Utf8Error,
    bracketed,
    parse_forward_path,
    parse_reverse_path,
    split_path,
)
from waypost.smtp.reply import Reply
from waypost.smtp.xtext import decode_xtext

#: Clients in the field write `MAIL FROM: <…>`; the grammar has no such space, but it leaves nothing to doubt.
SPACE_AFTER_COLON_IS_TAKEN: Final = True

#: Characters of a refusal's text: with code and status it stays within the 512 octets of RFC 5321 §4.5.3.1.5.
REFUSAL_WIDTH: Final = 480


class Verb(Enum):
    """The commands a server knows; `UNKNOWN` stands for every other word."""

    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    QUIT = "QUIT"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    BDAT = "BDAT"
    ETRN = "ETRN"
    ATRN = "ATRN"
    XCLIENT = "XCLIENT"
    UNKNOWN = ""

    # A member is equal to itself alone. Enum hashes the name instead, in Python, for each command of each client.
    __hash__ = object.__hash__


_CHUNK: Final = re.compile(rf" *([0-9]{{1,{SIZE_DIGITS}}})( +LAST)? *", re.IGNORECASE)
_VERBS: Final = {verb.value: verb for verb in Verb}


@dataclass(frozen=True, slots=True)
class Hello:
    """(reply) EHLO, HELO or LHLO. Answer with `session.hello_reply()` to accept, or any 4yz/5yz to refuse."""

    verb: str
    client_name: str


@dataclass(frozen=True, slots=True)
class NoResponse:
    """AUTH came without an initial response: the mechanism's first challenge is due."""


@dataclass(frozen=True, slots=True)
class Auth:
    """(reply) AUTH with a mechanism on offer, in upper case. `response`: the initial one, decoded; shown by no repr."""

    mechanism: str
    response: bytes | NoResponse

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r}, …)"


@dataclass(frozen=True, slots=True)
class Mail:
    """(reply) MAIL FROM."""

    reverse_path: ReversePath
    parameters: MailParameters

    def line(self, offered: Extensions) -> str:
        """The command, without CRLF, with only those parameters that `offered` has."""
        return f"MAIL FROM:{bracketed(self.reverse_path)}{format_mail_parameters(self.parameters, offered)}"


@dataclass(frozen=True, slots=True)
class Rcpt:
    """(reply) RCPT TO."""

    forward_path: ForwardPath
    parameters: RcptParameters

    def line(self, offered: Extensions) -> str:
        """The command, without CRLF, with only those parameters that `offered` has."""
        return f"RCPT TO:{bracketed(self.forward_path)}{format_rcpt_parameters(self.parameters, offered)}"


def split_command(line: str) -> tuple[Verb, str]:
    """The verb, in whatever case it came, and what stands behind it and one space."""
    word, _, argument = line.partition(" ")
    return _VERBS[word] if word in _VERBS else _verb(word), argument


def _verb(word: str) -> Verb:
    # Some letters beyond ASCII have a capital within it: the long s is no S.
    return _VERBS.get(word.upper(), Verb.UNKNOWN) if word.isascii() else Verb.UNKNOWN


@dataclass(frozen=True, slots=True)
class Chunk:
    """BDAT (RFC 3030 §2): so many octets follow its line; `last`: the message ends with them."""

    size: int
    last: bool


def parse_chunk(argument: str) -> Chunk | Reply:
    """What follows the word BDAT. After a refusal nobody can tell where the next command begins."""
    found = _CHUNK.fullmatch(argument)
    if found is None:
        return Reply.of(
            501, "5.5.4", f"BDAT is followed by a number of octets of at most {SIZE_DIGITS} digits, and LAST"
        )
    return Chunk(int(found[1]), bool(found[2]))


@dataclass(frozen=True, slots=True)
class Etrn:
    """(reply) ETRN (RFC 1985): a client asks that mail for `name` be tried now: a domain, `@domain`, or `#queue`."""

    name: str


def parse_etrn(argument: str) -> Etrn | Reply:
    """What follows the word ETRN."""
    name = argument.strip(" ")
    if not name.strip("@#") or not name.isascii() or " " in name or len(name) > DOMAIN_LIMIT + 1:
        return Reply.of(501, "5.5.4", "ETRN is followed by a domain, by @ and a domain, or by # and a queue")
    return Etrn(name)


@dataclass(frozen=True, slots=True)
class Atrn:
    """(reply) ATRN (RFC 2645): the client wants the connection turned round, and mail for `domains`; none: all its."""

    domains: tuple[str, ...]


def parse_atrn(argument: str) -> Atrn | Reply:
    """What follows the word ATRN: nothing, or domains with commas between them."""
    words = tuple(word.lower() for word in argument.strip(" ").split(",")) if argument.strip(" ") else ()
    if not all(_DOMAIN.fullmatch(word) and len(word) <= DOMAIN_LIMIT for word in words):
        return Reply.of(501, "5.5.4", "ATRN is followed by nothing, or by domains with a comma between them")
    return Atrn(words)


@dataclass(frozen=True, slots=True)
class Xclient:
    """(reply) XCLIENT (Postfix): a trusted client says whose session it hands on; "" and 0 where it does not tell.

    `address`: numeric. `login`: whom that client has authenticated as. What it calls itself comes in the next EHLO.
    """

    address: str = ""
    port: int = 0
    login: str = ""


#: What XCLIENT may say. The names of hosts are not believed, and which address of ours was meant changes nothing.
XCLIENT_ATTRIBUTES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")


def parse_xclient(argument: str) -> Xclient | Reply:
    """What follows the word XCLIENT: attributes, each with a value in xtext."""
    said: dict[str, str] = {}
    for word in filter(None, argument.split(" ")):
        name, equals, value = word.partition("=")
        if name.upper() not in XCLIENT_ATTRIBUTES or not equals or name.upper() in said:
            return _NO_XCLIENT
        try:
            said[name.upper()] = "" if value.upper() in {"[UNAVAILABLE]", "[TEMPUNAVAIL]"} else decode_xtext(value)
        except ValueError as error:
            return _refusal(501, "5.5.4", error)
    port = said.get("PORT") or "0"
    if not said or _PORT.fullmatch(port) is None or int(port) > 65535 or "%" in said.get("ADDR", ""):
        return _NO_XCLIENT
    try:
        address = str(ip_address(_IPV6.sub("", said["ADDR"]))) if said.get("ADDR") else ""
    except ValueError as error:
        return _refusal(501, "5.5.4", error)
    return Xclient(address, int(port), said.get("LOGIN", ""))


_WIDE: Final = re.compile(r" SMTPUTF8 *$", re.IGNORECASE)


def parse_vrfy(argument: str) -> Reply:
    """The answer to VRFY, which tells nobody who exists (RFC 5321 §7.3); a wide name says SMTPUTF8 (RFC 6531 §3.7)."""
    name = _WIDE.sub("", argument).strip(" ")
    if not name:
        return Reply.of(501, "5.5.4", "VRFY is followed by a name or an address")
    if not name.isascii() and not _WIDE.search(argument):
        return Reply.of(553, "5.6.7", "a name that is not ASCII needs SMTPUTF8 behind it (RFC 6531)")
    return _VRFY_ANSWER


_VRFY_ANSWER: Final = Reply.of(252, "2.5.2", "cannot tell; send the message and see")
_DOMAIN: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_IPV6: Final = re.compile("^ipv6:", re.IGNORECASE)
_NO_XCLIENT: Final = Reply.of(
    501, "5.5.4", "XCLIENT is followed by attributes that EHLO has named, each once with =value"
)


def parse_hello(verb: Verb, argument: str) -> Hello | Reply:
    """EHLO, HELO or LHLO. The name is taken as any printable ASCII word: many hosts do not know their own."""
    name = argument.strip(" ")
    if not name:
        return Reply.of(501, "5.5.4", f"{verb.value} is followed by your host name or address literal")
    if not name.isascii() or " " in name or len(name) > DOMAIN_LIMIT:
        return Reply.of(501, "5.5.4", f"{verb.value} is followed by one ASCII word of at most {DOMAIN_LIMIT} octets")
    return Hello(verb.value, name)


def parse_mail(argument: str, offered: Extensions) -> Mail | Reply:
    """What follows the word MAIL; `offered` decides which parameters are known."""
    rest = _behind("FROM", argument)
    if isinstance(rest, Reply):
        return rest
    try:
        path, words = split_path(rest)
        parameters = parse_mail_parameters(words, offered)
        return Mail(parse_reverse_path(path, utf8=parameters.smtputf8), parameters)
    except Utf8Error as error:
        return _refusal(553, "5.6.7", error)
    except PathError as error:
        return _refusal(501, "5.1.7", error)
    except ParameterError as error:
        return _refusal(555 if isinstance(error, UnknownParameterError) else 501, "5.5.4", error)


def parse_rcpt(argument: str, offered: Extensions, *, utf8: bool) -> Rcpt | Reply:
    """What follows the word RCPT; `utf8`: whether MAIL asked for SMTPUTF8."""
    rest = _behind("TO", argument)
    if isinstance(rest, Reply):
        return rest
    try:
        path, words = split_path(rest)
        return Rcpt(parse_forward_path(path, utf8=utf8), parse_rcpt_parameters(words, offered))
    except Utf8Error as error:
        return _refusal(553, "5.6.7", error)
    except PathError as error:
        return _refusal(501, "5.1.3", error)
    except ParameterError as error:
        return _refusal(555 if isinstance(error, UnknownParameterError) else 501, "5.5.4", error)


_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 §3.1
#: Names that there are, not words that might be one: a client that leaves the name out says its secret in that place.
_SHOWN_OF_AUTH: Final = re.compile(
    r" *AUTH\b(?: +(?:PLAIN|LOGIN|CRAM-MD5|DIGEST-MD5|SCRAM-[A-Z0-9-]{1,16}|XOAUTH2?|OAUTHBEARER|EXTERNAL|ANONYMOUS"
    r"|GSSAPI|GS2-[A-Z0-9-]{1,12}|NTLM|OTP|KERBEROS_V4)(?= |$))?",
    re.IGNORECASE,
)


def parse_auth(argument: str) -> Auth | Reply:
    """What follows the word AUTH: a mechanism, and perhaps an initial response; "=" is an empty one (RFC 4954 §4)."""
    mechanism, *responses = [word for word in argument.split(" ") if word][:3] or [""]
    if not _MECHANISM.fullmatch(mechanism.upper()) or len(responses) > 1:
        return Reply.of(501, "5.5.4", "AUTH is followed by a mechanism, and an initial response or none")
    if not responses:
        return Auth(mechanism.upper(), NoResponse())
    response = parse_response(responses[0]) if responses[0] != "=" else b""
    return response if isinstance(response, Reply) else Auth(mechanism.upper(), response)


def parse_response(line: str) -> bytes | Reply:
    """A response to a challenge, decoded; or the reply to one that cancels, or is not base64 (RFC 4954 §4)."""
    if line == "*":
        return Reply.of(501, "5.7.0", "authentication cancelled")
    try:
        return b64decode(line, validate=True)
    except ValueError:
        return Reply.of(501, "5.5.2", "that is not base64")


def without_secrets(line: str) -> str:
    """A client's line as a log may show it: of AUTH no more than the mechanism."""
    shown = _SHOWN_OF_AUTH.match(line)
    return f"{shown[0]} (not shown)" if shown else line


def _behind(keyword: str, argument: str) -> str | Reply:
    word, colon, rest = argument.partition(":")
    if not colon or (word != keyword and word.upper() != keyword):
        return Reply.of(501, "5.5.4", f"{keyword}:<address> is due here")
    return rest.lstrip(" ") if SPACE_AFTER_COLON_IS_TAKEN and rest[:1] == " " else rest


def _refusal(code: int, status: str, error: ValueError) -> Reply:
    # The error quotes the client's own words: they may be long (RFC 5321 §4.5.3.1.5) and not ASCII (RFC 6531 §3.7.4.2).
    text = str(error).replace("§", "section ").encode("ascii", "backslashreplace").decode()
    return Reply.of(code, status, text[:REFUSAL_WIDTH])


_HTTP: Final = re.compile(r"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) \S+ HTTP/")
#: The first two octets of a TLS record that holds a ClientHello (RFC 8446 §5.1).
TLS_HANDSHAKE: Final = b"\x16\x03"


def is_http(line: str) -> bool:
    """Whether a line is an HTTP request's first: a browser, or somebody who uses one to speak SMTP for him."""
    return _HTTP.match(line) is not None
