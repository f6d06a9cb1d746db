from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.smtp.extension import (
    BodyType,
    Extensions,
    MailParameters,
    Notify,
    ParameterError,
    RcptParameters,
    Return,
    UnknownParameterError,
    extension_lines,
    format_mail_parameters,
    format_rcpt_parameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
    read_extensions,
)
from waypost.smtp.reply import Reply
from waypost.smtp.xtext import decode_xtext, encode_xtext

ALL = Extensions({"SIZE": ("1000",), "8BITMIME": (), "SMTPUTF8": (), "DSN": (), "PIPELINING": (), "BINARYMIME": ()})
NONE = Extensions()


def test_an_ehlo_reply_is_read_past_its_first_line() -> None:
    reply = Reply(250, ("PIPELINING is my name", "size 1000", "AUTH PLAIN", "AUTH=LOGIN", "X-Odd a b", "", "(what)"))
    extensions = read_extensions(reply)
    assert dict(extensions.offered) == {"SIZE": ("1000",), "AUTH": ("PLAIN", "LOGIN"), "X-ODD": ("a", "b")}
    assert extensions.size_limit == 1000
    assert extensions.auth_mechanisms == {"PLAIN", "LOGIN"}


@pytest.mark.parametrize("size", ["", "x", "-1", "9" * 21, "²"])
def test_a_size_that_is_no_number_sets_no_limit(size: str) -> None:
    assert read_extensions(Reply(250, ("mx", f"SIZE {size}"))).size_limit == 0


