"""What a proxy says of its client: both versions, cut anywhere, and nothing but them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.net.proxied import HEADER, UNFINISHED, Own, Passed, Unproxied, read_header
from waypost.net.stream import Endpoint

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


def tcp4(address: str, port: int, more: bytes = b"") -> bytes:
    ends = IPv4Address(address).packed + IPv4Address("192.0.2.2").packed + port.to_bytes(2) + b"\0\x19"
    return binary(0x21, 0x11, ends + more)


def tcp6(address: str, port: int) -> bytes:
    return binary(0x21, 0x21, IPv6Address(address).packed * 2 + port.to_bytes(2) + b"\0\x19")


HEADERS = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.2 49152 25\r\n", Endpoint("203.0.113.9", 49152)),
    (b"PROXY TCP6 2001:db8::9 2001:db8::2 49152 25\r\n", Endpoint("2001:db8::9", 49152)),
    (tcp4("203.0.113.9", 49152), Endpoint("203.0.113.9", 49152)),
    (tcp4("203.0.113.9", 49152, b"\x04\0\x03abc"), Endpoint("203.0.113.9", 49152)),
    (tcp6("2001:db8::9", 1), Endpoint("2001:db8::9", 1)),
    (tcp6("::ffff:203.0.113.9", 1), Endpoint("203.0.113.9", 1)),
]
OWN = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    binary(0x20, 0x00, b""),
    binary(0x20, 0x11, b"\0" * 12),
    binary(0x21, 0x00, b"anything"),
]


@pytest.mark.parametrize(("header", "client"), HEADERS)
@pytest.mark.parametrize("rest", [b"", b"EHLO x\r\n", b"\n" * 300])
def test_a_header_names_the_client_and_leaves_what_is_behind_it(header: bytes, client: Endpoint, rest: bytes) -> None:
    assert read_header(header + rest) == Passed(client, rest)


@pytest.mark.parametrize("header", OWN)
def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    assert read_header(header + b"QUIT\r\n") == Own(b"QUIT\r\n")


@pytest.mark.parametrize("header", [header for header, _ in HEADERS] + OWN)
def test_a_header_that_is_cut_is_waited_for(header: bytes) -> None:
    assert [read_header(header[:end]) for end in range(len(header))] == [UNFINISHED] * len(header)


@pytest.mark.parametrize(
    "octets",
    [
        *(b"EHLO x\r\n", b"PROXX", b"proxy TCP4 203.0.113.9 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\r"),
        *(
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.2 1\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        ),
        b"PROXY TCP4 203.0.113.999 192.0.2.2 1 2\r\n",
        *(b"PROXY TCP4 2001:db8::9 192.0.2.2 1 2\r\n", b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"),
        *(b"PROXY TCP4 203.0.113.9 192.0.2.2 70000 2\r\n", b"PROXY TCP4 203.0.113.9 192.0.2.2 -1 2\r\n"),
        b"PROXY TCP4 " + b"1" * 200,
        *(binary(0x31, 0x11, b"\0" * 12), binary(0x2F, 0x11, b"\0" * 12)),
        *(binary(0x21, 0x11, b"\0" * 11), binary(0x21, 0x21, b"\0" * 35), binary(0x21, 0x31, b"\0" * 216)),
        binary(0x21, 0x11, b"\0" * HEADER)[:20],
    ],
)
def test_what_is_no_header_is_told_as_such(octets: bytes) -> None:
    assert isinstance(read_header(octets), Unproxied)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
def test_any_client_is_read_back(address: IPv4Address | IPv6Address, port: int, rest: bytes) -> None:
    header = tcp4(str(address), port) if isinstance(address, IPv4Address) else tcp6(str(address), port)
    found = read_header(header + rest)
    assert isinstance(found, Passed)
    assert (found.client.port, found.rest) == (port, rest)
    line = f"PROXY TCP{address.version} {address} {address} {port} 25\r\n".encode()
    assert read_header(line + rest) == found


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary(max_size=300))
def test_any_octets_are_a_header_or_none(beginning: bytes, octets: bytes) -> None:
    whole = beginning + octets
    found = read_header(whole)
    if isinstance(found, Passed | Own):
        assert whole.endswith(found.rest)
    elif isinstance(found, Unproxied):
        assert isinstance(read_header(whole + b"x"), Unproxied), "more octets make it no better"
