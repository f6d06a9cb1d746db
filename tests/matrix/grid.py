"""What each fault of a next hop, in each state of a session with it, has to come to. Data; played by scene.py.

A row is a state, a column a fault, a cell an outcome. Every cell is named: one that cannot occur says why.
docs/fault-matrix.md is made of this module (page.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias


class State(Enum):
    """Where the session stands when the fault comes. The value is the row's name."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "EHLO"
    EHLO_KNOWN = "EHLO (known host)"
    HELO_SAME = "HELO (same conn.)"
    HELO_NEW = "HELO (new conn.)"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    STARTTLS_MUST = "STARTTLS (must)"
    HANDSHAKE = "handshake"
    HANDSHAKE_MUST = "handshake (must)"
    EHLO_TLS = "EHLO TLS"
    EHLO_TLS_MUST = "EHLO TLS (must)"
    AUTH = "AUTH"
    AUTH_CHALLENGED = "AUTH, challenged"
    MAIL = "MAIL"
    RCPT_FIRST = "RCPT (first)"
    RCPT_MIDDLE = "RCPT (middle)"
    RCPT_LAST = "RCPT (last)"
    DATA = "DATA"
    BODY = "body"
    DOT = "final dot"
    CHUNK = "last chunk"
    LMTP_REPLY = "LMTP reply 2 of 3"
    RSET = "RSET"
    QUIT = "QUIT"
    IDLE = "idle"
    MAIL_REUSED = "MAIL (on reuse)"


class Trouble(Enum):
    """What the next hop does wrong. The value is the column's name."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "time-out"
    FIN = "FIN"
    RST = "RST"
    HALF_CLOSE = "half-close"
    TRUNCATED = "half a reply"
    STALL = "stall"
    DRIP = "drip"
    GARBAGE = "garbage"
    NULS = "NULs"
    LONG = "over-long line"
    ENDLESS = "endless reply"
    MIXED = "two codes"
    ODD = "wrong 2yz, 3yz"
    CODE_421 = "421"
    CODE_4YZ = "4yz"
    CODE_5YZ = "5yz"
    NUL = "NUL in the text"
    BARE_LF = "bare LF"
    EARLY = "before the command"
    EXTRA = "extra reply"


class Code(Enum):
    """What a fault comes to. The value is how the table below writes it."""

    GOES_ON = "on"
    HELO = "HELO"
    HELO_HERE = "helo"
    EHLO = "EHLO"
    CLEAR = "CLR"
    CLEAR_HERE = "clr"
    AGAIN = "AGN"
    NEXT = "NXT"
    NEXT_ALONE = "nxt"
    LAST_WORDS = "nxt?"
    REJECTED = "REJ"
    REJECTED_ALONE = "rej"
    IN_DOUBT = "DBT"
    HELD = "HLD"


class Never(Enum):
    """Why a cell cannot occur. The value is how the table below writes it."""

    CONNECTED = "-c"
    NO_CONNECTION = "-n"
    FIRST_WORD = "-f"
    RECORDS = "-r"
    SAME_INSTANT = "-s"
    NOTHING_DUE = "-d"
    ONE_COMMAND = "-o"


Cell: TypeAlias = Code | Never

TABLE: Final = """
                  ref unr tmo|FIN  RST  half part stal drip|garb NULs long end  mix |odd  421  4yz 5yz |NUL LF  ear  ext
