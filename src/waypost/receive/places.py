"""How many connections there are at once, in all, by client, network and door: of this process, or of all workers.

Not here: how many may be (settings.py), and who is turned away (server.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from waypost.net.shared import SharedNumbers


class Crowd(Protocol):
    """The connections that are served."""

    def counts(self, client: str, network: str) -> tuple[int, int, int]:
        """How many there are: all, those of one client, those of one network."""
        ...

    def enter(self, client: str, network: str) -> None:
        """One more."""
        ...

    def leave(self, client: str, network: str) -> None:
        """One less."""
        ...

    def count_at(self, door: str) -> int:
        """How many there are of those that `enter_at` counted by this name."""
        ...

    def enter_at(self, door: str, one: int) -> None:
        """One more by this name, or one less (-1)."""
        ...


class OwnCrowd:
    """Those of this process alone. Whoever has none is forgotten."""

    __slots__ = ("_all", "_clients", "_doors", "_networks")

    def __init__(self) -> None:
        self._all = 0
        self._clients: defaultdict[str, int] = defaultdict(int)
        self._networks: defaultdict[str, int] = defaultdict(int)
        self._doors: defaultdict[str, int] = defaultdict(int)

    def counts(self, client: str, network: str) -> tuple[int, int, int]:
        of_client = self._clients[client] if client in self._clients else 0  # noqa: SIM401 - spares a call
        of_network = self._networks[network] if network in self._networks else 0  # noqa: SIM401
        return self._all, of_client, of_network

    def enter(self, client: str, network: str) -> None:
        self._all += 1
        self._clients[client] += 1
        self._networks[network] += 1

    def leave(self, client: str, network: str) -> None:
        self._all -= 1
        for counted, key in ((self._clients, client), (self._networks, network)):
            counted[key] -= 1
            if not counted[key]:
                del counted[key]

    def count_at(self, door: str) -> int:
        return self._doors.get(door, 0)

    def enter_at(self, door: str, one: int) -> None:
        self._doors[door] += one
        if not self._doors[door]:
            del self._doors[door]


class SharedCrowd:
    """Those of all workers together, within the error that net/shared.py states."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: SharedNumbers) -> None:
        self._numbers = numbers

    def counts(self, client: str, network: str) -> tuple[int, int, int]:
        everybody, one, some = map(self._numbers.total, _keys(client, network))
        return everybody, one, some

    def enter(self, client: str, network: str) -> None:
        for key in _keys(client, network):
            self._numbers.add(key, 1)

    def leave(self, client: str, network: str) -> None:
        for key in _keys(client, network):
            self._numbers.add(key, -1)

    def count_at(self, door: str) -> int:
        return self._numbers.total(f"door {door}")

    def enter_at(self, door: str, one: int) -> None:
        self._numbers.add(f"door {door}", one)


def _keys(client: str, network: str) -> tuple[str, str, str]:
    return "connections", f"client {client}", f"network {network}"
