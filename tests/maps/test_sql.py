"""Queries as drivers want them, and the settings of maps that ask servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.test_config import GOOD, accepted, refused
from waypost.maps.sql import named, numbered

QUERY = "SELECT target::text FROM a WHERE k = :key AND d = :domain AND e = :key AND f LIKE '50%' AND g = ':keys'"


def test_parameters_are_numbered_as_they_come_and_casts_are_left_alone() -> None:
    query, names = numbered(QUERY)
    assert query == QUERY.replace(":key ", "$1 ").replace(":domain", "$2")
    assert names == ("key", "domain")


def test_parameters_are_named_and_per_cent_signs_stand_for_themselves() -> None:
    assert named(QUERY) % {"key": "K", "domain": "D"} == QUERY.replace(":key ", "K ").replace(":domain", "D")


@given(st.text())
def test_a_query_without_parameters_stays(text: str) -> None:
    query, names = numbered(text)
    assert (query == text) or names
    assert names or named(text) % {} == text


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('postgres = "mail"\nquery = "SELECT 1"\n', "map.postgres", "no postgres address"),
        ('postgres = "postgresql://u:p@db/mail"\nquery = "SELECT 1"\n', "map.postgres", "password in it"),
        ('postgres = "postgresql://db/mail"\n', "map.postgres", "needs a query"),
        ('mysql = "mysql:///mail"\nquery = "SELECT 1"\n', "map.mysql", "no mysql address"),
        ('ldap = "ldap://dir"\n', "map.ldap", "base or filter"),
        ('ldap = "ldap://dir"\nbase = "dc=x"\nfilter = "(mail=x)"\n', "map.ldap", "base or filter"),
        ('file = "x"\npassword_file = "x"\n', "map.password_file", "is for postgres"),
        (
            'ldap = "ldap://dir"\nbase = "dc=x"\nfilter = "(mail={key})"\npassword_file = "x"\n',
            "map.password_file",
            "read",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_told(text: str, key: str, problem: str) -> None:
    complaints = refused(f'{GOOD}[[map]]\nname = "m"\n{text}')
    assert any(one.key == key and problem in one.problem for one in complaints), complaints


def test_a_server_may_be_named_before_it_is_there() -> None:
    query = "SELECT target FROM aliases WHERE address = :key"
    accepted(GOOD + f'[[map]]\nname = "m"\npostgres = "postgresql://w@db/mail"\nquery = "{query}"\n')
