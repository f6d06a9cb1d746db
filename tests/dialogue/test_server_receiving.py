"""Every scripted dialogue of a server, played by a whole receiving session: in memory, and on a real socket.

The bare engine plays them too (test_bare_sessions.py); here judge, spool and stream have their part.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Final, cast

import pytest
import uvloop

from tests.dialogue.notation import GREETING, Close, Handshake, Line, Reset, Script, Silent, Text, load_scripts
from tests.receive.house import Table, admission, make_house
from tests.virtual import virtual
from waypost.auth.account import Account
from waypost.auth.authenticator import Accepted, Dialogue, Refused, Verdict
from waypost.auth.exchange import Challenge
from waypost.auth.scram import NO_BINDINGS, Bindings
from waypost.mail.envelope import MessageId, NextHop
from waypost.net.memory import CLIENT_HELLO, THERE, connected_pair
from waypost.net.stream import Endpoint
from waypost.policy.admission import NOBODY
from waypost.queue.storage import Selection
from waypost.receive.house import House
from waypost.receive.login import NoLogins
from waypost.receive.server import Receiver
from waypost.receive.session import Session
from waypost.receive.settings import Door
from waypost.route.route import Capture, NoRoute, Reject, Route
from waypost.smtp.command import NoResponse
from waypost.smtp.path import ForwardPath, ReversePath
from waypost.smtp.reply import Reply

HERE: Final = Endpoint("127.0.0.1", 0)
SOON: Final = timedelta(seconds=5)


def is_playable(script: Script) -> bool:
    """Whether a receiving session would ever answer so: it refuses nobody at EHLO, and all LMTP recipients alike."""
    if any(answer.what == "STARTTLS" for answer in script.answers):
        return False
    return all(
        answer.what == "AUTH" or (answer.what == "RCPT" and answer.reply.is_permanent) for answer in script.answers
    )


def speaks_first(script: Script) -> bool:
    return script.lines[0].side == "C"


def is_silent(script: Script) -> bool:
    return any(isinstance(line.said, Silent) for line in script.lines)


def shakes_hands(script: Script) -> bool:
    return any(isinstance(line.said, Handshake) for line in script.lines)


SCRIPTS: Final = [script for script in load_scripts("server") if is_playable(script)]
#: On a socket a client that speaks first may be a hair too late, and nobody waits five minutes.
#: And there every client is on loopback, where secrets are safe.
ON_SOCKETS: Final = [
    script
    for script in SCRIPTS
    if not (speaks_first(script) or is_silent(script) or shakes_hands(script))
    and bool(script.permitted) == bool(script.settings.mechanisms)
]


class ScriptedLogins(NoLogins):
    """Judges as the script bids."""

    def __init__(self, script: Script) -> None:
        self.judgements = [answer.reply for answer in script.answers if answer.what == "AUTH"]

    def dialogue(
        self, mechanism: str, network: str, bindings: Bindings = NO_BINDINGS, certificate: bytes = b""
    ) -> Dialogue:
        return cast("Dialogue", ScriptedDialogue(mechanism, self.judgements))


@dataclass
class ScriptedDialogue:
    mechanism: str
    judgements: list[Reply]

    async def begin(self, response: bytes | NoResponse) -> Verdict:
        reply = self.judgements.pop(0)
        if reply.is_intermediate:
            return Challenge(b64decode(reply.lines[0]))
        return Accepted(Account("alice", ("*",))) if reply.is_positive else Refused(reply, "alice", "as scripted")

    async def take(self, response: bytes) -> Verdict:
        return await self.begin(response)


class ScriptedTable(Table):
    """Takes everybody but those whom the script refuses."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.refused = {answer.address: answer.reply for answer in script.answers}

    def route(
        self, forward_path: ForwardPath, reverse_path: ReversePath = NOBODY, account: str = ""
    ) -> Route | NoRoute:
        reply = self.refused.get(str(forward_path))
        return Route(NextHop("x"), Capture() if reply is None else Reject(reply), "rule")


def said_in_memory(line: Line) -> bytes:
    return CLIENT_HELLO if isinstance(line.said, Handshake) else line.octets


