"""Maps that ask somebody: answers are remembered, trouble is not, and no question lasts longer than it may."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from tests.virtual import VirtualClock, virtual
from waypost.maps.cached import CachedMap, Terms
from waypost.maps.http import MAX_OCTETS, HttpQuestion
from waypost.maps.ldap import LdapQuestion, Search
from waypost.maps.lookup import Listed, Lookup, MapTrouble, NotListed
from waypost.maps.sqlite import SqliteQuestion
from waypost.net.clock import SystemClock
from waypost.net.ldap import LdapServer

TERMS = Terms(timedelta(seconds=5), found=timedelta(minutes=5), missing=timedelta(minutes=1))
ALICE = Listed(("alice",), "there")


class Directory:
    """Answers as told, and counts."""

    def __init__(self, answer: Lookup | Exception, seconds: float = 0.0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.asked = 0

    async def __call__(self, key: str) -> Lookup:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(("answer", "holds"), [(ALICE, TERMS.found), (NotListed(), TERMS.missing)])
@virtual
async def test_an_answer_holds_for_its_time(answer: Lookup, holds: timedelta) -> None:
    clock, directory = VirtualClock(), Directory(answer)
    asked = CachedMap("d", directory, TERMS, clock, remote=True)
    for _ in range(3):
        assert await asked.look_up("info") == answer
    await clock.sleep(holds - timedelta(seconds=1))
    await asked.look_up("info")
    assert directory.asked == 1
    await clock.sleep(timedelta(seconds=2))
    await asked.look_up("info")
    assert directory.asked == 2


@virtual
async def test_trouble_is_told_and_not_remembered() -> None:
    directory = Directory(OSError("no route to host"))
    asked = CachedMap("people", directory, TERMS, VirtualClock(), remote=True)
    assert await asked.look_up("info") == MapTrouble("map people: OSError: no route to host", remote=True)
    directory.answer = ALICE
    assert await asked.look_up("info") == ALICE


@virtual
async def test_many_who_ask_at_once_make_one_question() -> None:
    directory = Directory(ALICE, seconds=1)
    asked = CachedMap("d", directory, TERMS, VirtualClock(), remote=True)
    assert await asyncio.gather(*(asked.look_up("info") for _ in range(50))) == [ALICE] * 50
    assert directory.asked == 1


@virtual
async def test_one_who_gives_up_leaves_the_others_their_answer() -> None:
    directory = Directory(ALICE, seconds=1)
    asked = CachedMap("d", directory, TERMS, VirtualClock(), remote=True)
    hasty, patient = asyncio.create_task(asked.look_up("info")), asyncio.create_task(asked.look_up("info"))
    await asyncio.sleep(0)
    hasty.cancel()
    assert await patient == ALICE


@virtual
async def test_a_directory_that_is_silent_is_given_up_on() -> None:
    asked = CachedMap("people", Directory(ALICE, seconds=3600), TERMS, VirtualClock(), remote=True)
    assert await asked.look_up("info") == MapTrouble("map people: gave no answer within 5 seconds", remote=True)


# ---- SQLite
@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "users.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE aliases (address TEXT, target TEXT)")
        rows = [("info@x.example", "alice"), ("info@x.example", "bob@y.example, carol"), ("null@x.example", None)]
        connection.executemany("INSERT INTO aliases VALUES (?, ?)", rows)
    connection.close()
    return path


async def test_a_query_lists_the_first_column_of_each_row(database: Path) -> None:
    asks = SqliteQuestion(database, "SELECT target FROM aliases WHERE address = :key", timedelta(seconds=1))
    assert await asks("info@x.example") == Listed(("alice", "bob@y.example", "carol"), "users.db")
    assert await asks("null@x.example") == NotListed()
    assert await asks("nobody@x.example") == NotListed()
    assert await asks("x' OR '1'='1") == NotListed()


async def test_a_query_may_take_the_address_apart(database: Path) -> None:
    asks = SqliteQuestion(database, "SELECT :user || '/' || :domain", timedelta(seconds=1))
    assert await asks("info@x.example") == Listed(("info/x.example",), "users.db")


async def test_a_query_cannot_write(database: Path) -> None:
    asks = SqliteQuestion(database, "DELETE FROM aliases WHERE address = :key RETURNING target", timedelta(seconds=1))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await asks("info@x.example")


async def test_a_query_that_is_no_longer_wanted_ends(database: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    asks = SqliteQuestion(database, endless, timedelta(seconds=1))
    terms = Terms(timedelta(milliseconds=50))
    answer = await CachedMap("d", asks, terms, VirtualClock(), remote=False).look_up("x")
    assert isinstance(answer, MapTrouble)  # and the thread has ended, or this process never would


# ---- HTTP
@asynccontextmanager
async def directory(*answers: web.Response) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that gives these answers in turn; its URL, and what it was asked."""
    left, seen = list(answers), list[web.Request]()

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return left.pop(0)

    app = web.Application()
    app.router.add_get("/{address:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/{{key}}", seen
    finally:
        await runner.cleanup()


async def test_a_list_in_json_or_text_is_read_and_404_lists_nobody() -> None:
    answers = [
        web.json_response(["alice", "bob@y.example"]),
        web.Response(text="alice, bob\ncarol\n"),
        web.Response(status=404),
        web.json_response([]),
    ]
    async with directory(*answers) as (url, seen):
        asks = HttpQuestion(url, "secret")
        found = [await asks("in/fo@x.example") for _ in answers]
    assert [one.values if isinstance(one, Listed) else () for one in found] == [
        ("alice", "bob@y.example"),
        ("alice", "bob", "carol"),
        (),
        (),
    ]
    assert {request.headers["Authorization"] for request in seen} == {"Bearer secret"}
    assert {request.raw_path for request in seen} == {"/in%2Ffo@x.example"}


@pytest.mark.parametrize(
    "wrong",
    [
        web.Response(status=500),
        web.Response(status=301, headers={"Location": "http://192.0.2.1/"}),
        web.json_response({"alice": 1}),
        web.Response(text="x" * (MAX_OCTETS + 1)),
    ],
)
async def test_any_other_answer_is_trouble(wrong: web.Response) -> None:
    async with directory(wrong) as (url, _):
        answer = await CachedMap("people", HttpQuestion(url), TERMS, VirtualClock(), remote=True).look_up("x")
    assert isinstance(answer, MapTrouble)
    assert answer.remote


# ---- LDAP, whose driver blocks
def by_ldap(port: int, seconds: float) -> CachedMap:
    terms = Terms(timedelta(seconds=seconds))
    server = LdapServer(f"ldap://127.0.0.1:{port}", terms.timeout)
    search = Search(server, "dc=example", "(mail={key})", ("mail",))
    return CachedMap("people", LdapQuestion(search), terms, SystemClock(), remote=True)


async def test_a_directory_that_refuses_connections_is_trouble_and_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        answer = await by_ldap(taken.getsockname()[1], 30).look_up("info")
    assert isinstance(answer, MapTrouble)
    assert answer.remote
    assert "map people: ldap 127.0.0.1: LDAPSocketOpenError" in answer.detail


async def test_a_directory_that_takes_a_connection_and_is_mute_is_given_up_on_and_holds_up_no_other_thread() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(100)
        people = by_ldap(mute.getsockname()[1], 0.3)
        answers = await asyncio.gather(*(people.look_up(f"info{number}") for number in range(20)))
        assert set(answers) == {MapTrouble("map people: gave no answer within 0.3 seconds", remote=True)}
        async with asyncio.timeout(2):  # the loop's own threads are free
            assert await asyncio.to_thread(lambda: "here") == "here"
