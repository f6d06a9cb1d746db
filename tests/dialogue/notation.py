"""Scripted dialogues in the notation of RFC 5321 appendix D, with a few marks for what a peer does wrong.

A script is one file `scripts/*.dialogue`; its name is its sentence. A head of `key: value` lines, then the dialogue:

    # RFC 5321 §3.2: an older server is asked again in the older way
    test: client
    transaction: from=alice@us.example to=bob@mx.example
    fates: delivered
    awaiting: closed

    S: 220 mx.example
    C: EHLO us.example
    S: 502 what?
    C: HELO us.example
    ...
    S: (silent 5m)

Grammar, line by line; blank lines and lines that begin with `#` are left out, the first such being the script's reason:

    head  = key ":" value             keys: see HEAD_KEYS
    line  = ("S" / "C") ":" said      S: the server says, C: the client says, whichever of them is under test
    said  = text                      one line, CRLF added
          / "(octets " escaped ")"    these octets and no more; \\r \\n \\0 \\xHH \\\\ and \\( \\) as in Python
          / "(silent " duration ")"   nothing is said for so long (30s, 5m, 1h): a time-out is due
          / "(close)" / "(reset)"     the connection ends: in order, or broken
          / "(handshake)"             TLS begins
          / "(body)"                  the message of the `body` head, dot-stuffed, without its final dot

Lines of one side that follow each other are one segment: the other side says nothing in between.

What the session under test says must *begin* with what its lines say, so `S: 250` is met by `250 2.1.0 OK`; what a
client says must be equal to it. Of a reply of several lines a script may give the last one alone.

Heads for `test: client`
    opening, tls        names of Opening and Tls; default EHLO_THEN_HELO and NEVER
    credentials         user name and password
    transaction         from=… to=…,… and size= body=8BITMIME smtputf8 ret= envid= notify= orcpt= (for all recipients);
                        prdr;
                        chunked (it goes by BDAT, its size being the body's);
                        may stand several times: one after the other on the same session, which then says QUIT
    body                what is sent, escaped as in (octets …); default DEFAULT_BODY
    fates               a word a recipient, over all transactions: delivered, rejected, deferred, in-doubt;
                        as they stand when this connection is all there is (no other host, no second try)
    awaiting            the Stage value at the end
Heads for `test: server`
    settings            name=value of ServerSettings, or a bare name for a true one
                        (mechanisms=PLAIN,LOGIN: with commas)
    permitted           the mechanisms of AUTH that are safe on this connection; default none
    answer              WHAT [ADDRESS] = REPLY: how to answer HELLO, AUTH (one after the other; 334 challenges),
                        MAIL, RCPT, DATA or DOT; else all is accepted.
    answer              WHAT [ADDRESS] = REPLY: how to answer HELLO, STARTTLS, MAIL, RCPT, DATA or DOT; else all is
                        accepted.
                        DOT with an address: that recipient under LMTP
    xclient             a word: the client may say XCLIENT
    messages            how many messages are taken; default 0
    stored              the octets of the last one, escaped
Heads for both
    events              class names of the session's events in order; those without which nothing can be told
                        (NeedOctets, DataChunk) are left out
    segments            `whole`: only when a segment comes in one piece is it what the script is about
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, TypeAlias

from waypost.smtp.extension import BodyType, MailParameters, Notify, RcptParameters, Return
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import NullPath, Postmaster, ReversePath, parse_mailbox
from waypost.smtp.reply import Reply
from waypost.smtp.settings import ServerSettings
from waypost.smtp.stage import Opening, Stage, Tls
from waypost.smtp.transaction import Transaction

SCRIPTS: Final = Path(__file__).with_name("scripts")
DEFAULT_BODY: Final = b"Subject: test\r\n\r\n.dot\r\nend\r\n"
CLIENT_NAME: Final = "us.example"
SERVER_NAME: Final = "mx.example"
GREETING: Final = Reply(220, (f"{SERVER_NAME} ESMTP",))

_CLIENT_KEYS: Final = {"opening", "tls", "credentials", "transaction", "body", "fates", "awaiting"}
_SERVER_KEYS: Final = {"settings", "permitted", "xclient", "answer", "messages", "stored"}
HEAD_KEYS: Final = {"client": _CLIENT_KEYS | {"events", "segments"}, "server": _SERVER_KEYS | {"events", "segments"}}
FATES: Final = ("delivered", "rejected", "deferred", "in-doubt")


class NotationError(ValueError):
    """A script is not written as the grammar has it; the message names the file and the line."""


# ---- what is said


@dataclass(frozen=True, slots=True)
class Text:
    """One line without its CRLF."""

    text: str


@dataclass(frozen=True, slots=True)
class Octets:
    """Octets as they are."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing, for so long."""

    duration: timedelta


