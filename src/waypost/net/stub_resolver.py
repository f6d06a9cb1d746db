"""A stub resolver (RFC 1034 §5.3.1): asks recursive servers, and remembers answers while their TTL lasts.

It is no recursive resolver itself and validates no DNSSEC: it believes the AD bit of the servers that it was told to
trust, which stand on this machine or at the end of a way nobody else can write on. Names are absolute.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Generic, TypeVar, assert_never

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
from dns.rdatatype import RdataType

from waypost.net.clock import Clock
from waypost.net.resolver import (
    AddressAnswer,
    Addresses,
    Alias,
    AliasAnswer,
    DnsTrouble,
    MxAnswer,
    MxRecord,
    MxRecords,
    NoRecords,
    NoSuchName,
    Nothing,
    NullMx,
    Standing,
    TextAnswer,
    Texts,
    TlsaAnswer,
    TlsaRecord,
    TlsaRecords,
)
from waypost.net.stream import Endpoint


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """Whom to ask, how long to wait, and how long to remember."""

    servers: tuple[Endpoint, ...]
    trusted: AbstractSet[Endpoint] = frozenset()  # those of them whose AD bit is believed
    timeout: timedelta = timedelta(seconds=3)  # one server, one question, one transport
    attempts: int = 2  # rounds through the servers
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name in lower case → addresses; before DNS
    cache_size: int = 10_000  # answers of each kind
    min_ttl: timedelta = timedelta(seconds=5)  # a TTL of 0 still serves all who ask in one burst
    max_ttl: timedelta = timedelta(days=1)
    max_negative_ttl: timedelta = timedelta(minutes=10)  # whoever mends a domain need not wait for us
    trouble_ttl: timedelta = timedelta(seconds=5)  # spares servers that are down; RFC 2308 §7 allows 5 minutes


#: Links of a CNAME chain that are followed; real ones have two or three.
MAX_CHAIN: Final = 8
#: Octets of UDP that pass everywhere unfragmented (the DNS flag day of 2020); more comes by TCP.
UDP_PAYLOAD: Final = 1232

#: What servers older than EDNS say to it (RFC 6891 §7).
_NO_EDNS: Final = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})
_SERVFAIL: Final = dns.rcode.to_text(dns.rcode.SERVFAIL)
_LOOPBACK: Final = Addresses(("::1", "127.0.0.1"))


class DnspythonResolver:
    """Asks each server in turn, the one that answered last first; all failures are values.

    Identical questions asked at once go out once. One server that is silent costs `timeout`, all of them
    `timeout` x servers x `attempts`; nobody else waits for that.
    """

    def __init__(self, settings: ResolverSettings, clock: Clock) -> None:
        self._settings = settings
        self._servers = list(settings.servers)
        self._mx: _Cache[MxAnswer] = _Cache(clock, settings.cache_size)
        self._addresses: _Cache[AddressAnswer] = _Cache(clock, settings.cache_size)
        self._tlsa: _Cache[TlsaAnswer] = _Cache(clock, settings.cache_size)
        self._texts: _Cache[TextAnswer] = _Cache(clock, settings.cache_size)
        self._aliases: _Cache[AliasAnswer] = _Cache(clock, settings.cache_size)

    async def mx(self, domain: str) -> MxAnswer:
        name = _canonical(domain)
        if _is_localhost(name):
            return NoRecords()
        return await self._mx.get((name, RdataType.MX), lambda: self._ask(name, RdataType.MX, _mx_answer))

    async def addresses(self, host: str) -> AddressAnswer:
        """The hosts file goes before DNS; `localhost` is loopback without asking (RFC 6761 §6.3)."""
        name = _canonical(host)
        if name in self._settings.hosts:
            return Addresses(self._settings.hosts[name])
        if _is_localhost(name):
            return _LOOPBACK
        ipv6, ipv4 = self._of_family(name, RdataType.AAAA), self._of_family(name, RdataType.A)
        return _both(await ipv6, await ipv4)

    async def ipv4(self, name: str) -> AddressAnswer:
        """The A records of a name alone, as DNS has them: what lists in DNS answer by."""
        return await self._of_family(_canonical(name), RdataType.A)

    async def tlsa(self, name: str) -> TlsaAnswer:
        name = _canonical(name)
        return await self._tlsa.get((name, RdataType.TLSA), lambda: self._ask(name, RdataType.TLSA, _tlsa_answer))

    async def texts(self, name: str) -> TextAnswer:
        name = _canonical(name)
        return await self._texts.get((name, RdataType.TXT), lambda: self._ask(name, RdataType.TXT, _text_answer))

    async def alias(self, name: str) -> AliasAnswer:
        name = _canonical(name)
        return await self._aliases.get((name, RdataType.CNAME), lambda: self._ask(name, RdataType.CNAME, _alias_answer))

    async def close(self) -> None:
        """Drop questions nobody waits for any more."""
        for cache in (self._mx, self._addresses, self._tlsa, self._texts, self._aliases):
            await cache.close()

    def _of_family(self, name: str, kind: RdataType) -> asyncio.Future[AddressAnswer]:
        return self._addresses.get((name, kind), lambda: self._ask(name, kind, _address_answer))

    async def _ask(self, name: str, kind: RdataType, read: Callable[[_Rows], A]) -> tuple[A | Nothing, timedelta]:
        """The answer for `name`, and how long it holds; a CNAME whose end the server left out is followed."""
        settings, question = self._settings, f"{kind.name} of {name}"
        standing, links = Standing(settings.max_ttl, authenticated=True), 0
        while True:
            response = await self._query(name, kind)
            told = response if isinstance(response, DnsTrouble) else _read(response, question)
            if not isinstance(told, DnsTrouble):
                standing = _weaker(standing, told.standing)
                links += told.links
                if links > MAX_CHAIN:
                    told = DnsTrouble(f"{question}: its CNAMEs run in a circle, or through more than {MAX_CHAIN} names")
            match told:
                case DnsTrouble():
                    return told, settings.trouble_ttl
                case _Nowhere():
                    ttl = min(max(settings.min_ttl, told.standing.ttl), settings.max_negative_ttl)
                    return told.kind(Standing(ttl, standing.authenticated)), ttl
                case _Rows():
                    return read(replace(told, standing=standing, links=links)), max(settings.min_ttl, standing.ttl)
                case _Elsewhere():
                    name = told.name
                case _:
                    assert_never(told)

    async def _query(self, name: str, kind: RdataType) -> dns.message.Message | DnsTrouble:
        """The first usable response of any server, or what each of them did instead."""
        question = f"{kind.name} of {name}"
        try:
            qname = dns.name.Name((*name.encode("ascii").split(b"."), b""))
        except (dns.exception.DNSException, UnicodeEncodeError) as error:
            return DnsTrouble(f"{question}: this is no name DNS can hold ({error})")
        failures: dict[str, None] = {}
        validated_to_no_avail = False
        for server in [*self._servers] * self._settings.attempts:
            is_trusted = server in self._settings.trusted
            if validated_to_no_avail and not is_trusted:
                continue  # it would answer what failed validation: that is what validation is for
            answer = await self._query_server(qname, kind, server)
            if isinstance(answer, dns.message.Message):
                self._prefer(server)
                if not is_trusted:
                    answer.flags &= ~dns.flags.AD
                return answer
            validated_to_no_avail |= is_trusted and _SERVFAIL in answer
            failures[f"{server} {answer}"] = None
        return DnsTrouble(f"{question}: {'; '.join(failures) or 'no DNS server is configured'}")

    def _prefer(self, server: Endpoint) -> None:
        if self._servers[0] != server:
            self._servers.remove(server)
            self._servers.insert(0, server)

    async def _query_server(self, qname: dns.name.Name, kind: RdataType, server: Endpoint) -> dns.message.Message | str:
        """A response that answers, or in words why there is none; a server that knows no EDNS is asked without."""
        response = await self._exchange(_question(qname, kind, use_edns=0, payload=UDP_PAYLOAD), server)
        if isinstance(response, dns.message.Message) and response.rcode() in _NO_EDNS:
            response = await self._exchange(_question(qname, kind, use_edns=False), server)
        if isinstance(response, str):
            return response
        if response.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            return f"answered {_rcode_text(response)}"
        return _unless_referral(response)

    async def _exchange(self, query: dns.message.Message, server: Endpoint) -> dns.message.Message | str:
        for transport, exchange in (("UDP", _over_udp), ("TCP", _over_tcp)):
            try:
                async with asyncio.timeout(self._settings.timeout.total_seconds()):
                    response = await exchange(query, server)
            except TimeoutError:
                return f"timed out after {self._settings.timeout.total_seconds():g} s ({transport})"
            except asyncio.IncompleteReadError:
                return f"closed the connection before its answer was whole ({transport})"
            except OSError as error:
                return f"cannot be asked: {error.strerror or error} ({transport})"
            except dns.exception.DNSException as error:
                return f"sent what is no DNS answer: {error} ({transport})"
            if not response.flags & dns.flags.TC:
                return response
        return "truncated its answer even over TCP"


# ---- one question, one answer
def _question(qname: dns.name.Name, kind: RdataType, *, use_edns: int, payload: int = 0) -> dns.message.Message:
    """A query by which we say that we know the AD bit, and want no signatures to go with it (RFC 6840 §5.7)."""
    query = dns.message.make_query(qname, kind, use_edns=use_edns, payload=payload)
    query.flags |= dns.flags.AD
    return query


class _Datagrams(asyncio.DatagramProtocol):
    """Settles `answer` with the first datagram that answers `query`; strays (a late answer, a forgery) are ignored."""

    def __init__(self, query: dns.message.Message, answer: asyncio.Future[dns.message.Message]) -> None:
        self._query = query
        self._answer = answer

    def datagram_received(self, data: bytes, _: object) -> None:
        if self._answer.done() or data[:2] != struct.pack("!H", self._query.id):
            return
        try:
            response = dns.message.from_wire(data)
        except dns.exception.DNSException as error:
            self._answer.set_exception(error)
            return
        if self._query.is_response(response):
            self._answer.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


async def _over_udp(query: dns.message.Message, server: Endpoint) -> dns.message.Message:
    """Ask from a port of its own, connected: so the system turns away what others send, and tells us of refusals.

    Raises: OSError, DNSException.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[dns.message.Message] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(query, answer), remote_addr=(server.host, server.port)
    )
    try:
        transport.sendto(query.to_wire())
        return await answer
    finally:
        transport.close()


