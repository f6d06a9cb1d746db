"""A DNS server for tests: over UDP and TCP on a free port of 127.0.0.1, answering from a zone written in the test.

    async with DnsServer("example.org. 300 MX 10 mx.example.org.") as server:
        server.misbehave["example.org"] = Misbehaviour.SERVFAIL
        server.asked  # [("example.org", "MX", "UDP")]

A name without records is NXDOMAIN, a name with records of other types has none of this one; both come with an SOA, as
from a recursive server. CNAMEs are followed as far as the zone goes, or until a response holds `links_a_response`.
Where all names on the way lie in a domain of `signed`, the answer has the AD bit, if the query asked for it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

from waypost.net.stream import Endpoint


class Misbehaviour(Enum):
    """What the server does instead of answering, for one name or for all ("*")."""

    SERVFAIL = auto()
    REFUSED = auto()
    SILENCE = auto()
    GARBAGE = auto()  # the question's id, then what nobody can read
    STRAY_FIRST = auto()  # an answer to another question, then the true one
    NO_EDNS = auto()  # FORMERR to a query with EDNS
    REFERRAL = auto()  # NS records of the root and nothing else
    TRUNCATED = auto()  # over UDP; whole over TCP
    CUT_OFF = auto()  # truncated over UDP; over TCP closed in the middle
    NXDOMAIN_WITH_ANSWER = auto()


@dataclass
class DnsServer:
    """See the module. Change `misbehave` and `records` at any time."""

    zone: str = ""
    negative_ttl: int = 60
    links_a_response: int = 100
    signed: tuple[str, ...] = ()
    misbehave: dict[str, Misbehaviour] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    was_asked: asyncio.Event = field(init=False)
    endpoint: Endpoint = field(init=False)
    records: dict[tuple[str, RdataType], dns.rrset.RRset] = field(init=False)

    async def __aenter__(self) -> Self:
        self.was_asked = asyncio.Event()
        self.serve(self.zone)
        tcp_socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", tcp_socket.getsockname()[1])
        self._tcp = await asyncio.start_server(self._serve_tcp, sock=tcp_socket)
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Udp(self), local_addr=(self.endpoint.host, self.endpoint.port)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def serve(self, zone: str) -> None:
        """Answer from `zone` from now on."""
        self.records = dict(_record(line) for line in _merged(zone))

    def count(self, name: str, kind: str) -> int:
        """How often `name` was asked for records of `kind`, over any transport."""
        return sum(asked[:2] == (name, kind) for asked in self.asked)

    def answers(self, wire: bytes, transport: str) -> Sequence[bytes]:
        """What goes back for one query, in order; nothing at all for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, question.rdtype.name, transport))
        self.was_asked.set()
        response = dns.message.make_response(query, recursion_available=True)
        self._fill(response, question.name, question.rdtype)
        if query.flags & dns.flags.AD and self._is_signed(question.name, response):
            response.flags |= dns.flags.AD
        whole = response.to_wire()
        match self.misbehave.get(name, self.misbehave.get("*")):
            case Misbehaviour.SILENCE:
                return []
            case Misbehaviour.SERVFAIL:
                return [_bare(query, dns.rcode.SERVFAIL)]
            case Misbehaviour.REFUSED:
                return [_bare(query, dns.rcode.REFUSED)]
            case Misbehaviour.NO_EDNS if query.edns >= 0:
                return [_bare(query, dns.rcode.FORMERR)]
            case Misbehaviour.GARBAGE:
                return [wire[:2] + b"\xff" * 20]
            case Misbehaviour.STRAY_FIRST:
                other = dns.message.make_query("other.example.", "TXT", id=query.id)
                return [b"", wire, _bare(other, dns.rcode.NXDOMAIN), bytes([wire[0] ^ 1]) + whole[1:], whole]
            case Misbehaviour.REFERRAL:
                response = dns.message.make_response(query)
                response.authority.append(dns.rrset.from_text(".", 300, "IN", "NS", "a.root-servers.example."))
                return [response.to_wire()]
            case Misbehaviour.TRUNCATED | Misbehaviour.CUT_OFF if transport == "UDP":
                response = dns.message.make_response(query)
                response.flags |= dns.flags.TC
                return [response.to_wire()]
            case Misbehaviour.CUT_OFF:
                return [whole[: len(whole) // 2]]
            case Misbehaviour.NXDOMAIN_WITH_ANSWER:
                response.set_rcode(dns.rcode.NXDOMAIN)
                return [response.to_wire()]
            case _:
                return [whole]

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: RdataType) -> None:
        for _ in range(self.links_a_response):
            text = name.to_text(omit_final_dot=True).lower()
            if (text, kind) in self.records:
                response.answer.append(self.records[text, kind])
                return
            if (text, RdataType.CNAME) not in self.records:
                break
            link = self.records[text, RdataType.CNAME]
            if link in response.answer:
                return
            response.answer.append(link)
            name = link[0].target
        else:
            return
        if not any(text == known for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.example. root.example. 1 2 3 4 {self.negative_ttl}"
        response.authority.append(dns.rrset.from_text(".", 86400, "IN", "SOA", soa))

    def _is_signed(self, asked: dns.name.Name, response: dns.message.Message) -> bool:
        names = {asked, *(records.name for records in response.answer)}
        zones = [dns.name.from_text(zone) for zone in self.signed]
        return all(any(name.is_subdomain(zone) for zone in zones) for name in names)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            query = await reader.readexactly(size)
            for wire in self.answers(query, "TCP"):
                is_cut = Misbehaviour.CUT_OFF in self.misbehave.values()
                writer.write(struct.pack("!H", len(wire) * 2 if is_cut else len(wire)) + wire)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # a client that goes is its own affair
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for wire in self._server.answers(data, "UDP"):
            self._transport.sendto(wire, addr)


def _bare(query: dns.message.Message, rcode: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    return response.to_wire()


def _merged(zone: str) -> Sequence[tuple[str, int, str, list[str]]]:
    """The zone's lines `name ttl type data`, those of one name and type together."""
    sets: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for line in zone.strip().splitlines():
        name, ttl, kind, data = line.split(None, 3)
        sets.setdefault((name, kind), (int(ttl), []))[1].append(data)
    return [(name, ttl, kind, data) for (name, kind), (ttl, data) in sets.items()]


def _record(line: tuple[str, int, str, list[str]]) -> tuple[tuple[str, RdataType], dns.rrset.RRset]:
    name, ttl, kind, data = line
    return (name.removesuffix(".").lower(), RdataType[kind]), dns.rrset.from_text(name, ttl, "IN", kind, *data)
