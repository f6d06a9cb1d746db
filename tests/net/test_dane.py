"""RFC 7671 §4 and §5, RFC 7672 §3: each usage, selector and matching type against chains made for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from tests.net.certificates import NOW, Made, PrivateKey, make
from waypost.net.dane import Matched, Mismatched, usable, verify
from waypost.net.resolver import TlsaRecord

HOST = "mx.example"
ROOT = make("root", is_authority=True)
MIDDLE = make("middle", issuer=ROOT, is_authority=True)
SERVER = make(HOST, issuer=MIDDLE, names=[HOST])
ALONE = make("nobody")
STRANGER = make("stranger", is_authority=True)
PARTS: dict[int, Callable[[Made], bytes]] = {0: lambda made: made.der, 1: lambda made: made.spki}
FORMS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: lambda part: hashlib.sha256(part).digest(),
    2: lambda part: hashlib.sha512(part).digest(),
}


def tlsa(usage: int, selector: int, matching: int, of: Made) -> TlsaRecord:
    """The record that a domain would publish."""
    return TlsaRecord(usage, selector, matching, FORMS[matching](PARTS[selector](of)))


def judged(
    chain: Sequence[Made], *records: TlsaRecord, names: Sequence[str] = (HOST,), days: float = 0
) -> Matched | Mismatched:
    now = (NOW + timedelta(days=days)).timestamp()
    return verify([made.der for made in chain], usable(records), names, now)


def why(verdict: Matched | Mismatched) -> str:
    assert isinstance(verdict, Mismatched)
    return verdict.detail


SHAPES = [(selector, matching) for selector in PARTS for matching in FORMS]


@pytest.mark.parametrize(("selector", "matching"), SHAPES)
def test_a_pinned_certificate_is_known_whatever_its_names_and_dates(selector: int, matching: int) -> None:
    """RFC 7672 §3.1.1: expired, self-signed, for another name: the record alone counts."""
    record = tlsa(3, selector, matching, ALONE)
    assert judged([ALONE], record, names=["another.example"], days=99999) == Matched(record)


@pytest.mark.parametrize(("selector", "matching"), SHAPES)
def test_another_certificate_than_the_pinned_one_is_not(selector: int, matching: int) -> None:
    assert "no TLSA record matches" in why(judged([SERVER, MIDDLE], tlsa(3, selector, matching, ALONE)))


def test_a_pinned_certificate_has_to_be_the_servers_own() -> None:
    assert "no TLSA record matches" in why(judged([SERVER, MIDDLE], tlsa(3, 0, 1, MIDDLE)))


def test_a_key_stays_pinned_when_its_certificate_is_renewed() -> None:
    record = tlsa(3, 1, 1, SERVER)
    assert judged([SERVER], record) == Matched(record)


@pytest.mark.parametrize(("selector", "matching"), SHAPES)
@pytest.mark.parametrize("anchor", [ROOT, MIDDLE], ids=["root", "intermediate"])
def test_a_pinned_authority_vouches_for_the_server_beneath_it(selector: int, matching: int, anchor: Made) -> None:
    record = tlsa(2, selector, matching, anchor)
    assert judged([SERVER, MIDDLE, ROOT], record) == Matched(record)


@pytest.mark.parametrize("selector", PARTS)
def test_a_pinned_authority_that_the_server_leaves_out_is_known_only_where_the_record_holds_it_whole(
    selector: int,
) -> None:
    whole, digest = tlsa(2, selector, 0, ROOT), tlsa(2, selector, 1, ROOT)
    assert judged([SERVER, MIDDLE], whole) == Matched(whole)
    assert "no TLSA record matches" in why(judged([SERVER, MIDDLE], digest))


# ---- an authority's bare key (RFC 7671 §5.2.2)
KEYS: dict[str, Callable[[], PrivateKey]] = {
    "elliptic": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_bare_key_vouches_for_what_it_has_signed_whatever_its_kind(kind: str) -> None:
    authority = make("authority", key=KEYS[kind](), is_authority=True)
    server = make(HOST, issuer=authority, names=[HOST])
    record = tlsa(2, 1, 0, authority)
    assert judged([server], record) == Matched(record)
    assert "no TLSA record matches" in why(judged([SERVER, MIDDLE, ROOT], record))


def test_under_a_bare_key_names_and_dates_count() -> None:
    record = tlsa(2, 1, 0, ROOT)
    assert "and not for other.example" in why(judged([SERVER, MIDDLE], record, names=["other.example"]))
    assert "does not follow" in why(judged([SERVER, MIDDLE], record, days=3651))


def test_a_bare_key_vouches_for_nobody_by_a_certificate_that_stands_beside_the_chain() -> None:
    record = tlsa(2, 1, 0, ROOT)
    alone = make(HOST, names=[HOST])
    assert "does not follow" in why(judged([alone, MIDDLE], record))


def test_who_is_no_authority_issues_nothing_under_a_bare_key_either() -> None:
    forger = make("shop.example", issuer=ROOT, names=["shop.example"])
    forged = make(HOST, issuer=forger, names=[HOST])
    assert "does not follow" in why(judged([forged, forger], tlsa(2, 1, 0, ROOT)))


def test_a_key_that_is_none_vouches_for_nobody() -> None:
    assert "no TLSA record matches" in why(judged([SERVER, MIDDLE], TlsaRecord(2, 1, 0, b"no key")))


def test_an_authority_that_stands_in_the_chain_and_signed_nothing_of_it_vouches_for_nobody() -> None:
    assert "does not follow" in why(judged([SERVER, MIDDLE, STRANGER], tlsa(2, 0, 1, STRANGER)))


def test_a_certificate_that_is_no_authority_cannot_issue() -> None:
    forger = make("shop.example", issuer=ROOT, names=["shop.example"])
    forged = make(HOST, issuer=forger, names=[HOST])
    assert "does not follow" in why(judged([forged, forger, ROOT], tlsa(2, 0, 1, ROOT)))


@pytest.mark.parametrize("days", [-11, 3651], ids=["before", "after"])
def test_under_an_authority_the_dates_count(days: float) -> None:
    assert "does not follow" in why(judged([SERVER, MIDDLE, ROOT], tlsa(2, 0, 1, ROOT), days=days))


@pytest.mark.parametrize(
    ("held", "names", "good"),
    [
        (["mx.example"], ["mx.example"], True),
        (["MX.Example"], ["mx.example"], True),
        (["example"], ["mx.example", "example"], True),
        (["*.hosts.example"], ["mx.hosts.example"], True),
        (["*.hosts.example"], ["a.b.hosts.example"], False),
        (["*.hosts.example"], ["hosts.example"], False),
        (["*.example"], ["mx.example"], False),
        (["mx.elsewhere"], ["mx.example"], False),
        ([], ["mx.example"], True),
    ],
)
def test_under_an_authority_one_of_the_names_counts(held: list[str], names: list[str], *, good: bool) -> None:
    """RFC 7672 §3.2.2; the last one is found in the subject's common name, there being no other."""
    server = make(HOST, issuer=ROOT, names=held)
    verdict = judged([server, ROOT], tlsa(2, 0, 1, ROOT), names=names)
    assert isinstance(verdict, Matched) is good
    assert good or "and not for mx.example" in why(verdict) or "and not for" in why(verdict)


