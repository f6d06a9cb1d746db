"""A connection to an LDAP directory (extra `ldap`), under TLS wherever somebody could listen in. It blocks.

The certificate is judged by OpenSSL, as it is everywhere in the service, and not by what the driver brings. Not here:
what is asked over it (waypost.maps.ldap, waypost.auth.directory).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from waypost.net.tls import client_context, private_context


@dataclass(frozen=True, slots=True)
class LdapServer:
    """`ldaps://`, or `ldap://` with StartTLS (RFC 4513 §3; in clear to a numeric loopback address alone).

    `ca`: the file of the authorities that are believed; "": those that this machine trusts. `patience`: for each step.
    """

    url: str
    patience: timedelta
    ca: str = ""

    @property
    def host(self) -> str:
        """Its name, or its address."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_local(self) -> bool:
        """Whether nobody can listen in."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @contextlib.contextmanager
    def connected(self, who: str = "", password: str = "") -> Iterator[Any]:
        """A connection of ldap3, protected and not yet bound as `who`. Raises: OSError, LDAPException."""
        import ldap3  # noqa: PLC0415 - an extra: only who names it needs it

        within = max(1, int(self.patience.total_seconds()))  # ldap3 packs it into a C integer
        protection = ldap3.Tls()
        protection.wrap_socket = partial(_protect, private_context(Path(self.ca)) if self.ca else client_context())
        server = ldap3.Server(self.url, get_info=ldap3.NONE, connect_timeout=within, tls=protection)
        connection = ldap3.Connection(
            server, who or None, password or None, read_only=True, receive_timeout=within, auto_referrals=False
        )
        try:
            connection.open()
            if not server.ssl and not self.is_local and not connection.start_tls():
                raise OSError("StartTLS did not come about")
            yield connection
        finally:
            _close(connection)


def _protect(context: ssl.SSLContext, connection: Any, do_handshake: bool = False) -> None:  # noqa: FBT001, FBT002 - ldap3's
    """What ldap3 calls to put a socket under TLS."""
    connection.socket = context.wrap_socket(
        connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
    )


def _close(connection: Any) -> None:
    """Take leave, where there is somebody to take it of; a socket that ldap3 could not use it leaves open."""
    if not connection.closed:
        with contextlib.suppress(Exception):  # whatever ldap3 raises for a connection that is gone
            connection.unbind()
    if connection.socket is not None:
        connection.socket.close()
