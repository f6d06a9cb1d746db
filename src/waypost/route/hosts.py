"""From a Route's transport to the hosts to try, in order (RFC 5321 §5.1), without ourselves among them.

Temporary and permanent are kept apart: only what DNS says with authority can bounce mail. Not here: caching (the
resolver's), connecting (deliver/).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeAlias, assert_never

from waypost.mail.outcome import DnsFailed, Host, NoSuchHost
from waypost.net.resolver import (
    AddressAnswer,
    Addresses,
    DnsTrouble,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    NullMx,
    Resolver,
)
from waypost.net.stream import Endpoint
from waypost.route.route import Hosts, HostsAnswer, LmtpServers, Server, SmtpMx, SmtpServers
from waypost.route.target import is_address
from waypost.smtp.reply import EnhancedStatus

NO_SUCH_DOMAIN: Final = EnhancedStatus(5, 1, 2)  # RFC 3463 §3.2: bad destination system address
NULL_MX: Final = EnhancedStatus(5, 1, 10)  # RFC 7505 §4.2
NO_WAY: Final = EnhancedStatus(5, 4, 4)  # RFC 3463 §3.5: unable to route
LOOP: Final = EnhancedStatus(5, 4, 6)  # RFC 3463 §3.5: routing loop detected

#: MX hosts that are looked up, and addresses that are tried: no zone, however odd, keeps an attempt busy for ever.
MAX_MX_HOSTS: Final = 20
MAX_ADDRESSES: Final = 50
#: Lists of literal addresses whose hosts are remembered: those of all routes, and what operators ask about.
MAX_LITERAL: Final = 1000


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A host by name, with what DNS says of its addresses. `preference` counts for MX alone."""

    name: str
    port: int
    preference: int
    answer: AddressAnswer
    implicit_tls: bool = False

    @property
    def hosts(self) -> tuple[Host, ...]:
        match self.answer:
            case Addresses(addresses):
                return tuple(Host(self.name, Endpoint(address, self.port), self.implicit_tls) for address in addresses)
            case NoRecords() | NoSuchName() | DnsTrouble():
                return ()
            case _:
                assert_never(self.answer)


_Exchangers: TypeAlias = tuple[MxRecord, ...] | NoSuchHost | DnsFailed


