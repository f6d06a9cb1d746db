"""What clients ask by extensions, through the whole service: taken, kept, and handed on or answered by us."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.deliver.peer import EXTENSIONS, Peer, Wrong
from tests.scenarios.whole import AUTHOR, LETTER, SMART_HOST, STRANGER, US, Whole, accepted_by, bodies, to_host, whole
from tests.virtual import virtual

ONE, PROXY = "192.0.2.1", "10.0.0.9"
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
async def test_a_binary_body_is_converted_for_a_maildir_whose_line_ends_would_change_it(tmp_path: Path) -> None:
    """In a Maildir CRLF is LF: within an image that would be another image."""
    route = f"""[[route]]\ndomains = ["far.example"]\nto = "maildir:{tmp_path}/%u"\n"""
    async with whole(route) as service:
        await send_chunked(service, BINARY)
        await asyncio.sleep(1)
        (file,) = (tmp_path / "bob" / "new").iterdir()
        assert file.read_bytes().endswith(b"Content-Transfer-Encoding: base64\n\nAAouDQoN/w==\n")
        await send_chunked(service, SIGNED.replace(b"\xe4", b"\0"))
        assert b"Status: 5.6.3" in (await service.inbox())[0]


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


SUBMISSION = (
    SMART_HOST
    + """\
[[listener]]
address = "127.0.0.1:0"
role = "submission"
"""
)


@virtual
async def test_a_trusted_client_s_priority_is_passed_on_and_a_stranger_s_is_lowered() -> None:
    peer = Peer(extensions=(*EXTENSIONS, "MT-PRIORITY"))
    async with whole(SMART_HOST, {ONE: peer}) as service:
        client = await service.client()
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> MT-PRIORITY=4")).startswith("250 2.1.0")
        assert await client.say("RSET", f"MAIL FROM:<{AUTHOR}> MT-PRIORITY=-4", "RCPT TO:<bob@far.example>", "DATA")
        await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        await asyncio.sleep(1)
        assert peer.connections[0][1].endswith(" MT-PRIORITY=-4")
        stranger = await service.client(STRANGER)
        assert (await stranger.say("MAIL FROM:<eve@far.example> MT-PRIORITY=4")) == "250 2.3.6 OK, with priority 0"
        assert (await stranger.say("RSET", "MAIL FROM:<eve@far.example> MT-PRIORITY=-4")).startswith("250 2.1.0")


@virtual
async def test_of_mail_that_waits_for_its_turn_the_more_urgent_goes_first() -> None:
    peer = Peer(pauses={"dot": 60})
    async with whole(to_host("far.example", ONE, "concurrency = 1"), {ONE: peer}) as service:
        client = await service.client()
        for number, priority in enumerate([0, -9, 5, 9]):
            line = f"MAIL FROM:<{AUTHOR}> MT-PRIORITY={priority}"
            await client.say(line, f"RCPT TO:<user{number}@far.example>", "DATA")
            assert (await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")).startswith("250")
        await asyncio.sleep(3600)
        assert accepted_by(peer) == [f"user{number}@far.example" for number in (0, 3, 2, 1)]


@virtual
async def test_mail_is_held_as_long_as_its_author_wants_and_survives_a_look_at_the_queue() -> None:
    peer = Peer()
    async with whole(SUBMISSION, {ONE: peer}) as service:
        service.door = service.doors[1]
        client = await service.client()
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> HOLDFOR=604801")).startswith("501 5.5.4")
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> HOLDFOR=7200", "RCPT TO:<bob@far.example>", "DATA")) > "354"
        assert (await client.send(LETTER + b".\r\n")).startswith("250 2.0.0 Ok")
        await asyncio.sleep(7100)
        (entry,) = await service.queue()
        assert (entry.attempts, entry.state.value, peer.accepted) == (0, "waiting", [])
        await asyncio.sleep(200)
        assert bodies(peer) == [LETTER]


@virtual
async def test_what_may_be_held_is_offered_where_mail_is_submitted_and_nowhere_else() -> None:
    async with whole(SUBMISSION) as service:
        stranger = await service.client()
        assert (await stranger.say(f"MAIL FROM:<{AUTHOR}> HOLDFOR=60")).startswith("555 5.5.4")
        service.door = service.doors[1]
        client = await service.connect()
        await client.hear()
        client.stream.write(b"EHLO client.example\r\n")
        await client.hear()
        assert b"FUTURERELEASE 604800 " in client.said


@virtual
async def test_the_limits_a_next_hop_declares_are_kept() -> None:
    peer = Peer(extensions=(*EXTENSIONS, "LIMITS MAILMAX=2 RCPTMAX=3 RCPTDOMAINMAX=1"))
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await service.take(*(f"user{number}@{domain}.example" for number in range(4) for domain in ("far", "near")))
        await asyncio.sleep(1)
        assert sorted(len(to) for to, _ in peer.accepted) == [1, 1, 3, 3]
        assert all(len({address.rpartition("@")[2] for address in to}) == 1 for to, _ in peer.accepted)
        assert all(verbs.count("MAIL") <= 2 for verbs in peer.verbs)


BEHIND_A_PROXY = (
    SMART_HOST
    + f"""\
