"""What is said in a client's session, for an operator who wants to hear it: to the log line by line, and kept.

A stream around the session's own: it hears what passes and changes nothing. Secrets and bodies are never told: what
follows AUTH is masked until that has ended, of a body only its size is. It understands as much of SMTP as that takes,
and trusts no client to keep to it: what comes after DATA is told once the reply has shown that it is no body.

Not here: who is watched (queue/watching.py). A session is heard from its beginning; one that has begun is not.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

from waypost.mail.attempt import Transcript
from waypost.mail.envelope import MessageId
from waypost.mail.explain import plain
from waypost.net.clock import Clock
from waypost.net.stream import Endpoint, Fault, Flushed, Hear, Speaks, Stream
from waypost.net.tls import TlsFacts, TlsState
from waypost.queue.storage import StorageError
from waypost.queue.watching import Dialogues

#: Octets of a line that is heard without its end; what is longer is no command.
LINE: Final = 4096
MASK: Final = "(not told)"
_TAKEN: Final = re.compile(r"250 2\.0\.0 Ok: queued as ([0-9a-z]{13})")
_DOT: Final = b".\r\n"
_END: Final = b"\r\n" + _DOT


class _Mode(Enum):
    """How what the client says next is to be understood."""

    COMMANDS = auto()
    SECRET = auto()  # AUTH has begun, and not ended
    ASKED = auto()  # DATA was said: it may be a body
    BODY = auto()
    CHUNK = auto()  # of BDAT: so many octets


class Ear:
    """Hears both sides of one session. `tell`: takes a mark (`C` the client, `S` we, `*` an event) and a line."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._mode = _Mode.COMMANDS
        self._heard = b""
        self._said = b""
        self._unanswered = 1  # the greeting answers nobody
        self._size = 0  # octets of a body so far, or of a chunk yet to come
        self._tail = b"\r\n"  # the last octets of a body: its end may come in pieces

    def client(self, octets: bytes) -> None:
        """The client said this."""
        self._heard += octets
        while self._heard and self._step():
            pass

    def _step(self) -> bool:
        """Take something of what was heard; False: more has to come first."""
        match self._mode:
            case _Mode.ASKED:
                return False
            case _Mode.BODY:
                return self._hear_body()
            case _Mode.CHUNK:
                return self._hear_chunk()
            case _Mode.COMMANDS | _Mode.SECRET:
                return self._hear_line()

    def _hear_line(self) -> bool:
        line, end, rest = self._heard.partition(b"\r\n")
        if not end and len(line) < LINE:
            return False
        self._heard = rest
        self._unanswered += 1
        self._tell("C", MASK if self._mode is _Mode.SECRET else self._understood(line))
        return True

    def _understood(self, line: bytes) -> str:
        """A command, to be told."""
        words = line.split()
        verb = words[0].upper() if words else b""
        if verb == b"AUTH":
            self._mode = _Mode.SECRET
            return plain(b" ".join(words[:2]).decode("utf-8", "replace")) + (f" {MASK}" if len(words) > 2 else "")
        if verb == b"DATA":
            self._mode = _Mode.ASKED
        elif verb == b"BDAT" and len(words) > 1 and words[1].isdigit() and len(words[1]) < 19:
            self._mode, self._size = _Mode.CHUNK, int(words[1])
        return line.decode("utf-8", "replace")

    def _hear_body(self) -> bool:
        so_far = self._tail + self._heard
        end = so_far.find(_END)
        if end < 0:
            self._size += len(self._heard)
            self._tail, self._heard = so_far[-len(_END) + 1 :], b""
            return False
        taken = end + len(_END) - len(self._tail)
        self._tell("*", f"a body of {self._size + taken - len(_DOT)} octets")
        self._heard, self._mode = self._heard[taken:], _Mode.COMMANDS
        self._unanswered += 1
        return True

    def _hear_chunk(self) -> bool:
        taken = min(self._size, len(self._heard))
        self._size, self._heard = self._size - taken, self._heard[taken:]
        if not self._size:
            self._mode = _Mode.COMMANDS
        return True

    def ours(self, octets: bytes) -> None:
        """We said this: whole lines, or pieces of them."""
        *lines, self._said = (self._said + octets).split(b"\r\n")
        for line in lines:
            self._tell("S", line.decode("utf-8", "replace"))
            if line[3:4] != b"-":
                self._replied(line[:3])
        self.client(b"")

    def _replied(self, code: bytes) -> None:
        self._unanswered = max(0, self._unanswered - 1)
        if self._mode is _Mode.ASKED and code == b"354":
            self._mode, self._size, self._tail = _Mode.BODY, 0, b"\r\n"
        elif not self._unanswered and (self._mode is _Mode.ASKED or (self._mode is _Mode.SECRET and code != b"334")):
            self._mode = _Mode.COMMANDS

    def protected(self, facts: TlsFacts | Fault) -> None:
        """A TLS handshake has ended: what was heard before it is over."""
        self._tell("*", f"TLS: {facts}")
        self._heard = self._said = b""
        self._mode, self._unanswered = _Mode.COMMANDS, 0


