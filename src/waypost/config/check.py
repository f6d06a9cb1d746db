"""How settings go together: what each section by itself cannot see. Every finding is a complaint with its remedy."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from waypost.auth.admins import load_administrators
from waypost.auth.users import UsersError, load_users
from waypost.config.lines import Path
from waypost.config.model import (
    Admin,
    Auth,
    Certificate,
    Destination,
    Hook,
    Listener,
    Pickup,
    Route,
    Service,
    TlsReporting,
    Tracing,
)
from waypost.config.sections import Found, Reader
from waypost.config.tls import check_authorities
from waypost.hooks.load import HookError, Source, looked_at
from waypost.net.stream import Endpoint
from waypost.queue.place import DATABASES
from waypost.route.route import LmtpServers, OnCall, Server, SmtpServers
from waypost.route.target import RecipientMx, is_address, server_text
from waypost.smtp.path import PathError, parse_mailbox

#: Limits of what HTTP does not have: sessions and commands.
_OF_SESSIONS: Final = ("connections_per_client", "messages", "session", "errors")


def check_listeners(listeners: Sequence[Found[Listener]], reader: Reader) -> None:
    """At least one, no two on one address, and no limit without effect."""
    if not reader.document.get("listener"):
        reader.complain(
            (), "no [[listener]]: no mail could come in", 'Write [[listener]], and below it address = "0.0.0.0:25"'
        )
    for number, found in enumerate(listeners):
        for earlier in listeners[:number]:
            if _overlap(found.section.address, earlier.section.address):
                reader.complain(
                    (*found.path, "address"),
                    f"{found.section.address} is taken by the listener on line {reader.lines[earlier.path]}",
                    "Give each its own address or port",
                )
        for key in _OF_SESSIONS:
            if found.section.role == "http" and getattr(found.section, key):
                reader.complain((*found.path, key), "has no effect on a listener for HTTP", "Leave it out")


def check_admin(
    admins: Sequence[Admin],
    listeners: Sequence[Found[Listener]],
    certificates: Sequence[Found[Certificate]],
    base: pathlib.Path,
    reader: Reader,
) -> None:
    """Beside the listeners, and on loopback, or guarded."""
    for admin in admins:
        if not ip_address(admin.address.host).is_loopback and not (admin.users and admin.tls):
            lacks = " and ".join(key for key, given in (("users", admin.users), ("tls", admin.tls)) if not given)
            reader.complain(
                ("admin", "address"),
                f"{admin.address} can be reached from elsewhere, and [admin] has no {lacks}",
                'Write users = "administrators" and tls = true below it, or '
                f'address = "127.0.0.1:{admin.address.port}", and go there through ssh',
            )
        if admin.tls and not certificates:
            reader.complain(("admin", "tls"), "there is no certificate to serve it with", "Write a [[certificate]]")
        if admin.users and (base / admin.users).exists():  # `waypost admin add` makes it, and nobody can log in before
            _check_administrators(base / admin.users, reader)
        for found in listeners:
            if _overlap(found.section.address, admin.address):
                reader.complain(
                    ("admin", "address"),
                    f"{admin.address} is taken by the listener on line {reader.lines[found.path]}",
                    "Give each its own address or port",
                )


def _check_administrators(path: pathlib.Path, reader: Reader) -> None:
    try:
        load_administrators(path)
    except UsersError as error:
        problem, _, remedy = str(error).partition("; ")
        reader.complain(("admin", "users"), problem, remedy)


def check_spool(services: Sequence[Service], base: pathlib.Path, reader: Reader) -> None:
    """A directory, or the place of one; or a database, and what it takes to use one."""
    for service in services:
        scheme, is_address, _ = service.spool.partition("://")
        if is_address and f"{scheme}://" not in DATABASES:
            reader.complain(
                ("service", "spool"),
                f"{scheme} storage is not in this version",
                'Write a directory, such as spool = "/var/spool/waypost", or "postgresql://user@host/name"',
            )
        elif is_address and importlib.util.find_spec("asyncpg") is None:
            reader.complain(
                ("service", "spool"),
                "a queue in PostgreSQL needs a package that is not installed",
                "pip install 'waypost[postgres]'",
            )
        elif is_address:
            check_state(base / service.state, reader)
            check_one_worker(service, reader)
        elif (base / service.spool).exists() and not (base / service.spool).is_dir():
            reader.complain(
                ("service", "spool"), f"{base / service.spool} is not a directory", "Name one, or a place for one"
            )


def check_pickup(pickups: Sequence[Pickup], base: pathlib.Path, reader: Reader) -> None:
    """A directory, or the place of one."""
    for pickup in pickups:
        directory = base / pickup.directory
        if pickup.directory and directory.exists() and not directory.is_dir():
            reader.complain(("pickup", "directory"), f"{directory} is not a directory", "Name one, or a place for one")


def check_hooks(hooks: Sequence[Found[Hook]], base: pathlib.Path, reader: Reader) -> None:
    """Modules that are there and define hooks, and no two of one name. None of their code is run."""
    names: dict[str, int] = {}
    for found in hooks:
        source = Source(found.section.module, base)
        try:
            looked_at(source)
        except HookError as error:
            problem, _, remedy = str(error).partition("; ")
            reader.complain((*found.path, "module"), problem, remedy[:1].upper() + remedy[1:])
        name = found.section.name or source.name
        if name in names:
            reader.complain(found.path, f'the hook on line {names[name]} is "{name}" too', "Give one another name")
        names.setdefault(name, reader.lines[found.path])


def check_one_worker(service: Service, reader: Reader) -> None:
    """Workers divide a spool in a directory into shards; a database is divided by nobody."""
    if service.workers != 1:
        reader.complain(
            ("service", "workers"),
            "a queue in a database has no shards, and each of its nodes is one process",
            "Leave workers out, and run another node beside this one, with a state directory of its own",
        )


def check_state(state: pathlib.Path, reader: Reader) -> None:
    """The node's own directory, or the place of one."""
    if state.exists() and not state.is_dir():
        reader.complain(("service", "state"), f"{state} is not a directory", "Name one, or a place for one")


