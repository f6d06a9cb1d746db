"""Sending by hand, against the peer: what it shows, and what it says came of it."""

from datetime import timedelta

import pytest

from waypost.admin.peer import FaultyPeer
from waypost.admin.send import Sent, compose, send
from waypost.mail.errand import Letter, with_crlf
from waypost.net.dialer import AsyncioDialer
from waypost.net.stream import Endpoint
from waypost.smtp.path import Mailbox, NullPath, parse_mailbox

FROM, ONE, TWO = (parse_mailbox(each) for each in ("a@example.org", "b@example.com", "c@example.com"))


async def sent(
    peer: FaultyPeer, *recipients: Mailbox, octets: bytes = b"Subject: x\r\n\r\n.dot\r\n", within: float = 5
) -> tuple[Sent, list[tuple[str, str]]]:
    """What came of it, and the dialogue."""
    lines: list[tuple[str, str]] = []
    result = await send(
        AsyncioDialer(),
        peer.endpoint,
        Letter(FROM, recipients or (ONE,), octets),
        hello_name="us.example.org",
        within=timedelta(seconds=within),
        watch=lambda mark, text: lines.append((mark, text)),
    )
    return result, lines


async def test_a_message_arrives_as_it_was_given() -> None:
    async with FaultyPeer() as peer:
        result, lines = await sent(peer, ONE, TWO)
        assert result.all_accepted
        assert [answer.recipient for answer in result.answers] == ["b@example.com", "c@example.com"]
        [message] = peer.accepted
        assert (message.octets, message.reverse_path) == (b"Subject: x\r\n\r\n.dot\r\n", "a@example.org")
        assert ("C", "EHLO us.example.org") in lines
        assert ("S", "354 go on, end with a dot on its own line") in lines


async def test_one_refused_recipient_is_told_apart_from_one_accepted() -> None:
    async with FaultyPeer("rcpt:550 5.1.1 no such user*1") as peer:
        result, _ = await sent(peer, ONE, TWO)
        assert [(answer.accepted, answer.reply[:3]) for answer in result.answers] == [(False, "550"), (True, "250")]
        assert not result.all_accepted


@pytest.mark.parametrize("state", ["mail", "data", "dot"])
async def test_a_refusal_of_the_message_is_every_recipients(state: str) -> None:
    async with FaultyPeer(f"{state}:554 5.7.1 no") as peer:
        result, _ = await sent(peer, ONE, TWO)
        assert [answer.reply for answer in result.answers] == ["554 5.7.1 no"] * 2
        assert not result.all_accepted


async def test_a_lost_ehlo_leads_to_helo_on_a_new_connection() -> None:
    async with FaultyPeer("ehlo:close") as peer:
        result, lines = await sent(peer)
        assert result.all_accepted
        assert [dialogue.verbs[0] for dialogue in peer.dialogues] == ["EHLO", "HELO"]
        assert ("*", "lost on EHLO: a new connection, HELO first") in lines


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("banner:554 go away", "554"),
        ("banner:close", "closed by the peer while waiting for the greeting"),
        ("helo:close", "closed by the peer while waiting for the reply to HELO"),
        ("mail:reset", "while waiting for the reply to MAIL"),
        ("mail:garbage", "no reply"),
        ("rcpt:close", "while waiting for the reply to RCPT"),
        ("dot:close", "while waiting for the reply to the final dot"),
    ],
)
async def test_a_dialogue_that_breaks_is_no_success_and_says_where(fault: str, trouble: str) -> None:
    faults = ("ehlo:close", fault) if fault.startswith("helo") else (fault,)
    async with FaultyPeer(*faults) as peer:
        result, _ = await sent(peer)
        assert not result.all_accepted
        assert trouble in result.trouble


async def test_silence_ends_after_the_time_given() -> None:
    async with FaultyPeer("mail:stall") as peer:
        result, _ = await sent(peer, within=0.05)
        assert "timed out" in result.trouble


async def test_nobody_listening_is_said() -> None:
    async with FaultyPeer() as peer:
        gone = FaultyPeer(port=peer.endpoint.port)
    result, _ = await sent(gone)
    assert "connection refused" in result.trouble
    assert Endpoint("127.0.0.1", gone.endpoint.port) == gone.endpoint


def test_a_composed_message_has_the_fields_it_needs_and_no_injected_ones() -> None:
    octets = compose(NullPath(), (ONE,), "a\r\nBcc: x@example.com", "Grüße", now=0.0, message_id="<1@us.example.org>")
    header, _, _ = octets.partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in header.split(b"\r\n") if not line.startswith(b" ")]
    assert {b"From", b"To", b"Subject", b"Date", b"Message-ID", b"MIME-Version"} <= set(names)
    assert b"Bcc" not in names


@pytest.mark.parametrize("octets", [b"a\nb", b"a\r\nb\r\n", b"a\rb\n", b"a\r\nb"])
def test_a_files_line_ends_become_crlf(octets: bytes) -> None:
    assert with_crlf(octets) == b"a\r\nb\r\n"


@pytest.mark.parametrize("fault", ["ehlo:extra", "data:extra", "dot:early"])
async def test_a_server_that_says_more_than_it_was_asked_makes_no_success_and_no_bug(fault: str) -> None:
    """Two replies in one read: the first gave leave to go on, the second ended the session."""
    async with FaultyPeer(fault) as peer:
        result, _ = await sent(peer)
        assert not result.all_accepted
        assert "nobody asked" in result.trouble
