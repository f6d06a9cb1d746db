"""Which address becomes which on the way out: canonical, masquerade, generic, and senders that a smart host refuses.

    canonical (everywhere) → masquerade → generic (of the route) → the route's sender, or SRS

The words are Postfix's. The message in the queue stays as it came, and so does its reverse-path: reports go to who sent
it. What leaves is rewritten, in the envelope and in the header's addresses, and nothing else of the header is touched.
A map in trouble makes mail wait. Not here: finding addresses in a header (mail/addresses.py); envelope recipients are
rewritten at RCPT, for they decide the route (admission.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from waypost.mail.addresses import Class, Place, places_in, replaced, with_reply_to
from waypost.mail.srs import Srs
from waypost.maps.lookup import Listed, Map, MapTrouble
from waypost.net.clock import Instant
from waypost.policy.expansion import Spellings, listed, sole_target
from waypost.route.domain import Match, Pattern, to_ascii
from waypost.smtp.path import DomainName, Mailbox, PathError, ReversePath

ENVELOPE_SENDER: Final = "envelope-sender"
HEADER_SENDER: Final = "header-sender"
HEADER_RECIPIENT: Final = "header-recipient"
ENVELOPE_RECIPIENT: Final = "envelope-recipient"


class RewritingError(Exception):
    """An address cannot be rewritten now; a sentence for the administrator. Mail waits."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An address becomes this one: by which rule, and the line that says so."""

    rule: str
    mailbox: Mailbox
    place: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Hosts below these domains are hidden: `ann@pc7.example.net` is `ann@example.net`. `exceptions`: local-parts."""

    domains: tuple[str, ...] = ()
    exceptions: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    place: str = "default"

    def of(self, mailbox: Mailbox, where: str) -> Mailbox:
        """The address without its host; the longest domain decides, and one that begins with `!` keeps the host."""
        if where not in self.classes or mailbox.local_part.lower() in self.exceptions:
            return mailbox
        name = str(mailbox.domain)
        fits = [one for one in self.domains if name.endswith(f".{one.removeprefix('!')}") or name == one[1:]]
        best = max(fits, key=lambda one: len(one.removeprefix("!")), default="")
        return mailbox if not best or best.startswith("!") else Mailbox(mailbox.local_part, DomainName(best))


@dataclass(frozen=True, slots=True)
class AsItIs:
    """The sender stays who it is."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A smart host takes one sender only: all others become it, and answers go to them by Reply-To."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The envelope's sender becomes an address of ours that leads back to it."""

    srs: Srs


