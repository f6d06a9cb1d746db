"""What a single value must look like, and how its complaint reads; which settings have such values, sections say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from waypost.config.units import format_size, parse_duration, parse_size
from waypost.net.stream import Endpoint
from waypost.route.domain import Pattern, host_name, literal
from waypost.route.target import is_address
from waypost.smtp.path import DomainName, Mailbox

Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")
_WILDCARD_NETWORKS: Final = frozenset({ip_network("0.0.0.0/0"), ip_network("::/0")})
_SHORTEST: Final = timedelta(milliseconds=1)
_LONGEST: Final = timedelta(days=366)
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a manual calls a value's type."""

    name: str


def judged(read: Callable[[str], T], kind: str) -> Callable[[object], T]:
    """A validator of text: `read` raises ValueError with "problem; remedy", or the problem alone."""

    def validate(value: object) -> T:
        if not isinstance(value, str):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise PydanticCustomError("waypost", "{problem}", {"problem": f"{shown} is no {kind}", "remedy": ""})
        try:
            return read(value)
        except ValueError as error:
            problem, _, remedy = str(error).partition("; ")
            raise PydanticCustomError("waypost", "{problem}", {"problem": problem, "remedy": remedy}) from error

    return validate


class Section(BaseModel):
    """A table of the file. An unknown key is an error: a misspelt setting must not go unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


# ---- readers of text. Each raises ValueError, "problem; remedy": the file's author is at fault.
def read_hostname(text: str) -> str:
    """A full host name, or an address literal."""
    if text.startswith("["):
        return str(literal(text))
    if is_address(text):
        raise ValueError(f'{text!r} is an address; write it in brackets, "{literal(f"[{text}]")}", or better a name')
    name = host_name(text)
    if "." not in name:
        raise ValueError(
            f"{text!r} is no full name; peers judge us by it (RFC 5321 §2.3.5): write it whole, such as "
            '"mx.example.net", or an address such as "[192.0.2.1]"'
        )
    return name


def read_mailbox(text: str) -> Mailbox:
    """A mailbox with a plain local-part."""
    local_part, at, domain = text.rpartition("@")
    if not at or _LOCAL_PART.fullmatch(local_part) is None:
        raise ValueError(f'{text!r} is no mailbox; write one such as "postmaster@example.net"')
    return Mailbox(local_part, literal(domain) if domain.startswith("[") else DomainName(host_name(domain)))


def read_endpoint(text: str, default_port: str = "") -> Endpoint:
    """A numeric address and a port, the host of IPv6 in brackets; without `default_port` the port must be there."""
    host, port = text, ""
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    port = port or default_port
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'{text!r} has no port from 0 to 65535; write address and port, such as "127.0.0.1:2525"')
    if ":" in host and not host.startswith("["):
        raise ValueError(f'{text!r} needs brackets; write "[{host}]:{port}"')
    try:
        return Endpoint(str(ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
    except ValueError:
        raise ValueError(f"{host!r} is no numeric address; write one such as {_numeric(host)}") from None


def _numeric(host: str) -> str:
    return '"127.0.0.1" or "[::1]"' if host == "localhost" else '"192.0.2.1", or "0.0.0.0" for every address'


def read_network(text: str) -> Network:
    """A network or a single address, but not the whole internet."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{text!r} is no network; write one such as "192.0.2.0/24" or "2001:db8::/32"') from None
    if network in _WILDCARD_NETWORKS:
        raise ValueError(
            f"{text!r} is the whole internet, which would make this service an open relay; list your own networks"
        )
    if "/" in text and str(network.network_address) != str(ip_address(text.partition("/")[0])):
        raise ValueError(f'{text!r} has bits set beyond its prefix; write "{network}", or the one address without a /')
    return network


def read_any_network(text: str) -> Network:
    """A network or a single address, also the whole internet."""
    return ip_network(text) if text in {"0.0.0.0/0", "::/0"} else read_network(text)


def read_duration(text: str) -> timedelta:
    """From a millisecond to a year."""
    duration = parse_duration(text)
    if not _SHORTEST <= duration <= _LONGEST:
        raise ValueError(f'{text!r} is out of bounds; write from "1ms" to "366d"')
    return duration


def read_own_duration(text: str) -> timedelta:
    """The same, or none: left to another setting."""
    return read_duration(text) if text != "0s" else timedelta()


def size_from(least: int) -> Callable[[str], int]:
    """A reader of sizes of `least` octets or more."""

    def read(text: str) -> int:
        octets = parse_size(text)
        if octets < least:
            raise ValueError(f'{text!r} is too little; write "{format_size(least)}" or more')
        return octets

    return read


def or_empty(read: Callable[[str], T]) -> Callable[[str], T | str]:
    """The same, where nothing may be written: empty text stays what it is."""
    return lambda text: read(text) if text else ""


# ---- the types of settings
SIZE: Final = Kind("size in octets")
Duration = Annotated[timedelta, PlainValidator(judged(read_duration, "duration in quotes")), Kind("duration")]
#: A duration that may be left to another setting.
OwnDuration = Annotated[timedelta, PlainValidator(judged(read_own_duration, "duration in quotes")), Kind("duration")]
Count = Annotated[int, Field(ge=1, le=1_000_000), Kind("whole number")]
#: A number that may be left to another setting.
OwnCount = Annotated[int, Field(ge=0, le=1_000_000), Kind("whole number")]
Text = Annotated[str, Field(min_length=1), Kind("text")]
Words = Annotated[str, Kind("text, may be empty")]
Listening = Annotated[Endpoint, PlainValidator(judged(read_endpoint, "address with a port")), Kind("address:port")]
Address = Annotated[Mailbox, PlainValidator(judged(read_mailbox, "mailbox")), Kind("mailbox")]
Mailboxes = tuple[Address, ...]
Domains = tuple[Annotated[Pattern, PlainValidator(judged(Pattern.parse, "domain")), Kind("domain")], ...]
Networks = tuple[Annotated[Network, PlainValidator(judged(read_network, "network")), Kind("network")], ...]
#: Those that may be everybody, too.
AnyNetworks = tuple[Annotated[Network, PlainValidator(judged(read_any_network, "network")), Kind("network")], ...]