class OverheardStream:
    """A stream that is heard. All it does is the other's."""

    def __init__(self, stream: Stream, ear: Ear) -> None:
        self._stream = stream
        self._ear = ear

    @property
    def peer(self) -> Endpoint:
        return self._stream.peer

    @property
    def local(self) -> Endpoint:
        return self._stream.local

    @property
    def tls(self) -> TlsState:
        return self._stream.tls

    async def read(self, within: timedelta) -> bytes | Fault:
        octets = await self._stream.read(within)
        if isinstance(octets, bytes):
            self._ear.client(octets)
        return octets

    async def listen(self, hear: Hear, within: timedelta) -> Flushed | Fault:
        def both(octets: bytes) -> timedelta:
            self._ear.client(octets)
            return hear(octets)

        return await self._stream.listen(both, within)

    def pending(self) -> bytes | Fault | Flushed:
        return self._stream.pending()

    def stand_for(self, peer: Endpoint, unread: bytes) -> None:
        self._stream.stand_for(peer, unread)

    def write(self, octets: bytes) -> None:
        self._ear.ours(octets)
        self._stream.write(octets)

    async def flush(self, within: timedelta) -> Flushed | Fault:
        return await self._stream.flush(within)

    async def accept_tls(
        self, context: ssl.SSLContext, within: timedelta, *, implicit: bool = False
    ) -> TlsFacts | Fault:
        shaken = await self._stream.accept_tls(context, within, implicit=implicit)
        self._ear.protected(shaken)
        return shaken

    async def close(self, peer_speaks: Speaks = Speaks.PERHAPS) -> None:
        await self._stream.close(peer_speaks)

    def abort(self) -> None:
        self._stream.abort()


class Say(Protocol):
    """Who writes a line of a dialogue to the log (report/journal.py)."""

    def overheard(self, client: Endpoint, door: str, mark: str, text: str) -> None: ...


class Listening(Protocol):
    """Who may want to hear sessions."""

    watched: Collection[str]  # whose: by address, network or listener

    def overhear(self, stream: Stream, door: str) -> Stream:
        """The stream to be served."""
        ...


class Deaf:
    """Hears nobody."""

    def __init__(self) -> None:
        self.watched: Collection[str] = ()

    def overhear(self, stream: Stream, door: str) -> Stream:  # noqa: ARG002 - whoever it is
        return stream


DEAF: Final = Deaf()


@dataclass(slots=True)
class Ears:
    """Who hears the sessions of those who are watched: by the client's address, its network, or the listener."""

    log: Say
    dialogues: Dialogues
    clock: Clock
    watched: Collection[str] = ()
    _keeping: set[asyncio.Task[None]] = field(default_factory=set)

    def overhear(self, stream: Stream, door: str) -> Stream:
        """The stream to be served: one that is heard, where somebody wants to."""
        client = stream.peer
        if not self._is_watched(client, door):
            return stream
        dialogue = Transcript(self.clock.monotonic())

        def tell(mark: str, text: str) -> None:
            if not self._is_watched(client, door):  # no more
                return
            dialogue.add(self.clock.monotonic(), mark, plain(text))
            with suppress(Exception):  # what a log raises costs nothing
                self.log.overheard(client, door, mark, text)
            if mark == "S" and (taken := _TAKEN.match(text)):
                self._keep(MessageId(taken[1]), dialogue)

        return OverheardStream(stream, Ear(tell))

    def _is_watched(self, client: Endpoint, door: str) -> bool:
        return any(_names(peer, client, door) for peer in self.watched)

    def _keep(self, id: MessageId, dialogue: Transcript) -> None:  # noqa: A002 - the field's own name
        task = asyncio.create_task(self._kept(id, dialogue.lines))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _kept(self, id: MessageId, lines: list[tuple[float, str, str]]) -> None:  # noqa: A002
        with suppress(StorageError):  # the log has it all the same
            await self.dialogues.keep(id, lines)

    async def settled(self) -> None:
        """Once all that was to be kept is."""
        await asyncio.gather(*self._keeping)


def _names(peer: str, client: Endpoint, door: str) -> bool:
    """Whether `peer` means this client, its network, or the door it came by."""
    if peer in {client.host.lower(), door.lower()}:
        return True
    if "/" not in peer or "://" in peer:
        return False
    try:
        return ip_address(client.host.partition("%")[0]) in ip_network(peer, strict=False)
    except ValueError:
        return False
