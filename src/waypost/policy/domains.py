"""The domains that are ours, and how their recipients are told apart. Values, and a look-up by longest suffix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from waypost.maps.lookup import Map
from waypost.route.domain import Match, Pattern, to_ascii
from waypost.smtp.path import DomainName, Mailbox


@dataclass(frozen=True, slots=True)
class SameDomain:
    """Recipients keep their domain."""


@dataclass(frozen=True, slots=True)
class NoCatchAll:
    """Nobody gets the mail of recipients that do not exist."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Whoever is not listed may exist: the next hop knows."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Whoever is not listed does not exist."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """Whoever is not listed here is looked after by another route, named so: a split domain."""

    route: str


Rewrite: TypeAlias = SameDomain | DomainName
CatchAll: TypeAlias = NoCatchAll | Mailbox
UnknownHere: TypeAlias = Accept | Refuse | PassOn


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """One `[[domain]]`: what is done with its recipients before they are routed. `place`: "waypost.toml:12"."""

    patterns: tuple[Pattern, ...]
    place: str
    rewrite: Rewrite = SameDomain()
    aliases: tuple[Map, ...] = ()
    users: tuple[Map, ...] = ()
    catch_all: CatchAll = NoCatchAll()
    separators: str = ""  # each character of it begins a subaddress
    keep_tag: bool = True
    unknown: UnknownHere = Accept()
    places: Mapping[str, str] = field(default_factory=dict)  # of single settings, where they have lines of their own

    def place_of(self, key: str) -> str:
        """Where a setting stands, or the whole policy."""
        return self.places.get(key, self.place)

    def without_tag(self, local_part: str) -> str:
        """The local-part up to its subaddress (RFC 5233); whole where it has none."""
        found = [at for at in (local_part.find(one) for one in self.separators) if at > 0]
        return local_part[: min(found)] if found else local_part


@dataclass(frozen=True, slots=True)
class NotOurs:
    """No `[[domain]]` is about this domain."""


NOT_OURS: Final = NotOurs()


class Domains:
    """All of `[[domain]]`. The order in the file plays no part: the longest suffix of whole labels wins."""

    def __init__(self, policies: Sequence[DomainPolicy] = ()) -> None:
        self._exact = dict(_patterns(policies, Match.EXACT))
        self._suffix = dict(_patterns(policies, Match.SUFFIX))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._exact or self._suffix)

    def of(self, mailbox: Mailbox) -> DomainPolicy | NotOurs:
        """What is done with recipients like this one."""
        try:
            name = to_ascii(str(mailbox.domain))
        except ValueError:
            return NOT_OURS
        if name in self._exact:
            return self._exact[name]
        rest = "" if name.startswith("[") else name
        while rest:
            if rest in self._suffix:
                return self._suffix[rest]
            rest = rest.partition(".")[2]
        return NOT_OURS


def _patterns(policies: Sequence[DomainPolicy], kind: Match) -> Iterable[tuple[str, DomainPolicy]]:
    for policy in policies:
        for pattern in policy.patterns:
            if pattern.match is kind:
                yield pattern.name, policy
