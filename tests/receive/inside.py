"""A house with a door that has no socket, for mail that comes by HTTP or as a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.receive.house import HOSTNAME, Table, admission, make_house
from waypost.mail.envelope import MessageId
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import QueueEntry, Selection, StorageError, StoreFault, StoreFaultKind
from waypost.receive.house import House
from waypost.receive.intake import Intake
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

DOOR = Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME, size_limit=100_000), submission=True, protocol="HTTP")


@dataclass
class Inside:
    """The door, and what stands behind it."""

    house: House
    intake: Intake
    storage: MemoryStorage

    async def queued(self) -> list[QueueEntry]:
        """All recipients in the queue."""
        return list(await self.storage.entries(Selection(), after=_START, limit=1000, now=self.house.clock.now()))

    async def octets(self, entry: QueueEntry) -> bytes:
        _, octets = await self.storage.message(entry.id)
        return b"".join([chunk async for chunk in octets])


_START = (MessageId(""), -1)


class Forgetful(MemoryStorage):
    """A storage whose process dies right after the commit: what would be written down afterwards is lost."""

    dies = True

    async def keep(self, space: str, key: str, value: bytes, *, until: float) -> None:
        if self.dies:
            raise StorageError(StoreFault(StoreFaultKind.CLOSED, "killed"))
        await super().keep(space, key, value, until=until)


async def inside(storage: MemoryStorage | None = None, door: Door = DOOR, table: Table | None = None) -> Inside:
    """A house that is open."""
    storage = storage or MemoryStorage()
    await storage.open(owner="test")
    house = replace(make_house(storage), admission=admission(table or Table()))
    receiver = Receiver((), house)
    return Inside(house, Intake(receiver.serve, door, storage, house.clock, house.ids), storage)
