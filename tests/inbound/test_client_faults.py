"""What a client may do wrong, in every state of a session: one table, each of its cells a test.

In every cell: before the final dot nothing is stored, behind it everything is; the session ends in bounded time and
memory; and another client's message passes meanwhile.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import pytest

from tests.receive.house import BANNER, HOSTNAME, MESSAGE, SOON, Log, Slow, make_house
from tests.virtual import settled, virtual
from waypost.mail.envelope import MessageId
from waypost.net.memory import connected_pair
from waypost.net.stream import Endpoint
from waypost.net.stream import Fault as StreamFault
from waypost.queue.memory import MemoryStorage
from waypost.queue.storage import Selection
from waypost.receive.house import House
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

DOOR: Final = Door(Endpoint("192.0.2.25", 25), ServerSettings(HOSTNAME, size_limit=4_000_000))
GOOD: Final = Endpoint("192.0.2.7", 4000)
#: The last that the faulty client has said and heard the answer to, state by state.
LEAD: Final = ["EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@ours.example>", "DATA"]


class State(Enum):
    """Where the session stands."""

    BEFORE_BANNER = "before the banner"
    BANNER = "after the banner"
    EHLO = "after EHLO"
    MAIL = "after MAIL"
    RCPT = "after RCPT"
    DATA = "after 354"
    BODY = "in the body"
    DOT = "after the dot, not yet answered"
    IDLE = "after a message"
    QUIT = "after QUIT"


class Fault(Enum):
    """What the client does then."""

    FIN = "closes"
    RST = "resets"
    HALF_CLOSE = "ends what it says, and listens"
    STALL = "says nothing"
    DRIP = "says an octet every ten seconds"
    FLOOD = "says very much without a line end"
    LONG = "says a line that is too long"
    NUL = "says NUL"
    EIGHT_BIT = "says what is neither ASCII nor UTF-8"
    DEAF = "asks on and on and reads no answer"
    ORDER = "says a command that is not due"


@dataclass(frozen=True, slots=True)
class Cell:
    """What comes of it. `reply`: how the last reply begins, if there is one ("" for none). `stored`: messages."""

    reply: str
    seconds: tuple[float, float]
    stored: int
    goes_on: bool


AT_ONCE: Final = (0.0, 1.0)


def over(reply: str = "", seconds: tuple[float, float] = AT_ONCE, stored: int = 0) -> Cell:
    return Cell(reply, seconds, stored, goes_on=False)


def on(reply: str, stored: int = 0, seconds: tuple[float, float] = AT_ONCE) -> Cell:
    return Cell(reply, seconds, stored, goes_on=True)


GONE: Final = over()
TOO_SOON: Final = over("554 5.5.0")
#: RFC 5321 §4.5.3.2.7: five minutes for a command, and for our replies to be read.
LATE: Final = over("421 4.4.2", (300, 301))
LATE_BODY: Final = over("421 4.4.2", (180, 181))
DRIPPING_BODY: Final = over("421 4.4.2", (180, 191))
FLOODED: Final = over("421 4.7.0")
TOO_LONG: Final = on("500 5.5.6")
BAD: Final = on("500 5.5.2")
DUE: Final = on("503 5.5.1")
#: It is told 421 after so many commands, or dropped when it has read nothing for so long; no octet of that is read.
DEAF: Final = over("", (0, 301))
BODY_REFUSED: Final = on("550 5.6.0")
TAKEN: Final = on("250 2.0.0 Ok", 1)
KEPT: Final = over("", (0, 301), 1)
#: The commit takes a minute here.
COMMITTED: Final = (Slow.DELAY, Slow.DELAY + 1)


def behind_dot(cell: Cell) -> Cell:
    """The same, said behind a final dot: heard when the message is safe."""
    begin, end = cell.seconds
    return replace(cell, stored=cell.stored + 1, seconds=(begin + COMMITTED[0], end + COMMITTED[1]))


COMMANDS: Final = (LATE, LATE, FLOODED, TOO_LONG, BAD, BAD, DEAF, DUE)
TABLE: Final[Mapping[State, tuple[Cell, ...]]] = {
    # FIN, RST, half-close, then stall, drip, flood, long, NUL, 8-bit, deaf, order
    State.BEFORE_BANNER: (GONE, GONE, over("220"), LATE, *(TOO_SOON,) * 5, DEAF, TOO_SOON),
    State.BANNER: (GONE, GONE, GONE, *COMMANDS),
    State.EHLO: (GONE, GONE, GONE, *COMMANDS),
    State.MAIL: (GONE, GONE, GONE, *COMMANDS),
    State.RCPT: (GONE, GONE, GONE, *COMMANDS),
    State.DATA: (
        *(GONE, GONE, GONE, LATE_BODY, DRIPPING_BODY),
        # a body of 8-bit octets is 8BITMIME; what looks like a command is text
        *(BODY_REFUSED, BODY_REFUSED, BODY_REFUSED, TAKEN, KEPT, TAKEN),
    ),
    State.BODY: (
        *(GONE, GONE, GONE, LATE_BODY, DRIPPING_BODY),
        *(BODY_REFUSED, BODY_REFUSED, BODY_REFUSED, TAKEN, KEPT, TAKEN),
    ),
    State.DOT: (
        *(over("", COMMITTED, 1), over("", COMMITTED, 1), over("250 2.0.0 Ok", COMMITTED, 1)),
        *(behind_dot(cell) for cell in COMMANDS),
    ),
    State.IDLE: tuple(replace(cell, stored=1) for cell in (GONE, GONE, GONE, *COMMANDS)),
    State.QUIT: (GONE,) * len(Fault),
}
CELLS: Final = [(state, fault) for state in State for fault in Fault]


def cell(state: State, fault: Fault) -> Cell:
    return TABLE[state][list(Fault).index(fault)]


# ---- the client
class Client:
    """A client in memory, whose stream is read only by `hear`."""

    def __init__(self, receiver: Receiver, endpoint: Endpoint) -> None:
        self.stream, self._far = connected_pair(client=endpoint)
        self._receiver = receiver
        self._heard = b""

    def begin(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._receiver.serve(DOOR, BANNER, self._far))

    async def say(self, *lines: str) -> str:
        reply = ""
        for line in lines:
            self.stream.write(line.encode() + b"\r\n")
            reply = await self.hear()
        return reply

    async def hear(self) -> str:
        """The next reply's last line; "" when the connection has ended."""
        while True:
            line, newline, rest = self._heard.partition(b"\r\n")
            if newline:
                self._heard = rest
                if line[3:4] != b"-":
                    return line.decode()
            elif isinstance(octets := await self.stream.read(SOON), StreamFault):
                return ""
            else:
                self._heard += octets

    async def letter(self) -> str:
        await self.say(*LEAD)
        self.stream.write(MESSAGE + b".\r\n")
        return await self.hear()

    async def visit(self) -> str:
        """A whole session that does everything right; the reply to its message."""
        await self.hear()
        reply = await self.letter()
        await self.say("QUIT")
        return reply


