"""What clients ask by extensions, through the whole service: taken, kept, and handed on or answered by us."""

from __future__ import annotations

import asyncio

import pytest

from tests.deliver.peer import EXTENSIONS, Peer, Wrong
from tests.scenarios.whole import AUTHOR, SMART_HOST, Whole, bodies, whole
from tests.virtual import virtual

ONE = "192.0.2.1"
BINARY = b"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n.\r\n\r\xff"
TEXT = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "Grüße\r\n".encode()
SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n\xe4\r\n--s\r\nContent-Type: x/y\r\n\r\n--s--\r\n"
)
CHUNKING = (*EXTENSIONS, "CHUNKING", "BINARYMIME")


async def send_chunked(service: Whole, octets: bytes, *, body: str = "BINARYMIME") -> None:
    """One message in two chunks and an empty last one."""
    client = await service.client()
    assert (await client.say(f"MAIL FROM:<{AUTHOR}> BODY={body}", "RCPT TO:<bob@far.example>")).startswith("250")
    half = len(octets) // 2
    for piece in (octets[:half], octets[half:]):
        assert (await client.send(f"BDAT {len(piece)}\r\n".encode() + piece)).startswith("250")
    assert (await client.say("BDAT 0 LAST")).startswith("250 2.0.0 Ok: queued as ")
    await client.say("QUIT")
    await asyncio.sleep(1)


@virtual
async def test_a_binary_body_is_handed_on_octet_by_octet_as_it_came() -> None:
    peer = Peer(extensions=CHUNKING)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_chunked(service, BINARY)
        assert bodies(peer) == [BINARY]
        assert peer.connections[0][-1].startswith("BDAT ")
        assert " BODY=BINARYMIME" in peer.connections[0][1]


@virtual
async def test_a_binary_body_is_converted_for_a_next_hop_that_takes_none() -> None:
    peer = Peer()
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_chunked(service, BINARY)
        (body,) = bodies(peer)
        assert body.endswith(b"Content-Transfer-Encoding: base64\r\n\r\nAAouDQoN/w==\r\n")


@virtual
async def test_a_binary_body_that_is_signed_comes_back_where_the_next_hop_takes_none() -> None:
    async with whole(SMART_HOST, {ONE: Peer()}) as service:
        await send_chunked(service, SIGNED.replace(b"\xe4", b"\0"))
        (report,) = await service.inbox()
        assert b"Status: 5.6.3" in report
        assert b"BINARYMIME" in report


@virtual
async def test_a_chunk_that_was_cut_off_is_no_message() -> None:
    async with whole(SMART_HOST, {ONE: Peer()}) as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@far.example>")
        client.stream.write(b"BDAT 100 LAST\r\nSubject: x\r\n\r\n")
        client.stream.abort()
        await asyncio.sleep(1)
        assert await service.queue() == []


@pytest.mark.parametrize("wrong", [Wrong.FIN, Wrong.RST, Wrong.STALL])
@virtual
async def test_a_last_chunk_that_is_not_answered_leaves_the_message_in_doubt(wrong: Wrong) -> None:
    peer = Peer(extensions=CHUNKING, plan={"dot": [wrong]})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_chunked(service, BINARY)
        await asyncio.sleep(700)
        (entry,) = await service.queue()
        assert "may hold" in entry.last_outcome
        await asyncio.sleep(3600)
        assert bodies(peer) == [BINARY]


@virtual
async def test_a_large_body_goes_in_one_chunk_where_the_next_hop_takes_chunks() -> None:
    peer = Peer(extensions=("PIPELINING", "CHUNKING"))
    letter = b"Subject: large\r\n\r\n" + b"." * 70 + b"\r\n" + b"0123456789\r\n" * 100_000
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take("bob@far.example", octets=letter)
        await asyncio.sleep(1)
        assert bodies(peer) == [letter]
        assert peer.verbs[0][:4] == ["EHLO", "MAIL", "RCPT", "BDAT"]


@virtual
async def test_8bit_mail_is_converted_for_a_host_that_breaks_on_ehlo() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_chunked(service, TEXT, body="8BITMIME")
        (body,) = bodies(peer)
        assert body.endswith(b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n")
