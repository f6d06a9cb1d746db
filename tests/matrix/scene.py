"""Plays one cell of the grid: a next hop that goes wrong once at one state, and mail for it, through the whole queue.

The hosts are those of tests/deliver/peer.py, the queue and its dispatcher those of tests/deliver/town.py, on virtual
time. Not here: what has to come of it (grid.py), and the judgement (test_outbound.py).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Final

from tests.deliver.peer import EXTRA_REPLY, GOOD, ROUTE, Behaviour, Peer, Spoilt, Wrong
from tests.deliver.town import Town
from tests.matrix.grid import State, Trouble
from tests.route.written import WrittenResolver
from waypost.deliver.connection import SOON, TimeOuts
from waypost.deliver.memory import Habit
from waypost.mail.attempt import Attempt
from waypost.mail.envelope import NextHop
from waypost.net.resolver import Addresses, MxRecord, MxRecords
from waypost.net.stream import FLUSHED, Fault, FaultKind, Stream
from waypost.queue.storage import QueueEntry, Selection, Settled
from waypost.route.hosts import HostFinder
from waypost.route.route import LmtpServers, Server, SmtpMx, SmtpServers, TlsPolicy, Transport
from waypost.smtp.login import Credentials, NoCredentials


class Hop(Enum):
    """What a route's next hop may be. All but the first have a healthy host behind the faulty one."""

    SINGLE = "single host"
    LIST = "list of hosts"
    MX = "MX set"
    LMTP = "LMTP"

    @property
    def hosts(self) -> int:
        """How many it has; the first is the faulty one."""
        return {Hop.SINGLE: 1, Hop.MX: 3}.get(self, 2)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message, and of session it goes in."""

    recipients: int
    pipelined: bool

    def __str__(self) -> str:
        return f"{self.recipients}-{'pipelined' if self.pipelined else 'lockstep'}"


ONE, MANY = Kind(1, pipelined=False), Kind(3, pipelined=False)
ONE_PIPELINED, MANY_PIPELINED = Kind(1, pipelined=True), Kind(3, pipelined=True)


class Before(Enum):
    """What the connection has carried when the fault comes."""

    NOTHING = "nothing"
    DELIVERED = "a message that was delivered"
    REFUSED = "a message whose only recipient was refused"


SMTP_HOPS: Final = (Hop.SINGLE, Hop.LIST, Hop.MX)
T: Final = TimeOuts()
NO_TIME: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Setting:
    """How a state is come to, and how the peer and the transcript call it."""

    word: str  # as the peer names the state
    stage: str  # as the transcript does
    within: timedelta = NO_TIME  # what a reply may take there
    hops: Sequence[Hop] = tuple(Hop)
    recipients: int = 1  # the state needs so many
    plan: Mapping[str, Sequence[Behaviour]] = field(default_factory=dict)  # what leads there
    earlier: int = 0  # occurrences of the state before the one that goes wrong
    connections: int = 1  # to the faulty host, by the time of the fault
    extensions: Sequence[str] = ()
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    credentials: Credentials | NoCredentials = field(default_factory=NoCredentials)
    habit: Habit = Habit.UNKNOWN
    before: Before = Before.NOTHING


_STARTTLS: Final = ("STARTTLS",)
_REFUSED_EHLO: Final = {"EHLO": ["500 5.5.2 what"]}
_BROKEN_EHLO: Final = {"EHLO": [Wrong.FIN]}
_MUST: Final = TlsPolicy.REQUIRED
_KNOWN: Final = Habit.OFFERED_STARTTLS

SETTINGS: Final[Mapping[State, Setting]] = {
    State.CONNECT: Setting("connect", "not connected"),
    State.BANNER: Setting("banner", "greeting", T.greeting),
    State.EHLO: Setting("EHLO", "EHLO", T.hello, SMTP_HOPS),
    State.EHLO_KNOWN: Setting("EHLO", "EHLO", T.hello, SMTP_HOPS, habit=_KNOWN),
    State.HELO_SAME: Setting("HELO", "HELO", T.hello, SMTP_HOPS, plan=_REFUSED_EHLO),
    State.HELO_NEW: Setting("HELO", "HELO", T.hello, SMTP_HOPS, plan=_BROKEN_EHLO, connections=2),
    State.LHLO: Setting("LHLO", "LHLO", T.hello, (Hop.LMTP,)),
    State.STARTTLS: Setting("STARTTLS", "STARTTLS", T.starttls, SMTP_HOPS, extensions=_STARTTLS),
    State.STARTTLS_MUST: Setting("STARTTLS", "STARTTLS", T.starttls, SMTP_HOPS, extensions=_STARTTLS, tls=_MUST),
    State.HANDSHAKE: Setting("handshake", "TLS handshake", NO_TIME, SMTP_HOPS, extensions=_STARTTLS),
    State.HANDSHAKE_MUST: Setting("handshake", "TLS handshake", NO_TIME, SMTP_HOPS, extensions=_STARTTLS, tls=_MUST),
    State.EHLO_TLS: Setting("EHLO", "EHLO", T.hello, SMTP_HOPS, earlier=1, extensions=_STARTTLS),
    State.EHLO_TLS_MUST: Setting("EHLO", "EHLO", T.hello, SMTP_HOPS, earlier=1, extensions=_STARTTLS, tls=_MUST),
    State.AUTH: Setting(
        "AUTH", "AUTH", T.auth, SMTP_HOPS, extensions=("AUTH PLAIN",), credentials=Credentials("us", "secret")
    ),
    State.AUTH_CHALLENGED: Setting(
        "AUTH",
        "AUTH",
        T.auth,
        SMTP_HOPS,
        plan={"AUTH": ["334 VXNlcm5hbWU6"]},
        extensions=("AUTH LOGIN",),
        credentials=Credentials("us", "secret"),
    ),
    State.MAIL: Setting("MAIL", "MAIL", T.mail),
    State.RCPT_FIRST: Setting("RCPT", "RCPT", T.rcpt),
    State.RCPT_MIDDLE: Setting("RCPT", "RCPT", T.rcpt, recipients=3, earlier=1),
    State.RCPT_LAST: Setting("RCPT", "RCPT", T.rcpt, recipients=3, earlier=2),
    State.DATA: Setting("DATA", "DATA", T.data),
    State.BODY: Setting("body", "body", T.block),
    State.DOT: Setting("dot", "final dot", T.dot),
    State.CHUNK: Setting("dot", "final dot", T.dot, extensions=("CHUNKING",)),
    State.LMTP_REPLY: Setting("dot", "final dot", T.dot, (Hop.LMTP,), recipients=3, earlier=1),
    State.RSET: Setting("RSET", "RSET", SOON, before=Before.REFUSED),
    State.QUIT: Setting("QUIT", "QUIT"),
    State.IDLE: Setting("idle", "not reusing", before=Before.DELIVERED),
    State.MAIL_REUSED: Setting("MAIL", "MAIL", SOON, earlier=1, before=Before.DELIVERED),
}

#: What does not come as a reply at all.
WRONGS: Final[Mapping[Trouble, Behaviour]] = {
    Trouble.FIN: Wrong.FIN,
    Trouble.RST: Wrong.RST,
    Trouble.HALF_CLOSE: Wrong.HALF_CLOSE,
    Trouble.TRUNCATED: Wrong.TRUNCATED,
    Trouble.STALL: Wrong.STALL,
    Trouble.DRIP: Wrong.DRIP,
    Trouble.GARBAGE: Wrong.GARBAGE,
    Trouble.NULS: Wrong.NULS,
    Trouble.LONG: Wrong.LONG,
    Trouble.ENDLESS: Wrong.ENDLESS,
    Trouble.MIXED: Wrong.MIXED,
    Trouble.NUL: Spoilt.NUL,
    Trouble.BARE_LF: Spoilt.BARE_LF,
    Trouble.EXTRA: Spoilt.EXTRA,
    Trouble.CODE_421: "421 4.3.2 going away",
}
REPLIES: Final[Mapping[Trouble, Mapping[str, str]]] = {
    Trouble.ODD: {"": "354 what", "DATA": "250 2.0.0 what", "body": "250 2.0.0 what"},
    Trouble.CODE_4YZ: {"": "451 4.3.0 later", "RCPT": "450 4.2.1 later", "AUTH": "454 4.7.0 later"},
    Trouble.CODE_5YZ: {
        "": "550 5.7.1 no",
        "banner": "554 5.3.2 not you",
        "EHLO": "500 5.5.2 what",
        "AUTH": "535 5.7.8 who",
        "RCPT": "550 5.1.1 nobody",
    },
}
NOT_CONNECTED: Final[Mapping[Trouble, Fault]] = {
    Trouble.REFUSED: Fault(FaultKind.REFUSED),
    Trouble.UNREACHABLE: Fault(FaultKind.UNREACHABLE),
    Trouble.TIMED_OUT: Fault(FaultKind.TIMED_OUT),
}
HANDSHAKES: Final[Mapping[Trouble, Fault]] = {
    Trouble.FIN: Fault(FaultKind.CLOSED),
    Trouble.RST: Fault(FaultKind.RESET),
    Trouble.HALF_CLOSE: Fault(FaultKind.CLOSED),
    Trouble.TRUNCATED: Fault(FaultKind.CLOSED),
    Trouble.STALL: Fault(FaultKind.TIMED_OUT),
    Trouble.DRIP: Fault(FaultKind.TIMED_OUT),
    Trouble.GARBAGE: Fault(FaultKind.TLS, "record layer failure"),
}
#: A state whose reply comes before its command: with which reply it comes, and the text of both.
_EHLO_REPLY: Final = "250 peer.example"
EARLY: Final[Mapping[State, tuple[str, str]]] = {
    State.EHLO: ("banner", f"220 peer.example\r\n{_EHLO_REPLY}"),
    State.EHLO_KNOWN: ("banner", f"220 peer.example\r\n{_EHLO_REPLY}"),
    State.HELO_SAME: ("EHLO", f"500 5.5.2 what\r\n{_EHLO_REPLY}"),
    State.HELO_NEW: ("banner", f"220 peer.example\r\n{_EHLO_REPLY}"),
    State.LHLO: ("banner", f"220 peer.example\r\n{_EHLO_REPLY}"),
    State.STARTTLS: ("EHLO", "250-peer.example\r\n250 STARTTLS\r\n220 go ahead"),
    State.STARTTLS_MUST: ("EHLO", "250-peer.example\r\n250 STARTTLS\r\n220 go ahead"),
    State.AUTH: ("EHLO", "250-peer.example\r\n250 AUTH PLAIN\r\n235 welcome"),
    State.AUTH_CHALLENGED: ("AUTH", "334 VXNlcm5hbWU6\r\n235 welcome"),
    State.MAIL: ("EHLO", f"{_EHLO_REPLY}\r\n{GOOD['MAIL']}"),
    State.RCPT_FIRST: ("MAIL", f"{GOOD['MAIL']}\r\n{GOOD['RCPT']}"),
    State.RCPT_MIDDLE: ("RCPT", f"{GOOD['RCPT']}\r\n{GOOD['RCPT']}"),
    State.RCPT_LAST: ("RCPT", f"{GOOD['RCPT']}\r\n{GOOD['RCPT']}"),
    State.DATA: ("RCPT", f"{GOOD['RCPT']}\r\n{GOOD['DATA']}"),
    State.DOT: ("DATA", f"{GOOD['DATA']}\r\n{GOOD['dot']}"),
    State.CHUNK: ("RCPT", f"{GOOD['RCPT']}\r\n{GOOD['dot']}"),
    State.RSET: ("RCPT", f"550 5.1.1 nobody\r\n{GOOD['RSET']}"),
    State.MAIL_REUSED: ("idle", GOOD["MAIL"]),
}

LARGE: Final = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000
#: So large that it goes in a chunk.
HUGE: Final = b"Subject: huge\r\n\r\n" + b"0123456789abcdef\r\n" * 60_000
SMALL: Final = b"Subject: small\r\n\r\nhello\r\n"
EARLIER: Final = "earlier@example.com"
RECIPIENTS: Final = ("one@example.com", "two@example.com", "three@example.com")


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has been written down."""

    attempt: Attempt
    settled: Sequence[Settled]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.attempt.ended_at - self.attempt.started_at