# ---- what it does
async def _pour(client: Client, octets: bytes, times: int) -> None:
    for _ in range(times):
        client.stream.write(octets)
        await client.stream.flush(SOON)


async def _drip(client: Client) -> None:
    for _ in range(100):
        client.stream.write(b"x")
        await asyncio.sleep(10)


async def _ask_without_listening(client: Client, state: State) -> None:
    """Ask as long as it is served: for recipients, which are refused, or else for the extensions."""
    question = b"RCPT TO:<c@elsewhere.example>\r\n" if state in (State.MAIL, State.RCPT) else b"EHLO us.example\r\n"
    for _ in range(2000):
        client.stream.write(question)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


_RCPT: Final = b"RCPT TO:<b@ours.example>"
_OUT_OF_ORDER: Final = {State.EHLO: _RCPT, State.MAIL: b"DATA", State.DOT: _RCPT, State.IDLE: _RCPT}
_BODY_END: Final = b"\r\n.\r\n"


def _octets(state: State, fault: Fault) -> bytes:
    """What is said at once: a line, or in a body a line of it and its end."""
    in_body = state in (State.DATA, State.BODY)
    match fault:
        case Fault.LONG:
            said = b"x" * (70_000 if in_body else 3000)
        case Fault.NUL:
            said = b"NOOP \0"
        case Fault.EIGHT_BIT:
            said = b"NOOP \xff\xfe"
        case _:
            said = _OUT_OF_ORDER.get(state, b"MAIL FROM:<a@us.example>")
    return said + (_BODY_END if in_body else b"\r\n")


