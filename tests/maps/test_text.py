"""The text of map files: what is read, and what is complained of, by its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.maps.text import MapTextError, Row, parse_patterns, parse_table

POSTFIX = """\
# virtual aliases
info@example.com\talice@example.com, bob@example.org
 carol

Sales@Example.COM   alice
postmaster: root
webmaster:  alice bob
@old.example        @example.com
"odd name"@x.example alice
"""


def test_a_table_of_postfix_is_read_as_it_is() -> None:
    assert parse_table(POSTFIX) == {
        "info@example.com": Row(("alice@example.com", "bob@example.org", "carol"), 2),
        "sales@example.com": Row(("alice",), 5),
        "postmaster": Row(("root",), 6),
        "webmaster": Row(("alice", "bob"), 7),
        "@old.example": Row(("@example.com",), 8),
        '"odd name"@x.example': Row(("alice",), 9),
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a b\nalone\n", "line 2: 'alone' is a key without a value"),
        ("alone:\n", "line 1: 'alone:' is a key without a value"),
        ("a b\n# c\nA c\n", "line 3: 'a' stands on line 1 already"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_its_line(text: str, complaint: str) -> None:
    with pytest.raises(MapTextError, match=complaint):
        parse_table(text)


def test_patterns_are_tried_in_their_order_and_fill_in_groups() -> None:
    first, second, third = parse_patterns(
        "/^(.+)-(.+)@lists\\.example$/  $2+${1}@example.com\n/^info@/ alice,\n bob\n/^CASE@/i \\0$$\n"
    )
    assert first.apply("a-b@lists.example") == ("b+a@example.com",)
    assert first.apply("a@lists.example") == ()
    assert (second.apply("INFO@x"), second.line) == (("alice", "bob"), 2)
    assert third.apply("case@x") == ()
    assert third.apply("CASE@x") == ("CASE@$",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("info alice\n", "is no pattern"),
        ("/(/ alice\n", "is no regular expression"),
        ("/a/ $1\n", r"\$1 is used, and the pattern has 0 groups"),
        ("if /a/\n", "is no pattern"),
    ],
)
def test_a_pattern_that_is_wrong_is_told_by_its_line(text: str, complaint: str) -> None:
    with pytest.raises(MapTextError, match=f"line 1: .*{complaint}"):
        parse_patterns(text)


@given(st.text())
def test_any_text_is_read_or_complained_of(text: str) -> None:
    for parse in (parse_table, parse_patterns):
        try:
            rows = parse(text)
        except MapTextError as error:
            assert str(error).startswith("line ")  # noqa: PT017 - either outcome is right, and this is one's form
        else:
            assert len(rows) <= len(text.splitlines())
