"""The spool directory: fit to keep mail in, and one process's alone.

Refused: a directory another process holds, and one whose file system forgets (tmpfs, ramfs, a container's overlay): a
250 given for mail kept there would be a lie. Not here: what is kept in it (sqlite.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Final

from waypost.queue.storage import StorageError, StoreFault, StoreFaultKind

#: File systems whose contents end with the machine's uptime or with the container.
EPHEMERAL: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "overlay", "aufs"})
#: What to do about it.
REMEDY: Final = (
    "Set service.spool to a directory on a disk (in a container: a volume), or write service.allow_ephemeral = true if "
    "losing mail is all right"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def failed(detail: str) -> StorageError:
    """The error of a spool that cannot be used."""
    return StorageError(StoreFault(StoreFaultKind.FAILED, detail))


def unfit(path: Path, error: OSError) -> StorageError:
    """The error of a directory that the system does not let us use."""
    why = error.strerror or str(error)
    return failed(f"spool {path} cannot be used: {why}; service.spool must name a directory of ours")


class SpoolInUseError(StorageError):
    """Another process has the spool; it may be just ending."""


class Spool:
    """A spool directory this process holds, from `take` to `leave`; the lock goes with the process, however it ends."""

    __slots__ = ("_lock", "path")

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls, path: Path, *, allow_ephemeral: bool) -> Spool:
        """Make the directory where it is missing, see that it is fit, and lock it.

        Raises: StorageError, with a sentence that names the place and the remedy.
        """
        try:
            make(path)
            if not allow_ephemeral:
                _refuse_ephemeral(path)
            return cls(path, hold(path / "lock"))
        except OSError as error:
            raise unfit(path, error) from error

    def leave(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def make(path: Path) -> None:
    """Make the directory and those above it that are missing, each so that a power cut does not undo it."""
    if not path.exists():
        make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Let the names in a directory be as durable as what the files hold."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def hold(file: Path) -> int:
    """Lock `file` in a spool, as long as the descriptor that comes back is open. Raises: SpoolInUseError, OSError."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        why = f"spool {file.parent} is in use by process {holder}; stop it, or give this one a spool of its own"
        raise SpoolInUseError(StoreFault(StoreFaultKind.FAILED, why)) from None
    except OSError:
        os.close(lock)
        raise
    with contextlib.suppress(OSError):  # a full disk: who has it is not told, and mail can leave, which makes room
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
    return lock


def _refuse_ephemeral(path: Path) -> None:
    why = why_ephemeral(path)
    if why:
        raise failed(f"spool {why}. {REMEDY}")


def why_ephemeral(path: Path) -> str:
    """A sentence on a path, also one that is not there yet, whose file system forgets; empty for any other."""
    kind = file_system(path)
    if kind not in EPHEMERAL:
        return ""
    return (
        f"{path} lies on {kind}, which forgets what it holds when the machine or the container ends: mail accepted "
        "there would be lost"
    )


def file_system(path: Path) -> str:
    """The type of the file system a path lies on, as /proc/self/mountinfo has it; "" where the system does not tell."""
    with contextlib.suppress(FileNotFoundError):
        return _mounted_at(path.resolve(), _MOUNTS.read_text("utf-8", "surrogateescape"))
    return ""


def _mounted_at(path: Path, mounts: str) -> str:
    """The deepest mount point above `path`; of several on one point, the last one covers the others (proc(5))."""
    deepest, kind = -1, ""
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), before.split()[4]))
        depth = len(point.parts)
        if depth >= deepest and path.is_relative_to(point):
            deepest, kind = depth, behind.split()[0]
    return kind
