"""The route table: domain → Route, by longest suffix of whole labels. INTERFACE SKETCH for the author of route/."""

from __future__ import annotations

from collections.abc import Sequence

from waypost.mail.envelope import NextHop
from waypost.route.route import NoRoute, Route
from waypost.smtp.path import ForwardPath


class RouteTable:
    """Looked up for each RCPT (no I/O), and again for each lease by its next hop's key."""

    def route(self, forward_path: ForwardPath) -> Route | NoRoute:
        """Where this recipient goes."""
        raise NotImplementedError

    def by_next_hop(self, next_hop: NextHop) -> Route | NoRoute:
        """The route a key was made by (`mx:example.org` and the like name their domain in the key)."""
        raise NotImplementedError


def describe(table: RouteTable) -> Sequence[str]:
    """The table, a line a rule, as `check` prints it."""
    raise NotImplementedError