class HostFinder:
    """Resolves names, orders hosts, removes ourselves. Answers come from the resolver's cache while their TTL lasts."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        own_names: AbstractSet[str],
        own_addresses: AbstractSet[str],
        own_ports: AbstractSet[int],
        dice: random.Random,
        allow_loopback_mx: bool = False,
    ) -> None:
        """`own_names` in lower case; `own_addresses` numeric, of this machine and of what forwards to it.

        `allow_loopback_mx`: take an MX that leads to 127.0.0.0/8 at its word, as tests and laptops need it.
        """
        self._resolver = resolver
        self._own_names = own_names
        self._own_endpoints = frozenset(Endpoint(host, port) for host in own_addresses for port in own_ports)
        self._dice = dice
        self._allow_loopback_mx = allow_loopback_mx
        self._literal: dict[tuple[Server, ...], HostsAnswer] = {}
        self._credit: dict[tuple[tuple[Server, ...], tuple[int, ...]], list[int]] = {}

    async def hosts(self, transport: SmtpServers | SmtpMx | LmtpServers) -> HostsAnswer:
        """The addresses to try. NoSuchHost: permanent; DnsFailed: later."""
        match transport:
            case SmtpServers(servers, weights) if weights:
                return await self._listed(self._in_turn(servers, weights))
            case SmtpServers(servers) | LmtpServers(servers):
                return self._literal.get(servers) or await self._listed(servers)
            case SmtpMx(domain, port):
                return await self._exchangers(domain, port)
            case _:
                assert_never(transport)

    # ---- servers named by the administrator
    def _in_turn(self, servers: tuple[Server, ...], weights: tuple[int, ...]) -> tuple[Server, ...]:
        """The server whose turn it is, then the others, the next in turn first (smooth weighted round-robin).

        In each round of as many turns as the weights add up to, a server has as many as its weight, spread out.
        """
        credit = self._credit.setdefault((servers, weights), [0] * len(servers))
        for index, weight in enumerate(weights):
            credit[index] += weight
        order = sorted(range(len(servers)), key=lambda index: -credit[index])
        credit[order[0]] -= sum(weights)
        return tuple(servers[index] for index in order)

    async def _listed(self, servers: tuple[Server, ...]) -> HostsAnswer:
        """All addresses of all servers, in the order of the list.

        None at all is the route's mistake, which no author can mend: mail waits, for somebody will mend it.
        """
        answer = await self._looked_up(servers)
        if all(_is_literal(server.host) for server in servers) and len(self._literal) < MAX_LITERAL:
            self._literal[servers] = answer  # it never changes, and costs a message 14 µs to find again
        return answer

    async def _looked_up(self, servers: Sequence[Server]) -> HostsAnswer:
        looked_up = await self._look_up([(server.host, server.port, 0) for server in servers])
        candidates = [
            replace(candidate, implicit_tls=server.implicit_tls)
            for candidate, server in zip(looked_up, servers, strict=True)
        ]
        found = [host for candidate in candidates for host in candidate.hosts]
        others = [host for host in found if host.endpoint not in self._own_endpoints]
        names = ", ".join(server.host for server in servers)
        if others:
            return _hosts(others)
        if found:
            return DnsFailed(names, f"the route leads back to this service, to {_list(found)}: correct its `to`")
        return DnsFailed(names, f"{_why_none(candidates)}: correct the route's `to`, or DNS")

    # ---- mail exchangers
    async def _exchangers(self, domain: str, port: int) -> HostsAnswer:
        records = await self._records(domain)
        if not isinstance(records, tuple):
            return records
        candidates = await self._look_up_records(self._shuffled(records)[:MAX_MX_HOSTS], port)
        nearer = self._before_ourselves(candidates)
        if not nearer:
            return NoSuchHost(domain, f"the best mail exchanger of {domain} is this service itself: a loop", LOOP)
        found = [host for candidate in nearer for host in candidate.hosts]
        usable = self._usable(found)
        if found and not usable:
            return NoSuchHost(domain, f"all mail exchangers of {domain} point to {_list(found)}: nowhere", NO_WAY)
        return _hosts(usable) if usable else _none(domain, nearer)

    async def left_out(self, transport: SmtpMx) -> Mapping[str, str]:
        """The mail exchangers, by name, that have an address and yet are not tried, each with why.

        For whoever asks where mail goes; `hosts` leaves out the same ones.
        """
        records = await self._records(transport.domain)
        if not isinstance(records, tuple):
            return {}
        ordered = sorted(records, key=lambda record: record.preference)
        beyond = {record.host: f"beyond the first {MAX_MX_HOSTS}" for record in ordered[MAX_MX_HOSTS:]}
        candidates = await self._look_up_records(ordered[:MAX_MX_HOSTS], transport.port)
        ours = [candidate.preference for candidate in candidates if self._is_us(candidate)]
        reasons = {candidate.name: self._why_left_out(candidate, ours) for candidate in candidates}
        return {name: why for name, why in (beyond | reasons).items() if why}

    def _why_left_out(self, candidate: _Candidate, ours: Sequence[int]) -> str:
        """A reason, or "" where it is tried, or has no address anyway. `ours`: our own preferences."""
        if self._is_us(candidate):
            return "this service itself"
        if ours and candidate.preference >= min(ours):
            return f"no nearer than this service itself, which is at preference {min(ours)}"
        if candidate.hosts and not self._usable(candidate.hosts):
            return "its addresses lead nowhere but to this machine (see allow_loopback_mx in [dns])"
        return ""

    def _usable(self, hosts: Sequence[Host]) -> list[Host]:
        return [host for host in hosts if self._allow_loopback_mx or not _is_nowhere(host.endpoint.host)]

    async def _records(self, domain: str) -> _Exchangers:
        """The MX records, or where there are none the domain itself as its one exchanger (the implicit MX)."""
        answer = await self._resolver.mx(domain)
        match answer:
            case MxRecords(records):
                return records
            case NoRecords():
                return (MxRecord(0, domain),)
            case NullMx():
                return NoSuchHost(domain, f"{domain} takes no mail: its MX is null (RFC 7505)", NULL_MX)
            case NoSuchName():
                return NoSuchHost(domain, f"there is no domain {domain}", NO_SUCH_DOMAIN)
            case DnsTrouble(detail):
                return DnsFailed(domain, detail)
            case _:
                assert_never(answer)

    def _shuffled(self, records: Iterable[MxRecord]) -> list[MxRecord]:
        """By preference, equal ones in random order: all of them share the load (RFC 5321 §5.1)."""
        return sorted(records, key=lambda record: (record.preference, self._dice.random()))

    def _before_ourselves(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Those nearer than ourselves: the rest would hand the mail back to us (RFC 5321 §5.1)."""
        ours = [candidate.preference for candidate in candidates if self._is_us(candidate)]
        return [candidate for candidate in candidates if not ours or candidate.preference < min(ours)]

    def _is_us(self, candidate: _Candidate) -> bool:
        return candidate.name in self._own_names or any(
            host.endpoint in self._own_endpoints for host in candidate.hosts
        )

    async def _look_up_records(self, records: Sequence[MxRecord], port: int) -> list[_Candidate]:
        return await self._look_up([(record.host, port, record.preference) for record in records])

    async def _look_up(self, wanted: Sequence[tuple[str, int, int]]) -> list[_Candidate]:
        """(name, port, preference) with addresses; all at once, so that one slow name costs its own time only."""
        if len(wanted) == 1:  # the common case needs no task of its own
            answers = [await self._addresses(wanted[0][0])]
        else:
            answers = await asyncio.gather(*(self._addresses(name) for name, _, _ in wanted))
        return [
            _Candidate(name, port, preference, answer)
            for (name, port, preference), answer in zip(wanted, answers, strict=True)
        ]

    async def _addresses(self, name: str) -> AddressAnswer:
        return Addresses((name,)) if _is_literal(name) else await self._resolver.addresses(name)


