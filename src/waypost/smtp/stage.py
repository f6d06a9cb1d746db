"""Where a client's session stands, and what a reply leads to: the stages, and the tables of opening and transaction.

One row a stage, one column a first digit (RFC 5321 §4.3.2 bids a client read no more). Policy chooses a table; it is
never a flag in the loop. The first digit of a code decides (RFC 5321 §4.2), so that a code nobody has listed means what
its class means; but for the few codes that belong to one moment alone (`can_answer`). Out of their place they tell of a
peer out of step.

Not here: what is said at a stage (client.py), and time-outs, which are chosen by it (deliver/connection.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from waypost.smtp.login import Credentials, NoCredentials
from waypost.smtp.reply import Reply


class Stage(Enum):
    """Where a session stands: the reply it waits for, or what it is free to do. Time-outs are chosen by it."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    XCLIENT = "XCLIENT"
    AUTH = "AUTH"
    READY = "ready"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "body"
    DOT = "final dot"
    RSET = "RSET"
    ASKED = "command"
    QUIT = "QUIT"
    CLOSED = "closed"

    __hash__ = object.__hash__  # as good, and no call of a Python function for every look-up in a table


class Opening(Enum):
    """Which table opens the session. Policy chooses one; it is never a flag in the loop."""

    EHLO_THEN_HELO = "EHLO, HELO where it is refused"
    EHLO_ONLY = "EHLO, never HELO: the route needs an extension"
    HELO_FIRST = "HELO, for a host that failed on EHLO"
    LHLO = "LHLO (LMTP, RFC 2033)"


class Tls(Enum):
    """What the session does about STARTTLS in its opening."""

    NEVER = "never"
    IF_OFFERED = "if offered"
    REQUIRED = "required"
    ALREADY = "already"  # implicit TLS


# ---- the tables of the opening

#: A cell is the stage that a first digit leads to. READY in it means "as far as this command goes": what the route
#: wants beside (STARTTLS, AUTH) comes before READY is real. QUIT means that the opening is refused.
_Row: TypeAlias = tuple[Stage, Stage, Stage, Stage]
_REFUSED: Final = (Stage.QUIT, Stage.QUIT, Stage.QUIT)

OPENING: Final[dict[Stage, _Row]] = {
    #                 2yz          3yz         4yz         5yz
    Stage.GREETING: (Stage.EHLO, Stage.QUIT, Stage.QUIT, Stage.QUIT),
    Stage.EHLO: (Stage.READY, Stage.QUIT, Stage.QUIT, Stage.HELO),  # RFC 5321 §3.2: an older server; ask again
    Stage.HELO: (Stage.READY, Stage.QUIT, Stage.QUIT, Stage.QUIT),
    Stage.STARTTLS: (Stage.HANDSHAKE, Stage.QUIT, Stage.READY, Stage.READY),  # refused: go on in clear
    Stage.XCLIENT: (Stage.EHLO, Stage.QUIT, Stage.QUIT, Stage.QUIT),  # the session begins anew, as another's
    Stage.AUTH: (Stage.READY, Stage.AUTH, Stage.QUIT, Stage.QUIT),
}
#: On a route that needs an extension, and after STARTTLS: HELO offers no extension.
OPENING_ESMTP: Final = OPENING | {Stage.EHLO: (Stage.READY, *_REFUSED)}
#: For a host that is known to fail on EHLO.
OPENING_HELO: Final = OPENING | {Stage.GREETING: (Stage.HELO, *_REFUSED)}
#: RFC 2033 §4.1: LMTP knows neither EHLO nor HELO.
OPENING_LMTP: Final = OPENING | {
    Stage.GREETING: (Stage.LHLO, *_REFUSED),
    Stage.LHLO: (Stage.READY, *_REFUSED),
    Stage.XCLIENT: (Stage.LHLO, *_REFUSED),
}

_TABLES: Final[Mapping[Opening, Mapping[Stage, _Row]]] = {
    Opening.EHLO_THEN_HELO: OPENING,
    Opening.EHLO_ONLY: OPENING_ESMTP,
    Opening.HELO_FIRST: OPENING_HELO,
    Opening.LHLO: OPENING_LMTP,
}
_NO_CLEAR: Final = {Stage.STARTTLS: (Stage.HANDSHAKE, *_REFUSED)}


def opening_table(opening: Opening, tls: Tls, credentials: Credentials | NoCredentials) -> Mapping[Stage, _Row]:
    """The table for a session. Where TLS or AUTH is needed, a refused EHLO leads to no HELO: HELO offers neither."""
    if opening is Opening.EHLO_THEN_HELO and (tls is Tls.REQUIRED or isinstance(credentials, Credentials)):
        opening = Opening.EHLO_ONLY
    return {**_TABLES[opening], **_NO_CLEAR} if tls is Tls.REQUIRED else _TABLES[opening]


def after(stage: Stage, reply: Reply, table: Mapping[Stage, _Row]) -> Stage:
    """Where `reply` leads. 421 ends every stage alike: the host is going away (RFC 5321 §3.8), no HELO will keep it."""
    return Stage.QUIT if reply.code == 421 else table[stage][reply.code // 100 - 2]


#: What has one code only (RFC 3207 §4, RFC 4954 §4, RFC 5321 §4.3.2), by stage and first digit. A banner of 250 answers
#: a command that nobody has said: the peer still speaks to somebody else.
_ONLY: Final = {
    (Stage.GREETING, 2): 220,
    (Stage.STARTTLS, 2): 220,
    (Stage.XCLIENT, 2): 220,
    (Stage.AUTH, 3): 334,
    (Stage.DATA, 3): 354,
}


def can_answer(stage: Stage, code: int) -> bool:
    """Whether `code` can be said at `stage`: 220 greets or begins TLS, 221 takes leave; neither answers more."""
    if code in {220, 221}:
        return code == 220 and stage in {Stage.GREETING, Stage.STARTTLS, Stage.XCLIENT}
    answer = (stage, code // 100)
    return answer not in _ONLY or _ONLY[answer] == code


# ---- the table of a transaction


class Verdict(Enum):
    """What a reply says of the command it answers."""

    TAKEN = auto()
    REFUSED = auto()
    ODD = auto()  # not a reply this command can have: the peer is out of step


#: What a first digit says at each stage of a transaction.
TRANSACTION: Final = {
    #             2yz            3yz            4yz              5yz
    Stage.MAIL: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.RCPT: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.DATA: (Verdict.ODD, Verdict.TAKEN, Verdict.REFUSED, Verdict.REFUSED),  # 2yz is no leave to send a body
    Stage.DOT: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.RSET: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
    Stage.ASKED: (Verdict.TAKEN, Verdict.ODD, Verdict.REFUSED, Verdict.REFUSED),
}
