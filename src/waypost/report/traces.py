"""Who is told of what has ended, to make spans of it: nobody, or tracing.py, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from waypost.mail.attempt import Attempt
from waypost.mail.envelope import Envelope, MessageId
from waypost.net.stream import Endpoint
from waypost.queue.storage import Settled


class Traces(Protocol):
    """Makes spans (report/tracing.py); only asked where `is_on`."""

    @property
    def is_on(self) -> bool: ...

    def received(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None: ...  # noqa: A002

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None: ...

    async def close(self) -> None: ...


class Untraced:
    """Nobody wants spans."""

    @property
    def is_on(self) -> bool:
        """Never."""
        return False

    def received(self, client: Endpoint, id: MessageId, envelope: Envelope, size: int) -> None:  # noqa: A002
        """Nobody is told."""

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        """Nobody is told."""

    async def close(self) -> None:
        """Nothing waits."""


UNTRACED: Final = Untraced()
