"""What may stand after `to =`, and how it is told what may not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.route.domain import Pattern
from waypost.route.route import (
    Capture,
    Discard,
    LmtpServers,
    Maildir,
    Pipe,
    Reject,
    Server,
    SmtpMx,
    SmtpServers,
    Webhook,
)
from waypost.route.target import RecipientMx, Target, parse_target, target_text
from waypost.smtp.reply import Reply


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("smtp://Inner.Example.com", SmtpServers((Server("inner.example.com", 25),))),
        ("smtp://inner:2525", SmtpServers((Server("inner", 2525),))),
        ("smtp://10.0.0.9", SmtpServers((Server("10.0.0.9", 25),))),
        ("smtp://[10.0.0.9]:26", SmtpServers((Server("10.0.0.9", 26),))),
        ("smtp://[::1]:25", SmtpServers((Server("::1", 25),))),
        ("smtp://[IPv6:2001:DB8:0::1]", SmtpServers((Server("2001:db8::1", 25),))),
        ("smtp://bücher.example", SmtpServers((Server("xn--bcher-kva.example", 25),))),
        ("mx:", RecipientMx()),
        ("mx::2525", RecipientMx(2525)),
        ("mx:Example.net", SmtpMx("example.net")),
        ("mx:example.net:2525", SmtpMx("example.net", 2525)),
        ("smtps://a", SmtpServers((Server("a", 465, implicit_tls=True),))),
        ("smtps://[2001:db8::1]:4650", SmtpServers((Server("2001:db8::1", 4650, implicit_tls=True),))),
        ("lmtp://store", LmtpServers((Server("store", 24),))),
        ("lmtp:///run/dovecot/lmtp", LmtpServers((Server("/run/dovecot/lmtp", 0),))),
        ("maildir:/var/mail/%d/%u", Maildir("/var/mail/%d/%u")),
        ("https://app.example.net/mail?x=1", Webhook("https://app.example.net/mail?x=1")),
        ("http://127.0.0.1:8080/", Webhook("http://127.0.0.1:8080/")),
        ("pipe:/bin/tool --for %r 'two words' 100%%", Pipe(("/bin/tool", "--for", "%r", "two words", "100%%"))),
        ("capture:", Capture()),
        ("discard:", Discard()),
        ("reject:550 5.1.1 no such user", Reject(Reply(550, ("5.1.1 no such user",)))),
        ("reject:521 go away", Reject(Reply(521, ("5.7.1 go away",)))),
    ],
)
def test_each_kind_of_target_is_read_and_written_back(text: str, target: Target) -> None:
    assert parse_target([text]) == target
    assert parse_target([target_text(target)]) == target


def test_several_servers_are_tried_in_their_order() -> None:
    assert parse_target(["smtp://b", "smtp://a:26"]) == SmtpServers((Server("b", 25), Server("a", 26)))
    assert parse_target(["lmtp://b", "lmtp:///a"]) == LmtpServers((Server("b", 24), Server("/a", 0)))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "names no place"),
        (["inner.example.com"], 'write "smtp://host:25"'),
        (["smtp:inner"], 'write "smtp://host:25"'),
        (["smtp://"], "names no host"),
        (["smtp://::1"], "in brackets"),
        (["smtp://[::1"], "in brackets"),
        (["smtp://a:b"], "is no port"),
        (["smtp://a:0"], "is no port"),
        (["smtp://a:65536"], "is no port"),
        (["smtp://a/"], "label 'a/'"),
        (["smtp://[nonsense]"], "no IPv4 or IPv6 address"),
        (["smtp://u:p@a"], "password_file"),
        (["smtps://"], "names no host"),
        (["https:///mail"], "names no host"),
        (["https://a:b/"], "is no URL"),
        (["https://u:p@a/"], "secret_file"),
        (["https://a/ b"], "percent-encode"),
        (["https://a/#b"], "percent-encode"),
        (["pipe:"], "whole path"),
        (["pipe:tool"], "whole path"),
        (["pipe:/bin/tool 'a"], "as a shell parts them"),
        (["pipe:/bin/tool %x"], "there is no shell"),
        (["pipe:/bin/%u"], "must not hang on the message"),
        (["mx://example.net"], 'write "mx:example.net"'),
        (["mx:[192.0.2.1]"], 'write "smtp://[192.0.2.1]:25"'),
        (["maildir:"], "names no directory"),
        (["capture:x"], "nothing after its colon"),
        (["discard:x"], "nothing after its colon"),
        (["reject:"], "reject:550 5.1.1"),
        (["reject:550 "], "reject:550 5.1.1"),
        (["reject:550  "], "reject:550 5.1.1"),
        (["reject:450 4.2.0 later"], "reject:550 5.1.1"),
        (["reject:550 5.1.1 two\r\nlines"], "reject:550 5.1.1"),
        (["mx:", "smtp://a"], "a route of its own"),
        (["capture:", "capture:"], "a route of its own"),
        (["smtp://a", "lmtp://b"], "a route of its own"),
    ],
)
def test_what_is_no_target_is_refused_with_a_remedy(texts: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_target(texts)


@given(st.text(max_size=30), st.sampled_from(["", "smtp://", "mx:", "lmtp://", "maildir:", "reject:550 ", "smtp://["]))
def test_any_text_is_a_target_that_reads_back_or_a_value_error(text: str, scheme: str) -> None:
    try:
        target = parse_target([scheme + text])
    except ValueError:
        return
    assert parse_target([target_text(target)]) == target


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*.example.com", 'write "example.com"'),
        (".example.com", 'write "example.com"'),
        ("joe@example.com", 'write "example.com"'),
        ("", "no domain name"),
        ("a..b", "1 to 63"),
        ("x" * 64, "1 to 63"),
        (".".join(["x" * 60] * 5), "253"),
        ("-a.example", "inner hyphens"),
        ("a b.example", "letters, digits"),
        ("[192.0.2]", "no IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_pattern_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["*", "example.com", "=example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_a_pattern_is_written_as_it_was_read(text: str) -> None:
    assert str(Pattern.parse(text)) == text