async def _over_tcp(query: dns.message.Message, server: Endpoint) -> dns.message.Message:
    """Ask over a connection of its own (RFC 7766). Raises: OSError, IncompleteReadError, DNSException."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        wire = query.to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        response = dns.message.from_wire(await reader.readexactly(size))
    finally:
        writer.close()
    if not query.is_response(response):
        raise OSError("it answered another question")
    return response


# ---- what a response says
A = TypeVar("A", MxAnswer, AddressAnswer, TlsaAnswer, TextAnswer, AliasAnswer)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Records of the kind asked for. `name`: the one they stand under, `links` CNAMEs away from the one asked for."""

    records: tuple[dns.rdata.Rdata, ...]
    name: str
    links: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """CNAMEs that lead to a name the response does not speak of; `links` counts them, here as everywhere."""

    name: str
    links: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """There is no such record."""

    kind: type[NoRecords | NoSuchName]
    links: int
    standing: Standing


def _read(response: dns.message.Message, question: str) -> _Rows | _Elsewhere | _Nowhere | DnsTrouble:
    """A response with its CNAMEs followed as far as it tells them (RFC 1034 §3.6.2)."""
    if not isinstance(response, dns.message.QueryMessage):
        return DnsTrouble(f"{question}: the answer is no answer to a query")
    authenticated = bool(response.flags & dns.flags.AD)
    try:
        chain = response.resolve_chaining()
    except dns.message.ChainTooLong:
        return _Elsewhere(".", MAX_CHAIN + 1, Standing())
    except dns.exception.DNSException as error:
        return DnsTrouble(f"{question}: the answer contradicts itself ({error})")
    standing, links = Standing(timedelta(seconds=chain.minimum_ttl), authenticated), len(chain.cnames)
    name = _text_of(chain.canonical_name)
    if chain.answer:
        return _Rows(tuple(chain.answer), name, links, standing)
    if response.rcode() == dns.rcode.NXDOMAIN:
        return _Nowhere(NoSuchName, links, standing)
    if links and not _has(response, RdataType.SOA):
        ttl = timedelta(seconds=min(link.ttl for link in chain.cnames))
        return _Elsewhere(name, links, Standing(ttl, authenticated))
    return _Nowhere(NoRecords, links, standing)


