"""When to try again, and when to give up (RFC 5321 §4.5.4.1). Pure: the caller brings the time and the dice.

Not here: who may try next and how often at once (deliver/), and what a report says (mail/dsn.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, assert_never

from waypost.mail.envelope import Doubt, PossiblyAt, QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Deferred, Delivered, Expired, InDoubt, Outcome, Rejected
from waypost.mail.window import ALWAYS, Hourly, Window
from waypost.net.clock import Instant
from waypost.queue.record import is_told_of_failure
from waypost.queue.storage import Gone, Notice, Settled, Wait
from waypost.smtp.extension import ByMode, Notify, by_of
from waypost.smtp.path import NullPath
from waypost.smtp.reply import EnhancedStatus

#: A host that may hold the message is given time to show it: a spurious time-out there makes copies (RFC 1047).
PAUSE_IN_DOUBT: Final = timedelta(minutes=15)
#: "Delivery time expired" (RFC 3463 §3.5).
EXPIRED: Final = EnhancedStatus(5, 4, 7)


@dataclass(frozen=True, slots=True)
class Variation:
    """What mail of a priority has otherwise; what is empty or zero is as for other mail."""

    schedule: tuple[timedelta, ...] = ()
    expire: timedelta = timedelta()
    delay_notice: timedelta = timedelta()


SAME: Final = Variation()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`schedule`: the pause after attempt 1, 2 …, the last repeats. `expire`: from receipt to giving up."""

    schedule: tuple[timedelta, ...]
    expire: timedelta
    delay_notice: timedelta = timedelta(hours=4)
    #: Each pause is stretched by up to this share, so that what failed together does not come back together.
    jitter: float = 0.1
    #: For mail of a priority above 0, and below.
    urgent: Variation = SAME
    non_urgent: Variation = SAME

    def __post_init__(self) -> None:
        if not self.schedule or min(self.schedule) <= timedelta():
            raise ValueError("a retry schedule has at least one pause, and each is longer than nothing")

    def until_called(self) -> RetryPolicy:
        """For mail that waits until it is asked for: looked at when a delay is to be reported, and at its end."""
        return replace(
            self,
            schedule=_looks_of(self),
            jitter=0.0,
            urgent=replace(self.urgent, schedule=_looks_of(self.of(1))),
            non_urgent=replace(self.non_urgent, schedule=_looks_of(self.of(-1))),
        )

    def of(self, priority: int) -> RetryPolicy:
        """The policy for mail of a priority (RFC 6710 §5.3): above 0 it is urgent, below it is not."""
        if not priority:
            return self
        own = self.urgent if priority > 0 else self.non_urgent
        return replace(
            self,
            schedule=own.schedule or self.schedule,
            expire=own.expire or self.expire,
            delay_notice=own.delay_notice or self.delay_notice,
        )

    def pause(self, attempts: int, dice: random.Random) -> timedelta:
        """The pause after an attempt that `attempts` others came before."""
        return self.schedule[min(attempts, len(self.schedule) - 1)] * (1 + dice.random() * self.jitter)


def _looks_of(policy: RetryPolicy) -> tuple[timedelta, ...]:
    return (min(policy.delay_notice, policy.expire), policy.expire)


def settle_recipient(
    message: QueuedMessage,
    recipient: QueuedRecipient,
    outcome: Outcome,
    *,
    policy: RetryPolicy,
    now: Instant,
    dice: random.Random,
    captured: bool = False,
    window: Window = ALWAYS,
) -> Settled:
    """What follows from an outcome: gone, or due again; and the report that is due.

    `captured`: what was delivered went to the inbox the service keeps. `window`: while it is shut nothing is due, and
    that time does not count for giving up. A failure of a message with a null reverse-path
    is reported like any other: report/ alone knows whether the postmaster gets a copy (RFC 5321 §4.5.5 forbids it to
    answer). Expiry turns Deferred and InDoubt into Rejected, 5.4.7.
    """
    if message.parameters.priority:
        policy = policy.of(message.parameters.priority)
    match outcome:
        case Delivered():
            return Settled(recipient, outcome, Gone(captured=captured), _notice_of_success(message, recipient, outcome))
        case Rejected():
            return Settled(recipient, outcome, Gone(), _notice_of_failure(message, recipient))
        case Deferred():
            pause = max(policy.pause(recipient.attempts, dice), timedelta(seconds=outcome.not_before - now))
            return _wait(message, recipient, outcome, pause, policy, now, window)
        case InDoubt():
            pause = max(policy.pause(recipient.attempts, dice), PAUSE_IN_DOUBT)
            return _wait(message, recipient, outcome, pause, policy, now, window)
        case _:
            assert_never(outcome)


