"""The PROXY protocol, versions 1 and 2: how a load balancer in front of us says whose connection it passes on.

Sans-IO, and bounded: a header is at most `HEADER` octets, and whoever begins with anything else is cut off, for who may
say so stands in place of any client. Of what version 2 adds beside the addresses (TLVs, §2.2) the checksum is verified,
and what protected the client's connection to the proxy is believed; the rest is read past.

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
from waypost.net.tls import IN_CLEAR, TlsFacts, TlsState, iana_name

#: Octets of a header at most. Version 1 has 107 (§2.1); of version 2 so many are read, and TLVs of good faith fit in.
HEADER: Final = 4096
_LINE: Final = 107
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = len(_SIGNATURE) + 4


@dataclass(frozen=True, slots=True)
class Passed:
    """A whole header: the client it names, the octets behind it, and the TLS that the proxy ended for that client."""

    client: Endpoint
    rest: bytes
    tls: TlsState = IN_CLEAR


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
    addresses = {0x11: 12, 0x21: 36}.get(family, 0)
    added = _read_tlvs(body[addresses:]) if addresses and length >= addresses else {}
    if isinstance(added, Unproxied):
        return added
    if _CHECKSUM in added and not _is_whole(octets[: _FIXED + length], added[_CHECKSUM], addresses):
        return Unproxied("the checksum of its PROXY header is wrong")
    match command, family:
        case 0x20, _:
            return Own(rest)
        case _, 0x11 if length >= 12:
            client = _endpoint(IPv4Address(body[:4]), *struct.unpack_from("!H", body, 8))
            return Passed(client, rest, _tls_of(added))
        case _, 0x21 if length >= 36:
            client = _endpoint(IPv6Address(body[:16]), *struct.unpack_from("!H", body, 32))
            return Passed(client, rest, _tls_of(added))
        case _, 0x00:
            return Own(rest)
        case _:
            return Unproxied("its PROXY header names no client of TCP")


# ---- TLVs (§2.2.1 to §2.2.6)
_CHECKSUM, _NOTHING, _SSL = 0x03, 0x04, 0x20
_SSL_VERSION, _SSL_NAME, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL = 0x01


def _read_tlvs(octets: bytes) -> dict[int, bytes] | Unproxied:
    """What is added, by type; of a type that is there twice the last counts."""
    found: dict[int, bytes] = {}
    while octets:
        if len(octets) < 3 or len(octets) < 3 + (length := int.from_bytes(octets[1:3])):
            return Unproxied("its PROXY header ends within what it adds to the addresses")
        found[octets[0]] = octets[3 : 3 + length]
        octets = octets[3 + length :]
    return found


def _tls_of(added: dict[int, bytes]) -> TlsState:
    """The TLS between client and proxy. A client certificate is named where the proxy has verified it."""
    said = added.get(_SSL, b"")
    if len(said) < 5 or not said[0] & _CLIENT_SSL:
        return IN_CLEAR
    inner = _read_tlvs(said[5:])
    if isinstance(inner, Unproxied):
        return IN_CLEAR
    version, cipher, name = (_word(inner.get(kind, b"")) for kind in (_SSL_VERSION, _SSL_CIPHER, _SSL_NAME))
    verified = name if int.from_bytes(said[1:5]) == 0 else ""
    return TlsFacts(version or "TLS", iana_name(cipher) or "by the proxy", f"CN={verified}" if verified else "")


def _word(octets: bytes) -> str:
    text = octets.decode("ascii", "replace")[:100]
    return text if text.isprintable() and "\ufffd" not in text else ""


def _is_whole(header: bytes, said: bytes, addresses: int) -> bool:
    """Whether the CRC-32C is that of the header with zeros in its place (§2.2.3)."""
    place = _FIXED + addresses
    while header[place] != _CHECKSUM:
        place += 3 + int.from_bytes(header[place + 1 : place + 3])
    zeroed = header[: place + 3] + bytes(len(said)) + header[place + 3 + len(said) :]
    return len(said) == 4 and int.from_bytes(said) == crc32c(zeroed)


def crc32c(octets: bytes) -> int:
    """The CRC-32C (Castagnoli) of a few hundred octets; nothing in the standard library has it."""
    value = 0xFFFFFFFF
    for octet in octets:
        value ^= octet
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 & -(value & 1))
    return value ^ 0xFFFFFFFF


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> Endpoint:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # judged by its IPv4 address, as of a socket of our own
    return Endpoint(str(address), port)
