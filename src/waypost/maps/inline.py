"""A map that stands in the configuration itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waypost.maps.lookup import NOT_LISTED, Keys, Listed, Lookup


class InlineMap:
    """`entries = { … }`: never out of date, never in trouble."""

    keys = Keys.ALL

    def __init__(self, name: str, entries: Mapping[str, Sequence[str]], place: str) -> None:
        """`entries`: key → at least one value; `place`: where it stands ("waypost.toml:12")."""
        self.name = name
        self._entries = {key.lower(): Listed(tuple(values), place) for key, values in entries.items()}

    async def look_up(self, key: str) -> Lookup:
        return self._entries.get(key, NOT_LISTED)
