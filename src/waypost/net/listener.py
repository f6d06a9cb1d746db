"""Listening: an address, and a coroutine run for every connection that comes to it.

Not here: how many connections are too many (waypost.receive), what is said on them (waypost.smtp), and sockets that
another process opened for us (sockets.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from waypost.net.stream import Endpoint, SocketStream, Stream, endpoint_of

OnConnection: TypeAlias = Callable[[Stream], Coroutine[object, object, None]]


class ListenError(Exception):
    """An address could not be opened; the text names it, the cause and the remedy. The administrator's to mend."""


class Listener:
    """One open address, by one socket or several. Each connection runs as a task of its own; what it raises ends it."""

    #: Connections the system holds while we are busy: net.core.somaxconn cuts it to what the machine allows.
    BACKLOG: Final = 1024

    def __init__(self, bound: Sequence[socket.socket], endpoint: Endpoint, on_connection: OnConnection) -> None:
        self.bound = bound
        self._servers: list[asyncio.Server] = []
        #: Who has the connections from now on; it may be replaced.
        self.on_connection = on_connection
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = endpoint

    @classmethod
    async def open(
        cls, address: Endpoint, on_connection: OnConnection, given: Sequence[socket.socket] = ()
    ) -> Listener:
        """Begin to accept, on the sockets `given` for the address, else on one bound now.

        Raises: ListenError, where the address cannot be had.
        """
        bound = given or (bind(address),)
        listener = cls(bound, endpoint_of(bound[0].getsockname()), on_connection)
        await listener._accept()
        return listener

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()

        def connected() -> _Accepted:
            return _Accepted(loop, self._begin)

        for bound in self.bound:
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await create(connected, sock=bound, backlog=self.BACKLOG))

    def _begin(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self.on_connection(stream))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._end(ended, stream))

    def _end(self, task: asyncio.Task[None], stream: Stream) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            stream.abort()
        elif (error := task.exception()) is not None:
            stream.abort()
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the session with {stream.peer} ended in an error of ours", "exception": error}
            )

    @property
    def connections(self) -> int:
        """Tasks that still run."""
        return len(self._tasks)

    def stop_accepting(self) -> None:
        """Close the address; connections that are open go on."""
        for server in self._servers:
            server.close()
        if self.endpoint.host.startswith("/"):
            Path(self.endpoint.host).unlink(missing_ok=True)

    async def drain(self, seconds: float) -> None:
        """Wait for the open connections to end by themselves, so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Close the address and cancel what still runs; returns when the last task has ended."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Accepted(SocketStream):
    """A stream that tells when its connection is made."""

    __slots__ = ("_begin",)

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[Stream], None]) -> None:
        super().__init__(loop)
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._begin(self)


def bind(address: Endpoint, *, shared: bool = False) -> socket.socket:
    """A socket that listens; `shared`: others of this user may bind the address too, and the system deals out.

    Raises: ListenError, where the address cannot be had.
    """
    try:
        return _bind(address, Listener.BACKLOG, shared=shared)
    except OSError as error:
        raise ListenError(_explain(address, error)) from error


def foresee(address: Endpoint) -> None:
    """See that `bind` would have the address if nobody else had it. Nobody's clients notice. Raises: ListenError."""
    if address.host.startswith("/"):
        return  # to try would be to remove what is there
    with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as tried:
        try:
            tried.bind((address.host, address.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ListenError(_explain(address, error)) from error


def _bind(address: Endpoint, backlog: int, *, shared: bool) -> socket.socket:
    if address.host.startswith("/"):
        _remove_stale(address.host)
        bound = socket.socket(socket.AF_UNIX)
        where: str | tuple[str, int] = address.host
    else:
        bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        # Restart at once, though connections of the last run still linger in TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if bound.family == socket.AF_INET6:
            # "[::]:25" and "0.0.0.0:25" are two addresses, each opened where it is asked for.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        where = (address.host, address.port)
    bound.setblocking(False)
    try:
        bound.bind(where)
        bound.listen(backlog)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """Remove the socket of a process that is gone; leave one that somebody listens on, for `bind` to complain about."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a path from the configuration, not a Path yet
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError:
        return


def _explain(address: Endpoint, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            why = f"another process listens there already; `ss -lptn 'sport = :{address.port}'` shows which"
            if address.host.startswith("/"):
                why = f"another process listens there already, or the file is no socket; `fuser {address.host}` shows"
        case errno.EACCES | errno.EPERM if address.port and address.port < 1024:
            why = (
                f"ports below 1024 need a privilege; give it CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=) "
                f"or take a port such as {address.port + 2500}"
            )
        case errno.EACCES | errno.EPERM | errno.ENOENT:
            why = f"{os.strerror(error.errno)}; the directory must exist and be writable by this user"
        case errno.EADDRNOTAVAIL:
            why = "this machine has no such address; `ip address` lists those it has"
        case _:
            why = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen on {address}: {why}"