def check_users(auths: Sequence[Auth], base: pathlib.Path, reader: Reader) -> None:
    """A users' file that can be used, or none yet: `waypost user add` reads this configuration to find its place."""
    for auth in auths:
        _check_who_judges(auth, reader)
        if auth.ldap_ca:
            check_authorities(base / auth.ldap_ca, ("auth", "ldap_ca"), reader)
        file = base / auth.users
        if not auth.users or not file.exists():
            continue
        try:
            load_users(file)
        except UsersError as error:
            problem, _, remedy = str(error).partition("; ")
            reader.complain(("auth", "users"), problem, remedy)


def _check_who_judges(auth: Auth, reader: Reader) -> None:
    """One who knows passwords, and all that is needed to ask; the extra that asks is there."""
    named = [key for key in ("users", "pam_service", "ldap_url") if getattr(auth, key)]
    for key in named[1:]:
        reader.complain(("auth", key), f"passwords are known to {named[0]} already", "Leave one of the two")
    if auth.ldap_url and "%u" not in auth.ldap_dn:
        reader.complain(
            ("auth", "ldap_dn"), "has no %u for the user's name", 'Write "uid=%u,ou=people,dc=example,dc=net"'
        )
    if auth.issuer and not (auth.issuer_keys and auth.issuer_audience):
        reader.complain(
            ("auth", "issuer"), "its keys or our audience are missing", "Write issuer_keys and issuer_audience"
        )
    if auth.issuer_keys.startswith("http:"):
        reader.complain(("auth", "issuer_keys"), "anybody on the way could change the keys", "Write https://")
    for key, module, extra in (
        ("pam_service", "pam", "pam"),
        ("ldap_url", "ldap3", "ldap"),
        ("issuer", "joserfc", "oauth"),
    ):
        if getattr(auth, key) and importlib.util.find_spec(module) is None:
            reader.complain(("auth", key), f"needs the extra {extra}", f"pip install 'waypost[{extra}]'")


def check_reporting(tls: Sequence[TlsReporting], tracing: Sequence[Tracing], reader: Reader) -> None:
    """What is told to others."""
    _check_tls_reporting(tls, reader)
    _check_tracing(tracing, reader)


def _check_tracing(sections: Sequence[Tracing], reader: Reader) -> None:
    """A collector that can be reached over HTTP, and the library that does so."""
    for section in sections:
        parts = urlsplit(section.endpoint)
        if section.endpoint and not (parts.scheme in {"http", "https"} and parts.hostname):
            reader.complain(("tracing", "endpoint"), "is no http address", 'Write one such as "http://127.0.0.1:4318"')
        if section.endpoint and importlib.util.find_spec("opentelemetry") is None:
            problem, remedy = "needs the extra opentelemetry", "pip install 'waypost[opentelemetry]'"
            reader.complain(("tracing", "endpoint"), problem, remedy)


def _check_tls_reporting(sections: Sequence[TlsReporting], reader: Reader) -> None:
    """A contact that mail can be written to."""
    for section in sections:
        if section.contact:
            try:
                parse_mailbox(section.contact)
            except PathError as error:
                reader.complain(
                    ("tls_reporting", "contact"),
                    f"{section.contact!r} is no mailbox: {error}",
                    'Write one such as contact = "tls-reports@example.net"',
                )


