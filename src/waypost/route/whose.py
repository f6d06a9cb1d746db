"""Whose mail a route is for: of all senders, or of some accounts and reverse-paths. Pure; table.py chooses by it.

Accounts go before reverse-paths, since an account has proven who it is; an address goes before its domain, and the
longer domain before the shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waypost.route.domain import Match, Pattern, to_ascii
from waypost.smtp.path import Mailbox, NullPath, ReversePath

#: How well a rule fits: not at all; and what an account, an address, a domain alone add to it.
NOT_THIS: Final = -1
_ACCOUNT: Final = 1000
_ADDRESS: Final = 500
_EXACT: Final = 400


@dataclass(frozen=True, slots=True)
class Whose:
    """`accounts` and addresses among `senders` in lower case, "<>" for reports. Empty: everybody's.

    Where both are given, both have to fit.
    """

    accounts: tuple[str, ...] = ()
    senders: tuple[str | Pattern, ...] = ()

    def __bool__(self) -> bool:
        """Whether it is for some only."""
        return bool(self.accounts or self.senders)

    def __str__(self) -> str:
        """Whose, in words."""
        words = [f"account {', '.join(self.accounts)}"] if self.accounts else []
        words += [f"sender {', '.join(map(str, self.senders))}"] if self.senders else []
        return " and ".join(words)

    def fit(self, path: ReversePath, account: str) -> int:
        """How well mail of this reverse-path and account fits; NOT_THIS: not at all, 0: as everybody's does."""
        by_account = (_ACCOUNT if account.lower() in self.accounts else NOT_THIS) if self.accounts else 0
        by_sender = max((_fit(sender, path) for sender in self.senders), default=0)
        return NOT_THIS if NOT_THIS in {by_account, by_sender} else by_account + by_sender


#: Everybody's.
ANYBODYS: Final = Whose()


def _fit(sender: str | Pattern, path: ReversePath) -> int:
    if isinstance(path, NullPath):
        return _ADDRESS if sender == "<>" else NOT_THIS
    if isinstance(sender, str):
        return _ADDRESS if sender == str(path).lower() else NOT_THIS
    return _fit_domain(sender, path)


def _fit_domain(pattern: Pattern, path: Mailbox) -> int:
    try:
        name = to_ascii(str(path.domain))
    except ValueError:
        return NOT_THIS
    if name == pattern.name:
        return _EXACT if pattern.match is Match.EXACT else 1 + pattern.name.count(".")
    below = pattern.match is Match.SUFFIX and name.endswith(f".{pattern.name}")
    return 1 + pattern.name.count(".") if below else NOT_THIS
