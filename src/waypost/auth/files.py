"""Secrets in files: written whole or not at all, and readable by their owner alone."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def put_in_place(path: Path, octets: bytes) -> None:
    """Let `path` hold these octets, with mode 0600; on the disk when this returns. Raises: OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # of mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(octets)
            file.flush()
            _keep_owner(path, file.fileno())
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _keep_owner(path: Path, descriptor: int) -> None:
    """What root writes stays readable to the service that runs as another: the file's owner, or the directory's."""
    if os.geteuid() == 0:
        found = (path if path.exists() else path.parent).stat()
        with suppress(OSError):
            os.fchown(descriptor, found.st_uid, found.st_gid)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
