"""Which fault strikes where, and how often: what `--fault STATE:FAULT` means. Values only; peer.py acts on them.

`ehlo:close*1` hangs up on the first EHLO and behaves from then on; `rcpt:550+2` refuses every RCPT after two good ones.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from waypost.smtp.reply import Reply

#: A fault that never wears off.
ALWAYS: Final = sys.maxsize


class State(Enum):
    """Where in the dialogue the peer is asked to misbehave."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    HELO = "helo"
    LHLO = "lhlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"  # while the body comes in, before its final dot
    DOT = "dot"
    RSET = "rset"
    QUIT = "quit"
    IDLE = "idle"  # after a message was answered, before the next command


class Way(Enum):
    """How the peer misbehaves; a reply code of one's own is an `Instead`."""

    CLOSE = "close"  # hang up without a reply
    RESET = "reset"  # the same by RST
    STALL = "stall"  # say nothing more
    DRIP = "drip"  # the right reply, an octet at a time
    GARBAGE = "garbage"  # a line that is no reply
    NUL = "nul"  # a NUL in the reply's text
    BARE_LF = "barelf"  # lines ended by LF alone
    LONG = "long"  # a line far over the limit
    ENDLESS = "endless"  # a multi-line reply that never ends
    TRUNCATED = "truncated"  # half a reply, then hang up
    WRONG = "wrong"  # a positive code that does not belong here
    EARLY = "early"  # the right reply, before the command
    EXTRA = "extra"  # the right reply, and one nobody asked for


@dataclass(frozen=True, slots=True)
class Instead:
    """A reply in place of the right one; 421 also hangs up."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Behave:
    """No fault is due."""


Fault: TypeAlias = Way | Instead
_ANYWHERE: Final = frozenset(Way)
_HANGING_UP: Final = frozenset({Way.CLOSE, Way.RESET, Way.STALL})
#: Where only some faults have a meaning.
_MEANINGFUL: Final = {
    State.CONNECT: _HANGING_UP,
    State.BANNER: _ANYWHERE - {Way.EARLY},
    State.BODY: _ANYWHERE - {Way.EARLY},
    State.IDLE: _HANGING_UP | {Way.GARBAGE},
}
#: What stands for a whole class of replies.
_CLASSES: Final = {"4xx": "451", "5xx": "550"}
_PLAN: Final = re.compile(r"(?P<state>\w+):(?P<fault>[^*+]+)(?:\+(?P<skip>\d+))?(?:\*(?P<times>\d+|always))?")
_INSTEAD: Final = re.compile(r"(?P<code>[2-5]\d\d)(?: (?P<text>.*))?")


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault, where it strikes, and which occurrences of that state: after `skip` good ones, `times` times."""

    state: State
    fault: Fault
    skip: int = 0
    times: int = ALWAYS

    @classmethod
    def parse(cls, text: str, *, times: int = ALWAYS) -> PlannedFault:
        """Read `STATE:FAULT[+SKIP][*TIMES]`; `times` holds where the text names none.

        Raises: ValueError, with what is allowed in that place.
        """
        found = _PLAN.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not STATE:FAULT, such as ehlo:close or rcpt:550*1")
        state = _state(found["state"])
        named = found["times"]
        return cls(
            state,
            _fault(state, found["fault"]),
            skip=int(found["skip"] or 0),
            times=times if named is None else ALWAYS if named == "always" else int(named),
        )

    def strikes(self, occurrence: int) -> bool:
        """Whether it strikes the given occurrence of its state, counted from 0 over all connections."""
        return self.skip <= occurrence < self.skip + self.times


def _state(name: str) -> State:
    try:
        return State(name.lower())
    except ValueError:
        raise ValueError(f"no state {name!r}; the states are {', '.join(s.value for s in State)}") from None


def _fault(state: State, name: str) -> Fault:
    code = _INSTEAD.fullmatch(_CLASSES.get(name.lower(), name))
    if code is not None and state is not State.CONNECT:
        return Instead(Reply(int(code["code"]), (code["text"] or "as planned",)))
    ways = {way.value: way for way in Way if way in _MEANINGFUL.get(state, _ANYWHERE)}
    if name.lower() in ways:
        return ways[name.lower()]
    codes = "" if state is State.CONNECT else ", 421, 4xx, 5xx or any other reply code"
    raise ValueError(f"no fault {name!r} at {state.value}; there are {', '.join(ways)}{codes}")
