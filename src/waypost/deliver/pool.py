"""Idle connections, kept a few seconds for the next message to the same host.

A connection here costs a socket and no task: one timer sweeps them all. Before it is used again it is looked at: one
that the peer has closed, or spoken on, is thrown away, and the next is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from waypost.deliver.connection import Connection
from waypost.deliver.opener import Needs
from waypost.mail.attempt import Transcript
from waypost.net.clock import Clock
from waypost.net.stream import Endpoint, Fault, Flushed


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How long, how many. Servers close idle clients after seconds to minutes; a short idle time meets few of those."""

    idle: timedelta = timedelta(seconds=5)
    age: timedelta = timedelta(seconds=300)
    connections: int = 200


@dataclass(frozen=True, slots=True)
class Nothing:
    """No idle connection will do."""


#: Address, port and needs: text, number and tuple, which are hashed without a call into Python.
_Key: TypeAlias = tuple[str, int, Needs]


class Pool:
    """Idle connections by host and needs."""

    def __init__(self, clock: Clock, limits: PoolLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or PoolLimits()
        self._age = self._limits.age.total_seconds()
        self._idle: dict[_Key, deque[Connection]] = {}
        self._unread = Transcript(0.0)
        self._count = 0
        self._is_closed = False
        self._is_sweeping = False
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return self._count

    def take(self, endpoint: Endpoint, needs: Needs, transcript: Transcript) -> Connection | Nothing:
        """An idle connection that still lives, now the caller's; the one used last, so that others may grow old."""
        idle = self._idle.get((endpoint.host, endpoint.port, needs))
        now = self._clock.monotonic() if idle else 0.0
        while idle:
            connection = idle.pop()
            self._count -= 1
            if not isinstance(came := connection.stream.pending(), Flushed):
                transcript.add(now, "*", f"not reusing the connection to {connection.place}: {_meanwhile(came)}")
                connection.abort()
            elif now - connection.opened_at < self._age:
                connection.transcript = transcript
                transcript.add(now, "*", f"reusing the connection to {connection.place}")
                return connection
            else:
                self._dismiss(connection)
        return Nothing()

    def give(self, needs: Needs, connection: Connection, *, transactions: int) -> None:
        """Keep a connection at READY for the next message, or take leave of it; it may carry `transactions` in all."""
        now = self._clock.monotonic()
        full = self._is_closed or self._count >= self._limits.connections
        if full or connection.transactions >= transactions or now - connection.opened_at >= self._age:
            self._dismiss(connection)
            return
        connection.transcript = self._unread  # not the ended attempt's: that one is in the history by now
        connection.idle_since = now
        endpoint = connection.host.endpoint
        self._idle.setdefault((endpoint.host, endpoint.port, needs), deque()).append(connection)
        self._count += 1
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(1.0, self._sweep)

    async def close(self) -> None:
        """Take leave of all, and of those given back from now on."""
        self._is_closed = True
        for connection in self._all():
            self._dismiss(connection)
        self._idle.clear()
        self._count = 0
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _sweep(self) -> None:
        """Take leave of those idle for too long; comes again each second while any is left."""
        ends = self._clock.monotonic() - self._limits.idle.total_seconds()
        for key, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= ends:
                self._count -= 1
                self._dismiss(idle.popleft())
            if not idle:
                del self._idle[key]
        self._is_sweeping = self._count > 0
        if self._is_sweeping:
            asyncio.get_running_loop().call_later(1.0, self._sweep)

    def _dismiss(self, connection: Connection) -> None:
        leaving = asyncio.ensure_future(connection.leave())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _all(self) -> Iterator[Connection]:
        for idle in self._idle.values():
            yield from idle


def _meanwhile(came: bytes | Fault) -> str:
    """What came over a connection while it was idle."""
    if isinstance(came, Fault):
        return str(came)
    return f"it said {came.splitlines()[0][: Transcript.WIDTH].decode('utf-8', 'backslashreplace')!r} meanwhile"
