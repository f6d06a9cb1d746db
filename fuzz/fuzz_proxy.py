"""PROXY headers: what is read is bounded, cut anywhere the same, and a verdict once given stands."""

from __future__ import annotations

from waypost.net.proxied import HEADER, UNFINISHED, Own, Passed, read_header


def one(octets: bytes) -> None:
    found = read_header(octets)
    if found is UNFINISHED:
        assert len(octets) < HEADER
        return
    behind = len(found.rest) if isinstance(found, Passed | Own) else 0
    for end in range(min(len(octets) - behind, 200)):
        earlier = read_header(octets[:end])
        assert earlier is UNFINISHED or earlier == found or not isinstance(found, Passed | Own)
    if isinstance(found, Passed):
        assert 0 <= found.client.port < 65536
        assert "%" not in found.client.host
