"""All listeners together: opens them, keeps count of clients, and takes them down without cutting a message short.

Not here: a session (session.py), or the address itself (waypost.net.listener).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final

from waypost.net.listener import Listener, OnConnection
from waypost.net.proxied import Own, Passed, Unfinished, Unproxied, read_header
from waypost.net.sockets import Sockets
from waypost.net.stream import Endpoint, Fault, Stream
from waypost.net.tls import IN_CLEAR, TlsState
from waypost.policy.access import DRAINING, NOT_FROM_YOU
from waypost.policy.admission import RelayPolicy
from waypost.receive.house import House
from waypost.receive.login import STRANGER, Guest
from waypost.receive.overheard import DEAF, Listening
from waypost.receive.places import Crowd, OwnCrowd
from waypost.receive.session import Session
from waypost.receive.settings import Door, client_key, network_key
from waypost.smtp.reply import Reply

TOO_MANY: Final = Reply.of(421, "4.7.0", "too many connections; try again later")
TOO_MANY_OF_YOURS: Final = Reply.of(421, "4.7.0", "too many connections from your address; try again later")
TOO_MANY_HERE: Final = Reply.of(421, "4.7.0", "too many connections to this address; try again later")
TOO_MANY_OF_NETWORK: Final = Reply.of(421, "4.7.0", "too many connections from your network; try again later")
#: How long a proxy may take for its header: it knows it before it connects.
PROXY_SAYS: Final = timedelta(seconds=10)
#: How long sessions get, after they were cut off, to say 421 and to see a commit through.
_LAST_WORDS: Final = timedelta(seconds=10)
_NO_SOCKETS: Final = Sockets()


class Receiver:
    """The service's doors. Start it once; after `stop` it is done with."""

    def __init__(
        self,
        doors: Sequence[Door],
        house: House,
        *,
        sockets: Sockets = _NO_SOCKETS,
        crowd: Callable[[], Crowd] = OwnCrowd,
    ) -> None:
        """`sockets`: opened for these doors by another process; `crowd`: whose connections count (ours alone)."""
        self._doors = doors
        self._house = house
        self._sockets = sockets
        self._crowd = crowd()
        #: Who may want to hear what is said.
        self.ears: Listening = DEAF
        self._listeners: list[Listener] = []
        self._closed: list[Listener] = []  # they take nobody any more, and have sessions that go on
        self._sessions: set[Session] = set()
        self._stopping = False

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The addresses that are open, in the order of the doors; port 0 has become the port it was given."""
        return [listener.endpoint for listener in self._listeners]

    @property
    def open_doors(self) -> Sequence[tuple[Endpoint, Door]]:
        """Each door with the address that is open for it."""
        return list(zip(self.endpoints, self._doors, strict=True))

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """What it listens on."""
        return [bound for listener in self._listeners for bound in listener.bound]

    @property
    def sessions(self) -> int:
        """Clients being served."""
        return len(self._sessions)

    async def start(self) -> None:
        """Open every door, or none. Raises: ListenError, for the administrator."""
        try:
            for door in self._doors:
                self._listeners.append(await self._open(door))
        except BaseException:
            await self.stop(timedelta())
            raise

    async def _open(self, door: Door) -> Listener:
        return await Listener.open(door.endpoint, self._server_of(door), self._sockets.take(door.endpoint))

    def _server_of(self, door: Door) -> OnConnection:
        banner = Reply(220, (f"{door.smtp.hostname} {'LMTP' if door.smtp.lmtp else 'ESMTP'}",))
        return partial(self.serve, door, banner)

    async def adopt(self, doors: Sequence[Door], house: House) -> None:
        """Serve by other doors and another house from now on, and end no session for it.

        A session that is open keeps its door, and has the new house from its next command on. A door that is gone takes
        nobody any more. Raises: ListenError, where a new door cannot be opened; then nothing has changed.
        """
        left = list(zip(self._doors, self._listeners, strict=True))
        listeners: list[Listener] = []
        opened: list[Listener] = []
        try:
            for door in doors:
                there = [pair for pair in left if pair[0].endpoint == door.endpoint][:1]
                left = [pair for pair in left if pair not in there]
                if not there:
                    opened.append(await self._open(door))
                listeners.append(there[0][1] if there else opened[-1])
        except BaseException:
            for listener in opened:
                await listener.close()
            raise
        self._doors, self._house, self._listeners = doors, house, listeners
        for door, listener in zip(doors, listeners, strict=True):
            listener.on_connection = self._server_of(door)
        for _, listener in left:
            listener.stop_accepting()
            self._closed.append(listener)
        self._closed = [listener for listener in self._closed if listener.connections]
        for session in self._sessions:
            session.adopt(house)

    async def serve(
        self, door: Door, banner: Reply, stream: Stream, guest: Guest = STRANGER, tls: TlsState = IN_CLEAR
    ) -> None:
        """One connection, to its end; turned away with 421 where there are too many (RFC 5321 §3.8).

        `tls`: what protects it already.
        """
        if door.proxies and RelayPolicy(door.proxies).trusts(stream.peer.host):
            proxied = await hear_proxy(stream)
            if isinstance(proxied, str):
                stream.abort()
                with suppress(Exception):  # what a log raises costs nothing
                    self._house.log.ended(stream.peer, f"cut off: {proxied}", 0)
                return
            tls = proxied
        if door.exempt and RelayPolicy(door.exempt).trusts(stream.peer.host):
            door = door.at_ease
        client, network = client_key(stream.peer.host), network_key(stream.peer.host)
        crowd, limits = self._crowd, self._house.settings
        if self.ears.watched:
            stream = self.ears.overhear(stream, str(door.endpoint))
        session = Session(stream, door, self._house, guest, tls)
        if limits.draining:
            await session.run(DRAINING)
            return
        everybody, of_client, of_network = crowd.counts(client, network)
        if everybody >= limits.connections:
            await session.run(TOO_MANY)
            return
        if of_client >= limits.connections_per_client:
            await session.run(TOO_MANY_OF_YOURS)
            return
        if of_network >= limits.connections_per_network:
            await session.run(TOO_MANY_OF_NETWORK)
            return
        counted = _at_door(door, client, crowd)
        if isinstance(counted, Reply):
            await session.run(counted)
            return
        if self._house.gate.watches and isinstance(opinion := self._house.gate.connected(stream.peer.host), Reply):
            await session.run(opinion)
            return
        self._sessions.add(session)
        crowd.enter(client, network)
        for name in counted:
            crowd.enter_at(name, 1)
        if self._stopping:
            session.leave()
        lasts = (door.session or limits.session).total_seconds()
        old_age = asyncio.get_running_loop().call_later(lasts, session.retire)
        try:
            await session.run(banner if self._house.access.of(stream.peer.host).accepts else NOT_FROM_YOU)
        finally:
            old_age.cancel()
            self._sessions.discard(session)
            crowd.leave(client, network)
            for name in counted:
                crowd.enter_at(name, -1)

    async def let_end(self, within: timedelta) -> None:
        """Stop accepting, and wait so long for the sessions to end by themselves: another process takes new ones."""
        for listener in self._listeners:
            listener.stop_accepting()
        await asyncio.gather(*(listener.drain(within.total_seconds()) for listener in self._listeners))

    async def stop(self, within: timedelta) -> None:
        """Stop accepting, say 421 to who is idle, wait so long for the others' messages, then cut them off.

        A message whose final dot was read is stored and answered even then.
        """
        self._stopping = True
        for listener in self._listeners:
            listener.stop_accepting()
        for session in list(self._sessions):
            session.leave()
        every = [*self._listeners, *self._closed]
        await asyncio.gather(*(listener.drain(within.total_seconds()) for listener in every))
        for listener in every:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                    await listener.close()


def _at_door(door: Door, client: str, crowd: Crowd) -> Reply | tuple[str, ...]:
    """What a client hears of whom the door itself has too many; else the names that its connection is counted by."""
    counted: tuple[str, ...] = ()
    for name, most, reply in (
        (door.address, door.connections, TOO_MANY_HERE),
        (f"{door.address} {client}", door.connections_per_client, TOO_MANY_OF_YOURS),
    ):
        if most and crowd.count_at(name) >= most:
            return reply
        counted += (name,) if most else ()
    return counted


async def hear_proxy(stream: Stream) -> TlsState | str:
    """Hear from a proxy whose connection it passes on, and how it was protected; or the trouble with what it says."""
    loop = asyncio.get_running_loop()
    ends, heard = loop.time() + PROXY_SAYS.total_seconds(), b""
    while True:
        octets = await stream.read(timedelta(seconds=max(ends - loop.time(), 0.001)))
        if isinstance(octets, Fault):
            return f"the proxy's header did not come: {octets}"
        heard += octets
        match read_header(heard):
            case Passed(client, rest, tls):
                stream.stand_for(client, rest)
                return tls
            case Own(rest):
                stream.stand_for(stream.peer, rest)
                return IN_CLEAR
            case Unproxied(detail):
                return detail
            case Unfinished():
                pass
