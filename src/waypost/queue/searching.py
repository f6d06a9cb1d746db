"""A search through the history, newest first: a few hundred messages at a time, and not all of them at once.

Each storage brings the two questions (reads.py, postgres/reads.py); this is the way from one to the next. What fits is
judged by record.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from waypost.queue import ids
from waypost.queue.storage import Found, Search

#: Messages that one search looks through, and of these at a time, so that others are answered in between.
SEARCHED: Final = 20_000
AT_ONCE: Final = 500
#: Above every message's number; and what ids of one moment may differ by, with a clock that stepped back (10 s).
AFTER_ALL: Final = 2**63 - 1
SKEW: Final = 10_000 << 21


class Searched(NamedTuple):
    """What a search has found in some messages; the oldest of them, and whether there are no older ones."""

    fitting: list[int]
    last: int
    is_end: bool


async def search_on(
    search: Search,
    start: int,
    limit: int,
    *,
    addressed: Callable[[int], Awaitable[Sequence[int]]],
    fitting: Callable[[int, Sequence[int]], Awaitable[Searched]],
) -> Found:
    """What fits, of messages below `start`.

    `addressed`: at most AT_ONCE messages of the address below a number, newest first. `fitting`: those that fit of the
    given messages, or, given none, of the AT_ONCE newest below a number.
    """
    found: list[int] = []
    if search.until:
        start = min(start, ids.first_number(search.until) + SKEW)
    for _ in range(SEARCHED // AT_ONCE):
        looked_at = await addressed(start) if search.address else ()
        if search.address and not looked_at:
            return _found(found, "")
        part = await fitting(start, looked_at)
        found += part.fitting
        if len(found) > limit:
            return _found(found[:limit], ids.from_number(found[limit - 1]))
        start = looked_at[-1] if looked_at else part.last
        if len(looked_at) < AT_ONCE if search.address else part.is_end:
            return _found(found, "")
    return _found(found, ids.from_number(start))


def _found(numbers: Sequence[int], following: str) -> Found:
    return Found(tuple(map(ids.from_number, numbers)), following)
