# ruff: noqa: S311 - dice that fall alike each time
from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.letters import BUSY, HOST, NO_SUCH_USER, NOW, OK, envelope, name, path
from waypost.mail.envelope import NotInDoubt, PossiblyAt, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Deferred, Delivered, Expired, InDoubt, Outcome, Rejected
from waypost.net.stream import Fault, FaultKind
from waypost.queue.schedule import PAUSE_IN_DOUBT, RetryPolicy, Variation, in_words, settle_recipient
from waypost.queue.storage import Gone, Notice, Settled, Wait
from waypost.smtp.extension import Notify, RcptParameters
from waypost.smtp.path import NullPath

POLICY: Final = RetryPolicy((timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1)), timedelta(days=5))
DAY: Final = 86400.0
IN_DOUBT: Final = InDoubt(HOST, Fault(FaultKind.TIMED_OUT))
UNSUPPORTED: Final = replace(OK, relayed_without_dsn=True)
FINAL: Final = replace(OK, final=True)
_SENT: Final = envelope()
MESSAGE: Final = QueuedMessage(name(1), _SENT.reverse_path, _SENT.parameters, _SENT.origin, NOW, 100)
RECIPIENT: Final = QueuedRecipient(0, path("b@example.org"), RcptParameters(), 0, False, NotInDoubt())


def settle(
    outcome: Outcome,
    *,
    recipient: QueuedRecipient = RECIPIENT,
    message: QueuedMessage = MESSAGE,
    policy: RetryPolicy = POLICY,
    now: float = NOW,
    captured: bool = False,
) -> Settled:
    return settle_recipient(
        message, recipient, outcome, policy=policy, now=now, dice=random.Random(7), captured=captured
    )


def asking(notify: Notify) -> QueuedRecipient:
    return replace(RECIPIENT, parameters=RcptParameters(notify))


def pause_of(settled: Settled, now: float = NOW) -> float:
    assert isinstance(settled.next, Wait), settled.next
    return settled.next.until - now


@pytest.mark.parametrize(("attempts", "minutes"), [(0, 1), (1, 10), (2, 60), (3, 60), (99, 60)])
def test_pauses_follow_the_schedule_and_the_last_repeats(attempts: int, minutes: int) -> None:
    settled = settle(BUSY, recipient=replace(RECIPIENT, attempts=attempts))
    assert 60 * minutes <= pause_of(settled) <= 66 * minutes
    assert settled.notice is Notice.NONE


def test_what_failed_together_does_not_come_back_together() -> None:
    dice = random.Random(3)
    pauses = {
        pause_of(settle_recipient(MESSAGE, RECIPIENT, BUSY, policy=POLICY, now=NOW, dice=dice)) for _ in range(50)
    }
    assert len(pauses) == 50


@settings(deadline=None)
@given(
    attempts=st.integers(0, 50),
    age=st.floats(-10 * DAY, 20 * DAY),
    outcome=st.sampled_from([BUSY, IN_DOUBT]),
)
def test_whatever_the_clock_does_a_deferred_recipient_never_comes_back_in_a_burst(
    attempts: int, age: float, outcome: Outcome
) -> None:
    now = NOW + age
    settled = settle(outcome, recipient=replace(RECIPIENT, attempts=attempts), now=now)
    match settled.next:
        case Wait(until):
            at_expiry = until == NOW + 5 * DAY
            assert at_expiry or until >= now + 60
            assert now < until <= max(NOW + 5 * DAY, now + 3600 * 1.1)
        case _:
            assert age >= 5 * DAY
            assert attempts > 0


def test_the_last_attempt_is_made_when_time_is_up() -> None:
    almost = NOW + 5 * DAY - 100
    settled = settle(BUSY, recipient=replace(RECIPIENT, attempts=9, delay_reported=True), now=almost)
    assert settled.next == Wait(NOW + 5 * DAY, NotInDoubt())


@pytest.mark.parametrize("outcome", [BUSY, IN_DOUBT])
def test_after_that_it_is_given_up_and_reported_with_what_happened_last(outcome: Deferred | InDoubt) -> None:
    settled = settle(outcome, recipient=replace(RECIPIENT, attempts=9), now=NOW + 5 * DAY)
    assert settled.next == Gone()
    assert settled.notice is Notice.FAILED
    assert isinstance(settled.outcome, Rejected)
    assert str(settled.outcome.status) == "5.4.7"
    assert settled.outcome.cause == Expired("5 days", outcome)


def test_a_first_attempt_long_after_receipt_is_not_the_last() -> None:
    settled = settle(BUSY, now=NOW + 9 * DAY)
    assert 60 <= pause_of(settled, NOW + 9 * DAY) <= 66


