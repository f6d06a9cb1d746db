"""The PROXY protocol, versions 1 and 2: how a load balancer in front of us says whose connection it passes on.

Sans-IO, and bounded: a header is at most `HEADER` octets, and whoever begins with anything else is cut off, for who may
say so stands in place of any client. What version 2 adds beside the addresses (TLVs) is read past.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, §2. Not here: who is believed (receive/server.py).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, TypeAlias

from waypost.net.stream import Endpoint

#: Octets of a header at most. Version 1 has 107 (§2.1); of version 2 so many are read, and TLVs of good faith fit in.
HEADER: Final = 4096
_LINE: Final = 107
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = len(_SIGNATURE) + 4


@dataclass(frozen=True, slots=True)
class Passed:
    """A whole header: the client it names, and the octets behind it."""

    client: Endpoint
    rest: bytes


@dataclass(frozen=True, slots=True)
class Own:
    """A whole header that names nobody (LOCAL, UNKNOWN): the connection is the proxy's own, a look at our health."""

    rest: bytes


@dataclass(frozen=True, slots=True)
class Unproxied:
    """What came is no header; `detail` says why."""

    detail: str


class Unfinished(Enum):
    """What came so far may become a header."""

    UNFINISHED = auto()


UNFINISHED: Final = Unfinished.UNFINISHED
Header: TypeAlias = Passed | Own | Unproxied | Unfinished


def read_header(octets: bytes) -> Header:
    """What the first octets of a connection say of its client."""
    if octets.startswith(_SIGNATURE):
        return _read_binary(octets)
    if octets.startswith(b"PROXY "):
        return _read_line(octets)
    if _SIGNATURE.startswith(octets) or b"PROXY ".startswith(octets):
        return UNFINISHED
    return Unproxied("it begins with no PROXY header")


def _read_line(octets: bytes) -> Header:
    line, newline, rest = octets[:_LINE].partition(b"\r\n")
    if not newline:
        return Unproxied(f"its PROXY line has no end within {_LINE} octets") if len(octets) >= _LINE else UNFINISHED
    match line.split(b" "):
        case [_, b"UNKNOWN", *_]:
            return Own(rest + octets[_LINE:])
        case [_, b"TCP4" | b"TCP6" as family, source, _, port, _] if _PORT.fullmatch(port) and int(port) < 65536:
            try:
                address = (IPv4Address if family == b"TCP4" else IPv6Address)(
                    source.decode("ascii", "replace").replace("%", " ")
                )
            except AddressValueError:
                return Unproxied(f"its PROXY line names no address: {line!r}")
            return Passed(_endpoint(address, int(port)), rest + octets[_LINE:])
        case _:
            return Unproxied(f"its PROXY line cannot be understood: {line!r}")


def _read_binary(octets: bytes) -> Header:
    if len(octets) < _FIXED:
        return UNFINISHED
    command, family, length = struct.unpack_from("!BBH", octets, len(_SIGNATURE))
    if command not in {0x20, 0x21} or length > HEADER - _FIXED:
        return Unproxied(f"its PROXY header is of no version we know, or too long ({length} octets)")
    if len(octets) < _FIXED + length:
        return UNFINISHED
    body, rest = octets[_FIXED : _FIXED + length], octets[_FIXED + length :]
    match command, family:
        case 0x20, _:
            return Own(rest)
        case _, 0x11 if length >= 12:
            return Passed(_endpoint(IPv4Address(body[:4]), *struct.unpack_from("!H", body, 8)), rest)
        case _, 0x21 if length >= 36:
            return Passed(_endpoint(IPv6Address(body[:16]), *struct.unpack_from("!H", body, 32)), rest)
        case _, 0x00:
            return Own(rest)
        case _:
            return Unproxied("its PROXY header names no client of TCP")


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> Endpoint:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # judged by its IPv4 address, as of a socket of our own
    return Endpoint(str(address), port)
