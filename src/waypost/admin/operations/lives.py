"""What happened: the lives of messages, found by id, by address, or by whatever is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from waypost.admin.answers import FailureKind, OperationError, Trace, Traces
from waypost.admin.operations.questions import bounded, message_id, storage_trouble
from waypost.admin.operations.queue import entries_of
from waypost.mail.envelope import MessageId
from waypost.net.clock import Clock
from waypost.queue.storage import Search, Storage
from waypost.queue.watching import Dialogues


@dataclass(frozen=True, slots=True)
class Lives:
    """Reads the history."""

    storage: Storage
    clock: Clock

    async def trace(self, asked: str, *, limit: int) -> Traces:
        """Of the message with this id, or of the newest from or to this address."""
        with storage_trouble():
            if "@" not in asked:
                found = [await self._trace(message_id(asked))]
                found = [trace for trace in found if trace.events or trace.waiting]
                more = False
            else:
                ids = await self.storage.find(asked.strip("<>"), limit=limit + 1)
                found = [await self._trace(each) for each in ids[:limit]]
                more = len(ids) > limit
        if not found:
            raise OperationError(
                FailureKind.NOT_FOUND,
                f"nothing is known of {asked}",
                "check the spelling; the history of old messages is dropped after a while",
            )
        return Traces(asked, tuple(found), more)

    async def search(self, search: Search, *, before: str, limit: int) -> Traces:
        """Of all that fit, newest first."""
        if before:
            message_id(before)
        narrowed = replace(search, message_id=search.message_id.strip().removeprefix("<").removesuffix(">"))
        with storage_trouble():
            found = await self.storage.search(narrowed, before=before, limit=bounded(limit))
            traces = [await self._trace(each) for each in found.ids]
        return Traces("a search", tuple(traces), bool(found.next), found.next)

    async def _trace(self, id: MessageId) -> Trace:  # noqa: A002 - the field's own name
        events = await self.storage.history(id)
        if events and (said := await Dialogues(self.storage, self.clock).of(id)):
            details = events[0].details | {"transcript": [list(line) for line in said]}
            events = [replace(events[0], details=details), *events[1:]]
        waiting = await entries_of(self.storage, id, self.clock.now())
        return Trace(id, tuple(events), tuple(waiting))
