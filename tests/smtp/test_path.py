from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.smtp.path import (
    AddressLiteral,
    DomainName,
    Mailbox,
    NullPath,
    PathError,
    Postmaster,
    Utf8Error,
    bracketed,
    is_ascii,
    parse_domain,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    split_path,
)

LONG_LOCAL = "l" * 64
LONG_DOMAIN = ".".join(["d" * 60] * 3)


def box(local_part: str, domain: str) -> Mailbox:
    return Mailbox(local_part, DomainName(domain))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("<user@example.org>", box("user", "example.org")),
        ("<User@EXAMPLE.Org>", box("User", "example.org")),
        ("<a.b+c=d!#$%&'*/?^_`{|}~-@example.org>", box("a.b+c=d!#$%&'*/?^_`{|}~-", "example.org")),
        ("<user@localhost>", box("user", "localhost")),
        ("<user@my_host.example>", box("user", "my_host.example")),
        ('<"user"@example.org>', box("user", "example.org")),
        ('<"two words"@example.org>', box("two words", "example.org")),
        (r'<"a\"b\\c\d"@example.org>', box(r'a"b\cd', "example.org")),
        ('<"a>b@c"@example.org>', box("a>b@c", "example.org")),
        ('<""@example.org>', box("", "example.org")),
        ("<user@[192.0.2.1]>", Mailbox("user", AddressLiteral(IPv4Address("192.0.2.1")))),
        ("<user@[IPv6:2001:DB8::1]>", Mailbox("user", AddressLiteral(IPv6Address("2001:db8::1")))),
        ("<@a.example,@b.example:user@example.org>", box("user", "example.org")),
        ('<@a.example:"a:b"@example.org>', box("a:b", "example.org")),
        (f"<{LONG_LOCAL}@{LONG_DOMAIN}>", box(LONG_LOCAL, LONG_DOMAIN)),
    ],
)
def test_a_well_formed_path_is_read_alike_in_both_directions(text: str, meaning: Mailbox) -> None:
    assert parse_reverse_path(text) == meaning
    assert parse_forward_path(text) == meaning
    assert split_path(f"{text} SIZE=1") == (text, " SIZE=1")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("user@example.org", "angle brackets"),
        ("<user@example.org", "angle brackets"),
        ("<user>", "no domain"),
        ("<user@>", "an empty label"),
        ("<@example.org>", "source route"),
        ("<>x", "angle brackets"),
        ("<us er@example.org>", "' ' at character 3"),
        ("<user@exa mple.org>", "is no label"),
        ("<.user@example.org>", "local-part"),
        ("<us..er@example.org>", "'.' at character 3"),
        ("<user.@example.org>", "'.' at character 5"),
        ("<user@example..org>", "an empty label"),
        ("<user@example.org.>", "ends in a dot"),
        ("<user@-example.org>", "'-example' is no label"),
        ("<user@example-.org>", "'example-' is no label"),
        (f"<user@{'d' * 64}.org>", "at most 63"),
        ('<"user@example.org>', "closed by a quote"),
        ('<"us"er@example.org>', "'e' at character 5"),
        ("<user@[192.0.2.256]>", "address literal"),
        ("<user@[192.0.2.1>", "address literal"),
        ("<user@[IPv6:::1%eth0]>", "address literal"),
        ("<user@[X-Tag:1]>", "address literal"),
        ("<@a.example user@example.org>", "source route"),
        ("<@a.example,b.example:user@example.org>", "'b.example' in the source route"),
        (f"<{'l' * 65}@example.org>", "local-part is longer than 64 octets"),
        (f"<u@{'.'.join(['d' * 63] * 4)}>", "longer than 254 octets"),
        (f"<{LONG_LOCAL}@{LONG_DOMAIN}.{'e' * 9}>", "longer than 254 octets"),
    ],
)
def test_a_malformed_path_is_refused_with_what_is_wrong_and_where(text: str, names: str) -> None:
    for parse in (parse_reverse_path, parse_forward_path):
        with pytest.raises(PathError, match=re.escape(names)):
            parse(text)


