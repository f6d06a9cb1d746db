"""Passwords that others know: PAM on this machine (extra `pam`), or an LDAP directory (extra `ldap`, RFC 4513 §5.1.3).

Both are asked in a thread, with the password itself, so PLAIN and LOGIN alone can be judged by them. Neither tells more
of a user than yes or no; what he may send as follows from his name (account.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from waypost.auth.account import Account
from waypost.auth.authenticator import CannotTell, Judgement, NotKnown
from waypost.net.ldap import LdapServer

#: For a directory to take a connection, and to answer; below the time a login gets as a whole.
PATIENCE: Final = timedelta(seconds=10)
#: LDAP's word for a wrong name or password (RFC 4511 appendix A).
_INVALID_CREDENTIALS: Final = 49


class MissingExtraError(ImportError):
    """An extra is not installed; the message names it."""


class PamPasswords:
    """Asks PAM. The service needs the right to: with pam_unix, root or the group shadow."""

    def __init__(self, service: str, account: Callable[[str], Account]) -> None:
        """`service`: its file in /etc/pam.d. Raises: MissingExtraError."""
        try:
            import pam  # noqa: PLC0415 - an extra: only who names it needs it
        except ImportError as error:
            raise MissingExtraError("PAM needs the extra pam: pip install 'waypost[pam]'") from error
        self._make = pam.PamAuthenticator
        self._service = service
        self._account = account

    def check(self, username: str, password: str) -> Judgement:
        pam = self._make()  # not for two threads at once
        if pam.authenticate(username, password, service=self._service):
            return self._account(username.lower())
        return NotKnown(f"PAM: {pam.reason}")

    def known(self, username: str) -> Judgement:
        return self._account(username.lower())

    def pinned(self, fingerprint: str) -> Judgement:  # noqa: ARG002 - it keeps none
        return NotKnown("no account has a certificate of its own here")


@dataclass(frozen=True, slots=True)
class Directory:
    """An LDAP server. `dn`: a user's, of `%u`; `ca`: the file of the authorities that are believed, or ""."""

    url: str
    dn: str
    ca: str = ""


class LdapPasswords:
    """Binds to a directory as the user: whoever can, has the password."""

    def __init__(self, directory: Directory, account: Callable[[str], Account]) -> None:
        """Raises: MissingExtraError."""
        try:
            import ldap3  # noqa: F401, PLC0415 - see above
            from ldap3.core.exceptions import LDAPException  # noqa: PLC0415 - see above
            from ldap3.utils.dn import escape_rdn  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("LDAP needs the extra ldap: pip install 'waypost[ldap]'") from error
        self._error, self._escape = LDAPException, escape_rdn
        self._directory = directory
        self._server = LdapServer(directory.url, PATIENCE, directory.ca)
        self._account = account

    def check(self, username: str, password: str) -> Judgement:
        if not password:  # a bind without one succeeds, as nobody (RFC 4513 §5.1.2)
            return NotKnown("LDAP: no password")
        dn = self._directory.dn.replace("%u", self._escape(username))
        try:
            with self._server.connected(dn, password) as connection:
                is_right, said = connection.bind(), connection.result
        except (self._error, OSError) as error:
            return CannotTell(f"LDAP: {type(error).__name__}: {error}")
        if is_right:
            return self._account(username.lower())
        if said["result"] == _INVALID_CREDENTIALS:
            return NotKnown(f"LDAP: {said['description']}")
        return CannotTell(f"LDAP: {said['description']} {said['message']}".rstrip())

    def known(self, username: str) -> Judgement:
        return self._account(username.lower())

    def pinned(self, fingerprint: str) -> Judgement:  # noqa: ARG002 - it keeps none
        return NotKnown("no account has a certificate of its own here")
