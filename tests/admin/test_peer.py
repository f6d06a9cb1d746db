"""The fault-injecting peer: it must misbehave exactly as planned, and otherwise behave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from waypost.admin.fault_plan import ALWAYS, Instead, PlannedFault, State, Way
from waypost.admin.peer import LONG, FaultyPeer, PeerSettings
from waypost.smtp.reply import Reply


class Caller:
    """A client that says what it is told to and shows what it hears."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, text: str) -> str:
        """The last line of the reply to `text`."""
        self.writer.write(text.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> str:
        while (line := (await self.reader.readline()).decode()).find("-") == 3:
            pass
        return line.rstrip("\r\n")

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 5)

    async def up_to_rcpt(self) -> None:
        await self.reply()
        for line in ("EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@peer.example>"):
            assert (await self.say(line)).startswith("250")


@asynccontextmanager
async def calling(peer: FaultyPeer) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(peer.endpoint.host, peer.endpoint.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


async def test_without_a_plan_it_accepts_a_message_whole() -> None:
    async with FaultyPeer() as peer, calling(peer) as caller:
        await caller.up_to_rcpt()
        assert (await caller.say("DATA")).startswith("354")
        assert (await caller.say("Subject: x\r\n\r\n..dot\r\n.")).startswith("250")
        assert (await caller.say("QUIT")).startswith("221")
        assert await caller.rest() == b""
        [message] = peer.accepted
        assert message.octets == b"Subject: x\r\n\r\n.dot\r\n"
        assert (message.reverse_path, message.recipients, message.hello) == (
            "a@us.example",
            ("b@peer.example",),
            "EHLO",
        )
        assert peer.dialogues[0].verbs == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_an_empty_body_is_a_message_too() -> None:
    async with FaultyPeer() as peer, calling(peer) as caller:
        await caller.up_to_rcpt()
        await caller.say("DATA")
        assert (await caller.say(".")).startswith("250")
        assert peer.accepted[0].octets == b""


async def test_it_hangs_up_on_the_first_ehlo_alone() -> None:
    async with FaultyPeer("ehlo:close*1") as peer:
        async with calling(peer) as caller:
            await caller.reply()
            assert await caller.say("EHLO us.example") == ""
        async with calling(peer) as caller:
            await caller.reply()
            assert (await caller.say("EHLO us.example")).startswith("250")


async def test_a_reset_is_one() -> None:
    async with FaultyPeer("connect:reset") as peer:
        with pytest.raises(ConnectionResetError):
            async with calling(peer) as caller:
                await caller.rest()


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ("mail:nul", b"250 2.1.0 reverse-path ok\0\r\n"),
        ("mail:barelf", b"250 2.1.0 reverse-path ok\n"),
        ("mail:wrong", b"354 2.1.0 reverse-path ok\r\n"),
        ("mail:extra", b"250 2.1.0 reverse-path ok\r\n250 2.0.0 nobody asked\r\n"),
        ("mail:truncated", b"250 2.1.0 rev"),
        ("mail:452 4.3.1 full", b"452 4.3.1 full\r\n"),
        ("mail:421", b"421 as planned\r\n"),
        ("mail:4xx", b"451 as planned\r\n"),
        ("mail:5xx", b"550 as planned\r\n"),
        ("mail:close", b""),
        ("mail:drip", b"250 2.1.0 reverse-path ok\r\n"),
        ("mail:garbage", b"\x16\x03\x01 this is no reply \xff\xfe\r\n"),
    ],
)
async def test_a_reply_is_spoilt_as_planned(fault: str, heard: bytes) -> None:
    async with FaultyPeer(fault, settings=PeerSettings(pace=timedelta())) as peer, calling(peer) as caller:
        await caller.reply()
        await caller.say("EHLO us.example")
        caller.writer.write(b"MAIL FROM:<>\r\nQUIT\r\n")
        everything = await caller.rest()
        assert everything.removesuffix(b"221 2.0.0 good-bye\r\n") == heard


async def test_an_over_long_and_an_endless_reply_are_what_they_say() -> None:
    async with FaultyPeer("banner:long*1", "banner:endless") as peer:
        async with calling(peer) as caller:
            assert len(await caller.reader.readexactly(LONG)) == LONG
        async with calling(peer) as caller:
            assert b"220-and so on\r\n" * 50_000 in await caller.reader.readexactly(800_000)


async def test_a_stalled_command_is_never_answered_but_the_connection_lives() -> None:
    async with FaultyPeer("ehlo:stall") as peer, calling(peer) as caller:
        await caller.reply()
        caller.writer.write(b"EHLO us.example\r\n")
        await peer.until(lambda p: p.dialogues[0].events[-1].text == "fault: stall at ehlo")
        caller.writer.write_eof()
        assert await caller.rest() == b""


