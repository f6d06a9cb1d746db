"""Delivery windows: when they are open, over midnight, weekends and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.window import Hourly, Hours, parse_hours, parse_zone, waits_for

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def window(*texts: str, zone: ZoneInfo = BERLIN) -> Hourly:
    return Hourly(tuple(parse_hours(text) for text in texts), zone, text="; ".join(texts), place="w.toml:9")


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("text", "days", "begins", "ends"),
    [
        ("mon-fri 08:00-18:00", {0, 1, 2, 3, 4}, 480, 1080),
        ("sat,sun 22:00-6:30", {5, 6}, 1320, 390),
        ("fri-mon 0:00-24:00", {4, 5, 6, 0}, 0, 1440),
        ("20:00-24:00", set(range(7)), 1200, 1440),
    ],
)
def test_hours_are_read(text: str, days: set[int], begins: int, ends: int) -> None:
    assert parse_hours(text) == Hours(frozenset(days), begins, ends)


@pytest.mark.parametrize("text", ["", "mon", "8-18", "08:00-08:00", "08:60-09:00", "08:00-25:00", "foo 08:00-09:00"])
def test_what_are_no_hours_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="; write "):
        parse_hours(text)


def test_what_is_no_time_zone_is_told() -> None:
    for text in ("Europe/Atlantis", "", "../etc/passwd"):
        with pytest.raises(ValueError, match="no time zone"):
            parse_zone(text)


@pytest.mark.parametrize(
    ("moment", "is_open", "opens"),
    [
        ("2026-11-27 12:00", True, "2026-11-27 12:00"),  # a Friday
        ("2026-11-27 18:00", False, "2026-11-30 08:00"),
        ("2026-11-29 12:00", False, "2026-11-30 08:00"),
        ("2026-11-30 07:59", False, "2026-11-30 08:00"),
    ],
)
def test_it_is_open_within_its_hours_in_its_zone(moment: str, is_open: bool, opens: str) -> None:  # noqa: FBT001
    found = window("mon-fri 08:00-18:00")
    assert found.is_open(at(moment)) is is_open
    assert found.opens(at(moment)) == at(opens)


def test_hours_over_midnight_belong_to_the_day_they_begin_on() -> None:
    found = window("fri 22:00-06:00")
    assert found.is_open(at("2026-11-28 05:59"))  # a Saturday
    assert not found.is_open(at("2026-11-27 05:59"))


def test_hours_keep_to_the_wall_clock_when_it_changes() -> None:
    found = window("08:00-09:00")
    for day in ("2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25"):
        assert found.is_open(at(f"{day} 08:30"))
        assert not found.is_open(at(f"{day} 09:00"))


def test_only_open_time_counts_for_giving_up() -> None:
    found = window("mon-fri 08:00-18:00")
    friday = at("2026-11-27 17:00")
    assert found.after(friday, timedelta(hours=1)) == at("2026-11-27 18:00")
    assert found.after(friday, timedelta(hours=2)) == at("2026-11-30 09:00")
    assert found.after(friday, timedelta(hours=31)) == at("2026-12-02 18:00")
    assert found.after(at("2026-11-29 00:00"), timedelta(hours=1)) == at("2026-11-30 09:00")


def test_without_hours_all_time_counts() -> None:
    found = Hourly((), BERLIN, timedelta(minutes=30))
    assert found.after(100.0, timedelta(hours=1)) == 100 + HOUR
    assert not found.is_open(100.0)
    assert found.opens(100.0) == 100.0


def test_a_sentence_names_the_window_its_line_and_when_it_opens() -> None:
    found = window("mon-fri 08:00-18:00")
    assert waits_for(found, at("2026-11-27 18:30")) == (
        "waits for its delivery window, mon-fri 08:00-18:00 (w.toml:9): opens 2026-11-30 07:00 UTC"
    )
    demand = Hourly((), BERLIN, timedelta(minutes=30), 100, place="w.toml:9")
    assert waits_for(demand, 0.0) == (
        "waits for its delivery window, on demand (w.toml:9): opens when mail has waited 30 minutes, or opens when 100 "
        "messages wait"
    )


@given(
    st.integers(0, 2_000_000_000),
    st.lists(
        st.builds(
            lambda days, begins, ends: Hours(days, begins, ends if ends != begins else begins + 1),
            st.frozensets(st.integers(0, 6), min_size=1),
            st.integers(0, 1439),
            st.integers(1, 1440),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_opens_is_open_and_nothing_before_it_is(moment: int, hours: list[Hours]) -> None:
    found = Hourly(tuple(hours), ZoneInfo("UTC"))
    opens = found.opens(moment)
    assert opens >= moment
    assert found.is_open(opens)
    if opens > moment:
        assert not found.is_open(opens - 1)
        assert not found.is_open(moment)
    assert datetime.fromtimestamp(opens, UTC) - datetime.fromtimestamp(moment, UTC) <= timedelta(days=8)
