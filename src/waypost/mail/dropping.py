"""Putting a message into the pickup directory as a file, so that it is there whole, and outlasts a power cut.

Only the standard library is imported, as a program does that starts for each message (waypost.sendmail). Not here: what
such a file holds, and taking it (receive/pickup.py).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def drop(directory: Path, octets: bytes) -> Path:
    """The file. Its name tells nobody anything, so that none can guess it. Raises: OSError; then there is none."""
    name = secrets.token_hex(16)
    begun, whole = directory / f".{name}", directory / f"{name}.eml"
    # Readable for whoever knows the name: the directory is listed by the service alone, which reads it so.
    opened = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(opened, 0o644)  # whatever the umask
        with os.fdopen(opened, "wb", closefd=False) as file:
            file.write(octets)
        os.fsync(opened)
        begun.rename(whole)
        _sync(directory, opened)
    except OSError:
        begun.unlink(missing_ok=True)
        raise
    finally:
        os.close(opened)
    return whole


def _sync(directory: Path, file: int) -> None:
    """See the new name on the disk too: by the directory, or where only the service may open that, by the file."""
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        os.fsync(file)
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
