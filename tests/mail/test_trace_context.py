"""W3C trace context: what a `traceparent` says, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.trace import HeaderScan
from waypost.mail.trace_context import NO_CONTEXT, TraceContext, trace_context, trace_of, traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"


def test_what_is_said_is_kept() -> None:
    assert trace_context(f" {GIVEN} ") == TraceContext(int(TRACE, 16), int(SPAN, 16), is_sampled=True)
    assert (traceparent(GIVEN), trace_of(GIVEN)) == (GIVEN, TRACE)
    assert traceparent(f"00-{TRACE}-{SPAN}-00") == f"00-{TRACE}-{SPAN}-00"


def test_a_later_version_may_say_more_which_is_left_out() -> None:
    assert traceparent(f"cc-{TRACE}-{SPAN}-03-what-else") == GIVEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        GIVEN.upper(),
        GIVEN[:-1],
        f"{GIVEN}\r\nX: y",
    ],
)
def test_what_is_none_is_as_if_nothing_was_said(text: str) -> None:
    assert trace_context(text) is NO_CONTEXT
    assert (traceparent(text), trace_of(traceparent(text))) == ("", "")


@given(st.text())
def test_any_text_is_a_context_or_none(text: str) -> None:
    found = trace_context(text)
    assert found is NO_CONTEXT or traceparent(str(found)) == str(found)


@given(st.integers(0, 100))
def test_a_header_names_it_wherever_the_octets_are_cut(cut: int) -> None:
    scan, header = HeaderScan(), f"Subject: x\r\nTraceparent: {GIVEN}\r\n\r\nTraceparent: no\r\n".encode()
    scan.feed(header[:cut])
    scan.feed(header[cut:])
    assert (scan.is_marked, scan.traceparent) == (True, GIVEN)
