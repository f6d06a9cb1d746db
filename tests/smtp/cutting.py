"""Octets as a network may bring them: cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

#: Where to cut.
places = st.lists(st.integers(0, 1000), max_size=20)


def cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    """`octets` in pieces, cut at `places` (taken modulo its length)."""
    begin = 0
    for place in sorted({place % (len(octets) + 1) for place in places} | {len(octets)}):
        if place > begin:
            yield octets[begin:place]
            begin = place
