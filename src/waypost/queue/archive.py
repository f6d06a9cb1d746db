"""The queue as a file that any program can read: a tar of messages, each with what the queue knows of it as JSON.

    waypost-queue.json   what this is, of which version, and who wrote it
    ID.json              an `Entry`: envelope, recipients that wait, reports that are due, what happened so far
    ID.eml               the message, octet by octet
    …
    end.json             how many messages there were: without it, the archive is not whole

A message's octets are held against their digest when it is read. What is done, captured or in the bin is no part of the
queue, and not in it. docs/archive.md describes the format for others. Not here: which spool (admin/archiving.py).
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from waypost.mail.envelope import MessageId
from waypost.net.clock import Instant
from waypost.queue import record
from waypost.queue.ids import from_number, to_number
from waypost.queue.moving import EventPart, Parcel, RecipientPart, ReportPart, StoredPart

T = TypeVar("T")

#: The version of the format: another is refused.
FORMAT: Final = 1
HEAD: Final = "waypost-queue.json"
END: Final = "end.json"
#: Of one JSON in it: a message with a hundred thousand recipients has as much.
_MOST: Final = 256 * 1024 * 1024


class ArchiveError(Exception):
    """The file is no archive of a queue, or not a whole one; the text says where."""


class Head(msgspec.Struct, frozen=True):
    """What the archive is. `source`: what wrote the queue, with its version; `host`: where; `at`: when."""

    format: int
    source: str
    host: str
    at: float


class End(msgspec.Struct, frozen=True):
    """That it is whole."""

    messages: int


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipient that waits. `due_at` 0: at once; `next_hop` "": as the routes say where it is put in.

    `parameters`: of RCPT, `notify` (a sum of 1 success, 2 failure, 4 delay; 0 never) and `original_recipient`. `doubt`:
    the host that may have it already. `pinned`: somebody sent it this way, and it stays on it.
    """

    number: int
    address: str
    next_hop: str = ""
    parameters: dict[str, Any] = {}
    attempts: int = 0
    delay_reported: bool = False
    doubt: str = ""
    due_at: float = 0.0
    priority: int = 0
    held: str = ""
    last_outcome: str = ""
    pinned: bool = False


class Due(msgspec.Struct, frozen=True):
    """A report that is due (`failed`, `delayed`, `delivered` or `relayed`), and by number what of each recipient."""

    notice: str
    recipients: tuple[tuple[int, dict[str, Any]], ...]


