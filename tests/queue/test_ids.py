# ruff: noqa: S311 - dice that fall alike each time
from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.mail.envelope import MessageId
from waypost.queue import ids
from waypost.queue.ids import MessageIds


class SteppingClock:
    """A wall clock that shows what it was told to."""

    def __init__(self, *moments: float) -> None:
        self._moments = iter(moments)
        self._last = 0.0

    def now(self) -> float:
        self._last = next(self._moments, self._last)
        return self._last

    def monotonic(self) -> float:
        return self._last

    async def sleep(self, duration: timedelta) -> None:
        raise AssertionError(f"ids do not wait {duration}")


def test_ids_are_13_characters_in_the_order_of_their_making() -> None:
    maker = MessageIds(SteppingClock(*(1_800_000_000 + n / 1000 for n in range(500))), random.Random(1))
    made = [maker.make() for _ in range(500)]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {13}
    assert all(one.isascii() and one == one.lower() for one in made)


def test_ids_never_go_back_when_the_clock_does() -> None:
    maker = MessageIds(SteppingClock(1_800_000_000.0, 1_700_000_000.0, 1_800_000_000.001), random.Random(1))
    first, second, third = (maker.make() for _ in range(3))
    assert first < second < third


def test_more_ids_than_a_millisecond_has_room_for_borrow_from_the_next() -> None:
    maker = MessageIds(SteppingClock(1_800_000_000.0), random.Random(1))
    made = [maker.make() for _ in range(2000)]
    assert made == sorted(set(made))
    assert ids.made_at(ids.to_number(made[-1])) == pytest.approx(1_800_000_000.003)


def test_two_processes_make_different_ids_in_the_same_millisecond() -> None:
    made = [MessageIds(SteppingClock(1_800_000_000.0), random.Random(seed)).make() for seed in range(20)]
    assert len(set(made)) == 20


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_an_id_and_its_number_name_one_another_and_sort_alike(one: int, other: int) -> None:
    assert ids.to_number(ids.from_number(one)) == one
    assert (ids.from_number(one) < ids.from_number(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00000000000000",
        "000000000000i",
        "000000000000U",
        "0000000_00000",
        "+000000000000",
        "000000000 000",
        "8000000000000",
        "z000000000000",
        "٣000000000000",
        "é000000000000",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a message id"):
        ids.to_number(MessageId(text))
