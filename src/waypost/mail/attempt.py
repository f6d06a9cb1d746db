"""One attempt to pass a message on: who it was for, what became of each, and the dialogue that shows why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from waypost.mail.envelope import NextHop, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Outcome
from waypost.net.clock import Instant


class Transcript:
    """The dialogue of one attempt, capped: credentials and bodies are never handed to it.

    Each passage is (seconds since the attempt began, mark, text): lines that were said at once, with newlines between
    them. Marks: `C` we said, `S` the peer said, `*` an event.
    """

    __slots__ = ("_count", "_last", "_passages", "_started")

    #: Lines kept from the start: a dialogue with 50 recipients fits whole; an endless reply does not fill the disk.
    LIMIT: Final = 200
    #: Lines kept from the end, beyond those: how it went on, and ended. Events are given up last: they tell why.
    LAST: Final = 20
    #: Characters kept of one line (RFC 5321 §4.5.3.1.5 has reply lines of 512 octets).
    WIDTH: Final = 512

    def __init__(self, started: float) -> None:
        self._started = started
        self._passages: list[tuple[float, str, str]] = []
        self._count = 0  # lines, those not kept included
        self._last: list[tuple[float, str, str]] = []

    def add(self, at: float, mark: str, text: str) -> None:
        """Write a passage down; `at` is monotonic seconds, as `started` was."""
        lines = text.count("\n") + 1
        if self._count + lines > self.LIMIT or len(text) > self.WIDTH:
            self._add_capped(at, mark, text)
        else:
            self._count += lines
            self._passages.append((at - self._started, mark, text))

    def _add_capped(self, at: float, mark: str, text: str) -> None:
        for line in text.split("\n"):
            kept = self._passages if self._count < self.LIMIT else self._last
            kept.append((at - self._started, mark, line[: self.WIDTH]))
            self._count += 1
            if len(self._last) > self.LAST:
                del self._last[next((index for index, (_, of, _) in enumerate(self._last) if of != "*"), 0)]

    @property
    def passages(self) -> list[tuple[float, str, str]]:
        """The dialogue so far, with a line that counts what the cap left out."""
        if self._count <= self.LIMIT:
            return self._passages
        omitted = self._count - self.LIMIT - len(self._last)
        note = [(self._passages[-1][0], "*", f"… {omitted} more lines not kept …")] if omitted else []
        return [*self._passages, *note, *self._last]

    @property
    def lines(self) -> list[tuple[float, str, str]]:
        """The same, a line each."""
        return lines_of(self.passages)

    def __str__(self) -> str:
        return "\n".join(f"{at:8.3f} {mark} {text}" for at, mark, text in self.lines)


def lines_of(passages: Iterable[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Passages of a transcript, a line each."""
    return [(at, mark, line) for at, mark, text in passages for line in text.split("\n")]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, ended."""

    message: QueuedMessage
    next_hop: NextHop
    started_at: Instant
    ended_at: Instant
    outcomes: tuple[tuple[QueuedRecipient, Outcome], ...]
    transcript: Transcript = field(repr=False)