def check_routes(routes: Sequence[Found[Route]], reader: Reader) -> None:
    """No pattern and no name twice: the most specific wins, and of two alike neither would."""
    patterns: dict[str, int] = {}
    names: dict[str, int] = {}
    for found in routes:
        section = found.section
        if not section.name and (section.senders or section.accounts or section.addresses):
            key = next(key for key in ("senders", "accounts", "addresses") if getattr(section, key))
            reader.complain((*found.path, key), "chosen so, a route needs a name", 'Write one, such as name = "bulk"')
            continue
        if not section.name and not section.domains:
            reader.complain((*found.path, "domains"), "names no domain", "Write one, or a name to reach the route by")
            continue
        if not found.section.name and str(found.section.domains[0]) not in patterns:
            _unique(names, str(found.section.domains[0]), (*found.path, "domains", 0), "names", reader)
        if found.section.name:
            _unique(names, found.section.name, (*found.path, "name"), "names", reader)
        if section.senders or section.accounts:
            continue
        for index, pattern in enumerate(section.domains):
            _unique(patterns, str(pattern), (*found.path, "domains", index), "has", reader)


def check_destinations(
    destinations: Sequence[Found[Destination]], routes: Sequence[Found[Route]], reader: Reader
) -> None:
    """No domain twice, and a route by `mx:` that they could change."""
    seen: dict[str, int] = {}
    by_mx = any(isinstance(found.section.to, RecipientMx) for found in routes)
    for found in destinations:
        if not by_mx:
            reader.complain(
                found.path, "there is no route by mx:, which alone it could change", "Write it into the route"
            )
        for index, pattern in enumerate(found.section.domains):
            path = (*found.path, "domains", index)
            if str(pattern) in seen:
                problem = f'"{pattern}" is in the [[destination]] on line {seen[str(pattern)]} already'
                reader.complain(path, problem, "Leave it to one of them")
            seen.setdefault(str(pattern), reader.lines[found.path])


def check_on_call(routes: Sequence[Found[Route]], auths: Sequence[Auth], reader: Reader) -> None:
    """Mail that is kept for an account's call: one route an account, and somebody who judges its login."""
    accounts: dict[str, int] = {}
    for found in routes:
        if not isinstance(found.section.to, OnCall):
            continue
        path, account = (*found.path, "to"), found.section.to.account
        if any(not (auth.users or auth.pam_service or auth.ldap_url or auth.issuer) for auth in auths):
            reader.complain(path, "nobody can log in to call for it: there are no accounts", "Write [auth] users")
        if account in accounts:
            reader.complain(
                path, f"{account} has the route on line {accounts[account]}", "Put all its domains into one route"
            )
        accounts.setdefault(account, reader.lines[path])


def _unique(seen: dict[str, int], word: str, path: Path, verb: str, reader: Reader) -> None:
    """Complain, where an earlier route has the word already."""
    line = reader.lines[path]
    if word in seen:
        reader.complain(path, f'"{word}" {verb} a route already, on line {seen[word]}', "Leave it to one of them")
    seen.setdefault(word, line)


def check_loops(
    routes: Sequence[Found[Route]], listeners: Sequence[Found[Listener]], services: Sequence[Service], reader: Reader
) -> None:
    """No route leads back to a listener of ours, where every message would go round until its hops run out."""
    own_names = {"localhost", *(service.hostname for service in services)}
    for found in routes:
        for server in _servers(found.section):
            for listener in listeners:
                if _is_us(server, listener.section.address, own_names):
                    reader.complain(
                        (*found.path, "to"),
                        f"{server_text(server)} is our own listener on line {reader.lines[listener.path]}: a loop",
                        "Name the host that is to have the mail",
                    )


def _servers(route: Route) -> Iterable[Server]:
    return route.to.servers if isinstance(route.to, SmtpServers | LmtpServers) else ()


def _is_us(server: Server, listening: Endpoint, own_names: set[str]) -> bool:
    if not is_address(server.host):
        return server.host in own_names and server.port == listening.port
    here = ip_address(server.host).is_loopback or server.host == listening.host
    return here and _overlap(Endpoint(server.host, server.port), listening)


def _overlap(one: Endpoint, other: Endpoint) -> bool:
    """Whether the two cannot be bound at once. Port 0 is a new port each time; a wildcard takes in its family."""
    if one.port != other.port or one.port == 0:
        return False
    first, second = ip_address(one.host), ip_address(other.host)
    same_family = first.version == second.version
    return first == second or (same_family and (first.is_unspecified or second.is_unspecified))
