"""What a proxy says of its client: both versions, cut anywhere, and nothing but them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.net.proxied import HEADER, UNFINISHED, Own, Passed, Unproxied, crc32c, read_header
from waypost.net.stream import Endpoint
from waypost.net.tls import IN_CLEAR, TlsFacts

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


# ---- what version 2 adds (§2.2)
def added(*tlvs: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([kind]) + len(value).to_bytes(2) + value for kind, value in tlvs)


def header_with(tlvs: bytes) -> bytes:
    body = bytes([192, 0, 2, 7, 192, 0, 2, 2, 0xC0, 0, 0, 25]) + tlvs
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(body).to_bytes(2) + body


def ssl_tlv(*, client: int = 1, verify: int = 0) -> bytes:
    facts = added((0x21, b"TLSv1.2"), (0x22, b"alice"), (0x23, b"ECDHE-RSA-AES128-GCM-SHA256"))
    return added((0x01, b"smtp"), (0x20, bytes([client]) + verify.to_bytes(4) + facts), (0x05, b"unique"))


def test_the_checksum_of_the_standard_is_ours() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_the_tls_between_client_and_proxy_is_read() -> None:
    read = read_header(header_with(ssl_tlv()) + b"EHLO")
    assert isinstance(read, Passed)
    assert read.rest == b"EHLO"
    assert read.tls == TlsFacts("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "CN=alice")


def test_a_certificate_that_the_proxy_did_not_verify_names_nobody_and_no_tls_is_none() -> None:
    read = read_header(header_with(ssl_tlv(verify=1)))
    assert isinstance(read, Passed)
    assert isinstance(read.tls, TlsFacts)
    assert read.tls.peer_name == ""
    for tlvs in (ssl_tlv(client=0), b"", added((0x20, b"\x01")), added((0x20, b"\x01\0\0\0\0\x21\0\x09x"))):
        read = read_header(header_with(tlvs))
        assert isinstance(read, Passed)
        assert read.tls is IN_CLEAR


def test_a_header_is_refused_whose_checksum_is_wrong_or_whose_end_is_missing() -> None:
    blank = header_with(added((0x04, b"pad"), (0x03, bytes(4))))
    right = blank[:-4] + crc32c(blank).to_bytes(4)
    assert isinstance(read_header(right), Passed)
    wrong = right[:17] + b"\x09" + right[18:]
    assert read_header(wrong) == Unproxied("the checksum of its PROXY header is wrong")
    assert isinstance(read_header(header_with(b"\x20\0\x09x")), Unproxied)
    assert isinstance(read_header(header_with(b"\x20")), Unproxied)
