"""Marks on disk: a final dot is about to leave for a host, and nobody knows yet what it says.

The theory. A process that is killed between the final dot and its record cannot remember that the host may hold the
message: the next one would send it again, and nobody would be told. So a mark is written before the dot leaves: into
the system's page cache, which outlives a killed process, and without fsync, which every message would wait for. The
next start finds the marks of what still waits, and takes those recipients as in doubt. A power cut may lose marks; then
it is as if there were none.

Where several nodes share the queue, this is also where a message is held back whose lease may have gone to another: it
is looked at before MAIL, and once more before the final dot, the last moment at which nothing has happened yet.

A mark has a slot in a file of fixed size. One whose recipients have all left the queue is not struck out: it marks
nothing any more, and the slot is written over when its turn comes.

Not here: what doubt leads to (waypost.queue.schedule).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import msgspec

from waypost.mail.envelope import MessageId, NextHop
from waypost.mail.outcome import Host, InDoubt
from waypost.net.stream import Endpoint, Fault, FaultKind
from waypost.queue.storage import Lease

#: Octets of a slot. The numbers of a hundred recipients fit; where more do not, those beyond are not marked.
SLOT: Final = 1024
STRUCK_OUT: Final = b"\n"
KILLED: Final = Fault(FaultKind.LOCAL, "the service was killed before it had written down what became of it")

#: Told of each final dot before it leaves: for whom, and where to.
Leaving: TypeAlias = Callable[[Host, Iterable[int]], None]
#: Recipients in doubt, by their number, of messages by their name.
Doubts: TypeAlias = Mapping[MessageId, Mapping[int, InDoubt]]


class Mark(msgspec.Struct, array_like=True):
    """A slot's contents."""

    message: str
    name: str
    host: str
    port: int
    numbers: list[int]


class LeaseEndedError(Exception):
    """The lease may be another node's by now: nothing more may be sent under it."""

    def __init__(self) -> None:
        super().__init__("this node was silent for too long, and another may have taken the message over")


class Dots(Protocol):
    """Where marks are kept. A mark that cannot be written costs no mail, and raises nothing."""

    @property
    def doubts(self) -> Doubts:
        """Whom the process before this one was killed over."""
        ...

    def may_begin(self, lease: Lease) -> bool:
        """Whether MAIL may be said under the lease."""
        ...

    def leaving(self, lease: Lease, host: Host, numbers: Iterable[int]) -> None:
        """The final dot for these recipients of the lease is about to leave. Raises: LeaseEndedError: it must not."""
        ...

    def settled(self, lease: Lease, *, waits: bool) -> None:
        """What became of the lease is written down; `waits`: some recipient stays in the queue."""
        ...


class Unmarked:
    """Keeps no marks: for a queue that would not outlive the process either."""

    @property
    def doubts(self) -> Doubts:
        return {}

    def may_begin(self, lease: Lease) -> bool:  # noqa: ARG002 - whichever
        return True

    def leaving(self, lease: Lease, host: Host, numbers: Iterable[int]) -> None:
        pass

    def settled(self, lease: Lease, *, waits: bool) -> None:
        pass


UNMARKED: Final = Unmarked()


class Marked:
    """Keeps them in a file, which holds as many as there are slots."""

    def __init__(self, file: int, slots: int, doubts: Doubts) -> None:
        self.doubts = doubts
        self._file = file
        self._free = list(range(slots))
        self._taken: dict[tuple[MessageId, NextHop], list[int]] = {}
        self._encode = msgspec.json.Encoder().encode

    @classmethod
    def open(cls, path: Path, slots: int) -> Marked:
        """The file, made where it is missing; the marks in it become `doubts`. Raises: OSError."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            doubts = _doubts(path.read_bytes())
            os.ftruncate(file, 0)
            os.posix_fallocate(file, 0, SLOT * slots)  # so that a full disk cannot refuse a mark later
        except OSError:
            os.close(file)
            raise
        return cls(file, slots, doubts)

    def close(self) -> None:
        """Let go of the file; marks that are not struck out are found by the next start."""
        os.close(self._file)

    def may_begin(self, lease: Lease) -> bool:  # noqa: ARG002 - whichever
        return True

    def leaving(self, lease: Lease, host: Host, numbers: Iterable[int]) -> None:
        if not self._free:
            return
        slot = self._free.pop()
        self._taken.setdefault((lease.message.id, lease.next_hop), []).append(slot)
        mark = Mark(lease.message.id, host.name, host.endpoint.host, host.endpoint.port, list(numbers))
        octets = self._encode(mark)
        while len(octets) >= SLOT and mark.numbers:
            mark.numbers = mark.numbers[: len(mark.numbers) // 2]
            octets = self._encode(mark)
        self._write(slot, octets + b"\n")

    def settled(self, lease: Lease, *, waits: bool) -> None:
        for slot in self._taken.pop((lease.message.id, lease.next_hop), ()):
            if waits:
                self._write(slot, STRUCK_OUT)
            self._free.append(slot)

    def _write(self, slot: int, octets: bytes) -> None:
        try:
            os.pwrite(self._file, octets, SLOT * slot)
        except OSError:
            return  # the disk's own trouble is told of by the spool


class Fenced:
    """Marks, for a queue that other nodes share: `holds` tells whether a lease may be acted on still."""

    def __init__(self, marks: Dots, holds: Callable[[Lease], bool]) -> None:
        self._marks = marks
        self._holds = holds

    @property
    def doubts(self) -> Doubts:
        return self._marks.doubts

    def may_begin(self, lease: Lease) -> bool:
        return self._holds(lease)

    def leaving(self, lease: Lease, host: Host, numbers: Iterable[int]) -> None:
        if not self._holds(lease):
            raise LeaseEndedError
        self._marks.leaving(lease, host, numbers)

    def settled(self, lease: Lease, *, waits: bool) -> None:
        self._marks.settled(lease, waits=waits)


def _doubts(octets: bytes) -> Doubts:
    found: dict[MessageId, dict[int, InDoubt]] = {}
    for start in range(0, len(octets), SLOT):
        for mark in _read(octets[start : start + SLOT]):
            outcome = InDoubt(Host(mark.name, Endpoint(mark.host, mark.port)), KILLED)
            found.setdefault(MessageId(mark.message), {}).update(dict.fromkeys(mark.numbers, outcome))
    return found


def _read(slot: bytes) -> Sequence[Mark]:
    """The mark in a slot; none where it was struck out, never used, or cut short by the kill."""
    try:
        return [msgspec.json.decode(slot.partition(b"\n")[0], type=Mark)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
