"""What operators took out of the queue: it is kept for a while, and can be brought back."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.admin.answers import ActBody, Acted, BinPage
from waypost.admin.operations.questions import bounded, known, meant, place_of, place_text, storage_trouble
from waypost.admin.operations.told import Told
from waypost.net.clock import Clock
from waypost.queue.storage import Selection, Storage


@dataclass(frozen=True, slots=True)
class Bin:
    """To be looked at, and emptied back into the queue."""

    storage: Storage
    told: Told
    clock: Clock

    async def page(self, selection: Selection, *, after: str, limit: int) -> BinPage:
        """So many of what is in it."""
        page = bounded(limit)
        with storage_trouble():
            entries = await self.storage.binned(known(selection), after=place_of(after), limit=page + 1)
        following = place_text((entries[page - 1].id, entries[page - 1].number)) if len(entries) > page else ""
        return BinPage(tuple(entries[:page]), following)

    async def restore(self, body: ActBody) -> Acted:
        """What is selected is due again at once."""
        selection = meant("restore", body)
        with storage_trouble():
            back = await self.storage.restore(selection, now=self.clock.now(), by=body.by, reason=body.reason)
        self.told.changed()
        return Acted("restore", back)