SenderRule: TypeAlias = AsItIs | Fixed | Wrapped
AS_IT_IS: Final = AsItIs()


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What becomes of addresses on one route. `allowed`: domains of senders that the sender rule leaves alone.

    `place`: the line of that rule.
    """

    sender_canonical: tuple[Map, ...] = ()
    recipient_canonical: tuple[Map, ...] = ()
    canonical_classes: frozenset[str] = frozenset()
    masquerade: Masquerade = Masquerade()
    generic: tuple[Map, ...] = ()
    sender: SenderRule = AS_IT_IS
    allowed: tuple[Pattern, ...] = ()
    place: str = "default"

    async def reverse_path(self, path: ReversePath, now: Instant) -> ReversePath:
        """The envelope's sender, as it goes out. A null one stays null. Raises: RewritingError."""
        if not isinstance(path, Mailbox):
            return path
        turns = await self.sender_turns(path, now)
        return turns[-1].mailbox if turns else path

    async def sender_turns(self, path: Mailbox, now: Instant) -> Sequence[Turn]:
        """What the envelope's sender becomes, rule by rule. Raises: RewritingError."""
        turns = await self._turns(path, ENVELOPE_SENDER, self.sender_canonical)
        mailbox = turns[-1].mailbox if turns else path
        if self._allows(mailbox):
            return turns
        match self.sender:
            case Fixed(fixed):
                return [*turns, Turn("rewrite_sender", fixed, self.place)]
            case Wrapped(srs):
                try:
                    return [*turns, Turn("SRS", srs.wrapped(mailbox, now), self.place)]
                except PathError:  # it would be longer than an address may be: as it is, SPF may fail, and it may not
                    return turns
            case AsItIs():
                return turns
            case _:
                assert_never(self.sender)

    async def author_turns(self, author: Mailbox) -> Sequence[Turn]:
        """What an address in From becomes, rule by rule. Raises: RewritingError."""
        turns = await self._turns(author, HEADER_SENDER, self.sender_canonical)
        becomes = turns[-1].mailbox if turns else author
        if isinstance(self.sender, Fixed) and not self._allows(becomes):
            return [*turns, Turn("rewrite_sender", self.sender.mailbox, self.place)]
        return turns

    async def recipient_turns(self, recipient: Mailbox) -> Sequence[Turn]:
        """What an address in To becomes, rule by rule. Raises: RewritingError."""
        return await self._turns(recipient, HEADER_RECIPIENT, self.recipient_canonical)

    async def header(self, header: bytes) -> bytes:
        """The header section, as it goes out. Raises: RewritingError."""
        known: dict[tuple[Mailbox, bool], Mailbox] = {}
        changes: list[tuple[Place, Mailbox]] = []
        foreign = False
        for place in places_in(header):
            is_author = place.field in {b"from", b"sender"}
            key = place.mailbox, place.names is Class.SENDER
            if key not in known:
                known[key] = await self._in_header(place)
            becomes = known[key]
            if is_author and isinstance(self.sender, Fixed) and not self._allows(becomes):
                foreign = foreign or place.field == b"from"
                becomes = self.sender.mailbox
            if becomes != place.mailbox:
                changes.append((place, becomes))
        rewritten = replaced(header, changes) if changes else header
        return with_reply_to(rewritten, await self._mapped_from(header)) if foreign else rewritten

    async def _mapped_from(self, header: bytes) -> bytes:
        """The header with its From mapped, but not yet hidden behind a fixed sender: where answers are to go."""
        changes = [(place, await self._in_header(place)) for place in places_in(header) if place.field == b"from"]
        return replaced(header, changes)

    async def _in_header(self, place: Place) -> Mailbox:
        if place.names is Class.SENDER:
            return await self._mapped(place.mailbox, HEADER_SENDER, self.sender_canonical)
        return await self._mapped(place.mailbox, HEADER_RECIPIENT, self.recipient_canonical)

    async def _mapped(self, mailbox: Mailbox, where: str, canonical: Sequence[Map]) -> Mailbox:
        turns = await self._turns(mailbox, where, canonical)
        return turns[-1].mailbox if turns else mailbox

    async def _turns(self, mailbox: Mailbox, where: str, canonical: Sequence[Map]) -> list[Turn]:
        """Each map is asked once, for what the rules before it have made of the address."""
        turns: list[Turn] = []
        if where in self.canonical_classes:
            turns += await _mapped("canonical", canonical, mailbox)
        mailbox = turns[-1].mailbox if turns else mailbox
        shown = self.masquerade.of(mailbox, where)
        if shown != mailbox:
            turns.append(Turn("masquerade", shown, self.masquerade.place))
        return [*turns, *await _mapped("generic", self.generic, shown)]

    def _allows(self, mailbox: Mailbox) -> bool:
        """Whether the smart host takes this sender as it is."""
        if isinstance(self.sender, Fixed) and mailbox == self.sender.mailbox:
            return True
        try:
            name = to_ascii(str(mailbox.domain))
        except ValueError:
            return False
        return any(
            name == pattern.name or (pattern.match is Match.SUFFIX and name.endswith(f".{pattern.name}"))
            for pattern in self.allowed
        )


#: By the names of routes; a route that is not among them passes addresses on as they are.
Rewritings: TypeAlias = Mapping[str, Rewriting]


async def _mapped(rule: str, maps: Sequence[Map], mailbox: Mailbox) -> Sequence[Turn]:
    """The address that maps have for this one, once; none: itself. `@domain` in a map is for all of a domain.

    Raises: RewritingError.
    """
    if not maps:
        return ()
    found = await listed(maps, Spellings(whole=(str(mailbox).lower(),), at_domain=(f"@{mailbox.domain}",)))
    if isinstance(found, MapTrouble):
        raise RewritingError(found.detail)
    if not isinstance(found, Listed):
        return ()
    try:
        becomes = sole_target(found.values, mailbox)
    except PathError as error:
        raise RewritingError(f"{found.place}: {error}") from error
    return () if becomes == mailbox else (Turn(rule, becomes, found.place),)
