"""From `[[domain]]` and `[[map]]` sections to what judges recipients; and what is wrong with them, found before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from waypost.config.model import MAP_SOURCES, Domain, Map, Route, Senders
from waypost.config.sections import Found, Placed, Reader
from waypost.config.tls import check_authorities
from waypost.maps.cached import Ask, CachedMap, Terms
from waypost.maps.call_ahead import CallAhead, Lenient, Store
from waypost.maps.file import PatternFile, TableFile
from waypost.maps.http import HttpQuestion
from waypost.maps.inline import InlineMap
from waypost.maps.ldap import LdapQuestion, Search
from waypost.maps.lookup import Map as Lookups
from waypost.maps.sql import MysqlQuestion, PostgresQuestion
from waypost.maps.sqlite import SqliteQuestion
from waypost.maps.text import MapTextError, parse_patterns, parse_table
from waypost.net.clock import Clock
from waypost.net.dialer import Dialer
from waypost.net.ldap import LdapServer
from waypost.net.stream import Endpoint
from waypost.policy.access import HELD_BACK
from waypost.policy.domains import (
    Accept,
    CatchAll,
    DomainPolicy,
    Domains,
    NoCatchAll,
    PassOn,
    Refuse,
    Rewrite,
    SameDomain,
    UnknownHere,
)
from waypost.policy.expansion import Expander, First
from waypost.route.domain import Match, host_name
from waypost.route.route import LmtpServers, SmtpServers
from waypost.route.target import RecipientMx, is_address, parse_target
from waypost.smtp.path import DomainName, Mailbox, parse_mailbox

_TO_ROUTE = "route:"
#: Sources that a query reads; those that are servers with passwords: schemes, module, extra, example.
_BY_QUERY = ("sqlite", "postgres", "mysql")
_SERVERS = {
    "postgres": ({"postgresql", "postgres"}, "asyncpg", "postgres", "postgresql://waypost@db.example.net/mail"),
    "mysql": ({"mysql"}, "aiomysql", "mysql", "mysql://waypost@db.example.net/mail"),
    "ldap": ({"ldap", "ldaps"}, "ldap3", "ldap", "ldaps://ldap.example.net"),
}
_PLACES = ("{key}", "{user}", "{domain}")


# ---- what is wrong with them
def check_maps(maps: Sequence[Found[Map]], base: Path, reader: Reader) -> None:
    """Each has a name of its own, and one source that can be read."""
    seen: dict[str, int] = {}
    for found in maps:
        section, path = found.section, found.path
        if section.name in seen:
            problem = f'"{section.name}" is a map already, on line {seen[section.name]}'
            reader.complain((*path, "name"), problem, "Give each a name of its own")
        seen.setdefault(section.name, reader.lines[path])
        sources = [source for source in MAP_SOURCES if getattr(section, source)]
        if len(sources) != 1:
            wrong = "has no source" if not sources else f"has {len(sources)} sources: {', '.join(sources)}"
            reader.complain((*path, "name"), wrong, f"Write one of {', '.join(MAP_SOURCES)}")
            continue
        _check_source(found, sources[0], base, reader)


def _check_source(found: Found[Map], source: str, base: Path, reader: Reader) -> None:
    section, path = found.section, found.path
    if bool(section.query) != (source in _BY_QUERY):
        reader.complain(
            (*path, source),
            "needs a query" if source in _BY_QUERY else "has no use for a query",
            f'Write query = "SELECT …" beside {", ".join(_BY_QUERY)}, and nowhere else',
        )
    if source in _SERVERS:
        _check_server(found, source, base, reader)
    elif section.password_file:
        reader.complain((*path, "password_file"), "is for postgres, mysql and ldap", "Leave it out")
    if source == "http" and ("{key}" not in section.http or not section.http.startswith(("http://", "https://"))):
        reader.complain(
            (*path, "http"),
            f"{section.http!r} is no URL with {{key}} in it",
            'Write one such as "https://users.example.net/{key}"',
        )
    if source == "call_ahead":
        try:
            _store(section.call_ahead)
        except ValueError as error:
            problem, _, remedy = str(error).partition("; ")
            reader.complain((*path, "call_ahead"), problem, remedy or 'Write one such as "lmtp:///run/dovecot/lmtp"')
    elif section.accept_when_down:
        reader.complain((*path, "accept_when_down"), "is for call_ahead alone", "Leave it out")
    if source in {"file", "regexp", "sqlite"}:
        _check_file(base / getattr(section, source), (*path, source), reader)
    if section.token_file:
        _read(base / section.token_file, (*path, "token_file"), reader)
    if section.ca and source not in {*_SERVERS, "http"}:
        reader.complain((*path, "ca"), "is for postgres, mysql, ldap and https", "Leave it out")
    elif section.ca:
        check_authorities(base / section.ca, (*path, "ca"), reader)


def _check_server(found: Found[Map], source: str, base: Path, reader: Reader) -> None:
    """A URL without a password in it, and the extra that speaks to such a server."""
    section, path = found.section, found.path
    schemes, module, extra, example = _SERVERS[source]
    parts = urlsplit(getattr(section, source))
    if parts.scheme not in schemes or not (parts.hostname or source == "postgres"):
        reader.complain((*path, source), f"is no {source} address", f'Write one such as "{example}"')
    if parts.password is not None:
        reader.complain((*path, source), "has a password in it", "Write password_file beside it")
    if importlib.util.find_spec(module) is None:
        reader.complain((*path, source), f"needs the extra {extra}", f"pip install 'waypost[{extra}]'")
    if source == "ldap" and not (section.base and any(name in section.filter for name in _PLACES)):
        reader.complain((*path, "ldap"), "lacks base or filter", 'Write base, and filter = "(mail={key})"')
    if section.password_file:
        _read(base / section.password_file, (*path, "password_file"), reader)


def _check_file(file: Path, path: tuple[str | int, ...], reader: Reader) -> None:
    """It can be read now; should that change later, recipients are answered 451."""
    if path[-1] == "sqlite":
        if not file.is_file():
            reader.complain(path, f"{file} is no file", "Make the database first")
        return
    text = _read(file, path, reader)
    try:
        (parse_table if path[-1] == "file" else parse_patterns)(text)
    except MapTextError as error:
        reader.complain(path, f"{file}: {error}", "Mend it there")


def _read(file: Path, path: tuple[str | int, ...], reader: Reader) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reader.complain(path, f"{file} cannot be read: {error}", "Write a text file there that this user may read")
        return ""


def check_domains(
    domains: Sequence[Found[Domain]], maps: Sequence[Found[Map]], routes: Sequence[Found[Route]], reader: Reader
) -> None:
    """No pattern twice, no map or route that is not there, nothing that has no effect."""
    known = {found.section.name for found in maps}
    by_name = {found.section.name: found.section for found in routes if found.section.name}
    seen: dict[str, int] = {}
    for found in domains:
        section, path = found.section, found.path
        for index, pattern in enumerate(section.names):
            here = (*path, "names", index)
            if pattern.match is Match.EVERYTHING:
                reader.complain(here, '"*" would make every domain ours, and this an open relay', "Name your domains")
            if str(pattern) in seen:
                problem = f'"{pattern}" is in the [[domain]] on line {seen[str(pattern)]} already'
                reader.complain(here, problem, "Leave it to one of them")
            seen.setdefault(str(pattern), reader.lines[path])
        for key in ("aliases", "users"):
            for index, name in enumerate(getattr(section, key)):
                if name not in known:
                    there = f"There are: {', '.join(sorted(known))}" if known else "Write a [[map]] of that name"
                    reader.complain((*path, key, index), f'there is no [[map]] named "{name}"', there)
        _check_rewrite(found, reader)
        _check_unknown(found, by_name, reader)


def _check_rewrite(found: Found[Domain], reader: Reader) -> None:
    section, path = found.section, found.path
    if not section.rewrite:
        return
    others = section.model_fields_set - {"names", "rewrite"}
    if others:
        problem = f"leaves no effect to {', '.join(sorted(others))}"
        reader.complain((*path, "rewrite"), problem, "Write those for the domain that recipients are moved to")
    try:
        name = host_name(section.rewrite)
    except ValueError as error:
        reader.complain((*path, "rewrite"), str(error), 'Write a domain, such as "example.com"')
        return
    own = DomainPolicy(section.names, "")
    if isinstance(Domains([own]).of(Mailbox("x", DomainName(name))), DomainPolicy):
        reader.complain(
            (*path, "rewrite"),
            f"{name} is one of the names itself: it would go in circles",
            f'Write names so that {name} is not among them ("=old.example" leaves sub-domains out)',
        )


def _check_unknown(found: Found[Domain], routes: Mapping[str, Route], reader: Reader) -> None:
    unknown, path = found.section.unknown, (*found.path, "unknown")
    if unknown.startswith(_TO_ROUTE):
        route = routes.get(unknown.removeprefix(_TO_ROUTE))
        if route is None:
            reader.complain(path, f"no route has the name {unknown.removeprefix(_TO_ROUTE)!r}", "Write its name there")
        elif not _is_by_name(route):
            reader.complain(
                path,
                "that route has domains of its own, or no next hop of its own",
                "Make it a [[route]] with a name and to, and no domains",
            )
    elif unknown not in {"", "accept", "refuse"}:
        reader.complain(path, f"{unknown!r} is not among its values", 'Write "accept", "refuse" or "route:NAME"')


def check_quarantine(senders: Sequence[Senders], routes: Sequence[Found[Route]], reader: Reader) -> None:
    """The quarantine is a route of its own."""
    for section in senders:
        named = [found.section for found in routes if found.section.name == section.quarantine]
        if section.quarantine not in {"", HELD_BACK} and not (named and _is_by_name(named[0])):
            reader.complain(
                ("senders", "quarantine"),
                f"no route without domains has the name {section.quarantine!r}",
                'Write "hold", or a [[route]] with that name, and to = "maildir:/var/quarantine", and no domains',
            )


def _store(text: str) -> Store:
    """Where a call ahead goes. Raises: ValueError, with "problem; remedy"."""
    match parse_target((text,)):
        case SmtpServers((server,)) | LmtpServers((server,)) as target:
            if not server.host.startswith("/") and not is_address(server.host):
                raise ValueError(f"{server.host} is a name; Write its address: a look-up must not stand before a RCPT")
            return Store(Endpoint(server.host, server.port), isinstance(target, LmtpServers))
        case _:
            raise ValueError(f"{text!r} is no server; Write one such as lmtp:///run/lmtp.sock or smtp://192.0.2.1:25")


def _is_by_name(route: Route) -> bool:
    return not route.domains and not isinstance(route.to, RecipientMx)


# ---- what they make
@dataclass(frozen=True, slots=True)
class Ground:
    """What maps stand on: where their files are, and by what they ask others. `hello`: our name."""

    base: Path
    hello: str
    clock: Clock
    dialer: Dialer


def build_expander(
    domains: Sequence[Placed[Domain]], known: Mapping[str, Lookups], postmaster: Mailbox, first: First
) -> Expander:
    """What follows aliases, as the sections say; they have been checked."""
    return Expander(Domains([_policy(each, known) for each in domains]), postmaster=postmaster, first=first)


def build_maps(maps: Sequence[Placed[Map]], ground: Ground) -> Mapping[str, Lookups]:
    """The maps by their names."""
    return {each.section.name: build_map(each, ground) for each in maps}


def build_map(placed: Placed[Map], ground: Ground) -> Lookups:
    """The map of one section."""
    section, base, clock = placed.section, ground.base, ground.clock
    if section.entries:
        return InlineMap(section.name, section.entries, placed.of("entries"))
    if section.file:
        return TableFile(section.name, base / section.file, clock)
    if section.regexp:
        return PatternFile(section.name, base / section.regexp, clock)
    terms = Terms(section.timeout, section.cache, section.negative_cache)
    if section.sqlite:
        asks = SqliteQuestion(base / section.sqlite, section.query, section.timeout)
        return CachedMap(section.name, asks, terms, clock, remote=False)
    if section.postgres or section.mysql or section.ldap:
        return CachedMap(section.name, _asks_server(section, base), terms, clock, remote=True)
    if section.call_ahead:
        calls = CallAhead(_store(section.call_ahead), ground.hello, section.timeout, ground.dialer, clock)
        asked = CachedMap(section.name, calls, terms, clock, remote=True)
        return Lenient(asked) if section.accept_when_down else asked
    token = (base / section.token_file).read_text("utf-8").strip() if section.token_file else ""
    return CachedMap(section.name, HttpQuestion(section.http, token, _ca(section, base)), terms, clock, remote=True)


def _asks_server(section: Map, base: Path) -> Ask:
    password = (base / section.password_file).read_text("utf-8").strip("\r\n") if section.password_file else ""
    ca = _ca(section, base)
    if section.postgres:
        return PostgresQuestion(section.postgres, password, section.query, section.timeout, ca)
    if section.mysql:
        return MysqlQuestion(section.mysql, password, section.query, section.timeout, ca)
    server = LdapServer(section.ldap, section.timeout, ca)
    return LdapQuestion(Search(server, section.base, section.filter, section.attributes, section.bind_dn, password))


def _ca(section: Map, base: Path) -> str:
    return str(base / section.ca) if section.ca else ""


def _policy(placed: Placed[Domain], maps: Mapping[str, Lookups]) -> DomainPolicy:
    section = placed.section
    rewrite: Rewrite = DomainName(host_name(section.rewrite)) if section.rewrite else SameDomain()
    catch_all: CatchAll = parse_mailbox(section.catch_all) if section.catch_all else NoCatchAll()
    return DomainPolicy(
        patterns=section.names,
        place=placed.place,
        places={key: placed.of(key) for key in ("rewrite", "catch_all", "unknown")},
        rewrite=rewrite,
        aliases=tuple(maps[name] for name in section.aliases),
        users=tuple(maps[name] for name in section.users),
        catch_all=catch_all,
        separators=section.subaddress,
        keep_tag=section.keep_tag,
        unknown=_unknown(section),
    )


def _unknown(section: Domain) -> UnknownHere:
    if section.unknown.startswith(_TO_ROUTE):
        return PassOn(section.unknown.removeprefix(_TO_ROUTE))
    refuses = section.unknown == "refuse" or (not section.unknown and section.users)
    return Refuse() if refuses else Accept()
