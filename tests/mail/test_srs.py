"""SRS: what is wrapped leads back to where it came from, for a while; and nothing else leads anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.srs import DAYS, LeadsNowhere, Srs
from waypost.smtp.path import DomainName, Mailbox, PathError, parse_mailbox

NOW = 1_767_225_600.0
DAY = 86400.0
SRS = Srs(DomainName("srs.example.net"), b"secret")
ANN = parse_mailbox("Ann@example.org")


def test_an_address_is_wrapped_and_leads_back() -> None:
    wrapped = SRS.wrapped(ANN, NOW)
    assert str(wrapped).startswith("SRS0=")
    assert str(wrapped).endswith("=example.org=Ann@srs.example.net")
    assert SRS.unwrapped(wrapped.local_part, NOW + DAYS * DAY) == ANN
    assert SRS.unwrapped(wrapped.local_part.lower(), NOW) == parse_mailbox("ann@example.org")


def test_it_ends_with_its_days() -> None:
    found = SRS.unwrapped(SRS.wrapped(ANN, NOW).local_part, NOW + (DAYS + 1) * DAY)
    assert found == LeadsNowhere(f"it is older than {DAYS} days")


def test_a_signature_of_anothers_or_a_changed_address_leads_nowhere() -> None:
    wrapped = SRS.wrapped(ANN, NOW).local_part
    assert isinstance(Srs(SRS.domain, b"other").unwrapped(wrapped, NOW), LeadsNowhere)
    assert isinstance(SRS.unwrapped(wrapped.replace("Ann", "Bob"), NOW), LeadsNowhere)
    assert isinstance(SRS.unwrapped("ann", NOW), LeadsNowhere)


def test_what_another_relay_wrapped_leads_back_to_that_relay() -> None:
    other = Srs(DomainName("srs.other.example"), b"theirs")
    third = Srs(DomainName("srs.third.example"), b"third")
    once = other.wrapped(ANN, NOW)
    twice = SRS.wrapped(once, NOW)
    assert twice.local_part.startswith("SRS1=")
    assert SRS.unwrapped(twice.local_part, NOW) == once
    thrice = third.wrapped(twice, NOW)
    assert third.unwrapped(thrice.local_part, NOW) == once


def test_what_gets_too_long_is_told() -> None:
    with pytest.raises(PathError):
        SRS.wrapped(Mailbox("a" * 60, DomainName("example.org")), NOW)


@given(st.text(max_size=80))
def test_no_local_part_however_odd_is_trouble(local_part: str) -> None:
    assert isinstance(SRS.unwrapped(local_part, NOW), LeadsNowhere | Mailbox)
    assert isinstance(SRS.unwrapped("SRS0=" + local_part, NOW), LeadsNowhere)
    assert isinstance(SRS.unwrapped("SRS1=" + local_part, NOW), LeadsNowhere)
