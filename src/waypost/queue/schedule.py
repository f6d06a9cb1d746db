"""When to try again, and when to give up (RFC 5321 §4.5.4.1). Pure. INTERFACE SKETCH."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from waypost.mail.envelope import QueuedMessage, QueuedRecipient
from waypost.mail.outcome import Outcome
from waypost.net.clock import Instant
from waypost.queue.storage import Settled


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`schedule`: the pause after attempt 1, 2 …, the last repeats. `expire`: from receipt to giving up."""

    schedule: tuple[timedelta, ...]
    expire: timedelta
    delay_notice: timedelta = timedelta(hours=4)
    #: Each pause is stretched by up to this share, so that what failed together does not come back together.
    jitter: float = 0.1


def settle_recipient(
    message: QueuedMessage,
    recipient: QueuedRecipient,
    outcome: Outcome,
    *,
    policy: RetryPolicy,
    now: Instant,
    dice: random.Random,
    captured: bool = False,
) -> Settled:
    """What follows from an outcome: gone, or due again; and the report that is due. Expiry turns Deferred into Rejected 5.4.7 / 4.4.7."""
    raise NotImplementedError