@dataclass(frozen=True, slots=True)
class Story:
    """What came of one play."""

    #: The attempt for the message that meets the fault, the one before it on the connection, and the healthy one.
    ended: Ended
    earlier: Sequence[Ended]
    healthy: Ended
    #: What is left in the queue of the message that met the fault.
    entries: Sequence[QueueEntry]
    peers: Sequence[Peer]
    #: Which of its hosts were connected to, by their place in the list, in order.
    dialled: Sequence[int]
    crashes: Sequence[Exception]


async def play(state: State, trouble: Trouble, hop: Hop, kind: Kind, *, times: int = 1, reply: str = "") -> Story:
    """Let the first host of `hop` go wrong `times` times, and send it a message; the second host is healthy.

    `reply`: what it says in place of the reply this kind of trouble stands for.
    """
    setting = SETTINGS[state]
    first = _faulty(state, trouble, hop, kind, times, reply)
    others = [_host(setting, hop, kind) for _ in range(hop.hosts - 1)]
    healthy = Peer()
    refusal = (NOT_CONNECTED[trouble],) if state is State.CONNECT else (first,)
    route = replace(ROUTE, next_hop=NextHop("tried"), transport=_transport(hop), tls=setting.tls)
    town = Town(*refusal, *others, healthy, routes={"tried": replace(route, credentials=setting.credentials)})
    _teach(town, setting)
    if state in {State.HANDSHAKE, State.HANDSHAKE_MUST}:
        _break_handshake(town, HANDSHAKES[trouble], times)
    async with town:
        earlier = await _earlier(town, setting)
        await town.queue(
            "tried",
            hand_over=True,
            to=RECIPIENTS[: kind.recipients],
            octets={State.BODY: LARGE, State.CHUNK: HUGE}.get(state, SMALL),
        )
        await town.queue(f"hop{hop.hosts}", hand_over=True)
        ended, sound = await _ended(town, "tried", 1 + len(earlier)), await _ended(town, f"hop{hop.hosts}", 1)
        if state is State.QUIT:
            await asyncio.sleep(20)  # the connection is idle for too long, and left with QUIT
        message = ended.attempt.message.id
        entries = await town.storage.entries(
            Selection(ids=(message,)), after=(message, -1), limit=9, now=town.clock.now()
        )
        numbers = {host.endpoint: number for number, host in enumerate(town.world.hosts[: hop.hosts])}
        dialled = [numbers[endpoint] for endpoint in town.world.dialer.dialled if endpoint in numbers]
    return Story(ended, earlier, sound, entries, [first, *others], dialled, town.notes.crashes)


