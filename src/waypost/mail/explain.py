"""Outcomes in words: for a log line, for `queue list`, for a report's fields, for the history.

Not here: what follows from an outcome (queue/schedule.py) and how a report is composed (dsn.py). What peers said may
hold any octet; all text that leaves here is printable and on one line, so that it can stand in a log or a header field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from waypost.mail.outcome import (
    Answered,
    Cause,
    ConnectionLost,
    Deferred,
    Delivered,
    DnsFailed,
    Expired,
    Host,
    HttpAnswered,
    InDoubt,
    LocalTrouble,
    Misbehaved,
    NoSuchHost,
    NotConnected,
    Outcome,
    PolicyRefused,
    ProgramEnded,
    Rejected,
)
from waypost.net.clock import Instant
from waypost.net.stream import Fault, FaultKind
from waypost.smtp.reply import Reply

#: Stages at which something else than "the reply to <command>" was waited for.
_WHILE: Final = {
    "greeting": "while waiting for the greeting",
    "TLS handshake": "during the TLS handshake",
    "body": "while sending the body",
    "final dot": "while waiting for the reply to the final dot",
    "ready": "while idle",
}

#: Stages that are no command by name: how a reply to them is put.
_ANSWERED: Final = {
    "greeting": "greeted us with",
    "body": "answered the body with",
    "final dot": "answered the final dot with",
}

#: What a refusal at a stage refused. A stage not named here belongs to the opening: the session itself was refused.
_REFUSED: Final = {
    "MAIL": "mail with this reverse-path",
    "RCPT": "this address",
    "DATA": "the message",
    "body": "the message",
    "final dot": "the message",
}


@dataclass(frozen=True, slots=True)
class ReportFields:
    """What a report says of one recipient: the fields of RFC 3464 §2.3.4 to §2.3.6, and a sentence for a person."""

    status: str  # "5.1.1"
    diagnostic: str  # "smtp; 550 5.1.1 no such user"; "" where no remote server replied
    remote_mta: str  # "dns; mx.example.net"; "" where none was reached for, or it has no such name
    explanation: str


def plain(text: str) -> str:
    r"""`text` on one line, in printable characters only: others are written as `\x1b`, undecodable octets as `\xff`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if character.isspace():
        return " "
    if 0xDC80 <= code <= 0xDCFF:  # an octet that was no UTF-8, kept by surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


# ---- one sentence
def describe(outcome: Outcome) -> str:
    """What became of one recipient, in one sentence without a full stop."""
    match outcome:
        case Delivered(where, reply):
            return plain(f"delivered to {where}: {reply}")
        case Deferred(cause, _, not_before):
            return f"deferred: {describe_cause(cause)}{_not_before(not_before)}"
        case Rejected(cause):
            return f"rejected: {describe_cause(cause)}"
        case InDoubt(host, fault):
            return plain(f"in doubt: {_lost(host, fault)} after the final dot; {host.name} may hold a copy")
        case _:
            assert_never(outcome)


def describe_cause(cause: Cause) -> str:
    """Why a recipient was deferred or rejected: who said or did what, and when in the dialogue."""
    match cause:
        case Answered(host, stage, reply):
            return plain(f"{host} {_ANSWERED.get(stage, f'answered {stage} with')} {reply}")
        case NotConnected(host, fault):
            return plain(f"no connection to {host}: {fault}")
        case ConnectionLost(host, stage, fault):
            return plain(f"{_lost(host, fault)} {_while(stage)}")
        case Misbehaved(host, stage, detail):
            return plain(f"{host} did not keep to SMTP {_while(stage)}: {detail}")
        case NoSuchHost(domain, detail):
            return plain(f"nowhere to deliver mail for {domain}: {detail}")
        case DnsFailed(domain, detail):
            return plain(f"DNS gave no usable answer for {domain}: {detail}")
        case PolicyRefused(detail):
            return plain(detail)
        case LocalTrouble(detail):
            return plain(f"trouble on this machine: {detail}")
        case HttpAnswered(where, status, said):
            return plain(f"{where} answered {status}{f': {said}' if said else ''}")
        case ProgramEnded(program, how, said):
            return plain(f"{program} ended with {how}{f': {said}' if said else ''}")
        case Expired(after, last):
            return plain(f"given up after {after}; at last {describe(last)}")
        case _:
            assert_never(cause)


