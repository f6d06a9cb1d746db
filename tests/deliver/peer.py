"""A server in memory that goes wrong where it is told to, and a world of them to deliver into, on virtual time."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from tests.route.written import WrittenResolver
from tests.virtual import VirtualClock
from waypost.deliver.connection import Ends, TimeOuts
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.memory import HostMemory
from waypost.deliver.opener import Opener, TlsContexts
from waypost.deliver.pool import Pool, PoolLimits
from waypost.deliver.smtp import Reach, SmtpDelivery
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import (
    Doubt,
    InMemory,
    MessageId,
    NextHop,
    NotInDoubt,
    Octets,
    Origin,
    QueuedMessage,
    QueuedRecipient,
)
from waypost.mail.outcome import Host, LocalTrouble, Outcome
from waypost.net.clock import SystemClock
from waypost.net.memory import MemoryDialer, MemoryStream
from waypost.net.stream import FLUSHED, Endpoint, Fault, Flushed, Stream
from waypost.queue.storage import Lease
from waypost.route.level import NoStsPolicy, TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Route, Server, SmtpMx, SmtpServers
from waypost.smtp.extension import MailParameters, RcptParameters
from waypost.smtp.path import parse_mailbox

FOREVER = timedelta(days=365)
BODY = b"Subject: test\r\n\r\nhello\r\n"
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
                assert isinstance(stream, MemoryStream)
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


# ---- what is delivered
def endpoint(number: int) -> Endpoint:
    """The address of the host `number`, 0 the first."""
    return Endpoint(f"192.0.2.{number + 1}", 25)


def recipient(number: int, address: str = "", *, doubt: Doubt | None = None, attempts: int = 0) -> QueuedRecipient:
    path = parse_mailbox(address or f"user{number}@example.com")
    return QueuedRecipient(number, path, RcptParameters(), attempts, delay_reported=False, doubt=doubt or NotInDoubt())


def message(
    *, parameters: MailParameters | None = None, size: int = len(BODY), name: str = "M000000000001"
) -> QueuedMessage:
    reverse_path = parse_mailbox("alice@example.org")
    return QueuedMessage(
        MessageId(name), reverse_path, parameters or MailParameters(), Origin("SMTP"), 1_767_225_600.0, size
    )


def lease(
    recipients: Sequence[QueuedRecipient] = (),
    *,
    octets: Octets | None = None,
    parameters: MailParameters | None = None,
    next_hop: str = "hop",
    name: str = "M000000000001",
) -> Lease:
    body = octets or InMemory(BODY)
    sent = message(parameters=parameters, size=body.size, name=name)
    return Lease(sent, tuple(recipients) or (recipient(0),), NextHop(next_hop), body, "test", 1, 2e9)


class NoPolicies:
    """No domain has an MTA-STS policy."""

    async def policy(self, domain: str) -> KeptPolicy | NoStsPolicy:
        return NoStsPolicy(f"{domain} announces none")


#: Nothing is published anywhere: each level is what the route's policy says by itself.
CHOOSER = TlsChooser(WrittenResolver({}, {}), NoPolicies(), SystemClock())


class FixedHosts:
    """A Finder that knows what it was told."""

    def __init__(self, answer: HostsAnswer) -> None:
        self.answer = answer

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer:
        return self.answer


SMTP = SmtpServers((Server("peer.example", 25),))
LMTP = LmtpServers((Server("peer.example", 24),))
ROUTE = Route(NextHop("hop"), SMTP, "test")


class World:
    """Hosts in memory, and what delivers to them. `attempt` is one attempt; the pool and the memory last."""

    def __init__(
        self,
        *peers: Peer | Fault,
        route: Route = ROUTE,
        handshake: Flushed | Fault = FLUSHED,
        pool_limits: PoolLimits | None = None,
        memory_ttl: timedelta = timedelta(hours=24),
    ) -> None:
        self.clock = VirtualClock()
        self.hosts = [Host(f"mx{number}.example", endpoint(number)) for number in range(len(peers))]
        self.dialer = MemoryDialer(
            {host.endpoint: peer for host, peer in zip(self.hosts, peers, strict=True)}, handshake
        )
        self.memory = HostMemory(self.clock, time_to_live=memory_ttl)
        ends = Ends(self.dialer, self.clock, "us.example", TimeOuts())
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.opener = Opener(ends, self.memory, TlsContexts(plain, plain))
        self.pool = Pool(self.clock, pool_limits)
        self.finder = FixedHosts(Hosts(tuple(self.hosts)))
        self.smtp = SmtpDelivery(self.finder, CHOOSER, self.opener, self.pool, self.clock)
        self.route = route
        self.transcript = Transcript(0.0)
        self.reach: Reach

    async def attempt(self, given: Lease | None = None) -> list[Outcome]:
        """The outcomes of one attempt, by recipient."""
        given = given or lease()
        fates = Fates(given.recipients)
        self.transcript = Transcript(self.clock.monotonic())
        transport = self.route.transport
        assert isinstance(transport, SmtpServers | SmtpMx | LmtpServers)
        self.reach = await self.smtp.deliver(given, self.route, transport, fates, self.transcript)
        return [outcome for _, outcome in fates.closed(deferred(LocalTrouble("no host was asked")))]

    async def close(self) -> None:
        await self.pool.close()
