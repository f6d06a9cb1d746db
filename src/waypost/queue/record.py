"""What the queue writes down of envelopes and attempts, and how it reads it back. Pure.

Every storage uses these, so that a message's history reads alike wherever it was kept. Records are JSON: an
administrator can read them with any SQL shell. Not here: where they are kept (memory.py, sqlite.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec

from waypost.mail.attempt import Attempt, lines_of
from waypost.mail.envelope import (
    Envelope,
    MessageId,
    NextHop,
    NotInDoubt,
    Origin,
    PossiblyAt,
    QueuedMessage,
    QueuedRecipient,
    Recipient,
)
from waypost.mail.explain import as_details, plain, report_fields
from waypost.mail.outcome import PolicyRefused, Rejected
from waypost.net.clock import Instant
from waypost.queue.storage import Gone, HistoryEvent, Notice, Passed, Report, ReportedRecipient, Search, Settled, Wait
from waypost.smtp.extension import MailParameters, Notify, RcptParameters
from waypost.smtp.path import AddressLiteral, DomainName, ForwardPath, Mailbox, NullPath, Postmaster, ReversePath
from waypost.smtp.reply import EnhancedStatus

NOT_IN_DOUBT: Final = NotInDoubt()
NULL_PATH: Final = NullPath()
POSTMASTER: Final = Postmaster()
#: "Other or undefined mail system status" (RFC 3463 §3.4): a person decided, and none of the finer codes says that.
BOUNCED: Final = EnhancedStatus(5, 3, 0)


# ---- paths as text: the local-part unquoted, so that text and path name one another
def address_of(path: Mailbox | NullPath | Postmaster) -> str:
    """`local-part@domain`; "" for the null reverse-path, "postmaster" for the bare forward-path."""
    return f"{path.local_part}@{path.domain}" if isinstance(path, Mailbox) else str(path)


def domain_of(path: ForwardPath) -> str:
    """The domain in lower case; "" for the bare postmaster."""
    return str(path.domain).lower() if isinstance(path, Mailbox) else ""


def reverse_path_of(address: str) -> ReversePath:
    """The reverse-path that `address_of` wrote."""
    return _mailbox(address) if address else NULL_PATH


def forward_path_of(address: str) -> ForwardPath:
    """The forward-path that `address_of` wrote."""
    return _mailbox(address) if "@" in address else POSTMASTER


@lru_cache(maxsize=1024)
def _mailbox(address: str) -> Mailbox:
    local_part, _, domain = address.rpartition("@")
    if not domain.startswith("["):
        return Mailbox(local_part, DomainName(domain))
    literal = domain[1:-1]
    if literal.startswith("IPv6:"):
        return Mailbox(local_part, AddressLiteral(IPv6Address(literal[5:])))
    return Mailbox(local_part, AddressLiteral(IPv4Address(literal)))


def addresses_of(envelope: Envelope) -> set[str]:
    """What the message can be found by, in lower case."""
    found = {address_of(recipient.forward_path).lower() for recipient in envelope.recipients}
    found.add(address_of(envelope.reverse_path).lower())
    found.discard("")
    return found


# ---- an envelope, queued
def queued_message(id: MessageId, envelope: Envelope, now: Instant, size: int) -> QueuedMessage:  # noqa: A002 - the field's own name for it
    """The message of this envelope as the queue keeps it."""
    return QueuedMessage(
        id,
        envelope.reverse_path,
        envelope.parameters,
        envelope.origin,
        now,
        size,
        envelope.released_at,
        envelope.tls_optional,
        envelope.traceparent,
    )


def by_next_hop(envelope: Envelope) -> dict[NextHop, tuple[QueuedRecipient, ...]]:
    """Its recipients as the queue keeps them, by their next hop."""
    if len(envelope.recipients) == 1:  # nearly all mail
        (only,) = envelope.recipients
        return {only.next_hop: (queued_recipient(0, only),)}
    groups: dict[NextHop, list[QueuedRecipient]] = {}
    for number, recipient in enumerate(envelope.recipients):
        groups.setdefault(recipient.next_hop, []).append(queued_recipient(number, recipient))
    return {next_hop: tuple(recipients) for next_hop, recipients in groups.items()}


def queued_recipient(number: int, recipient: Recipient) -> QueuedRecipient:
    """A recipient nothing was tried for yet."""
    return QueuedRecipient(number, recipient.forward_path, recipient.parameters, 0, False, NOT_IN_DOUBT)


# ---- records
@dataclass(frozen=True, slots=True)
class EnvelopeRecord:
    """What is read back of an envelope; its recipients have rows of their own."""

    reverse_path: str
    origin: Origin
    parameters: MailParameters = field(default_factory=MailParameters)
    released_at: float = 0.0
    tls_optional: bool = False
    traceparent: str = ""


_NONE_DECLARED: Final = MailParameters()
_DEFAULTS: Final = {one.name: one.default for one in fields(MailParameters)}
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_envelope: Final = msgspec.json.Decoder(EnvelopeRecord).decode


def encode(details: dict[str, object]) -> str:
    """Details as JSON. What is no text (half a surrogate from a peer's octets) is written as its escape."""
    try:
        return _encode(details).decode()
    except UnicodeEncodeError:
        return _encode(plain_details(details)).decode()


def decode(record: str) -> dict[str, object]:
    """The details that `encode` wrote."""
    return _decode(record)


def plain_details(value: object) -> object:
    """The same, with each text in it as `plain` has it."""
    match value:
        case str():
            return plain(value)
        case dict():
            return {key: plain_details(item) for key, item in value.items()}
        case list() | tuple():
            return [plain_details(item) for item in value]
        case _:
            return value


def envelope_details(envelope: Envelope, size: int) -> dict[str, object]:
    """The envelope as the history shows it, and as `decode_envelope` reads it."""
    origin = envelope.origin
    details: dict[str, object] = {
        "reverse_path": address_of(envelope.reverse_path),
        "recipients": [_recipient_details(recipient) for recipient in envelope.recipients],
        "origin": {
            "protocol": origin.protocol,
            "client_host": origin.client_host,
            "client_name": origin.client_name,
            "listener": origin.listener,
            **({"account": origin.account} if origin.account else {}),
            **({"tls": origin.tls} if origin.tls else {}),
            **({"revision": origin.revision} if origin.revision else {}),
        },
        "size": size,
    }
    parameters = _mail_parameters(envelope.parameters)
    if parameters:
        details["parameters"] = parameters
    if envelope.released_at:
        details["released_at"] = envelope.released_at
    if envelope.tls_optional:
        details["tls_optional"] = True
    if envelope.traceparent:
        details["traceparent"] = envelope.traceparent
    if envelope.message_id:
        details["message_id"] = envelope.message_id
    return details


def _recipient_details(recipient: Recipient) -> dict[str, object]:
    details: dict[str, object] = {
        "forward_path": address_of(recipient.forward_path),
        "next_hop": recipient.next_hop,
    }
    return details | _rcpt_parameters(recipient.parameters)


def _mail_parameters(parameters: MailParameters) -> dict[str, object]:
    """What differs from the default: a field that is new has no key in an old record, nor do most in any."""
    if parameters == _NONE_DECLARED:
        return {}
    said = {name: getattr(parameters, name) for name in _DEFAULTS}
    return {name: msgspec.to_builtins(value) for name, value in said.items() if value != _DEFAULTS[name]}


def _rcpt_parameters(parameters: RcptParameters) -> dict[str, object]:
    written: dict[str, object] = {}
    if parameters.notify is not Notify.UNSPECIFIED:
        written["notify"] = parameters.notify.value
    if parameters.original_recipient:
        written["original_recipient"] = parameters.original_recipient
    return written


def decode_message(id: MessageId, record: str, received_at: Instant, size: int) -> QueuedMessage:  # noqa: A002 - the field's own name for it
    """The message whose envelope was written down as `record`."""
    envelope = _decode_envelope(record)
    return QueuedMessage(
        id,
        reverse_path_of(envelope.reverse_path),
        envelope.parameters,
        envelope.origin,
        received_at,
        size,
        envelope.released_at,
        envelope.tls_optional,
        envelope.traceparent,
    )


def _whither(recipient: object) -> tuple[str, str]:
    match recipient:
        case {"forward_path": str(path), "next_hop": str(next_hop)}:
            return path, next_hop
        case _:
            return "", ""


def passed(details: dict[str, object]) -> list[Passed]:
    """The recipients of an envelope that was written down, with where it came from."""
    match details:
        case {"reverse_path": str(reverse_path), "recipients": [*recipients], "origin": {**origin}}:
            client, account = str(origin.get("client_host", "")), str(origin.get("account", ""))
            return [
                Passed(reverse_path, path, NextHop(next_hop), client, account)
                for path, next_hop in map(_whither, recipients)
            ]
        case _:
            return []


# ---- attempts
def attempt_details(attempt: Attempt, settled: Sequence[Settled]) -> dict[str, object]:
    """An attempt as the history shows it; outcomes as they were settled, so that expiry shows."""
    return {
        "next_hop": attempt.next_hop,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcomes": [_outcome_details(one) for one in settled],
        "transcript": attempt.transcript.passages,
    }


def _outcome_details(settled: Settled) -> dict[str, object]:
    recipient = settled.recipient
    return {"recipient": address_of(recipient.forward_path), "number": recipient.number, **as_details(settled.outcome)}


# ---- events
def received(id: MessageId, at: Instant, details: dict[str, object]) -> HistoryEvent:  # noqa: A002 - the field's own name for it
    """The event a message's life begins with, out of its `envelope_details`."""
    match details:
        case {
            "origin": {"protocol": protocol, "client_host": host, "client_name": name, **more},
            "recipients": [*recipients],
        }:
            source = f"from {name or host} [{host}] by {protocol}" if host else f"by {protocol}"
            source += f" ({more['tls']})" if "tls" in more else ""
            source += f" as {more['account']}" if "account" in more else ""
            source += f", configuration {more['revision']}" if "revision" in more else ""
            count = "1 recipient" if len(recipients) == 1 else f"{len(recipients)} recipients"
            text = f"received {source}: <{details['reverse_path']}> to {count}, {details['size']} octets"
        case _:
            text = "received"
    return HistoryEvent(at, id, "received", text, details)


def attempted(id: MessageId, at: Instant, details: dict[str, object]) -> HistoryEvent:  # noqa: A002 - the field's own name for it
    """The event of one attempt, out of its `attempt_details`."""
    outcomes = details.get("outcomes")
    texts = [str(outcome["text"]) for outcome in outcomes] if isinstance(outcomes, list) else []
    distinct = list(dict.fromkeys(texts))
    rest = f" (and {len(distinct) - 1} other outcomes)" if len(distinct) > 1 else ""
    text = (distinct[0] if distinct else "tried") + rest
    return HistoryEvent(at, id, "attempt", text, details | {"transcript": _transcript_lines(details["transcript"])})


def _transcript_lines(passages: object) -> list[list[object]]:
    """A transcript a line each, times to 0.1 ms: done for who reads, not for who writes 1,000 of them a second."""
    if not isinstance(passages, list):
        return []
    return [[round(at, 4), mark, line] for at, mark, line in lines_of(map(tuple, passages))]


def done(id: MessageId, at: Instant) -> HistoryEvent:  # noqa: A002 - the field's own name for it
    """The event a message's life ends with."""
    return HistoryEvent(at, id, "done", "nothing is left to do for this message", {})


def reported(settled: Settled, after_attempt: QueuedRecipient, at: Instant) -> ReportedRecipient:
    """What a report is to say of a recipient, worded while the outcome is at hand."""
    fields = report_fields(settled.outcome)
    return ReportedRecipient(
        recipient=after_attempt,
        status=fields.status,
        diagnostic=fields.diagnostic,
        remote_mta=fields.remote_mta,
        explanation=fields.explanation,
        last_attempt=at,
        retry_until=settled.retry_until,
    )


def bounced(recipient: QueuedRecipient, reason: str, at: Instant) -> ReportedRecipient:
    """What a report is to say of a recipient that an operator has given up."""
    refused = Rejected(PolicyRefused(reason, BOUNCED), BOUNCED)
    return reported(Settled(recipient, refused, Gone(), Notice.FAILED), recipient, at)


def is_told_of_failure(recipient: QueuedRecipient, reverse_path: ReversePath) -> bool:
    """Whether a report of its failure is due. One from `<>` is, too: report/ knows whom the postmaster hears of."""
    return recipient.parameters.notify.wants_failure or isinstance(reverse_path, NullPath)


def done_by(what: str, by: str, reason: str) -> str:
    """What an operator did, in words: `deleted by root: sent twice`."""
    return what + (f" by {by}" if by else "") + (f": {reason}" if reason else "")


def retried_by(by: str, reason: str) -> str:
    """The same of mail that is tried at once; empty where nobody did it, but a schedule or a caller of ours."""
    return done_by("made due", by, reason) if by else ""


def after(settled: Settled) -> QueuedRecipient:
    """The recipient as it stands once an attempt is settled."""
    recipient = settled.recipient
    doubt = settled.next.doubt if isinstance(settled.next, Wait) else recipient.doubt
    delay_reported = recipient.delay_reported or settled.notice is Notice.DELAYED
    return replace(recipient, attempts=recipient.attempts + 1, delay_reported=delay_reported, doubt=doubt)


def operated(id: MessageId, at: Instant, text: str, recipients: Sequence[str]) -> HistoryEvent:  # noqa: A002 - the field's own name for it
    """The event of something an operator did to some recipients."""
    return HistoryEvent(at, id, "operator", text, {"recipients": list(recipients)})


def report_queued(report: Report, filed_as: MessageId, at: Instant) -> HistoryEvent:
    """The event, in the life of the message reported on, of its report's being queued."""
    text = f"report ({report.notice.value}) queued as {filed_as}"
    return HistoryEvent(at, report.message.id, "report", text, _report_details(report) | {"report": filed_as})


def report_dropped(report: Report, why: str, at: Instant) -> HistoryEvent:
    """The event of a report's being struck off unsent."""
    text = f"report ({report.notice.value}) not sent: {why}"
    return HistoryEvent(at, report.message.id, "report", text, _report_details(report))


def _report_details(report: Report) -> dict[str, object]:
    recipients = [address_of(one.recipient.forward_path) for one in report.recipients]
    return {"notice": report.notice.value, "recipients": recipients}


# ---- searching
def fits(search: Search, envelope: str, attempts: Iterable[str]) -> bool:
    """Whether a message is meant, by its envelope and its attempts as they were written down (JSON, in lower case).

    Texts are looked for in what was written: a search reads thousands of records a second, and parses none.
    """
    if search.domain and f'@{search.domain.lower()}"' not in envelope.partition('"recipients"')[2]:
        return False
    if search.message_id and f'"message_id":{json_text(search.message_id)}' not in envelope:
        return False
    wanted = _wanted(search)
    return not wanted or any(all(word in attempt for word in wanted) for attempt in attempts)


def _wanted(search: Search) -> list[str]:
    """What has to stand in one attempt."""
    wanted = [f'"outcome":{json_text(search.outcome)}'] if search.outcome else []
    wanted += [f'"next_hop":{json_text(search.next_hop)}'] if search.next_hop else []
    return wanted + ([json_text(search.text)[1:-1]] if search.text else [])


def json_text(text: str) -> str:
    """`text` in lower case, as it stands in a record."""
    return _encode(text.lower()).decode()


# ---- records of the spool alone
class RcptRecord(msgspec.Struct, frozen=True):
    """RCPT's parameters; absent ones have no key."""

    notify: int = Notify.UNSPECIFIED.value
    original_recipient: str = ""


class ReportedRecord(msgspec.Struct, frozen=True):
    """A recipient a report is due about."""

    number: int
    address: str
    parameters: str
    attempts: int
    delay_reported: bool
    doubt: str
    status: str
    diagnostic: str
    remote_mta: str
    explanation: str
    last_attempt: float
    retry_until: float


class _Addresses(msgspec.Struct, frozen=True):
    class _Recipient(msgspec.Struct, frozen=True):
        forward_path: str
        next_hop: str = ""

    reverse_path: str
    recipients: list[_Recipient]


_decode_rcpt: Final = msgspec.json.Decoder(RcptRecord).decode
_decode_reported: Final = msgspec.json.Decoder(ReportedRecord).decode
_decode_addresses: Final = msgspec.json.Decoder(_Addresses).decode
_decode_list: Final = msgspec.json.Decoder(list[str]).decode
_NO_PARAMETERS: Final = RcptParameters()


def encode_parameters(parameters: RcptParameters) -> str:
    """RCPT's parameters, "" where there are none (nearly all mail)."""
    written = _rcpt_parameters(parameters)
    return encode(written) if written else ""


def decode_recipient(
    number: int,
    address: str,
    parameters: str,
    attempts: int,
    delay_reported: int,
    doubt: str,
) -> QueuedRecipient:
    """The recipient of a row."""
    return QueuedRecipient(
        number,
        forward_path_of(address),
        _decode_parameters(parameters),
        attempts,
        bool(delay_reported),
        PossiblyAt(doubt) if doubt else NOT_IN_DOUBT,
    )


def _decode_parameters(parameters: str) -> RcptParameters:
    if not parameters:
        return _NO_PARAMETERS
    written = _decode_rcpt(parameters)
    return RcptParameters(Notify(written.notify), written.original_recipient)


def encode_reported(reported: ReportedRecipient) -> str:
    """What a report is to say of a recipient."""
    recipient = reported.recipient
    return encode(
        {
            "number": recipient.number,
            "address": address_of(recipient.forward_path),
            "parameters": encode_parameters(recipient.parameters),
            "attempts": recipient.attempts,
            "delay_reported": recipient.delay_reported,
            "doubt": doubt_of(recipient),
            "status": reported.status,
            "diagnostic": reported.diagnostic,
            "remote_mta": reported.remote_mta,
            "explanation": reported.explanation,
            "last_attempt": reported.last_attempt,
            "retry_until": reported.retry_until,
        }
    )


def decode_reported(details: str) -> ReportedRecipient:
    """What `encode_reported` wrote."""
    one = _decode_reported(details)
    recipient = decode_recipient(one.number, one.address, one.parameters, one.attempts, one.delay_reported, one.doubt)
    return ReportedRecipient(
        recipient, one.status, one.diagnostic, one.remote_mta, one.explanation, one.last_attempt, one.retry_until
    )


def doubt_of(recipient: QueuedRecipient) -> str:
    """The host that may hold a copy, or ""."""
    return recipient.doubt.host if isinstance(recipient.doubt, PossiblyAt) else ""


def encode_list(texts: Sequence[str]) -> str:
    """A list of texts."""
    return msgspec.json.encode(texts).decode()


def decode_list(written: str) -> tuple[str, ...]:
    """The list that `encode_list` wrote."""
    return tuple(_decode_list(written))


def addresses_in(envelope: str) -> set[str]:
    """`addresses_of` an envelope that was written down."""
    written = _decode_addresses(envelope)
    found = {recipient.forward_path.lower() for recipient in written.recipients} | {written.reverse_path.lower()}
    found.discard("")
    return found


def recipients_in(envelope: str) -> list[tuple[str, NextHop]]:
    """The recipients of an envelope that was written down: address and next hop, by their numbers."""
    written = _decode_addresses(envelope)
    return [(recipient.forward_path, NextHop(recipient.next_hop)) for recipient in written.recipients]


def reverse_path_in(envelope: str) -> str:
    """The reverse-path of an envelope that was written down, as text; a damaged one must not hide a whole listing."""
    try:
        return _decode_envelope(envelope).reverse_path
    except msgspec.DecodeError:
        return "(unreadable)"
