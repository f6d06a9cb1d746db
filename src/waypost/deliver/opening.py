"""How a session with one host is opened, and what each failure of it leads to. Tables and pure functions; no I/O.

The theory. A server that breaks on EHLO (it hangs up, resets, stalls, answers garbage) may well take mail with HELO: so
the same address is dialled again and greeted with HELO, once an attempt, before any other host is tried. That costs
every extension, so it is done only where none is needed and none was ever seen: on a route that needs TLS, AUTH or
SMTPUTF8, or with a host that has offered STARTTLS before, a broken EHLO may be an attacker's work, and HELO would be
the downgrade he is after. There EHLO is said once more on a new connection, and that is all.

A 5yz to EHLO leads to HELO on the *same* connection (RFC 5321 §3.2): waypost.smtp.client does that by itself.

A table has one row a state (`At`) and one column a kind of failure (`Slip`); policy chooses the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, assert_never

from waypost.deliver.memory import Habit
from waypost.net.stream import Fault, FaultKind
from waypost.route.level import TlsLevel
from waypost.route.route import HeloFallback
from waypost.smtp.event import OpeningRefused, PeerClosing, Violation
from waypost.smtp.stage import Opening, Stage, Tls


class At(Enum):
    """Where an opening stood when it failed."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO_AFTER_EHLO = "HELO, on the connection that refused EHLO"
    HELO = "HELO, on a connection of its own"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    EHLO_AFTER_TLS = "EHLO under TLS"
    XCLIENT = "XCLIENT"
    AUTH = "AUTH"


class Slip(Enum):
    """How it failed."""

    CUT = "connection lost"  # FIN, RST, half a reply, a write that failed
    STALLED = "no reply in time"  # or one that dripped
    GARBLED = "no SMTP reply"  # garbage, NUL, over-long, endless, mixed codes
    CLOSING = "421"
    TRANSIENT = "4yz"
    PERMANENT = "5yz"
    ODD = "3yz"  # out of place
    LACKING = "2yz, but something needed is missing"  # no STARTTLS, no mechanism of ours


class Step(Enum):
    """What follows."""

    HELO_NEW_CONNECTION = "new connection to the same address, HELO first"
    EHLO_AGAIN = "new connection to the same address, EHLO once more"
    CLEAR_NEW_CONNECTION = "new connection to the same address, without TLS"
    NEXT_HOST = "next host"
    HOLD_ROUTE = "route held: its credentials were refused"


Row: TypeAlias = Mapping[Slip, Step]
Table: TypeAlias = Mapping[At, Row]


def _row(*steps: Step) -> Row:
    return dict(zip(Slip, steps, strict=True))


_HELO, _EHLO, _CLEAR, _NEXT, _HOLD = Step
_ON: Final = _row(_NEXT, _NEXT, _NEXT, _NEXT, _NEXT, _NEXT, _NEXT, _NEXT)

#: The rows no policy changes. 421 and 4yz never lead to HELO: the host is up and asks for time, not for an older verb.
_EVERYWHERE: Final[Table] = {
    #                          CUT    STALLED GARBLED 421    4yz    5yz    3yz    LACKING
    At.GREETING:          _ON,
    At.HELO_AFTER_EHLO:   _row(_HELO,  _NEXT,  _NEXT,  _NEXT, _NEXT, _NEXT, _NEXT, _NEXT),
    At.HELO:              _ON,
    At.LHLO:              _ON,
    At.XCLIENT:           _ON,
    At.AUTH:              _row(_NEXT,  _NEXT,  _NEXT,  _NEXT, _NEXT, _HOLD, _NEXT, _NEXT),
}  # fmt: skip

#: A host of which nothing is known, on a route that needs no extension.
_ANY_HOST: Final[Table] = {
    At.EHLO:              _row(_HELO,  _HELO,  _HELO,  _NEXT, _NEXT, _NEXT, _HELO, _NEXT),
}  # fmt: skip

#: A host that has offered STARTTLS, or a route that needs an extension.
_ESMTP_HOST: Final[Table] = {
    At.EHLO:              _row(_EHLO,  _EHLO,  _EHLO,  _NEXT, _NEXT, _NEXT, _EHLO, _NEXT),
}  # fmt: skip

#: TLS is welcome, not needed: where it fails, once in clear. A loss under TLS is counted as TLS that failed.
_TLS_WELCOME: Final[Table] = {
    At.STARTTLS:          _row(_CLEAR, _CLEAR, _CLEAR, _NEXT, _CLEAR, _CLEAR, _CLEAR, _CLEAR),
    At.HANDSHAKE:         _row(_CLEAR, _CLEAR, _CLEAR, _NEXT, _CLEAR, _CLEAR, _CLEAR, _CLEAR),
    At.EHLO_AFTER_TLS:    _row(_CLEAR, _NEXT,  _NEXT,  _NEXT, _NEXT,  _NEXT,  _NEXT,  _NEXT),
}  # fmt: skip

#: Never in clear.
_TLS_NEEDED: Final[Table] = {
    At.STARTTLS:          _ON,
    At.HANDSHAKE:         _ON,
    At.EHLO_AFTER_TLS:    _ESMTP_HOST[At.EHLO],
}  # fmt: skip

#: Under TLS from the first octet: HELO gives up no TLS, only what else EHLO has.
_TLS_FIRST: Final[Table] = {
    At.STARTTLS:          _ON,
    At.HANDSHAKE:         _ON,
    At.EHLO_AFTER_TLS:    _ANY_HOST[At.EHLO],
}  # fmt: skip

