"""A client that never read our 250 sends again, as it must (RFC 1047): what becomes of the second copy."""

from __future__ import annotations

import asyncio

import pytest

from tests.receive.house import begin
from tests.scenarios.whole import LETTER, US, Whole, whole
from tests.virtual import virtual

UNNAMED = LETTER.replace(b"Message-ID: <1@home.example>\r\n", b"")
ENVELOPE = ("MAIL FROM:<alice@home.example>", "RCPT TO:<bob@home.example>", "RCPT TO:<carl@home.example>", "DATA")


async def lose(service: Whole, letter: bytes = LETTER, envelope: tuple[str, ...] = ENVELOPE) -> None:
    """Send a letter, and be gone before its 250."""
    client = await service.client(US)
    assert (await client.say(*envelope))[:3] == "354"
    client.stream.write(letter + b".\r\n")
    await client.stream.close()
    await client.task


async def again(service: Whole, letter: bytes = LETTER, envelope: tuple[str, ...] = ENVELOPE, host: str = US) -> str:
    client = await service.client(host)
    assert (await client.say(*envelope))[:3] == "354"
    return await client.send(letter + b".\r\n")


async def kept(service: Whole) -> int:
    await asyncio.sleep(1)
    return len(await service.inbox())


@virtual
async def test_a_message_whose_250_was_lost_is_kept_once_and_its_client_told_its_name() -> None:
    async with whole() as service:
        await lose(service)
        first, second = await again(service), await again(service)
        assert first == second
        assert first.startswith("250 2.0.0 Ok: queued as ")
        assert await kept(service) == 1


@virtual
async def test_recipients_may_come_in_another_order() -> None:
    async with whole() as service:
        await lose(service)
        mail, bob, carl, data = ENVELOPE
        await again(service, envelope=(mail, carl, bob, data))
        assert await kept(service) == 1


OTHERS = {
    "another body": {"letter": LETTER.replace(b"\r\n\r\n", b"\r\n\r\nPS\r\n", 1)},
    "another author": {"envelope": ("MAIL FROM:<eve@home.example>", *ENVELOPE[1:])},
    "a recipient less": {"envelope": (*ENVELOPE[:2], "DATA")},
    "another parameter": {"envelope": (*ENVELOPE[:2], "RCPT TO:<carl@home.example> NOTIFY=NEVER", "DATA")},
    "another client": {"host": "10.0.0.99"},
}


@virtual
@pytest.mark.parametrize("other", OTHERS)
async def test_what_differs_in_anything_is_another_message(other: str) -> None:
    async with whole() as service:
        await lose(service)
        await again(service, **OTHERS[other])  # type: ignore[arg-type]  # each has its own type
        assert await kept(service) == 2


@virtual
async def test_without_a_message_id_both_are_kept_for_each_may_be_meant() -> None:
    async with whole() as service:
        await lose(service, UNNAMED)
        await again(service, UNNAMED)
        assert await kept(service) == 2


@virtual
async def test_a_client_that_went_on_after_its_250_meant_each() -> None:
    async with whole() as service:
        client = await service.client(US)
        for _ in range(2):
            await client.say(*ENVELOPE)
            assert (await client.send(LETTER + b".\r\n"))[:3] == "250"
        await client.say("NOOP")
        await client.stream.close()
        await client.task
        await again(service)
        assert await kept(service) == 3


@virtual
async def test_after_an_hour_it_is_forgotten() -> None:
    async with whole('[limits]\nresent = "1h"\n') as service:
        await lose(service)
        await asyncio.sleep(3601)
        await again(service)
        assert await kept(service) == 2


@virtual
async def test_what_was_too_large_for_memory_is_kept_twice() -> None:
    large = LETTER + b"x" * 76 + b"\r\n"
    async with whole() as service:
        for _ in range(2):
            await lose(service, large * 5000)
        assert await kept(service) == 2


@virtual
async def test_octets_kept_to_compare_with_are_given_back() -> None:
    talk = await begin()
    await talk.open_data()
    assert (await talk.send(LETTER + b".\r\n"))[:3] == "250"
    assert talk.house.in_flight.held > len(LETTER)
    await talk.say("NOOP")
    assert talk.house.in_flight.held == 0
    await talk.end()


@virtual
async def test_of_messages_in_one_segment_none_stays_counted() -> None:
    talk = await begin()
    await talk.say("EHLO us.example")
    whole_message = b"MAIL FROM:<a@us.example>\r\nRCPT TO:<bob@ours.example>\r\nBDAT %d LAST\r\n" % len(LETTER) + LETTER
    talk.stream.write(whole_message * 3)
    assert [(await talk.hear())[:3] for _ in range(9)] == ["250"] * 9
    await talk.say("NOOP")
    assert talk.house.in_flight.held == 0
    await talk.end()
