"""`[[domain]]` and `[[map]]`: what they make, and each mistake in them told with its line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_config import GOOD, accepted, refused
from tests.virtual import VirtualClock
from waypost.config.domains import Ground, build_map
from waypost.maps.cached import CachedMap
from waypost.maps.call_ahead import Lenient
from waypost.maps.file import PatternFile, TableFile
from waypost.maps.inline import InlineMap
from waypost.net.dialer import AsyncioDialer

DOMAIN = "[[domain]]\nnames = ['ours.example']\n"
MAP = "[[map]]\nname = 'm'\n"
INLINE = MAP + "entries = { info = 'alice' }\n"
ROUTES = "[[route]]\nname = 'old'\nto = 'smtp://a'\n[[route]]\nname = 'own'\ndomains = ['x.example']\nto = 'smtp://b'\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text("info alice\n")
    (tmp_path / "bad").write_text("info alice\nalone\n")
    (tmp_path / "patterns").write_text("/^info@/ alice\n")
    (tmp_path / "users.db").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("entries = { info = ['alice', 'bob'] }", InlineMap),
        ("file = 'good'", TableFile),
        ("regexp = 'patterns'", PatternFile),
        ("sqlite = 'users.db'\nquery = 'SELECT 1'", CachedMap),
        ("call_ahead = 'lmtp:///run/lmtp'", CachedMap),
        ("call_ahead = 'smtp://127.0.0.1:1'\naccept_when_down = true", Lenient),
        ("http = 'http://127.0.0.1:1/{key}'\ntoken_file = 'good'", CachedMap),
    ],
)
def test_each_source_makes_its_map(source: str, made: type, base: Path) -> None:
    config = accepted(f"{GOOD}{MAP}{source}\n", base=base)
    assert isinstance(build_map(config.maps[0], Ground(base, "mx.example.net", VirtualClock(), AsyncioDialer())), made)


@pytest.mark.parametrize(
    ("text", "line", "key", "problem", "remedy"),
    [
        (MAP, 8, "map.name", "has no source", "entries, file"),
        (INLINE + "file = 'good'\n", 8, "map.name", "2 sources: entries, file", "one of"),
        (INLINE + INLINE, 11, "map.name", "a map already, on line 7", "name of its own"),
        (MAP + "entries = { info = 3 }\n", 9, "map.entries", "neither text nor a list", "info"),
        (MAP + "entries = 3\n", 9, "map.entries", "no table", "info"),
        (MAP + "file = 'gone'\n", 9, "map.file", "cannot be read", "text file"),
        (MAP + "file = 'bad'\n", 9, "map.file", "line 2: 'alone'", "Mend it"),
        (MAP + "regexp = 'good'\n", 9, "map.regexp", "line 1: 'info alice' is no pattern", "Mend it"),
        (MAP + "sqlite = 'gone'\nquery = 'x'\n", 9, "map.sqlite", "is no file", "database"),
        (MAP + "sqlite = 'users.db'\n", 9, "map.sqlite", "needs a query", "SELECT"),
        (MAP + "file = 'good'\nquery = 'x'\n", 9, "map.file", "no use for a query", "nowhere else"),
        (MAP + "http = 'http://x/'\n", 9, "map.http", "no URL with {key}", "{key}"),
        (MAP + "http = 'http://x/{key}'\ntoken_file = 'gone'\n", 10, "map.token_file", "cannot be read", "text file"),
        (
            MAP + "http = 'https://x/{key}'\nca = 'good'\n",
            10,
            "map.ca",
            "no certificate in PEM",
            "the CA that signs them",
        ),
        (
            MAP + "ldap = 'ldaps://x'\nbase = 'x'\nfilter = '{key}'\nca = 'gone'\n",
            12,
            "map.ca",
            "cannot be read",
            "Let",
        ),
        (MAP + "file = 'good'\nca = 'good'\n", 10, "map.ca", "is for postgres, mysql, ldap and https", "Leave it out"),
        (MAP + "call_ahead = 'mx:'\n", 9, "map.call_ahead", "is no server", "lmtp://"),
        (MAP + "call_ahead = 'smtp://a.example'\n", 9, "map.call_ahead", "is a name", "address"),
        (MAP + "call_ahead = 'lmtp:x'\n", 9, "map.call_ahead", "no host", "lmtp://"),
        (INLINE + "accept_when_down = true\n", 10, "map.accept_when_down", "call_ahead alone", "Leave"),
        ("[[domain]]\nnames = ['*']\n", 8, "domain.names", "open relay", "Name your domains"),
        (DOMAIN + DOMAIN, 10, "domain.names", "on line 7 already", "one of them"),
        (DOMAIN + "users = ['x']\n", 9, "domain.users", 'no [[map]] named "x"', "Write a [[map]]"),
        (INLINE + DOMAIN + "aliases = ['x']\n", 12, "domain.aliases", 'no [[map]] named "x"', "There are: m"),
        (DOMAIN + "catch_all = 'x'\n", 9, "domain.catch_all", "no mailbox", "postmaster@"),
        (DOMAIN + "rewrite = 'a b'\n", 9, "domain.rewrite", "label", "example.com"),
        (DOMAIN + "rewrite = 'new.ours.example'\n", 9, "domain.rewrite", "in circles", "=old.example"),
        (DOMAIN + "rewrite = 'b.example'\nunknown = 'refuse'\n", 9, "domain.rewrite", "no effect to unknown", "moved"),
        (DOMAIN + "unknown = 'maybe'\n", 9, "domain.unknown", "not among its values", "route:NAME"),
        (DOMAIN + "unknown = 'route:x'\n", 9, "domain.unknown", "no route has the name 'x'", "name"),
        (ROUTES + DOMAIN + "unknown = 'route:own'\n", 16, "domain.unknown", "domains of its own", "no domains"),
        ("[[route]]\nto = 'smtp://a'\n", 7, "route.domains", "names no domain", "a name"),
    ],
)
def test_each_mistake_has_its_remedy(text: str, line: int, key: str, problem: str, remedy: str, base: Path) -> None:
    (complaint,) = refused(GOOD + text, base=base)
    assert (complaint.line, complaint.key) == (line, key)
    assert problem in complaint.problem
    assert remedy in complaint.remedy


def test_a_split_domain_and_its_route_are_in_order() -> None:
    config = accepted(GOOD + ROUTES + INLINE + DOMAIN + "users = ['m']\nunknown = 'route:old'\n")
    assert config.route_table().named("old") != config.route_table().named("own")
