"""What is done to recipients in the queue: they are tried, held, released, rerouted, bounced or deleted.

All that a selection means, or a slice of it after another; or it is only counted. Not here: the bin, to which what is
bounced or deleted goes (bin.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from waypost.admin.answers import ACTIONS, ActBody, Acted, FailureKind, OperationError
from waypost.admin.operations.questions import meant, place_of, place_text, storage_trouble
from waypost.admin.operations.queue import Queue
from waypost.admin.operations.told import Told
from waypost.mail.envelope import NextHop
from waypost.net.clock import Clock
from waypost.queue.storage import Selection, Storage
from waypost.route.route import Route
from waypost.route.table import RouteTable


@dataclass(frozen=True, slots=True)
class Acting:
    """Does it, and tells who delivers."""

    storage: Storage
    queue: Queue
    table: RouteTable
    told: Told
    clock: Clock

    async def act(self, action: str, body: ActBody) -> Acted:
        """One of ACTIONS."""
        if action not in ACTIONS:
            raise OperationError(
                FailureKind.BAD_REQUEST, f"no operation {action!r} on the queue", f"use {', '.join(ACTIONS)}"
            )
        selection, act = meant(action, body), self._doing(action, body)
        if body.dry_run:
            count, after = await self.queue.tally(selection, place_of(body.after), whole=body.limit <= 0)
            return Acted(action, count, dry_run=True, next=place_text(after))
        following = ""
        if body.limit > 0:
            page = await self.queue.page(selection, after=body.after, limit=body.limit)
            if not page.entries:
                return Acted(action, 0, next=page.next)
            selection, following = replace(selection, ids=tuple({entry.id: None for entry in page.entries})), page.next
        with storage_trouble():
            if action == "retry" and selection.next_hop and self._is_on_demand(NextHop(selection.next_hop)):
                await self.told.called(NextHop(selection.next_hop))
            acted = Acted(action, await act(selection), next=following)
        self._tell(action, selection)
        return acted

    def _tell(self, action: str, selection: Selection) -> None:
        if action == "retry":
            self.told.retried((NextHop(selection.next_hop),) if selection.next_hop else ())
        else:
            self.told.changed()

    def _is_on_demand(self, next_hop: NextHop) -> bool:
        route = self.table.by_next_hop(next_hop)
        return isinstance(route, Route) and route.on_demand

    def _doing(self, action: str, body: ActBody) -> Callable[[Selection], Awaitable[int]]:
        """What the storage is told to do."""
        storage, now, by, reason = self.storage, self.clock.now(), body.by, body.reason
        match action:
            case "retry":
                return lambda chosen: storage.retry(chosen, now=now, by=by, reason=reason)
            case "release":
                return lambda chosen: storage.unhold(chosen, now=now, by=by, reason=reason)
            case "hold":
                return lambda chosen: storage.hold(chosen, reason=reason or f"held by {by}", now=now, by=by)
            case "bounce":
                why = _reason(reason)
                return lambda chosen: storage.bounce(chosen, reason=why, now=now, by=by)
            case "reroute":
                where = self._next_hop(body.to)
                return lambda chosen: storage.reroute(chosen, where, now=now, by=by, reason=reason)
            case _:
                return lambda chosen: storage.delete(chosen, now=now, by=by, reason=reason)

    def _next_hop(self, to: str) -> NextHop:
        """Where mail is to go: a next hop that a route leads to, or the route of that name."""
        for found in (self.table.by_next_hop(NextHop(to)), self.table.named(to)):
            if isinstance(found, Route):
                return found.next_hop
        raise OperationError(
            FailureKind.BAD_REQUEST,
            f"no route leads to {to!r}" if to else "nothing says where to",
            "name a next hop as `queue destinations` shows it, or a [[route]] by its name; one without domains will do",
        )


def _reason(reason: str) -> str:
    """What the author of a message is told. Raises: OperationError, where that would be nothing, or no one line."""
    if reason.strip() and reason.isprintable() and len(reason) <= 500:
        return reason.strip()
    raise OperationError(
        FailureKind.BAD_REQUEST,
        "a bounce needs a reason of one line and up to 500 characters",
        "say why: the author of the message will read it",
    )
