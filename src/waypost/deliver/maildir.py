"""Delivery into a Maildir: a file a recipient, durable before it is called delivered.

The message is written into tmp/, fsynced, renamed into new/, and the directory is fsynced, each in a thread. Line ends
are stored as LF, as every other program that writes Maildirs does. Two lines are put before the message: Return-Path
(RFC 5321 §4.4) and Delivered-To. Not here: quotas, folders, filters.

See https://cr.yp.to/proto/maildir.html for the names of files.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from waypost.deliver.copy import trace, with_local_line_ends
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.fitting import without_binary
from waypost.mail.envelope import Octets, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Delivered, LocalTrouble, Outcome, Rejected
from waypost.net.clock import Clock
from waypost.queue.storage import Lease, StorageError
from waypost.smtp.path import ForwardPath, Mailbox
from waypost.smtp.reply import Reply

#: Characters of a name that stand for themselves in a path; letters, digits and `_.-~` always do.
_HARMLESS: Final = "+=@"


class MaildirDelivery:
    """Deliveries into Maildirs; `hostname` goes into files' names, and stands for the domain of `Postmaster`."""

    def __init__(self, hostname: str, clock: Clock) -> None:
        self._hostname = hostname
        self._clock = clock
        self._count = itertools.count(1)

    async def deliver(self, lease: Lease, template: str, fates: Fates) -> None:
        """A copy for each recipient into the Maildir that `template` names for it."""
        octets = await without_binary(lease.message, lease.octets)
        for recipient in fates.open():
            if isinstance(octets, Rejected):
                fates.record(recipient, octets)
                continue
            directory = maildir_of(template, recipient.forward_path, self._hostname)
            fates.record(recipient, await self._deliver_one(lease.message, recipient, octets, directory))

    async def _deliver_one(
        self, message: QueuedMessage, recipient: QueuedRecipient, octets: Octets, directory: Path
    ) -> Outcome:
        letter = _Letter(directory, self._file_name())
        try:
            pieces = with_local_line_ends(trace(message, recipient), octets)
            async for piece in pieces:
                await asyncio.to_thread(letter.write, piece)
            await asyncio.to_thread(letter.post)
        except OSError as error:
            await asyncio.to_thread(letter.discard)
            return deferred(LocalTrouble(_explain(error, directory)))
        except StorageError as error:
            await asyncio.to_thread(letter.discard)
            return deferred(LocalTrouble(f"the body of {message.id} could not be read: {error}"))
        return Delivered(str(directory), Reply.of(250, "2.0.0", f"stored as {letter.name}"), final=True)

    def _file_name(self) -> str:
        seconds, fraction = divmod(self._clock.now(), 1)
        host = self._hostname.replace("/", r"\057").replace(":", r"\072")
        return f"{int(seconds)}.M{int(fraction * 1e6):06}P{os.getpid()}Q{next(self._count)}.{host}"


def maildir_of(template: str, forward_path: ForwardPath, hostname: str) -> Path:
    """The Maildir for a recipient: `%d` the domain and `%u` the local-part, each in lower case, as one plain name."""
    local_part, domain = "postmaster", hostname
    if isinstance(forward_path, Mailbox):
        local_part, domain = forward_path.local_part, str(forward_path.domain)
    parts = (part.replace("%d", "\0").replace("%u", _plain(local_part)) for part in Path(template).parts)
    return Path(*(part.replace("\0", _plain(domain)) for part in parts))


def _plain(name: str) -> str:
    """`name` as one component of a path: no slash, no NUL, no leading dot, never empty, and no two names alike."""
    quoted = quote(name.lower(), safe=_HARMLESS, errors="surrogateescape")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted or "%"


def _explain(error: OSError, directory: Path) -> str:
    place = error.filename or directory
    return f"cannot write the Maildir {directory}: {place}: {os.strerror(error.errno or 0)}"


class _Letter:
    """One file on its way into a Maildir. For threads: every method blocks, and raises OSError."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._directory = directory
        self._tmp = directory / "tmp" / name
        self._descriptor = -1

    def write(self, octets: bytes) -> None:
        """Append; the first call makes the Maildir where there is none."""
        if self._descriptor < 0:
            for part in ("tmp", "new", "cur"):
                _make_private(self._directory / part)
            self._descriptor = os.open(self._tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def post(self) -> None:
        """Make it durable, and seen."""
        os.fsync(self._descriptor)
        self._close()
        self._tmp.rename(self._directory / "new" / self.name)
        _fsync_directory(self._directory / "new")

    def discard(self) -> None:
        """Remove what was written; a file that cannot be removed is swept from tmp/ by whoever reads the Maildir."""
        try:
            self._close()
            self._tmp.unlink(missing_ok=True)
        except OSError:
            return

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _make_private(directory: Path) -> None:
    """Make `directory` and its missing parents, for nobody else to read, and make their names durable."""
    if directory.is_dir():
        return
    _make_private(directory.parent)
    try:
        directory.mkdir(0o700)
    except FileExistsError:
        return  # another delivery was quicker
    _fsync_directory(directory.parent)


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
