"""Reports: about any original, and whatever a peer replied, a report is a whole message of its own words."""

from __future__ import annotations

import re

from fuzz.targets import head
from waypost.mail.dsn import compose
from waypost.mail.envelope import MessageId, NotInDoubt, Origin, QueuedMessage
from waypost.mail.explain import report_fields
from waypost.mail.notification import Action, HeaderOnly, Notification, RecipientStatus, ToAuthor, Whole
from waypost.mail.outcome import Answered, Host, Misbehaved, Rejected
from waypost.net.stream import Endpoint
from waypost.smtp.extension import (
    BodyType,
    Extensions,
    MailParameters,
    ParameterError,
    RcptParameters,
    parse_rcpt_parameters,
)
from waypost.smtp.framing import BadReply, ReplyReader
from waypost.smtp.path import parse_mailbox
from waypost.smtp.reply import EnhancedStatus, Reply

HOST = Host("mx.far.example", Endpoint("192.0.2.1", 25))
AUTHORS = (parse_mailbox("ann@example.org"), parse_mailbox("j\u00fcrgen@example.org"))
FIELDS = {
    *(b"Date", b"From", b"To", b"Subject", b"Message-ID", b"In-Reply-To", b"References", b"Auto-Submitted"),
    *(b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"),
}
DSN = Extensions({"DSN": ()})


def one(octets: bytes) -> None:
    """Octet 0: flags; 1: octets of the peer's reply; 2: of ORCPT; then these, and the original."""
    (flags, replied, asked), rest = head(octets, 3)
    reply, rest = rest[:replied], rest[replied:]
    orcpt, original = rest[:asked], rest[asked:]
    author = AUTHORS[flags & 1]
    said = report_fields(_outcome(reply))
    recipient = RecipientStatus(
        forward_path=parse_mailbox("bob@far.example"),
        original_recipient=_parameters(orcpt).original_recipient,
        status=said.status,
        diagnostic=said.diagnostic,
        remote_mta=said.remote_mta,
        explanation=said.explanation,
        last_attempt=1.8e9,
        retry_until=1.8e9,
        doubt=NotInDoubt(),
    )
    message = QueuedMessage(
        MessageId("01hxmessage00"), author, MailParameters(), Origin("ESMTP", "192.0.2.9", "c"), 1.8e9, len(original)
    )
    notification = Notification(
        (Action.FAILED, Action.DELAYED)[flags >> 1 & 1],
        message,
        [recipient] * (1 + (flags >> 2 & 3)),
        HeaderOnly(original) if flags & 16 else Whole(original),
        ToAuthor(author),
        "mx.example.net",
        MessageId("01hxreport000"),
        1.8e9,
    )
    dsn = compose(notification)
    _check(dsn.octets, dsn.parameters)


def _outcome(octets: bytes) -> Rejected:
    """What an attempt comes to where a peer says `octets` to RCPT."""
    reader = ReplyReader()
    reader.feed(octets + b"\r\n")
    reply = reader.next_reply()
    match reply:
        case Reply():
            return Rejected(Answered(HOST, "RCPT", reply), reply.status)
        case BadReply(detail, heard):
            return Rejected(Misbehaved(HOST, "RCPT", f"{detail}: {heard}"), EnhancedStatus(5, 0, 0))
        case _:
            return Rejected(Misbehaved(HOST, "RCPT", octets.decode("utf-8", "replace")), EnhancedStatus(5, 0, 0))


def _parameters(octets: bytes) -> RcptParameters:
    text = octets.decode("utf-8", "replace")
    try:
        return parse_rcpt_parameters(f" ORCPT={text}" if text.isprintable() and text.strip() else "", DSN)
    except ParameterError:
        return RcptParameters()


def _check(octets: bytes, parameters: MailParameters) -> None:
    lines = octets.split(b"\r\n")
    assert lines[-1] == b""
    assert octets.count(b"\r") == octets.count(b"\n") == len(lines) - 1
    assert max(map(len, lines)) <= 998
    assert b"\0" not in octets
    assert octets.isascii() or parameters.body is BodyType.EIGHT_BIT_MIME
    header = octets.partition(b"\r\n\r\n")[0]
    names = re.findall(rb"^([^\s:]+)", header, re.MULTILINE)
    assert set(names) <= FIELDS, names
    assert len(names) == len(set(names)), names
    boundary = re.search(rb'boundary="([^"]*)"', header)
    assert boundary
    parts = octets.split(b"\r\n--" + boundary[1])
    assert 3 <= len(parts) - 1 <= 4, len(parts)  # the end counts too