def test_the_null_path_is_a_reverse_path_only() -> None:
    assert parse_reverse_path("<>") == NullPath()
    with pytest.raises(PathError, match="null path"):
        parse_forward_path("<>")


def test_postmaster_needs_no_domain_in_a_forward_path_only() -> None:
    assert parse_forward_path("<PostMaster>") == Postmaster()
    assert parse_forward_path("<postmaster@example.org>") == box("postmaster", "example.org")
    with pytest.raises(PathError, match="no domain"):
        parse_reverse_path("<postmaster>")


@pytest.mark.parametrize("text", ["<jürgen@example.org>", "<user@bücher.example>", '<"jü rgen"@example.org>'])
def test_wide_characters_need_smtputf8(text: str) -> None:
    with pytest.raises(Utf8Error, match="SMTPUTF8"):
        parse_forward_path(text)
    mailbox = parse_forward_path(text, utf8=True)
    assert bracketed(mailbox) == text
    assert not is_ascii(mailbox)


def test_limits_count_octets_not_characters() -> None:
    assert parse_mailbox(f"{'ü' * 32}@example.org").local_part == "ü" * 32
    with pytest.raises(PathError, match="64 octets"):
        parse_mailbox(f"{'ü' * 33}@example.org")


def test_a_domain_in_wide_letters_is_lower_cased() -> None:
    assert parse_mailbox("user@BÜCHER.example").domain == "bücher.example"


def test_control_characters_are_never_part_of_an_address() -> None:
    for text in ("a\x07b@example.org", "a\x85b@example.org", "user@a\x85.example", '"a\x00b"@example.org'):
        with pytest.raises(PathError):
            parse_mailbox(text)


def test_a_mailbox_without_brackets_is_for_configuration() -> None:
    assert str(parse_mailbox('"a b"@Example.org')) == '"a b"@example.org'
    with pytest.raises(PathError, match="no domain: write"):
        parse_mailbox("user")
    with pytest.raises(PathError):
        parse_mailbox("<user@example.org>")
    with pytest.raises(PathError):
        parse_mailbox("")


def test_a_domain_alone_is_read_by_the_same_rules() -> None:
    assert parse_domain("Example.ORG") == "example.org"
    assert str(parse_domain("[IPv6:2001:db8::1]")) == "[IPv6:2001:db8::1]"
    with pytest.raises(PathError, match="longer than 255"):
        parse_domain(".".join(["d" * 63] * 5))


def test_paths_are_written_in_brackets() -> None:
    assert bracketed(NullPath()) == "<>"
    assert bracketed(Postmaster()) == "<postmaster>"
    assert bracketed(box("a b", "example.org")) == '<"a b"@example.org>'
    assert all(is_ascii(path) for path in (NullPath(), Postmaster(), box("a", "b")))


def test_a_path_that_never_ends_is_refused_in_one_pass() -> None:
    for text in ("<" + "a" * 2000, "<" + '"' * 2001, "<" + '"a\\' * 700, "<" + "(" * 2000):
        with pytest.raises(PathError):
            split_path(text)


local_parts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
wide_local_parts = st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs"]), min_size=1, max_size=12)
labels = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join).map(DomainName)
literals = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(AddressLiteral)
mailboxes = st.builds(Mailbox, local_parts | wide_local_parts, domains | literals)


@given(mailboxes)
def test_what_is_written_is_read_back(mailbox: Mailbox) -> None:
    if len(str(mailbox).rpartition("@")[0].encode()) > 64:
        with pytest.raises(PathError):
            parse_forward_path(bracketed(mailbox), utf8=True)
        return
    assert parse_forward_path(bracketed(mailbox), utf8=True) == mailbox
    assert parse_mailbox(str(mailbox)) == mailbox
    assert split_path(bracketed(mailbox) + " X") == (bracketed(mailbox), " X")


@given(st.text(max_size=80))
def test_any_text_is_a_mailbox_or_refused(text: str) -> None:
    for candidate in (text, f"{text}@example.org", f"user@{text}", f"<{text}>"):
        try:
            mailbox = parse_forward_path(candidate, utf8=True)
        except PathError:
            continue
        assert parse_forward_path(bracketed(mailbox), utf8=True) == mailbox
