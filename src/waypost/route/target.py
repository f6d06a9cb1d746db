"""What stands after `to =`: `smtp://…`, `smtps://…`, `mx:`, `lmtp://…`, `maildir:`, `capture:` and so on. Text ↔ value.

Not here: which recipients it is for (table.py), and which addresses a name has (hosts.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final, TypeAlias, assert_never
from urllib.parse import urlsplit

from waypost.route.domain import host_name, literal
from waypost.route.route import (
    EXPANDED,
    Capture,
    Discard,
    Expansion,
    LmtpServers,
    Maildir,
    OnCall,
    Pipe,
    Reject,
    Server,
    SmtpMx,
    SmtpServers,
    Transport,
    Webhook,
)
from waypost.smtp.reply import Reply

ALLOWED: Final = (
    '"smtp://host:25", "smtps://host:465", '
    '"mx:", "mx:example.net", "lmtp://host:24", "lmtp:///path/of/socket", "maildir:/path/%d/%u", '
    '"https://app.example.net/mail", "pipe:/usr/local/bin/program --for %r", '
    '"atrn:ACCOUNT", "capture:", "discard:" or "reject:550 5.1.1 text"'
)
SMTP_PORT: Final = 25
SMTPS_PORT: Final = 465  # RFC 8314 §7.3
LMTP_PORT: Final = 24  # "any private mail system"; RFC 2033 §5 forbids 25

_REJECTION: Final = re.compile(r"(5\d\d) (?:(5\.\d{1,3}\.\d{1,3}) )?([!-~](?:[ -~]{0,398}[!-~])?)")
#: What looks as if it stood for something in a Maildir's path, and would be taken as it is.
_NO_PLACEHOLDER: Final = re.compile(r"%(?![du]).?|[{}$]")


#: The same, in the arguments of a program.
_NO_SUBSTITUTE: Final = re.compile(r"%(?![rudsi]).?")
_NOT_IN_URL: Final = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class RecipientMx:
    """`mx:` the mail exchangers of each recipient's own domain; a table makes an SmtpMx of it, a domain at a time."""

    port: int = SMTP_PORT


Target: TypeAlias = Transport | RecipientMx


def parse_target(texts: Sequence[str]) -> Target:
    """The target of one route: one text, or several of `smtp://` (or of `lmtp://`) to be tried in order.

    Raises: ValueError, with a sentence that says what is allowed.
    """
    if not texts:
        raise ValueError(f"names no place; write {ALLOWED}")
    parsed = [_parse_one(text) for text in texts]
    if len(parsed) == 1:
        return parsed[0]
    smtp = [target for target in parsed if isinstance(target, SmtpServers)]
    if len(smtp) == len(parsed):
        return SmtpServers(tuple(server for target in smtp for server in target.servers))
    lmtp = [target for target in parsed if isinstance(target, LmtpServers)]
    if len(lmtp) == len(parsed):
        return LmtpServers(tuple(server for target in lmtp for server in target.servers))
    raise ValueError(
        f"mixes {', '.join(repr(text) for text in texts)}; a list holds only smtp:// and smtps:// servers, or only "
        "lmtp:// servers, to be tried in order: give anything else a route of its own"
    )


def target_text(target: Target) -> str:
    """The one spelling of a target, from which next hops' keys are made; `parse_target` reads it back."""
    match target:
        case SmtpServers(servers):
            return ",".join(
                f"{'smtps' if server.implicit_tls else 'smtp'}://{server_text(server)}" for server in servers
            )
        case LmtpServers(servers):
            return ",".join(f"lmtp://{server_text(server)}" for server in servers)
        case SmtpMx(domain, port):
            return f"mx:{domain}{_port_text(port)}"
        case RecipientMx(port):
            return f"mx:{_port_text(port)}"
        case Maildir(template):
            return f"maildir:{template}"
        case Webhook(url):
            return url
        case Pipe(arguments):
            return f"pipe:{shlex.join(arguments)}"
        case OnCall(account):
            return f"atrn:{account}"
        case Capture():
            return "capture:"
        case Discard():
            return "discard:"
        case Expansion():
            return EXPANDED.next_hop
        case Reject(reply):
            return f"reject:{reply}"
        case _:
            assert_never(target)


def server_text(server: Server) -> str:
    """`host:port`, an IPv6 address in brackets, a Unix socket as its path."""
    if server.host.startswith("/"):
        return server.host
    return f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"


