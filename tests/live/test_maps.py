"""Maps that ask real servers: what is listed, what is not, and a server that is gone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
import trustme

from tests.certificates import write_certificate
from tests.live.directories import PASSWORD, Server, mariadb, postgres, slapd
from tests.live.process import free_port
from tests.virtual import settled
from waypost.maps.cached import Ask, CachedMap, Terms
from waypost.maps.ldap import LdapQuestion, Search
from waypost.maps.lookup import NOT_LISTED, Listed, Lookup, MapTrouble
from waypost.maps.sql import MysqlQuestion, PostgresQuestion
from waypost.net.certificates import CertificateFiles
from waypost.net.clock import SystemClock
from waypost.net.ldap import LdapServer

pytestmark = pytest.mark.live

SOON = timedelta(seconds=30)
QUERY = "SELECT target FROM aliases WHERE address = :key AND '%' <> :user ORDER BY target"
BOTH = {"ann@example.com", "bob@example.org"}


class AskBy(Protocol):
    """Makes a question of a kind of server."""

    def __call__(self, url: str, password: str, ca: str = "") -> Ask: ...


def by_postgres(url: str, password: str, ca: str = "") -> Ask:
    return PostgresQuestion(url, password, QUERY, SOON, ca)


def by_mysql(url: str, password: str, ca: str = "") -> Ask:
    return MysqlQuestion(url, password, QUERY, SOON, ca)


def by_ldap(url: str, password: str, ca: str = "") -> Ask:
    admin = "cn=admin,dc=example,dc=com"
    return LdapQuestion(
        Search(LdapServer(url, SOON, ca), "dc=example,dc=com", "(mail={key})", ("description",), admin, password)
    )


KINDS = {"postgres": (postgres, by_postgres), "mysql": (mariadb, by_mysql), "ldap": (slapd, by_ldap)}


@contextlib.asynccontextmanager
async def server(kind: str, place: Path) -> AsyncIterator[tuple[Server, AskBy]]:
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


@pytest.mark.parametrize(("kind", "scheme"), [("postgres", "postgresql"), ("mysql", "mysql"), ("ldap", "ldap")])
async def test_a_server_that_is_gone_is_trouble_and_never_means_not_listed(kind: str, scheme: str) -> None:
    _, ask = KINDS[kind]
    url = f"{scheme}://waypost@127.0.0.1:{free_port()}/mail"
    gone = CachedMap("m", ask(url, PASSWORD), Terms(SOON), SystemClock(), remote=True)
    trouble = await gone.look_up("info@example.com")
    assert isinstance(trouble, MapTrouble)
    assert trouble.remote


@contextlib.asynccontextmanager
async def under_tls(kind: str, place: Path, files: CertificateFiles) -> AsyncIterator[tuple[Server, AskBy]]:
    """A server that takes nobody in clear."""
    start: dict[str, tuple[contextlib.AbstractAsyncContextManager[Server], AskBy]] = {
        "postgres": (postgres(place, files), by_postgres),
        "mysql": (mariadb(place, files), by_mysql),
        "ldaps": (slapd(place, files, implicit=True), by_ldap),
        "StartTLS": (slapd(place, files), by_ldap),
    }
    running, ask = start[kind]
    async with running as server_:
        yield server_, ask


@pytest.mark.parametrize("kind", ["postgres", "mysql", "ldaps", "StartTLS"])
async def test_a_server_is_asked_under_tls_and_believed_by_its_authority_and_its_name_alone(
    kind: str, place: Path
) -> None:
    ours, strange = trustme.CA(), trustme.CA()
    for authority, file in ((ours, "ours.pem"), (strange, "strange.pem")):
        authority.cert_pem.write_to_path(str(place / file))
    files = write_certificate(ours, place, "localhost")
    async with under_tls(kind, place, files) as (running, ask):
        named, numbered = running.url.replace("127.0.0.1", "localhost"), running.url

        async def looked_up(url: str, ca: str) -> Lookup:
            asked = CachedMap("m", ask(url, PASSWORD, str(place / ca)), Terms(SOON), SystemClock(), remote=True)
            return await asked.look_up("info@example.com")

        found = await looked_up(named, "ours.pem")
        assert isinstance(found, Listed), found
        assert set(found.values) == BOTH
        wrong = [await looked_up(named, "strange.pem"), await looked_up(named, "gone.pem")]
        if kind != "StartTLS":  # to a numeric loopback address it is not asked for
            wrong.append(await looked_up(numbered, "ours.pem"))
        for trouble in wrong:
            assert isinstance(trouble, MapTrouble), trouble
            assert trouble.remote
        await settled()


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
async def test_who_asks_for_a_verified_name_gets_no_answer_from_a_stranger(kind: str, place: Path) -> None:
    """By the words of the URL, without an authority of its own: this machine does not know who signed it."""
    files = write_certificate(trustme.CA(), place, "localhost")
    async with under_tls(kind, place, files) as (running, ask):
        strict = "?ssl-mode=verify_identity" if kind == "mysql" else "?sslmode=verify-full"
        lax = "?ssl-mode=required" if kind == "mysql" else "?sslmode=require"
        named = running.url.replace("127.0.0.1", "localhost")
        for words, listed in ((strict, False), (lax, True)):
            asked = CachedMap("m", ask(named + words, PASSWORD), Terms(SOON), SystemClock(), remote=True)
            assert isinstance(await asked.look_up("info@example.com"), Listed) is listed, words
        await settled()
