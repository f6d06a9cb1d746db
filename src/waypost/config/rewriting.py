"""From `[rewriting]` and what routes say of addresses to who rewrites them; and what is wrong with it, found before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.config.lines import Places
from waypost.config.model import Map, Rewriting, Route
from waypost.config.rules import Secret, fallback_name
from waypost.config.sections import Found, Reader
from waypost.mail.srs import Srs
from waypost.maps.lookup import Map as Lookups
from waypost.net.clock import Clock
from waypost.policy.expansion import AS_SAID, First
from waypost.policy.rewriting import (
    AS_IT_IS,
    ENVELOPE_RECIPIENT,
    Fixed,
    Masquerade,
    Rewritings,
    SenderRule,
    Wrapped,
)
from waypost.policy.rewriting import Rewriting as Way
from waypost.route.domain import host_name
from waypost.smtp.path import DomainName, PathError, parse_mailbox

SRS = "srs"


@dataclass(frozen=True, slots=True)
class RouteSenders:
    """What one route says of addresses; `name` is the rule's."""

    name: str
    generic: tuple[str, ...]
    sender: SenderRule
    section: Route
    place: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """All that is said of addresses, checked. `srs`: the one, where there is one."""

    section: Rewriting
    routes: tuple[RouteSenders, ...]
    srs: tuple[Srs, ...]
    place: str
    masquerade_place: str = "default"

    def first(self, maps: Mapping[str, Lookups], clock: Clock) -> First:
        """What becomes of recipients at RCPT."""
        section = self.section
        is_done = ENVELOPE_RECIPIENT in section.canonical_classes
        names = (*section.recipient_canonical, *section.canonical) if is_done else ()
        if not names and not self.srs:
            return AS_SAID
        return First(tuple(maps[name] for name in names), self.srs, clock.now, self.place)

    def rewritings(self, maps: Mapping[str, Lookups]) -> Rewritings:
        """What becomes of senders and header fields, by route; none where nothing is to be done."""
        return {
            name: self._way(route, maps)
            for route in self.routes
            if self._concerns(route)
            for name in (route.name, fallback_name(route.section))
        }

    def of(self, name: str) -> str:
        """What is done on the way out by the route of that name, in words; "" where nothing is."""
        section = self.section
        for route in self.routes:
            if route.name == name and self._concerns(route):
                canonical = dict.fromkeys((*section.sender_canonical, *section.recipient_canonical, *section.canonical))
                words = [f"canonical by {', '.join(canonical)}"] if canonical else []
                words += [f"masquerade of {', '.join(section.masquerade)}"] if section.masquerade else []
                words += [f"generic by {', '.join(route.generic)}"] if route.generic else []
                sender = route.section.rewrite_sender
                words += [f"senders become {sender.replace(SRS, 'SRS addresses')}"] if sender else []
                return ", then ".join(words)
        return ""

    def _concerns(self, route: RouteSenders) -> bool:
        section = self.section
        everywhere = section.canonical or section.sender_canonical or section.recipient_canonical or section.masquerade
        return bool(everywhere or route.generic or route.sender is not AS_IT_IS)

    def _way(self, route: RouteSenders, maps: Mapping[str, Lookups]) -> Way:
        section = self.section
        return Way(
            sender_canonical=tuple(maps[name] for name in (*section.sender_canonical, *section.canonical)),
            recipient_canonical=tuple(maps[name] for name in (*section.recipient_canonical, *section.canonical)),
            canonical_classes=frozenset(section.canonical_classes),
            masquerade=Masquerade(
                tuple(name.lower() for name in section.masquerade),
                frozenset(name.lower() for name in section.masquerade_exceptions),
                frozenset(section.masquerade_classes),
                self.masquerade_place,
            ),
            generic=tuple(maps[name] for name in route.generic),
            sender=route.sender,
            allowed=route.section.allowed_senders,
            place=route.place,
        )


def build_addresses(
    sections: Sequence[Rewriting],
    routes: Sequence[Found[Route]],
    names: Sequence[str],
    maps: Sequence[Found[Map]],
    reader: Reader,
    *,
    base: Path,
    environment: Mapping[str, str],
    places: Places,
) -> Addresses:
    """What is said; what is wrong with it has been complained of, and it is of no use then. `names`: of the rules."""
    section = sections[0] if sections else Rewriting()
    known = {found.section.name for found in maps}
    for key in ("canonical", "sender_canonical", "recipient_canonical"):
        _check_names(getattr(section, key), known, ("rewriting", key), reader)
    _check_masquerade(section, reader)
    srs = _srs(section, reader, base, environment)
    senders = []
    for found, name in zip(routes, names, strict=True):
        _check_names(found.section.generic, known, (*found.path, "generic"), reader)
        senders.append(
            RouteSenders(
                name,
                found.section.generic,
                _sender(found, srs, reader),
                found.section,
                places.of(*found.path, "rewrite_sender"),
            )
        )
    masquerade = places.of("rewriting", "masquerade")
    return Addresses(section, tuple(senders), srs, places.of("rewriting"), masquerade)


def _check_names(names: Sequence[str], known: set[str], path: tuple[str | int, ...], reader: Reader) -> None:
    for index, name in enumerate(names):
        if name not in known:
            there = f"There are: {', '.join(sorted(known))}" if known else "Write a [[map]] of that name"
            reader.complain((*path, index), f'there is no [[map]] named "{name}"', there)


def _check_masquerade(section: Rewriting, reader: Reader) -> None:
    for index, name in enumerate(section.masquerade):
        try:
            host_name(name.removeprefix("!"))
        except ValueError as error:
            reader.complain(("rewriting", "masquerade", index), str(error), 'Write a domain, such as "example.net"')


def _srs(section: Rewriting, reader: Reader, base: Path, environment: Mapping[str, str]) -> tuple[Srs, ...]:
    if not section.srs_domain:
        return ()
    path = ("rewriting", "srs_domain")
    try:
        domain = DomainName(host_name(section.srs_domain))
    except ValueError as error:
        reader.complain(path, str(error), 'Write a domain, such as "srs.example.net"')
        return ()
    if bool(section.srs_secret_file) == bool(section.srs_secret_env):
        reader.complain(path, "needs one secret", "Write one of srs_secret_file and srs_secret_env beside it")
        return ()
    where = Secret(section.srs_secret_file, section.srs_secret_env)
    return (Srs(domain, where.read(base, environment, ("rewriting",), "srs_secret", reader).encode()),)


def _sender(found: Found[Route], srs: Sequence[Srs], reader: Reader) -> SenderRule:
    text, path = found.section.rewrite_sender, (*found.path, "rewrite_sender")
    if not text:
        if found.section.allowed_senders:
            problem = "excepts senders from a rewriting that is not there"
            reader.complain((*found.path, "allowed_senders"), problem, "Write rewrite_sender beside it")
        return AS_IT_IS
    if text == SRS:
        if not srs:
            reader.complain(path, "needs a domain of ours", "Write srs_domain and srs_secret_file in [rewriting]")
        return Wrapped(srs[0]) if srs else AS_IT_IS
    try:
        return Fixed(parse_mailbox(text))
    except PathError as error:
        reader.complain(path, f"{text!r} is no mailbox: {error}", 'Write one such as "relay@example.net", or "srs"')
        return AS_IT_IS
