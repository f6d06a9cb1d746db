"""Names for messages: 13 characters, in the order of their making, unlike any other process's.

63 bits, written in lower-case Crockford base32 (no i, l, o, u: an id survives being read out over a telephone), so that
text, number and time all sort alike:

    42 bits  milliseconds since 1970 (until the year 2109)
    12 bits  node: drawn at start, or given by whoever runs several
     9 bits  how many so far in this millisecond

Not here: uniqueness of anything but ids of one maker or of different nodes.
"""

from __future__ import annotations

import random
from typing import Final

from waypost.mail.envelope import MessageId
from waypost.net.clock import Clock, Instant

LENGTH: Final = 13
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
#: To the digits `int` knows in base 32; what is none of ours becomes what is none of its.
_DIGITS: Final = dict.fromkeys(range(128), "!") | dict(
    zip(map(ord, _ALPHABET), "0123456789abcdefghijklmnopqrstuv", strict=True)
)
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_NODE_BITS: Final = 12
_COUNT_BITS: Final = 9
_WORKER_BITS: Final = 6
#: No worker among others: the node is drawn whole.
ALONE: Final = -1
_TIME_SHIFT: Final = _NODE_BITS + _COUNT_BITS


class MessageIds:
    """Makes ids. Never goes back: when the clock steps back, it stays on the last millisecond and counts on."""

    __slots__ = ("_clock", "_count", "_millisecond", "_node")

    def __init__(self, clock: Clock, dice: random.Random, worker: int = ALONE) -> None:
        """`worker`: which of up to 64 on this machine; no two of them make the same id."""
        self._clock = clock
        drawn = dice.getrandbits(_NODE_BITS)
        self._node = (drawn if worker == ALONE else drawn >> _WORKER_BITS << _WORKER_BITS | worker) << _COUNT_BITS
        self._millisecond = 0
        self._count = 0

    def make(self) -> MessageId:
        """A new id, greater than every one made before."""
        now = int(self._clock.now() * 1000)
        if now > self._millisecond:
            self._millisecond, self._count = now, 0
        elif self._count < (1 << _COUNT_BITS) - 1:
            self._count += 1
        else:  # 512 in one millisecond: borrow from the next one
            self._millisecond, self._count = self._millisecond + 1, 0
        return from_number(self._millisecond << _TIME_SHIFT | self._node | self._count)


def from_number(number: int) -> MessageId:
    """The id that stands for a number of at most 63 bits."""
    pairs = _PAIRS
    return MessageId(
        _ALPHABET[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def to_number(id: MessageId) -> int:  # noqa: A002 - the field's own name for it
    """The number an id stands for. Raises: ValueError, where it is no id of ours."""
    if len(id) != LENGTH:
        raise ValueError(f"a message id has {LENGTH} characters, and {id!r} has {len(id)}")
    try:
        number = int(id.encode("ascii").decode().translate(_DIGITS), 32)
    except ValueError:  # UnicodeEncodeError is one
        raise ValueError(f"a message id is written with {_ALPHABET}, and {id!r} is not") from None
    if number >> 63:
        raise ValueError(f"a message id begins with 0 to 7, and {id!r} does not")
    return number


def first_number(at: Instant) -> int:
    """The least number of ids made at `at` or later."""
    return int(at * 1000) << _TIME_SHIFT


def made_at(number: int) -> Instant:
    """When an id was made, to the millisecond."""
    return (number >> _TIME_SHIFT) / 1000
