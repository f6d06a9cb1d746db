"""What a route does with mail that its next hop cannot have now: how much a provider takes, and who takes the rest.

Values, and the limits that large providers publish. Not here: counting (deliver/quotas.py), and going another way
(deliver/relays.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from waypost.smtp.reply import EnhancedStatus

#: The status of mail that waits for a quota: "too many messages", for now (RFC 3463 has no detail of its own for what
#: we may send).
QUOTA_SPENT: Final = EnhancedStatus(4, 7, 28)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Quota:
    """At most so many in any such period, of messages, or of recipients over all messages."""

    amount: int
    period: timedelta
    counts: Literal["messages", "recipients"] = "messages"

    def __str__(self) -> str:
        """As a person says it: "500 recipients in 24 hours"."""
        hours = self.period.total_seconds() / 3600
        span = f"{hours:g} hour{'' if hours == 1 else 's'}" if hours >= 1 else f"{hours * 60:g} min"
        return f"{self.amount} {self.counts} in {span}"


@dataclass(frozen=True, slots=True)
class Onward:
    """`quotas` are counted by `credential`, over all routes with the same. `fallback`: the name of a route.

    The fallback is gone to once the quotas are spent, or a recipient has had `attempts` attempts, or waited for `after`
    (zero: however long).
    """

    quotas: tuple[Quota, ...] = ()
    credential: str = ""
    fallback: str = ""
    attempts: int = 3
    after: timedelta = timedelta()


def counted_for(onward: Onward, name: str) -> str:
    """Whose quota it is, in words: an account's, or that of the route called `name`, which logs in with none."""
    return onward.credential if onward.credential not in {"", name} else f'the route "{name}"'


#: Mail waits for its next hop.
STAY: Final = Onward()

#: What providers publish of their limits for one account, as of 2026; a contract may say more.
PRESETS: Final[Mapping[str, tuple[Quota, ...]]] = {
    "gmail": (Quota(500, DAY, "recipients"),),
    "google-workspace": (Quota(2000, DAY), Quota(10_000, DAY, "recipients")),
    "microsoft-365": (Quota(30, MINUTE), Quota(10_000, DAY, "recipients")),
    "amazon-ses-sandbox": (Quota(60, MINUTE), Quota(200, DAY, "recipients")),
    "icloud": (Quota(1000, DAY, "recipients"),),
    "yahoo": (Quota(500, DAY, "recipients"),),
    "zoho": (Quota(500, DAY, "recipients"),),
    "brevo-free": (Quota(300, DAY, "recipients"),),
    "sendgrid-free": (Quota(100, DAY, "recipients"),),
}
