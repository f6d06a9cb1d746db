"""The quarantine: messages the gate had doubts about, held in the queue until somebody releases or deletes them.

They are in the queue like all held mail; what is here knows which, and drops what nobody has looked at for too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from waypost.mail.envelope import MessageId
from waypost.net.clock import Instant
from waypost.policy.access import QUARANTINE, QUARANTINED
from waypost.queue.ids import made_at, to_number
from waypost.queue.storage import QueueEntry, Selection, Storage

#: Messages looked at in one go.
BATCH: Final = 500
#: How long it is remembered, after its time, what was there: messages of other processes are theirs to delete.
FORGOTTEN: Final = timedelta(days=1)
_START: Final = (MessageId(""), -1)


async def quarantined(storage: Storage, now: Instant) -> Sequence[QueueEntry]:
    """Their recipients, oldest first. Raises: StorageError."""
    ids = [MessageId(key) for key, _ in await storage.all_kept(QUARANTINED, now=now)]
    found: list[QueueEntry] = []
    for start in range(0, len(ids), BATCH):
        some = Selection(ids=tuple(ids[start : start + BATCH]))
        entries = await storage.entries(some, after=_START, limit=BATCH * 100, now=now)
        found += [entry for entry in entries if entry.reason.startswith(QUARANTINE)]
    return found


async def clear_quarantine(storage: Storage, now: Instant, keep: timedelta) -> int:
    """Delete what has been there for longer than `keep`; the number of recipients deleted. Raises: StorageError."""
    held = {entry.id for entry in await quarantined(storage, now)}
    deleted = 0
    for key, _ in await storage.all_kept(QUARANTINED, now=now):
        name = MessageId(key)
        over = now - made_at(to_number(name)) - keep.total_seconds()
        if over >= 0 and name in held:
            deleted += await storage.delete(Selection(ids=(name,)), now=now, by="the quarantine, after its time")
        if over >= FORGOTTEN.total_seconds():
            await storage.drop(QUARANTINED, key)
    return deleted
