from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.policy.retries import policy_on
from waypost.queue.schedule import RetryPolicy, Variation
from waypost.route.route import Retries

HOUR: Final = timedelta(hours=1)
SERVICE: Final = RetryPolicy((HOUR,), timedelta(days=5), 4 * HOUR)
durations = st.integers(0, 3).map(lambda hours: hours * HOUR)


def test_what_a_route_does_not_say_is_as_the_service_has_it() -> None:
    assert policy_on(SERVICE, Retries()) == SERVICE
    assert policy_on(SERVICE, Retries(expire=HOUR)).of(5).expire == HOUR


@given(route=durations, route_urgent=durations, service_urgent=durations)
def test_of_a_priority_its_route_goes_first_then_the_service_then_what_is_usual_on_the_route(
    route: timedelta, route_urgent: timedelta, service_urgent: timedelta
) -> None:
    service = RetryPolicy((3 * HOUR,), 3 * HOUR, 3 * HOUR, urgent=Variation((), service_urgent, service_urgent))
    own = Retries(expire=route, delay_notice=route, urgent_expire=route_urgent, urgent_delay_notice=route_urgent)
    policy = policy_on(service, own)
    urgent = route_urgent or service_urgent or route or 3 * HOUR
    assert (policy.of(1).expire, policy.of(1).delay_notice) == (urgent, urgent)
    assert policy.of(0).expire == policy.of(-1).expire == (route or 3 * HOUR)


@pytest.mark.parametrize(("priority", "written"), [*product([1, -1], [True, False])])
def test_a_time_of_a_priority_that_equals_the_usual_one_counts_all_the_same(priority: int, *, written: bool) -> None:
    """It was taken for one that is not written, and the route's usual time stood in its place."""
    said = Variation(SERVICE.schedule, SERVICE.expire, SERVICE.delay_notice) if written else Variation()
    service = RetryPolicy(SERVICE.schedule, SERVICE.expire, SERVICE.delay_notice, urgent=said, non_urgent=said)
    policy = policy_on(service, Retries(schedule=(timedelta(minutes=1),), expire=HOUR, delay_notice=HOUR)).of(priority)
    assert (policy.schedule == SERVICE.schedule) is written
    assert (policy.expire, policy.delay_notice) == ((SERVICE.expire, SERVICE.delay_notice) if written else (HOUR, HOUR))
