"""What strangers must pass beside the rules on recipients: rates, lists in DNS, greylisting; and where they end up.

    connect: rates → MAIL: rates → the first RCPT: lists in DNS → each RCPT: greylisting, rates

Clients that may relay through us pass by lists and greylisting, never by rates. The postmaster is reached by everybody
(RFC 5321 §4.5.1). A shelf in trouble lets pass: mail counts more than its manners. Where nothing of this is configured
there is no gate (`NO_GATE`), and nothing is asked. Not here: what the session makes of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.net.clock import Clock
from waypost.policy.access import Network, client_address
from waypost.policy.dns_lists import NOTHING_FOUND, DnsLists, Found
from waypost.policy.greylist import Greylist, Greyness, Known, PutOff
from waypost.policy.rates import Exceeded, Kind, Meter, Sender, refusal
from waypost.queue.storage import StorageError
from waypost.smtp.path import ForwardPath, Mailbox, ReversePath
from waypost.smtp.reply import Reply

#: A place's line where nothing was written.
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client as it stands now. `hello`: what it called itself in EHLO; `trusted`: it may relay through us."""

    host: str
    hello: str
    account: str
    trusted: bool

    @property
    def sender(self) -> Sender:
        """As rates count it."""
        return Sender(self.host, self.account)


class Action(Enum):
    """What follows from a score, the mildest first."""

    PASS = "pass"  # noqa: S105 - no password
    TAG = "tag"
    GREYLIST = "greylist"
    QUARANTINE = "quarantine"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which score on an action follows; 0: never."""

    action: Action
    score: int
    place: str = _DEFAULT


@dataclass(frozen=True, slots=True)
class Screened:
    """What the lists say of one transaction's client, and what follows; `place` is the line that decided."""

    found: Found = NOTHING_FOUND
    action: Action = Action.PASS
    place: str = _DEFAULT

    @property
    def words(self) -> str:
        """The score and the hits it is made of."""
        hits = "; ".join(hit.text for hit in self.found.hits)
        return f"score {self.found.score:+}" + (f" ({hits})" if hits else "")


UNSCREENED: Final = Screened()


class Greylisting(Enum):
    """Whom greylisting is for."""

    OFF = "off"
    SUSPECTS = "suspects"  # whose score says so
    ALL = "all"  # all but those a list speaks for (a score below 0)


@dataclass(frozen=True, slots=True)
class Unopposed:
    """Nothing stands against it."""


UNOPPOSED: Final = Unopposed()
Opinion: TypeAlias = Reply | Unopposed


class GateLog(Protocol):
    """Told what became of strangers."""

    def screened(self, host: str, action: str, words: str) -> None:
        """The lists' verdict on a transaction, where it is more than to let pass."""
        ...

    def limited(self, host: str, account: str, rate: str, place: str) -> None:
        """A rate was exceeded."""
        ...

    def shelf_trouble(self, doing: str, detail: str) -> None:
        """What is counted in the spool could not be."""
        ...


class Gate(Protocol):
    """Asked by every session; each answer is a refusal, or nothing against it."""

    watches: bool

    def connected(self, host: str) -> Opinion:
        """A client connects."""
        ...

    async def sends(self, visitor: Visitor) -> Opinion:
        """It says MAIL."""
        ...

    async def screen(self, visitor: Visitor, reverse: ReversePath) -> Screened:
        """What is known of it; asked once a transaction."""
        ...

    async def names(self, visitor: Visitor, reverse: ReversePath, forward: ForwardPath, screened: Screened) -> Opinion:
        """It names a recipient that would be taken."""
        ...


class OpenGate:
    """Nobody is asked for anything."""

    watches = False

    def connected(self, host: str) -> Opinion:  # noqa: ARG002 - see the class
        return UNOPPOSED

    async def sends(self, visitor: Visitor) -> Opinion:  # noqa: ARG002
        return UNOPPOSED

    async def screen(self, visitor: Visitor, reverse: ReversePath) -> Screened:  # noqa: ARG002
        return UNSCREENED

    async def names(
        self,
        visitor: Visitor,  # noqa: ARG002
        reverse: ReversePath,  # noqa: ARG002
        forward: ForwardPath,  # noqa: ARG002
        screened: Screened,  # noqa: ARG002
    ) -> Opinion:
        return UNOPPOSED


NO_GATE: Final = OpenGate()


