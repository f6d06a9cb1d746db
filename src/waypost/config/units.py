"""Durations ("1h30m") and sizes ("50M") as they are written in a configuration, both ways."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DURATION_PART: Final = re.compile(r"([0-9]{1,9})(ms|[wdhms])")
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:ms|[wdhms]))+")
_SIZE_UNITS: Final = {"G": 1024**3, "M": 1024**2, "K": 1024, "": 1}
_SIZE: Final = re.compile(r"([0-9]{1,18})([KMG]?)")


def parse_duration(text: str) -> timedelta:
    """`90s`, `1h30m`, `5d`. Raises: ValueError, with a sentence."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f'{text!r} is no duration; write a number with its unit, such as "90s", "5m", "1h30m" or "5d"')
    try:
        return sum((_DURATION_UNITS[unit] * int(count) for count, unit in _DURATION_PART.findall(text)), timedelta())
    except OverflowError:
        raise ValueError(f"{text!r} is longer than time is reckoned here") from None


def format_duration(duration: timedelta) -> str:
    """The shortest spelling `parse_duration` reads back; to the millisecond. A week is written as `7d`."""
    rest, text = duration, ""
    for unit, length in _DURATION_UNITS.items():
        if unit == "w":
            continue
        count, rest = divmod(rest, length)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(text: str) -> int:
    """`50M`, `64K`, `1000` in octets; K, M and G are powers of 1024. Raises: ValueError, with a sentence."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no size; write octets, or K, M or G of them, such as "50M"')
    return int(found[1]) * _SIZE_UNITS[found[2]]


def format_size(octets: int) -> str:
    """The shortest spelling `parse_size` reads back."""
    for unit, size in _SIZE_UNITS.items():
        if octets and octets % size == 0:
            return f"{octets // size}{unit}"
    return "0"
