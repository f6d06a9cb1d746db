"""A session over a stream in memory, by a clock that jumps: what is stored, what is answered, and when it ends."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.receive.house import (
    BANNER,
    FAILED,
    FULL,
    HOSTNAME,
    MESSAGE,
    Broken,
    Failing,
    Hiccup,
    Slow,
    Taker,
    begin,
    make_door,
    make_house,
)
from tests.virtual import elapsed, settled, virtual
from waypost.net.memory import MemoryStream, connected_pair
from waypost.net.stream import Endpoint, Speaks
from waypost.queue.memory import MemoryStorage
from waypost.receive.session import Session
from waypost.receive.settings import ReceiveSettings

DOT = b"\r\n.\r\n"


@virtual
async def test_a_message_is_stored_with_our_trace_before_it_and_250_names_it() -> None:
    talk = await begin()
    assert await talk.open_data() == "354 end with a dot on a line of its own"
    reply = await talk.send(MESSAGE + b".\r\n")
    found = re.fullmatch(r"250 2\.0\.0 Ok: queued as (\w{13})", reply)
    assert found
    assert await talk.say("QUIT") == f"221 2.0.0 {HOSTNAME} goodbye"
    await talk.task
    assert await talk.stored() == [
        b"Received: from us.example ([192.0.2.1])\r\n"
        b"\tby mx.example.net with ESMTP id " + found[1].encode() + b"\r\n"
        b"\tfor <bob@ours.example>;\r\n"
        b"\tThu, 01 Jan 2026 00:00:00 +0000\r\n" + MESSAGE
    ]
    assert talk.log.ends == [("QUIT", 1)]
    assert [(name, size) for name, _, size in talk.log.taken] == [(found[1], len((await talk.stored())[0]))]


@virtual
async def test_leases_are_handed_on_while_somebody_wants_them() -> None:
    talk = await begin()
    await talk.open_data()
    await talk.send(MESSAGE + b".\r\n")
    assert isinstance(talk.house.onward, Taker)
    assert [lease.next_hop for lease in talk.house.onward.leases] == ["ours"]


@virtual
async def test_a_pipelining_client_gets_its_replies_in_order_and_in_one_write() -> None:
    talk = await begin()
    await talk.say("EHLO us.example")
    talk.stream.write(
        b"MAIL FROM:<a@us.example>\r\nRCPT TO:<b@ours.example>\r\nRCPT TO:<c@elsewhere.example>\r\nDATA\r\n"
    )
    await settled()
    batch = talk.stream.pending()
    assert isinstance(batch, bytes)
    assert [line[:3] for line in batch.splitlines()] == [b"250", b"250", b"550", b"354"]


@virtual
async def test_several_messages_pass_in_one_session() -> None:
    talk = await begin()
    for n in range(3):
        await talk.open_data()
        assert (await talk.send(b"Subject: %d\r\n\r\n.\r\n" % n)).startswith("250 2.0.0 Ok")
    await talk.say("QUIT")
    assert [body.rpartition(b"\r\n\r\n")[0][-1:] for body in await talk.stored()] == [b"0", b"1", b"2"]


@virtual
async def test_lmtp_answers_each_recipient_after_the_dot() -> None:
    talk = await begin(door=make_door(lmtp=True))
    await talk.say("LHLO us.example", "MAIL FROM:<>", "RCPT TO:<a@ours.example>", "RCPT TO:<b@ours.example>", "DATA")
    talk.stream.write(MESSAGE + b".\r\n")
    await settled(100)
    replies = talk.stream.pending()
    assert isinstance(replies, bytes)
    assert [line[:9] for line in replies.splitlines()] == [b"250 2.0.0"] * 2
    assert b"with LMTP id" in (await talk.stored())[0]
    assert b"for <" not in (await talk.stored())[0]


# ---- what is stored when the client goes away
STAGES = {
    "before EHLO": [],
    "after EHLO": ["EHLO us.example"],
    "after MAIL": ["EHLO us.example", "MAIL FROM:<a@us.example>"],
    "after RCPT": ["EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@ours.example>"],
    "after 354": ["EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@ours.example>", "DATA"],
}


@pytest.mark.parametrize("how", ["half_close", "abort", "close"])
@pytest.mark.parametrize("stage", STAGES)
@virtual
async def test_a_client_that_hangs_up_before_the_dot_leaves_nothing(stage: str, how: str) -> None:
    talk = await begin()
    await talk.say(*STAGES[stage])
    if stage == "after 354":
        talk.stream.write(MESSAGE)
        await settled()
    match how:
        case "half_close":
            talk.stream.half_close()
        case "abort":
            talk.stream.abort()
        case _:
            await talk.stream.close()
    _, seconds = await elapsed(talk.task)
    assert seconds < 1
    assert await talk.stored() == []
    assert talk.house.in_flight.held == 0
    assert talk.log.ends == [("reset by the peer" if how == "abort" else "closed by the peer", 0)]


@pytest.mark.parametrize("cut", range(1, len(DOT)))
@virtual
async def test_a_client_that_hangs_up_within_the_final_dot_leaves_nothing(cut: int) -> None:
    talk = await begin()
    await talk.open_data()
    talk.stream.write(MESSAGE[:-2] + DOT[:cut])
    await talk.end()
    assert await talk.stored() == []


@pytest.mark.parametrize("how", ["half_close", "abort", "close"])
@virtual
async def test_once_the_dot_was_read_the_message_is_kept_whatever_the_client_does(how: str) -> None:
    talk = await begin(make_house(Slow()))
    await talk.open_data()
    talk.stream.write(MESSAGE + b".\r\n")
    await asyncio.sleep(1)
    match how:
        case "half_close":
            talk.stream.half_close()
        case "abort":
            talk.stream.abort()
        case _:
            await talk.stream.close()
    await asyncio.sleep(0)
    if how == "half_close":
        assert (await talk.hear()).startswith("250 2.0.0 Ok")
    await talk.task
    assert len(await talk.stored()) == 1


@virtual
async def test_a_dot_and_an_end_of_stream_in_one_breath_are_a_whole_message() -> None:
    talk = await begin()
    await talk.open_data()
    talk.stream.write(MESSAGE + b".\r\n")
    talk.stream.half_close()
    assert (await talk.hear()).startswith("250 2.0.0 Ok")
    await talk.task
    assert len(await talk.stored()) == 1


@virtual
async def test_a_commit_that_is_told_to_stop_goes_on_and_its_reply_is_sent() -> None:
    talk = await begin(make_house(Slow()))
    await talk.open_data()
    talk.stream.write(MESSAGE + b".\r\n")
    await asyncio.sleep(1)
    for _ in range(3):
        talk.task.cancel()
        await asyncio.sleep(1)
    assert (await talk.hear()).startswith("250 2.0.0 Ok")
    assert (await talk.hear()).startswith("421 4.3.2")
    await talk.task
    assert len(await talk.stored()) == 1


@virtual
async def test_a_session_cut_off_in_the_body_says_421_and_stores_nothing() -> None:
    talk = await begin()
    await talk.open_data()
    talk.stream.write(MESSAGE)
    await settled()
    talk.task.cancel()
    assert (await talk.hear()).startswith("421 4.3.2")
    with pytest.raises(asyncio.CancelledError):
        await talk.task
    assert await talk.stored() == []
    assert talk.log.ends == [("cut off", 0)]


@pytest.mark.parametrize(
    ("said", "says", "speaks"),
    [
        ([], b"QUIT\r\n", Speaks.NO),
        ([], b"", Speaks.PERHAPS),
        (STAGES["after 354"], b"Subject: a body without end\r\n", Speaks.YES),
        ([], b"\x16\x03\x01 a handshake\r\n", Speaks.YES),
    ],
    ids=["quit", "silence", "body", "wrong door"],
)
@virtual
async def test_a_client_that_may_be_in_the_midst_of_speaking_is_heard_out(
    said: list[str], says: bytes, speaks: Speaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Speaks] = []

    async def close(stream: MemoryStream, peer_speaks: Speaks = Speaks.PERHAPS) -> None:
        closed.append(peer_speaks)
        stream.abort()

    monkeypatch.setattr(MemoryStream, "close", close)
    talk = await begin()
    await talk.say(*said)
    talk.stream.write(says)
    await talk.task
    assert closed == [speaks]


# ---- time-outs
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "after 354"])
@virtual
async def test_a_silent_client_is_told_421_after_five_minutes(stage: str) -> None:
    talk = await begin()
    await talk.say(*STAGES[stage])
    reply, seconds = await elapsed(talk.hear())
    assert reply.startswith("421 4.4.2")
    assert seconds == pytest.approx(300)
    assert await talk.hear() == "(CLOSED)"
    await talk.task
    assert talk.log.ends == [("timed out in the command", 0)]


@virtual
async def test_a_command_in_drips_gets_no_longer_than_a_whole_one() -> None:
    talk = await begin()

    async def drip() -> None:
        for octet in b"EHLO " + b"x" * 1000:
            talk.stream.write(bytes([octet]))
            await asyncio.sleep(60)

    dripping = asyncio.ensure_future(drip())
    reply, seconds = await elapsed(talk.hear())
    assert reply.startswith("421 4.4.2")
    assert seconds == pytest.approx(300)
    dripping.cancel()


@virtual
async def test_a_client_that_says_noop_now_and_then_is_not_timed_out() -> None:
    talk = await begin()
    for _ in range(5):
        await asyncio.sleep(240)
        assert await talk.say("NOOP") == "250 2.0.0 OK"


@virtual
async def test_a_body_that_stalls_is_given_three_minutes() -> None:
    talk = await begin()
    await talk.open_data()
    await asyncio.sleep(60)
    talk.stream.write(MESSAGE)
    reply, seconds = await elapsed(talk.hear())
    assert reply.startswith("421 4.4.2")
    assert 119 < seconds < 181
    await talk.task
    assert await talk.stored() == []


@virtual
async def test_a_body_of_one_octet_a_second_meets_an_absolute_limit() -> None:
    talk = await begin()
    await talk.open_data()

    async def drip() -> None:
        while True:
            talk.stream.write(b"x")
            await asyncio.sleep(1)

    dripping = asyncio.ensure_future(drip())
    reply, seconds = await elapsed(talk.hear())
    assert reply.startswith("421 4.4.2")
    assert 180 <= seconds < 190
    dripping.cancel()
    await talk.task
    assert await talk.stored() == []
    assert talk.house.in_flight.held == 0


@virtual
async def test_a_body_at_a_steady_pace_ends_within_the_hour_or_not_at_all() -> None:
    talk = await begin()
    await talk.open_data()

    async def pour() -> None:
        while True:
            talk.stream.write(b"x" * 62 + b"\r\n")
            talk.stream.write(b"y" * 9998 + b"\r\n")
            await asyncio.sleep(10)

    pouring = asyncio.ensure_future(pour())
    reply, seconds = await elapsed(talk.hear())
    assert reply.startswith("421 4.4.2")
    assert seconds == pytest.approx(3600, abs=10)
    pouring.cancel()


@virtual
async def test_a_client_that_never_reads_is_dropped() -> None:
    near, far = connected_pair()
    house = make_house()
    session = Session(far, make_door(), house)
    task = asyncio.ensure_future(session.run(BANNER))
    await settled()
    near.write(b"EHLO us.example\r\n")
    for _ in range(40):
        near.write(b"HELP\r\n" * 2000)  # the replies outgrow any window; the engine ends this, or the reply's time-out
        await settled()
    _, seconds = await elapsed(task)
    assert seconds <= 320


# ---- what goes wrong on our side
@pytest.mark.parametrize(
    ("storage", "reply"),
    [(Failing(FULL), "452 4.3.1"), (Failing(FAILED), "451 4.3.0"), (Broken(), "451 4.3.0")],
    ids=["full", "failed", "bug"],
)
@virtual
async def test_what_cannot_be_stored_is_a_4yz_and_the_session_goes_on(storage: MemoryStorage, reply: str) -> None:
    talk = await begin(make_house(storage))
    for _ in range(2):
        await talk.open_data()
        assert (await talk.send(MESSAGE + b".\r\n")).startswith(reply)
    assert (await talk.say("QUIT")).startswith("221")
    assert len(talk.log.troubles) == 2
    assert talk.log.ends == [("QUIT", 0)]


@virtual
async def test_a_spool_that_fails_in_mid_body_is_told_after_the_dot_and_the_dialogue_stays_in_step() -> None:
    talk = await begin(make_house(Failing(FULL), ReceiveSettings(spill=1000)))
    await talk.open_data()
    talk.stream.write(MESSAGE)
    for _ in range(100):
        talk.stream.write(b"MAIL FROM:<not@a.command>\r\n" * 10)
        await settled(3)
    assert (await talk.send(b".\r\n")).startswith("452 4.3.1")
    assert await talk.say("NOOP") == "250 2.0.0 OK"
    assert talk.house.in_flight.held == 0


@virtual
async def test_a_body_that_lost_a_piece_is_never_stored_though_the_spool_is_well_again() -> None:
    talk = await begin(make_house(Hiccup(), ReceiveSettings(spill=1000)))
    await talk.open_data()
    for _ in range(10):
        talk.stream.write(b"Subject: a line of a body\r\n" * 30)
        await settled(5)
    assert (await talk.send(b".\r\n")).startswith("452 4.3.1")
    assert await talk.stored() == []
    await talk.open_data()
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0 Ok")


@virtual
async def test_a_bug_in_routing_is_a_451_to_that_recipient_alone() -> None:
    talk = await begin()
    await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>")
    assert (await talk.say("RCPT TO:<b@bug.example>")).startswith("451 4.3.0")
    assert await talk.say("RCPT TO:<b@ours.example>") == "250 2.1.5 OK"
    assert [what for what, _ in talk.log.troubles] == ["Rcpt"]


@virtual
async def test_a_taker_that_fails_costs_no_mail_and_the_leases_go_back() -> None:
    class Bad(Taker):
        def take(self, leases: object) -> None:
            raise RuntimeError("no")

    talk = await begin(replace(make_house(), onward=Bad()))
    await talk.open_data()
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0 Ok")
    now = talk.house.clock.now()
    assert [hop.next_hop for hop in await talk.storage.ready(now, limit=5)] == ["ours"]


@virtual
async def test_a_log_that_raises_costs_nothing() -> None:
    class Bad:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("the log is gone")

    near, far = connected_pair()
    house = replace(make_house(), log=Bad())  # type: ignore[arg-type]  # that is the point
    await house.storage.open(owner="test")
    task = asyncio.ensure_future(Session(far, make_door(), house).run(BANNER))
    await settled()
    near.write(b"EHLO us.example\r\n")
    await settled()
    near.write(b"MAIL FROM:<a@us.example>\r\nRCPT TO:<b@ours.example>\r\nRCPT TO:<b@closed.example>\r\nDATA\r\n")
    await settled()
    near.write(MESSAGE + b".\r\n")
    await settled(100)
    near.write(b"QUIT\r\n")
    await task
    replies = near.pending()
    assert isinstance(replies, bytes)
    assert b"250 2.0.0 Ok: queued as" in replies
    assert replies.endswith(b"221 2.0.0 mx.example.net goodbye\r\n")


# ---- bodies: size, memory, faults, loops
@virtual
async def test_a_large_body_goes_to_the_spool_as_it_comes_and_memory_stays_bounded() -> None:
    talk = await begin(make_house(settings=ReceiveSettings(spill=10_000)))
    await talk.open_data()
    line = b"0123456789" * 9 + b"\r\n"
    talk.stream.write(b"Subject: large\r\n\r\n")
    for _ in range(100):
        talk.stream.write(line * 20)
        await settled(3)
        assert talk.house.in_flight.held <= 12_000
    assert (await talk.send(b".\r\n")).startswith("250 2.0.0 Ok")
    (octets,) = await talk.stored()
    assert octets.partition(b"Subject: large\r\n\r\n")[2] == line * 2000
    assert talk.house.in_flight.held == 0


@virtual
async def test_when_all_memory_is_taken_even_small_bodies_go_to_the_spool() -> None:
    talk = await begin()
    talk.house.in_flight.held = talk.house.in_flight.limit
    await talk.open_data()
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0 Ok")
    assert talk.house.in_flight.held == talk.house.in_flight.limit
    assert (await talk.stored())[0].endswith(MESSAGE)


@virtual
async def test_a_body_beyond_the_size_offered_is_read_to_its_end_and_refused() -> None:
    talk = await begin(door=make_door(size_limit=1000))
    await talk.open_data()
    for _ in range(100):
        talk.stream.write(b"x" * 98 + b"\r\n")
    assert (await talk.send(b".\r\n")).startswith("552 5.3.4")
    assert await talk.stored() == []
    await talk.open_data()
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250 2.0.0 Ok")


SMUGGLED = b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"


@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n.\r\r\n", b"\r\n\0.\r\n"],
    ids=lambda end: end.decode().encode("unicode_escape").decode() if isinstance(end, bytes) else "",
)
@virtual
async def test_no_false_end_of_data_smuggles_a_second_message(end: bytes, segment: int) -> None:
    talk = await begin(segment=segment)
    await talk.open_data()
    reply = await talk.send(b"Subject: a\r\n\r\nb" + end + SMUGGLED + DOT)
    assert reply.startswith("550 5.6.0")
    assert await talk.say("NOOP") == "250 2.0.0 OK"
    await talk.say("QUIT")
    assert await talk.stored() == []
    assert talk.log.taken == []


@pytest.mark.parametrize(("lines", "code"), [(99, "250"), (100, "554 5.4.6"), (150, "554 5.4.6")])
@pytest.mark.parametrize("spill", [256 * 1024, 500])
@virtual
async def test_a_message_that_goes_in_circles_is_refused(lines: int, code: str, spill: int) -> None:
    talk = await begin(make_house(settings=ReceiveSettings(spill=spill)))
    await talk.open_data()
    header = b"Received: from a by b; now\r\n" * lines + b"Subject: round\r\n\r\nReceived: in the body\r\n"
    for start in range(0, len(header), 333):
        talk.stream.write(header[start : start + 333])
        await settled(3)
    assert (await talk.send(b".\r\n")).startswith(code)


# ---- limits of a session
@virtual
async def test_a_session_ends_when_it_has_brought_enough_messages() -> None:
    talk = await begin(make_house(settings=ReceiveSettings(messages=2)))
    for _ in range(2):
        await talk.open_data()
        await talk.send(MESSAGE + b".\r\n")
    assert (await talk.say("MAIL FROM:<a@us.example>")).startswith("421 4.7.0")
    await talk.task


@virtual
async def test_a_recipient_too_many_is_deferred_and_the_others_get_the_message() -> None:
    talk = await begin(door=make_door(max_recipients=2))
    await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>")
    replies = [(await talk.say(f"RCPT TO:<{name}@ours.example>"))[:9] for name in "abc"]
    assert replies == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
    await talk.say("DATA")
    await talk.send(MESSAGE + b".\r\n")
    assert len(talk.log.taken[0][1].recipients) == 2


@virtual
async def test_a_client_of_too_many_errors_is_shown_out() -> None:
    talk = await begin(door=make_door(max_errors=3))
    talk.stream.write(b"FOO\r\n" * 3)
    await talk.task
    replies = talk.stream.pending()
    assert isinstance(replies, bytes)
    assert [line[:3] for line in replies.splitlines()] == [b"500"] * 3 + [b"421"]
    assert len(talk.log.refusals) == 3


@virtual
async def test_a_client_that_speaks_before_the_banner_is_turned_away() -> None:
    near, far = connected_pair()
    near.write(b"EHLO us.example\r\n")
    await Session(far, make_door(), make_house()).run(BANNER)
    heard = near.pending()
    assert isinstance(heard, bytes)
    assert heard.startswith(b"554 ")


@virtual
async def test_submission_takes_nothing_from_strangers() -> None:
    door = make_door(relay_clients_only=True)
    stranger = await begin(door=door)
    assert (await stranger.say("EHLO us.example", "MAIL FROM:<a@us.example>")).startswith("550 5.7.1")
    friend = await begin(door=door, client=Endpoint("10.1.2.3", 4000))
    assert (await friend.say("EHLO us.example", "MAIL FROM:<a@us.example>")).startswith("250")


# ---- leaving
@virtual
async def test_an_idle_session_asked_to_leave_says_421_at_once() -> None:
    talk = await begin()
    await talk.say("EHLO us.example")
    talk.session.leave()
    reply, seconds = await elapsed(talk.hear())
    assert reply == f"421 4.3.2 {HOSTNAME} is shutting down; try again later"
    assert seconds == 0
    await talk.task
    assert talk.log.ends == [("shutting down", 0)]


@virtual
async def test_a_session_asked_to_leave_in_a_transaction_ends_it_first() -> None:
    talk = await begin()
    await talk.open_data()
    talk.stream.write(MESSAGE)
    await settled()
    talk.session.leave()
    assert (await talk.send(b".\r\n")).startswith("250 2.0.0 Ok")
    assert (await talk.hear()).startswith("421 4.3.2")
    await talk.task
    assert len(await talk.stored()) == 1


@virtual
async def test_reset_forgets_the_transaction() -> None:
    talk = await begin()
    await talk.say("EHLO us.example", "MAIL FROM:<a@us.example>", "RCPT TO:<b@ours.example>", "RSET")
    await talk.say("MAIL FROM:<c@us.example>", "RCPT TO:<d@ours.example>", "DATA")
    await talk.send(MESSAGE + b".\r\n")
    envelope = talk.log.taken[0][1]
    assert str(envelope.reverse_path) == "c@us.example"
    assert [str(one.forward_path) for one in envelope.recipients] == ["d@ours.example"]


@virtual
async def test_time_outs_are_settings() -> None:
    talk = await begin(make_house(settings=ReceiveSettings(command=timedelta(seconds=7))))
    _, seconds = await elapsed(talk.hear())
    assert seconds == pytest.approx(7)
