"""When mail is tried again on a route: by what the route says itself, else by what the service says. Pure.

Not here: what follows from an outcome by these times (queue/schedule.py), and where they are written (config/).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from waypost.queue.schedule import RetryPolicy, Variation
from waypost.route.route import Retries


def policy_on(policy: RetryPolicy, own: Retries) -> RetryPolicy:
    """The service's `policy`, but for what a route has of its `own`.

    Of a priority what the route says of it goes first, then what the service says of it, then what is usual there.
    """
    return replace(
        policy,
        schedule=own.schedule or policy.schedule,
        expire=own.expire or policy.expire,
        delay_notice=own.delay_notice or policy.delay_notice,
        urgent=_varied(policy.urgent, own.urgent_schedule, own.urgent_expire, own.urgent_delay_notice),
        non_urgent=_varied(
            policy.non_urgent, own.non_urgent_schedule, own.non_urgent_expire, own.non_urgent_delay_notice
        ),
    )


def _varied(usual: Variation, schedule: tuple[timedelta, ...], expire: timedelta, delay_notice: timedelta) -> Variation:
    return Variation(schedule or usual.schedule, expire or usual.expire, delay_notice or usual.delay_notice)