async def test_a_reply_may_come_before_its_command() -> None:
    async with FaultyPeer("mail:early*1") as peer, calling(peer) as caller:
        await caller.reply()
        await caller.say("EHLO us.example")
        assert (await caller.reply()) == "250 2.1.0 reverse-path ok"
        caller.writer.write(b"MAIL FROM:<>\r\n")
        assert (await caller.say("RCPT TO:<b@peer.example>")) == "250 2.1.5 forward-path ok"


async def test_a_fault_in_mid_body_is_the_bodys_only_reply() -> None:
    async with FaultyPeer("body:552 5.3.4 enough") as peer, calling(peer) as caller:
        await caller.up_to_rcpt()
        await caller.say("DATA")
        assert await caller.say("first line") == "552 5.3.4 enough"
        caller.writer.write(b"second line\r\n.\r\n")
        assert (await caller.say("NOOP")).startswith("250")
        assert (len(peer.received), peer.accepted) == (1, [])


async def test_lost_after_the_dot_means_received_but_not_accepted() -> None:
    async with FaultyPeer("dot:close") as peer, calling(peer) as caller:
        await caller.up_to_rcpt()
        await caller.say("DATA")
        assert await caller.say("body\r\n.") == ""
        assert (len(peer.received), peer.accepted) == (1, [])


async def test_it_hangs_up_once_idle() -> None:
    async with FaultyPeer("idle:close") as peer, calling(peer) as caller:
        await caller.up_to_rcpt()
        await caller.say("DATA")
        assert (await caller.say("body\r\n.")).startswith("250")
        assert await caller.rest() == b""
        assert len(peer.accepted) == 1


async def test_lmtp_answers_once_a_recipient_and_knows_no_ehlo() -> None:
    async with FaultyPeer("dot:450+1*1", settings=PeerSettings(lmtp=True)) as peer, calling(peer) as caller:
        await caller.reply()
        assert (await caller.say("EHLO us.example")).startswith("500")
        for line in ("LHLO us.example", "MAIL FROM:<>", "RCPT TO:<b@p.example>", "RCPT TO:<c@p.example>", "DATA"):
            assert (await caller.say(line))[0] in "23"
        assert (await caller.say("body\r\n.")).startswith("250")
        assert (await caller.reply()).startswith("450")
        assert len(peer.accepted) == 1


async def test_commands_out_of_order_are_refused() -> None:
    async with FaultyPeer() as peer, calling(peer) as caller:
        await caller.reply()
        for line in ("MAIL FROM:<>", "RCPT TO:<b@p.example>", "DATA"):
            assert (await caller.say(line)).startswith("503")
        assert (await caller.say("FROB")).startswith("500")


async def test_stopping_drops_whoever_is_connected() -> None:
    peer = await FaultyPeer("ehlo:stall", "body:stall").start()
    async with calling(peer) as caller:
        await caller.reply()
        caller.writer.write(b"EHLO us.example\r\n")
        await peer.until(lambda p: p.dialogues[0].verbs == ["EHLO"])
        await peer.stop()
        assert await caller.rest() == b""


def test_a_plan_is_read_as_written() -> None:
    assert PlannedFault.parse("EHLO:Close") == PlannedFault(State.EHLO, Way.CLOSE)
    assert PlannedFault.parse("rcpt:550 5.1.1 no+2*3") == PlannedFault(
        State.RCPT, Instead(Reply(550, ("5.1.1 no",))), skip=2, times=3
    )
    assert PlannedFault.parse("rcpt:421", times=1).times == 1
    assert PlannedFault.parse("rcpt:421*always", times=1).times == ALWAYS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("close", "is not STATE:FAULT"),
        ("lunch:close", "the states are connect, banner"),
        ("connect:garbage", "there are close, reset, stall$"),
        ("connect:421", "there are close, reset, stall$"),
        ("ehlo:explode", "there are close, .* any other reply code"),
        ("ehlo:199", "no fault"),
        ("idle:early", "no fault 'early' at idle"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_what_does(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PlannedFault.parse(text)


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("state", [State.BANNER, State.EHLO, State.RCPT, State.DATA, State.BODY, State.DOT, State.QUIT])
async def test_whatever_is_planned_the_next_connection_is_served(state: State, way: Way) -> None:
    if way is Way.EARLY and state in {State.BANNER, State.BODY}:
        return
    dialogue = b"EHLO u\r\nMAIL FROM:<>\r\nRCPT TO:<b@p.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
    plan = PlannedFault(state, way, times=1)
    async with FaultyPeer(plan, settings=PeerSettings(pace=timedelta())) as peer:
        async with calling(peer) as caller:
            caller.writer.write(dialogue)
            if way is Way.EARLY:
                await caller.rest()
            else:
                await peer.until(
                    lambda p: f"fault: {way.value} at {state.value}" in [e.text for e in p.dialogues[0].events]
                )
        async with calling(peer) as caller:
            caller.writer.write(dialogue)
            assert (await caller.rest()).endswith(b"221 2.0.0 good-bye\r\n")
            assert peer.accepted[-1].connection == 2