def test_what_is_offered_is_read_back() -> None:
    assert read_extensions(Reply(250, ("mx.example", *extension_lines(ALL)))) == ALL


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", MailParameters()),
        (" ", MailParameters()),
        (" SIZE=0", MailParameters()),
        (" size=12345678901234567890", MailParameters(size=12345678901234567890)),
        (" body=8bitmime", MailParameters(body=BodyType.EIGHT_BIT_MIME)),
        (" BODY=7BIT  SMTPUTF8 ", MailParameters(smtputf8=True)),
        (" RET=hdrs ENVID=a+2Bb+20c", MailParameters(ret=Return.HEADERS, envelope_id="a+b c")),
    ],
)
def test_mail_parameters(text: str, meaning: MailParameters) -> None:
    assert parse_mail_parameters(text, ALL) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", RcptParameters()),
        (" NOTIFY=never", RcptParameters(Notify.NEVER)),
        (" NOTIFY=SUCCESS,delay", RcptParameters(Notify.SUCCESS | Notify.DELAY)),
        (" ORCPT=rfc822;a+2Bb@example.org", RcptParameters(original_recipient="rfc822;a+b@example.org")),
        (r" ORCPT=utf-8;j\x{FC}rgen@example.org", RcptParameters(original_recipient="utf-8;jürgen@example.org")),
        (" ORCPT=utf-8;jürgen@example.org", RcptParameters(original_recipient="utf-8;jürgen@example.org")),
    ],
)
def test_rcpt_parameters(text: str, meaning: RcptParameters) -> None:
    assert parse_rcpt_parameters(text, ALL) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "SIZE=1",
        " SIZE",
        " SIZE=",
        " SIZE=+1",
        " SIZE=²",
        " SIZE=123456789012345678901",
        " SIZE=1 size=1",
        " SIZE=1\u3000SMTPUTF8",  # it was read as two parameters
        " BODY=9BIT",
        " SMTPUTF8=yes",
        " SMTPUTF8=",
        " RET=ALL",
        " RET=",
        " ENVID=",
        f" ENVID={'x' * 101}",
        " ENVID=a=b",
        " ENVID=+0D+0ABcc:x",
        " ENVID=+7F",
        " ENVID=+FF",
        " ENVID=+2b",
        " ENVID=+",
    ],
)
def test_a_mail_parameter_that_breaks_its_rfc_is_refused(text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        parse_mail_parameters(text, ALL)
    assert not isinstance(refused.value, UnknownParameterError)


@pytest.mark.parametrize(
    "text",
    [
        " NOTIFY=",
        " NOTIFY=NEVER,DELAY",
        " NOTIFY=DELAY,DELAY",
        " NOTIFY=,",
        " NOTIFY=SOMETIMES",
        " ORCPT=rfc822",
        " ORCPT=;a@b",
        " ORCPT=utf-8;a@b\u3000NOTIFY=NEVER",  # it was read as two parameters
        " ORCPT=rfc822;",
        " ORCPT=rfc822;jürgen@b",
        " ORCPT=rfc822;+0A",
        r" ORCPT=utf-8;\x{0A}",
        r" ORCPT=utf-8;\x{FFFFFF}",
        f" ORCPT=rfc822;{'a' * 500}",
    ],
)
def test_a_rcpt_parameter_that_breaks_its_rfc_is_refused(text: str) -> None:
    with pytest.raises(ParameterError) as refused:
        parse_rcpt_parameters(text, ALL)
    assert not isinstance(refused.value, UnknownParameterError)


@pytest.mark.parametrize(
    "text", [" SIZE=1", " BODY=7BIT", " SMTPUTF8", " RET=FULL", " ENVID=x", " X=1", " =", " AUTH=<>"]
)
def test_a_parameter_without_its_extension_is_unknown(text: str) -> None:
    with pytest.raises(UnknownParameterError):
        parse_mail_parameters(text, NONE)


def test_a_parameter_is_known_by_ascii_letters_alone() -> None:
    """The capital of the long s is S: it was taken for SIZE."""
    with pytest.raises(UnknownParameterError):
        parse_mail_parameters(" \u017fize=1", ALL)


def test_a_binary_body_needs_an_extension_of_its_own() -> None:
    with pytest.raises(UnknownParameterError):
        parse_mail_parameters(" BODY=BINARYMIME", Extensions({"8BITMIME": ()}))


def test_a_mail_parameter_is_unknown_to_rcpt_and_the_reverse() -> None:
    with pytest.raises(UnknownParameterError):
        parse_rcpt_parameters(" SIZE=1", ALL)
    with pytest.raises(UnknownParameterError):
        parse_mail_parameters(" NOTIFY=NEVER", ALL)


LATER = Extensions({"MT-PRIORITY": (), "FUTURERELEASE": ("604800",)})


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (" MT-PRIORITY=9", MailParameters(priority=9)),
        (" mt-priority=-9", MailParameters(priority=-9)),
        (" MT-PRIORITY=0", MailParameters()),
        (" HOLDFOR=3600", MailParameters(hold_for=3600)),
        (" HOLDUNTIL=2027-01-15T08:00:00Z", MailParameters(hold_until=1_800_000_000)),
        (" holduntil=2027-01-15t08:00:00.5z", MailParameters(hold_until=1_800_000_000)),
    ],
)
def test_what_is_to_be_said_of_when_and_how_soon_is_read(text: str, meaning: MailParameters) -> None:
    assert parse_mail_parameters(text, LATER) == meaning


@pytest.mark.parametrize(
    "text",
    [
        *(" MT-PRIORITY=10", " MT-PRIORITY=-0", " MT-PRIORITY=+1", " MT-PRIORITY=", " MT-PRIORITY=1 MT-PRIORITY=1"),
        *(" HOLDFOR=-1", " HOLDFOR=1234567890", " HOLDFOR=1h", " HOLDUNTIL=tomorrow", " HOLDUNTIL=2027-01-15T08:00:00"),
        *(" HOLDUNTIL=2027-02-30T08:00:00Z", " HOLDUNTIL=2027-01-15T08:00:00+01:00"),
        " HOLDFOR=1 HOLDUNTIL=2027-01-15T08:00:00Z",
    ],
)
def test_a_priority_or_a_time_that_breaks_its_rfc_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        parse_mail_parameters(text, LATER)
    with pytest.raises(UnknownParameterError):
        parse_mail_parameters(text, NONE)


def test_a_priority_is_passed_on_and_a_hold_is_ours_alone() -> None:
    parameters = MailParameters(priority=-3, hold_for=60, hold_until=60)
    assert format_mail_parameters(parameters, LATER) == " MT-PRIORITY=-3"
    assert format_mail_parameters(parameters, NONE) == ""


