"""How much clients may send in a time: connections, messages and recipients, each by token bucket.

A bucket holds `limit` tokens and fills again within `per`, so that somebody who was quiet may send a burst, and on
average nobody sends more. Buckets are in memory. Where several processes share the queue, each tells the others what
was taken, within two rounds of the exchange (queue/exchange.py): who sends to N of them at once may take N bursts in
that time, and then waits for as long as it takes to make up for them; on average nobody sends more. A rate that is kept
in the spool is counted there instead, in whole periods, outlasts a restart and knows no such error. Not here: what is
asked when (gate.py).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import ip_network
from typing import Final, NamedTuple, TypeAlias

from waypost.net.clock import Clock
from waypost.policy.access import Network, client_address
from waypost.queue.exchange import NO_OTHERS, Exchange, Telling
from waypost.queue.shelf import Shelf
from waypost.smtp.reply import Reply

#: Buckets remembered in one process; the longest unused go first, and were full again or nearly so.
BUCKETS: Final = 100_000
#: So many times its limit a bucket may be overdrawn, by clients of several processes at once.
_MOST_BURSTS: Final = 10
#: Whose numbers these are on the shelf.
SPACE: Final = "rates"


class Kind(Enum):
    """What is counted."""

    CONNECTIONS = "connections"
    MESSAGES = "messages"
    RECIPIENTS = "recipients"


class By(Enum):
    """Who shares a bucket."""

    CLIENT = "client"  # an IPv4 address, an IPv6 /64
    NETWORK = "network"  # an IPv4 /24, an IPv6 /48
    ACCOUNT = "account"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rate:
    """One `[[rate]]`. `networks`: whom it is about, where not everybody. `place`: "waypost.toml:12"."""

    kind: Kind
    by: By
    limit: int
    per: timedelta
    networks: tuple[Network, ...] = ()
    exempt: tuple[Network, ...] = ()
    in_spool: bool = False
    place: str = "default"

    def __str__(self) -> str:
        shared = "all together" if self.by is By.ALL else f"a {self.by.value}"
        return f"{self.limit} {self.kind.value} {shared} in {self.per.total_seconds():g} s"

    def covers(self, sender: Sender) -> bool:
        """Whether this sender is counted by it."""
        if self.by is By.ACCOUNT and not sender.account:
            return False
        if not (self.networks or self.exempt):
            return True
        address = client_address(sender.host)
        listed = not self.networks or any(address in network for network in self.networks)
        return listed and not any(address in network for network in self.exempt)

    def share_of(self, sender: Sender) -> str:
        """Whose bucket it is, as a person reads it."""
        match self.by:
            case By.CLIENT:
                return _network_of(sender.host, 32, 64)
            case By.NETWORK:
                return _network_of(sender.host, 24, 48)
            case By.ACCOUNT:
                return sender.account.lower()
            case By.ALL:
                return "all"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: a numeric address ("" on a Unix socket), and an account, or ""."""

    host: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class Within:
    """Nothing is exceeded."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """`rate` is, for so long from now."""

    rate: Rate
    wait: timedelta


Measured: TypeAlias = Within | Exceeded
WITHIN: Final = Within()


def refusal(found: Exceeded, *, closing: bool) -> Reply:
    """What the client hears, and when it may come back: 421 where its session ends by it, 450 to one command."""
    seconds = max(1, math.ceil(found.wait.total_seconds()))
    text = f"too many {found.rate.kind.value} from you; come back in {seconds} seconds"
    return Reply.of(421 if closing else 450, "4.7.1", text)


#: What is told as this.
KIND: Final = "rates"


class _Taken(NamedTuple):
    """What was taken from a bucket since it was last told: which rate, how a person reads it, whose, how much."""

    number: int
    rate: str
    share: str
    amount: int


class Meter:
    """Counts by all rates. One for the process."""

    def __init__(self, rates: Sequence[Rate], clock: Clock, shelf: Shelf) -> None:
        self.rates = tuple(rates)
        self._clock = clock
        self._shelf = shelf
        self._buckets: OrderedDict[tuple[Rate, str], tuple[float, float]] = OrderedDict()  # tokens, monotonic time
        self._others: Telling = NO_OTHERS
        self._taken: dict[tuple[Rate, str], int] = {}  # since it was last told; of no use where nobody is

    def counts(self, kind: Kind) -> bool:
        """Whether there is a rate of this kind at all."""
        return any(rate.kind is kind for rate in self.rates)

    def take(self, kind: Kind, sender: Sender) -> Measured:
        """One of them, by the rates in memory. Taken from all buckets or from none."""
        covering = [rate for rate in self._covering(kind, sender) if not rate.in_spool]
        now = self._clock.monotonic()
        for rate in covering:
            tokens = self._tokens(rate, rate.share_of(sender), now)
            if tokens < 1:
                return Exceeded(rate, rate.per * ((1 - tokens) / rate.limit))
        for rate in covering:
            share = rate.share_of(sender)
            self._put(rate, share, self._tokens(rate, share, now) - 1, now)
            if self._others is not NO_OTHERS:
                self._taken[rate, share] = self._taken.get((rate, share), 0) + 1
        return WITHIN

    def share(self, exchange: Exchange) -> None:
        """Tell the other processes what is taken here, and count what they tell."""
        self._others = exchange
        exchange.gather(KIND, self._tell)
        exchange.listen(KIND, list[_Taken], self._heard)

    def _tell(self) -> None:
        taken, self._taken = self._taken, {}
        if taken:
            numbers = {rate: number for number, rate in enumerate(self.rates)}
            said = [_Taken(numbers[rate], str(rate), share, count) for (rate, share), count in taken.items()]
            self._others.tell(KIND, said)

    def _heard(self, taken: list[_Taken]) -> None:
        """Of a rate that is another here, as while nodes are given a new configuration one by one, nothing counts."""
        now = self._clock.monotonic()
        for number, words, share, amount in taken:
            if 0 <= number < len(self.rates) and str(self.rates[number]) == words:
                rate = self.rates[number]
                self._put(rate, share, max(self._tokens(rate, share, now) - amount, -_MOST_BURSTS * rate.limit), now)

    async def take_kept(self, kind: Kind, sender: Sender) -> Measured:
        """One of them, by the rates that are kept in the spool. Raises: StorageError."""
        for rate in self._covering(kind, sender):
            if not rate.in_spool:
                continue
            now, per = self._clock.now(), rate.per.total_seconds()
            ends = (now // per + 1) * per
            key = f"{rate}: {rate.share_of(sender)}: {int(now // per)}"
            if await self._shelf.add(SPACE, key, 1, until=ends, now=now) > rate.limit:
                return Exceeded(rate, timedelta(seconds=ends - now))
        return WITHIN

    def left(self, kind: Kind, sender: Sender) -> Iterator[tuple[Rate, float]]:
        """The rates in memory that count this sender, with the tokens it has; nothing is taken."""
        now = self._clock.monotonic()
        for rate in self._covering(kind, sender):
            yield rate, float("nan") if rate.in_spool else self._tokens(rate, rate.share_of(sender), now)

    def _covering(self, kind: Kind, sender: Sender) -> list[Rate]:
        return [rate for rate in self.rates if rate.kind is kind and rate.covers(sender)]

    def _tokens(self, rate: Rate, share: str, now: float) -> float:
        tokens, since = self._buckets.get((rate, share), (float(rate.limit), now))
        return min(float(rate.limit), tokens + (now - since) * rate.limit / rate.per.total_seconds())

    def _put(self, rate: Rate, share: str, tokens: float, now: float) -> None:
        self._buckets[rate, share] = (tokens, now)
        self._buckets.move_to_end((rate, share))
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)


def _network_of(host: str, ipv4: int, ipv6: int) -> str:
    address = client_address(host)
    return str(ip_network((address, ipv4 if address.version == 4 else ipv6), strict=False))
