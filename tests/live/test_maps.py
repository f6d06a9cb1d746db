"""Maps that ask real servers: what is listed, what is not, and a server that is gone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.live.directories import PASSWORD, Server, mariadb, postgres, slapd
from tests.live.process import free_port
from tests.virtual import settled
from waypost.maps.cached import Ask, CachedMap, Terms
from waypost.maps.ldap import LdapQuestion, Search
from waypost.maps.lookup import NOT_LISTED, Listed, MapTrouble
from waypost.maps.sql import MysqlQuestion, PostgresQuestion
from waypost.net.clock import SystemClock

pytestmark = pytest.mark.live

SOON = timedelta(seconds=30)
QUERY = "SELECT target FROM aliases WHERE address = :key AND '%' <> :user ORDER BY target"
BOTH = {"ann@example.com", "bob@example.org"}


def by_postgres(url: str, password: str) -> Ask:
    return PostgresQuestion(url, password, QUERY, SOON)


def by_mysql(url: str, password: str) -> Ask:
    return MysqlQuestion(url, password, QUERY, SOON)


def by_ldap(url: str, password: str) -> Ask:
    admin = "cn=admin,dc=example,dc=com"
    return LdapQuestion(Search(url, "dc=example,dc=com", "(mail={key})", ("description",), admin, password), SOON)


KINDS = {"postgres": (postgres, by_postgres), "mysql": (mariadb, by_mysql), "ldap": (slapd, by_ldap)}


@contextlib.asynccontextmanager
async def server(kind: str, place: Path) -> AsyncIterator[tuple[Server, Callable[[str, str], Ask]]]:
    start, ask = KINDS[kind]
    async with start(place) as running:
        yield running, ask


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_there_is_listed_what_is_not_is_not_and_a_wrong_password_is_trouble(
    kind: str, place: Path
) -> None:
    async with server(kind, place) as (running, ask):
        asked = CachedMap("m", ask(running.url, PASSWORD), Terms(SOON), SystemClock(), remote=True)
        found = await asked.look_up("info@example.com")
        assert isinstance(found, Listed), found
        assert set(found.values) == BOTH
        for key in ("nobody@example.com", "x'); DROP TABLE aliases; --@example.com", "*)(mail=*@example.com", "ü@x"):
            assert await asked.look_up(key) == NOT_LISTED, key
        assert await asked.look_up("info@example.com") is found  # remembered
        wrong = CachedMap("m", ask(running.url, "wrong"), Terms(SOON), SystemClock(), remote=True)
        trouble = await wrong.look_up("info@example.com")
        assert isinstance(trouble, MapTrouble)
        assert "127.0.0.1" in trouble.detail
        assert PASSWORD not in trouble.detail
        await settled()  # aiomysql closes its connections soon, not at once


@pytest.mark.parametrize(("kind", "scheme"), [("postgres", "postgresql"), ("mysql", "mysql")])
async def test_a_server_that_is_gone_is_trouble_and_never_means_not_listed(kind: str, scheme: str) -> None:
    """Not so of LDAP: of a connection that is refused, ldap3 leaves the socket to the collector."""
    _, ask = KINDS[kind]
    url = f"{scheme}://waypost@127.0.0.1:{free_port()}/mail"
    gone = CachedMap("m", ask(url, PASSWORD), Terms(SOON), SystemClock(), remote=True)
    trouble = await gone.look_up("info@example.com")
    assert isinstance(trouble, MapTrouble)
    assert trouble.remote
