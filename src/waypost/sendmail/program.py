"""The program `waypost-sendmail`: what programs call `sendmail`, `mailq` and `newaliases`, as cron, PHP and mutt do.

A message is written into the pickup directory, and is safe there whether the service runs or not: exit code 0 means
that it is on the disk. Everything else is the service's to do (receive/pickup.py); whom it cannot reach, the author
hears of by mail. Nothing heavy is imported: this program starts for each message.

Exit codes are those of sysexits.h, which callers know: 64 the command was wrong, 65 the message is none, 67 no such
user (-bv), 69 the service does not answer, 73 the file cannot be written, 74 the message could not be read, 75 try
again later, 78 the configuration names no pickup directory.
"""

from __future__ import annotations

import getopt
import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from waypost.sendmail.box import (
    EX_DATAERR,
    EX_IOERR,
    EX_OK,
    EX_UNAVAILABLE,
    EX_USAGE,
    Place,
    Refusal,
    place_of,
    write,
)

#: As getopt has it; -q and its kin take what stands right behind them, and are taken out before.
_OPTIONS: Final = "A:B:C:F:GIL:N:O:R:UV:X:b:cd:e:f:h:imno:p:r:tvx"
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
#: One field of a header with the lines folded under it.
_FIELDS: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.MULTILINE)
_ADDRESSEES: Final = (b"to", b"cc", b"bcc")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. `mode`: the letter of -b. `queue`: what stood behind -q; "-" without -q."""

    mode: str = "m"
    by_header: bool = False
    dots_are_text: bool = False
    sender: str = ""
    has_sender: bool = False
    full_name: str = ""
    notify: str = ""
    ret: str = ""
    envelope_id: str = ""
    queue: str = "-"
    config: str = ""
    recipients: tuple[str, ...] = ()


def main() -> NoReturn:
    """The console script."""
    try:
        code = run(sys.argv, sys.stdin.buffer)
    except Refusal as refusal:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {refusal}\n")
        code = refusal.code
    except BrokenPipeError:
        code = EX_OK  # `mailq | head`: nobody reads the rest
    sys.exit(code)


def run(argv: Sequence[str], stdin: BinaryIO) -> int:
    """What the command does; its exit code. Raises: Refusal."""
    wanted = understood(argv)
    if wanted.mode == "i":
        return EX_OK  # aliases are read by the service when they change
    place = place_of(wanted.config)
    if wanted.mode == "m" and wanted.queue == "-":
        return _submit(place, wanted, stdin)
    if wanted.mode == "s":
        from waypost.sendmail.session import serve  # noqa: PLC0415 - a message need not wait for the engine

        return serve(place, stdin, sys.stdout.buffer, write)
    from waypost.sendmail import service  # noqa: PLC0415 - nor for HTTP

    if wanted.queue != "-":
        return service.flush(place, wanted.queue)
    return service.list_queue(place) if wanted.mode == "p" else service.verify(place, wanted.sender, wanted.recipients)


# ---- the command line
def understood(argv: Sequence[str]) -> Wanted:
    """The command line, read. Raises: Refusal."""
    wanted = Wanted(mode={"mailq": "p", "newaliases": "i"}.get(Path(argv[0]).name, "m"))
    queue = [word for word in argv[1:] if word.startswith("-q")]
    try:
        options, recipients = getopt.gnu_getopt([word for word in argv[1:] if word not in queue], _OPTIONS)
    except getopt.GetoptError as error:
        raise Refusal(EX_USAGE, f"{error}; see waypost-sendmail(1)") from None
    for option, value in options:
        wanted = _with(wanted, option, value)
    if queue:
        wanted = replace(wanted, queue=queue[-1][2:])
    return replace(wanted, recipients=tuple(recipients))


def _with(wanted: Wanted, option: str, value: str) -> Wanted:
    match option, value:
        case "-b", "m" | "p" | "s" | "i" | "v":
            return replace(wanted, mode=value)
        case "-b", _:
            raise Refusal(EX_USAGE, f"-b{value} is not for this program; the service itself runs by: waypost serve")
        case "-I", _:
            return replace(wanted, mode="i")
        case "-t", _:
            return replace(wanted, by_header=True)
        case "-i", _:
            return replace(wanted, dots_are_text=True)
        case "-o", "i":
            return replace(wanted, dots_are_text=True)
        case "-f" | "-r", _:
            return replace(wanted, sender=value.strip("<>"), has_sender=True)
        case "-F", _:
            return replace(wanted, full_name=value)
        case "-N", _:
            return replace(wanted, notify=value)
        case "-R", _:
            return replace(wanted, ret=value)
        case "-V", _:
            return replace(wanted, envelope_id=value)
        case "-C", _:
            return replace(wanted, config=value)
        case _:  # what other programs of that name know, and what is of no meaning here
            return wanted


# ---- a message
def _submit(place: Place, wanted: Wanted, stdin: BinaryIO) -> int:
    if not (wanted.by_header or wanted.recipients):
        raise Refusal(EX_USAGE, "no recipient is named; name one, or give -t for those in the header")
    octets = _read(stdin, place.most, dots_are_text=wanted.dots_are_text)
    header, body = _parted(octets)
    recipients = [*wanted.recipients]
    if wanted.by_header:
        recipients += _addressees(header)
        header = _without_bcc(header)
    if not recipients:
        raise Refusal(EX_DATAERR, "the header names no recipient in To, Cc or Bcc")
    sender = wanted.sender if wanted.has_sender else _user()
    envelope = _envelope(place, sender, recipients, wanted)
    write(place, envelope + _with_from(header, sender or "MAILER-DAEMON", place, wanted) + body)
    return EX_OK


def _read(stdin: BinaryIO, most: int, *, dots_are_text: bool) -> bytes:
    """The message, to a line of a single dot where that ends it."""
    gathered, size = [], 0
    try:
        for line in stdin:
            if not dots_are_text and line in {b".\n", b".\r\n", b"."}:
                break
            size += len(line)
            if size > most:
                raise Refusal(EX_UNAVAILABLE, f"the message is larger than {most} octets, the most that is taken")
            gathered.append(line)
    except OSError as error:
        raise Refusal(EX_IOERR, f"the message cannot be read: {error.strerror}") from None
    return b"".join(gathered)


def _parted(octets: bytes) -> tuple[bytes, bytes]:
    """The header, its lines ending in LF; and what follows, from the empty line on. A text alone has no header."""
    octets = octets.replace(b"\r\n", b"\n")
    header = b""
    for line in octets.splitlines(keepends=True):
        is_field = _FIELD.match(line) is not None or (bool(header) and line[:1] in b" \t" and line != b"\n")
        if not is_field:
            break
        header += line
    body = octets[len(header) :]
    return header, body if body.startswith(b"\n") else b"\n" + body


def _addressees(header: bytes) -> Iterator[str]:
    """Everybody in To, Cc and Bcc; in Resent-To and its kin, where there are any (RFC 5322 §3.6.6)."""
    from email.utils import getaddresses  # noqa: PLC0415 - only -t needs it

    fields = [
        (found[1].lower(), found[0].partition(b":")[2].decode("utf-8", "replace")) for found in _FIELDS.finditer(header)
    ]
    resent = [text for name, text in fields if name in {b"resent-" + each for each in _ADDRESSEES}]
    texts = resent or [text for name, text in fields if name in _ADDRESSEES]
    yield from (address for _, address in getaddresses([" ".join(text.split()) for text in texts]) if address)


def _without_bcc(header: bytes) -> bytes:
    return _FIELDS.sub(lambda found: b"" if found[1].lower() in {b"bcc", b"resent-bcc"} else found[0], header)


def _with_from(header: bytes, sender: str, place: Place, wanted: Wanted) -> bytes:
    """The header with a From, where it has none; Date and Message-ID are the service's to add."""
    if any(found[1].lower() in {b"from", b"resent-from"} for found in _FIELDS.finditer(header)):
        return header
    from email.utils import formataddr  # noqa: PLC0415 - most messages have it

    name = wanted.full_name or os.environ.get("NAME", "")
    line = formataddr((name.replace("\n", " ").replace("\r", " "), _whole(sender, place.hostname)))
    return f"From: {line}\n".encode() + header


def _envelope(place: Place, sender: str, recipients: Sequence[str], wanted: Wanted) -> bytes:
    lines = [f"X-Sender: <{_whole(sender, place.hostname) if sender else ''}>"]
    lines += [f"X-Receiver: <{_whole(each, place.hostname)}>" for each in dict.fromkeys(recipients)]
    if wanted.notify:
        lines.append(f"X-Notify: {wanted.notify}")
    if wanted.ret:
        lines.append(f"X-Return: {wanted.ret}")
    if wanted.envelope_id:
        lines.append(f"X-EnvId: {wanted.envelope_id}")
    for line in lines:
        if not line.isprintable():
            raise Refusal(EX_DATAERR, f"{line!r} holds what no address may")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _whole(address: str, hostname: str) -> str:
    """The address, with our name behind one that has none."""
    bare = address.strip().removeprefix("<").removesuffix(">")
    return bare if "@" in bare else f"{bare}@{hostname}"


def _user() -> str:
    """Whoever runs this."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
