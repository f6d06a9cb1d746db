"""From a command to a request: what MAIL, RCPT, EHLO and their like ask of the caller, or the reply that refuses them.

One reader a verb; each is given what stands behind the verb, and what has been agreed so far.

At the end stand the answers to commands that nobody but the session need hear of.

Not here: whether the command may come now (order.py), and how its argument is written (command.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from waypost.smtp.agreement import Agreement, domain_of
from waypost.smtp.answer import (
    AUTHENTICATED,
    HELLO_DUE,
    HELP,
    LOGIN_DUE,
    NO_ARGUMENT,
    NO_DATA,
    NO_SUCH_MECHANISM,
    NOT_OFFERED,
    OK,
    TLS_FIRST,
    TOO_LATE,
    TOO_MANY_DOMAINS,
    TOO_MANY_RECIPIENTS,
    UNKNOWN,
)
from waypost.smtp.command import (
    Atrn,
    Auth,
    Etrn,
    Hello,
    Mail,
    Rcpt,
    Verb,
    Xclient,
    parse_atrn,
    parse_auth,
    parse_etrn,
    parse_hello,
    parse_mail,
    parse_rcpt,
    parse_vrfy,
    parse_xclient,
)
from waypost.smtp.event import DATA_START, START_TLS, DataStart, Request, StartTls
from waypost.smtp.order import State
from waypost.smtp.reply import Reply


def _mail(argument: str, agreed: Agreement) -> Mail | Reply:
    mail = parse_mail(argument, agreed.offers)
    limit = agreed.settings.size_limit
    if isinstance(mail, Mail) and 0 < limit < mail.parameters.size:
        return Reply.of(552, "5.3.4", f"{mail.parameters.size} octets are more than the {limit} taken here")
    return mail


def _rcpt(argument: str, agreed: Agreement) -> Rcpt | Reply:
    if agreed.recipients >= agreed.settings.max_recipients:
        return TOO_MANY_RECIPIENTS
    rcpt, most = parse_rcpt(argument, agreed.offers, utf8=agreed.utf8), agreed.settings.max_recipient_domains
    if most and isinstance(rcpt, Rcpt) and len(agreed.domains | {domain_of(rcpt)}) > most:
        return TOO_MANY_DOMAINS
    return rcpt


def _data(argument: str, agreed: Agreement) -> DataStart | Reply:
    if argument and argument.strip(" "):
        return NO_ARGUMENT
    return NO_DATA if agreed.binary else DATA_START


def _hello(verb: Verb) -> Callable[[str, Agreement], Hello | Reply]:
    """RFC 2033 §4.1: LMTP has LHLO and neither of the others."""

    def read(argument: str, agreed: Agreement) -> Hello | Reply:
        return parse_hello(verb, argument) if (verb is Verb.LHLO) is agreed.settings.lmtp else UNKNOWN

    return read


def _auth(argument: str, agreed: Agreement) -> Auth | Reply:
    agreed.heard_auth = True
    if not agreed.settings.mechanisms:
        return NOT_OFFERED
    if agreed.is_authenticated:
        return AUTHENTICATED
    if not agreed.mechanisms:
        return TLS_FIRST
    auth = parse_auth(argument)
    is_known = isinstance(auth, Reply) or auth.mechanism in agreed.mechanisms
    return auth if is_known else NO_SUCH_MECHANISM


def _starttls(argument: str, _agreed: Agreement) -> StartTls | Reply:
    return NO_ARGUMENT if argument.strip(" ") else START_TLS


def _xclient(argument: str, agreed: Agreement) -> Xclient | Reply:
    return parse_xclient(argument) if agreed.takes_xclient else NOT_OFFERED


def _atrn(argument: str, agreed: Agreement) -> Atrn | Reply:
    if not agreed.settings.atrn:
        return NOT_OFFERED
    return parse_atrn(argument) if agreed.is_authenticated else LOGIN_DUE


def _etrn(argument: str, agreed: Agreement) -> Etrn | Reply:
    """RFC 1985 §5.1: at any time but within a transaction."""
    if not agreed.settings.etrn:
        return NOT_OFFERED
    if agreed.state is not State.READY:
        return HELLO_DUE if agreed.state is State.CONNECTED else TOO_LATE
    return parse_etrn(argument)


#: The commands that the caller hears of, but for BDAT, behind which octets follow whatever it is answered.
REQUESTS: Final[Mapping[Verb, Callable[[str, Agreement], Request | Reply]]] = {
    Verb.EHLO: _hello(Verb.EHLO),
    Verb.HELO: _hello(Verb.HELO),
    Verb.LHLO: _hello(Verb.LHLO),
    Verb.STARTTLS: _starttls,
    Verb.AUTH: _auth,
    Verb.XCLIENT: _xclient,
    Verb.MAIL: _mail,
    Verb.RCPT: _rcpt,
    Verb.DATA: _data,
    Verb.ETRN: _etrn,
    Verb.ATRN: _atrn,
}


def _always(reply: Reply) -> Callable[[str], Reply]:
    def answer(_argument: str) -> Reply:
        return reply

    return answer


def _rset(argument: str) -> Reply:
    return NO_ARGUMENT if argument.strip(" ") else OK


#: What is answered to the commands that nobody but the session need hear of, but for QUIT: the session says goodbye.
ANSWERS: Final[Mapping[Verb, Callable[[str], Reply]]] = {
    Verb.RSET: _rset,
    Verb.NOOP: _always(OK),
    Verb.VRFY: parse_vrfy,
    Verb.EXPN: _always(NOT_OFFERED),
    Verb.HELP: _always(HELP),
    Verb.UNKNOWN: _always(UNKNOWN),
}
