"""Reading a header on its octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.header import ends_header, first_field, header_of

MESSAGE = b"Received: a\r\n\tb\r\nSubject: one\r\n two\r\nsubject: other\r\nX:\r\n\r\nSubject: body\r\n\r\nmore"


def test_the_header_ends_before_the_first_empty_line() -> None:
    assert header_of(MESSAGE) == MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 2]
    assert header_of(b"\r\nbody") == b""
    assert header_of(b"A: b\r\n") == b"A: b\r\n"


@pytest.mark.parametrize(
    ("octets", "ended"), [(b"A: b\r\n", False), (b"A: b\r\n\r\n", True), (b"\r\nx", True), (b"", False)]
)
def test_whether_a_header_has_ended_shows_in_its_first_octets(octets: bytes, ended: bool) -> None:  # noqa: FBT001 - a table's cell
    assert ends_header(octets) is ended


@pytest.mark.parametrize(
    ("name", "body"),
    [(b"subject", b"one two"), (b"received", b"a b"), (b"x", b""), (b"eived", b""), (b"to", b"")],
)
def test_a_field_is_found_by_its_whole_name_and_unfolded(name: bytes, body: bytes) -> None:
    assert first_field(header_of(MESSAGE), name) == body


@given(st.binary(max_size=60), st.sampled_from([b"a", b"subject"]))
def test_no_octets_are_too_odd_to_be_read(octets: bytes, name: bytes) -> None:
    value = first_field(header_of(octets), name)
    assert value == value.strip()
    assert value in octets or b" " in value
