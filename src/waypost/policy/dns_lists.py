"""What lists in DNS say of a client and of the domains it names (RFC 5782): blocklists and welcome lists, as a score.

A list that is dead, or answers everything, would refuse all mail or none: each is probed by its test entries, now and
then, and ignored while it fails, which is told. So is one that does not answer for a while. No answer within the
time-out is no listing. Not here: what follows from a score (gate.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, ip_address, ip_network
from typing import Final, Protocol, TypeAlias, assert_never

from waypost.net.clock import Clock
from waypost.net.resolver import AddressAnswer, Addresses, DnsTrouble, NoRecords, NoSuchName
from waypost.policy.access import client_address
from waypost.route.domain import host_name
from waypost.smtp.path import AddressLiteral, Mailbox, ReversePath

#: Between two rounds of probes.
PROBED: Final = timedelta(minutes=15)
#: Failures in a row after which a list is not asked until a probe succeeds.
PATIENCE: Final = 5
#: RFC 5782 §2.1: an address that stands in a list says why in 127.0.0.0/8.
_LISTED: Final = ip_network("127.0.0.0/8")
#: Where large lists answer that they do not answer: over quota, asked through an open resolver, misspelt.
_ERRORS: Final = ip_network("127.255.255.0/24")


class Names(Protocol):
    """Who looks names up in lists."""

    async def ipv4(self, name: str) -> AddressAnswer:
        """The A records of an absolute name."""
        ...


class Subject(Enum):
    """What a list is about."""

    CLIENT = "client"  # the client's address
    DOMAIN = "domain"  # the domain of the reverse-path, and the name in EHLO


@dataclass(frozen=True, slots=True)
class DnsList:
    """One `[[dns_list]]`. `answers`: scores of single answers; others of 127.0.0.0/8 count `score`."""

    zone: str
    subject: Subject
    score: int
    answers: Mapping[IPv4Network, int] = field(default_factory=dict)
    place: str = "default"

    def worth(self, address: str) -> int:
        """The score of one answer; 0: it is no listing."""
        answer = ip_address(address)
        if answer not in _LISTED or answer in _ERRORS:
            return 0
        if not self.answers:
            return self.score
        found = [network for network in self.answers if answer in network]
        return self.answers[max(found, key=lambda network: network.prefixlen)] if found else 0


@dataclass(frozen=True, slots=True)
class Hit:
    """What one list says: its score, 0 where it lists nothing. `text`: a clause for a person."""

    list: DnsList
    score: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """What all lists say. `hits`: those that list something, or had trouble."""

    score: int
    hits: tuple[Hit, ...] = ()


NOTHING_FOUND: Final = Found(0)


class ListsLog(Protocol):
    """Told of lists that are of no use."""

    def list_ignored(self, zone: str, why: str) -> None:
        """It is not asked from now on."""
        ...

    def list_heeded(self, zone: str) -> None:
        """It is asked again."""
        ...


@dataclass(frozen=True, slots=True)
class _Heeded:
    """A list that is asked. `failures`: in a row."""

    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Ignored:
    """A list that is not, and why."""

    why: str


_State: TypeAlias = _Heeded | _Ignored


class DnsLists:
    """Asks them all at once."""

    def __init__(
        self, lists: Sequence[DnsList], names: Names, clock: Clock, log: ListsLog, *, timeout: timedelta
    ) -> None:
        self.lists = tuple(lists)
        self._names = names
        self._clock = clock
        self._log = log
        self._timeout = timeout
        self._states: dict[str, _State] = {}

    @property
    def ignored(self) -> Sequence[str]:
        """A sentence for each list that is ignored now."""
        return [
            f"the list {zone} is ignored: {state.why}"
            for zone, state in self._states.items()
            if isinstance(state, _Ignored)
        ]

    async def ask(self, host: str, hello: str, reverse: ReversePath) -> Found:
        """What they say of a client at `host` that calls itself `hello`, writing as `reverse`; within the time-out."""
        asked = [
            (each, asyncio.ensure_future(self._ask(each, _subjects(each, host, hello, reverse)))) for each in self.lists
        ]
        if not asked:
            return NOTHING_FOUND
        await asyncio.wait([task for _, task in asked], timeout=self._timeout.total_seconds())
        hits = [self._hit(each, task) for each, task in asked]
        return Found(sum(hit.score for hit in hits), tuple(hit for hit in hits if hit.text))

    def _hit(self, each: DnsList, task: asyncio.Future[Hit]) -> Hit:
        if task.done():
            return task.result()
        task.cancel()
        self._failed(each, "no answer in time")
        return Hit(each, 0, f"{each.zone} gave no answer in time")

    async def _ask(self, each: DnsList, subjects: Mapping[str, str]) -> Hit:
        state = self._states.get(each.zone, _Heeded())
        if isinstance(state, _Ignored):
            return Hit(each, 0, f"{each.zone} is ignored: {state.why}")
        answers = [await self._names.ipv4(f"{name}.{each.zone}") for name in subjects.values()]
        troubles = [answer.detail for answer in answers if isinstance(answer, DnsTrouble)]
        if troubles:
            self._failed(each, troubles[0])
            return Hit(each, 0, f"{each.zone}: {troubles[0]}")
        self._states[each.zone] = _Heeded()
        worths = [(_worth(each, answer), subject) for answer, subject in zip(answers, subjects, strict=True)]
        score, subject = max(worths, key=lambda one: abs(one[0]), default=(0, ""))
        return Hit(each, score, f"{each.zone} lists {subject}: {score:+}" if score else "")

    def _failed(self, each: DnsList, why: str) -> None:
        state = self._states.get(each.zone, _Heeded())
        if isinstance(state, _Heeded):
            failures = state.failures + 1
            self._states[each.zone] = _Heeded(failures)
            if failures >= PATIENCE:
                self._ignore(each.zone, f"it has failed {failures} times in a row, at last: {why}")

    # ---- whether lists are alive
    async def watch(self) -> None:
        """Probe each by its test entries, again and again, until cancelled."""
        while True:
            await self.probe()
            await self._clock.sleep(PROBED)

    async def probe(self) -> None:
        """Probe each once."""
        await asyncio.gather(*(self._probe(each) for each in self.lists))

    async def _probe(self, each: DnsList) -> None:
        never, always = _TESTS[each.subject]
        listed, unlisted = await asyncio.gather(
            self._names.ipv4(f"{always}.{each.zone}"), self._names.ipv4(f"{never}.{each.zone}")
        )
        if why := _wrong(unlisted, listed):
            self._ignore(each.zone, why)
        elif isinstance(self._states.get(each.zone), _Ignored):
            self._states[each.zone] = _Heeded()
            self._log.list_heeded(each.zone)

    def _ignore(self, zone: str, why: str) -> None:
        known = isinstance(self._states.get(zone), _Ignored)
        self._states[zone] = _Ignored(why)
        if not known:
            self._log.list_ignored(zone, why)


#: RFC 5782 §5: what no list has, and what each must have; the addresses are 127.0.0.1 and 127.0.0.2 backwards.
_TESTS: Final = {Subject.CLIENT: ("1.0.0.127", "2.0.0.127"), Subject.DOMAIN: ("invalid", "test")}


def _wrong(unlisted: AddressAnswer, listed: AddressAnswer) -> str:
    """What probes tell is wrong with a list, "" for nothing."""
    if isinstance(unlisted, Addresses):
        return "it lists what no list may: it answers everything"
    match listed:
        case DnsTrouble(detail):
            return f"it does not answer: {detail}"
        case NoRecords() | NoSuchName():
            return "it does not have its test entry: it is dead, or does not talk to this resolver"
        case Addresses(addresses):
            bad = [one for one in addresses if ip_address(one) not in _LISTED or ip_address(one) in _ERRORS]
            return f"it answers its test entry with {bad[0]}, which is no listing" if bad else ""
        case _:
            assert_never(listed)


def _worth(each: DnsList, answer: AddressAnswer) -> int:
    if not isinstance(answer, Addresses):
        return 0
    return max((each.worth(address) for address in answer.addresses), key=abs, default=0)


def _subjects(each: DnsList, host: str, hello: str, reverse: ReversePath) -> Mapping[str, str]:
    """What is looked up in a list: as a person names it → as the zone does."""
    if each.subject is Subject.CLIENT:
        return {host: backwards(host)}
    domains = (
        [reverse.domain] if isinstance(reverse, Mailbox) and not isinstance(reverse.domain, AddressLiteral) else []
    )
    return {name: name for name in _names([*map(str, domains), hello])}


def _names(texts: Iterable[str]) -> list[str]:
    """Those that are full names of hosts; no addresses, no single labels."""
    found = []
    for text in texts:
        try:
            name = host_name(text)
        except ValueError:
            continue
        if "." in name and not name.rpartition(".")[2].isdigit():
            found.append(name)
    return list(dict.fromkeys(found))


def backwards(host: str) -> str:
    """An address as lists have it (RFC 5782 §2.1 and §2.4): the octets, or the hexadecimal digits, from the last."""
    address = client_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
