"""Mail that its author wants back by a time (RFC 2852, BY= with mode R), also while nothing is tried where it waits.

Whoever tries mail sees that it is late. But what waits for a window, a login or a quota is not tried, so each such
message stands on the shelf until its time; then it goes to a next hop that nothing holds up, from where it comes back.

Not here: that it is late, and what its author is told (schedule.py); mode N, whose notice waits for the next attempt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from waypost.mail.envelope import Envelope, MessageId, NextHop
from waypost.net.clock import Clock, Instant
from waypost.queue.shelf import Shelf
from waypost.queue.storage import Selection, Storage, StorageError
from waypost.smtp.extension import ByMode, by_of

SPACE: Final = "deliver by"
#: Leads nowhere, and has no window.
OVERDUE: Final = NextHop("overdue:")
#: Between two looks: how late the author may hear of it.
EVERY: Final = timedelta(seconds=30)
#: What is just being tried when its time comes is looked at again for so long.
KEPT: Final = timedelta(hours=1)


async def note(shelf: Shelf, name: MessageId, envelope: Envelope, received_at: Instant) -> None:
    """Remember a message that is to come back, if it is. Raises: StorageError."""
    by = by_of(envelope.parameters.by)
    if by.mode is ByMode.RETURN:
        at = received_at + by.seconds
        await shelf.keep(SPACE, name, b"%.3f" % at, until=at + KEPT.total_seconds())


async def let_return(storage: Storage, now: Instant, returned: set[str]) -> int:
    """Send back what is late and is not among `returned`; how many recipients. Raises: StorageError.

    Entries end by themselves: other processes of the queue have to see them, too.
    """
    noted, count = await storage.all_kept(SPACE, now=now), 0
    returned.intersection_update([name for name, _ in noted])
    for name, at in noted:
        if float(at) <= now and name not in returned:
            moved = await storage.reroute(Selection(ids=(MessageId(name),)), OVERDUE, now=now, by="its author's time")
            count += moved
            returned.update([name] if moved else [])
    return count


async def watch(storage: Storage, clock: Clock, wake: Callable[[], None]) -> None:
    """Look again and again, until cancelled."""
    returned: set[str] = set()
    while True:
        await clock.sleep(EVERY)
        with contextlib.suppress(StorageError):  # told of by those who need the queue; the next look tries again
            if await let_return(storage, clock.now(), returned):
                wake()
