"""What one client may have of us, and all of them together: each limit met, its reply, and what is left after it."""

from __future__ import annotations

import asyncio

import pytest

from tests.receive.house import MESSAGE, begin, make_door, make_house
from tests.scenarios.whole import LETTER, SMART_HOST, STRANGER, whole
from tests.virtual import virtual
from waypost.receive.settings import ReceiveSettings
from waypost.smtp.patience import IDLE_COMMANDS, REFUSALS

#: What a client may say on and on, each for its own refusal or answer; and before it, once.
ENDLESS = [
    ([], "EHLO us.example"),
    ([], "NOOP"),
    ([], "RSET"),
    ([], "VRFY bob"),
    ([], "HELP"),
    ([], "DATA"),
    ([], "AUTH PLAIN"),
    ([], "FOO"),
    (["EHLO us.example"], "MAIL FROM:<a@us.example> SIZE=99999999999"),
    (["EHLO us.example", "MAIL FROM:<a@us.example>"], "RCPT TO:<c@elsewhere.example>"),
    (["EHLO us.example", "MAIL FROM:<a@us.example>"], "DATA"),
    (["EHLO us.example", "MAIL FROM:<a@us.example>"], "RCPT TO:<b@ours.example>"),
]


@pytest.mark.parametrize(("before", "line"), ENDLESS, ids=[f"{before[1:]}{line}" for before, line in ENDLESS])
@virtual
async def test_whatever_a_client_repeats_the_session_ends(before: list[str], line: str) -> None:
    talk = await begin(door=make_door(max_recipients=100))
    await talk.say(*before)
    said, reply = 0, ""
    while not reply.startswith("421 4.7.0"):
        reply = await talk.say(line)
        said += 1
        assert said <= REFUSALS + 200
    await talk.task
    assert await talk.stored() == []


@virtual
async def test_a_client_that_says_ehlo_before_each_of_its_messages_is_not_called_idle() -> None:
    talk = await begin()
    for _ in range(IDLE_COMMANDS + 20):
        await talk.open_data()
        assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0")


@virtual
async def test_a_thousand_wrong_recipients_end_no_session() -> None:
    talk = await begin()
    await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>")
    replies = {(await talk.say(f"RCPT TO:<{number}@elsewhere.example>"))[:9] for number in range(1000)}
    assert replies == {"550 5.7.1"}
    assert (await talk.say("RCPT TO:<b@ours.example>")) == "250 2.1.5 OK"
    assert (await talk.say("DATA"))[:3] == "354"
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0")


@virtual
async def test_header_lines_without_end_are_a_large_message_and_no_more() -> None:
    house = make_house(settings=ReceiveSettings(spill=20_000))
    talk = await begin(house, make_door(size_limit=2_000_000))
    await talk.open_data()
    for _ in range(300):
        talk.stream.write(b"X-Header: on and on\r\n" * 500)
        await asyncio.sleep(0.001)
        assert house.in_flight.held <= 80_000
    assert (await talk.send(b".\r\n")).startswith("552 5.3.4")
    assert house.in_flight.held == 0
    assert await talk.stored() == []


@pytest.mark.parametrize("host", ["203.0.113.%d", "2001:db8::%d"])
@virtual
async def test_one_network_of_clients_cannot_take_the_places_of_all(host: str) -> None:
    limits = SMART_HOST + "[limits]\nconnections = 30\nconnections_per_client = 5\n"
    one_host = "203.0.113.9" if "." in host else "2001:db8::%d"
    async with whole(limits) as service:
        crowd = [await service.connect(one_host % number if "%" in one_host else one_host) for number in range(1, 21)]
        greetings = [await client.hear() for client in crowd]
        assert [greeting[:9] for greeting in greetings].count("421 4.7.0") == 15
        client = await service.client()
        assert (await client.letter("bob@home.example")).startswith("250 2.0.0")


@pytest.mark.parametrize("host", ["203.0.113.%d", "2001:db8:0:%d::1"])
@virtual
async def test_many_clients_of_one_network_leave_places_for_the_others(host: str) -> None:
    limits = "[limits]\nconnections = 30\nconnections_per_client = 5\nconnections_per_network = 20\n"
    async with whole(SMART_HOST + limits) as service:
        crowd = [await service.connect(host % number) for number in range(1, 31)]
        greetings = [await client.hear() for client in crowd]
        assert [greeting[:3] for greeting in greetings] == ["220"] * 20 + ["421"] * 10
        assert greetings[-1] == "421 4.7.0 too many connections from your network; try again later"
        assert (await (await service.client()).letter("bob@home.example")).startswith("250 2.0.0")


@virtual
async def test_an_old_session_is_ended_once_its_transaction_has() -> None:
    async with whole(SMART_HOST + '[limits]\nsession = "10m"\n') as service:
        idle, busy, stuck = [await service.client() for _ in range(3)]
        begun = ("MAIL FROM:<alice@home.example>", "RCPT TO:<bob@home.example>")
        for _ in range(3):
            await asyncio.sleep(199)
            assert (await idle.say("NOOP"))[:3] == "250"
            assert (await busy.say("NOOP"))[:3] == "250"
            assert (await stuck.say("RSET", *begun))[:3] == "250"
        assert (await busy.say(*begun, "DATA"))[:3] == "354"
        farewell = "421 4.3.2 mx.example.net has served this session for long enough; try again later"
        assert await idle.everything() == [farewell, "(CLOSED)"]
        assert (await busy.send(LETTER + b".\r\n")).startswith("250 2.0.0")
        assert await busy.everything() == [farewell, "(CLOSED)"]
        for number in range(14):
            await asyncio.sleep(240)
            assert (await stuck.say(f"RCPT TO:<b{number}@home.example>"))[:3] == "250"
        assert await stuck.everything() == [farewell, "(CLOSED)"]  # body_total, an hour, after the farewell was due


@virtual
async def test_a_connection_too_many_is_let_go_and_its_place_is_nobody_s() -> None:
    async with whole(SMART_HOST + "[limits]\nconnections = 2\n") as service:
        for _ in range(50):
            first, second, third = [await service.connect(STRANGER) for _ in range(3)]
            assert [(await one.hear())[:3] for one in (first, second, third)] == ["220", "220", "421"]
            for one in (first, second, third):
                one.stream.abort()
                await one.task
        assert service.receiver.sessions == 0
