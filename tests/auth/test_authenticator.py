"""Whole logins: who is let in, who is not, how late, and what a guesser learns."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from scramp import ScramClient

from tests.auth.people import ALICE, HERE, PASSWORD, alice, authenticator, users_file
from tests.net.certificates import Made, make
from tests.virtual import VirtualClock, virtual
from waypost.auth.account import Account
from waypost.auth.attempts import MEMORY, Attempts, Blocked, GoOn, Limits
from waypost.auth.authenticator import (
    MALFORMED,
    TOO_OFTEN,
    UNAVAILABLE,
    WRONG,
    Accepted,
    Authenticator,
    Judgement,
    NotKnown,
    Refused,
    UserFile,
    Verdict,
)
from waypost.auth.exchange import Challenge

ME = Account(ALICE, (ALICE,))
RIGHT = f"\0{ALICE}\0{PASSWORD}".encode()
WRONG_ONE = f"\0{ALICE}\0guess".encode()


async def plain(shared: Authenticator, response: bytes, network: str = HERE) -> Verdict:
    return await shared.dialogue("PLAIN", network).begin(response)


@virtual
async def test_a_password_lets_in_by_plain_and_by_login(tmp_path: Path) -> None:
    shared = authenticator(tmp_path)
    assert await plain(shared, RIGHT) == Accepted(ME)
    login = shared.dialogue("LOGIN", HERE)
    assert await login.begin(ALICE.encode()) == Challenge(b"Password:")
    assert await login.take(PASSWORD.encode()) == Accepted(ME)


@virtual
async def test_a_password_lets_in_by_scram_without_being_said(tmp_path: Path) -> None:
    dialogue = authenticator(tmp_path).dialogue("SCRAM-SHA-256", HERE)
    client = ScramClient(["SCRAM-SHA-256"], ALICE, PASSWORD)
    first = await dialogue.begin(client.get_client_first().encode())
    assert isinstance(first, Challenge)
    client.set_server_first(first.octets.decode())
    final = await dialogue.take(client.get_client_final().encode())
    assert isinstance(final, Challenge)
    client.set_server_final(final.octets.decode())
    assert await dialogue.take(b"") == Accepted(ME)


@virtual
async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(tmp_path: Path) -> None:
    shared = authenticator(tmp_path)
    assert await plain(shared, WRONG_ONE) == Refused(WRONG, ALICE, "wrong password")
    assert await plain(shared, b"\0mallory\0guess") == Refused(WRONG, "mallory", "no such user")


def test_an_unknown_user_costs_as_much_as_a_known_one(tmp_path: Path) -> None:
    """Both hash once; without that a stranger is answered a hundred times as fast."""
    users = authenticator(tmp_path).passwords

    def cost(name: str) -> float:
        began = time.thread_time()
        users.check(name, "guess")
        return time.thread_time() - began

    cost(ALICE)
    known, unknown = (min(cost(name) for _ in range(3)) for name in (ALICE, "mallory"))
    assert unknown > known / 4


@virtual
async def test_what_is_no_message_of_the_mechanism_is_501_and_no_guess(tmp_path: Path) -> None:
    shared = authenticator(tmp_path)
    for _ in range(100):
        verdict = await plain(shared, b"nonsense")
        assert isinstance(verdict, Refused)
        assert verdict.reply == MALFORMED
    assert await plain(shared, RIGHT) == Accepted(ME)


@virtual
async def test_a_file_that_cannot_be_used_is_454_and_no_guess(tmp_path: Path) -> None:
    shared = authenticator(tmp_path)
    (tmp_path / "users").chmod(0o644)
    for mechanism, response in (("PLAIN", RIGHT), ("SCRAM-SHA-256", b"n,,n=a,r=b")):
        verdict = await shared.dialogue(mechanism, HERE).begin(response)
        assert isinstance(verdict, Refused)
        assert verdict.reply == UNAVAILABLE
        assert "chmod 600" in verdict.why


@virtual
async def test_whoever_judges_and_breaks_costs_a_454(tmp_path: Path) -> None:
    class Broken:
        def check(self, username: str, password: str) -> Judgement:
            raise ConnectionError("the directory is down")

        def known(self, username: str) -> Judgement:
            return NotKnown(username)

        def pinned(self, fingerprint: str) -> Judgement:
            return NotKnown(fingerprint)

    clock = VirtualClock()
    verdict = await plain(Authenticator(clock, Attempts(clock), Broken()), RIGHT)
    assert verdict == Refused(UNAVAILABLE, ALICE, "ConnectionError: the directory is down")


@virtual
async def test_each_failure_makes_the_next_answer_later_and_then_there_is_none(tmp_path: Path) -> None:
    shared = authenticator(tmp_path, Limits(by_network=4, by_account=99))
    waits = []
    for _ in range(4):
        began = shared.clock.monotonic()
        await plain(shared, WRONG_ONE)
        waits.append(shared.clock.monotonic() - began)
    assert waits == [0, 0.5, 1, 2]
    verdict = await plain(shared, RIGHT)
    assert isinstance(verdict, Refused)
    assert verdict.reply == TOO_OFTEN
    assert "network 192.0.2.7 has 4 failed logins" in verdict.why
    assert [str(one).split(";")[0] for one in shared.attempts.blocked()] == ["network 192.0.2.7 has 4 failed logins"]
    await shared.clock.sleep(timedelta(minutes=16))
    assert await plain(shared, RIGHT) == Accepted(ME)
    assert list(shared.attempts.blocked()) == []


@virtual
async def test_an_account_guessed_at_from_everywhere_is_closed_but_not_to_its_owner(tmp_path: Path) -> None:
    shared = authenticator(tmp_path, Limits(by_network=99, by_account=5))
    assert await plain(shared, RIGHT, "10.0.0.1") == Accepted(ME)
    for number in range(5):
        await plain(shared, WRONG_ONE, f"192.0.2.{number}")
    verdict = await plain(shared, RIGHT, "203.0.113.9")
    assert isinstance(verdict, Refused)
    assert verdict.reply == TOO_OFTEN
    assert await plain(shared, RIGHT, "10.0.0.1") == Accepted(ME)


@virtual
async def test_the_memory_of_failures_is_bounded() -> None:
    attempts = Attempts(VirtualClock())
    for number in range(MEMORY * 2):
        attempts.failed(f"user{number}", f"net{number}")
    assert len(attempts._failures) == MEMORY


@virtual
async def test_a_login_that_succeeds_forgets_the_errors_of_its_network() -> None:
    attempts = Attempts(VirtualClock(), Limits(by_network=3, by_account=99))
    for _ in range(2):
        attempts.failed("alice", HERE)
    attempts.succeeded("alice", HERE)
    attempts.failed("bob", HERE)
    assert isinstance(attempts.judge("carol", HERE), GoOn)
    for _ in range(3):
        attempts.failed("bob", HERE)
    assert isinstance(attempts.judge("carol", HERE), Blocked)


@pytest.mark.parametrize("secret", [PASSWORD, "guess"])
@virtual
async def test_no_verdict_shows_a_password(tmp_path: Path, secret: str) -> None:
    shared = authenticator(tmp_path)
    assert secret not in repr(await plain(shared, f"\0{ALICE}\0{secret}".encode()))


@virtual
async def test_failures_that_other_processes_tell_of_count_as_our_own() -> None:
    limits = Limits(by_network=3, by_account=3)
    one, two = Attempts(VirtualClock(), limits), Attempts(VirtualClock(), limits)
    one.tell, two.tell = two.heard, one.heard
    one.failed("alice", HERE)
    two.failed("alice", HERE)
    two.failed("alice", HERE)
    assert isinstance(one.judge("alice", "elsewhere"), Blocked)
    assert isinstance(one.judge("bob", HERE), Blocked)


@virtual
async def test_who_is_at_home_for_one_process_is_so_for_all_and_it_is_told_once() -> None:
    one, two = Attempts(VirtualClock(), Limits(by_account=2)), Attempts(VirtualClock(), Limits(by_account=2))
    told: list[tuple[str, str, bool]] = []

    def tell(*one: object) -> None:
        told.append(one)  # type: ignore[arg-type]  # as it is told
        two.heard(*one)  # type: ignore[arg-type]

    one.tell = tell
    for _ in range(3):
        one.succeeded("alice", HERE)
    assert told == [("alice", HERE, True)]
    for _ in range(2):
        two.failed("alice", "elsewhere")
    assert isinstance(two.judge("alice", HERE), GoOn)
    assert isinstance(two.judge("alice", "a third"), Blocked)


# ---- acting as another (RFC 4422 §3.4.1), and a certificate in a password's place (app. A)
BOB = "bob@example.net"
PINNED = make("printer", names=["printer.example.net"])


def staffed(place: Path, *, may_act_as: tuple[str, ...] = ()) -> Authenticator:
    """Alice and Bob; Alice may act as others, and has a certificate pinned."""
    both = (
        replace(alice(), may_act_as=may_act_as, certificates=(sha256(PINNED.der).hexdigest(),)),
        replace(alice(), name=BOB),
    )
    clock = VirtualClock()
    return Authenticator(clock, Attempts(clock), UserFile(users_file(place, *both), "example.net"))


def acting_as(name: str) -> bytes:
    return f"{name}\0{ALICE}\0{PASSWORD}".encode()


@pytest.mark.parametrize("allowed", [(BOB,), ("*",)])
@virtual
async def test_an_account_acts_as_another_where_it_may(tmp_path: Path, allowed: tuple[str, ...]) -> None:
    shared = staffed(tmp_path, may_act_as=allowed)
    assert await plain(shared, acting_as(BOB)) == Accepted(Account(BOB, (BOB,)), by=ALICE)
    assert await plain(shared, acting_as(ALICE.upper())) == Accepted(Account(ALICE, (ALICE,), allowed))


@virtual
async def test_an_account_acts_as_nobody_else_and_as_nobody_there_is_not(tmp_path: Path) -> None:
    verdict = await plain(staffed(tmp_path), acting_as(BOB))
    assert verdict == Refused(WRONG, ALICE, f"PLAIN: may not act as {BOB}")
    verdict = await plain(staffed(tmp_path, may_act_as=("*",)), acting_as("eve"))
    assert verdict == Refused(WRONG, ALICE, "PLAIN: there is no eve to act as")


@virtual
async def test_who_may_act_as_another_needs_his_own_password_all_the_same(tmp_path: Path) -> None:
    shared = staffed(tmp_path, may_act_as=(BOB,))
    verdict = await plain(shared, f"{BOB}\0{ALICE}\0guess".encode())
    assert isinstance(verdict, Refused)
    assert verdict.reply == WRONG


async def external(shared: Authenticator, certificate: bytes, response: bytes = b"") -> Verdict:
    return await shared.dialogue("EXTERNAL", HERE, certificate=certificate).begin(response)


@virtual
async def test_a_certificate_is_its_account_s_that_has_it_pinned_or_is_named_in_it(tmp_path: Path) -> None:
    shared = staffed(tmp_path)
    assert await external(shared, PINNED.der) == Accepted(Account(ALICE, (ALICE,)))
    named = make("bob", addresses=["nobody@example.net", BOB.upper()])
    assert await external(shared, named.der) == Accepted(Account(BOB, (BOB,)))


@pytest.mark.parametrize("shown", [make("x", names=[BOB]), make("x", addresses=["eve@example.net"]), make(BOB)])
@virtual
async def test_a_certificate_of_nobody_s_is_refused_as_a_wrong_password_is(tmp_path: Path, shown: Made) -> None:
    verdict = await external(staffed(tmp_path), shown.der)
    assert isinstance(verdict, Refused)
    assert verdict.reply == WRONG


@virtual
async def test_by_a_certificate_an_account_acts_as_another_where_it_may(tmp_path: Path) -> None:
    shared = staffed(tmp_path, may_act_as=(BOB,))
    assert await external(shared, PINNED.der, BOB.encode()) == Accepted(Account(BOB, (BOB,)), by=ALICE)
    assert isinstance(await external(shared, PINNED.der, b"carol"), Refused)


@virtual
async def test_where_the_accounts_cannot_be_read_a_certificate_is_put_off(tmp_path: Path) -> None:
    shared = staffed(tmp_path)
    (tmp_path / "users").chmod(0o644)
    verdict = await external(shared, PINNED.der)
    assert isinstance(verdict, Refused)
    assert verdict.reply == UNAVAILABLE
