"""What a map answers, and what one is. Values and an interface; each kind of map has a file of its own beside this.

A map that cannot be asked answers `MapTrouble`, never `NotListed`: mail then waits, and nobody is refused for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Listed:
    """The key is in the map. `values` as they stand there, at least one; `place` is where ("aliases:12")."""

    values: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True)
class NotListed:
    """The map was read, and the key is not in it."""


@dataclass(frozen=True, slots=True)
class MapTrouble:
    """The map could not be asked; `detail` is a sentence for the administrator, with the map's name in it.

    `remote`: another server is in trouble (4.4.3), not a file or a query here (4.3.0).
    """

    detail: str
    remote: bool = False


Lookup: TypeAlias = Listed | NotListed | MapTrouble

NOT_LISTED: Final = NotListed()


class AskError(Exception):
    """A question got no answer; its text is a sentence for the administrator."""


class Keys(Enum):
    """Which spellings of an address a map is asked for."""

    ALL = "the address, the bare local-part, and @domain"  # what costs nothing to ask
    ADDRESSES = "the address and @domain"  # each question goes to a database or a server
    WHOLE = "the address as it came"  # patterns see it whole


class Map(Protocol):
    """A key → values. Keys come in lower case."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...

    @property
    def keys(self) -> Keys:
        """What it is asked for."""
        ...

    async def look_up(self, key: str) -> Lookup:
        """What the map has for `key`. Never raises but CancelledError; ends within the map's time-out."""
        ...
