"""DNS: whatever a server answers is an answer of a known kind; nothing but the library's own errors gets in the way."""

from __future__ import annotations

from datetime import timedelta

import dns.exception
import dns.message
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
from dns.rdatatype import RdataType

from waypost.net.resolver import (
    Addresses,
    MxRecords,
    NoRecords,
    NoSuchName,
    _address_answer,
    _Datagrams,
    _Elsewhere,
    _mx_answer,
    _Nowhere,
    _read,
    _Rows,
    _unless_referral,
)

QUESTIONS = ((RdataType.MX, "far.example"), (RdataType.A, "mx.far.example"), (RdataType.AAAA, "mx.far.example"))
ID = 0x5757


class _Answer:
    """A future that anybody may look into."""

    response: object = None

    def done(self) -> bool:
        return self.response is not None

    def set_result(self, response: object) -> None:
        self.response = response

    def set_exception(self, error: Exception) -> None:
        assert isinstance(error, dns.exception.DNSException), error
        self.response = error


def one(octets: bytes) -> None:
    """Octet 0: which question; the rest is the answer behind its id, which is ours."""
    kind, name = QUESTIONS[octets[0] % len(QUESTIONS) if octets else 0]
    query = dns.message.make_query(f"{name}.", kind, id=ID, use_edns=0)
    answer = _Answer()
    _Datagrams(query, answer).datagram_received(ID.to_bytes(2, "big") + octets[1:], None)  # type: ignore[arg-type]
    if not isinstance(answer.response, dns.message.Message):
        return
    response = _unless_referral(answer.response)
    if isinstance(response, dns.message.Message):
        _check(_read(response, "the question"), kind)


def _check(told: object, kind: RdataType) -> None:
    match told:
        case _Rows() as rows:
            assert rows.ttl >= timedelta()
            match _mx_answer(rows) if kind is RdataType.MX else _address_answer(rows):
                case MxRecords(records):
                    assert all(0 <= record.preference < 65536 and record.host for record in records)
                case Addresses(addresses):
                    assert addresses
                case _:
                    pass
        case _Elsewhere(name, links, ttl):
            assert name
            assert links > 0
            assert ttl >= timedelta()
        case _Nowhere(answer, _, ttl):
            assert isinstance(answer, NoRecords | NoSuchName)
            assert ttl >= timedelta()
        case _:
            assert str(told)
