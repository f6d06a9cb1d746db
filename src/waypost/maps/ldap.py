"""A map in an LDAP directory (extra `ldap`): a search, and the values of some attributes of what it finds.

Asked in a thread, over a connection of its own: answers are remembered (cached.py). The threads are this map's alone: a
directory that hangs keeps nobody else waiting. A name is escaped before it stands in a filter (RFC 4515 §3). Not
here: passwords that a directory knows (waypost.auth).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from waypost.maps.cached import AT_ONCE
from waypost.maps.lookup import NOT_LISTED, AskError, Listed, Lookup
from waypost.maps.text import split_values
from waypost.net.ldap import LdapServer


@dataclass(frozen=True, slots=True)
class Search:
    """Where and for what: `filter` holds `{key}`, `{user}` or `{domain}`; `bind_dn`: as whom, "" for nobody."""

    server: LdapServer
    base: str
    filter: str
    attributes: tuple[str, ...]
    bind_dn: str = ""
    password: str = ""


class LdapQuestion:
    """Asks the directory."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._where = f"ldap {search.server.host}"
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ldap")  # none is begun before it is needed

    async def __call__(self, key: str) -> Lookup:
        """The values of the attributes, entry by entry. Raises: AskError."""
        values = await asyncio.get_running_loop().run_in_executor(self._threads, self._values, key)
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
        within = max(1, int(search.server.patience.total_seconds()))
        try:
            with search.server.connected(search.bind_dn, search.password) as connection:
                if not connection.bind():
                    raise AskError(self._said(connection.result))
                connection.search(search.base, asked, attributes=list(search.attributes), time_limit=within)
                said, found = connection.result, connection.response or []
        except (LDAPException, OSError) as error:
            raise AskError(f"{self._where}: {type(error).__name__}: {error}") from error
        if said["result"] != ldap3.core.results.RESULT_SUCCESS:
            raise AskError(self._said(said))
        return tuple(self._of(found))

    def _said(self, result: dict[str, Any]) -> str:
        return f"{self._where}: {result['description']} {result['message']}".rstrip()

    def _of(self, found: list[dict[str, Any]]) -> list[str]:
        values: list[str] = []
        for entry in found:
            attributes = {name.lower(): value for name, value in entry.get("attributes", {}).items()}
            for name in self._search.attributes:
                value = attributes.get(name.lower(), [])
                for one in value if isinstance(value, list) else [value]:
                    values += split_values(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one))
        return values
