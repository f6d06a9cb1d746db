"""Every client script, played on what delivers: over a stream in memory, whole and octet by octet, and over a socket.

Three things differ from the bare session, and are allowed for: a message's true size is declared where SIZE is offered,
QUIT is said without waiting for its answer, and a script whose TLS handshake happens is left to the stream in memory.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, assert_never

import pytest

from tests.dialogue.notation import (
    CLIENT_NAME,
    Body,
    Close,
    Handshake,
    Line,
    Octets,
    Reset,
    Script,
    Silent,
    Text,
    load_scripts,
)
from tests.virtual import VirtualClock, run_virtual, virtual
from waypost.deliver.connection import Connection, Ends, TimeOuts, open_connection
from waypost.deliver.fates import Fates, deferred
from waypost.deliver.opening import UNKNOWN_HOST, Approach
from waypost.deliver.transaction import After, transact
from waypost.mail.attempt import Transcript
from waypost.mail.envelope import InMemory, MessageId, NotInDoubt, Origin, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Deferred, Delivered, Host, InDoubt, LocalTrouble, Outcome, Rejected
from waypost.net.dialer import AsyncioDialer, Dialer
from waypost.net.listener import Listener
from waypost.net.memory import MemoryDialer
from waypost.net.stream import Endpoint, Fault, Stream
from waypost.route.level import TlsDemand, TlsLevel
from waypost.smtp.transaction import Transaction

SCRIPTS: Final = load_scripts("client")
SERVER: Final = Endpoint("127.0.0.1", 0)
PATIENCE: Final = timedelta(hours=1)
_SIZE: Final = re.compile(rb" SIZE=\d+")


class ScriptedServer:
    """The server's side of a script, and what the client said otherwise than the script has it."""

    def __init__(self, script: Script, *, by_octets: bool) -> None:
        self._script = script
        self._by_octets = by_octets
        self._heard = b""
        self.surprises: list[str] = []

    async def __call__(self, stream: Stream) -> None:
        for _, lines in self._script.segments:
            if lines[0].side == "S":
                await self._say(stream, lines)
            elif not await self._hear_all(stream, lines):
                break
        while not isinstance(await stream.read(PATIENCE), Fault):
            pass
        await stream.close()

    async def _say(self, stream: Stream, lines: Sequence[Line]) -> None:
        """A segment, in one piece or in octets, up to the first mark."""
        octets = b"".join(line.octets for line in lines)
        for piece in [octets[n : n + 1] for n in range(len(octets))] if self._by_octets else [octets]:
            stream.write(piece)
            await asyncio.sleep(0)
        for line in lines:
            match line.said:
                case Text() | Octets() | Body() | Handshake():
                    pass
                case Silent(duration):
                    await asyncio.sleep(duration.total_seconds())
                case Close():
                    await stream.close()
                case Reset():
                    stream.abort()
                case _:
                    assert_never(line.said)

    async def _hear_all(self, stream: Stream, lines: Sequence[Line]) -> bool:
        for line in lines:
            if isinstance(line.said, Handshake):
                continue
            expected = _stuffed(self._script.body) if isinstance(line.said, Body) else _SIZE.sub(b"", line.octets)
            heard = await self._hear(stream, expected)
            if heard != expected:
                self.surprises.append(f"{self._script}:{line.number}: {heard!r} instead of {expected!r}")
                return False
        return True

    async def _hear(self, stream: Stream, expected: bytes) -> bytes:
        """As many octets as are expected, of a command up to its end; less where the client says no more."""
        while len(self._heard) < len(expected) or (expected.startswith(b"MAIL ") and b"\r\n" not in self._heard):
            octets = await stream.read(PATIENCE)
            if isinstance(octets, Fault):
                break
            self._heard += octets
            if self._heard.startswith(b"MAIL "):
                self._heard = _SIZE.sub(b"", self._heard, count=1)
        heard, self._heard = self._heard[: len(expected)], self._heard[len(expected) :]
        return heard


def _stuffed(body: bytes) -> bytes:
    text = re.sub(rb"^\.", b"..", body, flags=re.MULTILINE)
    return text if text.endswith(b"\r\n") or not text else text + b"\r\n"


async def play(script: Script, dialer: Dialer, endpoint: Endpoint) -> list[str]:
    """Deliver what the script has to be delivered; a word a recipient."""
    clock = VirtualClock()
    ends = Ends(dialer, clock, CLIENT_NAME, TimeOuts())
    opened = await open_connection(
        Host("mx.example", endpoint),
        Approach(script.opening, script.tls, UNKNOWN_HOST),
        ends=ends,
        credentials=script.credentials,
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        demand=TlsDemand(TlsLevel.OPPORTUNISTIC),
        transcript=Transcript(clock.monotonic()),
    )
    words: list[str] = []
    after = After.REUSABLE if isinstance(opened, Connection) else After.SPENT
    for transaction in script.transactions:
        if after is After.REUSABLE and isinstance(opened, Connection):
            fates, after = await _pass_on(opened, transaction, script.body)
            words += fates
        else:
            words += ["deferred"] * len(transaction.recipients)
    if after is After.REUSABLE and isinstance(opened, Connection):
        await opened.leave()
    return words


async def _pass_on(connection: Connection, transaction: Transaction, body: bytes) -> tuple[list[str], After]:
    origin = Origin("ESMTP")
    message = QueuedMessage(MessageId("M0"), transaction.reverse_path, transaction.parameters, origin, 0.0, len(body))
    recipients = [
        QueuedRecipient(number, path, parameters, 0, delay_reported=False, doubt=NotInDoubt())
        for number, (path, parameters) in enumerate(transaction.recipients)
    ]
    fates = Fates(recipients)
    ended = await transact(connection, message, recipients, InMemory(body), fates, lambda *_: None)
    return [_word(outcome) for _, outcome in fates.closed(deferred(LocalTrouble("nobody asked")))], ended.after


def _word(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Rejected():
            return "rejected"
        case Deferred():
            return "deferred"
        case InDoubt():
            return "in-doubt"
        case _:
            assert_never(outcome)


def plays(scripts: Sequence[Script]) -> list[object]:
    """Each script whole; and octet by octet, unless it is about what comes in one segment."""
    whole = [pytest.param(script, False, id=f"{script}-whole") for script in scripts]
    cut = [pytest.param(script, True, id=f"{script}-by-octets") for script in scripts if not script.only_whole]
    return [*whole, *cut]


@pytest.mark.parametrize(("script", "by_octets"), plays(SCRIPTS))
@virtual
async def test_a_delivery_in_memory_plays_its_part(script: Script, by_octets: bool) -> None:  # noqa: FBT001 - a parameter of the test
    server = ScriptedServer(script, by_octets=by_octets)
    endpoint = Endpoint("192.0.2.1", 25)
    words = await play(script, MemoryDialer({endpoint: server}), endpoint)
    assert server.surprises == []
    assert words == list(script.fates)


#: A handshake on a socket would be a real one.
IN_CLEAR: Final = [one for one in SCRIPTS if not any(isinstance(line.said, Handshake) for line in one.lines)]


@pytest.mark.parametrize("script", IN_CLEAR, ids=str)
def test_a_delivery_over_a_socket_plays_its_part(script: Script) -> None:
    async def over_a_socket() -> None:
        server = ScriptedServer(script, by_octets=False)
        listener = await Listener.open(SERVER, server)
        words = await play(script, AsyncioDialer(), listener.endpoint)
        await listener.close()
        assert server.surprises == []
        assert words == list(script.fates)

    run_virtual(over_a_socket(), patience=0.1)