@dataclass(frozen=True, slots=True)
class Manners:
    """What is done with strangers. `exempt`: clients that neither lists nor greylisting concern."""

    thresholds: tuple[Threshold, ...] = ()
    greylisting: Greylisting = Greylisting.OFF
    exempt: tuple[Network, ...] = ()
    greylist_place: str = _DEFAULT

    def follows(self, found: Found) -> Screened:
        """The strictest action whose threshold is reached."""
        reached = [each for each in self.thresholds if each.score and found.score >= each.score]
        if not reached:
            return Screened(found)
        strictest = max(reached, key=lambda each: list(Action).index(each.action))
        return Screened(found, strictest.action, strictest.place)

    def greylists(self, screened: Screened) -> bool:
        """Whether a client of which so much is known is to come again."""
        match self.greylisting:
            case Greylisting.OFF:
                return False
            case Greylisting.SUSPECTS:
                return screened.action is Action.GREYLIST
            case Greylisting.ALL:
                return screened.found.score >= 0
            case _:
                assert_never(self.greylisting)


class WatchedGate:
    """A gate with somebody at it."""

    watches = True

    def __init__(
        self, manners: Manners, meter: Meter, lists: DnsLists, greylist: Greylist, clock: Clock, log: GateLog
    ) -> None:
        self.manners = manners
        self._log = log
        self.meter = meter
        self.lists = lists
        self.greylist = greylist
        self.clock = clock

    def is_exempt(self, visitor: Visitor) -> bool:
        """Whether lists and greylisting do not concern it."""
        if visitor.trusted or visitor.account:
            return True
        return any(client_address(visitor.host) in network for network in self.manners.exempt)

    def connected(self, host: str) -> Opinion:
        found = self.meter.take(Kind.CONNECTIONS, Sender(host))
        return self._limit(found, Sender(host), closing=True) if isinstance(found, Exceeded) else UNOPPOSED

    async def sends(self, visitor: Visitor) -> Opinion:
        return await self._rated(Kind.MESSAGES, visitor)

    async def screen(self, visitor: Visitor, reverse: ReversePath) -> Screened:
        if not self.lists.lists or self.is_exempt(visitor):
            return UNSCREENED
        screened = self.manners.follows(await self.lists.ask(visitor.host, visitor.hello, reverse))
        if screened.action is not Action.PASS:
            self._log.screened(visitor.host, screened.action.value, screened.words)
        return screened

    async def names(self, visitor: Visitor, reverse: ReversePath, forward: ForwardPath, screened: Screened) -> Opinion:
        if self.greys(visitor, forward, screened):
            grey = await self._judge(visitor, reverse, forward)
            if isinstance(grey, PutOff):
                return put_off(grey, self.clock)
        return await self._rated(Kind.RECIPIENTS, visitor)

    def greys(self, visitor: Visitor, forward: ForwardPath, screened: Screened) -> bool:
        """Whether greylisting has a say."""
        concerned = not (is_postmaster(forward) or self.is_exempt(visitor))
        return concerned and self.manners.greylists(screened)

    async def _judge(self, visitor: Visitor, reverse: ReversePath, forward: ForwardPath) -> Greyness:
        try:
            return await self.greylist.judge(visitor.host, reverse, forward, self.clock.now())
        except StorageError as error:
            self._log.shelf_trouble("greylisting", str(error))
            return Known("the shelf is in trouble")

    async def _rated(self, kind: Kind, visitor: Visitor) -> Opinion:
        found = self.meter.take(kind, visitor.sender)
        if not isinstance(found, Exceeded):
            try:
                found = await self.meter.take_kept(kind, visitor.sender)
            except StorageError as error:
                self._log.shelf_trouble("counting for a rate", str(error))
                return UNOPPOSED
        return self._limit(found, visitor.sender, closing=False) if isinstance(found, Exceeded) else UNOPPOSED

    def _limit(self, found: Exceeded, sender: Sender, *, closing: bool) -> Reply:
        self._log.limited(sender.host, sender.account, str(found.rate), found.rate.place)
        return refusal(found, closing=closing)


def is_postmaster(path: ForwardPath) -> bool:
    """Whether it is the postmaster's, bare or of a domain: who must be reached by those we turn away."""
    return not isinstance(path, Mailbox) or path.local_part.lower() == "postmaster"


def put_off(grey: PutOff, clock: Clock) -> Reply:
    """What a greylisted recipient is answered: when to come again."""
    seconds = max(1, int(grey.until - clock.now() + 1))
    at = datetime.fromtimestamp(grey.until, UTC).strftime("%H:%M:%S UTC")
    return Reply.of(451, "4.7.1", f"greylisted: you are new here; come back in {seconds} seconds, after {at}")


def not_wanted(screened: Screened, host: str) -> Reply:
    """What RCPT is answered for a client whose score is too high."""
    zones = ", ".join(hit.list.zone for hit in screened.found.hits if hit.score > 0)
    return Reply.of(550, "5.7.1", f"no mail is taken from [{host}]: it, or a domain it names, is listed in {zones}")