connect           NXT NXT NXT|-n   -n   -n   -n   -n   -n  |-n   -n   -n   -n   -n  |-n   -n   -n  -n  |-n -n  -n   -n
banner            -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  -f   HELO
EHLO              -c  -c  -c |HELO HELO HELO HELO HELO HELO|HELO HELO HELO HELO HELO|HELO NXT  NXT helo|on on  HELO HELO
EHLO (known host) -c  -c  -c |EHLO EHLO EHLO EHLO EHLO EHLO|EHLO EHLO EHLO EHLO EHLO|EHLO NXT  NXT NXT |on on  EHLO EHLO
HELO (same conn.) -c  -c  -c |HELO HELO HELO HELO NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  NXT  NXT
HELO (new conn.)  -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  NXT  NXT
LHLO              -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  NXT  NXT
STARTTLS          -c  -c  -c |CLR  CLR  CLR  CLR  CLR  CLR |CLR  CLR  CLR  CLR  CLR |CLR  NXT  clr clr |on on  CLR  CLR
STARTTLS (must)   -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  NXT  NXT
handshake         -c  -c  -c |CLR  CLR  CLR  CLR  CLR  CLR |CLR  -r   -r   -r   -r  |-r   -r   -r  -r  |-r -r  -r   -r
handshake (must)  -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  -r   -r   -r   -r  |-r   -r   -r  -r  |-r -r  -r   -r
EHLO TLS          -c  -c  -c |CLR  CLR  CLR  CLR  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT NXT |on on  -s   NXT
EHLO TLS (must)   -c  -c  -c |EHLO EHLO EHLO EHLO EHLO EHLO|EHLO EHLO EHLO EHLO EHLO|EHLO NXT  NXT NXT |on on  -s   EHLO
AUTH              -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT HLD |on on  NXT  NXT
AUTH, challenged  -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT HLD |on on  NXT  NXT
MAIL              -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT REJ |on on  HELO NXT
RCPT (first)      -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  nxt rej |on on  NXT  NXT
RCPT (middle)     -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  nxt rej |on on  NXT  NXT
RCPT (last)       -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  nxt rej |on on  NXT  NXT
DATA              -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT REJ |on on  NXT  NXT
body              -c  -c  -c |NXT  NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT  NXT  NXT |NXT  NXT  NXT REJ |-d -d  -d   -d
final dot         -c  -c  -c |DBT  DBT  DBT  DBT  DBT  DBT |DBT  DBT  DBT  DBT  DBT |DBT  NXT  NXT REJ |on on  NXT  on
last chunk        -c  -c  -c |DBT  DBT  DBT  DBT  DBT  DBT |DBT  DBT  DBT  DBT  DBT |DBT  NXT  NXT REJ |on on  NXT  on
LMTP reply 2 of 3 -c  -c  -c |DBT  DBT  DBT  DBT  DBT  DBT |DBT  DBT  DBT  DBT  DBT |DBT  nxt? nxt rej |on on  -o   on
RSET              -c  -c  -c |AGN  AGN  AGN  AGN  AGN  AGN |AGN  AGN  AGN  AGN  AGN |AGN  AGN  AGN AGN |on AGN AGN  AGN
QUIT              -c  -c  -c |on   on   on   on   on   on  |on   on   on   on   on  |on   on   on  on  |on on  -d   on
idle              -c  -c  -c |AGN  AGN  AGN  AGN  -d   AGN |AGN  AGN  AGN  AGN  AGN |AGN  AGN  AGN AGN |-d -d  -d   AGN
MAIL (on reuse)   -c  -c  -c |AGN  AGN  AGN  AGN  AGN  AGN |AGN  AGN  AGN  AGN  AGN |AGN  AGN  NXT REJ |on on  AGN  NXT
"""
#: Where the fields of a row begin.
_NAME: Final = 18


def _read(table: str) -> Mapping[tuple[State, Trouble], Cell]:
    marks: dict[str, Cell] = {cell.value: cell for kind in (Code, Never) for cell in kind}
    cells = {}
    for line in table.strip("\n").splitlines()[1:]:
        words = line[_NAME:].replace("|", " ").split()
        for trouble, mark in zip(Trouble, words, strict=True):
            cells[State(line[:_NAME].strip()), trouble] = marks[mark]
    return cells


GRID: Final = _read(TABLE)

LEGEND: Final[Mapping[Cell, str]] = {
    Code.GOES_ON: "the fault has no effect on mail: the session goes on",
    Code.HELO: (
        "same attempt: a new connection to the same address, HELO first; once an address and attempt. LMTP has no "
        "HELO: NXT there"
    ),
    Code.HELO_HERE: "HELO on the same connection",
    Code.EHLO: "same attempt: a new connection to the same address, EHLO once more; never HELO",
    Code.CLEAR: "same attempt: a new connection to the same address, without TLS; once",
    Code.CLEAR_HERE: "the session goes on in clear, on the same connection",
    Code.AGAIN: "same attempt: a fresh connection to the same address; what the old one carried before stands",
    Code.NEXT: "same attempt: the next host; where none is left, deferred",
    Code.NEXT_ALONE: "NXT for that recipient alone; the others are delivered here",
    Code.LAST_WORDS: "NXT for that recipient, DBT for those after it; the replies before it stand",
    Code.REJECTED: "rejected: every recipient not yet answered; a report is due",
    Code.REJECTED_ALONE: "REJ for that recipient alone; the others are delivered here",
    Code.IN_DOUBT: (
        "in doubt: deferred for 15 minutes at least, no other host asked, the next attempt asks this host first; "
        "LMTP: the replies before it stand"
    ),
    Code.HELD: "deferred, no other host asked, the route rests for 15 minutes and the operator is told",
    Never.CONNECTED: "the connection stands already",
    Never.NO_CONNECTION: "there is no connection yet that it could come over",
    Never.FIRST_WORD: "the banner answers no command",
    Never.RECORDS: "TLS records are read here, and no replies: whatever is no record is garbage",
    Never.SAME_INSTANT: "EHLO leaves with the end of the handshake: nothing can come in between",
    Never.NOTHING_DUE: "no reply is due here; one that comes unasked has its column by its code",
    Never.ONE_COMMAND: "all these replies answer one final dot, which has been sent",
}

ROWS: Final[Mapping[State, str]] = {
    State.CONNECT: "the connection is asked for",
    State.BANNER: "the connection stands, the banner is due",
    State.EHLO: "EHLO to a host of which nothing is known, on a route that needs no extension",
    State.EHLO_KNOWN: "EHLO to a host that has offered STARTTLS before",
    State.HELO_SAME: "HELO after EHLO was refused with 5yz",
    State.HELO_NEW: "HELO on a new connection, after EHLO broke the first",
    State.LHLO: "LMTP's greeting",
    State.STARTTLS: "the reply to STARTTLS, TLS being welcome",
    State.STARTTLS_MUST: "the reply to STARTTLS, on a route that needs TLS",
    State.HANDSHAKE: "the TLS handshake, TLS being welcome",
    State.HANDSHAKE_MUST: "the TLS handshake, on a route that needs TLS",
    State.EHLO_TLS: "EHLO under TLS, TLS being welcome",
    State.EHLO_TLS_MUST: "EHLO under TLS, on a route that needs it",
    State.AUTH: "the reply to AUTH",
    State.AUTH_CHALLENGED: "the reply to the user name that AUTH LOGIN was asked for",
    State.MAIL: "the reply to MAIL on a new connection",
    State.RCPT_FIRST: "the reply to the first RCPT",
    State.RCPT_MIDDLE: "the reply to the second RCPT of three",
    State.RCPT_LAST: "the reply to the last RCPT of three",
    State.DATA: "the reply to DATA",
    State.BODY: "the body is being sent, the final dot has not left",
    State.DOT: "the final dot has left; LMTP: the reply to the only recipient",
    State.CHUNK: "the last octet of BDAT … LAST has left (RFC 3030), which is what the final dot is to DATA",
    State.LMTP_REPLY: "LMTP: the second recipient's reply after the final dot, the first having been 250",
    State.RSET: "RSET after a message whose only recipient was refused; the cell is that of the message after it",
    State.QUIT: "QUIT after a message; the cell is that message's",
    State.IDLE: "unasked, on a connection kept for the next message; the cell is that of the next message",
    State.MAIL_REUSED: "the reply to MAIL, the first command on a connection that has carried a message before",
}


@dataclass(frozen=True, slots=True)
class Note:
    """Why cells differ from their neighbours, or from what a reader may expect."""

    states: Sequence[State]
    troubles: Sequence[Trouble]
    text: str


_LOST: Final = (Trouble.FIN, Trouble.RST, Trouble.HALF_CLOSE, Trouble.TRUNCATED)
_LATE: Final = (Trouble.STALL, Trouble.DRIP)
_NONSENSE: Final = (
    Trouble.GARBAGE,
    Trouble.NULS,
    Trouble.LONG,
    Trouble.ENDLESS,
    Trouble.MIXED,
    Trouble.ODD,
)
_MAIL_TO_BODY: Final = (State.MAIL, State.DATA, State.BODY)

NOTES: Final = (
    Note(
        (State.BANNER,),
        (Trouble.EXTRA,),
        "What comes behind the banner is heard while EHLO is being said, and counts as garbage in answer to it.",
    ),
    Note(
        (State.BANNER,),
        (Trouble.CODE_5YZ,),
        "A banner speaks of us and of the host, not of a recipient: nothing is rejected for it, even where every host "
        "says so.",
    ),
    Note(
        (State.EHLO,),
        (*_LOST, *_LATE, *_NONSENSE),
        "The founding fault. The host may well take mail by HELO, so it is asked before any other host.",
    ),
    Note(
        (State.EHLO,),
        (Trouble.CODE_421, Trouble.CODE_4YZ),
        "The host knows EHLO and asks for time: HELO would only cost its extensions.",
    ),
    Note(
        (State.EHLO, State.EHLO_KNOWN, State.EHLO_TLS, State.EHLO_TLS_MUST),
        (Trouble.EXTRA,),
        "Whoever says more than was asked for is out of step, and does not speak ESMTP as it should: as for garbage.",
    ),
    Note(
        (State.MAIL,),
        (Trouble.EARLY,),
        "It comes with the reply to the greeting, and is an extra reply there.",
    ),
    Note(
        (State.EHLO_KNOWN,),
        (Trouble.CODE_5YZ,),
        "A host that has offered STARTTLS knows EHLO. HELO would give TLS up, which may be what an attacker is after.",
    ),
    Note(
        (State.HELO_SAME,),
        _LATE,
        "It took so long over HELO itself: on a new connection it would be HELO again, and might be as long again.",
    ),
    Note(
        (State.HELO_SAME, State.HELO_NEW),
        (Trouble.CODE_5YZ,),
        "A refused HELO is the host's policy against us, not a recipient's fault: deferred, not rejected.",
    ),
    Note(
        (State.STARTTLS,),
        (Trouble.CODE_4YZ, Trouble.CODE_5YZ),
        "A refusal leaves the session in step, and RFC 3207 §4 lets a client go on; a new connection gains nothing.",
    ),
    Note(
        (State.STARTTLS,),
        (Trouble.EARLY, Trouble.EXTRA),
        "Octets in clear where the handshake is due are thrown away unread with their connection (CVE-2011-0411). TLS "
        "that is only welcome promises nothing against somebody who can write there: he could hang up as well.",
    ),
    Note(
        (State.EHLO_TLS,),
        _LOST,
        "A loss right after the handshake is counted as TLS that failed; HELO would lose TLS all the same.",
    ),
    Note(
        (State.AUTH, State.AUTH_CHALLENGED),
        (Trouble.CODE_5YZ,),
        "Our credentials are wrong, which the mail cannot help, and each further try may lock the account.",
    ),
    Note(
        _MAIL_TO_BODY,
        (Trouble.CODE_4YZ,),
        "Nothing was accepted, so another host may be asked at once; deferred once all were.",
    ),
    Note(
        (State.RCPT_FIRST, State.RCPT_MIDDLE, State.RCPT_LAST),
        (Trouble.EXTRA,),
        "Where commands were pipelined, the extra reply shifts those behind it; DATA then meets 250, which is no leave "
        "to send a body.",
    ),
    Note(
        (State.BODY,),
        (Trouble.HALF_CLOSE,),
        "A peer that has ended its side can never answer the final dot; it is left before a dot could put the message "
        "in doubt.",
    ),
    Note(
        (State.DOT, State.LMTP_REPLY),
        (Trouble.CODE_421, Trouble.CODE_4YZ),
        "The reply was read: the host says that it kept nothing, so another may be asked at once and no double can "
        "come of it.",
    ),
    Note(
        (State.DOT, State.LMTP_REPLY),
        (Trouble.NUL, Trouble.BARE_LF),
        "The three digits are whole, and a client goes by them alone (RFC 5321 §4.3.2); to doubt such a delivery would "
        "make copies. After a bare LF the connection neither pipelines nor is used again.",
    ),
    Note(
        (State.DOT,),
        (Trouble.EARLY,),
        "An answer to a dot that was not sent: the body is not sent either, so nothing is in doubt.",
    ),
    Note(
        (State.DOT, State.LMTP_REPLY),
        (Trouble.EXTRA,),
        "The delivery that was read stands; the connection is not used again.",
    ),
    Note(
        (State.LMTP_REPLY,),
        (Trouble.CODE_421,),
        "421 answers one recipient, and closes before those after it are answered.",
    ),
    Note(
        (State.RSET,),
        (Trouble.BARE_LF,),
        "RSET was understood, but a peer that ends lines so is not used again.",
    ),
    Note(
        (State.MAIL_REUSED,),
        (*_LOST, Trouble.CODE_421, *_NONSENSE),
        "The connection died while it was idle, or is out of step, and nothing of this message was answered: it tells "
        "nothing of it. No octet of the body has left, so it can be said again.",
    ),
    Note(
        (State.MAIL_REUSED,),
        _LATE,
        "A first reply on a kept connection has a second, or ten times what the slowest reply on it took, 20 s at "
        "most. A fresh connection then has all of its five minutes.",
    ),
)


def notes_of(state: State, trouble: Trouble) -> Sequence[int]:
    """The numbers, from 1, of the notes on a cell."""
    return [number for number, note in enumerate(NOTES, 1) if state in note.states and trouble in note.troubles]