def _not_before(moment: Instant) -> str:
    """When trying again makes sense; nothing where nobody said so."""
    return f"; not before {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}Z" if moment else ""


def _while(stage: str) -> str:
    return _WHILE.get(stage, f"while waiting for the reply to {stage}")


def _lost(host: Host, fault: Fault) -> str:
    match fault.kind:
        case FaultKind.TLS | FaultKind.GARBLED | FaultKind.LOCAL:
            return f"{fault} on the connection to {host}"
        case FaultKind.REFUSED | FaultKind.UNREACHABLE | FaultKind.TIMED_OUT | FaultKind.CLOSED | FaultKind.RESET:
            return f"connection to {host} {fault}"
        case _:
            assert_never(fault.kind)


# ---- a report's fields
def report_fields(outcome: Outcome) -> ReportFields:
    """What a report about this outcome says of its recipient."""
    match outcome:
        case Delivered(where, reply):
            return ReportFields(
                status=str(reply.status),
                diagnostic=_diagnostic(reply),
                remote_mta=_remote_mta(where.partition("[")[0]),
                explanation=plain(f"The message was passed on to {where}."),
            )
        case Deferred(cause, status) | Rejected(cause, status):
            return ReportFields(
                status=str(status),
                diagnostic=_diagnostic_of(cause),
                remote_mta=_remote_mta_of(cause),
                explanation=_explain(cause),
            )
        case InDoubt(host):
            return ReportFields(
                status="4.4.2",  # bad connection (RFC 3463 §3.5)
                diagnostic="",
                remote_mta=_remote_mta(host.name),
                explanation=plain(
                    f"The whole message was sent to {host.name}, but the connection broke before it confirmed receipt: "
                    "it may already have been delivered, and the recipient may get it twice."
                ),
            )
        case _:
            assert_never(outcome)


def _diagnostic(reply: Reply) -> str:
    return plain(f"smtp; {reply}")


def _diagnostic_of(cause: Cause) -> str:
    match cause:
        case Answered(_, _, reply):
            return _diagnostic(reply)
        case HttpAnswered(_, status, said):
            return plain(f"x-http; {status} {said}".rstrip())
        case ProgramEnded(_, how, said):
            return plain(f"x-unix; {how}{f': {said}' if said else ''}")
        case Expired(_, last):
            return report_fields(last).diagnostic
        case _:
            return ""


def _remote_mta(name: str) -> str:
    if not name or name.startswith("/") or not name.isascii() or not name.isprintable() or " " in name:
        return ""  # a Unix socket, a Maildir …: RFC 3464 §2.3.5 knows the type "dns" only
    if ":" in name:
        return f"dns; [IPv6:{name}]"
    if name[-1].isdigit() and not name.startswith("["):  # no top-level domain ends in a digit (RFC 3696 §2)
        return f"dns; [{name}]"
    return f"dns; {name}"


def _remote_mta_of(cause: Cause) -> str:
    match cause:
        case Answered(host) | NotConnected(host) | ConnectionLost(host) | Misbehaved(host):
            return _remote_mta(host.name)
        case HttpAnswered(where):
            return _remote_mta(where.partition(":")[0])
        case NoSuchHost() | DnsFailed() | PolicyRefused() | LocalTrouble() | ProgramEnded():
            return ""
        case Expired(_, last):
            return report_fields(last).remote_mta
        case _:
            assert_never(cause)


