"""Date and Message-ID are added to what is submitted, where they are missing and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual import START
from waypost.mail.envelope import MessageId
from waypost.receive.completion import HELD, Completion

DATE = b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
MESSAGE_ID = b"Message-ID: <abc@mx.example>\r\n"


def completed(*pieces: bytes) -> bytes:
    completion = Completion(MessageId("abc"), "mx.example", START)
    return b"".join(completion.feed(piece) for piece in pieces) + completion.finish()


@pytest.mark.parametrize(
    ("message", "added"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", DATE + MESSAGE_ID),
        (b"date: x\r\nMESSAGE-ID : y\r\n\r\nbody\r\n", b""),
        (b"Date: x\r\n\r\nMessage-ID: in the body\r\n", MESSAGE_ID),
        (b"Subject: x\r\n Date: folded, not a field\r\nMessage-ID: y\r\n\r\n", DATE),
        (b"Resent-Date: x\r\nResent-Message-ID: y\r\n\r\n", DATE + MESSAGE_ID),
        (b"\r\nno header at all\r\n", DATE + MESSAGE_ID),
        (b"Date: x\r\nMessage-ID: never a body\r\n", b""),
        (b"", DATE + MESSAGE_ID),
    ],
)
def test_what_is_missing_is_added_and_nothing_else(message: bytes, added: bytes) -> None:
    assert completed(message) == added + message
    assert completed(*(message[at : at + 1] for at in range(len(message)))) == added + message


def test_a_header_without_end_is_not_held_for_ever() -> None:
    completion = Completion(MessageId("abc"), "mx.example", START)
    line = b"X-Filler: " + b"x" * 900 + b"\r\n"
    given_out = b"".join(completion.feed(line) for _ in range(100))
    assert given_out.startswith(line)
    assert len(line) * 100 - len(given_out) == 0 < HELD


@given(st.lists(st.binary(max_size=30)))
def test_no_octet_is_lost_or_changed(pieces: list[bytes]) -> None:
    assert completed(*pieces).endswith(b"".join(pieces))