@dataclass(frozen=True, slots=True)
class Close:
    """End of stream."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is broken off."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """TLS begins here."""


@dataclass(frozen=True, slots=True)
class Body:
    """The message, dot-stuffed, without its final dot."""


Said: TypeAlias = Text | Octets | Silent | Close | Reset | Handshake | Body
Side: TypeAlias = Literal["S", "C"]
_SIDES: Final[Mapping[str, Side]] = {"S": "S", "C": "C"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dialogue; `number` is its place in the file."""

    side: Side
    said: Said
    number: int

    @property
    def octets(self) -> bytes:
        """What goes over the wire; nothing for a mark."""
        match self.said:
            case Text(text):
                return text.encode() + b"\r\n"
            case Octets(octets):
                return octets
            case _:
                return b""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the caller of a server session answers one kind of event; an empty address means any."""

    what: str
    address: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Script:
    """One dialogue, and all that is needed to judge whoever plays it."""

    name: str
    reason: str
    tested: Literal["client", "server"]
    heads: Mapping[str, Sequence[str]]
    lines: Sequence[Line]

    def __str__(self) -> str:
        return self.name

    @property
    def our_side(self) -> Side:
        """The side under test."""
        return "C" if self.tested == "client" else "S"

    @property
    def segments(self) -> Iterator[tuple[Side, Sequence[Line]]]:
        """Lines that one side says without waiting for the other."""
        for side, lines in groupby(self.lines, key=lambda line: line.side):
            yield side, list(lines)

    @property
    def only_whole(self) -> bool:
        """Whether the script is about what comes in one segment."""
        return self._head("segments") == "whole"

    @property
    def events(self) -> Sequence[str]:
        """The names of the events, where the script names them."""
        return self._head("events").split()

    # -- a client's
    @property
    def opening(self) -> Opening:
        return Opening[self._head("opening") or "EHLO_THEN_HELO"]

    @property
    def tls(self) -> Tls:
        return Tls[self._head("tls") or "NEVER"]

    @property
    def credentials(self) -> Credentials | NoCredentials:
        words = self._head("credentials").split()
        return Credentials(words[0], words[1]) if words else NoCredentials()

    @property
    def transactions(self) -> Sequence[Transaction]:
        return [_transaction(text, len(self.body)) for text in self.heads.get("transaction", ())]

    @property
    def body(self) -> bytes:
        return _unescape(self._head("body")) or DEFAULT_BODY

    @property
    def fates(self) -> Sequence[str]:
        return self._head("fates").split()

    @property
    def awaiting(self) -> Stage:
        """Where the session stands at the end; CLOSED where the script does not say."""
        return Stage(self._head("awaiting") or "closed")

    # -- a server's
    @property
    def settings(self) -> ServerSettings:
        return _settings(self._head("settings").split())

    @property
    def permitted(self) -> Sequence[str]:
        """The mechanisms that AUTH may be said with."""
        return self._head("permitted").split()

    @property
    def answers(self) -> Sequence[Answer]:
        return [_answer(text) for text in self.heads.get("answer", ())]

    @property
    def xclient(self) -> bool:
        return bool(self._head("xclient"))

    @property
    def messages(self) -> int:
        return int(self._head("messages") or "0")

    @property
    def stored(self) -> bytes:
        """What the last message must be; empty where the script does not say."""
        return _unescape(self._head("stored"))

    def _head(self, key: str) -> str:
        return self.heads[key][-1] if key in self.heads else ""


def load_scripts(tested: Literal["client", "server"], *, directory: Path = SCRIPTS) -> Sequence[Script]:
    """All scripts for one side, by name."""
    scripts = [parse_script(path.read_text(encoding="utf-8"), path.stem) for path in directory.glob("*.dialogue")]
    return sorted((script for script in scripts if script.tested == tested), key=str)


def parse_script(text: str, name: str) -> Script:
    """The script `text` spells. Raises: NotationError."""
    heads: dict[str, list[str]] = {}
    lines: list[Line] = []
    reason = ""
    for number, line in enumerate(text.splitlines(), start=1):
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith("#"):
            reason = reason or line.removeprefix("#").strip()
        elif key in _SIDES:
            lines.append(Line(_SIDES[key], _said(value, f"{name}:{number}"), number))
        elif line.strip():
            if lines:
                raise NotationError(f"{name}:{number}: {line!r} begins neither with S: nor with C:")
            heads.setdefault(key, []).append(value.strip())
    return _checked(Script(name, reason, _tested(heads, name), heads, lines))


def _tested(heads: dict[str, list[str]], name: str) -> Literal["client", "server"]:
    match heads.pop("test", []):
        case ["client"]:
            return "client"
        case ["server"]:
            return "server"
        case other:
            raise NotationError(f"{name}: one head `test: client` or `test: server` is due, not {other}")


def _checked(script: Script) -> Script:
    unknown = script.heads.keys() - HEAD_KEYS[script.tested]
    if unknown:
        raise NotationError(f"{script.name}: {', '.join(sorted(unknown))}: no head of a {script.tested} script")
    if not set(script.fates) <= set(FATES):
        raise NotationError(f"{script.name}: fates are {', '.join(FATES)}")
    if not script.reason:
        raise NotationError(f"{script.name}: the reason is missing, a first line `# …`")
    return script


# ---- its words

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_MARK: Final = re.compile(r"\((close|reset|handshake|body|silent|octets)(?: (.*))?\)", re.DOTALL)


def _said(text: str, place: str) -> Said:
    mark = _MARK.fullmatch(text)
    if mark is None:
        return Text(text)
    match mark[1], mark[2] or "":
        case "close", "":
            return Close()
        case "reset", "":
            return Reset()
        case "handshake", "":
            return Handshake()
        case "body", "":
            return Body()
        case "silent", duration if re.fullmatch(r"\d+[smh]", duration):
            return Silent(timedelta(seconds=int(duration[:-1]) * _UNITS[duration[-1]]))
        case "octets", escaped:
            return Octets(_unescape(escaped))
        case _:
            raise NotationError(f"{place}: {text!r} is no mark of the notation")


def _unescape(text: str) -> bytes:
    octets: bytes = codecs.escape_decode(text.encode())[0]
    return octets


def _reverse_path(text: str) -> ReversePath:
    return parse_mailbox(text) if text not in ("", "<>") else NullPath()


def _transaction(text: str, size: int) -> Transaction:
    words = dict(word.partition("=")[::2] for word in text.split())
    mail = MailParameters(
        size=size if "chunked" in words else int(words.get("size", "0")),
        body=BodyType(words.get("body", "7BIT")),
        smtputf8="smtputf8" in words,
        ret=Return(words.get("ret", "")),
        envelope_id=words.get("envid", ""),
        prdr="prdr" in words,
    )
    notify = Notify[words["notify"]] if "notify" in words else Notify.UNSPECIFIED
    rcpt = RcptParameters(notify, words.get("orcpt", ""))
    recipients = [Postmaster() if word == "postmaster" else parse_mailbox(word) for word in words["to"].split(",")]
    named = [(recipient, rcpt) for recipient in recipients]
    return Transaction(_reverse_path(words["from"]), mail, named, chunked="chunked" in words)


def _settings(words: Sequence[str]) -> ServerSettings:
    known = {field.name: field.default for field in fields(ServerSettings)}
    values: dict[str, int | tuple[str, ...]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in known:
            raise NotationError(f"{name} is no field of ServerSettings")
        if name == "mechanisms":
            values[name] = tuple(value.split(","))
        else:
            number = int(value) if equals else 1
            values[name] = bool(number) if isinstance(known[name], bool) else number
    return ServerSettings(SERVER_NAME, **values)  # type: ignore[arg-type]  # each has the type of its field


def _answer(text: str) -> Answer:
    question, _, reply = text.partition(" = ")
    what, _, address = question.partition(" ")
    return Answer(what, address, Reply(int(reply[:3]), (reply[4:],)))
