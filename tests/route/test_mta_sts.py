"""RFC 8461 §3 and §4: records and policies as they may come, the RFC's own examples among them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.route.mta_sts import MAX_AGE, MAX_POLICY, Mode, PolicyError, StsPolicy, parse_policy, record_id

#: RFC 8461 §3.2, and appendix A.
EXAMPLE = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\n"
    b"max_age: 604800\r\n"
)
MANY_HOSTS = b"".join(b"mx: m%d.example\n" % n for n in range(201))


# ---- the record
@pytest.mark.parametrize(
    "text",
    [
        b"v=STSv1; id=20160831085700Z;",  # RFC 8461 §3.1
        b"v=STSv1; id=20160831085700Z",
        b"v=STSv1;id=20160831085700Z;",
        b"v=STSv1 ;\tid=20160831085700Z ; ",
        b"v=STSv1; new.field=x; id=20160831085700Z; id=other",
    ],
)
def test_a_record_tells_the_id_of_the_policy(text: bytes) -> None:
    assert record_id([b"something else", text]) == "20160831085700Z"


@pytest.mark.parametrize("texts", [[], [b""], [b"v=spf1 -all"], [b"v=STSv2; id=1"], [b"V=STSV1; id=1"], [b"v=STSv1"]])
def test_records_of_another_kind_announce_nothing(texts: list[bytes]) -> None:
    assert record_id(texts) == ""


@pytest.mark.parametrize(
    "texts",
    [
        [b"v=STSv1; id=1;", b"v=STSv1; id=2;"],
        [b"v=STSv1;"],
        [b"v=STSv1; id=;"],
        [b"v=STSv1; id=a-b;"],
        [b"v=STSv1; id=" + b"1" * 33],
        [b"v=STSv1; ; id=1"],
        [b"v=STSv1; id=1; nonsense"],
        [b"v=STSv1; id=\xff"],
    ],
)
def test_a_record_that_cannot_be_read_is_an_error_with_a_reason(texts: list[bytes]) -> None:
    with pytest.raises(PolicyError, match="TXT record"):
        record_id(texts)


# ---- the policy
@pytest.mark.parametrize("octets", [EXAMPLE, EXAMPLE.replace(b"\r\n", b"\n"), EXAMPLE.removesuffix(b"\r\n")])
def test_the_policy_of_the_standard_is_read(octets: bytes) -> None:
    policy = parse_policy(octets)
    patterns = ("mail.example.com", "*.example.net", "backupmx.example.com")
    assert policy == StsPolicy(Mode.ENFORCE, timedelta(days=7), patterns)


def test_of_a_field_that_is_there_twice_the_first_counts_and_unknown_ones_do_not() -> None:
    """RFC 8461 §3.2."""
    twice = EXAMPLE + b"mode: none\nfuture_field: ! @ #\nmax_age: 1\n"
    assert parse_policy(twice) == parse_policy(EXAMPLE)


def test_a_policy_of_no_mode_needs_no_host() -> None:
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 86400\n").mode is Mode.NONE


def test_a_policy_is_believed_for_a_year_at_most() -> None:
    assert parse_policy(EXAMPLE.replace(b"604800", b"9999999999")).max_age == MAX_AGE


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "version"),
        (EXAMPLE.replace(b"STSv1", b"STSv2"), "version"),
        (EXAMPLE.replace(b"enforce", b"Enforce"), "mode"),
        (EXAMPLE.replace(b"604800", b"soon"), "max_age"),
        (EXAMPLE.replace(b"604800", b"-1"), "max_age"),
        (EXAMPLE.replace(b"604800", b"1" * 11), "max_age"),
        (b"version: STSv1\nmode: testing\nmax_age: 1\n", "names no host"),
        (EXAMPLE.replace(b"mail.example.com", b"mail..example"), "cannot be one"),
        (EXAMPLE.replace(b"*.example.net", b"m*.example.net"), "cannot be one"),
        (EXAMPLE.replace(b"*.example.net", b"a.*.example.net"), "cannot be one"),
        (EXAMPLE + b"<html>\n", "key: value"),
        (EXAMPLE + b"\xff\n", "no text"),
        (EXAMPLE + b"x: " + b"y" * MAX_POLICY, "larger"),
        (EXAMPLE + MANY_HOSTS, "200"),
    ],
)
def test_a_policy_that_cannot_be_read_is_an_error_with_a_reason(octets: bytes, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mail.example.com", True),
        ("backupmx.example.com", True),
        ("other.example.com", False),
        ("mx1.example.net", True),
        ("a.mx1.example.net", False),
        ("example.net", False),
        ("net", False),
        ("", False),
    ],
)
def test_a_wildcard_stands_for_one_whole_label(host: str, *, allowed: bool) -> None:
    """RFC 8461 §4.1."""
    assert parse_policy(EXAMPLE).allows(host) is allowed


def test_a_policy_is_quoted_as_it_would_be_written() -> None:
    assert parse_policy("\n".join(parse_policy(EXAMPLE).lines).encode()) == parse_policy(EXAMPLE)


# ---- anything at all
LINES = [b"version: STSv1", b"mode: enforce", b"mx: a.example", b"max_age: 9", b":", b"mx:", b"\r", b"*"]


@given(st.lists(st.sampled_from(LINES) | st.binary(max_size=20), max_size=12).map(b"\n".join))
def test_octets_are_a_policy_or_an_error_of_ours(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except PolicyError:
        return
    assert parse_policy("\n".join(policy.lines).encode()) == policy


@given(st.lists(st.binary(max_size=40) | st.binary(max_size=20).map(b"v=STSv1;".__add__), max_size=3))
def test_octets_are_a_record_or_an_error_of_ours(texts: list[bytes]) -> None:
    try:
        found = record_id(texts)
    except PolicyError:
        return
    assert found == "" or found.isalnum()
