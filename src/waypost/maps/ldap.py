"""A map in an LDAP directory (extra `ldap`): a search, and the values of some attributes of what it finds.

Asked in a thread, over a connection of its own: answers are remembered (cached.py). A name is escaped before it stands
in a filter (RFC 4515 §3). Not here: passwords that a directory knows (waypost.auth).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from waypost.maps.lookup import NOT_LISTED, AskError, Listed, Lookup
from waypost.maps.text import split_values


@dataclass(frozen=True, slots=True)
class Search:
    """Where and for what: `filter` holds `{key}`, `{user}` or `{domain}`; `bind_dn`: as whom, "" for nobody."""

    url: str
    base: str
    filter: str
    attributes: tuple[str, ...]
    bind_dn: str = ""
    password: str = ""

    @property
    def is_local(self) -> bool:
        """Whether nobody can listen in."""
        try:
            return ip_address(urlsplit(self.url).hostname or "").is_loopback
        except ValueError:
            return False


class LdapQuestion:
    """Asks the directory: `ldaps://`, or `ldap://` with StartTLS (in clear on loopback alone)."""

    def __init__(self, search: Search, patience: timedelta) -> None:
        self._search = search
        self._patience = max(1, int(patience.total_seconds()))  # ldap3 packs it into a C integer
        self._where = f"ldap {urlsplit(search.url).hostname}"

    async def __call__(self, key: str) -> Lookup:
        """The values of the attributes, entry by entry. Raises: AskError."""
        values = await asyncio.to_thread(self._values, key)
        return Listed(values, self._where) if values else NOT_LISTED

    def _values(self, key: str) -> tuple[str, ...]:
        import ldap3  # noqa: PLC0415 - an extra: only who names it needs it
        from ldap3.core.exceptions import LDAPException  # noqa: PLC0415
        from ldap3.utils.conv import escape_filter_chars  # noqa: PLC0415

        search = self._search
        user, _, domain = key.rpartition("@")
        asked = search.filter
        for name, value in (("{key}", key), ("{user}", user), ("{domain}", domain)):
            asked = asked.replace(name, escape_filter_chars(value))
        connection = self._connection(ldap3)
        try:
            self._begin(connection)
            connection.search(search.base, asked, attributes=list(search.attributes), time_limit=self._patience)
            said, found = connection.result, connection.response or []
        except LDAPException as error:
            raise AskError(f"{self._where}: {type(error).__name__}: {error}") from error
        finally:
            connection.unbind()
        if said["result"] != ldap3.core.results.RESULT_SUCCESS:
            raise AskError(f"{self._where}: {said['description']} {said['message']}".rstrip())
        return tuple(self._of(found))

    def _connection(self, ldap3: Any) -> Any:
        search = self._search
        checked = ldap3.Tls(validate=ssl.CERT_REQUIRED)
        server = ldap3.Server(search.url, get_info=ldap3.NONE, connect_timeout=self._patience, tls=checked)
        who, password = search.bind_dn or None, search.password or None
        return ldap3.Connection(
            server, who, password, read_only=True, receive_timeout=self._patience, auto_referrals=False
        )

    def _begin(self, connection: Any) -> None:
        """Connect, under TLS where somebody could listen in, and bind. Raises: AskError, LDAPException."""
        connection.open()
        if not connection.server.ssl and not self._search.is_local:
            connection.start_tls()
        if not connection.bind():
            said = connection.result
            raise AskError(f"{self._where}: {said['description']} {said['message']}".rstrip())

    def _of(self, found: list[dict[str, Any]]) -> list[str]:
        values: list[str] = []
        for entry in found:
            attributes = {name.lower(): value for name, value in entry.get("attributes", {}).items()}
            for name in self._search.attributes:
                value = attributes.get(name.lower(), [])
                for one in value if isinstance(value, list) else [value]:
                    values += split_values(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one))
        return values
