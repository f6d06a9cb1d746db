"""What this machine is: its addresses, so that mail is not sent round to ourselves. Linux tells them in /proc."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Final

_IPV4: Final = Path("/proc/net/fib_trie")
_IPV6: Final = Path("/proc/net/if_inet6")


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
