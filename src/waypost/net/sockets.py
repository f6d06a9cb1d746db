"""Listening sockets that another process opened for us: the supervisor, the service we replace, or systemd.

A socket outlives the process that opened it as long as somebody holds it, and so do the connections that wait in its
backlog: this is why nobody is refused while one process takes the place of another.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from waypost.net.stream import Endpoint, endpoint_of

#: The first descriptor that systemd passes (sd_listen_fds(3)).
FIRST: Final = 3
#: Longer paths do not fit into a socket's address (unix(7)).
LONGEST: Final = 100


class Sockets:
    """By address; each goes to the first who asks for it."""

    def __init__(self, given: Iterable[socket.socket] = ()) -> None:
        self._given = list(given)
        for one in self._given:
            one.setblocking(False)

    def __len__(self) -> int:
        return len(self._given)

    def take(self, address: Endpoint) -> Sequence[socket.socket]:
        """Those that listen on `address`; where its port is 0, one on whatever port. None: bind one yourself."""
        bound = [(endpoint_of(one.getsockname()), one) for one in self._given]
        taken = [one for where, one in bound if where == address]
        if not address.port and not taken:
            taken = [one for where, one in bound if where.host == address.host][:1]
        self._given = [one for one in self._given if one not in taken]
        return taken

    def close(self) -> None:
        """Close those that nobody asked for: their addresses are no longer listened on."""
        for one in self._given:
            one.close()
        self._given.clear()


def from_systemd(environment: Mapping[str, str], process: int) -> list[socket.socket]:
    """The sockets of a systemd .socket unit; none, where there is none or they are for another process.

    Raises: OSError, where a descriptor that is announced is no socket.
    """
    if environment.get("LISTEN_PID") != str(process):
        return []
    count = environment.get("LISTEN_FDS", "")
    numbers = range(FIRST, FIRST + int(count)) if count.isascii() and count.isdigit() else range(0)
    found = [socket.socket(fileno=number) for number in numbers]
    for one in found:
        one.set_inheritable(False)
    return found


def socket_path(path: Path) -> str:
    """A name for a socket at `path` that fits into an address, however long the path is.

    Where it does not fit, it leads over a descriptor of the directory, which stays open.
    """
    if len(os.fsencode(path)) <= LONGEST:
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{path.name}"