def test_any_record_that_matches_is_enough() -> None:
    good = tlsa(3, 1, 1, SERVER)
    assert judged([SERVER], tlsa(3, 1, 1, ALONE), tlsa(2, 0, 1, STRANGER), good) == Matched(good)


def test_a_server_without_a_certificate_is_not_known() -> None:
    assert "no certificate" in why(verify([], [tlsa(3, 1, 1, SERVER)], [HOST], 0))


def test_what_is_no_certificate_is_not_known() -> None:
    assert "no certificate" in why(verify([b"\x30\x03abc"], [tlsa(3, 1, 1, SERVER)], [HOST], 0))


@pytest.mark.parametrize(
    "record",
    [
        tlsa(0, 0, 1, ROOT),
        tlsa(1, 1, 1, SERVER),
        TlsaRecord(4, 0, 1, bytes(32)),
        TlsaRecord(3, 2, 1, bytes(32)),
        TlsaRecord(3, 1, 3, bytes(32)),
        TlsaRecord(3, 1, 1, bytes(31)),
        TlsaRecord(3, 1, 2, bytes(32)),
        TlsaRecord(3, 1, 1, b""),
        TlsaRecord(2, 0, 0, b"no certificate"),
    ],
    ids=lambda record: f"{record.usage} {record.selector} {record.matching} of {len(record.data)} octets",
)
def test_a_record_that_means_nothing_for_smtp_is_of_no_use(record: TlsaRecord) -> None:
    """RFC 7672 §3.1.3: also those of usages 0 and 1."""
    assert usable([record]) == ()


def test_a_weaker_digest_counts_for_nothing_beside_a_stronger_one() -> None:
    """RFC 7671 §9; by usage and selector, and whole certificates are no digest."""
    strong, weak = tlsa(3, 1, 2, SERVER), tlsa(3, 1, 1, SERVER)
    others = (tlsa(3, 0, 1, SERVER), tlsa(2, 1, 1, ROOT), tlsa(3, 1, 0, SERVER))
    assert usable([weak, strong, *others, weak]) == (strong, *others)


records = st.builds(TlsaRecord, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.binary(max_size=70))


@given(st.lists(st.binary(max_size=60), max_size=3), st.lists(records, max_size=4))
def test_octets_at_random_match_nothing_and_raise_nothing(chain: list[bytes], published: list[TlsaRecord]) -> None:
    verdict = verify(chain, usable(published), [HOST], 0)
    if isinstance(verdict, Matched):
        assert verdict.record.matching == 0
        assert verdict.record.data == chain[0]


@given(place=st.integers(0, 10_000), octet=st.integers(0, 255))
def test_a_damaged_certificate_matches_its_digest_no_more_and_raises_nothing(place: int, octet: int) -> None:
    der = bytearray(SERVER.der)
    der[place % len(der)] = octet
    verdict = verify(
        [bytes(der), MIDDLE.der, ROOT.der], [tlsa(3, 0, 1, SERVER), tlsa(2, 0, 1, ROOT)], [HOST], NOW.timestamp()
    )
    assert isinstance(verdict, Matched) == (bytes(der) == SERVER.der)
