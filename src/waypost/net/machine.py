"""What this machine is: its addresses, so that mail is not sent round to ourselves, and its files about names.

Linux tells the addresses in /proc. All is read when it is asked for, which is once, at start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path
from typing import Final

from waypost.net.stream import Endpoint

_IPV4: Final = Path("/proc/net/fib_trie")
_IPV6: Final = Path("/proc/net/if_inet6")
_MAX_HOSTS_FILE: Final = 1 << 20


def own_addresses(ipv4: Path = _IPV4, ipv6: Path = _IPV6) -> frozenset[str]:
    """Every address an interface has, in numeric form, loopback included; where /proc is silent, loopback alone."""
    return frozenset({"127.0.0.1", "::1", *_ipv4(_lines(ipv4)), *_ipv6(_lines(ipv6))})


def _ipv4(lines: list[str]) -> set[str]:
    """The routing trie names an address on one line, and on the next that it is local to a host."""
    return {
        str(IPv4Address(line.split()[-1])) for line, what in pairwise(lines) if "|--" in line and "host LOCAL" in what
    }


def _ipv6(lines: list[str]) -> set[str]:
    return {str(IPv6Address(int(line.split()[0], 16))) for line in lines if line.strip()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except OSError:
        return []


# ---- names
def system_servers(path: Path = Path("/etc/resolv.conf")) -> tuple[Endpoint, ...]:
    """The `nameserver` lines of resolv.conf(5); where there are none, this machine, as the C library does it."""
    words = [line.split() for line in _text_of(path).splitlines()]
    hosts = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return tuple(Endpoint(host, 53) for host in hosts) or (Endpoint("127.0.0.1", 53),)


def hosts_file(path: Path = Path("/etc/hosts")) -> Mapping[str, tuple[str, ...]]:
    """hosts(5): name in lower case → its addresses, IPv6 first. A line that makes no sense is skipped, as elsewhere."""
    found: dict[str, list[str]] = {}
    for line in _text_of(path).splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if _is_address(address):
            for name in names:
                found.setdefault(name.removesuffix(".").lower(), []).append(address)
    return {name: _ipv6_first(addresses) for name, addresses in found.items()}


def _ipv6_first(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(addresses), key=lambda address: ":" not in address))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_HOSTS_FILE).decode("utf-8", "replace")
    except OSError:
        return ""
