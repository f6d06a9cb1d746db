"""A message's octets while they come: in memory as long as they are few, then in the spool. Bounded either way."""

from __future__ import annotations

from waypost.mail.envelope import InMemory
from waypost.mail.trace import HeaderScan
from waypost.queue.storage import Draft, Storage


class InFlight:
    """Octets of bodies in memory, over all sessions."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class Body:
    """One message, gathered. Whoever makes one ends it with `discard`; what was stored meanwhile stays stored."""

    __slots__ = ("_draft", "_held", "_in_flight", "_pieces", "_spill", "_storage", "scan", "size")

    def __init__(self, storage: Storage, in_flight: InFlight, *, spill: int) -> None:
        self._storage = storage
        self._in_flight = in_flight
        self._spill = spill
        self._pieces: list[bytes] = []
        self._held = 0
        self._draft: list[Draft] = []  # the one, once there is one
        #: What the header holds of trace lines, and asks of who hands the message on; known after `finish`.
        self.scan = HeaderScan()
        self.size = 0

    def add(self, octets: bytes) -> bool:
        """The next octets. True: they are too many to keep; `await spill()` is due."""
        self._pieces.append(octets)
        count = len(octets)
        self.size += count
        self._held += count
        self._in_flight.held += count
        return bool(self._draft) or self._held > self._spill or self._in_flight.held > self._in_flight.limit

    async def spill(self) -> None:
        """Write what is held to the spool. Raises: StorageError; what came so far is lost then."""
        octets = self._take()
        self.scan.feed(octets)
        if not self._draft:
            self._draft.append(await self._storage.draft())
        await self._draft[0].write(octets)

    async def finish(self) -> InMemory | Draft:
        """The whole, ready to be stored. Raises: StorageError."""
        if self._draft:
            if self._pieces:
                await self.spill()
            return self._draft[0]
        octets = b"".join(self._pieces)
        self._pieces = [octets]  # held, and counted, until it is stored
        self.scan.feed(octets)
        return InMemory(octets)

    @property
    def hops(self) -> int:
        """Received lines in the header, our own included; known after `finish`."""
        return self.scan.received

    def release(self) -> None:
        """Let go of the memory."""
        self._in_flight.held -= self._held
        self._held = 0
        self._pieces = []

    async def discard(self) -> None:
        """Throw away what is not stored. Never raises what `Draft.discard` does not."""
        self.release()
        for draft in self._draft:
            await draft.discard()

    def _take(self) -> bytes:
        octets = b"".join(self._pieces)
        self.release()
        return octets
