"""Greetings, replies and connections that go wrong at the next hop, and at our own door."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from tests.deliver.peer import FOREVER, Behaviour, Peer, Wrong
from tests.scenarios.page import scenario
from tests.scenarios.whole import (
    AUTHOR,
    BY_MX,
    DAY,
    HOUR,
    LETTER,
    MINUTE,
    SMART_HOST,
    STRANGER,
    accepted_by,
    bodies,
    to_host,
    whole,
)
from tests.virtual import elapsed, virtual
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint, Fault, FaultKind, Stream

ONE, TWO = "192.0.2.1", "192.0.2.2"
TWO_EXCHANGERS = """
far.example. 300 MX 10 mx1.far.example.
far.example. 300 MX 20 mx2.far.example.
mx1.far.example. 300 A 192.0.2.1
mx2.far.example. 300 A 192.0.2.2
"""
BROKEN_AND_HEALTHY = to_host("broken.example", ONE) + to_host("healthy.example", TWO)


@scenario(1)
@pytest.mark.parametrize("wrong", list(Wrong))
@virtual
async def test_a_smart_host_that_breaks_on_ehlo_gets_the_message_by_helo_at_once_and_nobody_else_notices(
    wrong: Wrong,
) -> None:
    """The smart host hung up on EHLO, and the whole service stopped over an address that was NULL."""
    smart_host, other = Peer(always={"EHLO": wrong}), Peer()
    async with whole(SMART_HOST + to_host("other.example", TWO), {ONE: smart_host, TWO: other}) as service:
        name = await service.take("bob@far.example")
        await service.take("carol@other.example")
        await asyncio.sleep(0.5)
        assert bodies(other) == [LETTER]
        await asyncio.sleep(HOUR)
        assert bodies(smart_host) == [LETTER]
        assert await service.attempts(name) == 1
        assert await service.queue() == []


@scenario(2)
@virtual
async def test_a_host_that_refuses_our_name_bounces_nothing_and_the_next_exchanger_is_asked() -> None:
    """A host refused HELO as well as EHLO, and the mail was returned at once."""
    proud, second = Peer(always={"EHLO": "500 what?", "HELO": "501 not with that name"}), Peer()
    async with whole(BY_MX, {ONE: proud, TWO: second}, zone=TWO_EXCHANGERS) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        assert (proud.verbs, bodies(second)) == ([["EHLO", "HELO", "QUIT"]], [LETTER])


@scenario(2)
@virtual
async def test_a_name_that_every_host_refuses_leaves_that_mail_waiting_with_the_refusal_in_view() -> None:
    """A host refused HELO as well as EHLO, and the mail was returned at once."""
    proud, other = Peer(always={"EHLO": "500 what?", "HELO": "501 not with that name"}), Peer()
    async with whole(BROKEN_AND_HEALTHY, {ONE: proud, TWO: other}) as service:
        await service.take("bob@broken.example")
        await service.take("bob@healthy.example")
        await asyncio.sleep(1)
        (entry,) = await service.queue()
        assert "501 not with that name" in entry.last_outcome
        assert bodies(other) == [LETTER]
        assert await service.inbox() == []


@scenario(3)
@virtual
async def test_a_client_s_names_are_bounded_looked_up_nowhere_and_quoted_in_no_reply() -> None:
    """A client with a very long name in the reverse DNS overran a buffer while it said EHLO."""
    async with whole() as service:
        client = await service.connect()
        await client.hear()
        for length in (256, 1000, 2000):
            assert await client.say("EHLO " + "x" * length) == (
                "501 5.5.4 EHLO is followed by one ASCII word of at most 255 octets"
            )
        assert (await client.say("EHLO " + "x" * 5000)).startswith("500 5.5.6")
        assert (await client.say("EHLO " + "x" * 255)).startswith("250 ")
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")
        assert service.dns.asked == []


@scenario(4)
@virtual
async def test_no_sequence_of_odd_commands_does_more_than_end_its_own_session() -> None:
    """Certain sequences of AUTH, XAUTH and VRFY crashed the service."""
    dice = random.Random(4)  # noqa: S311 - the same sequences each time
    verbs = [
        "AUTH",
        "XAUTH",
        "VRFY",
        "EXPN",
        "STARTTLS",
        "BDAT",
        "ETRN",
        "TURN",
        "HELP",
        "MAIL",
        "RCPT",
        "%s%n",
        "EHLO",
    ]
    arguments = ["", " ", " LOGIN", " PLAIN =", " *", " " + "A" * 1900, " <", " %n" * 50, " \u00e4", " -1 LAST"]
    async with whole() as service:
        healthy = await service.client()
        for _ in range(100):
            client = await service.connect(STRANGER)
            for _ in range(30):
                client.stream.write((dice.choice(verbs) + dice.choice(arguments) + "\r\n").encode())
                await asyncio.sleep(0)
            client.stream.half_close()
            *replies, end = await client.everything()
            assert end in {"(CLOSED)", "(RESET)"}
            assert {reply[0] for reply in replies} <= set("245")
        assert (await healthy.letter("bob@home.example")).startswith("250 2.0.0")
        assert service.receiver.sessions == 1


@scenario(5)
@pytest.mark.parametrize("wrong", [Wrong.STALL, Wrong.DRIP])
@virtual
async def test_an_exchanger_that_never_greets_costs_five_minutes_and_then_the_next_one_is_asked(wrong: Wrong) -> None:
    """The first exchanger took the connection and never greeted; the second was never asked."""
    silent, second = Peer(always={"banner": wrong}), Peer()
    async with whole(BY_MX, {ONE: silent, TWO: second}, zone=TWO_EXCHANGERS) as service:
        name = await service.take("bob@far.example")
        await asyncio.sleep(5 * MINUTE + 1)
        assert bodies(second) == [LETTER]
        assert await service.attempts(name) == 1


@scenario(6)
@virtual
async def test_time_outs_give_their_connections_back_and_the_host_gets_all_its_mail_once_it_wakes() -> None:
    """Each greeting that never came left a connection counted for ever, until none was left for that host."""
    sleeper = Peer(always={"banner": Wrong.STALL})
    async with whole(to_host("far.example", ONE, "concurrency = 2"), {ONE: sleeper}) as service:
        for number in range(30):
            await service.take(f"user{number}@far.example")
        await asyncio.sleep(8 * HOUR)
        assert len(sleeper.connections) > 4
        sleeper.always = {}
        await asyncio.sleep(2 * HOUR)
        assert len(set(accepted_by(sleeper))) == len(accepted_by(sleeper)) == 30


class EarlyEnd:
    """A host that, with the body half through, says `last_words` and hangs up; from the second connection on it does
    not."""

    def __init__(self, last_words: bytes, then: Peer) -> None:
        self.last_words = last_words
        self.then = then
        self.seen = 0

    async def __call__(self, stream: Stream) -> None:
        if self.seen:
            await self.then(stream)
            return
        stream.write(b"220 peer.example\r\n")
        octets = b""
        while self.seen < 50_000:
            heard = await stream.read(FOREVER)
            if isinstance(heard, Fault):
                return
            octets += heard
            if self.seen:
                self.seen += len(heard)
                continue
            while b"\r\n" in octets:
                line, _, octets = octets.partition(b"\r\n")
                stream.write(b"354 go\r\n" if line == b"DATA" else b"250 ok\r\n")
                self.seen += line == b"DATA"
        stream.write(self.last_words)


@scenario(7)
@pytest.mark.parametrize(
    ("last_words", "reports", "copies"),
    [(b"552 5.2.2 mailbox full\r\n", 1, 0), (b"421 4.3.2 closing\r\n", 0, 1), (b"", 0, 1)],
    ids=["552", "421", "nothing"],
)
@virtual
async def test_a_host_that_ends_in_mid_body_is_heard_at_once_and_means_what_it_says(
    last_words: bytes, reports: int, copies: int
) -> None:
    """A host answered and hung up in the middle of the body; the thread that sent it waited for ever."""
    peer = Peer()
    async with whole(SMART_HOST, {ONE: EarlyEnd(last_words, peer)}) as service:
        await service.take("bob@far.example", octets=b"Subject: long\r\n\r\n" + (b"x" * 98 + b"\r\n") * 5000)
        await asyncio.sleep(2 * MINUTE)
        assert len(await service.inbox()) == reports
        assert len(peer.accepted) == copies
        assert await service.queue() == []


@scenario(8)
@pytest.mark.parametrize("state", ["banner", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("wrong", [Wrong.GARBAGE, Wrong.LONG, Wrong.ENDLESS, Wrong.MIXED])
@virtual
async def test_a_reply_that_is_none_defers_the_mail_to_that_host_alone(state: str, wrong: Wrong) -> None:
    """A reply line that was none crashed the service."""
    broken, healthy = Peer(plan={state: [wrong]}), Peer()
    async with whole(BROKEN_AND_HEALTHY, {ONE: broken, TWO: healthy}) as service:
        await service.take("bob@broken.example")
        await service.take("bob@healthy.example")
        await asyncio.sleep(1)
        assert bodies(healthy) == [LETTER]
        await asyncio.sleep(2 * MINUTE)
        assert bodies(broken) == [LETTER]
        assert await service.inbox() == []


class OneMessageEach(Peer):
    """A host that knows no second transaction in a session."""

    def due(self, state: str) -> Behaviour:
        says_mail_again = sum(command.startswith("MAIL") for command in self.connections[-1]) > 1
        return "503 5.5.1 sender already specified" if state == "MAIL" and says_mail_again else super().due(state)


@scenario(9)
@virtual
async def test_a_host_that_is_confused_by_a_second_message_gets_it_on_a_connection_of_its_own() -> None:
    """A host answered 503 to the second message of a session, and that message was returned."""
    peer = OneMessageEach()
    async with whole(to_host("far.example", ONE, "concurrency = 1"), {ONE: peer}) as service:
        for number in range(5):
            await service.take(f"user{number}@far.example")
        await asyncio.sleep(2 * HOUR)
        assert await service.inbox() == []
        assert sorted(accepted_by(peer)) == [f"user{number}@far.example" for number in range(5)]


@scenario(10)
@pytest.mark.parametrize("state", ["banner", "HELO", "MAIL", "RCPT", "DATA"])
@virtual
async def test_a_host_that_resets_is_tried_by_the_schedule_and_the_queue_says_why(state: str) -> None:
    """A host reset each connection and was tried again without a pause, while the backlog grew."""
    peer = Peer(always={state: Wrong.RST, "EHLO": Wrong.RST})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        name = await service.take("bob@far.example")
        await asyncio.sleep(HOUR)
        assert await service.attempts(name) == 5  # at once, and after 1, 5, 15 and 30 minutes
        assert len(peer.connections) <= 10
        (entry,) = await service.queue()
        assert "reset by the peer" in entry.last_outcome
        assert entry.due_at > service.clock.now()


@scenario(11)
@virtual
async def test_without_a_certificate_starttls_is_not_offered_and_refused_in_step() -> None:
    """STARTTLS was offered without a certificate, and clients that took the offer failed."""
    async with whole() as service:
        client = await service.connect()
        await client.hear()
        client.stream.write(b"EHLO client.example\r\n")
        await asyncio.sleep(0.01)
        offered = client.stream.pending()
        assert isinstance(offered, bytes)
        assert b"STARTTLS" not in offered
        await client.hear()
        assert (await client.say("STARTTLS")).startswith("502 5.5.1")
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")


@asynccontextmanager
async def tls_server(certificate: trustme.LeafCert, seen: list[list[bytes]]) -> AsyncIterator[Endpoint]:
    """A host that speaks STARTTLS on a socket; the recipients of each message it took under TLS go into `seen`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[bytes] = []
        offers = b"250-peer.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
        writer.write(b"220 peer.example\r\n")
        while line := await reader.readline():
            match line[:4]:
                case b"EHLO":
                    writer.write(offers)
                case b"STAR":
                    writer.write(b"220 go\r\n")
                    await writer.start_tls(context)
                    offers = b"250-peer.example\r\n250 PIPELINING\r\n"
                case b"RCPT":
                    recipients.append(line)
                    writer.write(b"250 ok\r\n")
                case b"DATA":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    seen.append(recipients)
                    recipients = []
                    writer.write(b"250 kept\r\n")
                case b"QUIT":
                    break
                case _:
                    writer.write(b"250 ok\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Endpoint(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()


@scenario(13)
async def test_thousands_of_recipients_pass_under_tls_each_once() -> None:
    """A message to very many recipients, sent under TLS, crashed the service."""
    seen: list[list[bytes]] = []
    async with tls_server(trustme.CA().issue_cert("peer.example"), seen) as host:
        route = f'[[route]]\ndomains = ["far.example"]\nto = "smtp://{host}"\ntls = "required"\nrecipients = 700\n'
        limits = "[limits]\nrecipients = 3000\n"
        async with whole(route + limits, dialer=AsyncioDialer()) as service, asyncio.timeout(30):
            await service.take(*(f"user{number}@far.example" for number in range(3000)))
            while await service.queue():  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
    assert sorted(len(recipients) for recipients in seen) == [200, 700, 700, 700, 700]
    assert len({recipient for recipients in seen for recipient in recipients}) == 3000


@scenario(14)
@virtual
async def test_the_banner_waits_for_no_look_up_and_a_client_too_many_is_told_so_at_once() -> None:
    """A reverse look-up before the banner, of clients beyond the limit too, made peers give up."""
    async with whole(SMART_HOST + "[limits]\nconnections = 20\n") as service:
        connections = [await service.connect(f"203.0.113.{number}") for number in range(25)]
        greetings, seconds = await elapsed(asyncio.gather(*(client.hear() for client in connections)))
        assert [greeting[:3] for greeting in greetings] == ["220"] * 20 + ["421"] * 5
        assert seconds == 0
        assert service.dns.asked == []


@scenario(16)
@virtual
async def test_ehlo_may_be_said_again_at_any_time_and_forgets_the_transaction() -> None:
    """A client that used its session again by a second EHLO was answered 503."""
    async with whole() as service:
        client = await service.client()
        assert (await client.say("RSET", "EHLO client.example")).startswith("250 ")
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")
        assert (await client.say("EHLO client.example")).startswith("250 ")
        await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<carol@home.example>")
        assert (await client.say("HELO client.example")).startswith("250 ")
        assert (await client.say("RCPT TO:<dora@home.example>")).startswith("503 ")
        assert (await client.letter("emil@home.example")).startswith("250 2.0.0")


@scenario(10)
@virtual
async def test_a_refused_connection_is_no_reason_to_forget_the_schedule_for_days() -> None:
    """A host reset each connection and was tried again without a pause, while the backlog grew."""
    async with whole(SMART_HOST, {ONE: Fault(FaultKind.REFUSED)}) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(DAY)
        assert 20 <= len(service.network.dialled) <= 30


@pytest.mark.parametrize(("word", "goes"), [("unless-tls", 1), ("never", 0), ("always", 1)])
@virtual
async def test_a_route_says_whether_a_host_that_breaks_on_ehlo_is_greeted_with_helo(word: str, goes: int) -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    async with whole(to_host("far.example", "192.0.2.1", f'helo_fallback = "{word}"'), {"192.0.2.1": peer}) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        assert len(peer.accepted) == goes
        for entry in await service.queue():
            assert "the route never says HELO" in entry.last_outcome
            assert peer.verbs[:2] == [["EHLO"], ["EHLO"]]
