"""Relay control is a table: who asks, where the route came from, what is answered."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.receive.house import CLOSED_MAILBOX, ELSEWHERE, OURS
from waypost.mail.envelope import NextHop
from waypost.policy.admission import Denied, Granted, RelayPolicy, judge_recipient
from waypost.route.route import NoRoute, Reject, Route
from waypost.smtp.path import Mailbox, Postmaster, parse_mailbox
from waypost.smtp.reply import Reply

BOB: Mailbox = parse_mailbox("bob@example.org")
NOWHERE = NoRoute("no rule for example.org")
NOBODY_ELSE = Route(NextHop("-"), Reject(Reply.of(550, "5.7.1", "not through here")), "rule 9", relay_only=True)


@pytest.mark.parametrize(
    ("route", "trusted", "answer"),
    [
        (OURS, False, "ours"),
        (OURS, True, "ours"),
        (ELSEWHERE, True, "elsewhere"),
        (ELSEWHERE, False, "550 5.7.1 relaying denied"),
        (NOWHERE, False, "550 5.7.1 relaying denied"),
        (NOWHERE, True, "550 5.1.2 no route"),
        (CLOSED_MAILBOX, False, "550 5.1.1 no such user here"),
        (CLOSED_MAILBOX, True, "550 5.1.1 no such user here"),
        (NOBODY_ELSE, False, "550 5.7.1 not through here"),
        (NOBODY_ELSE, True, "550 5.7.1 not through here"),
    ],
)
def test_who_may_send_where(route: Route | NoRoute, trusted: bool, answer: str) -> None:  # noqa: FBT001
    match judge_recipient(BOB, route, trusted=trusted):
        case Granted(taken):
            assert taken.next_hop == answer
        case Denied(reply):
            assert str(reply).startswith(answer)


def test_the_bare_postmaster_is_routed_like_any_other() -> None:
    assert judge_recipient(Postmaster(), OURS, trusted=False) == Granted(OURS)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8:1::25", True),
        ("2001:db8:2::25", False),
        ("fe80::1%eth0", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_clients_are_trusted_by_their_network(host: str, trusted: bool) -> None:  # noqa: FBT001
    policy = RelayPolicy((ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")))
    assert policy.trusts(host) is trusted


def test_a_local_socket_is_trusted_as_loopback_is() -> None:
    assert RelayPolicy((ip_network("127.0.0.0/8"),)).trusts("")


def test_nobody_is_trusted_by_default() -> None:
    assert not RelayPolicy().trusts("127.0.0.1")
