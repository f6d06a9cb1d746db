"""Maps in PostgreSQL (extra `postgres`) and MySQL or MariaDB (extra `mysql`), read by a query of the administrator's.

Each question has a connection of its own: answers are remembered (cached.py), so that questions are few, and none is
lost on a connection that died while it was idle. What is put into a query is passed beside it, never within its text.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from waypost.maps.lookup import NOT_LISTED, AskError, Listed, Lookup
from waypost.maps.text import split_values
from waypost.net.tls import client_context, private_context

#: `:key` and its like, but not in `::text`.
_PARAMETER: Final = re.compile(r"(?<![:\w]):(key|user|domain)\b")
MYSQL_PORT: Final = 3306
#: Words of `ssl-mode` that want TLS, and whether the certificate is to be the server's.
SSL_MODES: Final = {"disabled": False, "required": False, "verify_identity": True}


def parameters(key: str) -> dict[str, str]:
    """What `:key`, `:user` and `:domain` stand for."""
    user, _, domain = key.rpartition("@")
    return {"key": key, "user": user, "domain": domain}


class PostgresQuestion:
    """Asks `query` at `url`, `postgresql://user@host/database`; `?sslmode=verify-full` and the like are libpq's.

    `ca`: a file of authorities, one of which has to have signed the server's certificate, and for its name.
    """

    def __init__(self, url: str, password: str, query: str, patience: timedelta, ca: str = "") -> None:
        self._url = url
        self._ca = ca
        self._password = password
        self._patience = patience.total_seconds()
        self._where = f"postgres {urlsplit(url).hostname or 'socket'}"
        self._query, self._names = numbered(query)

    async def __call__(self, key: str) -> Lookup:
        """The first column of every row. Raises: AskError."""
        import asyncpg  # noqa: PLC0415 - an extra: only who names it needs it

        values = parameters(key)
        try:
            tls = private_context(Path(self._ca)) if self._ca else None
            connection = await asyncpg.connect(
                self._url, password=self._password or None, timeout=self._patience, ssl=tls
            )
            try:
                rows = await connection.fetch(self._query, *(values[name] for name in self._names))
            finally:
                await connection.close(timeout=1)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise AskError(f"{self._where}: {type(error).__name__}: {error}") from error
        return _listed((row[0] for row in rows), self._where)


class MysqlQuestion:
    """Asks `query` at `url`, `mysql://user@host:3306/database`; `?ssl-mode=verify_identity` for TLS. `ca`: as above."""

    def __init__(self, url: str, password: str, query: str, patience: timedelta, ca: str = "") -> None:
        parts = urlsplit(url)
        mode = parse_qs(parts.query).get("ssl-mode", ["disabled"])[0].lower()
        self._patience = patience.total_seconds()
        self._where = f"mysql {parts.hostname or 'localhost'}"
        self._query = named(query)
        self._terms: dict[str, Any] = {
            "host": parts.hostname or "localhost",
            "port": parts.port or MYSQL_PORT,
            "user": unquote(parts.username or ""),
            "password": password,
            "db": unquote(parts.path.removeprefix("/")),
        }
        self._mode = mode
        self._ca = ca

    def _tls(self) -> dict[str, ssl.SSLContext]:
        """The argument that asks for TLS; none where there is to be none."""
        if self._ca:
            return {"ssl": private_context(Path(self._ca))}
        return {} if self._mode == "disabled" else {"ssl": client_context(verified=SSL_MODES.get(self._mode, True))}

    async def __call__(self, key: str) -> Lookup:
        """The first column of every row. Raises: AskError."""
        import aiomysql  # noqa: PLC0415 - an extra: only who names it needs it

        try:
            connection = await aiomysql.connect(
                **self._terms, **self._tls(), charset="utf8mb4", connect_timeout=self._patience
            )
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(self._query, parameters(key))
                    rows: Sequence[Sequence[object]] = await cursor.fetchall()
            finally:
                connection.close()
        except (aiomysql.Error, OSError, ValueError, TypeError) as error:
            raise AskError(f"{self._where}: {type(error).__name__}: {error}") from error
        return _listed((row[0] for row in rows), self._where)


def numbered(query: str) -> tuple[str, tuple[str, ...]]:
    """`:key` as `$1`, and so on, in the order they come; and the names they had."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _PARAMETER.sub(number, query), tuple(names)


def named(query: str) -> str:
    """`:key` as `%(key)s`; a per cent sign of the query's own stands for itself."""
    return _PARAMETER.sub(r"%(\1)s", query.replace("%", "%%"))


def _listed(column: Iterable[object], where: str) -> Lookup:
    values = tuple(value for cell in column if cell is not None for value in split_values(str(cell)))
    return Listed(values, where) if values else NOT_LISTED