@lru_cache(maxsize=1024)  # `ipaddress` takes some 5 µs to see that a name is none
def _is_literal(name: str) -> bool:
    """A literal, and a Unix socket's path, are addresses themselves."""
    return name.startswith("/") or is_address(name)


def _hosts(found: Sequence[Host]) -> Hosts:
    return Hosts(tuple(dict.fromkeys(found))[:MAX_ADDRESSES])


def _list(hosts: Iterable[Host]) -> str:
    return ", ".join(str(host) for host in hosts)


def _none(domain: str, candidates: Sequence[_Candidate]) -> NoSuchHost | DnsFailed:
    """No exchanger has an address. That is permanent only if DNS said so of every one of them."""
    if any(isinstance(candidate.answer, DnsTrouble) for candidate in candidates):
        return DnsFailed(domain, _why_none(candidates))
    return NoSuchHost(domain, f"{domain} has no mail exchanger with an address: {_why_none(candidates)}", NO_WAY)


def _why_none(candidates: Iterable[_Candidate]) -> str:
    return "; ".join(dict.fromkeys(_why_no_address(candidate) for candidate in candidates))


def _why_no_address(candidate: _Candidate) -> str:
    match candidate.answer:
        case DnsTrouble(detail):
            return detail
        case NoSuchName():
            return f"{candidate.name} does not exist"
        case NoRecords():
            return f"{candidate.name} has no address"
        case Addresses(addresses):
            return f"{candidate.name} is at {', '.join(addresses)}, which is of no use"
        case _:
            assert_never(candidate.answer)


def _is_nowhere(address: str) -> bool:
    """Loopback, 0.0.0.0/8 and multicast: what zones hold to keep mail away, and would send it back to ourselves."""
    numeric = ip_address(address)
    if isinstance(numeric, IPv6Address) and numeric.ipv4_mapped:
        numeric = numeric.ipv4_mapped
    is_this_network = numeric.version == 4 and int(numeric) >> 24 == 0
    return numeric.is_loopback or numeric.is_unspecified or numeric.is_multicast or is_this_network


def describe_hosts(answer: HostsAnswer) -> Sequence[str]:
    """An answer in words, a line a host, as `resolve` prints it."""
    match answer:
        case Hosts(hosts):
            return [f"{number}. {host.name} at {host.endpoint}" for number, host in enumerate(hosts, 1)]
        case NoSuchHost(_, detail, status):
            return [f"nowhere to go, and mail is returned: {detail} ({status})"]
        case DnsFailed(_, detail):
            return [f"no answer, and mail waits: {detail}"]
        case _:
            assert_never(answer)
