"""Between a supervisor and each process it has begun: a pair of sockets, which also tells that the other is gone.

A process sends one `Ready` when it serves, or one `Failed` before it ends, and a `Reloaded` after each SIGHUP. It reads
nothing but the end: when its supervisor is gone, however that came about, it stops as it would at SIGTERM, so that the
next supervisor's processes find the spool free.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from waypost.admin.answers import ListenerFacts
from waypost.app import Running


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """It serves: mail on `listeners`, questions on `admin`."""

    listeners: tuple[ListenerFacts, ...] = ()
    admin: str = ""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It cannot serve. `passing`: what is in the way goes by itself, as a process does that is just ending."""

    why: str
    passing: bool


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """It goes on by another configuration, or by the one it had; `status` says which, in a sentence."""

    status: str


Word: TypeAlias = Ready | Failed | Reloaded


@dataclass(frozen=True, slots=True)
class Leash:
    """A process's end of the pair."""

    control: socket.socket

    def ready(self, running: Running, trouble: Sequence[str]) -> None:  # noqa: ARG002 - readiness tells that of all
        self.say(Ready(running.operations.facts.listeners, str(running.admin_endpoint)))

    def listen(self, stop: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def heard() -> None:
            if not _hears(self.control):
                loop.remove_reader(self.control)
                stop()

        self.control.setblocking(False)
        loop.add_reader(self.control, heard)

    def reloading(self) -> None:
        pass

    def reloaded(self, status: str) -> None:
        self.say(Reloaded(status))

    def stopping(self) -> None:
        pass

    def say(self, word: Word) -> None:
        """Tell the supervisor; one that is gone is told nothing."""
        with contextlib.suppress(OSError):
            self.control.send(msgspec.json.encode(word))


def _hears(control: socket.socket) -> bool:
    """Whether the other end is still there."""
    try:
        return bool(control.recv(4096))
    except BlockingIOError:
        return True
    except OSError:
        return False


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends; each message arrives whole."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def words(control: socket.socket) -> list[Word]:
    """What a process has said since the last look; it never says much."""
    said: list[Word] = []
    with contextlib.suppress(OSError, msgspec.DecodeError):
        while octets := control.recv(65536, socket.MSG_DONTWAIT):
            said.append(msgspec.json.decode(octets, type=Word))
    return said