def test_a_host_that_may_have_it_is_given_time_and_remembered() -> None:
    settled = settle(IN_DOUBT)
    assert pause_of(settled) == PAUSE_IN_DOUBT.total_seconds()
    assert isinstance(settled.next, Wait)
    assert settled.next.doubt == PossiblyAt("192.0.2.1:25")


def test_doubt_once_raised_stays_through_later_attempts() -> None:
    doubted = replace(RECIPIENT, doubt=PossiblyAt("192.0.2.9:25"), attempts=1)
    settled = settle(BUSY, recipient=doubted)
    assert isinstance(settled.next, Wait)
    assert settled.next.doubt == PossiblyAt("192.0.2.9:25")


# ---- notices
@pytest.mark.parametrize(
    ("notify", "notice"),
    [
        (Notify.UNSPECIFIED, Notice.FAILED),
        (Notify.FAILURE, Notice.FAILED),
        (Notify.SUCCESS, Notice.NONE),
        (Notify.NEVER, Notice.NONE),
    ],
)
def test_a_failure_is_reported_where_it_was_asked_or_nothing_was_asked(notify: Notify, notice: Notice) -> None:
    settled = settle(NO_SUCH_USER, recipient=asking(notify))
    assert (settled.next, settled.notice) == (Gone(), notice)


def test_a_failure_of_a_notification_is_left_to_the_report_to_decide() -> None:
    settled = settle(NO_SUCH_USER, message=replace(MESSAGE, reverse_path=NullPath()))
    assert settled.notice is Notice.FAILED


@pytest.mark.parametrize(
    ("notify", "outcome", "notice"),
    [
        (Notify.SUCCESS, OK, Notice.NONE),  # the next hop has taken the request over
        (Notify.SUCCESS, UNSUPPORTED, Notice.RELAYED),
        (Notify.SUCCESS, FINAL, Notice.DELIVERED),
        (Notify.SUCCESS, replace(FINAL, expanded=True), Notice.EXPANDED),
        (Notify.FAILURE, replace(FINAL, expanded=True), Notice.NONE),
        (Notify.SUCCESS, replace(FINAL, relayed_without_dsn=True), Notice.DELIVERED),  # LMTP: nobody comes behind it
        (Notify.UNSPECIFIED, FINAL, Notice.NONE),
        (Notify.FAILURE, UNSUPPORTED, Notice.NONE),
    ],
)
def test_success_is_reported_where_it_was_asked_and_is_ours_to_report(
    notify: Notify, outcome: Delivered, notice: Notice
) -> None:
    settled = settle(outcome, recipient=asking(notify), captured=True)
    assert (settled.next, settled.notice) == (Gone(captured=True), notice)


def test_a_delay_is_reported_once_it_is_long_and_once_only() -> None:
    later = NOW + 4 * 3600
    assert settle(BUSY, now=later - 1).notice is Notice.NONE
    first = settle(BUSY, now=later)
    assert (first.notice, first.retry_until) == (Notice.DELAYED, NOW + 5 * DAY)
    assert settle(BUSY, now=later, recipient=replace(RECIPIENT, delay_reported=True)).notice is Notice.NONE
    assert settle(BUSY, now=later, recipient=asking(Notify.FAILURE)).notice is Notice.NONE
    assert settle(BUSY, now=later, recipient=asking(Notify.DELAY)).notice is Notice.DELAYED
    assert settle(BUSY, now=later, message=replace(MESSAGE, reverse_path=NullPath())).notice is Notice.NONE


@pytest.mark.parametrize("priority", [0, 3, -3])
def test_what_waits_for_a_call_is_looked_at_when_it_is_late_and_when_it_is_over_whatever_its_priority(
    priority: int,
) -> None:
    """Urgent mail was looked at by its own schedule, each time in vain."""
    own = Variation((timedelta(minutes=1),), timedelta(hours=2), timedelta(hours=1))
    called = replace(POLICY, urgent=own, non_urgent=own).until_called().of(priority)
    late, over = (timedelta(hours=1), timedelta(hours=2)) if priority else (timedelta(hours=4), timedelta(days=5))
    assert (called.schedule, called.expire, called.delay_notice, called.jitter) == ((late, over), over, late, 0.0)


def test_a_schedule_has_pauses() -> None:
    for schedule in ((), (timedelta(),), (timedelta(minutes=1), timedelta(seconds=-1))):
        with pytest.raises(ValueError, match="pause"):
            RetryPolicy(schedule, timedelta(days=1))


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=5), "5 days"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(seconds=61), "61 seconds"),
    ],
)
def test_durations_are_said_in_their_largest_whole_unit(duration: timedelta, words: str) -> None:
    assert in_words(duration) == words