class Happened(msgspec.Struct, frozen=True):
    """One thing that happened to it: an `attempt`, a `report`, an `operator`'s act."""

    at: float
    kind: str
    text: str
    details: dict[str, Any]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message in the queue. `envelope`: as `waypost trace --json` shows that of a receipt."""

    id: str
    received_at: float
    size: int
    sha256: str
    envelope: dict[str, Any]
    recipients: tuple[Waiting, ...]
    reports: tuple[Due, ...] = ()
    history: tuple[Happened, ...] = ()


# ---- between a parcel and its entry
def entry_of(parcel: Parcel, stored: StoredPart) -> Entry:
    """The entry of a message whose octets are `stored`."""
    return Entry(
        from_number(parcel.id),
        stored.received_at,
        stored.size,
        hashlib.sha256(stored.octets).hexdigest(),
        record.decode(stored.envelope),
        tuple(_waiting(part) for part in parcel.recipients),
        tuple(Due(one.notice, tuple((n, record.decode(text)) for n, text in one.recipients)) for one in parcel.reports),
        tuple(Happened(one.at, one.kind, one.text, record.decode(one.details)) for one in parcel.events),
    )


def _waiting(part: RecipientPart) -> Waiting:
    told = part._asdict()
    told.pop("domain")
    told["parameters"] = record.decode(part.parameters) if part.parameters else {}
    return Waiting(**told)


def parcel_of(entry: Entry, octets: bytes) -> Parcel:
    """What the queue is to know of the message. Raises: ArchiveError, where the octets are others."""
    if hashlib.sha256(octets).hexdigest() != entry.sha256:
        raise ArchiveError(f"{entry.id}.eml is not what {entry.id}.json says: its digest is another")
    try:
        number = to_number(MessageId(entry.id))
    except ValueError as error:
        raise ArchiveError(str(error)) from None
    return Parcel(
        number,
        (StoredPart(entry.received_at, entry.size, record.encode(entry.envelope), octets),),
        tuple(_recipient(one) for one in entry.recipients),
        tuple(_report(one) for one in entry.reports),
        events=tuple(EventPart(one.at, one.kind, one.text, record.encode(one.details)) for one in entry.history),
    )


def _report(one: Due) -> ReportPart:
    return ReportPart(one.notice, tuple((number, record.encode(details)) for number, details in one.recipients))


def _recipient(one: Waiting) -> RecipientPart:
    told: dict[str, Any] = msgspec.structs.asdict(one)
    told["parameters"] = record.encode(one.parameters) if one.parameters else ""
    told["domain"] = one.address.rpartition("@")[2].lower() if "@" in one.address else ""
    return RecipientPart(**told)


# ---- the file
class Writer(AbstractContextManager["Writer"]):
    """Writes an archive. Under its name it is there once it is whole, and not before."""

    def __init__(self, path: Path, source: str, host: str, now: Instant) -> None:
        """Raises: OSError."""
        self._path = path
        self._begun = path.with_name(f".{path.name}.part")
        self._now = now
        self.messages = 0
        # Only its owner may read mail. Both are closed at the end of the block.
        self._file = os.fdopen(os.open(self._begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        self._write(HEAD, msgspec.json.format(msgspec.json.encode(Head(FORMAT, source, host, now))))

    def add(self, parcel: Parcel) -> None:
        """Add a message that waits. Raises: OSError."""
        for stored in parcel.stored:
            entry = entry_of(parcel, stored)
            self._write(f"{entry.id}.json", msgspec.json.format(msgspec.json.encode(entry)))
            self._write(f"{entry.id}.eml", stored.octets)
            self.messages += 1

    def _write(self, name: str, octets: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = len(octets), int(self._now), 0o600
        self._tar.addfile(info, io.BytesIO(octets))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write(END, msgspec.json.encode(End(self.messages)))
                self._tar.close()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._begun.replace(self._path)
        finally:
            self._file.close()
            self._begun.unlink(missing_ok=True)


def read(path: Path) -> Iterator[Head | Parcel]:
    """What it is, then each message. Raises: ArchiveError, OSError; what came before is whole all the same."""
    try:
        with tarfile.open(path, "r:*") as tar:
            yield from _read(tar)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveError(f"{path} cannot be read as a tar archive: {error}") from None


def _read(tar: tarfile.TarFile) -> Iterator[Head | Parcel]:
    found, messages = _Members(tar), 0
    head = found.json(HEAD, Head)
    if head.format != FORMAT:
        raise ArchiveError(f"it has format {head.format}, and this version reads format {FORMAT}")
    yield head
    while (name := found.name()) != END:
        entry = found.json(name, Entry)
        yield parcel_of(entry, found.octets(f"{entry.id}.eml"))
        messages += 1
    if found.json(END, End).messages != messages:
        raise ArchiveError(f"{END} counts other messages than the {messages} that are there")


class _Members:
    """The members of a tar, one after the other."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._ahead: list[tarfile.TarInfo] = []

    def name(self) -> str:
        """Of the next one, which stays the next one."""
        if not self._ahead:
            member = self._tar.next()
            if member is None:
                raise ArchiveError(f"it ends without {END}: it is not whole")
            self._ahead.append(member)
        return self._ahead[0].name

    def octets(self, name: str, most: int = -1) -> bytes:
        """Of the next one, which has to have that name."""
        if self.name() != name:
            raise ArchiveError(f"{name} should come where {self.name()!r} does")
        member = self._ahead.pop()
        opened = self._tar.extractfile(member)
        if opened is None or (most >= 0 and member.size > most):
            raise ArchiveError(f"{name} is no file, or larger than any of ours")
        return opened.read()

    def json(self, name: str, kind: type[T]) -> T:
        """The next one, as what it says."""
        try:
            return msgspec.json.decode(self.octets(name, _MOST), type=kind)
        except msgspec.DecodeError as error:
            raise ArchiveError(f"{name} is not as it should be: {error}") from None
