"""What is told of a session that is overheard: all that was said, and no secret or body, however the octets come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.receive.house import HOSTNAME, MESSAGE, make_house
from waypost.net.clock import SystemClock
from waypost.net.stream import Endpoint
from waypost.queue.memory import MemoryStorage
from waypost.queue.watching import Dialogues
from waypost.receive.overheard import MASK, Ear, Ears
from waypost.receive.server import Receiver
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

C, S = "C", "S"
#: One side's octets after another's; each client's part is cut anywhere.
DIALOGUE: Sequence[tuple[str, bytes]] = (
    (S, b"220 mx ESMTP\r\n"),
    (C, b"EHLO client\r\n"),
    (S, b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
    (C, b"AUTH PLAIN AHNlY3JldABzZWNyZXQ=\r\n"),
    (S, b"535 5.7.8 no\r\n"),
    (C, b"auth login\r\n"),
    (S, b"334 VXNlcm5hbWU6\r\n"),
    (C, b"c2VjcmV0\r\n"),
    (S, b"334 UGFzc3dvcmQ6\r\n"),
    (C, b"c2VjcmV0\r\n"),
    (S, b"235 2.7.0 fine\r\n"),
    (C, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"),
    (S, b"250 ok\r\n250 ok\r\n354 go on\r\n"),
    (C, b"Subject: secret\r\n\r\nsecret\r\n.\r\nMAIL FROM:<>\r\n"),
    (S, b"250 2.0.0 Ok: queued as 1dvq3kbaxm00g\r\n250 ok\r\n"),
    (C, b"RCPT TO:<c@d.example>\r\nBDAT 8 LAST\r\nsecret\r\nDATA\r\n"),
    (S, b"250 ok\r\n250 ok\r\n503 no\r\n"),
    (C, b"QUIT\r\n"),
    (S, b"221 bye\r\n"),
)
TOLD = [
    "EHLO client",
    f"AUTH PLAIN {MASK}",
    "auth login",
    MASK,
    MASK,
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<c@d.example>",
    "DATA",
    "MAIL FROM:<>",
    "RCPT TO:<c@d.example>",
    "BDAT 8 LAST",
    "DATA",
    "QUIT",
]


@given(st.data())
def test_all_commands_are_told_and_no_secret_however_the_octets_are_cut(data: st.DataObject) -> None:
    told = list[tuple[str, str]]()
    ear = Ear(lambda mark, text: told.append((mark, text)))
    for mark, octets in DIALOGUE:
        hear = ear.client if mark == C else ear.ours
        for piece in _cut(octets, data.draw(st.lists(st.integers(0, len(octets)), max_size=4))):
            hear(piece)
    assert [text for mark, text in told if mark == C] == TOLD
    assert [text for mark, text in told if mark == "*"] == ["a body of 27 octets"]
    assert "221 bye" in [text for mark, text in told if mark == S]
    assert not any("secret" in text or "c2Vj" in text or "AHNl" in text for _, text in told)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=12))
def test_whatever_either_side_says_is_heard_without_an_error(said: list[tuple[bool, bytes]]) -> None:
    ear = Ear(lambda _mark, _text: None)
    for is_client, octets in said:
        (ear.client if is_client else ear.ours)(octets)


def test_what_a_client_sends_before_it_may_is_a_body_all_the_same() -> None:
    told = list[str]()
    ear = Ear(lambda _, text: told.append(text))
    ear.ours(b"220 mx\r\n")
    ear.client(b"DATA\r\nSubject: secret\r\n.\r\nNOOP\r\n")
    assert told == ["220 mx", "DATA"]
    ear.ours(b"354 go on\r\n")
    assert told[2:] == ["354 go on", "a body of 17 octets", "NOOP"]


def _cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({*places, len(octets)})
    return [octets[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


async def _reply(reader: asyncio.StreamReader) -> None:
    while (await reader.readline())[3:4] == b"-":
        pass


class Lines:
    """Remembers."""

    def __init__(self) -> None:
        self.told = list[str]()

    def overheard(self, client: Endpoint, door: str, mark: str, text: str) -> None:
        assert client.host == "127.0.0.1"
        assert door == "127.0.0.1:0"
        self.told.append(f"{mark} {text}")


@pytest.mark.parametrize(
    ("watched", "is_heard"),
    [
        ("127.0.0.1", True),
        ("127.0.0.0/24", True),
        ("127.0.0.1:0", True),
        ("127.0.1.0/24", False),
        ("::/0", False),
        ("smtp://127.0.0.1:25", False),
        ("mx.example.net/nonsense", False),
    ],
)
async def test_a_session_is_heard_by_address_network_or_listener(watched: str, is_heard: bool) -> None:  # noqa: FBT001 - a row's result
    storage, lines = MemoryStorage(), Lines()
    await storage.open(owner="test")
    house = make_house(storage)
    ears = Ears(lines, Dialogues(storage, SystemClock()), SystemClock(), (watched,))
    receiver = Receiver([Door(Endpoint("127.0.0.1", 0), ServerSettings(HOSTNAME))], house)
    receiver.ears = ears
    await receiver.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.endpoints[0].port)
    for line in (b"EHLO me\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@ours.example>\r\n"):
        await _reply(reader)
        writer.write(line)
    await _reply(reader)
    writer.write(b"BDAT %d LAST\r\n%bQUIT\r\n" % (len(MESSAGE), MESSAGE))
    await reader.read()
    writer.close()
    await receiver.stop(timedelta(seconds=5))
    await ears.settled()

    ids = [entry[0] for entry in house.log.taken]  # type: ignore[attr-defined]  # tests/receive/house.py has such a log
    said = await Dialogues(storage, SystemClock()).of(ids[0])
    assert bool(lines.told) is bool(said) is is_heard
    if is_heard:
        assert "C RCPT TO:<c@ours.example>" in lines.told
        assert lines.told[-1].startswith("S 221")
        assert (said[-1][1], ids[0] in said[-1][2]) == ("S", True)
        assert "How are you" not in str(lines.told)
    await storage.close()
