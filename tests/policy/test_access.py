"""Who may connect, which reverse-paths are taken, and who is copied."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from waypost.policy.access import Access, Copies, Copy, Entry, SenderBlock, Senders, Unblocked, parse_sender
from waypost.policy.admission import RelayPolicy, is_nested
from waypost.route.domain import Pattern
from waypost.smtp.path import NullPath, parse_mailbox

ENTRIES = (
    Entry(ip_network("0.0.0.0/0"), accepts=False, place="1"),
    Entry(ip_network("192.0.2.0/24"), accepts=True, place="2"),
    Entry(ip_network("192.0.2.64/26"), accepts=False, place="3"),
    Entry(ip_network("192.0.2.66/32"), accepts=True, place="4"),
    Entry(ip_network("192.0.2.67/32"), accepts=True, place="5"),
    Entry(ip_network("192.0.2.67/32"), accepts=False, place="6"),
)


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("203.0.113.9", "1"),
        ("192.0.2.1", "2"),
        ("192.0.2.65", "3"),
        ("192.0.2.66", "4"),
        ("192.0.2.67", "6"),
        ("2001:db8::1", "default"),
        ("fe80::1%eth0", "default"),
    ],
)
def test_the_longest_prefix_decides_whatever_the_order(host: str, place: str) -> None:
    for entries in (ENTRIES, ENTRIES[::-1]):
        assert Access(entries).of(host).place == place


def test_who_may_never_relay_may_not_though_its_network_might() -> None:
    policy = RelayPolicy((ip_network("192.0.2.0/24"),), never=(ip_network("192.0.2.66/32"),))
    assert policy.trusts("192.0.2.1")
    assert not policy.trusts("192.0.2.66")
    assert policy.bars("192.0.2.66")


@pytest.mark.parametrize(
    ("wanted", "blocked", "taken"),
    [
        ("Ann@Bad.example", "ann@bad.example", "bob@bad.example"),
        ("bad.example", "ann@sub.bad.example", "ann@notbad.example"),
        ("=bad.example", "ann@bad.example", "ann@sub.bad.example"),
        ("<>", "", "ann@bad.example"),
    ],
)
def test_reverse_paths_are_blocked_by_address_domain_or_being_null(wanted: str, blocked: str, taken: str) -> None:
    senders = Senders((SenderBlock(parse_sender(wanted), "x"),))
    assert isinstance(senders.of(parse_mailbox(blocked) if blocked else NullPath()), SenderBlock)
    assert isinstance(senders.of(parse_mailbox(taken)), Unblocked)


def test_nobody_blocks_everybody_by_a_star() -> None:
    with pytest.raises(ValueError, match="would refuse all mail"):
        parse_sender("*")


def test_a_copy_is_made_of_what_comes_and_goes_but_of_no_notification() -> None:
    copy = Copy((Pattern.parse("ours.example"),), parse_mailbox("journal@ours.example"), "x")
    ann, eve = parse_mailbox("ann@ours.example"), parse_mailbox("eve@far.example")
    copies = Copies((copy,))
    assert copies.of(ann, [eve]) == copies.of(eve, [ann]) == (copy,)
    assert copies.of(eve, [eve]) == ()
    assert copies.of(NullPath(), [ann]) == ()


@pytest.mark.parametrize("address", ["u%b@a.example", "b!u@a.example", '"u@b"@a.example'])
def test_an_address_within_an_address_is_seen(address: str) -> None:
    assert is_nested(parse_mailbox(address))
    assert not is_nested(parse_mailbox("prvs=1+u@a.example"))
