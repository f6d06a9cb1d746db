"""DNS: whatever a server answers is an answer of a known kind; nothing but the library's own errors gets in the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import dns.exception
import dns.message
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
from dns.rdatatype import RdataType

from waypost.net.resolver import Addresses, Alias, MxRecords, NoRecords, NoSuchName, Texts, TlsaRecords
from waypost.net.stub_resolver import (
    _address_answer,
    _alias_answer,
    _Datagrams,
    _Elsewhere,
    _mx_answer,
    _Nowhere,
    _read,
    _Rows,
    _text_answer,
    _tlsa_answer,
    _unless_referral,
)

#: The order is that of the kept inputs: what is new comes last.
QUESTIONS = (
    (RdataType.MX, "far.example", _mx_answer),
    (RdataType.A, "mx.far.example", _address_answer),
    (RdataType.AAAA, "mx.far.example", _address_answer),
    (RdataType.TLSA, "_25._tcp.mx.far.example", _tlsa_answer),
    (RdataType.TXT, "_mta-sts.far.example", _text_answer),
    (RdataType.CNAME, "mx.far.example", _alias_answer),
)
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
    kind, name, read = QUESTIONS[octets[0] % len(QUESTIONS) if octets else 0]
    query = dns.message.make_query(f"{name}.", kind, id=ID, use_edns=0)
    answer = _Answer()
    _Datagrams(query, answer).datagram_received(ID.to_bytes(2, "big") + octets[1:], None)  # type: ignore[arg-type]
    if not isinstance(answer.response, dns.message.Message):
        return
    response = _unless_referral(answer.response)
    if isinstance(response, dns.message.Message):
        _check(_read(response, "the question"), read)


def _check(told: object, read: Callable[[_Rows], object]) -> None:
    match told:
        case _Rows() as rows:
            assert rows.standing.ttl >= timedelta()
            match read(rows):
                case MxRecords(records):
                    assert all(0 <= record.preference < 65536 and record.host for record in records)
                case Addresses(addresses):
                    assert addresses
                case TlsaRecords(tlsa):
                    assert all(str(record) for record in tlsa)
                case Texts(texts):
                    assert texts
                case Alias(target):
                    assert target
                case _:
                    pass
        case _Elsewhere(name, links, standing):
            assert name
            assert links > 0
            assert standing.ttl >= timedelta()
        case _Nowhere(kind, _, standing):
            assert kind in (NoRecords, NoSuchName)
            assert standing.ttl >= timedelta()
        case _:
            assert str(told)