def is_address(host: str) -> bool:
    """Whether a Server's host is a literal address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _port_text(port: int) -> str:
    return "" if port == SMTP_PORT else f":{port}"


def _parse_one(text: str) -> Target:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in _PARSERS:
        raise ValueError(f"{text!r} is no place mail can go to; write {ALLOWED}")
    return _PARSERS[scheme](text, rest)


def _smtp(text: str, rest: str) -> SmtpServers:
    return SmtpServers((_server(text, rest, SMTP_PORT),))


def _smtps(text: str, rest: str) -> SmtpServers:
    return SmtpServers((replace(_server(text, rest, SMTPS_PORT), implicit_tls=True),))


def _lmtp(text: str, rest: str) -> LmtpServers:
    if rest.startswith("///") and len(rest) > 3:
        return LmtpServers((Server(rest[2:], 0),))
    return LmtpServers((_server(text, rest, LMTP_PORT),))


def _mx(text: str, rest: str) -> SmtpMx | RecipientMx:
    if rest.startswith("//"):
        raise ValueError(f'{text!r} has slashes; write "mx:{rest[2:]}"')
    domain, port = _split_port(text, rest, SMTP_PORT)
    if domain.startswith("["):
        raise ValueError(f'{text!r}: an address has no MX records; write "smtp://{domain}:{port}"')
    return SmtpMx(_named(text, domain), port) if domain else RecipientMx(port)


def _maildir(text: str, rest: str) -> Maildir:
    if not rest:
        raise ValueError(f'{text!r} names no directory; write "maildir:/var/mail/%d/%u"')
    unknown = _NO_PLACEHOLDER.search(rest)
    if unknown is not None:
        raise ValueError(
            f"{text!r} holds {unknown[0]!r}; in its path only %d (domain) and %u (local-part) stand for something"
        )
    return Maildir(rest)


def _webhook(text: str, rest: str) -> Webhook:  # noqa: ARG001 - a URL is taken apart as a whole
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from error
    if not host or port == 0:
        raise ValueError(f'{text!r} names no host; write "https://app.example.net/mail"')
    if "@" in parts.netloc:
        raise ValueError(f"{text!r} carries credentials; requests are signed: write secret_file beside it")
    if parts.fragment or _NOT_IN_URL.search(text):
        raise ValueError(f"{text!r} holds what no request can say; percent-encode it, and leave out what follows #")
    return Webhook(text)


def _pipe(text: str, rest: str) -> Pipe:
    try:
        arguments = shlex.split(rest)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; its words are parted as a shell parts them") from error
    if not arguments or not arguments[0].startswith("/"):
        raise ValueError(f'{text!r} names no program by its whole path; write "pipe:/usr/local/bin/program --for %r"')
    for word in arguments:
        unknown = _NO_SUBSTITUTE.search(word.replace("%%", ""))
        if unknown is not None:
            raise ValueError(
                f"{text!r} holds {unknown[0]!r}; %r recipient, %u local-part, %d domain, %s reverse-path, %i id and "
                "%% stand for something, and there is no shell"
            )
    if "%" in arguments[0]:
        raise ValueError(f"{text!r}: which program runs must not hang on the message")
    return Pipe(tuple(arguments))


def _on_call(text: str, rest: str) -> OnCall:
    if not rest or not rest.isprintable() or " " in rest:
        raise ValueError(f'{text!r} names no account; write "atrn:ACCOUNT", by the name it logs in with')
    return OnCall(rest.lower())


def _capture(text: str, rest: str) -> Capture:
    _expect_bare(text, rest)
    return Capture()


def _discard(text: str, rest: str) -> Discard:
    _expect_bare(text, rest)
    return Discard()


def _reject(text: str, rest: str) -> Reject:
    found = _REJECTION.fullmatch(rest)
    if found is None:
        raise ValueError(
            f"{text!r} holds no reply; write a 5yz code, an enhanced status code and a text, such as "
            '"reject:550 5.1.1 no such user here"'
        )
    return Reject(Reply.of(int(found[1]), found[2] or "5.7.1", found[3]))


_PARSERS: Final[dict[str, Callable[[str, str], Target]]] = {
    "smtp": _smtp,
    "smtps": _smtps,
    "mx": _mx,
    "lmtp": _lmtp,
    "maildir": _maildir,
    "http": _webhook,
    "https": _webhook,
    "pipe": _pipe,
    "atrn": _on_call,
    "capture": _capture,
    "discard": _discard,
    "reject": _reject,
}


def _expect_bare(text: str, rest: str) -> None:
    if rest:
        raise ValueError(f"{text!r} takes nothing after its colon")


def _server(text: str, rest: str, default_port: int) -> Server:
    authority, scheme = rest.removeprefix("//"), text.partition(":")[0]
    if authority == rest or not authority:
        better = f"{scheme}:///{rest.lstrip('/')}" if scheme == "lmtp" and rest else f"{scheme}://host:{default_port}"
        raise ValueError(f'{text!r} names no host; write "{better}"')
    if "@" in authority:
        raise ValueError(f"{text!r} carries credentials; write username and password_file as keys of the route")
    host, port = _split_port(text, authority, default_port)
    if host.startswith("["):
        return Server(str(literal(host).address), port)
    return Server(str(ip_address(host)) if is_address(host) else _named(text, host), port)


def _named(text: str, name: str) -> str:
    try:
        return host_name(name)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def _split_port(text: str, authority: str, default: int) -> tuple[str, int]:
    """`host:port` taken apart; the host keeps its brackets, which an IPv6 address must have."""
    end = authority.find("]") + 1
    host, port = authority[:end], authority[end:]
    if not end:
        host, colon, port = authority.partition(":")
        port = colon + port
    if port.count(":") > 1:
        raise ValueError(f'{text!r}: an IPv6 address stands in brackets, as in "smtp://[2001:db8::1]:25"')
    if not port:
        return host, default
    if not (port.startswith(":") and port[1:].isascii() and port[1:].isdigit() and 0 < int(port[1:]) < 65536):
        raise ValueError(f"{text!r}: {port.removeprefix(':')!r} is no port; one is 1 to 65535")
    return host, int(port[1:])
