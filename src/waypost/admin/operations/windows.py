"""Delivery windows, as somebody sees them who looks at the queue: which recipients wait for one, and until when.

Not here: when a window is open (mail/window.py), and who heeds it (deliver/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from waypost.mail.window import ALWAYS, Always, Hourly, Window, waits_for
from waypost.net.clock import Clock, Instant
from waypost.queue.storage import QueueEntry, RecipientState
from waypost.route.route import NoRoute, Route
from waypost.route.state import DestinationState, Phase
from waypost.route.table import RouteTable


@dataclass(frozen=True, slots=True)
class Windows:
    """Those of the routes; `delivering` tells which an operator has opened."""

    table: RouteTable
    delivering: Callable[[], Sequence[DestinationState]]
    clock: Clock

    def noted(self, entry: QueueEntry) -> QueueEntry:
        """The entry with the delivery window it waits for, where it does."""
        shut = self._shut(entry, self.table.by_next_hop(entry.next_hop))
        return replace(entry, reason=waits_for(shut, self.clock.now())) if isinstance(shut, Hourly) else entry

    def waited_for(self, entry: QueueEntry, route: Route | NoRoute) -> tuple[str, Instant]:
        """The window a recipient waits for, as a sentence, and when it opens by its hours; "" and 0 where for none."""
        shut, now = self._shut(entry, route), self.clock.now()
        if isinstance(shut, Always):
            return "", 0.0
        return waits_for(shut, now), shut.opens(now) if shut.hours else 0.0

    def _shut(self, entry: QueueEntry, route: Route | NoRoute) -> Window:
        """The window that keeps a recipient waiting; `ALWAYS` where none does."""
        if entry.state is not RecipientState.DUE or not isinstance(route, Route) or isinstance(route.window, Always):
            return ALWAYS
        is_opened = any(one.next_hop == entry.next_hop and one.phase is not Phase.SHUT for one in self.delivering())
        return ALWAYS if is_opened or route.window.is_open(self.clock.now()) else route.window
