"""A server in memory that goes wrong where it is told to: what mail is delivered to in a test.

    peer = Peer(always={"RCPT": "550 5.1.1 no such user"}, plan={"EHLO": [Wrong.FIN]})
    ...
    peer.accepted   # [(("bob@example.org",), b"Received: ...")]

A state is `banner`, a verb, `body`, `dot` or `idle`. `plan`: what is done at its first occurrences; `always`: at each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from waypost.net.memory import MemoryStream
from waypost.net.stream import Fault, Stream

FOREVER = timedelta(days=365)
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 1000000", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")


class Wrong(Enum):
    """What a peer does instead of replying."""

    FIN = "hangs up"
    RST = "resets"
    HALF_CLOSE = "ends what it says, and goes on listening"
    STALL = "says nothing"
    DRIP = "drips an octet a second"
    GARBAGE = "answers garbage"
    NULS = "answers NULs"
    LONG = "answers a line without end"
    ENDLESS = "answers lines without end"
    TRUNCATED = "hangs up after half a reply"
    MIXED = "answers with two codes in one reply"


class Spoilt(Enum):
    """The reply that is due, but not quite as it should be."""

    NUL = "with a NUL in its text"
    BARE_LF = "ended by LF alone"
    EXTRA = "with another behind it"


EXTRA_REPLY = "250 2.0.0 and more"


class Gone(Exception):  # noqa: N818 - how a peer's session ends, not an error
    """The session is over."""


#: A text is the reply itself; with CRLF in it, several.
Behaviour = Wrong | Spoilt | str
#: What a peer does at each occurrence of a state, in order; afterwards it behaves.
Plan = Mapping[str, Sequence[Behaviour]]
GOOD = {
    "banner": "220 peer.example",
    "HELO": "250 peer.example",
    "STARTTLS": "220 go ahead",
    "AUTH": "235 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    "dot": "250 2.0.0 kept",
    "RSET": "250 2.0.0 forgotten",
    "QUIT": "221 2.0.0 bye",
}


@dataclass
class Peer:
    """One server. `always` holds at each occurrence; `plan` is used up."""

    plan: Plan = field(default_factory=dict)
    always: Mapping[str, Behaviour] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    lmtp: bool = False
    #: RCPT address → its reply.
    recipients: Mapping[str, str] = field(default_factory=dict)
    #: State → seconds it takes to reply there.
    pauses: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connections: list[list[str]] = []
        self.accepted: list[tuple[tuple[str, ...], bytes]] = []
        self._seen: dict[str, int] = defaultdict(int)

    @property
    def verbs(self) -> list[list[str]]:
        """The verbs said on each connection."""
        return [[command.split(" ")[0] for command in commands] for commands in self.connections]

    async def __call__(self, stream: Stream) -> None:
        self.connections.append([])
        session = _Session(self, stream, self.connections[-1])
        try:
            await session.run()
        except Gone:
            return

    def due(self, state: str) -> Behaviour:
        """What is to be done at this occurrence of `state`."""
        count = self._seen[state]
        self._seen[state] += 1
        planned = self.plan.get(state, ())
        if count < len(planned):
            return planned[count]
        return self.always.get(state, "")


class _Session:
    def __init__(self, peer: Peer, stream: Stream, commands: list[str]) -> None:
        self._peer = peer
        self._stream = stream
        self._commands = commands
        self._buffer = b""
        self._secured = False

    async def run(self) -> None:
        await self._reply("banner")
        recipients: list[str] = []
        mail = False
        while True:
            line = (await self._until(b"\r\n")).decode()
            self._commands.append(line)
            verb = line.split(" ")[0]
            match verb:
                case "EHLO" | "LHLO":
                    recipients = []
                    await self._reply(verb, self._ehlo())
                case "STARTTLS":
                    await self._reply(verb)
                    self._secured = True
                case "RCPT":
                    address = line[line.index("<") + 1 : line.index(">")]
                    reply = self._peer.recipients.get(address, "") if mail else "503 5.5.1 MAIL first"
                    if (await self._reply(verb, reply)).startswith("2"):
                        recipients.append(address)
                case "DATA":
                    reply = "" if recipients else "554 5.5.1 no valid recipients"
                    if (await self._reply(verb, reply)).startswith("3"):
                        await self._body(recipients)
                    recipients = []
                case "BDAT":
                    await self._kept(recipients, await self._octets(int(line.split(" ")[1])))
                    recipients = []
                case "AUTH":
                    while (await self._reply(verb)).startswith("334"):
                        self._commands.append("(response)")
                        await self._until(b"\r\n")
                case "QUIT":
                    await self._reply(verb)
                    return
                case "MAIL":
                    mail = (await self._reply(verb)).startswith("2")
                    recipients = []
                case _:
                    recipients = [] if verb in {"RSET", "HELO"} else recipients
                    await self._reply(verb)

    async def _body(self, recipients: list[str]) -> None:
        early = self._peer.due("body")
        if early and not isinstance(early, Spoilt):
            await self._read()
            await self._do(early)
        self._buffer = b"\r\n" + self._buffer  # a lone dot ends an empty body
        await self._kept(recipients, ((await self._until(b"\r\n.\r\n")) + b"\r\n")[2:])

    async def _kept(self, recipients: list[str], body: bytes) -> None:
        for group in [[one] for one in recipients] if self._peer.lmtp else [recipients]:
            if (await self._reply("dot")).startswith("2"):
                self._peer.accepted.append((tuple(group), body))
        await self._idle()

    def _ehlo(self) -> str:
        offered = [name for name in self._peer.extensions if not (self._secured and name == "STARTTLS")]
        lines = ["peer.example", *offered]
        return "\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])

    async def _reply(self, state: str, good: str = "") -> str:
        good = good or GOOD.get(state, "500 5.5.2 unknown")
        if state in self._peer.pauses:
            await asyncio.sleep(self._peer.pauses[state])
        behaviour = self._peer.due(state) or good
        return self._spoil(behaviour, good) if isinstance(behaviour, Spoilt) else await self._do(behaviour)

    def _spoil(self, spoilt: Spoilt, good: str) -> str:
        match spoilt:
            case Spoilt.NUL:
                self._stream.write(f"{good} \0\r\n".encode())
            case Spoilt.BARE_LF:
                self._stream.write(good.replace("\r\n", "\n").encode() + b"\n")
            case Spoilt.EXTRA:
                self._stream.write(f"{good}\r\n{EXTRA_REPLY}\r\n".encode())
        return good

    async def _idle(self) -> None:
        """A second after a message: what it does unasked, if anything."""
        unasked = self._peer.due("idle")
        if unasked and not isinstance(unasked, Spoilt):
            await asyncio.sleep(1)
            await self._do(unasked)

    async def _do(self, behaviour: Wrong | str) -> str:
        stream = self._stream
        match behaviour:
            case str():
                stream.write(behaviour.encode() + b"\r\n")
                if behaviour.startswith("421"):
                    raise Gone
                return behaviour
            case Wrong.FIN:
                raise Gone
            case Wrong.RST:
                stream.abort()
                raise Gone
            case Wrong.HALF_CLOSE:
                if isinstance(stream, MemoryStream):
                    stream.half_close()
                while True:
                    await self._read()
            case Wrong.STALL:
                await asyncio.sleep(FOREVER.total_seconds())
                raise Gone
            case Wrong.DRIP:
                for octet in b"250-" + b"x" * 900:  # longer than any time-out
                    stream.write(bytes([octet]))
                    await asyncio.sleep(1)
                raise Gone
            case Wrong.GARBAGE:
                stream.write(b"\x16\x03\x01 what is this?\r\n")
                return ""
            case Wrong.NULS:
                stream.write(b"\0\0\0 \0\r\n")
                return ""
            case Wrong.LONG:
                stream.write(b"250 " + b"x" * 100_000 + b"\r\n")
                return ""
            case Wrong.ENDLESS:
                for _ in range(200):
                    stream.write(b"250-and so on\r\n" * 100)
                    await asyncio.sleep(0)
                raise Gone
            case Wrong.TRUNCATED:
                stream.write(b"25")
                raise Gone
            case Wrong.MIXED:
                stream.write(b"250-well\r\n550 no\r\n")
                return ""

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._read()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    async def _octets(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._read()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    async def _read(self) -> None:
        octets = await self._stream.read(FOREVER)
        if isinstance(octets, Fault):
            raise Gone
        self._buffer += octets