[[listener]]
address = "127.0.0.1:0"
proxies = ["{PROXY}"]
"""
)


@pytest.mark.parametrize("segment", [0, 1])
@virtual
async def test_behind_a_proxy_the_client_is_whom_it_names(segment: int) -> None:
    peer = Peer()
    async with whole(BEHIND_A_PROXY, {ONE: peer}) as service:
        service.door = service.doors[1]
        lines = ("EHLO client.example", f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@far.example>")
        client = await service.connect(PROXY, segment=segment)
        assert (await client.send(f"PROXY TCP4 {US} 192.0.2.2 49152 25\r\n".encode())).startswith("220 ")
        assert (await client.say(*lines)).startswith("250")
        client = await service.connect(PROXY, segment=segment)
        assert (await client.send(f"PROXY TCP4 {STRANGER} 192.0.2.2 49152 25\r\n".encode())).startswith("220 ")
        assert (await client.say(*lines)).startswith("550 5.7.1")
        assert (await client.say("RSET", "MAIL FROM:<eve@far.example>", "RCPT TO:<alice@home.example>")).startswith(
            "250"
        )
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        (octets,) = await service.inbox()
        assert f"[{STRANGER}]".encode() in octets
        assert PROXY.encode() not in octets


@virtual
async def test_a_proxy_that_says_nothing_of_its_client_is_cut_off_and_one_that_looks_at_our_health_is_not() -> None:
    async with whole(BEHIND_A_PROXY) as service:
        service.door = service.doors[1]
        silent = await service.connect(PROXY)
        assert await silent.hear() == "(RESET)"
        blunt = await service.connect(PROXY)
        assert await blunt.send(b"EHLO client.example\r\n") == "(RESET)"
        healthy = await service.connect(PROXY)
        assert (await healthy.send(b"PROXY UNKNOWN\r\n")).startswith("220 ")


@virtual
async def test_nobody_but_a_proxy_may_say_whose_connection_it_is() -> None:
    async with whole(BEHIND_A_PROXY) as service:
        service.door = service.doors[1]
        client = await service.connect(STRANGER)
        client.stream.write(f"PROXY TCP4 {US} 192.0.2.2 49152 25\r\n".encode())
        assert (await client.hear()).startswith("554 ")


@virtual
async def test_a_host_that_is_back_has_its_mail_tried_at_once_and_nobody_else_s() -> None:
    """RFC 1985: behind a line that is not always up, a server fetches its mail by asking for another try."""
    spoke = Peer(always={"banner": "421 not up"})
    routes = to_host("spoke.example", ONE) + to_host("other.example", "192.0.2.2")
    async with whole(routes, {ONE: spoke, "192.0.2.2": Peer(always={"banner": "421 not up"})}) as service:
        await service.take("bob@spoke.example", "bob@mail.spoke.example", "bob@other.example")
        await asyncio.sleep(1800)
        spoke.always = {}
        client = await service.client()
        assert await client.say("ETRN nowhere.example") == "251 2.0.0 no messages waiting for node nowhere.example"
        assert await client.say("ETRN spoke.example") == "253 2.0.0 1 pending messages for node spoke.example started"
        await asyncio.sleep(1)
        assert accepted_by(spoke) == ["bob@spoke.example"]
        assert (await client.say("ETRN @spoke.example")).startswith("253 2.0.0 1 ")
        await asyncio.sleep(1)
        assert sorted(accepted_by(spoke)) == ["bob@mail.spoke.example", "bob@spoke.example"]
        assert [entry.forward_path for entry in await service.queue()] == ["bob@other.example"]
        assert (await client.say("ETRN #smtp://192.0.2.2:25")).startswith("253 2.0.0 1 ")
        stranger = await service.client(STRANGER)
        assert (await stranger.say("ETRN spoke.example")).startswith("459 4.7.1")


# ---- a time to deliver by (RFC 2852)
BY = (*EXTENSIONS, "DELIVERBY", "DSN")


async def send_by(service: Whole, by: str, *, more: str = "") -> None:
    client = await service.client()
    assert (await client.say(f"MAIL FROM:<{AUTHOR}> BY={by}", f"RCPT TO:<bob@far.example>{more}", "DATA")) > "354"
    assert (await client.send(LETTER + b".\r\n")).startswith("250 2.0.0 Ok")
    await client.say("QUIT")
    await asyncio.sleep(1)


@virtual
async def test_a_message_that_is_late_comes_back_where_its_author_wants_it_so() -> None:
    peer = Peer(always={"banner": "421 not now"}, extensions=BY)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_by(service, "1000;R")
        await asyncio.sleep(990)
        assert len(await service.queue()) == 1
        tried = len(peer.connections)
        peer.always = {}
        await asyncio.sleep(20)
        (report,) = await service.inbox()
        assert b"Status: 5.4.7" in report
        assert (len(peer.connections), peer.accepted) == (tried, []), "nothing is sent once it is too late"


@virtual
async def test_a_message_that_is_late_goes_on_and_is_told_of_where_its_author_wants_it_so() -> None:
    peer = Peer(always={"banner": "421 not now"}, extensions=BY)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_by(service, "100;N")
        await asyncio.sleep(90)
        assert await service.inbox() == []
        await asyncio.sleep(20)
        (report,) = await service.inbox()
        assert b"Action: delayed" in report
        peer.always = {}
        await asyncio.sleep(1200)
        assert len(peer.accepted) == 1
        assert any(" BY=-" in line and ";N" in line for line in peer.connections[-1])


@virtual
async def test_the_time_that_is_left_is_passed_on() -> None:
    peer = Peer(plan={"banner": ["421 not now"]}, extensions=BY)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_by(service, "1000;R")
        await asyncio.sleep(120)
        (line,) = (line for line in peer.connections[-1] if line.startswith("MAIL"))
        left = int(line.partition(" BY=")[2].partition(";")[0])
        assert 900 <= left <= 941
        assert await service.inbox() == []


@pytest.mark.parametrize("extensions", [EXTENSIONS, (*EXTENSIONS, "DELIVERBY 2000")])
@virtual
async def test_a_message_that_is_to_come_back_is_not_given_to_who_keeps_no_time(extensions: tuple[str, ...]) -> None:
    peer = Peer(extensions=extensions)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_by(service, "1000;R")
        (report,) = await service.inbox()
        assert b"Status: 5.4.7" in report
        assert b"DELIVERBY" in report
        assert peer.accepted == []


@pytest.mark.parametrize(("by", "extensions", "told"), [("90;N", EXTENSIONS, 1), ("90;NT", BY, 1), ("90;N", BY, 0)])
@virtual
async def test_an_author_is_told_that_another_has_the_message_now(
    by: str, extensions: tuple[str, ...], told: int
) -> None:
    peer = Peer(extensions=extensions)
    async with whole(SMART_HOST, {ONE: peer}) as service:
        await send_by(service, by)
        assert len(peer.accepted) == 1
        assert [b"Action: relayed" in report for report in await service.inbox()] == [True] * told
        await send_by(service, by, more=" NOTIFY=NEVER")
        assert len(await service.inbox()) == told


@virtual
async def test_a_message_is_not_to_be_back_before_it_is_released() -> None:
    async with whole(SUBMISSION, {ONE: Peer()}) as service:
        service.door = service.doors[1]
        client = await service.client()
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> HOLDFOR=60 BY=60;R")).startswith("501 5.5.4")
        assert (await client.say(f"MAIL FROM:<{AUTHOR}> HOLDFOR=60 BY=61;R")).startswith("250")


# ---- priority (RFC 6710 §5.3 and §6, RFC 6758)
@virtual
async def test_the_priority_stands_in_the_trace_and_in_the_header_for_a_host_that_takes_none() -> None:
    peer = Peer()
    async with whole(SMART_HOST, {ONE: peer}) as service:
        client = await service.client()
        await client.say(f"MAIL FROM:<{AUTHOR}> MT-PRIORITY=4", "RCPT TO:<bob@far.example>", "DATA")
        await client.send(b"Subject: x\r\nMT-Priority: 9\r\n\r\nx\r\n.\r\n")
        await asyncio.sleep(1)
        ((_, octets),) = peer.accepted
        assert octets.startswith(b"MT-Priority: 4\r\nReceived: ")
        assert octets.count(b"MT-Priority") == 1
        assert b"\r\n\tPRIORITY 4;" in octets


@pytest.mark.parametrize(
    ("host", "said", "passed_on"), [(US, 4, "4"), (US, -4, "-4"), (STRANGER, 4, ""), (STRANGER, -4, "-4")]
)
@virtual
async def test_a_trusted_client_s_header_tells_the_priority_where_its_mail_command_does_not(
    host: str, said: int, passed_on: str
) -> None:
    """A stranger's may lower it, and never raise it."""
    peer = Peer(extensions=(*EXTENSIONS, "MT-PRIORITY"))
    async with whole(to_host("far.example", ONE), {ONE: peer}) as service:
        client = await service.client(host)
        letter = f"Subject: x\r\nMT-Priority: {said} (flash)\r\n\r\nx\r\n".encode()
        await client.letter("bob@far.example", octets=letter)
        await asyncio.sleep(1)
        assert peer.connections[0][1].partition(" MT-PRIORITY=")[2] == passed_on


