"""Addresses in headers: each is found wherever it stands, and no other octet changes when one is replaced."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.addresses import Class, places_in, replaced, with_reply_to
from waypost.smtp.path import parse_mailbox

NEW = parse_mailbox("new@other.example")


def found(header: bytes) -> list[str]:
    return [str(place.mailbox) for place in places_in(header)]


@pytest.mark.parametrize(
    ("body", "addresses"),
    [
        (b" ann@example.org", ["ann@example.org"]),
        (b" Ann <ann@example.org>, bob@example.com", ["ann@example.org", "bob@example.com"]),
        (b' "ann@not.example, really" <ann@example.org>', ["ann@example.org"]),
        (b" ann@not.example <ann@example.org>", ["ann@example.org"]),
        (b" =?utf-8?Q?J=C3=BCrgen?=\r\n <j@example.org>", ["j@example.org"]),
        (b" J\xc3\xbcrgen <j\xc3\xbc@example.org>", ["jü@example.org"]),
        (b" (not@this.one (nor@that)) ann@example.org (\\) still@here)", ["ann@example.org"]),
        (
            b" friends: ann@example.org, Bob <bob@example.org>;, c@example.org",
            ["ann@example.org", "bob@example.org", "c@example.org"],
        ),
        (b" undisclosed recipients:;", []),
        (b" <@a.example,@b.example:ann@example.org>", ["ann@example.org"]),
        (b' "ann b"@example.org', ['"ann b"@example.org']),
        (b" ann@[192.0.2.1]", ["ann@[192.0.2.1]"]),
        (b" ann\r\n . b (c) @ example . org", ["ann.b@example.org"]),
        (b" ann @ example", ["ann@example"]),
        (b" ann@@example.org, ann, <>, @example.org, a..b@example.org", []),
        (b' "never closed <ann@example.org>', ["ann@example.org"]),
        (b" (never closed <ann@example.org>", []),
        (b" Ann <ann@example.org", []),
        (b" ann@example.org;bob@example.org", ["ann@example.org", "bob@example.org"]),
    ],
)
def test_addresses_are_found_as_rfc_5322_and_its_forebears_write_them(body: bytes, addresses: list[str]) -> None:
    assert found(b"Subject: x@y.example\r\nTo:" + body + b"\r\nX-To: z@y.example\r\n") == addresses


def test_the_field_says_whom_it_names() -> None:
    header = b"From: a@x.example\r\nresent-CC : b@x.example\r\nReceived: from c@x.example\r\nReply-To:d@x.example\r\n"
    assert [(str(place.mailbox), place.names) for place in places_in(header)] == [
        ("a@x.example", Class.SENDER),
        ("b@x.example", Class.RECIPIENT),
        ("d@x.example", Class.SENDER),
    ]


def test_a_replaced_address_leaves_folding_comments_and_names_as_they_are() -> None:
    header = b"From: =?utf-8?B?SsO8?= (x)\r\n\t<old@example.org>  (y)\r\nSubject: old@example.org\r\n"
    (place,) = places_in(header)
    assert replaced(header, [(place, NEW)]) == header.replace(b"<old@example.org>", b"<new@other.example>")


PIECES = [
    b"a",
    b"@",
    b".",
    b",",
    b";",
    b":",
    b"<",
    b">",
    b"(",
    b")",
    b'"',
    b"\\",
    b"[",
    b"]",
    b" ",
    b"\r\n ",
    b"\r\n",
    b"\n",
    b"\xff",
    b"\0",
    b"From: ",
    b"To:",
    b"x@y.example",
    b"\r\n\r\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary(max_size=200))
def test_of_any_octets_all_outside_the_addresses_stay(header: bytes) -> None:
    places = places_in(header)
    assert all(one.end <= other.start for one, other in pairwise(places))
    rest, at = [], 0
    for place in places:
        rest.append(header[at : place.start])
        at = place.end
    rest.append(header[at:])
    assert replaced(header, [(place, NEW) for place in places]) == b"new@other.example".join(rest)
    assert replaced(header, []) == header


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_an_address_between_any_octets_leaves_the_others_alone(before: bytes, after: bytes) -> None:
    header = (
        b"X-A: " + before.replace(b"\n", b"") + b"\r\nFrom: Ann <ann@example.org>\r\nX-B: " + after.replace(b"\n", b"")
    )
    (place,) = places_in(header)
    assert replaced(header, [(place, NEW)]) == header.replace(
        b"<ann@example.org>\r\nX-B", b"<new@other.example>\r\nX-B"
    )


def test_deep_comments_and_long_lists_take_no_long_time() -> None:
    assert found(b"To: " + b"(" * 100_000 + b"a@b.example\r\n") == []
    assert len(found(b"To: " + b"a@b.example,\r\n " * 20_000 + b"a@b.example\r\n")) == 20_001
    assert found(b"To: " + b"<" * 50_000 + b'"' * 50_001 + b"\r\n") == []


def test_reply_to_is_what_from_was_and_only_where_there_is_none() -> None:
    original = b"From: Ann\r\n <ann@example.org>\r\nTo: x@y.example\r\n"
    header = original.replace(b"ann@example.org", b"fixed@us.example")
    expected = b"From: Ann\r\n <fixed@us.example>\r\nReply-To: Ann\r\n <ann@example.org>\r\nTo: x@y.example\r\n"
    assert with_reply_to(header, original) == expected
    has = header + b"Reply-To: z@y.example\r\n"
    assert with_reply_to(has, original) == has