@pytest.mark.parametrize(
    ("line", "limit"),
    [("LIMITS RCPTMAX=20", 20), ("LIMITS mailmax=5 rcptmax=7", 7), ("LIMITS RCPTMAX=0", 0), ("LIMITS", 0), ("X", 0)],
)
def test_a_limit_is_read_and_what_is_none_limits_nothing(line: str, limit: int) -> None:
    assert read_extensions(Reply(250, ("mx", line))).limit("RCPTMAX") == limit


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(printable)
def test_xtext_is_read_back(text: str) -> None:
    encoded = encode_xtext(text)
    assert decode_xtext(encoded) == text
    assert "=" not in encoded
    assert " " not in encoded


@pytest.mark.parametrize("text", ["ü", "\n", "\x7f"])
def test_what_xtext_cannot_say_is_not_said(text: str) -> None:
    with pytest.raises(ValueError, match="not printable ASCII"):
        encode_xtext(text)


mail_parameters = st.builds(
    MailParameters,
    size=st.integers(0, 10**20 - 1),
    body=st.sampled_from(BodyType),
    smtputf8=st.booleans(),
    ret=st.sampled_from(Return),
    envelope_id=printable,
)
wide = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
original_recipients = st.one_of(
    st.just(""),
    printable.filter(bool).map("rfc822;{}".format),
    wide.filter(lambda text: "\\x{" not in text).map("utf-8;{}".format),
)
flags = st.lists(st.sampled_from([Notify.SUCCESS, Notify.FAILURE, Notify.DELAY]))
notify = flags.map(lambda some: Notify(sum({flag.value for flag in some}))) | st.just(Notify.UNSPECIFIED)


@given(mail_parameters)
def test_mail_parameters_are_read_back(parameters: MailParameters) -> None:
    assert parse_mail_parameters(format_mail_parameters(parameters, ALL), ALL) == parameters


@given(st.builds(RcptParameters, notify, original_recipients))
def test_rcpt_parameters_are_read_back(parameters: RcptParameters) -> None:
    text = format_rcpt_parameters(parameters, ALL)
    assert text.isascii()
    assert parse_rcpt_parameters(text, ALL) == parameters


@given(mail_parameters, st.builds(RcptParameters, notify, original_recipients))
def test_nothing_is_said_that_was_not_offered(mail: MailParameters, rcpt: RcptParameters) -> None:
    assert format_mail_parameters(mail, NONE) == ""
    assert format_rcpt_parameters(rcpt, NONE) == ""


@given(st.text(max_size=40))
def test_any_text_is_parameters_or_refused(text: str) -> None:
    for prefix in ("", " ", " ENVID=", " ORCPT=utf-8;", " NOTIFY=", " SIZE="):
        for parse in (parse_mail_parameters, parse_rcpt_parameters):
            with suppress(ParameterError):
                parse(prefix + text, ALL)


@pytest.mark.parametrize(
    ("notify", "success", "failure", "delay"),
    [
        (Notify.UNSPECIFIED, False, True, True),
        (Notify.NEVER, False, False, False),
        (Notify.SUCCESS, True, False, False),
        (Notify.FAILURE | Notify.DELAY, False, True, True),
    ],
)
def test_what_a_notify_asks_for(notify: Notify, *, success: bool, failure: bool, delay: bool) -> None:
    assert (notify.wants_success, notify.wants_failure, notify.wants_delay) == (success, failure, delay)


@pytest.mark.parametrize(("length", "is_said"), [(80, True), (90, False)])
def test_an_orcpt_that_grows_too_long_in_ascii_is_left_out_and_the_rest_is_said(length: int, is_said: bool) -> None:  # noqa: FBT001 - a case
    rcpt = parse_rcpt_parameters(f" NOTIFY=NEVER ORCPT=utf-8;{'ü' * length}@b.example", ALL)
    text = format_rcpt_parameters(rcpt, ALL)
    assert text.startswith(" NOTIFY=NEVER")
    assert ("ORCPT" in text) == is_said
    assert parse_rcpt_parameters(text, ALL).notify is Notify.NEVER
