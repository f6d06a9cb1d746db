"""From `[[oauth]]` sections to authorisations, and the key their tokens are kept under."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from waypost.auth.oauth import Authorisation
from waypost.auth.tokens import TokenStore, TokenStoreError, key_in
from waypost.config.model import Auth, OAuth
from waypost.config.model import Route as RouteSection
from waypost.config.rules import Secret
from waypost.config.sections import Found, Reader
from waypost.route.route import Route
from waypost.route.table import RouteTable
from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.path import Mailbox, PathError, parse_mailbox

_MICROSOFT: Final = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0"
#: What stands in for an empty setting, by provider and grant.
_URLS: Final[Mapping[str, Mapping[str, str]]] = {
    "google": {
        "token_url": "https://oauth2.googleapis.com/token",
        "authorize_url": "https://accounts.google.com/o/oauth2/v2/auth",
        "device_url": "",  # Google grants its mail scope to no device
        "scope": "https://mail.google.com/",
    },
    "microsoft": {
        "token_url": f"{_MICROSOFT}/token",
        "authorize_url": f"{_MICROSOFT}/authorize",
        "device_url": f"{_MICROSOFT}/devicecode",
        "scope": "https://outlook.office.com/SMTP.Send offline_access",
    },
    "other": {},
}
_CLIENT_SCOPE: Final = {"microsoft": "https://outlook.office365.com/.default"}


@dataclass(frozen=True, slots=True)
class Authorisations:
    """All there are, by name; whom to tell of their end; and where their key is."""

    by_name: Mapping[str, Authorisation]
    notify: Mapping[str, Mailbox]
    key_file: Path
    key_variable: str
    directory: Path

    def store(self, *, make_key: bool = False) -> TokenStore:
        """Where tokens are kept; `make_key`: with a new key where there is none. Raises: TokenStoreError."""
        if not self.by_name:
            key = Fernet.generate_key()  # for nothing
        elif self.key_variable:
            key = os.environ.get(self.key_variable, "").encode()
            if not key:
                raise TokenStoreError(f"the environment has no {self.key_variable}; set it, and start again")
        else:
            key = key_in(self.key_file, make=make_key)
        return TokenStore(self.directory, key)


def build_authorisations(
    found: Sequence[Found[OAuth]],
    auths: Sequence[Auth],
    routes: Sequence[Found[RouteSection]],
    reader: Reader,
    *,
    base: Path,
    spool: Path,
) -> Authorisations:
    """The authorisations; what is wrong has been complained of to `reader`."""
    by_name: dict[str, Authorisation] = {}
    for one in found:
        if one.section.name in by_name:
            reader.complain((*one.path, "name"), f'"{one.section.name}" is there twice', "Give each its own name")
        by_name[one.section.name] = _authorisation(one, reader, base)
    for route in routes:
        if route.section.oauth and route.section.oauth not in by_name:
            reader.complain(
                (*route.path, "oauth"), f'there is no [[oauth]] named "{route.section.oauth}"', "Write it, or its name"
            )
    key_file, key_variable = (auths[0].token_key_file, auths[0].token_key_env) if auths else ("", "")
    if found and bool(key_file) == bool(key_variable):
        reader.complain(
            found[0].path, "tokens are kept encrypted, and there is no key", 'Write [auth] token_key_file = "oauth.key"'
        )
    return Authorisations(by_name, _notified(found, reader), base / key_file, key_variable, spool / "oauth")


def _notified(found: Sequence[Found[OAuth]], reader: Reader) -> Mapping[str, Mailbox]:
    told: dict[str, Mailbox] = {}
    for one in found:
        if one.section.notify:
            try:
                told[one.section.name] = parse_mailbox(one.section.notify)
            except PathError as error:
                reader.complain((*one.path, "notify"), str(error), 'Write one such as "ops@example.org"')
    return told


def check_alarms(
    authorisations: Authorisations,
    found: Sequence[Found[OAuth]],
    table: RouteTable,
    postmaster: Mailbox,
    reader: Reader,
) -> None:
    """Who is told of an authorisation's end must be reachable without it."""
    for one in found:
        recipient = authorisations.notify.get(one.section.name, postmaster)
        route = table.route(recipient)
        credentials = route.credentials if isinstance(route, Route) else NoCredentials()
        if isinstance(credentials, Credentials) and credentials.oauth == one.section.name:
            reader.complain(
                (*one.path, "notify"),
                f"the message that this authorisation has ended would go to <{recipient}> by this authorisation itself",
                "Name an address that goes another way, or add a route for its domain",
            )


def _authorisation(found: Found[OAuth], reader: Reader, base: Path) -> Authorisation:
    said, path = found.section, found.path
    defaults = {**_URLS[said.provider], **({"scope": _CLIENT_SCOPE[said.provider]} if _is_client(said) else {})}
    values = {key: getattr(said, key) or defaults.get(key, "") for key in ("token_url", "device_url", "authorize_url")}
    values = {key: url.replace("{tenant}", said.tenant) for key, url in values.items()}
    for key, url in values.items():
        if url and not is_private(url):
            reader.complain(
                (*path, key), f"{url!r} is not https: anyone on the way could read tokens", "Write https://"
            )
    if not values["token_url"]:
        reader.complain((*path, "token_url"), "is missing", "Write the provider's address for tokens")
    secret = ""
    if said.client_secret_file or said.client_secret_env:
        where = Secret(said.client_secret_file, said.client_secret_env)
        secret = where.read(base, os.environ, path, "client_secret", reader)
    elif said.grant == "client":
        reader.complain(path, 'grant = "client" needs a secret', "Write client_secret_file or client_secret_env")
    scope = said.scope or defaults.get("scope", "")
    blank = Authorisation(said.name, said.grant, "", "", "", said.client_id, secret, scope)
    return replace(blank, **values)


def _is_client(said: OAuth) -> bool:
    return said.grant == "client" and said.provider in _CLIENT_SCOPE


def is_private(url: str) -> bool:
    """Whether nobody can read along: https, or http to this machine itself."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
