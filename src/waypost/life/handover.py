"""From one process to the next: a running service gives its listening sockets to the one that replaces it.

    the new one          <spool>/handover          the old one
        connect  ───────────────────────────────▶  offers
                 ◀─── the sockets, as descriptors
                                                    stops as at SIGTERM: sessions and attempts under way may end
                 ◀─── end of file, when it has ended
        serves

No connection is refused in between: the sockets stay open, and clients wait in their backlog until the new one greets.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from waypost.net.sockets import socket_path

#: Descriptors in one message; SCM_MAX_FD is 253.
MOST: Final = 250
#: How long the old process may take to end: its drain, and some more.
PATIENCE: Final = timedelta(minutes=3)


class Offer:
    """The old one's side: a Unix socket that only this user may connect to."""

    def __init__(self, listening: socket.socket, path: Path) -> None:
        self._listening = listening
        self._path = path
        self._taken: list[socket.socket] = []  # open until this process ends, which tells the other

    @classmethod
    def open(cls, spool: Path) -> Offer:
        """Raises: OSError."""
        path = spool / "handover"
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.setblocking(False)
        try:
            listening.bind(socket_path(path))
            path.chmod(0o600)
            listening.listen(1)
        except OSError:
            listening.close()
            raise
        return cls(listening, path)

    def fileno(self) -> int:
        """To be waited on."""
        return self._listening.fileno()

    def give(self, sockets: Sequence[socket.socket]) -> bool:
        """Give the sockets to whoever has come; whether anybody has."""
        try:
            taker, _ = self._listening.accept()
        except OSError:
            return False
        taker.setblocking(True)
        taker.settimeout(5)
        try:
            socket.send_fds(taker, [b"%d" % len(sockets)], [one.fileno() for one in sockets[:MOST]])
        except OSError:
            taker.close()
            return False
        self._taken.append(taker)
        return True

    def close(self) -> None:
        """Nobody may come any more. Who has taken over hears of the end when the process ends."""
        self._listening.close()
        if not self._taken:  # else the other one's is in its place by now, or soon
            self._path.unlink(missing_ok=True)


def take_over(spool: Path) -> list[socket.socket]:
    """Let the service on this spool end, and have its listening sockets.

    Raises: OSError, with a sentence: nobody is there, or the other one does not end.
    """
    path = spool / "handover"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(PATIENCE.total_seconds())
        try:
            asking.connect(socket_path(path))
        except OSError as error:
            raise OSError(f"no service runs on {spool} that could be replaced: start without --replace") from error
        said, descriptors, _, _ = socket.recv_fds(asking, 16, MOST)
        taken = [socket.socket(fileno=number) for number in descriptors]
        if not said:
            raise OSError(f"the service on {spool} ended without giving its sockets; start without --replace")
        try:
            while asking.recv(1):
                pass
        except TimeoutError:
            for one in taken:
                one.close()
            raise OSError(f"the service on {spool} has not ended within {PATIENCE}; it goes on") from None
        return taken
