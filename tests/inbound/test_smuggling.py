"""SMTP smuggling through the whole service: what one client sends as one message is never two at the next hop.

Each variant hides, in a body, a false end and a second transaction (RFC 5321 §2.3.8, §4.1.1.4). It is refused after the
true end, or passed on as one message; wherever the network cuts it, the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.deliver.peer import EXTENSIONS, Peer
from tests.scenarios.whole import AUTHOR, SMART_HOST, Whole, accepted_by, whole
from tests.virtual import virtual

ONE: Final = "192.0.2.1"
SMUGGLED: Final = b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<victim@far.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
TRUE_END: Final = b"\r\n.\r\n"
#: Refused: each holds a CR or LF alone, or a NUL, around what some server somewhere has taken for an end.
REFUSED: Final = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"\r\n\n.\n\r\n",
    b"\n\r.\n\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\0\n",
    b"\0\r\n.\n",
]
#: Taken as text: nobody may read an end into these, and they are octet by octet what the next hop gets.
TEXT: Final = [
    b"\r\n..\r\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n.\t\r\n",
    b"\r\n\t.\r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n.\x0c\r\n",
    b"\r\n.\xe2\x80\xa8\r\n",
    b"\r\n\xc2\x85.\xc2\x85\r\n",
    b"\r\n.=0D=0A",
]


def name(octets: object) -> str:
    return repr(octets)[2:-1] if isinstance(octets, bytes) else str(octets)


async def sent(service: Whole, body: bytes, *, segment: int = 0) -> str:
    """What is answered to a body sent as it stands, with its true end."""
    client = await service.client(segment=segment)
    await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@far.example>", "DATA")
    reply = await client.send(body + TRUE_END)
    assert await client.say("NOOP") == "250 2.0.0 OK"  # in step: nothing of the body was read as a command
    return reply


@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize("end", REFUSED, ids=name)
@virtual
async def test_a_false_end_is_refused_at_the_true_one_and_nothing_reaches_the_next_hop(
    end: bytes, segment: int
) -> None:
    peer = Peer()
    async with whole(SMART_HOST, {ONE: peer}) as service:
        reply = await sent(service, b"Subject: a\r\n\r\nb" + end + SMUGGLED, segment=segment)
        assert reply.startswith("550 5.6.0"), reply
        await asyncio.sleep(60)
        assert (peer.connections, await service.queue()) == ([], [])


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize("end", TEXT, ids=name)
@virtual
async def test_what_only_looks_like_an_end_is_text_and_one_message_at_the_next_hop(
    end: bytes,
    segment: int,
    pipelining: bool,  # noqa: FBT001 - a case
) -> None:
    peer = Peer(extensions=EXTENSIONS if pipelining else ("8BITMIME",))
    body = b"Subject: a\r\n\r\nb" + end + SMUGGLED
    async with whole(SMART_HOST, {ONE: peer}) as service:
        assert (await sent(service, body, segment=segment)).startswith("250 2.0.0")
        await asyncio.sleep(60)
        assert accepted_by(peer) == ["bob@far.example"]
        taken = peer.accepted[0][1].partition(b" +0000\r\n")[2]
        text = (b"\r\n" + body + b"\r\n").replace(b"\r\n.", b"\r\n")
        assert b"\r\n" + taken == text.replace(b"\r\n.", b"\r\n..")  # as the peer got it, stuffed anew


@pytest.mark.parametrize("end", [b"\r\n..\r\n", b"\r\n.\r", b"\n.\r\n"], ids=name)
@virtual
async def test_a_cut_at_any_octet_changes_nothing(end: bytes) -> None:
    body = b"Subject: a\r\n\r\nb" + end + SMUGGLED + TRUE_END
    replies = set()
    peer = Peer()
    async with whole(SMART_HOST, {ONE: peer}) as service:
        for cut in range(len(body) + 1):
            client = await service.client()
            await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@far.example>", "DATA")
            client.stream.write(body[:cut])
            await asyncio.sleep(0.01)
            client.stream.write(body[cut:])
            replies.add((await client.hear())[:9])
            assert (await client.say("QUIT"))[:3] == "221"
        await asyncio.sleep(60)
    refused = replies == {"550 5.6.0"}
    assert refused or replies == {"250 2.0.0"}
    assert len(peer.accepted) == (0 if refused else len(body) + 1)
    assert {recipients for recipients, _ in peer.accepted} <= {("bob@far.example",)}


# ---- what may be said together, and what may not (RFC 2920 §3.1)
LEAD: Final = b"MAIL FROM:<alice@home.example>\r\nRCPT TO:<bob@home.example>\r\n"
SECOND: Final = LEAD + b"DATA\r\n"


@pytest.mark.parametrize(
    ("octets", "replies"),
    [
        (b"EHLO client.example\r\n" + LEAD, ["554"]),
        (b"HELO client.example\r\n" + LEAD, ["554"]),
        (LEAD + b"DATA\r\nSubject: blind\r\n\r\nx\r\n.\r\n", ["250", "250", "554"]),
        (LEAD + b"DATA\r\nQUIT\r\n", ["250", "250", "554"]),
        (LEAD.replace(b"bob@home", b"bob@") + b"DATA\r\n.\r\nQUIT\r\n", ["250", "501", "554"]),
    ],
    ids=["behind EHLO", "behind HELO", "a body with DATA", "QUIT with DATA", "a body behind a refused DATA"],
)
@virtual
async def test_a_client_that_says_more_than_may_go_together_is_cut_off_and_nothing_is_taken(
    octets: bytes, replies: list[str]
) -> None:
    async with whole() as service:
        client = await service.client()
        client.stream.write(octets)
        *heard, end = await client.everything()
        assert [reply[:3] for reply in heard] == replies
        assert end == "(CLOSED)"
        assert await service.inbox() == []


@virtual
async def test_a_message_and_the_next_one_s_envelope_may_come_together() -> None:
    async with whole() as service:
        client = await service.client()
        await client.say("MAIL FROM:<alice@home.example>", "RCPT TO:<bob@home.example>", "DATA")
        client.stream.write(b"Subject: first\r\n\r\n.\r\n" + SECOND)
        assert [(await client.hear())[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        assert (await client.send(b"Subject: second\r\n\r\n.\r\n")).startswith("250")
        await asyncio.sleep(1)
        assert [b"first" in body for body in await service.inbox()] == [True, False]