def door_of(script: Script) -> Door:
    xclient = (ip_network("127.0.0.0/8"),) if script.xclient else ()
    return Door(HERE, script.settings, xclient=xclient, context=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


async def house_of(script: Script) -> House:
    house = replace(make_house(), admission=admission(ScriptedTable(script)), logins=ScriptedLogins(script))
    await house.storage.open(owner="test")
    return house


async def check_stored(house: House, script: Script) -> None:
    entries = await house.storage.entries(Selection(), after=(MessageId(""), -1), limit=100, now=house.clock.now())
    names = sorted({entry.id for entry in entries})
    assert len(names) == script.messages
    if script.stored:
        _, octets = await house.storage.message(names[-1])
        whole = b"".join([chunk async for chunk in octets])
        assert whole.startswith(b"Received: from ")
        assert whole.partition(b" +0000\r\n")[2] == script.stored


def check_replies(lines: Sequence[Line], said: bytes, place: str) -> None:
    """What was said begins, line by line, with what is expected; all but the last line of a reply may be left out."""
    actual = iter(said.decode().split("\r\n")[:-1])
    for line in lines:
        if isinstance(line.said, Text):
            found = next(actual, "(nothing)")
            expected = line.said.text
            while found[3:4] == "-" and not (expected[3:4] == "-" and found.startswith(expected)):
                found = next(actual, "(nothing)")
            assert found.startswith(expected), f"{place}:{line.number}"
    assert list(actual) == [], f"{place}:{lines[-1].number}: more was said"


def plays() -> list[object]:
    """Each script with segments whole; and octet by octet, unless it is about what comes in one segment."""
    by_octets = [script for script in SCRIPTS if not script.only_whole and not speaks_first(script)]
    return [
        *(pytest.param(script, 0, id=f"{script}-whole") for script in SCRIPTS),
        *(pytest.param(script, 1, id=f"{script}-by-octets") for script in by_octets),
    ]


@pytest.mark.parametrize(("script", "segment"), plays())
@virtual
async def test_a_session_in_memory_plays_its_part(script: Script, segment: int) -> None:
    house = await house_of(script)
    near, far = connected_pair(segment=segment, client=HERE if script.permitted or script.xclient else THERE)
    session = Session(far, door_of(script), house)
    task: asyncio.Task[None] | None = None
    for side, lines in script.segments:
        if side == "C":
            near.write(b"".join(said_in_memory(line) for line in lines))
            match lines[-1].said:
                case Silent(duration):
                    await asyncio.sleep(duration.total_seconds())
                case Close():
                    near.half_close()
                case Reset():
                    near.abort()
                case _:
                    pass
        task = task or asyncio.ensure_future(session.run(GREETING))
        await asyncio.sleep(0.001)  # time passes only when nothing else is left to do
        if side == "S":
            heard = near.pending()
            said = await near.read(SOON) if isinstance(heard, bytes) else b""
            check_replies(lines, said if isinstance(said, bytes) else b"", script.name)
            assert task.done() == isinstance(lines[-1].said, Close), f"{script}:{lines[-1].number}"
    near.half_close()
    assert task is not None
    await task
    await check_stored(house, script)
    assert house.in_flight.held == 0


async def heard_on(reader: asyncio.StreamReader, lines: Sequence[Line]) -> bytes:
    """As many replies as `lines` tell of, or all until the end of the connection."""
    if isinstance(lines[-1].said, Close):
        return await reader.read()
    said = b""
    for line in lines:
        continues = isinstance(line.said, Text) and line.said.text[3:4] == "-"
        said += (got := await reader.readuntil(b"\r\n"))
        while got[3:4] == b"-" and not continues:
            said += (got := await reader.readuntil(b"\r\n"))
    return said


async def play_on_a_socket(script: Script) -> None:
    house = await house_of(script)
    receiver = Receiver([door_of(script)], house)
    await receiver.start()
    reader, writer = await asyncio.open_connection(receiver.endpoints[0].host, receiver.endpoints[0].port)
    try:
        for side, lines in script.segments:
            if side == "S":
                said = await heard_on(reader, lines)
                check_replies(lines, said, script.name)
            else:
                writer.write(b"".join(line.octets for line in lines))
                if isinstance(lines[-1].said, Close):
                    writer.write_eof()
                elif isinstance(lines[-1].said, Reset):
                    writer.transport.abort()
    finally:
        writer.close()
        await receiver.stop(SOON)
    await check_stored(house, script)


@pytest.mark.parametrize("script", ON_SOCKETS, ids=str)
def test_a_receiver_on_a_socket_plays_its_part(script: Script) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play_on_a_socket(script))


def test_most_scripts_are_played() -> None:
    assert len(SCRIPTS) > 50
    assert len(ON_SOCKETS) > 45
