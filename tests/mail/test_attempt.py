"""The transcript of an attempt: what is kept of a dialogue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.attempt import Transcript

LINES = st.text(st.characters(exclude_characters="\n"), max_size=30)


@given(st.lists(st.lists(LINES, min_size=1, max_size=9), max_size=20))
def test_a_dialogue_of_usual_length_is_kept_whole_and_reads_a_line_each(passages: list[list[str]]) -> None:
    transcript = Transcript(5.0)
    for number, said in enumerate(passages):
        transcript.add(5.0 + number, "S", "\n".join(said))
    assert transcript.lines == [(float(number), "S", line) for number, said in enumerate(passages) for line in said]


@given(st.integers(1, 50))
def test_an_endless_reply_does_not_hide_how_the_attempt_began_nor_how_it_ended(at_once: int) -> None:
    transcript = Transcript(0.0)
    transcript.add(0.5, "C", "EHLO us.example")
    for number in range(0, 1000, at_once):
        transcript.add(1.0, "S", "\n".join(f"250-{line}" for line in range(number, number + at_once)))
    transcript.add(2.0, "*", "EHLO failed")
    said = 1 + -(-1000 // at_once) * at_once
    lines = transcript.lines
    assert lines[0] == (0.5, "C", "EHLO us.example")
    assert lines[Transcript.LIMIT] == (1.0, "*", f"… {said + 1 - 220} more lines not kept …")
    assert lines[-1] == (2.0, "*", "EHLO failed")
    assert len(lines) == Transcript.LIMIT + 1 + Transcript.LAST


def test_a_line_that_is_much_too_long_is_cut_and_its_neighbours_are_not() -> None:
    transcript = Transcript(0.0)
    transcript.add(0.0, "S", "250-short\n250 " + "x" * 1000)
    assert transcript.lines == [(0.0, "S", "250-short"), (0.0, "S", ("250 " + "x" * 1000)[:512])]


def test_an_event_amid_an_endless_dialogue_is_kept_before_what_was_said() -> None:
    transcript = Transcript(0.0)
    for line in range(300):
        transcript.add(0.0, "S", f"250-{line}")
    transcript.add(1.0, "*", "EHLO: a reply of more than 256 lines")
    for line in range(300):
        transcript.add(2.0, "S", f"250-{line}")
    assert (1.0, "*", "EHLO: a reply of more than 256 lines") in transcript.lines
    assert len(transcript.lines) == Transcript.LIMIT + 1 + Transcript.LAST


def test_events_without_end_are_capped_too() -> None:
    transcript = Transcript(0.0)
    for number in range(1000):
        transcript.add(0.0, "*", f"event {number}")
    assert len(transcript.lines) == Transcript.LIMIT + 1 + Transcript.LAST
    assert transcript.lines[-1] == (0.0, "*", "event 999")