# ---- the hosts
def _host(setting: Setting, hop: Hop, kind: Kind, plan: Mapping[str, Sequence[Behaviour]] | None = None) -> Peer:
    extensions = ("8BITMIME", *setting.extensions, *(("PIPELINING",) if kind.pipelined else ()))
    refused = {EARLIER: "550 5.1.1 nobody"} if setting.before is Before.REFUSED else {}
    return Peer(plan=plan or {}, extensions=extensions, lmtp=hop is Hop.LMTP, recipients=refused)


def _faulty(state: State, trouble: Trouble, hop: Hop, kind: Kind, times: int, reply: str) -> Peer:
    setting = SETTINGS[state]
    plan = {word: list(behaviours) for word, behaviours in setting.plan.items()}
    if state in {State.CONNECT, State.HANDSHAKE, State.HANDSHAKE_MUST}:
        return _host(setting, hop, kind)
    if trouble is Trouble.EARLY:
        _plan_early(plan, state, hop, kind)
    else:
        wrong = reply or _wrong(state, trouble)
        plan[setting.word] = [*plan.get(setting.word, ()), *[""] * setting.earlier, *[wrong] * times]
    return _host(setting, hop, kind, plan)


def _wrong(state: State, trouble: Trouble) -> Behaviour:
    if state is State.IDLE and trouble is Trouble.EXTRA:
        return EXTRA_REPLY  # nothing is due that it could stand behind
    return WRONGS[trouble] if trouble in WRONGS else reply_to(trouble, SETTINGS[state].word)


