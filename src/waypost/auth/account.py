"""An account: somebody who may submit mail, and the reverse-paths that are his."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.smtp.path import Mailbox, NullPath, ReversePath

#: In `may_send_as`: any reverse-path; in `may_act_as`: any account.
ANYONE = "*"


@dataclass(frozen=True, slots=True)
class Account:
    """Who has authenticated. `may_send_as`: addresses, domains (with their sub-domains) or `*`, in lower case.

    `may_act_as`: names of other accounts that it may log in as, by its own password, or `*`; in lower case.
    """

    name: str
    may_send_as: tuple[str, ...]
    may_act_as: tuple[str, ...] = ()

    def may_use(self, path: ReversePath) -> bool:
        """Whether mail of this account may carry the reverse-path. The null one is anybody's: a report is his too."""
        return isinstance(path, NullPath) or any(_covers(entry, path) for entry in self.may_send_as)

    def may_be(self, name: str) -> bool:
        """Whether it may act as the account of that name: itself, or another that its owner lets it be."""
        return name.lower() == self.name.lower() or not {ANYONE, name.lower()}.isdisjoint(self.may_act_as)


def _covers(entry: str, path: Mailbox) -> bool:
    domain = str(path.domain).lower()
    if "@" in entry:
        return entry == f"{path.local_part.lower()}@{domain}"
    return entry in (ANYONE, domain) or domain.endswith(f".{entry}")


def own_address(name: str, domain: str) -> str:
    """The address an account has by its name: the name itself, or the name at `domain`; in lower case."""
    return (name if "@" in name else f"{name}@{domain}").lower()
