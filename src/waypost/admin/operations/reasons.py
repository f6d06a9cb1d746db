"""Why mail waits: for each recipient that is asked about the one thing, of what is known at this moment.

Not here: which of the things known is the one (why.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from waypost.admin.answers import FailureKind, OperationError, Waiting, Why
from waypost.admin.operations.frost import Freezer
from waypost.admin.operations.questions import domain_of, message_id, storage_trouble
from waypost.admin.operations.queue import Queue
from waypost.admin.why import Circumstances, Unknown, last_outcome, limiting, released_at
from waypost.mail.envelope import NextHop
from waypost.queue.storage import QueueEntry, Selection
from waypost.route.route import NoRoute, Route
from waypost.route.state import DestinationState
from waypost.route.table import RouteTable


@dataclass(frozen=True, slots=True)
class Reasons:
    """Gathers what is known. `delivering` tells what destinations do now."""

    queue: Queue
    freezer: Freezer
    table: RouteTable
    delivering: Callable[[], Sequence[DestinationState]]
    is_running: bool

    async def why(self, asked: str, *, limit: int) -> Why:
        """Of a message id, a domain, an address or a next hop."""
        selection = _asked_about(asked)
        page = await self.queue.page(selection, limit=limit)
        states = {state.next_hop: state for state in self.delivering()}
        places = {entry.next_hop for entry in page.entries} | self._places(selection)
        recipients = [await self._waiting(entry, states) for entry in page.entries]
        if not recipients and not (places & states.keys()):
            raise OperationError(
                FailureKind.NOT_FOUND, f"nothing waits for {asked}", f"what became of it: waypost trace {asked}"
            )
        found = tuple(states[place] for place in sorted(places & states.keys()))
        return Why(asked, self.queue.clock.now(), tuple(recipients), found, more=bool(page.next))

    def _places(self, selection: Selection) -> set[NextHop]:
        """The next hops a question means, whether or not something waits for them."""
        if selection.next_hop:
            return {NextHop(selection.next_hop)}
        found = self.table.route_domain(selection.domain) if selection.domain else NoRoute("")
        return {found.next_hop} if isinstance(found, Route) else set()

    async def _waiting(self, entry: QueueEntry, states: Mapping[NextHop, DestinationState]) -> Waiting:
        with storage_trouble():
            events = await self.queue.storage.history(entry.id)
        route = self.table.by_next_hop(entry.next_hop)
        window, opens_at = self.queue.windows.waited_for(entry, route)
        facts = Circumstances(
            now=self.queue.clock.now(),
            is_running=self.is_running,
            state=states.get(entry.next_hop, Unknown()),
            no_route=route.detail if isinstance(route, NoRoute) else "",
            frozen={place: str(one) for place, one in (await self.freezer.all()).items()},
            route=route.name if isinstance(route, Route) else "",
            last=last_outcome(events, entry.number),
            released_at=released_at(events),
            window=window,
            opens_at=opens_at,
        )
        return limiting(entry, facts)


def _asked_about(asked: str) -> Selection:
    if "@" in asked:
        return Selection(address=asked.strip("<>"))
    if ":" in asked and not asked.startswith("["):
        return Selection(next_hop=asked)
    if "." in asked or asked.startswith("["):
        return Selection(domain=str(domain_of(asked)))
    return Selection(ids=(message_id(asked),))