def _weaker(one: Standing, other: Standing) -> Standing:
    """What may be believed of an answer that rests on both."""
    return Standing(min(one.ttl, other.ttl), one.authenticated and other.authenticated)


def _has(response: dns.message.Message, kind: RdataType) -> bool:
    return any(records.rdtype == kind for records in response.authority)


def _unless_referral(response: dns.message.Message) -> dns.message.Message | str:
    """A referral holds no answer: to take it for "no records" would bounce mail that has a place to go."""
    is_final = response.answer or response.rcode() == dns.rcode.NXDOMAIN or response.flags & dns.flags.AA
    if is_final or _has(response, RdataType.SOA) or not _has(response, RdataType.NS):
        return response
    return "referred to other servers: it does no recursion for us"


def _rcode_text(response: dns.message.Message) -> str:
    """SERVFAIL and the like, with the reason a server may give (RFC 8914)."""
    reasons = [
        f"{option.code.name}{f': {option.text}' if option.text else ''}" for option in response.extended_errors()
    ]
    return dns.rcode.to_text(response.rcode()) + (f" ({'; '.join(reasons)})" if reasons else "")


def _mx_answer(rows: _Rows) -> MxAnswer:
    """A "." beside real hosts is a mistake of the domain's, and the hosts are what it can mean (RFC 7505 §3)."""
    pairs = [
        (record.preference, _text_of(record.exchange))
        for record in rows.records
        if isinstance(record, dns.rdtypes.ANY.MX.MX)
    ]
    records = tuple(MxRecord(preference, host) for preference, host in pairs if host != ".")
    return MxRecords(records, rows.standing, _led_to(rows)) if records else NullMx(rows.standing)