@virtual
async def test_urgent_mail_is_tried_again_sooner_and_given_up_sooner() -> None:
    schedule = (
        '[retry]\nschedule = ["1h"]\njitter = 0.0\nurgent_schedule = ["1m"]\nurgent_expire = "150s"\n'
        'non_urgent_delay_notice = "1s"\n'
    )
    peer = Peer(always={"MAIL": "451 not now"}, extensions=(*EXTENSIONS, "MT-PRIORITY"))
    async with whole(SMART_HOST, {ONE: peer}, schedule=schedule) as service:
        for number, priority in enumerate([3, 0, -3]):
            client = await service.client()
            await client.say(f"MAIL FROM:<{AUTHOR}> MT-PRIORITY={priority}", f"RCPT TO:<u{number}@far.example>", "DATA")
            await client.send(LETTER + b".\r\n")
        await asyncio.sleep(160)
        (failed,) = await service.inbox()
        assert b"Final-Recipient: rfc822; u0@far.example" in failed
        assert b"Status: 5.4.7" in failed
        assert [entry.attempts for entry in await service.queue()] == [1, 1]
        await asyncio.sleep(3600)
        assert b"Action: delayed" in (await service.inbox())[1]
        assert b"u2@far.example" in (await service.inbox())[1]


@virtual
async def test_a_route_has_times_of_its_own_for_each_priority() -> None:
    schedule = '[retry]\nschedule = ["1h"]\njitter = 0.0\nurgent_expire = "10h"\n'
    own = SMART_HOST + 'schedule = ["2m"]\nexpire = "5m"\nurgent_schedule = ["1m"]\nnon_urgent_expire = "30m"\n'
    peer = Peer(always={"MAIL": "451 not now"}, extensions=(*EXTENSIONS, "MT-PRIORITY"))
    async with whole(own, {ONE: peer}, schedule=schedule) as service:
        for number, priority in enumerate([3, 0, -3]):
            client = await service.client()
            await client.say(f"MAIL FROM:<{AUTHOR}> MT-PRIORITY={priority}", f"RCPT TO:<u{number}@far.example>", "DATA")
            await client.send(LETTER + b".\r\n")
        await asyncio.sleep(290)
        attempts = {entry.forward_path: entry.attempts for entry in await service.queue()}
        assert attempts == {"u0@far.example": 5, "u1@far.example": 3, "u2@far.example": 3}
        await asyncio.sleep(30)
        (failed,) = await service.inbox()
        assert b"Final-Recipient: rfc822; u1@far.example" in failed
        await asyncio.sleep(1800)
        assert b"Final-Recipient: rfc822; u2@far.example" in (await service.inbox())[1]
        assert [entry.forward_path for entry in await service.queue()] == ["u0@far.example"]


