"""Where mail for a domain goes now: its route, what DNS says of it, the hosts in order, and the TLS each would have.

Not here: what would become of one message (explaining.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, assert_never

from waypost.admin.answers import HostTls, Resolution, ResolvedHost
from waypost.admin.operations.questions import domain_of
from waypost.mail.explain import plain
from waypost.net.clock import Clock
from waypost.net.resolver import (
    AddressAnswer,
    Addresses,
    DnsTrouble,
    MxAnswer,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    NullMx,
    Resolver,
    Standing,
)
from waypost.route.hosts import HostFinder, describe_hosts
from waypost.route.level import Chosen, NoStsPolicy, StsPolicies, TlsChooser
from waypost.route.mta_sts import KeptPolicy
from waypost.route.route import Hosts, LmtpServers, NoRoute, Route, SmtpMx, SmtpServers, Webhook
from waypost.route.table import RouteTable
from waypost.route.target import target_text
from waypost.smtp.path import Mailbox

#: MX records that are shown; live mail looks at twenty.
SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Ways:
    """Asks what live mail asks."""

    table: RouteTable
    finder: HostFinder
    resolver: Resolver
    policies: StsPolicies
    clock: Clock

    async def resolve(self, domain: str) -> Resolution:
        """By the route of the domain."""
        where = domain_of(domain)
        match self.table.route(Mailbox("postmaster", where)):
            case NoRoute(detail):
                return Resolution(str(where), "", (), "", "", (), is_local=False, trouble=detail)
            case Route() as route:
                return await self.by(route, str(where))
            case never:
                assert_never(never)

    async def by(self, route: Route, domain: str) -> Resolution:
        """By this route."""
        transport = route.transport
        if not isinstance(transport, SmtpServers | SmtpMx | LmtpServers):
            whose = "finds its own way" if isinstance(transport, Webhook) else "is this machine's own affair"
            trouble = f"no host: {target_text(transport)} {whose}"
            return Resolution(domain, "", (), route.rule, route.next_hop, (), is_local=True, trouble=trouble)
        dns, exchangers = await self._ask_dns(transport) if isinstance(transport, SmtpMx) else ("", ())
        mta_sts = _sts_sentence(await self.policies.policy(transport.domain)) if isinstance(transport, SmtpMx) else ""
        found = await self.finder.hosts(transport)
        trouble = "" if isinstance(found, Hosts) else "; ".join(describe_hosts(found))
        hosts = tuple(f"{host.name} at {host.endpoint}" for host in found.hosts) if isinstance(found, Hosts) else ()
        return Resolution(
            domain,
            dns,
            exchangers,
            route.rule,
            route.next_hop,
            hosts,
            is_local=False,
            trouble=trouble,
            tls=await self._levels(route, found) if isinstance(found, Hosts) else (),
            mta_sts=mta_sts,
        )

    async def _levels(self, route: Route, found: Hosts) -> tuple[HostTls, ...]:
        """The TLS level of each host by name: that of its addresses is one."""
        transport = route.transport
        if not isinstance(transport, SmtpServers | SmtpMx):
            return ()
        by_name = {(host.name, host.endpoint.port): host for host in reversed(found.hosts)}
        chooser = TlsChooser(self.resolver, self.policies, self.clock)
        choices = [(host, await chooser.choose(route.tls, transport, host)) for host in by_name.values()]
        return tuple(
            HostTls(
                host=host.name,
                level=choice.demand.level.value if isinstance(choice, Chosen) else "",
                why=str(choice.why),
                published=choice.published.lines,
            )
            for host, choice in reversed(choices)
        )

    async def _ask_dns(self, transport: SmtpMx) -> tuple[str, tuple[ResolvedHost, ...]]:
        """A sentence on the MX answer, and each exchanger, nearest first, with why it is of no use where it is not."""
        answer = await self.resolver.mx(transport.domain)
        records: list[MxRecord] = []
        if isinstance(answer, MxRecords):
            records = sorted(answer.records, key=lambda record: record.preference)[:SHOWN]
        elif isinstance(answer, NoRecords):
            records = [MxRecord(0, transport.domain)]  # the implicit MX
        addresses = await asyncio.gather(*(self.resolver.addresses(record.host) for record in records))
        reasons = await self.finder.left_out(transport)
        hosts = (_resolved(*each, reasons.get(each[0].host, "")) for each in zip(records, addresses, strict=True))
        return _mx_sentence(answer), tuple(hosts)


# ---- DNS in words
def _mx_sentence(answer: MxAnswer) -> str:
    match answer:
        case MxRecords(records, standing):
            return f"{len(records)} MX record{'s' if len(records) > 1 else ''}{_standing_words(standing)}"
        case NullMx(standing):
            return f"null MX: this domain takes no mail (RFC 7505){_standing_words(standing)}"
        case NoRecords(standing):
            return (
                f"no MX record: the domain itself is the host (implicit MX, RFC 5321 §5.1){_standing_words(standing)}"
            )
        case NoSuchName(standing):
            return f"no such domain (NXDOMAIN){_standing_words(standing)}"
        case DnsTrouble(detail):
            return f"no usable answer: {plain(detail)}"
        case _:
            assert_never(answer)


def _standing_words(standing: Standing) -> str:
    """What an answer is worth; nothing of one that holds for no time."""
    if not standing.ttl:
        return ""
    return f" (TTL {standing.ttl.total_seconds():.0f} s, {'signed' if standing.authenticated else 'not signed'})"


def _sts_sentence(found: KeptPolicy | NoStsPolicy) -> str:
    if isinstance(found, NoStsPolicy):
        return f"none in force: {plain(found.detail)}"
    return f"{found.id}: {', '.join(found.policy.lines)}"


def _resolved(record: MxRecord, answer: AddressAnswer, left_out: str) -> ResolvedHost:
    match answer:
        case Addresses(addresses, standing):
            trouble = f"left out: {left_out}" if left_out else ""
            ttl, signed = standing.ttl.total_seconds(), standing.authenticated
            return ResolvedHost(record.host, record.preference, addresses, trouble, ttl, signed)
        case NoRecords():
            return ResolvedHost(record.host, record.preference, (), "has no address")
        case NoSuchName():
            return ResolvedHost(record.host, record.preference, (), "does not exist (NXDOMAIN)")
        case DnsTrouble(detail):
            return ResolvedHost(record.host, record.preference, (), f"could not be looked up: {plain(detail)}")
        case _:
            assert_never(answer)
