"""What waits: pages of recipients, how many there are, one message, and what is in quarantine. Nothing is changed.

However long the queue is, a question is answered soon, with what was found until then and the place to look on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.admin.answers import FailureKind, OperationError, OriginFacts, QueuedDetail, QueuePage
from waypost.admin.operations.questions import bounded, known, message_id, place_of, place_text, storage_trouble
from waypost.admin.operations.windows import Windows
from waypost.admin.quarantine import quarantined
from waypost.admin.reading import WHOLE, first
from waypost.mail.envelope import MessageId, Octets, QueuedMessage
from waypost.net.clock import Clock, Instant
from waypost.queue.storage import EDGE, Place, QueueEntry, Selection, Storage
from waypost.smtp.path import Mailbox

#: Octets of a queued message read to show its header section.
HEADER: Final = 64 * 1024
#: Queue entries of one message that are shown with it; a message has at most 1,000 recipients.
ENTRIES: Final = 1000
#: A question about the queue is answered after so long with what was found until then; the rest is looked through when
#: it is asked on. And recipients that are looked at between two looks at the clock: 5 to 50 ms.
ANSWERED: Final = timedelta(milliseconds=40)
STRETCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Queue:
    """To be looked at."""

    storage: Storage
    windows: Windows
    clock: Clock

    async def page(self, selection: Selection, *, after: str = "", limit: int = 100) -> QueuePage:
        """So many of them, each with the delivery window it waits for."""
        entries, following = await self._look(known(selection), place_of(after), bounded(limit))
        return QueuePage(tuple(self.windows.noted(entry) for entry in entries), place_text(following))

    async def _look(self, selection: Selection, after: Place, limit: int) -> tuple[Sequence[QueueEntry], Place]:
        """A page, or what of it was found until it was time to answer; and after where to look on."""
        found, ends = list[QueueEntry](), self.clock.monotonic() + ANSWERED.total_seconds()
        with storage_trouble():
            while True:
                looked = await self.storage.look(
                    selection, after=after, limit=limit + 1 - len(found), stretch=STRETCH, now=self.clock.now()
                )
                found += looked.entries
                after = looked.next
                if len(found) > limit:
                    return found[:limit], (found[limit - 1].id, found[limit - 1].number)
                if after == EDGE or self.clock.monotonic() >= ends:
                    return found, after

    async def tally(self, selection: Selection, after: Place, *, whole: bool) -> tuple[int, Place]:
        """How many there are; without `whole`, of those that could be looked at until it was time to answer."""
        if selection == Selection() and after == EDGE:
            with storage_trouble():
                return (await self.storage.counts()).recipients, EDGE
        total, ends = 0, self.clock.monotonic() + ANSWERED.total_seconds()
        with storage_trouble():
            while True:
                part = await self.storage.tally(selection, after=after, stretch=STRETCH, now=self.clock.now())
                total, after = total + part.recipients, part.next
                if after == EDGE or (not whole and self.clock.monotonic() >= ends):
                    return total, after

    # ---- one message
    async def show(self, id: str) -> QueuedDetail:  # noqa: A002 - the field's own name
        """Its envelope, its recipients that wait, and its header section."""
        message, octets = await self._message(message_id(id))
        with storage_trouble():
            head = await first(octets, HEADER)
            entries = await entries_of(self.storage, message.id, self.clock.now())
        origin = message.origin
        return QueuedDetail(
            id=message.id,
            reverse_path=_path(message),
            origin=OriginFacts(origin.protocol, origin.client_host, origin.client_name, origin.listener),
            received_at=message.received_at,
            size=message.size,
            entries=tuple(entries),
            header=head.partition(b"\r\n\r\n")[0].decode("utf-8", "replace"),
        )

    async def octets(self, id: str) -> bytes:  # noqa: A002 - the field's own name
        """All of them."""
        _, octets = await self._message(message_id(id))
        with storage_trouble():
            return await first(octets, WHOLE)

    async def _message(self, id: MessageId) -> tuple[QueuedMessage, Octets]:  # noqa: A002 - the field's own name
        with storage_trouble():
            try:
                return await self.storage.message(id)
            except KeyError:
                raise OperationError(
                    FailureKind.NOT_FOUND,
                    f"no message {id} in the queue",
                    f"see what became of it: waypost trace {id}",
                ) from None

    # ---- the quarantine
    async def quarantine(self) -> QueuePage:
        """What is held there, on one page."""
        with storage_trouble():
            return QueuePage(tuple(await quarantined(self.storage, self.clock.now())), "")


async def entries_of(storage: Storage, id: MessageId, now: Instant) -> Sequence[QueueEntry]:  # noqa: A002
    """A message's recipients that wait. Raises: StorageError."""
    return await storage.entries(Selection(ids=(id,)), after=EDGE, limit=ENTRIES, now=now)


def _path(message: QueuedMessage) -> str:
    path = message.reverse_path
    return f"{path.local_part}@{path.domain}" if isinstance(path, Mailbox) else ""