# ---- TLS-Required: No (RFC 8689 §3)
@pytest.mark.parametrize("tls", ["required", "verify"])
@virtual
async def test_what_a_route_itself_demands_of_tls_holds_whatever_the_author_does_not_mind(tls: str) -> None:
    peer = Peer()
    async with whole(to_host("far.example", ONE, f'tls = "{tls}"'), {ONE: peer}) as service:
        await service.take("bob@far.example", octets=b"TLS-Required: No\r\n" + LETTER)
        await asyncio.sleep(1)
        assert peer.accepted == []
        assert len(await service.queue()) == 1


@pytest.mark.parametrize(("field", "goes"), [(b"TLS-Required: No\r\n", 1), (b"TLS-Required: yes\r\n", 0)])
@virtual
async def test_an_author_who_does_not_mind_gets_his_mail_through_though_the_domain_asks_for_tls(
    field: bytes, goes: int
) -> None:
    """Here the route by DANE finds no signed records, and would keep the mail back."""
    peer = Peer()
    zone = "far.example. 60 MX 10 mx.far.example.\nmx.far.example. 60 A 192.0.2.1"
    route = '[[route]]\ndomains = ["far.example"]\nto = "mx:"\ntls = "dane"\n'
    async with whole(route, {ONE: peer}, zone=zone) as service:
        await service.take("bob@far.example", octets=field + LETTER)
        await asyncio.sleep(1)
        assert len(peer.accepted) == goes