def _explain(cause: Cause) -> str:
    """A sentence for the author of the message, who knows no SMTP; what the peer said verbatim stands elsewhere."""
    match cause:
        case Answered(host, stage, reply):
            return plain(f"The mail server {host.name} {_answer(stage, reply)}.")
        case NotConnected(host, fault):
            return plain(f"The mail server {host.name} could not be reached: {fault}.")
        case ConnectionLost(host, _, fault):
            return plain(f"The connection to the mail server {host.name} broke before it took the message: {fault}.")
        case Misbehaved(host):
            return plain(f"The mail server {host.name} did not answer as a mail server must.")
        case NoSuchHost(domain, detail):
            return plain(f"No mail server could be found for {domain}: {detail}.")
        case DnsFailed(domain, detail):
            return plain(f"The mail servers of {domain} could not be looked up: {detail}.")
        case PolicyRefused(detail):
            return plain(f"{detail[:1].upper()}{detail[1:].removesuffix('.')}.")
        case LocalTrouble():
            return "This mail system had a trouble of its own; its administrators can find it in their log."
        case HttpAnswered(where, status):
            return plain(f"The application at {where} does not accept the message (HTTP status {status}).")
        case ProgramEnded():
            return "The program that handles mail for this address did not accept the message."
        case Expired(after, last):
            return plain(f"It could not be passed on within {after}. {report_fields(last).explanation}")
        case _:
            assert_never(cause)


def _answer(stage: str, reply: Reply) -> str:
    for_now = " for now" if reply.is_transient else ""
    return f"does not accept {_REFUSED.get(stage, 'mail from this mail system')}{for_now}"


# ---- the history's form
def as_details(outcome: Outcome) -> dict[str, object]:
    """The outcome as a JSON object: `outcome` and `text` always, the rest as it is known. Keys are the glossary's."""
    match outcome:
        case Delivered(where, reply, relayed_without_dsn):
            place, said = plain(where), plain(str(reply))
            details: dict[str, object] = {
                "outcome": "delivered",
                "text": f"delivered to {place}: {said}",
                "status": str(reply.status),
                "where": place,
                "reply": said,
            }
            if relayed_without_dsn:
                details["relayed_without_dsn"] = True
            return details
        case Deferred(cause, status, not_before):
            later = {"not_before": not_before} if not_before else {}
            told = {"outcome": "deferred", "text": describe(outcome), "status": str(status)}
            return told | later | _cause_details(cause)
        case Rejected(cause, status):
            return {"outcome": "rejected", "text": describe(outcome), "status": str(status)} | _cause_details(cause)
        case InDoubt(host, fault):
            return {
                "outcome": "in doubt",
                "text": describe(outcome),
                "status": "4.4.2",
                "fault": plain(str(fault)),
                "stage": "final dot",
            } | _host_details(host)
        case _:
            assert_never(outcome)


def _host_details(host: Host) -> dict[str, object]:
    return {"host": plain(host.name), "address": str(host.endpoint)}


def _cause_details(cause: Cause) -> dict[str, object]:
    match cause:
        case Answered(host, stage, reply):
            return {"cause": "answered", "stage": stage, "reply": plain(str(reply))} | _host_details(host)
        case NotConnected(host, fault):
            return {"cause": "not connected", "fault": plain(str(fault))} | _host_details(host)
        case ConnectionLost(host, stage, fault):
            return {"cause": "connection lost", "stage": stage, "fault": plain(str(fault))} | _host_details(host)
        case Misbehaved(host, stage, detail):
            return {"cause": "misbehaved", "stage": stage, "detail": plain(detail)} | _host_details(host)
        case NoSuchHost(domain, detail):
            return {"cause": "no such host", "domain": plain(domain), "detail": plain(detail)}
        case DnsFailed(domain, detail):
            return {"cause": "DNS failed", "domain": plain(domain), "detail": plain(detail)}
        case PolicyRefused(detail):
            return {"cause": "policy refused", "detail": plain(detail)}
        case LocalTrouble(detail):
            return {"cause": "local trouble", "detail": plain(detail)}
        case HttpAnswered(where, status, said):
            return {"cause": "HTTP answered", "host": plain(where), "http_status": status, "reply": plain(said)}
        case ProgramEnded(program, how, said):
            return {"cause": "program ended", "program": plain(program), "fault": plain(how), "reply": plain(said)}
        case Expired(after, last):
            return {"cause": "expired", "after": plain(after), "last": as_details(last)}
        case _:
            assert_never(cause)