UNKNOWN_HOST: Final[Table] = {**_EVERYWHERE, **_ANY_HOST, **_TLS_WELCOME}
KNOWN_HOST: Final[Table] = {**_EVERYWHERE, **_ESMTP_HOST, **_TLS_WELCOME}
STRICT_TLS: Final[Table] = {**_EVERYWHERE, **_ESMTP_HOST, **_TLS_NEEDED}
IMPLICIT_TLS: Final[Table] = {**_EVERYWHERE, **_ANY_HOST, **_TLS_FIRST}


@dataclass(frozen=True, slots=True)
class Approach:
    """How one connection to an address is opened. `taken`: the steps that led here, none of which is taken twice."""

    opening: Opening
    tls: Tls
    table: Table
    taken: tuple[Step, ...] = ()

    @property
    def says_helo(self) -> bool:
        """Whether it is opened with HELO, and so has no extension."""
        return self.opening is Opening.HELO_FIRST

    @property
    def is_lmtp(self) -> bool:
        """Whether each recipient is answered for itself after the final dot (RFC 2033 §4.2)."""
        return self.opening is Opening.LHLO


def first_approach(
    level: TlsLevel, habit: Habit, *, needs_extension: bool, fallback: HeloFallback = HeloFallback.UNLESS_TLS
) -> Approach:
    """How to open a session with a host of this habit; `needs_extension`: AUTH or SMTPUTF8 (TLS is in `level`)."""
    match level:
        case TlsLevel.REQUIRED | TlsLevel.VERIFIED | TlsLevel.DANE:
            return Approach(Opening.EHLO_ONLY, Tls.REQUIRED, STRICT_TLS)
        case TlsLevel.OPPORTUNISTIC | TlsLevel.NONE:
            tls = Tls.IF_OFFERED if level is TlsLevel.OPPORTUNISTIC else Tls.NEVER
        case _:
            assert_never(level)
    offered = habit is Habit.OFFERED_STARTTLS and fallback is not HeloFallback.ALWAYS
    if needs_extension or offered or fallback is HeloFallback.NEVER:
        return Approach(Opening.EHLO_ONLY, tls, KNOWN_HOST)
    if habit is Habit.HELO_ONLY:
        return Approach(Opening.HELO_FIRST, Tls.NEVER, UNKNOWN_HOST)
    return Approach(Opening.EHLO_THEN_HELO, tls, UNKNOWN_HOST)


def implicit_tls_approach(habit: Habit, *, needs_extension: bool) -> Approach:
    """How to open a session under TLS from the first octet; `needs_extension`: AUTH or SMTPUTF8."""
    if needs_extension:
        return Approach(Opening.EHLO_ONLY, Tls.ALREADY, STRICT_TLS)
    opening = Opening.HELO_FIRST if habit is Habit.HELO_ONLY else Opening.EHLO_THEN_HELO
    return Approach(opening, Tls.ALREADY, IMPLICIT_TLS)


def lmtp_approach() -> Approach:
    """LMTP knows one greeting and no fallback (RFC 2033 §4.1)."""
    return Approach(Opening.LHLO, Tls.NEVER, UNKNOWN_HOST)


def after(approach: Approach, at: At, slip: Slip) -> Approach | Step:
    """What follows the failure `slip` at `at`: another approach to the same address, or the step that leaves it.

    No step is taken twice for one address, so the approaches end.
    """
    step = approach.table[at][slip]
    if step in approach.taken:
        return Step.NEXT_HOST
    taken = (*approach.taken, step)
    match step:
        case Step.HELO_NEW_CONNECTION:
            return Approach(Opening.HELO_FIRST, Tls.NEVER, approach.table, taken)
        case Step.EHLO_AGAIN:
            return Approach(approach.opening, approach.tls, approach.table, taken)
        case Step.CLEAR_NEW_CONNECTION:  # it has offered STARTTLS just now: a known host
            return Approach(Opening.EHLO_ONLY, Tls.NEVER, KNOWN_HOST, taken)
        case Step.NEXT_HOST | Step.HOLD_ROUTE:
            return step
        case _:
            assert_never(step)


def where(stage: Stage, opening: Opening, *, secured: bool) -> At:
    """The row for a failure while a session stood at `stage`; `secured`: under TLS."""
    match stage:
        case Stage.EHLO:
            return At.EHLO_AFTER_TLS if secured else At.EHLO
        case Stage.HELO:
            return At.HELO if opening is Opening.HELO_FIRST else At.HELO_AFTER_EHLO
        case Stage.LHLO:
            return At.LHLO
        case Stage.STARTTLS:
            return At.STARTTLS
        case Stage.HANDSHAKE:
            return At.HANDSHAKE
        case Stage.XCLIENT:
            return At.XCLIENT
        case Stage.AUTH:
            return At.AUTH
        case _:  # before the first reply; a stage past the opening cannot fail the opening
            return At.GREETING


def slip_of(failure: Fault | Violation | PeerClosing | OpeningRefused) -> Slip:
    """The column for a failure."""
    match failure:
        case Fault(FaultKind.TIMED_OUT):
            return Slip.STALLED
        case Fault(FaultKind.GARBLED) | Violation():
            return Slip.GARBLED
        case Fault():
            return Slip.CUT
        case PeerClosing(reply) | OpeningRefused(_, reply):
            return Slip.CLOSING if reply.code == 421 else _BY_DIGIT[reply.code // 100]
        case _:
            assert_never(failure)


_BY_DIGIT: Final = {2: Slip.LACKING, 3: Slip.ODD, 4: Slip.TRANSIENT, 5: Slip.PERMANENT}