async def misbehave(client: Client, state: State, fault: Fault) -> None:
    in_body = state in (State.DATA, State.BODY)
    match fault:
        case Fault.FIN:
            await client.stream.close()
        case Fault.RST:
            client.stream.abort()
        case Fault.HALF_CLOSE:
            client.stream.half_close()
        case Fault.STALL:
            pass
        case Fault.DRIP:
            await _drip(client)
        case Fault.FLOOD:
            await _pour(client, b"x" * 60_000, 100)
            if in_body:
                client.stream.write(_BODY_END)
        case Fault.DEAF if in_body:
            client.stream.write(MESSAGE + b".\r\n")
        case Fault.DEAF:
            await _ask_without_listening(client, state)
        case _:
            client.stream.write(_octets(state, fault))


async def bring_to(client: Client, state: State) -> asyncio.Task[None]:
    """Say what leads to `state`, behind the banner."""
    task = client.begin()
    await client.hear()
    match state:
        case State.BANNER | State.EHLO | State.MAIL | State.RCPT | State.DATA:
            await client.say(*LEAD[: list(State).index(state) - 1])
        case State.BODY:
            await client.say(*LEAD)
            client.stream.write(MESSAGE)
        case State.DOT:
            await client.say(*LEAD)
            client.stream.write(MESSAGE + b".\r\n")
            await asyncio.sleep(0.01)
        case State.IDLE:
            await client.letter()
        case State.QUIT:
            await client.say("QUIT")
        case _:
            raise AssertionError(state)
    return task


# ---- the cells
async def heard_in(client: Client, expected: Cell, state: State, fault: Fault, session: asyncio.Task[None]) -> str:
    """The last reply of a session that ends, or the one to what went wrong where it goes on."""
    if fault is Fault.DEAF:
        await session
        return ""
    last = reply = await client.hear()
    if expected.goes_on:
        return await client.hear() if state is State.DOT else reply
    while reply:
        last, reply = reply, await client.hear()
    return last


def house_for(state: State) -> House:
    return make_house(Slow() if state is State.DOT else MemoryStorage())


async def stored(house: House) -> int:
    entries = await house.storage.entries(Selection(), after=(MessageId(""), -1), limit=10, now=house.clock.now())
    return len(entries)


@pytest.mark.parametrize(("state", "fault"), CELLS, ids=lambda one: one.name if isinstance(one, Enum) else "")
@virtual
async def test_in_each_state_each_fault_of_a_client_comes_to_what_the_table_says(state: State, fault: Fault) -> None:
    expected, house = cell(state, fault), house_for(state)
    await house.storage.open(owner="test")
    receiver = Receiver([DOOR], house)
    client, other = Client(receiver, Endpoint("192.0.2.66", 6666)), Client(receiver, GOOD)
    if state is State.BEFORE_BANNER:
        doing = asyncio.ensure_future(misbehave(client, state, fault))
        await settled()
        session = client.begin()
    else:
        session = await bring_to(client, state)
        doing = asyncio.ensure_future(misbehave(client, state, fault))
    clock = asyncio.get_running_loop()
    began = clock.time()
    other_session = other.begin()
    letter = asyncio.ensure_future(other.visit())

    reply = await heard_in(client, expected, state, fault, session)
    if not expected.goes_on:
        await session
    seconds = clock.time() - began
    if expected.goes_on:
        assert await client.say("NOOP", "QUIT") == f"221 2.0.0 {HOSTNAME} goodbye"
        await session
    doing.cancel()
    assert reply.startswith(expected.reply), reply
    assert bool(reply) == bool(expected.reply)
    assert expected.seconds[0] - 0.1 <= seconds <= expected.seconds[1]
    assert (await letter).startswith("250 2.0.0 Ok")
    await other_session
    assert await stored(house) == expected.stored + 1
    assert (house.in_flight.held, receiver.sessions) == (0, 0)
    assert isinstance(house.log, Log)
    assert house.log.troubles == []


def test_no_cell_is_missing() -> None:
    assert {state: len(row) for state, row in TABLE.items()} == dict.fromkeys(State, len(Fault))


@pytest.mark.parametrize("fault", [Fault.FLOOD, Fault.DEAF])
@pytest.mark.parametrize("state", [State.BANNER, State.RCPT, State.BODY])
@virtual
async def test_a_client_that_gives_or_asks_without_end_takes_bounded_memory(state: State, fault: Fault) -> None:
    house = house_for(state)
    await house.storage.open(owner="test")
    client = Client(Receiver([DOOR], house), Endpoint("192.0.2.66", 6666))
    session = await bring_to(client, state)
    tracemalloc.start()
    doing = asyncio.ensure_future(misbehave(client, state, fault))
    await heard_in(client, cell(state, fault), state, fault, session)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    doing.cancel()
    client.stream.abort()
    await session
    assert peak < 1_500_000
