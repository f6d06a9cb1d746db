"""Submission: who has authenticated may send under his own reverse-paths, to anywhere, and is named in the trace."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auth.people import ALICE, PASSWORD, authenticator
from tests.receive.house import HOSTNAME, MESSAGE, Talk, begin, make_house
from tests.virtual import virtual
from waypost.auth.attempts import Limits
from waypost.net.stream import Endpoint, is_local
from waypost.receive.house import House
from waypost.receive.settings import Door
from waypost.smtp.settings import ServerSettings

LOOPBACK = Endpoint("127.0.0.1", 40000)
FAR_AWAY = Endpoint("198.51.100.9", 40000)
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


RIGHT = "AUTH PLAIN " + base64(f"\0{ALICE}\0{PASSWORD}")
WRONG = "AUTH PLAIN " + base64(f"\0{ALICE}\0guess")


def house(place: Path, limits: Limits | None = None) -> House:
    return replace(make_house(), logins=authenticator(place, limits))


def door() -> Door:
    settings = ServerSettings(HOSTNAME, mechanisms=MECHANISMS)
    return Door(Endpoint("192.0.2.25", 587), settings, submission=True, demands_login=True)


async def submitting(place: Path, *, client: Endpoint = LOOPBACK, limits: Limits | None = None) -> Talk:
    talk = await begin(house(place, limits), door(), client=client)
    await talk.say("EHLO us.example")
    return talk


@virtual
async def test_nobody_sends_without_a_login_not_even_from_the_relay_networks(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    assert await talk.say(f"MAIL FROM:<{ALICE}>") == "530 5.7.0 authentication required"
    await talk.end()
    assert talk.log.refusals[0][1].code == 530


@virtual
async def test_who_has_logged_in_sends_anywhere_and_the_trace_names_him(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    assert await talk.say(RIGHT) == "235 2.7.0 authentication successful"
    reply = await talk.say(f"MAIL FROM:<{ALICE}>", "RCPT TO:<bob@elsewhere.example>", "DATA")
    assert reply.startswith("354")
    assert (await talk.send(MESSAGE + b".\r\n")).startswith("250")
    await talk.end()
    (_, envelope, _) = talk.log.taken[0]
    assert (envelope.origin.protocol, envelope.origin.account) == ("ESMTPA", ALICE)
    (stored,) = await talk.stored()
    received, _, rest = stored.partition(b" +0000\r\n")
    assert b"with ESMTPA id" in received
    assert rest.startswith(b"Date: ")
    assert b"\r\nMessage-ID: <" in rest
    assert rest.endswith(MESSAGE)
    assert ALICE.encode() not in received.partition(b" for ")[0]  # the account is ours to know, not the recipient's


@virtual
async def test_what_is_complete_passes_unchanged(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    message = b"Date: today\r\nMessage-ID: <1@us.example>\r\n\r\nx\r\n"
    await talk.say(RIGHT, "MAIL FROM:<>", "RCPT TO:<bob@ours.example>", "DATA")
    await talk.send(message + b".\r\n")
    await talk.end()
    (stored,) = await talk.stored()
    assert stored.partition(b" +0000\r\n")[2] == message


@virtual
async def test_a_reverse_path_of_another_is_refused(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    reply = await talk.say(RIGHT, "MAIL FROM:<boss@example.net>")
    assert reply == f"553 5.7.1 <boss@example.net> is no reverse-path of {ALICE}"
    assert (await talk.say(f"MAIL FROM:<{ALICE}>")).startswith("250")
    await talk.end()


@virtual
async def test_auth_is_offered_in_clear_to_this_machine_alone(tmp_path: Path) -> None:
    near = await submitting(tmp_path)
    assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in await near.say("EHLO us.example")
    await near.end()
    far = await submitting(tmp_path, client=FAR_AWAY)
    assert "AUTH" not in await far.say("EHLO us.example")
    assert (await far.say(RIGHT)).startswith("538 5.7.11")
    await far.end()


@virtual
async def test_a_guesser_is_told_421_in_the_end_and_the_log_says_why(tmp_path: Path) -> None:
    talk = await submitting(tmp_path, limits=Limits(by_network=3))
    for _ in range(3):
        assert (await talk.say(WRONG)).startswith("535 5.7.8")
    assert (await talk.say(WRONG)).startswith("421 4.7.0")
    await talk.task
    assert talk.log.ends == [("421 in answer to Auth", 0)]


@virtual
async def test_who_has_failed_to_log_in_is_nobody(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    assert (await talk.say(WRONG)).startswith("535 5.7.8")
    assert (await talk.say(f"MAIL FROM:<{ALICE}>")).startswith("530 5.7.0")
    assert (await talk.say("RCPT TO:<bob@elsewhere.example>")).startswith("503")
    await talk.end()


@virtual
async def test_a_guess_after_the_challenge_counts_the_same(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    assert await talk.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
    assert await talk.say(base64(ALICE)) == "334 UGFzc3dvcmQ6"
    assert (await talk.say(base64("guess"))).startswith("535")
    assert (await talk.say(RIGHT)).startswith("235")
    await talk.end()


@virtual
async def test_a_bug_in_a_login_costs_one_reply(tmp_path: Path) -> None:
    talk = await submitting(tmp_path)
    object.__setattr__(talk.house.logins, "attempts", "a bug")
    assert (await talk.say(RIGHT)).startswith("451 4.3.0")
    assert (await talk.say("NOOP")).startswith("250")
    await talk.end()
    assert talk.log.troubles[0][0] == "AUTH"


@pytest.mark.parametrize(
    ("said", "kept"),
    [("AUTH=<>", "<>"), (f"AUTH={ALICE}", ALICE), ("AUTH=boss@example.net", "<>"), ("", "")],
)
@virtual
async def test_only_a_submitter_of_the_accounts_own_is_believed(tmp_path: Path, said: str, kept: str) -> None:
    """RFC 4954 §5: what the client may not assert counts as `<>`."""
    talk = await submitting(tmp_path)
    await talk.say(RIGHT, f"MAIL FROM:<{ALICE}> {said}", "RCPT TO:<bob@ours.example>", "DATA")
    await talk.send(MESSAGE + b".\r\n")
    await talk.end()
    assert talk.log.taken[0][1].parameters.submitter == kept


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("", True), ("/run/x", True), ("10.0.0.1", False)],
)
def test_nobody_listens_in_on_this_machine_itself(host: str, local: bool) -> None:  # noqa: FBT001
    assert is_local(Endpoint(host, 0)) is local
