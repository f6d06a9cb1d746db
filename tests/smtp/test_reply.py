from __future__ import annotations

import pytest

from waypost.smtp.reply import EnhancedStatus, Reply


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(550, ("5.1.1 nobody",)), "5.1.1"),
        (Reply(550, ("5.1.1",)), "5.1.1"),
        (Reply(450, ("4.2.2 full", "4.2.2 try later")), "4.2.2"),
        (Reply(550, ("nobody",)), "5.0.0"),
        (Reply(550, ("4.1.1 of another class",)), "5.0.0"),
        (Reply(550, ("5.1.1.1 not one",)), "5.0.0"),
        (Reply(550, ()), "5.0.0"),
        (Reply(354, ("go",)), "4.0.0"),
    ],
)
def test_a_reply_has_a_status_even_where_its_text_has_none(reply: Reply, status: str) -> None:
    assert str(reply.status) == status


def test_a_status_is_read_off_a_text_and_changes_its_class() -> None:
    status = EnhancedStatus.parse("5.7.1 no")
    assert (str(status), str(status.as_transient()), str(status.as_permanent())) == ("5.7.1", "4.7.1", "5.7.1")
    with pytest.raises(ValueError, match="no enhanced status code"):
        EnhancedStatus.parse("no")


@pytest.mark.parametrize("code", [199, 600, 0, -250])
def test_a_code_out_of_range_is_no_reply(code: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        Reply(code, ())


def test_a_reply_is_written_as_one_line_each() -> None:
    assert Reply.of(250, "2.0.0", "one", "two").encode() == b"250-2.0.0 one\r\n250 2.0.0 two\r\n"
    assert Reply(221, ()).encode() == b"221 \r\n"


def test_a_reply_that_was_said_is_the_same_value_as_before() -> None:
    said, unsaid = Reply(250, ("OK",)), Reply(250, ("OK",))
    assert said.encode() == said.encode() == b"250 OK\r\n"
    assert said == unsaid
    assert len({said, unsaid}) == 1
    assert repr(said) == repr(unsaid)


@pytest.mark.parametrize(
    ("code", "kind"), [(250, "positive"), (354, "intermediate"), (450, "transient"), (550, "permanent")]
)
def test_the_first_digit_is_what_is_read(code: int, kind: str) -> None:
    kinds = ("positive", "intermediate", "transient", "permanent")
    assert [name for name in kinds if getattr(Reply(code, ()), f"is_{name}")] == [kind]
