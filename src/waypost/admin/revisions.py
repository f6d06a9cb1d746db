"""The configurations that were in force, kept on the shelf: newest first, to look at and to go back to."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from waypost.admin.answers import Revision
from waypost.config.change import revision
from waypost.net.clock import Instant
from waypost.queue.shelf import FOR_EVER, Absent, Shelf

_SPACE: Final = "config"
#: Revisions that are kept.
KEPT: Final = 50


class _Record(msgspec.Struct, frozen=True):
    at: float
    by: str
    where: str
    text: bytes


async def note(shelf: Shelf, text: str, *, by: str, where: str, now: Instant) -> Revision:
    """Keep what is in force from now on; where it is the newest already, nothing changes. Raises: StorageError."""
    found = await revisions(shelf, now=now)
    name = revision(text)
    if found and found[0].id == name:
        return found[0]
    record = _Record(now, by, where, zlib.compress(text.encode()))
    await shelf.keep(_SPACE, name, msgspec.msgpack.encode(record), until=FOR_EVER)
    for old in found[KEPT - 1 :]:
        await shelf.drop(_SPACE, old.id)
    return Revision(name, now, by, where)


async def revisions(shelf: Shelf, *, now: Instant) -> Sequence[Revision]:
    """All that are kept, newest first. Raises: StorageError."""
    found = []
    for name, value in await shelf.all_kept(_SPACE, now=now):
        with contextlib.suppress(msgspec.DecodeError):  # another release's
            record = msgspec.msgpack.decode(value, type=_Record)
            found.append(Revision(name, record.at, record.by, record.where))
    return sorted(found, key=lambda one: (one.at, one.id), reverse=True)


async def text_of(shelf: Shelf, name: str, *, now: Instant) -> str | Absent:
    """The text of a revision. Raises: StorageError."""
    kept = await shelf.kept(_SPACE, name, now=now)
    if isinstance(kept, Absent):
        return kept
    return zlib.decompress(msgspec.msgpack.decode(kept, type=_Record).text).decode()