# ---- XCLIENT
FILTER = "10.0.0.9"
BEHIND_A_FILTER = (
    SMART_HOST
    + f"""\
[[listener]]
address = "127.0.0.1:0"
xclient = ["{FILTER}"]
[access]
reject = ["198.51.100.0/24"]
"""
)


@virtual
async def test_a_trusted_filter_hands_a_session_on_and_the_client_is_judged_and_traced_as_itself() -> None:
    async with whole(BEHIND_A_FILTER, {ONE: Peer()}) as service:
        service.door = service.doors[1]
        client = await service.client(FILTER)
        assert (await client.say(f"XCLIENT ADDR={US} PORT=4321")).startswith("220 ")
        lines = ("EHLO client.example", f"MAIL FROM:<{AUTHOR}>", "RCPT TO:<bob@far.example>")
        assert (await client.say(*lines)).startswith("250")
        assert (await client.say("RSET", f"XCLIENT ADDR={STRANGER} LOGIN=[UNAVAILABLE]")).startswith("220 ")
        assert (await client.say(*lines)).startswith("550 5.7.1")
        await client.say("RSET", "MAIL FROM:<eve@far.example>", "RCPT TO:<alice@home.example>", "DATA")
        await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        (octets,) = await service.inbox()
        assert f"from client.example ([{STRANGER}])".encode() in octets
        assert (await client.say("XCLIENT LOGIN=nobody")).startswith("550 5.7.1")
        assert (await client.say("XCLIENT ADDR=198.51.100.7")).startswith("421 4.7.1")


@virtual
async def test_nobody_but_a_trusted_filter_may_say_whose_session_it_is() -> None:
    async with whole(BEHIND_A_FILTER) as service:
        service.door = service.doors[1]
        client = await service.client(STRANGER)
        assert b"XCLIENT" not in client.said
        assert (await client.say(f"XCLIENT ADDR={US}")).startswith("502 ")


@virtual
async def test_the_tls_that_a_proxy_ended_is_believed_and_stands_in_the_trace() -> None:
    said = b"\x01" + bytes(4) + b"\x21\0\x07TLSv1.3" + b"\x23\0\x16TLS_AES_256_GCM_SHA384"
    added = b"\x20" + len(said).to_bytes(2) + said
    body = bytes([203, 0, 113, 9, 192, 0, 2, 2]) + (49152).to_bytes(2) + (465).to_bytes(2) + added
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(body).to_bytes(2) + body
    async with whole(BEHIND_A_PROXY) as service:
        service.door = service.doors[1]
        client = await service.connect(PROXY)
        assert (await client.send(header)).startswith("220 ")
        await client.say("EHLO client.example", "MAIL FROM:<eve@far.example>", "RCPT TO:<alice@home.example>", "DATA")
        await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        (octets,) = await service.inbox()
        assert b"with ESMTPS (TLSv1.3) id " in octets
        assert b"\r\n\ttls TLS_AES_256_GCM_SHA384;" in octets
        assert b"REQUIRETLS" in client.said