def reply_to(trouble: Trouble, word: str) -> str:
    """The reply, of those that are told apart by their code, that the faulty host gives at `word`."""
    replies = REPLIES[trouble]
    return replies.get(word, replies[""])


def _plan_early(plan: dict[str, list[Behaviour]], state: State, hop: Hop, kind: Kind) -> None:
    word, text = EARLY[state]
    if hop is Hop.LMTP and word == "EHLO":
        word = "LHLO"
    earlier = {
        State.HELO_NEW: 1,
        State.RCPT_LAST: 1,
        State.DATA: kind.recipients - 1,
        State.CHUNK: kind.recipients - 1,
    }.get(state, 0)
    plan[word] = [*[""] * earlier, text]


def _transport(hop: Hop) -> Transport:
    match hop:
        case Hop.SINGLE:
            return SmtpServers((Server("mx0.example", 25),))
        case Hop.LIST:
            return SmtpServers((Server("mx0.example", 25), Server("mx1.example", 25)))
        case Hop.MX:
            return SmtpMx("example.com")
        case Hop.LMTP:
            return LmtpServers((Server("mx0.example", 25), Server("mx1.example", 25)))


def _teach(town: Town, setting: Setting) -> None:
    """What DNS says, and what is known of the faulty host."""
    hosts = town.world.hosts
    addresses = {host.name: Addresses((host.endpoint.host,)) for host in hosts}
    addresses |= {f"hop{number}": Addresses((host.endpoint.host,)) for number, host in enumerate(hosts)}
    exchangers = MxRecords((MxRecord(30, "mx2.example"), MxRecord(10, "mx0.example"), MxRecord(20, "mx1.example")))
    town.world.smtp._finder = HostFinder(
        WrittenResolver({"example.com": exchangers}, addresses),
        own_names={"us.example"},
        own_addresses=set(),
        own_ports={25},
        dice=random.Random(1),  # noqa: S311 - no secret
    )
    town.world.memory.note(hosts[0].endpoint, setting.habit)


