from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.smtp.cutting import cut, places
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
