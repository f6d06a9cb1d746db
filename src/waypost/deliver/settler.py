"""Writing down what attempts came to, until it is written: nothing delivered is sent again in this process's life.

When the storage fails, a settlement stays in memory and is tried again with pauses; meanwhile no new work is begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, assert_never

from waypost.deliver.dots import UNMARKED, Dots
from waypost.deliver.journal import Journal, tell
from waypost.mail.envelope import MessageId
from waypost.mail.outcome import Deferred, Delivered, InDoubt, Outcome, Rejected
from waypost.net.clock import Clock
from waypost.queue.storage import Gone, Lease, Settlement, Storage, StorageError

#: Pauses between tries of a storage that fails; the last repeats.
PAUSES: Final = tuple(timedelta(seconds=seconds) for seconds in (0.1, 0.5, 1, 2, 5, 10))
#: Messages whose outcomes are kept because no one could write them down.
_KEPT: Final = 10_000


class Settler:
    """Settles, and remembers what could not be settled."""

    def __init__(self, storage: Storage, clock: Clock, journal: Journal, dots: Dots = UNMARKED) -> None:
        self._storage = storage
        self._clock = clock
        self._journal = journal
        self._failing = 0
        self._dots = dots
        self._known: OrderedDict[MessageId, dict[int, Outcome]] = OrderedDict(
            (message, dict(outcomes)) for message, outcomes in dots.doubts.items()
        )

    @property
    def is_failing(self) -> bool:
        """Whether the storage has failed, and what was handed in waits here."""
        return self._failing > 0

    def known(self, lease: Lease) -> Mapping[int, Outcome]:
        """What is known already of this lease's recipients, by number, although the queue does not know it."""
        return self._known.get(lease.message.id, _NOTHING)

    async def settle(self, settlement: Settlement) -> bool:
        """Write it down, however long that takes. False: the lease was no longer ours."""
        message = settlement.lease.message.id
        outcomes = {settled.recipient.number: settled.outcome for settled in settlement.recipients}
        written = await self._write_down(settlement)
        waits = any(not isinstance(settled.next, Gone) for settled in settlement.recipients)
        self._dots.settled(settlement.lease, waits=waits)
        if written:
            self._forget(message, outcomes)
            return True
        self.keep(message, outcomes)
        tell(self._journal.lease_lost, settlement.lease)
        return False

    def keep(self, message: MessageId, outcomes: Mapping[int, Outcome]) -> None:
        """Remember what must not be tried again, should the queue hand it out once more."""
        sure = {number: outcome for number, outcome in outcomes.items() if _is_sure(outcome)}
        if sure:
            self._known.setdefault(message, {}).update(sure)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _forget(self, message: MessageId, numbers: Iterable[int]) -> None:
        """These are in the queue now; of the message's other recipients something may be known still."""
        known = self._known.get(message)
        if known is None:
            return
        for number in numbers:
            known.pop(number, None)
        if not known:
            del self._known[message]

    async def _write_down(self, settlement: Settlement) -> bool:
        try:
            return await self._storage.settle(settlement)
        except StorageError as error:
            tell(self._journal.storage_failed, "settling an attempt", str(error))
        self._failing += 1
        try:
            return await self._persist(settlement)
        finally:
            self._failing -= 1

    async def _persist(self, settlement: Settlement) -> bool:
        tries = 0
        while True:
            await self._clock.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
            try:
                return await self._storage.settle(settlement)
            except StorageError as error:
                tell(self._journal.storage_failed, "settling an attempt", str(error))


_NOTHING: Final[Mapping[int, Outcome]] = {}


def _is_sure(outcome: Outcome) -> bool:
    match outcome:
        case Delivered() | Rejected():
            return True
        case Deferred() | InDoubt():
            return False
        case _:
            assert_never(outcome)
