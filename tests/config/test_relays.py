"""What is wrong with routes that choose, spill or present themselves, told with the line and the remedy."""

from __future__ import annotations

import pytest

from tests.config.test_config import GOOD, accepted, refused
from waypost.route.onward import PRESETS
from waypost.route.route import Route
from waypost.smtp.path import parse_mailbox

ALL = GOOD + '[[route]]\ndomains = ["*"]\nto = "smtp://a.example:25"\n'
MX = GOOD + '[[route]]\ndomains = ["*"]\nto = "mx:"\n'


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (ALL + "weights = [1, 2]\n", "route.weights", "2 numbers for 1 servers"),
        (MX + "weights = [1]\n", "route.weights", "no effect on mx:"),
        (ALL + 'rate = "fast"\n', "route.rate", "no rate"),
        (ALL + 'quota = ["hotmail"]\n', "route.quota", "no quota"),
        (ALL + 'source = ["localhost"]\n', "route.source", "no address"),
        (ALL + 'helo = "x"\n', "route.helo", "no full name"),
        (ALL + 'fallback = ["nowhere"]\n', "route.fallback", "no route without domains"),
        (ALL + 'fallback = ["capture:", "smtp://b.example"]\n', "route.fallback", "mixes"),
        (ALL + "fallback_attempts = 2\n", "route", "has none"),
        (ALL + 'senders = ["a.example"]\n', "route.senders", "needs a name"),
        (ALL + '[[route]]\nname = "b"\naccounts = ["ann"]\nto = "mx:"\n', "route.accounts", "chooses among no domains"),
        (ALL + '[[destination]]\ndomains = ["b.example"]\n', "destination", "no route by mx:"),
        (
            MX + '[[destination]]\ndomains = ["b.example"]\n[[destination]]\ndomains = ["b.example"]\n',
            "destination.domains",
            "already",
        ),
        (
            GOOD + '[[route]]\nname = "a"\nto = "smtp://a.example"\nfallback = ["b"]\n'
            '[[route]]\nname = "b"\nto = "smtp://b.example"\nfallback = ["a"]\n',
            "route.fallback",
            "leads back",
        ),
        (GOOD + '[[route]]\ndomains = ["*"]\nto = "discard:"\nquota = ["gmail"]\n', "route.quota", "takes everything"),
    ],
)
def test_each_mistake_is_told(text: str, key: str, problem: str) -> None:
    complaints = refused(text)
    assert any(one.key == key and problem in one.problem for one in complaints), complaints
    assert all(one.remedy for one in complaints)


def test_a_fallback_of_servers_is_a_route_of_its_own_that_no_recipient_reaches() -> None:
    table = accepted(ALL + 'quota = ["gmail"]\nfallback = ["smtp://b.example:26"]\n').route_table()
    found = table.route(parse_mailbox("x@far.example"))
    assert isinstance(found, Route)
    assert found.onward.quotas == PRESETS["gmail"]
    assert isinstance(table.named(found.onward.fallback), Route)
    assert table.is_by_name(table.named(found.onward.fallback).next_hop)  # type: ignore[union-attr]  # a Route, as above


def test_quotas_of_one_username_are_counted_together() -> None:
    login = 'tls = "verify"\nusername = "me"\npassword_env = "HOME"\nquota = ["gmail"]\n'
    config = accepted(f'{ALL}{login}[[route]]\nname = "b"\ndomains = ["b.example"]\nto = "smtp://b.example"\n{login}')
    assert {rule.means.onward.credential for rule in config.rules} == {"me"}
