"""A scripted SMTP or LMTP server that misbehaves on demand: for tests, demonstrations and `waypost peer`.

What it does wrong, and when, is a plan (fault_plan.py). Without one it is a plain, correct server that keeps what it
accepts in memory.

Not here: judging or storing mail (receive/), and our own protocol engine (smtp/): a server that must speak wrongly at
every point has to be independent of the one that must not. It listens wherever it is told to, so bind it to loopback.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Final, Never, Self, assert_never

from waypost.admin.fault_plan import Behave, Fault, Instead, PlannedFault, State, Way
from waypost.net.stream import Endpoint
from waypost.smtp.reply import Reply

#: Octets of an over-long reply line: RFC 5321 §4.5.3.1.5 allows 512, this is far past any client's patience.
LONG: Final = 100_000


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """One line of a dialogue. Marks as in a transcript: `C` the client said, `S` the peer said, `*` what happened."""

    connection: int
    mark: str
    text: str


@dataclass(slots=True)
class Dialogue:
    """All that was said on one connection, numbered from 1."""

    connection: int
    events: list[PeerEvent] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """What the client said, a line each, bodies left out."""
        return [event.text for event in self.events if event.mark == "C"]

    @property
    def verbs(self) -> list[str]:
        """The commands' first words, in upper case."""
        return [command.split(" ", 1)[0].upper() for command in self.commands]


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that came in up to its final dot; paths as the client wrote them, without angle brackets."""

    connection: int
    hello: str  # the verb of the client's greeting
    reverse_path: str
    recipients: tuple[str, ...]
    octets: bytes  # dot-stuffing removed


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What the peer offers when it behaves. `pace`: between two octets of a dripped reply."""

    name: str = "peer.example"
    lmtp: bool = False
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 52428800", "ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN")
    pace: timedelta = timedelta(milliseconds=200)


def _nobody(_event: PeerEvent) -> None:
    """Nobody looks on."""