def _wait(
    message: QueuedMessage,
    recipient: QueuedRecipient,
    outcome: Deferred | InDoubt,
    pause: timedelta,
    policy: RetryPolicy,
    now: Instant,
    window: Window,
) -> Settled:
    expiry = message.began_at + policy.expire.total_seconds()
    due = now + pause.total_seconds()
    if isinstance(window, Hourly):
        expiry, due = window.after(message.began_at, policy.expire), window.opens(due)
    mode = by_of(message.parameters.by).mode
    if mode is ByMode.RETURN and message.deliver_by <= expiry:
        if now >= message.deliver_by:
            return _give_up(message, recipient, outcome, timedelta(seconds=by_of(message.parameters.by).seconds))
        due = min(due, message.deliver_by)  # nothing is sent then any more: it is when the author hears of it
    if now >= expiry:
        # Nobody is given up on after a single attempt: the service may have stood still for days, or the clock leapt.
        if recipient.attempts:
            return _give_up(message, recipient, outcome, policy.expire)
    else:
        due = min(due, expiry)  # so that the last attempt is made when time is up, and not a pause before
    if mode is ByMode.NOTIFY and now < message.deliver_by:
        due = min(due, message.deliver_by)
    return Settled(
        recipient,
        outcome,
        Wait(due, _doubt(recipient, outcome)),
        _notice_of_delay(message, recipient, policy, now),
        expiry,
    )


def _give_up(message: QueuedMessage, recipient: QueuedRecipient, last: Deferred | InDoubt, after: timedelta) -> Settled:
    outcome = Rejected(Expired(in_words(after), last), EXPIRED)
    # The report must not say "not delivered" where the last attempt, too, may have left a copy.
    recipient = replace(recipient, doubt=_doubt(recipient, last))
    return Settled(recipient, outcome, Gone(), _notice_of_failure(message, recipient))


def _doubt(recipient: QueuedRecipient, outcome: Deferred | InDoubt) -> Doubt:
    return PossiblyAt(str(outcome.host.endpoint)) if isinstance(outcome, InDoubt) else recipient.doubt


def is_too_late(message: QueuedMessage, now: Instant) -> bool:
    """Whether its author wants it back rather than delivered now (RFC 2852 §4)."""
    return by_of(message.parameters.by).mode is ByMode.RETURN and now >= message.deliver_by


# ---- which report is due (RFC 3461 §5.2)
def _notice_of_success(message: QueuedMessage, recipient: QueuedRecipient, outcome: Delivered) -> Notice:
    if (
        outcome.traced
        and recipient.parameters.notify is not Notify.NEVER
        and not isinstance(message.reverse_path, NullPath)
    ):
        return Notice.RELAYED
    if not recipient.parameters.notify.wants_success:
        return Notice.NONE
    if outcome.final:
        return Notice.EXPANDED if outcome.expanded else Notice.DELIVERED
    return (
        Notice.RELAYED if outcome.relayed_without_dsn else Notice.NONE
    )  # else the next hop has taken the request over


def _notice_of_failure(message: QueuedMessage, recipient: QueuedRecipient) -> Notice:
    # A DSN carries NOTIFY=NEVER, which forbids to tell its sender; that it failed is the postmaster's to know.
    return Notice.FAILED if is_told_of_failure(recipient, message.reverse_path) else Notice.NONE


def _notice_of_delay(message: QueuedMessage, recipient: QueuedRecipient, policy: RetryPolicy, now: Instant) -> Notice:
    is_due = now - message.began_at >= policy.delay_notice.total_seconds()
    if by_of(message.parameters.by).mode is ByMode.NOTIFY and now >= message.deliver_by:
        is_due = True
    is_wanted = recipient.parameters.notify.wants_delay and not isinstance(message.reverse_path, NullPath)
    return Notice.DELAYED if is_due and is_wanted and not recipient.delay_reported else Notice.NONE


def in_words(duration: timedelta) -> str:
    """A duration as a person says it, in its largest whole unit: "5 days", "1 hour", "90 minutes"."""
    seconds = int(duration.total_seconds())
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"
