from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.deliver.memory import Habit
from waypost.deliver.opening import (
    KNOWN_HOST,
    STRICT_TLS,
    UNKNOWN_HOST,
    Approach,
    At,
    Slip,
    Step,
    Table,
    after,
    first_approach,
    lmtp_approach,
    where,
)
from waypost.route.level import TlsLevel
from waypost.route.route import HeloFallback
from waypost.smtp.stage import Opening, Stage, Tls

TABLES = [UNKNOWN_HOST, KNOWN_HOST, STRICT_TLS]


@pytest.mark.parametrize("table", TABLES)
def test_every_failure_in_every_state_has_its_step(table: Table) -> None:
    assert set(table) == set(At)
    assert all(set(row) == set(Slip) for row in table.values())


@given(
    policy=st.sampled_from(TlsLevel),
    habit=st.sampled_from(Habit),
    needs=st.booleans(),
    failures=st.lists(st.tuples(st.sampled_from(At), st.sampled_from(Slip)), min_size=8, max_size=8),
)
def test_whatever_fails_an_address_is_dialled_four_times_at_most(
    policy: TlsLevel,
    habit: Habit,
    needs: bool,  # noqa: FBT001 - drawn by Hypothesis
    failures: list[tuple[At, Slip]],
) -> None:
    approach: Approach | Step = first_approach(policy, habit, needs_extension=needs)
    connections = 0
    for at, slip in failures:
        if isinstance(approach, Step):
            break
        connections += 1
        approach = after(approach, at, slip)
    assert isinstance(approach, Step)
    assert connections <= 4


@given(
    policy=st.sampled_from([TlsLevel.REQUIRED, TlsLevel.VERIFIED, TlsLevel.DANE]),
    habit=st.sampled_from(Habit),
    failures=st.lists(st.tuples(st.sampled_from(At), st.sampled_from(Slip)), max_size=8),
)
def test_a_route_that_requires_tls_meets_neither_helo_nor_clear_text(
    policy: TlsLevel, habit: Habit, failures: list[tuple[At, Slip]]
) -> None:
    approach: Approach | Step = first_approach(policy, habit, needs_extension=False)
    for at, slip in failures:
        if isinstance(approach, Approach):
            assert approach.opening is Opening.EHLO_ONLY
            assert approach.tls is Tls.REQUIRED
            # HELO on a connection that refused EHLO cannot come: the engine's own table has no such cell here.
            approach = Step.NEXT_HOST if at is At.HELO_AFTER_EHLO else after(approach, at, slip)


def test_421_and_4yz_never_lead_to_another_connection_to_the_same_address() -> None:
    for table in TABLES:
        for at in set(At) - {At.STARTTLS, At.HANDSHAKE}:
            assert table[at][Slip.CLOSING] is Step.NEXT_HOST
            assert table[at][Slip.TRANSIENT] is Step.NEXT_HOST


def test_a_host_known_for_starttls_is_not_approached_by_helo() -> None:
    approach = first_approach(TlsLevel.OPPORTUNISTIC, Habit.OFFERED_STARTTLS, needs_extension=False)
    again = after(approach, At.EHLO, Slip.CUT)
    assert isinstance(again, Approach)
    assert again.opening is Opening.EHLO_ONLY
    assert after(again, At.EHLO, Slip.CUT) is Step.NEXT_HOST


def test_a_host_remembered_for_helo_is_greeted_with_it_at_once() -> None:
    approach = first_approach(TlsLevel.OPPORTUNISTIC, Habit.HELO_ONLY, needs_extension=False)
    assert approach.says_helo
    assert after(approach, At.HELO, Slip.CUT) is Step.NEXT_HOST


def test_what_needs_an_extension_ignores_the_memory_of_helo() -> None:
    approach = first_approach(TlsLevel.NONE, Habit.HELO_ONLY, needs_extension=True)
    assert approach.opening is Opening.EHLO_ONLY


def test_lmtp_has_one_greeting() -> None:
    approach = lmtp_approach()
    assert approach.is_lmtp
    assert all(after(approach, At.LHLO, slip) is Step.NEXT_HOST for slip in Slip)


def test_refused_credentials_hold_the_route() -> None:
    approach = first_approach(TlsLevel.NONE, Habit.UNKNOWN, needs_extension=True)
    assert after(approach, At.AUTH, Slip.PERMANENT) is Step.HOLD_ROUTE
    assert after(approach, At.AUTH, Slip.TRANSIENT) is Step.NEXT_HOST


def test_a_stage_under_tls_has_a_row_of_its_own() -> None:
    assert where(Stage.EHLO, Opening.EHLO_ONLY, secured=True) is At.EHLO_AFTER_TLS
    assert where(Stage.EHLO, Opening.EHLO_ONLY, secured=False) is At.EHLO
    assert where(Stage.HELO, Opening.HELO_FIRST, secured=False) is At.HELO
    assert where(Stage.HELO, Opening.EHLO_THEN_HELO, secured=False) is At.HELO_AFTER_EHLO


@pytest.mark.parametrize(
    ("fallback", "habit", "opening"),
    [
        (HeloFallback.UNLESS_TLS, Habit.UNKNOWN, Opening.EHLO_THEN_HELO),
        (HeloFallback.UNLESS_TLS, Habit.OFFERED_STARTTLS, Opening.EHLO_ONLY),
        (HeloFallback.NEVER, Habit.UNKNOWN, Opening.EHLO_ONLY),
        (HeloFallback.NEVER, Habit.HELO_ONLY, Opening.EHLO_ONLY),
        (HeloFallback.ALWAYS, Habit.OFFERED_STARTTLS, Opening.EHLO_THEN_HELO),
        (HeloFallback.ALWAYS, Habit.HELO_ONLY, Opening.HELO_FIRST),
    ],
)
def test_a_route_says_whether_helo_follows_a_broken_ehlo(
    fallback: HeloFallback, habit: Habit, opening: Opening
) -> None:
    approach = first_approach(TlsLevel.OPPORTUNISTIC, habit, needs_extension=False, fallback=fallback)
    assert approach.opening is opening
    step = approach.table[At.EHLO][Slip.CUT]
    expected = Step.EHLO_AGAIN if opening is Opening.EHLO_ONLY else Step.HELO_NEW_CONNECTION
    assert step is expected


@pytest.mark.parametrize("fallback", HeloFallback)
@pytest.mark.parametrize("level", [TlsLevel.REQUIRED, TlsLevel.VERIFIED, TlsLevel.DANE])
def test_no_such_word_of_a_route_gives_up_tls_that_is_needed(level: TlsLevel, fallback: HeloFallback) -> None:
    approach = first_approach(level, Habit.UNKNOWN, needs_extension=False, fallback=fallback)
    assert approach.opening is Opening.EHLO_ONLY
    assert approach.table is STRICT_TLS
