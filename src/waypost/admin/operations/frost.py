"""Next hops and routes at which nothing is tried until they are thawed: somebody freezes and thaws them here.

Not here: how that is kept (queue/frost.py), and who heeds it (deliver/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waypost.admin.answers import FailureKind, FreezeBody, Froze, OperationError
from waypost.admin.operations.questions import storage_trouble
from waypost.admin.operations.told import Told
from waypost.mail.envelope import NextHop
from waypost.queue.frost import ROUTE, Frost, Frozen
from waypost.route.route import Route
from waypost.route.table import RouteTable


@dataclass(frozen=True, slots=True)
class Freezer:
    """Changes what is frozen, and tells who delivers."""

    frost: Frost
    table: RouteTable
    told: Told

    async def all(self) -> Mapping[str, Frozen]:
        """What is frozen, by place."""
        with storage_trouble():
            return await self.frost.all()

    async def freeze(self, body: FreezeBody) -> Froze:
        """A next hop or a route there is."""
        self._see_that_it_is_there(body.place)
        with storage_trouble():
            await self.frost.freeze(body.place, by=body.by, reason=body.reason)
        return await self._tell()

    async def thaw(self, body: FreezeBody) -> Froze:
        """What is frozen, there or not."""
        with storage_trouble():
            if not await self.frost.thaw(body.place):
                raise OperationError(
                    FailureKind.NOT_FOUND, f"{body.place!r} is not frozen", "see what is: waypost queue frozen"
                )
        return await self._tell()

    def _see_that_it_is_there(self, place: str) -> None:
        name = place.removeprefix(ROUTE)
        known = any(rule.name == name for rule in self.table.rules) if name != place else False
        if not (known or isinstance(self.table.by_next_hop(NextHop(place)), Route)):
            raise OperationError(
                FailureKind.BAD_REQUEST,
                f"there is no next hop or route {place!r}",
                "name a next hop as `queue destinations` shows it, or `route NAME` for all next hops of a [[route]]",
            )

    async def _tell(self) -> Froze:
        now = await self.all()
        self.told.refrozen(now)
        return Froze(tuple(now.values()))
