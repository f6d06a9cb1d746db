"""Where a queue is: a directory, or the address of a database. Imports nothing of either."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

#: How the address of a database begins.
DATABASES: Final = ("postgresql://", "postgres://")


def is_database(spool: str) -> bool:
    """Whether `service.spool` names a database, and no directory."""
    return spool.startswith(DATABASES)


def where_of(address: str) -> str:
    """A database's address without what is secret in it, for a person."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
