"""The inbox that `capture:` keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waypost.admin.answers import CapturedDetail, Cleared, InboxPage
from waypost.admin.failures import no_captured
from waypost.admin.operations.questions import bounded, storage_trouble
from waypost.admin.reading import WHOLE, first, taken_apart
from waypost.mail.envelope import Octets
from waypost.queue.storage import Storage

#: Octets of a captured message read to take it apart for reading; the raw octets are always whole.
READABLE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inbox:
    """To be read, and cleared."""

    storage: Storage

    async def page(self, *, before: int, limit: int) -> InboxPage:
        """So many of its messages, newest first."""
        page = bounded(limit)
        with storage_trouble():
            messages = await self.storage.captured(before=before, limit=page + 1)
        return InboxPage(tuple(messages[:page]), messages[page - 1].number if len(messages) > page else 0)

    async def message(self, number: int) -> CapturedDetail:
        """One of them, taken apart."""
        with storage_trouble():
            found = await self.storage.captured(before=number + 1, limit=1)
            if not found or found[0].number != number:
                raise no_captured(number)
            octets = await self._octets(number)
            return taken_apart(found[0], await first(octets, READABLE))

    async def octets(self, number: int) -> bytes:
        """All octets of one."""
        with storage_trouble():
            return await first(await self._octets(number), WHOLE)

    async def clear(self, *, keep: int) -> Cleared:
        """Drop all but the newest."""
        with storage_trouble():
            return Cleared(await self.storage.discard_captured(keep=keep))

    async def _octets(self, number: int) -> Octets:
        try:
            return await self.storage.captured_octets(number)
        except KeyError:
            raise no_captured(number) from None
