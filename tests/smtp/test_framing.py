from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.smtp.body import BODY_LINE, BodyFault, BodyReader, ChunkReader, ChunkSender, DotStuffer, has_lone_newline
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.framing import (
    COMMAND_FLOOD,
    COMMAND_LINE,
    EXCERPT,
    INCOMPLETE,
    REPLY_LINE,
    REPLY_LINES,
    REPLY_OCTETS,
    BadLine,
    BadReply,
    CommandReader,
    LineFault,
    ReplyRead,
    ReplyReader,
)
from waypost.smtp.reply import Reply


def cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    """`octets` in pieces, cut at `places` (taken modulo its length)."""
    begin = 0
    for place in sorted({place % (len(octets) + 1) for place in places} | {len(octets)}):
        if place > begin:
            yield octets[begin:place]
            begin = place


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
places = st.lists(st.integers(0, 1000), max_size=20)


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
    for places in ([], list(range(len(wire))), *([place] for place in range(len(wire)))):
        body, reader = read_body(wire, places)
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


# ---- command lines


def read_lines(octets: bytes, places: list[int]) -> list[str | BadLine]:
    reader = CommandReader()
    found: list[str | BadLine] = []
    for piece in cut(octets, places):
        reader.feed(piece)
        while (line := reader.next_line()) is not INCOMPLETE:
            found.append(line)
            if isinstance(line, BadLine) and line.fault is LineFault.FLOOD:
                return found
    return found


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)), places)
def test_lines_are_the_same_in_any_segmentation(texts: list[str], came_in: list[int]) -> None:
    assert read_lines("".join(f"{text}\r\n" for text in texts).encode(), came_in) == texts


@given(st.binary(max_size=60), places)
def test_any_octets_are_lines_or_bad_lines_in_any_segmentation(octets: bytes, came_in: list[int]) -> None:
    assert read_lines(octets, came_in) == read_lines(octets, [])


@pytest.mark.parametrize("step", [1, 100, COMMAND_LINE, COMMAND_LINE + 1, 1 << 20])
def test_an_over_long_line_is_thrown_away_to_its_end(step: int) -> None:
    wire = b"x" * (COMMAND_LINE - 2) + b"\r\n" + b"y" * (COMMAND_LINE - 1) + b"\r\nNOOP\r\n"
    first, second, third = read_lines(wire, list(range(0, len(wire), step)))
    assert first == "x" * (COMMAND_LINE - 2)
    assert isinstance(second, BadLine)
    assert second.fault is LineFault.OVER_LONG
    assert len(second.excerpt) <= EXCERPT + 1
    assert third == "NOOP"


@pytest.mark.parametrize("end", [b"", b"\r\n"])
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_a_line_without_end_is_a_flood(end: bytes, step: int) -> None:
    wire = b"x" * (COMMAND_FLOOD + 1) + end
    bad = read_lines(wire, list(range(0, len(wire), step)))[0]
    assert isinstance(bad, BadLine)
    assert bad.fault is LineFault.FLOOD


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"NOOP\n", LineFault.BARE_NEWLINE),
        (b"\n", LineFault.BARE_NEWLINE),
        (b"NO\rOP\r\n", LineFault.BARE_NEWLINE),
        (b"NOOP\r\r\n", LineFault.BARE_NEWLINE),
        (b"NO\0OP\r\n", LineFault.CONTROL),
        (b"NO\tOP\r\n", LineFault.CONTROL),
        ("NO\x85OP\r\n".encode(), LineFault.CONTROL),
        (b"NO\xffOP\r\n", LineFault.NOT_UTF8),
    ],
)
def test_a_line_that_cannot_be_a_command_is_told_as_such(octets: bytes, fault: LineFault) -> None:
    (bad,) = read_lines(octets, [])
    assert isinstance(bad, BadLine)
    assert bad.fault is fault
    assert bad.excerpt.isprintable()


# ---- replies


def read_replies(octets: bytes, places: list[int]) -> list[Reply | BadReply]:
    reader = ReplyReader()
    found: list[Reply | BadReply] = []
    for piece in cut(octets, places):
        reader.feed(piece)
        while (reply := reader.next_reply()) is not INCOMPLETE:
            found.append(reply)
            if isinstance(reply, BadReply):
                return found
    return found


replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), max_size=20), min_size=1).map(
        tuple
    ),
)


@given(st.lists(replies, max_size=4), places)
def test_replies_are_the_same_in_any_segmentation(some: list[Reply], came_in: list[int]) -> None:
    assert read_replies(b"".join(reply.encode() for reply in some), came_in) == some


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"250 ", b"250-", b"\r\n", b"354 x\r\n"])).map(b"".join), places
)
def test_any_octets_are_replies_or_a_bad_reply_in_any_segmentation(octets: bytes, came_in: list[int]) -> None:
    assert read_replies(octets, came_in) == read_replies(octets, [])


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"250x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"\xb2\xb3\xb4 x\r\n",
        "²⁵⁰ x\r\n".encode(),
        b"x" * (REPLY_LINE + 1),
        b"250 " + b"x" * REPLY_LINE + b"\r\n",
        b"250-\r\n" * (REPLY_LINES + 1),
        (b"250-" + b"x" * (REPLY_LINE - 10) + b"\r\n") * (REPLY_OCTETS // (REPLY_LINE - 10) + 1),
    ],
    ids=lambda octets: repr(octets[:12]),
)
def test_what_is_no_reply_is_told_as_such(octets: bytes) -> None:
    for came_in in ([], list(range(0, len(octets), 7))):
        found = read_replies(octets, came_in)[-1]
        assert isinstance(found, BadReply)
        assert found.detail
        assert len(found.heard) <= EXCERPT * 4


def one(octets: bytes) -> ReplyRead:
    reader = ReplyReader()
    reader.feed(octets)
    return reader.next_reply()


def test_a_reply_may_have_no_text() -> None:
    assert one(b"250\r\n") == one(b"250 \r\n") == Reply(250, ("",))


def test_what_cannot_stand_in_a_log_is_replaced() -> None:
    assert one(b"550 a\0b\x1b[31m\xff\r\n") == Reply(550, ("a\ufffdb\ufffd[31m\ufffd",))
    assert one("550 für Jürgen\r\n".encode()) == Reply(550, ("für Jürgen",))


def test_a_bare_newline_is_noted() -> None:
    reader = ReplyReader()
    reader.feed(b"250-a\r\n")
    assert reader.next_reply() is INCOMPLETE
    assert (reader.bare_newline, reader.pending) == (False, True)
    reader.feed(b"250 b\n")
    assert reader.next_reply() == Reply(250, ("a", "b"))
    assert (reader.bare_newline, reader.pending) == (True, False)


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
