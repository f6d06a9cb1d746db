"""From and Sender of what is submitted, held against the account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.auth.account import Account
from waypost.receive.authorship import AddSender, Author, FromField, Good, NoAuthor, judge_author
from waypost.smtp.path import NullPath, parse_mailbox
from waypost.smtp.reply import Reply

ALICE = Account("alice", ("alice@example.net", "shop.example"))
OWN = parse_mailbox("alice@example.net")


def judged(header: str, rule: FromField) -> object:
    return judge_author(header.encode(), Author(ALICE, OWN, rule), whole=True)


@pytest.mark.parametrize("rule", [FromField.SENDER, FromField.REFUSE])
@pytest.mark.parametrize(
    "header",
    [
        "From: Alice <ALICE@Example.net>\r\n",
        "from: sales@shop.example,\r\n alice@example.net\r\n",
        "From: eve@elsewhere.example\r\nSender: alice@example.net\r\n",
    ],
)
def test_an_author_s_own_address_is_good(header: str, rule: FromField) -> None:
    assert judged(header, rule) == Good()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("From: eve@elsewhere.example\r\n", "5.7.1"),
        ("From: alice@example.net, eve@elsewhere.example\r\n", "5.7.1"),
        ("From: alice@example.net\r\nSender: eve@elsewhere.example\r\n", "5.7.1"),
        ("From: Jürgen <eve@elsewhere.example>\r\n", "5.7.1"),
        ("Subject: x\r\n", "5.6.0"),
        ("From:\r\n", "5.6.0"),
    ],
)
def test_another_s_address_or_none_is_refused_with_554_where_the_rule_says_so(header: str, code: str) -> None:
    found = judged(header, FromField.REFUSE)
    assert isinstance(found, Reply)
    assert (found.code, str(found.status)) == (554, code)


def test_a_sender_is_added_where_from_is_another_s_and_none_is_there() -> None:
    assert judged("From: eve@elsewhere.example\r\n", FromField.SENDER) == AddSender(b"Sender: alice@example.net\r\n")
    assert judged("From: eve@elsewhere.example\r\nSender: bob@x.example\r\n", FromField.SENDER) == Good()
    null = Author(ALICE, NullPath(), FromField.SENDER)
    assert judge_author(b"From: eve@elsewhere.example\r\n", null, whole=True) == Good()


def test_any_will_do_where_the_rule_says_so_or_nobody_has_logged_in() -> None:
    assert judged("From: eve@elsewhere.example\r\n", FromField.ANY) == Good()
    assert judge_author(b"", NoAuthor(), whole=True) == Good()


def test_a_header_too_long_to_be_judged_is_refused_where_from_counts() -> None:
    found = judge_author(b"X: y\r\n", Author(ALICE, OWN, FromField.REFUSE), whole=False)
    assert isinstance(found, Reply)
    assert found.code == 554


@given(st.binary(max_size=200), st.sampled_from(list(FromField)), st.booleans())
def test_any_octets_are_judged(octets: bytes, rule: FromField, whole: bool) -> None:  # noqa: FBT001 - Hypothesis names it
    judge_author(octets, Author(ALICE, OWN, rule), whole=whole)
    judge_author(b"From: " + octets, Author(ALICE, OWN, rule), whole=whole)