class FaultyPeer:
    """The server: start it, let something connect to `endpoint`, read `accepted` and `dialogues`.

    `received` holds every message whose final dot came; `accepted` those of them that were answered with a 2yz the
    client could read (under LMTP: for at least one recipient).
    """

    def __init__(
        self,
        *faults: str | PlannedFault,
        settings: PeerSettings = PeerSettings(),
        host: str = "127.0.0.1",
        port: int = 0,
        watch: Callable[[PeerEvent], None] = _nobody,
    ) -> None:
        self.settings = settings
        self.received: list[ReceivedMessage] = []
        self.accepted: list[ReceivedMessage] = []
        self.dialogues: list[Dialogue] = []
        self._plan = [PlannedFault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        self._occurrences: Counter[State] = Counter()
        self._asked = Endpoint(host, port)
        self._watch = watch
        self._changed = asyncio.Condition()
        self._sessions: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, once started."""
        if not self._servers:
            return self._asked
        host, port, *_ = self._servers[0].sockets[0].getsockname()
        return Endpoint(host, port)

    async def start(self) -> Self:
        """Listen. Raises: OSError, where the address cannot be had."""
        self._servers.append(await asyncio.start_server(self._serve, self._asked.host, self._asked.port))
        return self

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        for server in self._servers:
            server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def until(self, happened: Callable[[FaultyPeer], bool], within: timedelta = timedelta(seconds=10)) -> None:
        """Wait until `happened(self)` holds; looked at after every line. Raises: TimeoutError."""
        async with asyncio.timeout(within.total_seconds()), self._changed:
            await self._changed.wait_for(lambda: happened(self))

    def due(self, state: State) -> Fault | Behave:
        """The fault planned for this occurrence of `state`, which is counted by asking."""
        occurrence = self._occurrences[state]
        self._occurrences[state] += 1
        return next((p.fault for p in self._plan if p.state is state and p.strikes(occurrence)), Behave())

    def comes_early(self, state: State) -> bool:
        """Whether the reply for the next occurrence of `state` is planned to precede its command (not counted)."""
        occurrence = self._occurrences[state]
        return any(p.state is state and p.fault is Way.EARLY and p.strikes(occurrence) for p in self._plan)

    async def note(self, dialogue: Dialogue, mark: str, text: str) -> None:
        """Write a line of a dialogue down, and tell whoever watches or waits."""
        event = PeerEvent(dialogue.connection, mark, text)
        dialogue.events.append(event)
        self._watch(event)
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialogue = Dialogue(len(self.dialogues) + 1)
        self.dialogues.append(dialogue)
        session = asyncio.ensure_future(_Session(self, dialogue, reader, writer).run())
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        await asyncio.wait([session])  # not awaited itself: `stop` cancels the session, and nobody need log that


_PATH: Final = re.compile(r'<((?:"(?:\\.|[^"\\])*"|[^>"])*)>')
_VERBS: Final[dict[str, State]] = {
    state.value.upper(): state
    for state in set(State) - {State.CONNECT, State.BANNER, State.BODY, State.DOT, State.IDLE}
}
_HELLOS: Final = (State.EHLO, State.HELO, State.LHLO)
#: Which replies may come early with which: the successors of a state in a dialogue without trouble.
_NEXT: Final = {
    State.BANNER: _HELLOS,
    **dict.fromkeys(_HELLOS, (State.MAIL,)),
    State.MAIL: (State.RCPT,),
    State.RCPT: (State.DATA,),
    State.DATA: (State.DOT,),
    State.DOT: (State.RSET, State.QUIT),
}
_GOOD: Final = {
    State.MAIL: Reply.of(250, "2.1.0", "reverse-path ok"),
    State.RCPT: Reply.of(250, "2.1.5", "forward-path ok"),
    State.DATA: Reply(354, ("go on, end with a dot on its own line",)),
    State.BODY: Reply.of(250, "2.0.0", "accepted"),
    State.DOT: Reply.of(250, "2.0.0", "accepted"),
    State.RSET: Reply.of(250, "2.0.0", "forgotten"),
    State.QUIT: Reply.of(221, "2.0.0", "good-bye"),
    State.IDLE: Reply.of(250, "2.0.0", "nobody asked"),
}
_OUT_OF_ORDER: Final = Reply.of(503, "5.5.1", "not now")
_UNKNOWN: Final = Reply.of(500, "5.5.2", "no such command here")
_GARBAGE: Final = b"\x16\x03\x01 this is no reply \xff\xfe\r\n"


def mangled(reply: Reply, way: Way) -> bytes:
    """The octets of `reply`, spoilt in the given way; as they are, where the way is one of time rather than octets."""
    right = reply.encode()
    match way:
        case Way.GARBAGE:
            return _GARBAGE
        case Way.NUL:
            return right.replace(b"\r\n", b"\0\r\n")
        case Way.BARE_LF:
            return right.replace(b"\r\n", b"\n")
        case Way.LONG:
            return right[:-2] + b" and so on".ljust(LONG, b".") + b"\r\n"
        case Way.TRUNCATED:
            return right[: len(right) // 2]
        case Way.WRONG:
            return Reply(250 if reply.is_intermediate else 354, reply.lines).encode()
        case Way.EXTRA:
            return right + _GOOD[State.IDLE].encode()
        case Way.CLOSE | Way.RESET | Way.STALL | Way.DRIP | Way.ENDLESS | Way.EARLY:
            return right
        case _:
            assert_never(way)


class _Over(Exception):  # noqa: N818 - the end of a dialogue is no error
    """The dialogue has ended, by either side."""


class _Session:
    """One connection. Its state is what a server must remember; the plan belongs to the peer."""

    def __init__(
        self, peer: FaultyPeer, dialogue: Dialogue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._peer = peer
        self._dialogue = dialogue
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._answered_early: set[State] = set()
        self._hello = ""
        self._reverse_paths: list[str] = []  # one, inside a transaction
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Serve to the end."""
        try:
            await self._happened("connected from {}:{}".format(*self._writer.get_extra_info("peername")[:2]))
            await self._strike(State.CONNECT, self._peer.due(State.CONNECT))
            await self._answer(State.BANNER)
            while True:
                await self._command(await self._line())
        except _Over as end:
            await self._happened(str(end))
        except ConnectionError:
            await self._happened("reset by the client")
        finally:
            self._writer.transport.abort()

    # ---- what the client says
    async def _command(self, line: str) -> None:
        await self._peer.note(self._dialogue, "C", line)
        verb = line.split(" ", 1)[0].upper()
        match _VERBS.get(verb):
            case State.EHLO | State.HELO | State.LHLO as state:
                await self._greeted(state)
            case State.MAIL:
                await self._mail(line)
            case State.RCPT:
                await self._rcpt(line)
            case State.DATA:
                await self._data()
            case State.RSET:
                self._forget()
                await self._answer(State.RSET)
            case State.QUIT:
                await self._answer(State.QUIT)
                await self._close("closed after QUIT")
            case _:
                await self._send(_GOOD[State.IDLE] if verb == "NOOP" else _UNKNOWN)

    async def _greeted(self, state: State) -> None:
        if (state is State.LHLO) != self._peer.settings.lmtp:
            await self._send(_UNKNOWN)
            return
        self._forget()
        if await self._answer(state):
            self._hello = state.value.upper()

    async def _mail(self, line: str) -> None:
        path = _PATH.search(line)
        if not self._hello or self._reverse_paths or path is None:
            await self._send(_OUT_OF_ORDER)
        elif await self._answer(State.MAIL):
            self._reverse_paths.append(path[1])

    async def _rcpt(self, line: str) -> None:
        path = _PATH.search(line)
        if not self._reverse_paths or path is None:
            await self._send(_OUT_OF_ORDER)
        elif await self._answer(State.RCPT):
            self._recipients.append(path[1])

    async def _data(self) -> None:
        if not self._recipients:
            await self._send(_OUT_OF_ORDER)
        elif await self._answer(State.DATA):
            await self._body()
            self._forget()

    async def _body(self) -> None:
        await self._more()  # the fault strikes in mid-body: something has come
        fault = self._peer.due(State.BODY)
        await self._strike(State.BODY, fault)
        octets = await self._octets_to_dot()
        message = ReceivedMessage(
            self._dialogue.connection, self._hello, self._reverse_paths[0], tuple(self._recipients), octets
        )
        self._peer.received.append(message)
        await self._happened(f"a message of {len(octets)} octets for {', '.join(self._recipients)}")
        if not isinstance(fault, Behave):
            return  # what was said in mid-body was this body's only reply
        answers = len(self._recipients) if self._peer.settings.lmtp else 1
        if any([await self._answer(State.DOT) for _ in range(answers)]):
            self._peer.accepted.append(message)
            await self._happened("accepted")
        await self._strike(State.IDLE, self._peer.due(State.IDLE))

    def _forget(self) -> None:
        self._reverse_paths.clear()
        self._recipients.clear()

    # ---- what the peer says
    def _good(self, state: State) -> Reply:
        settings = self._peer.settings
        match state:
            case State.BANNER:
                return Reply(220, (f"{settings.name} {'LMTP' if settings.lmtp else 'ESMTP'} ready",))
            case State.EHLO | State.LHLO:
                return Reply(250, (f"{settings.name} at your service", *settings.extensions))
            case State.HELO:
                return Reply(250, (f"{settings.name} at your service",))
            case _:
                return _GOOD[state]

    async def _answer(self, state: State) -> bool:
        """Reply as planned. True: the client can read the reply as a yes."""
        if state in self._answered_early:
            self._answered_early.discard(state)
            return True
        fault = self._peer.due(state)
        early = [s for s in _NEXT.get(state, ()) if self._peer.comes_early(s)]
        if isinstance(fault, Behave) or fault is Way.EARLY:
            await self._send(self._good(state), *(self._good(s) for s in early))
        else:
            await self._strike(state, fault)
        for successor in early:
            self._peer.due(successor)
            self._answered_early.add(successor)
        return _reads_as_yes(fault)

    async def _send(self, *replies: Reply) -> None:
        await self._write(b"".join(reply.encode() for reply in replies))

    async def _write(self, octets: bytes) -> None:
        for line in octets.removesuffix(b"\n").split(b"\n"):
            await self._peer.note(self._dialogue, "S", _shown(line.removesuffix(b"\r")))
        self._writer.write(octets)
        await self._writer.drain()

    # ---- what the peer does wrong
    async def _strike(self, state: State, fault: Fault | Behave) -> None:
        if isinstance(fault, Behave):
            return
        if isinstance(fault, Instead):
            await self._send(fault.reply)
            if fault.reply.code == 421:
                await self._close("closed after 421")
            return
        await self._happened(f"fault: {fault.value} at {state.value}")
        match fault:
            case Way.CLOSE:
                await self._close("closed")
            case Way.RESET:
                self._reset()
            case Way.STALL:
                await self._stall(state)
            case Way.DRIP:
                await self._drip(self._good(state))
            case Way.ENDLESS:
                await self._never_end(self._good(state))
            case Way.TRUNCATED:
                await self._write(mangled(self._good(state), fault))
                await self._close("closed")
            case _:
                await self._write(mangled(self._good(state), fault))

    async def _close(self, why: str) -> Never:
        self._writer.close()
        await self._writer.wait_closed()
        raise _Over(why)

    def _reset(self) -> Never:
        linger_none = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self._writer.transport.abort()
        raise _Over("reset")

    async def _stall(self, state: State) -> Never:
        if state is State.BODY:
            await asyncio.Event().wait()  # not even reading: the client's writes are to stall as well
        while await self._reader.read(65536):
            pass
        raise _Over("closed by the client")

    async def _drip(self, reply: Reply) -> None:
        for octet in reply.encode():
            self._writer.write(bytes([octet]))
            await self._writer.drain()
            await asyncio.sleep(self._peer.settings.pace.total_seconds())
        await self._peer.note(self._dialogue, "S", str(reply))

    async def _never_end(self, reply: Reply) -> Never:
        lines = f"{reply.code}-and so on\r\n".encode() * 500
        while True:
            self._writer.write(lines)
            await self._writer.drain()
            await asyncio.sleep(0)

    # ---- reading
    async def _more(self) -> None:
        if self._buffer:
            return
        await self._read()

    async def _read(self) -> None:
        octets = await self._reader.read(65536)
        if not octets:
            raise _Over("closed by the client")
        self._buffer += octets

    async def _line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            await self._read()
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return _shown(line)

    async def _octets_to_dot(self) -> bytes:
        self._buffer[:0] = b"\r\n"  # so that a dot on the first line is found like any other
        searched = 0
        while (end := self._buffer.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 4)
            await self._read()
        stuffed = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        return stuffed.replace(b"\r\n.", b"\r\n")[2:]

    async def _happened(self, text: str) -> None:
        await self._peer.note(self._dialogue, "*", text)


def _reads_as_yes(fault: Fault | Behave) -> bool:
    match fault:
        case Behave() | Way.EARLY | Way.DRIP | Way.NUL | Way.BARE_LF | Way.EXTRA:
            return True
        case Instead(reply):
            return reply.is_positive
        case Way():
            return False
        case _:
            assert_never(fault)


def _shown(octets: bytes) -> str:
    text = octets[:500].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
