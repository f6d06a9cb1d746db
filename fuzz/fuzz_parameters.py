"""MAIL and RCPT with all their parameters: what is taken is said again in the same sense."""

from __future__ import annotations

from dataclasses import replace

from fuzz.targets import command_line
from waypost.smtp.command import Mail, Rcpt, parse_mail, parse_rcpt
from waypost.smtp.extension import Extensions
from waypost.smtp.reply import Reply

OFFERED = Extensions({"SIZE": (), "8BITMIME": (), "SMTPUTF8": (), "DSN": ()})


def one(octets: bytes) -> None:
    text = command_line(octets)
    mail = parse_mail(text, OFFERED)
    if isinstance(mail, Mail):
        again = parse_mail(mail.line(OFFERED).removeprefix("MAIL "), OFFERED)
        assert again == mail, again
    else:
        _check(mail)
    rcpt = parse_rcpt(text, OFFERED, utf8=True)
    if isinstance(rcpt, Rcpt):
        said = parse_rcpt(rcpt.line(OFFERED).removeprefix("RCPT "), OFFERED, utf8=True)
        kept = rcpt.parameters if "ORCPT" in rcpt.line(OFFERED) else replace(rcpt.parameters, original_recipient="")
        assert said == replace(rcpt, parameters=kept), said
    else:
        _check(rcpt)


def _check(reply: Reply) -> None:
    octets = reply.encode()
    assert octets.isascii()
    assert len(octets) <= 512
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
