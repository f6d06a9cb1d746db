"""One attempt to pass a message on: who it was for, what became of each, and the dialogue that shows why."""

from __future__ import annotations

from dataclasses import dataclass, field

from waypost.mail.envelope import NextHop, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Outcome
from waypost.net.clock import Instant


class Transcript:
    """The dialogue of one attempt, capped: credentials and bodies are never handed to it.

    Each line is (seconds since the attempt began, mark, text). Marks: `C` we said, `S` the peer said, `*` an event.
    """

    __slots__ = ("_lines", "_omitted", "_started")

    #: Lines kept of one attempt: a dialogue with 50 recipients fits whole; an endless reply does not fill the disk.
    LIMIT = 200
    #: Characters kept of one line (RFC 5321 §4.5.3.1.5 has reply lines of 512 octets).
    WIDTH = 512

    def __init__(self, started: float) -> None:
        self._started = started
        self._lines: list[tuple[float, str, str]] = []
        self._omitted = 0

    def add(self, at: float, mark: str, text: str) -> None:
        """Write one line down; `at` is monotonic seconds, as `started` was."""
        if len(self._lines) >= self.LIMIT:
            self._omitted += 1
            return
        self._lines.append((at - self._started, mark, text[: self.WIDTH]))

    @property
    def lines(self) -> list[tuple[float, str, str]]:
        """The lines so far, with one that counts what the cap left out."""
        if not self._omitted:
            return self._lines
        return [*self._lines, (self._lines[-1][0], "*", f"… {self._omitted} more lines not kept")]

    def __str__(self) -> str:
        return "\n".join(f"{at:8.3f} {mark} {text}" for at, mark, text in self.lines)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, ended."""

    message: QueuedMessage
    next_hop: NextHop
    started_at: Instant
    ended_at: Instant
    outcomes: tuple[tuple[QueuedRecipient, Outcome], ...]
    transcript: Transcript = field(repr=False)
