"""Access tokens among the processes of a queue: who may renew one, and what all have; on the shelf, sealed as at rest.

Not here: renewing, and what is sealed how (waypost.auth).
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Final

from waypost.net.clock import Clock
from waypost.queue.shelf import FOR_EVER, Absent, Shelf
from waypost.queue.storage import StorageError

#: Whose values these are on the shelf: tokens, and who renews one.
TOKENS: Final = "oauth"
RENEWING: Final = "oauth renewing"
#: Who renews has so long: longer than a token server is waited for.
LEASE: Final = timedelta(minutes=1)


class ShelvedTokens:
    """See Fellows in auth/keeper.py."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def begin(self, name: str) -> bool:
        now = self._clock.now()
        try:
            return await self._shelf.keep_new(RENEWING, name, b"", until=now + LEASE.total_seconds(), now=now)
        except StorageError:
            return False

    async def end(self, name: str) -> None:
        with contextlib.suppress(StorageError):  # then it ends by itself
            await self._shelf.drop(RENEWING, name)

    async def tell(self, name: str, since: int, sealed: bytes) -> None:
        with contextlib.suppress(StorageError):  # told again at the next look
            await self._shelf.keep(TOKENS, name, b"%d %b" % (since, sealed), until=FOR_EVER)

    async def hear(self, name: str) -> tuple[int, bytes]:
        try:
            found = await self._shelf.kept(TOKENS, name, now=self._clock.now())
        except StorageError:
            return 0, b""
        if isinstance(found, Absent):
            return 0, b""
        since, _, sealed = found.partition(b" ")
        return (int(since), sealed) if since.isdigit() else (0, b"")
