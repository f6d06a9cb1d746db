"""What delivering tells of itself while it works; report/ turns it into log lines and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol

from waypost.mail.attempt import Attempt
from waypost.mail.envelope import NextHop, QueuedMessage
from waypost.mail.outcome import Cause
from waypost.net.clock import Instant
from waypost.queue.storage import Lease, Settled

P = ParamSpec("P")


class Journal(Protocol):
    """Methods return at once. What one raises is caught and costs no mail."""

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        """An attempt has ended and is written down in the queue."""
        ...

    def crashed(self, message: QueuedMessage, next_hop: NextHop, error: Exception) -> None:
        """A bug of ours was caught within an attempt; the message waits, or is held after a few of these."""
        ...

    def storage_failed(self, doing: str, detail: str) -> None:
        """The queue could not be asked or told; it is tried again."""
        ...

    def lease_lost(self, lease: Lease) -> None:
        """An attempt ended, but its lease was no longer ours: whoever has it decides."""
        ...

    def destination_rests(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """No session with any of its hosts can be had: nothing is tried there before `until`."""
        ...

    def credentials_refused(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """A next hop refuses the route's credentials: its mail waits, and somebody has to put them right."""
        ...

    def authorisation_ended(self, next_hop: NextHop, cause: Cause) -> None:
        """A next hop's mail is held: the OAuth authorisation it needs has ended, and somebody has to log in."""
        ...

    def quota_spent(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        """A next hop's mail stays as it is until then: the account that it goes by has spent its quota."""
        ...

    def suppressed(self, message: QueuedMessage, next_hop: NextHop, why: str) -> None:
        """An automatic reply went no further, as its route wishes."""
        ...

    def made_over(self, message: QueuedMessage, next_hop: NextHop, notes: Sequence[str]) -> None:
        """A message was changed as its route wishes, or could not be."""
        ...


class NullJournal:
    """Tells nobody."""

    def suppressed(self, message: QueuedMessage, next_hop: NextHop, why: str) -> None:
        pass

    def made_over(self, message: QueuedMessage, next_hop: NextHop, notes: Sequence[str]) -> None:
        pass

    def attempted(self, attempt: Attempt, settled: Sequence[Settled]) -> None:
        pass

    def crashed(self, message: QueuedMessage, next_hop: NextHop, error: Exception) -> None:
        pass

    def storage_failed(self, doing: str, detail: str) -> None:
        pass

    def lease_lost(self, lease: Lease) -> None:
        pass

    def destination_rests(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        pass

    def authorisation_ended(self, next_hop: NextHop, cause: Cause) -> None:
        pass

    def credentials_refused(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        pass

    def quota_spent(self, next_hop: NextHop, cause: Cause, until: Instant) -> None:
        pass


def tell(method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a Journal's method. What it raises is swallowed: a log or metric that fails must not cost mail."""
    try:  # noqa: SIM105 - suppress() is an object and three calls, for each message
        method(*args, **kwargs)
    except Exception:  # noqa: BLE001, S110 - said above
        pass
