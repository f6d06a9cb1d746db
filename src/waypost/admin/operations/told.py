"""Whom operations tell of what they have changed: those who deliver. Where no service runs, nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from waypost.mail.envelope import NextHop
from waypost.queue.frost import Frozen


def _nobody() -> None:
    """Nobody waits to be told."""


def _nobody_wants(_: Collection[NextHop]) -> None:
    """Nobody delivers."""


async def _nobody_keeps(_: NextHop) -> None:
    """Nobody keeps mail until it is asked for."""


def _nobody_heeds(_frozen: Mapping[str, Frozen]) -> None:
    """Nobody delivers, so nobody need heed it."""


def _nobody_watches(_peers: Sequence[str]) -> None:
    """Nothing is delivered, so nothing is said."""


@dataclass(frozen=True, slots=True)
class Told:
    """Each is told when that has happened; `called` beforehand."""

    changed: Callable[[], None] = _nobody  # recipients may have become due
    #: Somebody wants mail tried now, whatever rests; and the next hop, where one was named.
    retried: Callable[[Collection[NextHop]], None] = _nobody_wants
    #: Mail that is kept at a next hop until its host asks for it may go.
    called: Callable[[NextHop], Awaitable[None]] = _nobody_keeps
    refrozen: Callable[[Mapping[str, Frozen]], None] = _nobody_heeds  # what is frozen now
    rewatched: Callable[[Sequence[str]], None] = _nobody_watches  # whose dialogues are logged now


NOBODY: Final = Told()
