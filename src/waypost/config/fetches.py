"""From `[[fetch]]` sections to the providers that are called for our mail; and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from waypost.config.model import Fetch, OAuth
from waypost.config.rules import Secret
from waypost.config.sections import Found, Reader
from waypost.route.domain import host_name
from waypost.route.provider import Provider
from waypost.route.route import SmtpServers, TlsPolicy
from waypost.route.target import Target, is_address, parse_target
from waypost.smtp.login import Credentials, NoCredentials


def build_providers(
    fetches: Sequence[Found[Fetch]],
    oauth: Sequence[Found[OAuth]],
    reader: Reader,
    *,
    base: Path,
    environment: Mapping[str, str],
) -> tuple[Provider, ...]:
    """The providers; what is wrong with one has been complained of, and it is of no use."""
    names: set[str] = set()
    for found in fetches:
        if found.section.name in names:
            reader.complain((*found.path, "name"), f'"{found.section.name}" is a fetch already', "Give each its own")
        names.add(found.section.name)
    known = {each.section.name for each in oauth}
    return tuple(_provider(found, known, reader, base, environment) for found in fetches)


def _provider(
    found: Found[Fetch], oauth: set[str], reader: Reader, base: Path, environment: Mapping[str, str]
) -> Provider:
    fetch, path = found.section, found.path
    servers = _servers(found, reader)
    domains = tuple(_domain(name, (*path, "domains", index), reader) for index, name in enumerate(fetch.domains))
    if fetch.command == "etrn" and not domains:
        reader.complain((*path, "domains"), "ETRN names a domain", "Write the domains whose mail is kept there")
    if fetch.command == "atrn" and not fetch.username:
        reader.complain((*path, "username"), "ATRN needs a login", "Write username, and password_file or password_env")
    credentials = _credentials(found, oauth, reader, base, environment)
    policy = _tls_policy(fetch, servers)
    in_clear = policy in {TlsPolicy.NONE, TlsPolicy.OPPORTUNISTIC} and not _is_loopback(servers)
    if isinstance(credentials, Credentials) and in_clear:
        reader.complain((*path, "tls"), "anyone on the way could read the password", 'Write tls = "verify"')
    return Provider(fetch.name, servers, fetch.command == "atrn", domains, fetch.every, policy, credentials)


def _servers(found: Found[Fetch], reader: Reader) -> SmtpServers:
    remedy = 'Write one such as "smtp://odmr.provider.example:366"'
    try:
        target: Target = parse_target((found.section.server,))
    except ValueError as error:
        reader.complain((*found.path, "server"), str(error), remedy)
        return SmtpServers(())
    if isinstance(target, SmtpServers):
        return target
    reader.complain((*found.path, "server"), f"{found.section.server!r} is no server", remedy)
    return SmtpServers(())


def _domain(name: str, path: tuple[str | int, ...], reader: Reader) -> str:
    try:
        return host_name(name)
    except ValueError as error:
        reader.complain(path, str(error), 'Write a domain, such as "example.com"')
        return name


def _tls_policy(fetch: Fetch, servers: SmtpServers) -> TlsPolicy:
    if fetch.tls:
        return TlsPolicy(fetch.tls)
    return TlsPolicy.OPPORTUNISTIC if _is_loopback(servers) else TlsPolicy.VERIFY


def _is_loopback(servers: SmtpServers) -> bool:
    return all(is_address(server.host) and ip_address(server.host).is_loopback for server in servers.servers)


def _credentials(
    found: Found[Fetch], oauth: set[str], reader: Reader, base: Path, environment: Mapping[str, str]
) -> Credentials | NoCredentials:
    fetch, path = found.section, found.path
    given = [key for key in ("password_file", "password_env", "oauth") if getattr(fetch, key)]
    if not fetch.username:
        for key in given:
            reader.complain((*path, key), "a password without a username is never used", "Write the username too")
        return NoCredentials()
    if len(given) != 1:
        reader.complain(
            (*path, "username"), "needs one password", "Write one of password_file, password_env and oauth beside it"
        )
        return NoCredentials()
    if fetch.oauth:
        if fetch.oauth not in oauth:
            reader.complain((*path, "oauth"), f'there is no [[oauth]] named "{fetch.oauth}"', "Write its name")
        return Credentials(fetch.username, "", oauth=fetch.oauth)
    secret = Secret(fetch.password_file, fetch.password_env)
    return Credentials(fetch.username, secret.read(base, environment, path, "password", reader))