def _address_answer(rows: _Rows) -> AddressAnswer:
    texts = tuple(record.to_text() for record in rows.records)
    return Addresses(texts, rows.standing, _led_to(rows))


def _led_to(rows: _Rows) -> str:
    """The name that CNAMEs lead to; "" where there are none."""
    return rows.name if rows.links else ""


def _tlsa_answer(rows: _Rows) -> TlsaAnswer:
    records = tuple(
        TlsaRecord(record.usage, record.selector, record.mtype, record.cert)
        for record in rows.records
        if isinstance(record, dns.rdtypes.ANY.TLSA.TLSA)
    )
    return TlsaRecords(records, rows.standing)


def _text_answer(rows: _Rows) -> TextAnswer:
    texts = (b"".join(record.strings) for record in rows.records if isinstance(record, dns.rdtypes.ANY.TXT.TXT))
    return Texts(tuple(texts), rows.standing)


def _alias_answer(rows: _Rows) -> AliasAnswer:
    targets = [_text_of(record.target) for record in rows.records if isinstance(record, dns.rdtypes.ANY.CNAME.CNAME)]
    return Alias(targets[0], rows.standing)


def _text_of(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _both(ipv6: AddressAnswer, ipv4: AddressAnswer) -> AddressAnswer:
    """What two families tell together. One in trouble hides no address of the other, but is never taken for "none"."""
    found = [answer for answer in (ipv6, ipv4) if isinstance(answer, Addresses)]
    if found:
        addresses = tuple(address for family in found for address in family.addresses)
        return Addresses(addresses, _weaker(found[0].standing, found[-1].standing), found[0].canonical)
    for trouble in (ipv4, ipv6):
        if isinstance(trouble, DnsTrouble):
            return trouble
    standing = _weaker(_of_nothing(ipv6), _of_nothing(ipv4))
    is_nowhere = isinstance(ipv6, NoSuchName) and isinstance(ipv4, NoSuchName)
    return NoSuchName(standing) if is_nowhere else NoRecords(standing)


def _of_nothing(answer: AddressAnswer) -> Standing:
    return answer.standing if isinstance(answer, NoRecords | NoSuchName) else Standing()


def _canonical(name: str) -> str:
    return name.removesuffix(".").lower()


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


# ---- remembering
class _Cache(Generic[A]):
    """Answers while they hold, at most `size` of them, the longest unused going first; and questions under way."""

    def __init__(self, clock: Clock, size: int) -> None:
        self._clock = clock
        self._size = size
        self._kept: dict[tuple[str, RdataType], tuple[float, A]] = {}
        self._asking: dict[tuple[str, RdataType], asyncio.Task[A]] = {}

    def get(self, key: tuple[str, RdataType], ask: Callable[[], Awaitable[tuple[A, timedelta]]]) -> asyncio.Future[A]:
        """What is remembered, else what `ask` will bring; whoever comes meanwhile shares the one question.

        A caller that is cancelled leaves the question to the others.
        """
        if key in self._kept:
            expires, answer = self._kept.pop(key)
            if expires > self._clock.monotonic():
                self._kept[key] = (expires, answer)
                known: asyncio.Future[A] = asyncio.get_running_loop().create_future()
                known.set_result(answer)
                return known
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key, ask))
        return asyncio.shield(self._asking[key])

    async def _ask(self, key: tuple[str, RdataType], ask: Callable[[], Awaitable[tuple[A, timedelta]]]) -> A:
        try:
            answer, ttl = await ask()
        finally:
            del self._asking[key]
        while len(self._kept) >= self._size:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock.monotonic() + ttl.total_seconds(), answer)
        return answer

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