def _break_handshake(town: Town, fault: Fault, times: int) -> None:
    """Let handshakes with the first host fail."""
    dialer, faulty, left = town.world.dialer, town.world.hosts[0].endpoint, [fault] * times
    as_ever = dialer.start_tls

    async def start_tls(stream: Stream, context: ssl.SSLContext, name: str, within: timedelta) -> Stream | Fault:
        dialer.handshake = left.pop() if left and stream.peer == faulty else FLUSHED
        return await as_ever(stream, context, name, within)

    dialer.start_tls = start_tls  # type: ignore[method-assign,assignment]  # one host's handshakes, not all


# ---- the mail
async def _earlier(town: Town, setting: Setting) -> Sequence[Ended]:
    """The message before, where the state needs one; the connection is left idle for a moment."""
    if setting.before is Before.NOTHING:
        return ()
    await town.queue("tried", hand_over=True, to=(EARLIER,))
    ended = await _ended(town, "tried", 1)
    await asyncio.sleep(2)
    return (ended,)


async def _ended(town: Town, next_hop: str, number: int) -> Ended:
    """The attempt `number` (from 1) for this next hop, when it has ended."""
    async with asyncio.timeout(3600):
        while True:
            town.notes.told.clear()
            found = [(attempt, settled) for attempt, settled in town.notes.attempts if attempt.next_hop == next_hop]
            if len(found) >= number:
                return Ended(*found[number - 1])
            await town.notes.told.wait()
