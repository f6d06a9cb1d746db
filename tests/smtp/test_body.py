from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.smtp.cutting import cut, places
from waypost.smtp.body import BODY_LINE, BodyFault, BodyReader, ChunkReader, ChunkSender, DotStuffer, has_lone_newline
from waypost.smtp.errors import LocalProtocolError


def read_body(octets: bytes, places: list[int], limit: int = 0) -> tuple[bytes, BodyReader]:
    reader = BodyReader(limit)
    body = b""
    pieces = list(cut(octets, places))
    for number, piece in enumerate(pieces):
        body += reader.take(piece)
        if reader.ended:
            reader.rest += b"".join(pieces[number + 1 :])
            break
    return body, reader


lines = st.lists(st.sampled_from([b"", b".", b"..", b"...", b".x", b"x", b"x.", b"x.y"]) | st.binary(max_size=12))
clean_bodies = lines.map(
    lambda some: b"".join(line.translate(None, b"\r\n\0") + b"\r\n" for line in some),
)


@given(clean_bodies, places, places)
def test_a_body_is_what_it_was_after_stuffing_and_unstuffing_cut_anywhere(
    body: bytes, sent_in: list[int], came_in: list[int]
) -> None:
    stuffer = DotStuffer()
    wire = b"".join(stuffer.stuff(piece) for piece in cut(body, sent_in)) + stuffer.finish()
    read, reader = read_body(wire + b"QUIT\r\n", came_in)
    assert reader.ended
    assert read == body
    assert reader.size == len(body)
    assert reader.fault is BodyFault.NONE
    assert reader.rest == b"QUIT\r\n"


@given(clean_bodies, st.sampled_from([b"x", b".", b"x.", b"."]), places, places)
def test_a_body_without_a_last_newline_gets_one(
    body: bytes, end: bytes, sent_in: list[int], came_in: list[int]
) -> None:
    stuffer = DotStuffer()
    wire = b"".join(stuffer.stuff(piece) for piece in cut(body + end, sent_in)) + stuffer.finish()
    read, reader = read_body(wire, came_in)
    assert reader.ended
    assert read == body + end + b"\r\n"


def test_a_body_cut_inside_its_last_newline_is_completed() -> None:
    stuffer = DotStuffer()
    assert stuffer.stuff(b"x\r") + stuffer.finish() == b"x\r\n.\r\n"
    assert DotStuffer().stuff(b"") == b""


def test_a_small_body_comes_in_one_piece() -> None:
    reader = BodyReader(0)
    assert reader.take(b"Subject: x\r\n\r\n..\r\nend\r\n.\r\n") == b"Subject: x\r\n\r\n.\r\nend\r\n"
    assert reader.ended


SMUGGLERS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\r\r\n.\r\n\n"[:5],
    b"\n\n.\n\n",
    b"\r\n\n.\r\n",
    b"\r\n\r.\r\n",
]


@pytest.mark.parametrize("smuggler", SMUGGLERS, ids=repr)
def test_no_look_alike_ends_a_body(smuggler: bytes) -> None:
    wire = b"one" + smuggler + b"MAIL FROM:<>\r\n.\r\nQUIT\r\n"
    for cuts in ([], list(range(len(wire))), *([place] for place in range(len(wire)))):
        body, reader = read_body(wire, cuts)
        assert reader.ended
        assert reader.rest == b"QUIT\r\n"
        assert reader.fault in {BodyFault.BARE_NEWLINE, BodyFault.NUL}
        assert b"MAIL" not in body


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\0"]), max_size=14).map(b"".join), places)
def test_a_body_ends_at_crlf_dot_crlf_and_nowhere_else(octets: bytes, came_in: list[int]) -> None:
    framed = b"\r\n" + octets
    end = framed.find(b"\r\n.\r\n")
    _, reader = read_body(octets, came_in)
    assert reader.ended is (end >= 0)
    if end >= 0:
        body = framed[2 : end + 2]
        assert reader.rest == framed[end + 5 :]
        bare = body.replace(b"\r\n", b"")
        clean = b"\r" not in bare and b"\n" not in bare and b"\0" not in body
        assert (reader.fault is BodyFault.NONE) is clean


