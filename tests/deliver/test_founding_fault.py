"""A host that breaks on EHLO: the fault this service was founded on (RFC 5321 §3.2, §3.8)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.deliver.peer import EXTENSIONS, ROUTE, Peer, World, Wrong, endpoint, lease, recipient
from tests.virtual import virtual
from waypost.deliver.memory import Habit
from waypost.deliver.smtp import CredentialsRefused, Reached, Unreachable
from waypost.mail.envelope import InMemory
from waypost.mail.explain import describe
from waypost.mail.outcome import Answered, Deferred, Delivered, NotConnected, PolicyRefused
from waypost.net.stream import Fault, FaultKind
from waypost.route.route import Route, TlsPolicy
from waypost.smtp.extension import BodyType, MailParameters
from waypost.smtp.login import Credentials

every_break = pytest.mark.parametrize("wrong", list(Wrong))
STARTTLS = ("STARTTLS", *EXTENSIONS)
AUTH = ("AUTH PLAIN LOGIN", *EXTENSIONS)
TLS_ROUTE = replace(ROUTE, tls=TlsPolicy.REQUIRED)
AUTH_ROUTE = replace(ROUTE, credentials=Credentials("us", "secret"))


@every_break
@virtual
async def test_a_single_host_that_breaks_on_ehlo_takes_the_mail_by_helo_in_the_same_attempt(wrong: Wrong) -> None:
    peer = Peer(always={"EHLO": wrong})
    world = World(peer)
    (outcome,) = await world.attempt()
    await world.close()
    assert isinstance(outcome, Delivered), describe(outcome)
    assert peer.verbs == [["EHLO"], ["HELO", "MAIL", "RCPT", "DATA", "QUIT"]]
    assert len(peer.accepted) == 1


@every_break
@virtual
async def test_helo_at_the_first_host_comes_before_the_second_host(wrong: Wrong) -> None:
    peer, second = Peer(always={"EHLO": wrong}), Peer()
    world = World(peer, second)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered)
    assert (len(peer.accepted), second.connections) == (1, [])
    await world.close()


@every_break
@virtual
async def test_a_host_that_breaks_on_both_greetings_leaves_the_mail_to_the_second_host(wrong: Wrong) -> None:
    peer, second = Peer(always={"EHLO": wrong, "HELO": wrong}), Peer()
    world = World(peer, second)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered)
    assert peer.verbs == [["EHLO"], ["HELO"]]
    assert len(second.accepted) == 1
    await world.close()


@every_break
@pytest.mark.parametrize(("route", "extensions", "need"), [(TLS_ROUTE, STARTTLS, "TLS"), (AUTH_ROUTE, AUTH, "AUTH")])
@virtual
async def test_a_route_that_needs_an_extension_says_ehlo_once_more_and_then_defers_with_the_reason(
    route: Route, extensions: tuple[str, ...], need: str, wrong: Wrong
) -> None:
    peer = Peer(always={"EHLO": wrong}, extensions=extensions)
    world = World(peer, route=route)
    (outcome,) = await world.attempt()
    assert peer.verbs == [["EHLO"], ["EHLO"]]
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, PolicyRefused)
    assert f"needs {need}, which HELO cannot offer; not downgraded" in outcome.cause.detail
    assert "mx0.example[192.0.2.1:25]" in outcome.cause.detail
    await world.close()


@every_break
@virtual
async def test_the_second_ehlo_of_such_a_route_may_succeed(wrong: Wrong) -> None:
    peer = Peer(plan={"EHLO": [wrong]}, extensions=STARTTLS)
    world = World(peer, route=TLS_ROUTE)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered), f"{describe(outcome)}\n{world.transcript}"
    assert peer.verbs[1][:3] == ["EHLO", "STARTTLS", "EHLO"]
    await world.close()


@virtual
async def test_a_refused_ehlo_on_a_route_that_needs_tls_is_no_reason_for_helo() -> None:
    peer = Peer(always={"EHLO": "502 5.5.1 what"})
    world = World(peer, route=TLS_ROUTE)
    (outcome,) = await world.attempt()
    assert "HELO" not in peer.verbs[0]
    assert isinstance(outcome, Deferred)
    assert "not downgraded" in describe(outcome)
    await world.close()


@virtual
async def test_a_route_that_needs_tls_defers_where_starttls_is_not_offered() -> None:
    peer = Peer()
    world = World(peer, route=TLS_ROUTE)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert "STARTTLS" in describe(outcome)
    assert peer.accepted == []
    await world.close()


@virtual
async def test_a_message_that_needs_smtputf8_is_not_sent_by_helo() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    world = World(peer)
    (outcome,) = await world.attempt(lease(parameters=MailParameters(smtputf8=True)))
    assert isinstance(outcome, Deferred)
    assert str(outcome.status) == "4.6.7"
    assert "needs SMTPUTF8" in describe(outcome)
    assert peer.verbs == [["EHLO"], ["EHLO"]]
    await world.close()


@every_break
@virtual
async def test_a_host_that_offered_starttls_before_is_never_downgraded_to_helo(wrong: Wrong) -> None:
    peer = Peer(extensions=STARTTLS)
    world = World(peer)
    assert isinstance((await world.attempt())[0], Delivered)
    assert world.memory.recall(endpoint(0)) is Habit.OFFERED_STARTTLS
    await asyncio.sleep(60)
    peer.always = {"EHLO": wrong}
    (outcome,) = await world.attempt()
    assert peer.verbs[1:] == [["EHLO"], ["EHLO"]]
    assert isinstance(outcome, Deferred)
    assert "has offered STARTTLS before" in describe(outcome)
    await world.close()


@virtual
async def test_the_next_message_goes_straight_to_helo_while_the_memory_lasts_and_then_ehlo_is_tried_again() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    world = World(peer, memory_ttl=timedelta(hours=1))
    for pause in (600, 2700, 600):  # that HELO works does not prolong the memory
        assert isinstance((await world.attempt())[0], Delivered)
        await asyncio.sleep(pause)
    assert [verbs[0] for verbs in peer.verbs] == ["EHLO", "HELO", "HELO", "HELO"]
    peer.always = {}
    assert isinstance((await world.attempt())[0], Delivered)
    assert peer.verbs[4][0] == "EHLO"
    assert world.memory.recall(endpoint(0)) is Habit.UNKNOWN
    await world.close()


@virtual
async def test_a_remembered_host_that_breaks_on_helo_too_is_forgotten() -> None:
    peer = Peer(plan={"EHLO": [Wrong.FIN], "HELO": ["250 ok", Wrong.FIN]})
    world = World(peer)
    assert isinstance((await world.attempt())[0], Delivered)
    await asyncio.sleep(60)
    assert isinstance((await world.attempt())[0], Deferred)
    assert isinstance((await world.attempt())[0], Delivered)
    assert [verbs[0] for verbs in peer.verbs] == ["EHLO", "HELO", "HELO", "EHLO"]
    await world.close()


@virtual
async def test_a_host_that_refuses_ehlo_and_hangs_up_is_asked_with_helo_on_a_new_connection() -> None:
    peer = Peer(plan={"EHLO": ["500 5.5.2 what"], "HELO": [Wrong.FIN]})
    world = World(peer)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered)
    assert peer.verbs[0] == ["EHLO", "HELO"]
    assert peer.verbs[1][0] == "HELO"
    await world.close()


@virtual
async def test_a_second_connection_that_is_refused_leaves_the_mail_deferred() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    world = World(peer)
    hosts = world.dialer.hosts

    class Once(Peer):
        async def __call__(self, stream: object) -> None:
            hosts[endpoint(0)] = Fault(FaultKind.REFUSED)
            await Peer.__call__(self, stream)  # type: ignore[arg-type]  # a Stream, seen as an object

    hosts[endpoint(0)] = Once(always={"EHLO": Wrong.FIN})
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert isinstance(outcome.cause, NotConnected)
    assert isinstance(world.reach, Unreachable)
    assert "EHLO failed" in str(world.transcript)
    await world.close()


@virtual
async def test_an_8bit_message_that_cannot_be_converted_is_deferred_and_not_rejected_where_only_helo_is_left() -> None:
    peer = Peer(always={"EHLO": Wrong.FIN})
    world = World(peer)
    parameters = MailParameters(body=BodyType.EIGHT_BIT_MIME)
    (outcome,) = await world.attempt(lease(octets=InMemory(b"Subject: \xe4\r\n\r\nx\r\n"), parameters=parameters))
    assert isinstance(outcome, Deferred)
    assert str(outcome.status) == "4.6.3"
    (outcome,) = await world.attempt(lease(octets=InMemory(b"\r\n\xe4\r\n"), parameters=parameters))
    assert isinstance(outcome, Delivered)
    assert b"Content-Transfer-Encoding: quoted-printable" in peer.accepted[0][1]
    await world.close()


# ---- TLS and AUTH
@pytest.mark.parametrize("wrong", list(Wrong))
@virtual
async def test_opportunistic_tls_that_fails_at_starttls_goes_once_in_clear(wrong: Wrong) -> None:
    peer = Peer(always={"STARTTLS": wrong}, extensions=STARTTLS)
    world = World(peer)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered), describe(outcome)
    assert peer.verbs[0] == ["EHLO", "STARTTLS"]
    assert peer.verbs[1][:2] == ["EHLO", "MAIL"]
    await world.close()


@pytest.mark.parametrize("reply", ["454 4.7.0 later", "502 5.5.1 no"])
@virtual
async def test_opportunistic_tls_that_is_refused_goes_in_clear(reply: str) -> None:
    peer = Peer(always={"STARTTLS": reply}, extensions=STARTTLS)
    world = World(peer)
    assert isinstance((await world.attempt())[0], Delivered)
    await world.close()


@pytest.mark.parametrize("kind", [FaultKind.TLS, FaultKind.TIMED_OUT, FaultKind.CLOSED, FaultKind.RESET])
@virtual
async def test_a_failed_handshake_goes_in_clear_on_a_new_connection_if_tls_is_opportunistic(kind: FaultKind) -> None:
    peer = Peer(extensions=STARTTLS)
    world = World(peer, handshake=Fault(kind))
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Delivered), describe(outcome)
    assert peer.verbs[1][:2] == ["EHLO", "MAIL"]
    await world.close()


@virtual
async def test_a_failed_handshake_goes_to_the_next_host_if_tls_is_required() -> None:
    peer, second = Peer(extensions=STARTTLS), Peer(extensions=STARTTLS)
    world = World(peer, second, route=TLS_ROUTE, handshake=Fault(FaultKind.TLS, "certificate has expired"))
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert "certificate has expired" in describe(outcome)
    assert [peer.verbs, second.verbs] == [[["EHLO", "STARTTLS"]]] * 2
    await world.close()


@virtual
async def test_421_to_starttls_goes_to_the_next_host() -> None:
    peer, second = Peer(always={"STARTTLS": "421 later"}, extensions=STARTTLS), Peer()
    world = World(peer, second)
    assert isinstance((await world.attempt())[0], Delivered)
    assert (len(peer.connections), len(second.accepted)) == (1, 1)
    await world.close()


@virtual
async def test_refused_credentials_defer_the_mail_ask_no_other_host_and_are_told() -> None:
    peer, second = Peer(always={"AUTH": "535 5.7.8 no"}, extensions=AUTH), Peer(extensions=AUTH)
    world = World(peer, second, route=AUTH_ROUTE)
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert isinstance(world.reach, CredentialsRefused)
    assert second.connections == []
    assert "secret" not in str(world.transcript)
    await world.close()


@pytest.mark.parametrize("wrong", [*Wrong, "454 4.7.0 later", "421 later"])
@virtual
async def test_auth_that_breaks_goes_to_the_next_host(wrong: Wrong | str) -> None:
    peer, second = Peer(always={"AUTH": wrong}, extensions=AUTH), Peer(extensions=AUTH)
    world = World(peer, second, route=AUTH_ROUTE)
    assert isinstance((await world.attempt())[0], Delivered), str(world.transcript)
    assert len(second.accepted) == 1
    await world.close()


# ---- what the destination is told to be
@virtual
async def test_hosts_that_turn_us_away_at_the_banner_are_unreachable_and_bounce_nothing() -> None:
    world = World(*(Peer(always={"banner": "554 5.7.1 not you"}) for _ in range(3)))
    (outcome,) = await world.attempt()
    assert isinstance(outcome, Deferred)
    assert outcome.cause == Answered(world.hosts[2], "greeting", outcome.cause.reply)  # type: ignore[union-attr]  # is Answered
    assert isinstance(world.reach, Unreachable)
    await world.close()


@virtual
async def test_no_port_left_on_this_machine_is_not_held_against_the_host() -> None:
    world = World(Fault(FaultKind.LOCAL, "Too many open files"))
    outcomes = await world.attempt(lease([recipient(0), recipient(1)]))
    assert all("trouble on this machine" in describe(outcome) for outcome in outcomes)
    assert isinstance(world.reach, Reached)
