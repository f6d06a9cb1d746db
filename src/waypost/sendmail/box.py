"""The letter box: where the pickup directory is, and putting a message into it so that it outlasts a power cut.

Not here: what a message must look like (program.py), and what becomes of it (receive/pickup.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waypost.mail.dropping import drop

EX_OK: Final = 0
EX_USAGE: Final = 64
EX_DATAERR: Final = 65
EX_NOUSER: Final = 67
EX_UNAVAILABLE: Final = 69
EX_CANTCREAT: Final = 73
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


#: Where the configuration is looked for, unless -C or WAYPOST_CONFIG names it.
CONFIG: Final = "/etc/waypost/waypost.toml"
_MOST: Final = 50 * 1024**2
_UNITS: Final = {"K": 1024, "M": 1024**2, "G": 1024**3}


class Refusal(Exception):  # noqa: N818 - the end of this program, with its exit code
    """Why nothing was done. The text names the remedy."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Place:
    """Where messages go, and what names are completed with. `admin`: host and port of the service's API."""

    directory: Path
    hostname: str
    most: int
    admin: str


def place_of(config: str) -> Place:
    """Where messages go, as the configuration says. Raises: Refusal."""
    import tomllib  # noqa: PLC0415 - not for `newaliases`

    path = Path(config or os.environ.get("WAYPOST_CONFIG", CONFIG))
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Refusal(EX_CONFIG, f"{path} cannot be read ({why}); name the configuration by WAYPOST_CONFIG") from None
    pickup, service = _table(document, "pickup"), _table(document, "service")
    if not pickup.get("directory"):
        raise Refusal(EX_CONFIG, f'{path} names no pickup directory; write [pickup], and below it directory = "…"')
    return Place(
        directory=(path.absolute().parent / str(pickup["directory"])).absolute(),
        hostname=str(service.get("hostname", "localhost")),
        most=_size(_table(document, "limits").get("message_size", _MOST)),
        admin=str(_table(document, "admin").get("address", "127.0.0.1:8025")),
    )


def _table(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _size(value: object) -> int:
    text = str(value)
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS and text[:-1].isdigit() else _MOST


def write(place: Place, octets: bytes) -> Path:
    """The message in the pickup directory, on the disk. Raises: Refusal."""
    try:
        return drop(place.directory, octets)
    except OSError as error:
        raise _unwritten(place.directory, error) from None


def _unwritten(directory: Path, error: OSError) -> Refusal:
    import errno  # noqa: PLC0415 - for this alone

    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}:
        return Refusal(EX_TEMPFAIL, f"{directory}: {error.strerror}; try again later")
    return Refusal(
        EX_CANTCREAT, f"{directory}: {error.strerror}; the service makes it when it starts: chmod 1733 lets all write"
    )
