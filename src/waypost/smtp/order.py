"""The order of a server's commands: what has been agreed so far (the states), and what may then be said (the table).

One table, and three more that follow from it: before TLS where no mail may come in clear, without TLS, and under it.

Not here: whether a command is written right (command.py) and granted (the caller), and what its acceptance changes
beside the state (agreement.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from waypost.smtp.answer import (
    CHUNK_DUE,
    CHUNK_LOST,
    HELLO_DUE,
    IN_TRANSACTION,
    MAIL_DUE,
    NOT_OFFERED,
    QUIT_DUE,
    RCPT_DUE,
    TLS_DUE,
    TOO_LATE,
    UNDER_TLS,
)
from waypost.smtp.command import Atrn, Verb, Xclient
from waypost.smtp.event import DataStart, StartTls
from waypost.smtp.reply import Reply
from waypost.smtp.settings import ServerSettings


class State(Enum):
    """What has been agreed so far, and so which commands make sense."""

    NEW = auto()  # the banner has not been said: nothing is read
    CONNECTED = auto()  # greeted with 220
    TURNED_AWAY = auto()  # greeted with 4yz or 5yz: only QUIT makes sense (RFC 5321 §3.1)
    READY = auto()  # EHLO, HELO or LHLO accepted
    AUTH = auto()  # a challenge was said: its response is due
    HANDSHAKE = auto()  # 220 said to STARTTLS: what comes next is TLS, or nothing of worth
    TURNED = auto()  # 250 said to ATRN: the client is the server now
    MAIL = auto()  # a transaction is open, without recipients
    RCPT = auto()  # with at least one
    BODY = auto()  # 354 said
    CHUNK = auto()  # within the octets of a BDAT
    CHUNKS = auto()  # between two of them
    CLOSED = auto()

    # A member is equal to itself alone. Enum hashes the name instead, in Python, at each look into `ORDER`.
    __hash__ = object.__hash__


#: Those in which a transaction is open, and commands are read.
WITH_TRANSACTION: Final = frozenset({State.MAIL, State.RCPT, State.CHUNKS})

# The columns of the table: commands that share their cells.
_HELLO, _HELO, _STARTTLS, _AUTH, _MAIL, _RCPT, _DATA, _BDAT, _RSET, _NOOP, _XCLIENT, _ATRN, _OTHER, _QUIT = range(14)
#: Those behind which a client has to wait for the reply.
ENDS_A_GROUP: Final = (_HELLO, _HELO, _STARTTLS, _AUTH, _DATA, _XCLIENT, _ATRN)
#: Why a session ends where somebody put octets between STARTTLS and the handshake (CVE-2011-0411 and its kin).
INJECTED: Final = "octets in clear where the TLS handshake was due"
#: The same where they come before the reply, by the request that was to be answered; of EHLO and AUTH it is not asked.
TOO_SOON: Final[Mapping[type, str]] = {
    StartTls: INJECTED,
    DataStart: "the client sent its body before 354",
    Atrn: "the client said more behind ATRN",
    Xclient: "the client said more behind XCLIENT",
}
#: Those that are taken where no mail may come in clear (RFC 3207 §4). XCLIENT comes of whom the administrator trusts.
_BEFORE_TLS: Final = (_HELLO, _STARTTLS, _NOOP, _XCLIENT, _QUIT)
#: The column of each command.
COLUMN: Final[Mapping[Verb, int]] = dict.fromkeys(Verb, _OTHER) | {
    Verb.EHLO: _HELLO,
    Verb.HELO: _HELO,
    Verb.LHLO: _HELLO,
    Verb.AUTH: _AUTH,
    Verb.STARTTLS: _STARTTLS,
    Verb.MAIL: _MAIL,
    Verb.RCPT: _RCPT,
    Verb.DATA: _DATA,
    Verb.BDAT: _BDAT,
    Verb.RSET: _RSET,
    Verb.NOOP: _NOOP,
    Verb.XCLIENT: _XCLIENT,
    Verb.ATRN: _ATRN,
    Verb.QUIT: _QUIT,
}

#: One row a state in which commands are read, one column a command; a cell is the state that its acceptance leads to,
#: or the reply to it when it comes out of order (RFC 5321 §4.1.4). A command that is refused leaves the state as it is.
Order: TypeAlias = Mapping[State, tuple[State | Reply, ...]]

_CONNECTED, _READY, _CLOSED = State.CONNECTED, State.READY, State.CLOSED
#: Where STARTTLS is on offer, and mail is taken without it.
ORDER: Final[Order] = {
    # EHLO or LHLO, HELO, STARTTLS, AUTH, MAIL, RCPT,
    # DATA, BDAT, RSET, NOOP,
    # XCLIENT, ATRN, others, QUIT
    State.CONNECTED: (
        *(_READY, _READY, HELLO_DUE, HELLO_DUE, HELLO_DUE, HELLO_DUE),
        *(HELLO_DUE, HELLO_DUE, _CONNECTED, _CONNECTED),
        *(_CONNECTED, HELLO_DUE, _CONNECTED, _CLOSED),
    ),
    State.READY: (
        *(_READY, _READY, State.HANDSHAKE, State.AUTH, State.MAIL, MAIL_DUE),
        *(MAIL_DUE, CHUNK_LOST, _READY, _READY),
        *(_CONNECTED, State.TURNED, _READY, _CLOSED),
    ),
    State.MAIL: (
        *(_READY, _READY, TOO_LATE, TOO_LATE, IN_TRANSACTION, State.RCPT),
        *(RCPT_DUE, RCPT_DUE, _READY, State.MAIL),
        *(TOO_LATE, TOO_LATE, State.MAIL, _CLOSED),
    ),
    State.RCPT: (
        *(_READY, _READY, TOO_LATE, TOO_LATE, IN_TRANSACTION, State.RCPT),
        *(State.BODY, State.CHUNK, _READY, State.RCPT),
        *(TOO_LATE, TOO_LATE, State.RCPT, _CLOSED),
    ),
    State.CHUNKS: (
        *(_READY, _READY, TOO_LATE, TOO_LATE, CHUNK_DUE, CHUNK_DUE),
        *(CHUNK_DUE, State.CHUNK, _READY, State.CHUNKS),
        *(TOO_LATE, TOO_LATE, State.CHUNKS, _CLOSED),
    ),
    State.TURNED_AWAY: (*[QUIT_DUE] * 13, _CLOSED),
}
#: The same where no mail may come in clear, as long as TLS has not begun (RFC 3207 §4).
ORDER_BEFORE_TLS: Final[Order] = {
    state: tuple(cell if column in _BEFORE_TLS else TLS_DUE for column, cell in enumerate(row))
    for state, row in ORDER.items()
    if state in (State.CONNECTED, State.READY)
} | {State.TURNED_AWAY: ORDER[State.TURNED_AWAY]}


def _with_starttls(cell: Reply) -> Order:
    return {
        state: row if state is State.TURNED_AWAY else (*row[:_STARTTLS], cell, *row[_STARTTLS + 1 :])
        for state, row in ORDER.items()
    }


#: Where there is no STARTTLS.
ORDER_WITHOUT_TLS: Final = _with_starttls(NOT_OFFERED)
#: From the handshake on.
ORDER_UNDER_TLS: Final = _with_starttls(UNDER_TLS)


def order_table(settings: ServerSettings, *, secured: bool) -> Order:
    """The table for a session, or from its handshake on."""
    if secured:
        return ORDER_UNDER_TLS
    if not settings.starttls:
        return ORDER_WITHOUT_TLS
    return ORDER_BEFORE_TLS if settings.tls_required else ORDER