# ---- XCLIENT, as a client
@virtual
async def test_a_filter_hears_whose_mail_it_gets_and_each_client_s_comes_over_connections_of_its_own() -> None:
    filter_ = Peer(extensions=("XCLIENT NAME ADDR PROTO HELO LOGIN",), always={"XCLIENT": "220 filter.example"})
    async with whole(
        to_host("far.example", ONE, "xclient = true", 'accept_from = "anyone"'), {ONE: filter_}
    ) as service:
        for client in (US, STRANGER, US):
            session = await service.client(client)
            assert (await session.letter("bob@far.example")).startswith("250 ")
            await asyncio.sleep(1)
        said = [line for connection in filter_.connections for line in connection if line.startswith("XCLIENT")]
        assert said == [
            f"XCLIENT NAME=[UNAVAILABLE] ADDR={client} PROTO=ESMTP HELO=client.example" for client in (US, STRANGER)
        ]
        assert [connection.count("DATA") for connection in filter_.connections] == [2, 1]
        assert [verbs[:3] for verbs in filter_.verbs] == [["EHLO", "XCLIENT", "EHLO"]] * 2


@virtual
async def test_a_filter_that_refuses_to_hear_it_gets_no_mail() -> None:
    filter_ = Peer(extensions=("XCLIENT ADDR",), always={"XCLIENT": "550 5.7.0 insufficient authorization"})
    async with whole(to_host("far.example", ONE, "xclient = true"), {ONE: filter_}) as service:
        await service.take("bob@far.example")
        await asyncio.sleep(1)
        (waiting,) = await service.queue()
        assert "answered XCLIENT with 550 5.7.0 insufficient authorization" in waiting.last_outcome
        assert filter_.accepted == []


# ---- all of them
@virtual
async def test_a_listener_offers_what_it_takes_and_nothing_private() -> None:
    async with whole(SMART_HOST) as service:
        client = await service.client(STRANGER)
        offered = [line[4:].split(b" ")[0].decode() for line in client.said.splitlines()[2:]]
        assert {"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "ETRN", "CHUNKING"} <= {*offered}
        assert not [word for word in offered if word.startswith("X")]


@virtual
async def test_every_line_of_every_reply_but_greetings_and_354_carries_a_status_of_its_class() -> None:
    async with whole(SMART_HOST) as service:
        client = await service.client()
        greeted = len(client.said)
        for line in (
            *("NOOP", "FOO", "HELP", "VRFY bob", "EXPN x", "STARTTLS", "AUTH PLAIN x", "DATA", "RCPT TO:<x@y.example>"),
            *(
                "MAIL FROM:<",
                "MAIL FROM:<> FOO=1",
                "MAIL FROM:<> SIZE=99999999999",
                f"MAIL FROM:<{AUTHOR}>",
                "MAIL FROM:<>",
            ),
            *(
                "RCPT TO:<bob>",
                "RCPT TO:<bob@far.example>",
                "RSET",
                f"MAIL FROM:<{AUTHOR}>",
                "RCPT TO:<bob@far.example>",
            ),
            *("DATA", "Subject: x\r\n\r\nx\r\n.", "ETRN nowhere.example", "QUIT"),
        ):
            await client.say(line)
        lines = client.said[greeted:].splitlines()
        assert len(lines) >= 23
        bare = [line for line in lines if not re.match(rb"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3} ", line)]
        assert [line[:3] for line in bare] == [b"354"]


@virtual
async def test_what_its_author_wants_back_comes_back_in_time_though_a_quota_is_spent() -> None:
    peer = Peer(extensions=BY)
    async with whole(to_host("far.example", ONE, 'quota = ["1/1d"]'), {ONE: peer}) as service:
        await service.take("alice@far.example")
        await asyncio.sleep(1)
        await send_by(service, "1000;R")
        await asyncio.sleep(980)
        assert await service.inbox() == []
        await asyncio.sleep(60)
        (report,) = await service.inbox()
        assert b"Status: 5.4.7" in report
        assert len(peer.accepted) == 1
        assert await service.queue() == []
