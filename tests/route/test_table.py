"""The route table: the most specific pattern wins, and a key found in the queue leads back to the same route."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.envelope import NextHop
from waypost.route.domain import Match, Pattern
from waypost.route.route import Capture, NoRoute, Route, Server, SmtpMx, SmtpServers, TlsPolicy
from waypost.route.table import Means, RouteTable, Rule, describe
from waypost.route.target import parse_target
from waypost.smtp.login import Credentials
from waypost.smtp.path import AddressLiteral, Domain, DomainName, Mailbox, Postmaster

POSTMASTER = Mailbox("postmaster", DomainName("example.net"))
VERIFY = Means(tls=TlsPolicy.VERIFY)


def rule(patterns: str, *to: str, means: Means | None = None, name: str = "", relay_only: bool = False) -> Rule:
    words = patterns.split()
    parsed = tuple(Pattern.parse(word) for word in words)
    return Rule(name or words[0], parsed, parse_target(to), means or Means(), relay_only=relay_only, place="w.toml:1")


def table(*rules: Rule) -> RouteTable:
    return RouteTable(rules, postmaster=POSTMASTER)


def routed(routes: RouteTable, domain: str | AddressLiteral) -> Route:
    where: Domain = domain if isinstance(domain, AddressLiteral) else DomainName(domain)
    found = routes.route(Mailbox("user", where))
    assert isinstance(found, Route)
    return found


# ---- which rule
@pytest.mark.parametrize(
    ("domain", "winner"),
    [
        ("example.com", "=example.com"),
        ("sub.example.com", "example.com"),
        ("a.b.example.com", "b.example.com"),
        ("b.example.com", "b.example.com"),
        ("notexample.com", "*"),
        ("example.com.org", "*"),
        ("com", "*"),
        ("EXAMPLE.com", "=example.com"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_pattern_wins_whatever_the_order(domain: str, winner: str, order: int) -> None:
    rules = [rule(pattern, "capture:") for pattern in ("*", "example.com", "=example.com", "b.example.com")]
    assert routed(table(*rules[::order]), domain).rule == f'"{winner}" at w.toml:1'


@pytest.mark.parametrize("pattern", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.Example"])
@pytest.mark.parametrize(
    "domain", ["bücher.example", "xn--bcher-kva.example", "XN--bcher-kva.example", "x.bücher.example"]
)
def test_a_u_label_and_its_a_label_are_one_domain(pattern: str, domain: str) -> None:
    assert routed(table(rule(pattern, "capture:")), domain).transport == Capture()


def test_a_domain_without_a_rule_has_no_route_and_is_named() -> None:
    found = table(rule("=example.com", "capture:")).route(Mailbox("user", DomainName("sub.example.com")))
    assert isinstance(found, NoRoute)
    assert "sub.example.com" in found.detail


def test_a_domain_that_cannot_be_one_has_no_route() -> None:
    found = table(rule("*", "mx:")).route(Mailbox("user", DomainName("é" * 70 + ".example")))
    assert isinstance(found, NoRoute)


label = st.sampled_from(["a", "b", "bb", "xn--bcher-kva"])
names = st.lists(label, min_size=1, max_size=4).map(".".join)


@given(st.sets(st.tuples(st.sampled_from(list(Match)), names), min_size=1), names)
def test_the_table_agrees_with_the_rule_read_literally(patterns: set[tuple[Match, str]], domain: str) -> None:
    parsed = {Pattern(match, "" if match is Match.EVERYTHING else name) for match, name in patterns}
    routes = table(*(Rule(str(pattern), (pattern,), Capture()) for pattern in parsed))

    def rank(pattern: Pattern) -> tuple[int, int]:
        return (pattern.match is Match.EXACT, len(pattern.name))

    def matches(pattern: Pattern) -> bool:
        if pattern.match is Match.EXACT:
            return domain == pattern.name
        return pattern.match is Match.EVERYTHING or f".{domain}".endswith(f".{pattern.name}")

    expected = max(filter(matches, parsed), key=rank, default=None)
    found = routes.route(Mailbox("user", DomainName(domain)))
    assert (found.rule if isinstance(found, Route) else None) == (expected and f'"{expected}" at ?')


# ---- address literals and the postmaster
def test_an_address_literal_has_its_own_rule_or_the_one_for_everything() -> None:
    routes = table(rule("[192.0.2.1] [2001:db8::1]", "capture:"), rule("*", "mx:", relay_only=True))
    assert routed(routes, AddressLiteral(ip_address("192.0.2.1"))).transport == Capture()
    assert routed(routes, AddressLiteral(ip_address("2001:db8::1"))).transport == Capture()
    other = routed(routes, AddressLiteral(ip_address("192.0.2.2")))
    assert other.transport == SmtpServers((Server("192.0.2.2", 25),))
    assert other.next_hop == "mx:[192.0.2.2]"


def test_the_bare_postmaster_goes_where_our_postmaster_goes_and_is_open_to_anyone() -> None:
    """RFC 5321 §4.5.1."""
    routes = table(rule("*", "smtp://inner.example.net", relay_only=True))
    found = routes.route(Postmaster())
    assert isinstance(found, Route)
    assert found.next_hop == "smtp://inner.example.net:25"
    assert not found.relay_only


# ---- whose mail
def test_what_only_the_catch_all_matches_is_never_open() -> None:
    routes = table(rule("example.com *", "smtp://inner.example.net"))
    assert not routed(routes, "example.com").relay_only
    assert routed(routes, "example.org").relay_only


def test_a_route_for_relay_clients_is_closed_to_others() -> None:
    assert routed(table(rule("example.com", "mx:", relay_only=True)), "example.com").relay_only


# ---- keys
@pytest.mark.parametrize(
    ("to", "key"),
    [
        (["smtp://Inner.Example.com"], "smtp://inner.example.com:25"),
        (["smtp://a:26", "smtp://[::1]"], "smtp://a:26,smtp://[::1]:25"),
        (["mx:"], "mx:example.com"),
        (["mx::2525"], "mx:example.com:2525"),
        (["mx:example.net"], "mx:example.net"),
        (["lmtp:///run/lmtp"], "lmtp:///run/lmtp"),
        (["maildir:/m/%d/%u"], "maildir:/m/%d/%u"),
        (["capture:"], "capture:"),
        (["discard:"], "discard:"),
        (["reject:550 5.1.1 no"], "reject:550 5.1.1 no"),
    ],
)
def test_a_next_hop_has_a_readable_key_that_leads_back(to: Sequence[str], key: str) -> None:
    routes = table(rule("example.com", *to))
    found = routed(routes, "example.com")
    assert found.next_hop == key
    assert routes.by_next_hop(NextHop(key)) == found


def test_one_place_by_different_means_has_a_key_for_each() -> None:
    routes = table(
        rule("a.example", "smtp://relay"),
        rule("b.example", "smtp://relay", means=VERIFY),
        rule("c.example", "smtp://relay", means=Means(credentials=Credentials("u", "p")), name="partner"),
        rule("d.example", "smtp://other"),
    )
    keys = [routed(routes, f"{letter}.example").next_hop for letter in "abcd"]
    assert keys == [
        "smtp://relay:25#a.example",
        "smtp://relay:25#b.example",
        "smtp://relay:25#partner",
        "smtp://other:25",
    ]
    for key in keys:
        found = routes.by_next_hop(key)
        assert isinstance(found, Route)
        assert found.next_hop == key
    third = routes.by_next_hop(keys[2])
    assert isinstance(third, Route)
    assert third.credentials == Credentials("u", "p")


def test_one_place_by_the_same_means_is_one_next_hop() -> None:
    routes = table(rule("a.example", "smtp://relay"), rule("b.example", "smtp://relay"))
    assert routed(routes, "a.example").next_hop == routed(routes, "b.example").next_hop == "smtp://relay:25"


def test_a_named_exchanger_and_that_domains_own_mail_are_kept_apart_where_means_differ() -> None:
    routes = table(rule("*", "mx:", means=VERIFY), rule("a.example", "mx:example.net"))
    assert routed(routes, "example.net").next_hop == "mx:example.net"
    assert routed(routes, "a.example").next_hop == "mx:example.net#a.example"
    plain = routes.by_next_hop(NextHop("mx:example.net"))
    assert isinstance(plain, Route)
    assert plain.tls is TlsPolicy.VERIFY


@pytest.mark.parametrize(
    "key", ["smtp://gone:25", "mx:example.org:26", "mx:a.other.example", "mx:", "mx:[nonsense", "", "mx:[192.0.2.1]:9"]
)
def test_a_key_no_rule_makes_has_no_route(key: str) -> None:
    routes = table(rule("*", "mx:"), rule("other.example", "capture:"))
    found = routes.by_next_hop(NextHop(key))
    assert isinstance(found, NoRoute)
    assert key in found.detail


means = st.sampled_from([Means(), VERIFY, Means(credentials=Credentials("u", "p"))])
targets = st.sampled_from(["smtp://a", "smtp://b", "mx:", "mx::26", "mx:a.b", "mx:bb", "capture:", "lmtp://a"])


@given(st.dictionaries(names, st.tuples(targets, means), min_size=1), st.lists(names))
def test_every_key_leads_back_to_the_same_place_by_the_same_means(
    rules: dict[str, tuple[str, Means]], domains: list[str]
) -> None:
    routes = table(*(rule(name, to, means=how) for name, (to, how) in rules.items()))
    for domain in domains:
        found = routes.route(Mailbox("user", DomainName(domain)))
        if isinstance(found, Route):
            back = routes.by_next_hop(found.next_hop)
            assert isinstance(back, Route)
            assert (back.next_hop, back.transport) == (found.next_hop, found.transport)
            assert (back.tls, back.credentials, back.limits) == (found.tls, found.credentials, found.limits)


# ---- the table as a whole
def test_two_rules_with_one_pattern_or_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same pattern"):
        table(rule("a.example", "mx:"), rule("A.example", "capture:", name="other"))
    with pytest.raises(ValueError, match="same name"):
        table(rule("a.example", "mx:", name="x"), rule("b.example", "mx:", name="x"))


def test_a_table_is_described_a_line_a_rule() -> None:
    routes = table(rule("a.example =b.example", "smtp://c"), rule("*", "mx:", means=VERIFY, relay_only=True))
    assert describe(routes) == [
        "a.example, =b.example → smtp://c:25 (TLS opportunistic; from anyone; w.toml:1)",
        "* → mx: (TLS verify; from relay.networks only; w.toml:1)",
    ]


def test_a_rule_is_described_by_what_has_an_effect() -> None:
    routes = table(rule("a.example *", "capture:"))
    assert describe(routes) == ['a.example, * → capture: (from anyone, but "*" from relay.networks only; w.toml:1)']


def test_credentials_never_show_in_a_route() -> None:
    routes = table(rule("*", "smtp://relay", means=Means(credentials=Credentials("user", "secret"))))
    shown = repr(routed(routes, "a.example")) + "".join(describe(routes))
    assert "secret" not in shown


def test_smtp_mx_names_the_recipients_domain_in_a_labels() -> None:
    assert routed(table(rule("*", "mx:")), "bücher.example").transport == SmtpMx(DomainName("xn--bcher-kva.example"))