def test_a_body_over_the_limit_is_read_to_its_end() -> None:
    wire = b"x" * 8 + b"\r\n" + b"y\r\n.\r\nQUIT\r\n"
    for came_in in ([], list(range(40))):
        body, reader = read_body(wire, came_in, limit=12)
        assert reader.fault is BodyFault.TOO_LARGE
        assert len(body) <= 12
        assert reader.size == 13
        assert reader.rest == b"QUIT\r\n"


def test_the_first_fault_is_the_one_that_is_told() -> None:
    _, reader = read_body(b"x\ny\r\n" + b"z" * 100 + b"\0\r\n.\r\n", [6], limit=50)
    assert reader.fault is BodyFault.BARE_NEWLINE


@pytest.mark.parametrize("step", [1 << 20, 4096, 65536, 1000, 65537])
@pytest.mark.parametrize("length", [10, 998, BODY_LINE - 2, BODY_LINE - 1, BODY_LINE + 5000])
@pytest.mark.parametrize("before", [b"", b"a\r\n", b"b" * 40_000 + b"\r\n"])
def test_a_body_line_has_a_limit(step: int, length: int, before: bytes) -> None:
    wire = before + b"x" * length + b"\r\n" + b"c\r\n" * 50_000 + b".\r\n"
    _, reader = read_body(wire, list(range(0, len(wire), step)))
    assert reader.ended
    assert reader.fault is (BodyFault.LINE_TOO_LONG if length + 2 > BODY_LINE else BodyFault.NONE)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\x85", b"\0", b"."])).map(b"".join))
def test_a_newline_is_alone_where_it_is_no_part_of_a_pair(octets: bytes) -> None:
    rest = octets.replace(b"\r\n", b"x")
    assert has_lone_newline(octets) == (b"\r" in rest or b"\n" in rest)


@pytest.mark.parametrize("body", [[b"a\nb"], [b"a\rb"], [b"a\r", b"b"], [b"\n"], [b"a\r\n", b"\n"], [b"a\r", b"\r\n"]])
def test_no_bare_newline_ever_leaves_us(body: list[bytes]) -> None:
    *before, last = body
    stuffer = DotStuffer()
    for piece in before:
        stuffer.stuff(piece)
    with pytest.raises(LocalProtocolError):
        stuffer.stuff(last)


# ---- chunks


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=5), st.integers(1, 7), st.booleans())
def test_chunks_are_put_together_however_they_are_cut(chunks: list[bytes], step: int, binary: bool) -> None:  # noqa: FBT001 - drawn
    reader = ChunkReader(0, binary=binary)
    body = b""
    for number, chunk in enumerate(chunks, start=1):
        reader.begin(len(chunk), last=number == len(chunks))
        assert reader.ended is (chunk == b"")
        wire = chunk + b"QUIT\r\n"
        while not reader.ended:
            body += reader.take(wire[:step])
            wire = reader.rest + wire[step:]
        assert wire == b"QUIT\r\n"
    whole = b"".join(chunks)
    if binary:
        assert (body, reader.fault, reader.size) == (whole, BodyFault.NONE, len(whole))
    else:
        faulty = b"\0" in whole or bool(re.search(rb"\r(?!\n)|(?<!\r)\n", whole))
        assert (reader.fault is not BodyFault.NONE) is faulty
        assert faulty or body == whole


@given(st.lists(st.binary(max_size=6), max_size=5))
def test_what_goes_in_one_chunk_is_read_back(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    sender = ChunkSender(len(whole))
    sent = [sender.stuff(piece) for piece in pieces]
    end = sender.finish()
    assert b"".join([*sent, end]) == f"BDAT {len(whole)} LAST\r\n".encode() + whole
    assert end, "the host must not have the whole of it before the end was sent"


def test_a_chunk_of_another_size_than_was_said_never_ends() -> None:
    sender = ChunkSender(2)
    sender.stuff(b"x")
    with pytest.raises(LocalProtocolError, match="lacks 1 octets"):
        sender.finish()
    with pytest.raises(LocalProtocolError, match="more octets"):
        sender.stuff(b"yz")
