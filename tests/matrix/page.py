"""docs/fault-matrix.md, printed from the grid: `python -m tests.matrix.page > docs/fault-matrix.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.matrix.grid import GRID, LEGEND, NOTES, ROWS, Code, Never, State, Trouble, notes_of
from tests.matrix.names import MACHINE, NAMES
from tests.matrix.tls import HANDSHAKES, POLICIES, SESSIONS, Cut, after_cut
from waypost.route.route import TlsPolicy

UNDER_TLS: Final = """\
## Under TLS, with real records and certificates

The same once more over sockets, with a faulty host and a healthy one behind it, by the route's policy. HELO is said in
none of these cells, for that would be a downgrade. A certificate is looked at where the policy is `verify`.
"""
WHERE_TO: Final = """\
## Where DNS or this machine goes wrong

Each row is played through the whole service. What an authority says of a domain can return its mail; trouble of DNS
cannot. What is this machine's own fault is held against no destination.
"""
#: What bench/faults.py has written down.
FAULTS: Final = Path(__file__).parents[2] / "bench" / "results" / "faults.json"
BESIDE: Final = """\
## Beside Postfix and Exim

`python -m bench.faults` plays faults of this matrix, with one next hop and with two, to Waypost, Postfix and Exim over
real sockets. Each cell, and how it is judged, is in [side by side](side-by-side.md).

"""
PAGE: Final = Path(__file__).parents[2] / "docs" / "fault-matrix.md"

#: The columns of each table on the page, by its heading.
TABLES: Final[Sequence[tuple[str, Sequence[Trouble]]]] = (
    (
        "The connection fails, or nothing comes in time",
        (
            Trouble.REFUSED,
            Trouble.UNREACHABLE,
            Trouble.TIMED_OUT,
            Trouble.FIN,
            Trouble.RST,
            Trouble.HALF_CLOSE,
            Trouble.TRUNCATED,
            Trouble.STALL,
            Trouble.DRIP,
        ),
    ),
    (
        "What comes is no reply, or hardly one",
        (
            Trouble.GARBAGE,
            Trouble.NULS,
            Trouble.LONG,
            Trouble.ENDLESS,
            Trouble.MIXED,
            Trouble.NUL,
            Trouble.BARE_LF,
            Trouble.EARLY,
            Trouble.EXTRA,
        ),
    ),
    (
        "What comes is a reply, but not the one that was hoped for",
        (Trouble.ODD, Trouble.CODE_421, Trouble.CODE_4YZ, Trouble.CODE_5YZ),
    ),
)

INTRODUCTION: Final = """\
# The fault matrix: what becomes of mail when the next hop goes wrong

One row is a state of a session with the next hop, one column a fault, one cell what it comes to. {cells} cells are
named; {played} of them can occur, and each of those is played by `tests/matrix`: with a single smart host, a list of
hosts, an MX set and a list of LMTP servers (in these three the second is healthy), but for openings that only SMTP or
only LMTP has; with one recipient and with three, pipelined and in lockstep. Each play goes through the whole queue and
holds every recipient's outcome, who took the message and how often, which hosts were asked in which order, how long
that took, when it is due again, what the transcript shows, and that a message handed in at the same time for another
destination went out at once.

In no cell does the service stop, a message get lost, a recipient get forgotten, or anything get rejected without a 5yz
reply that belongs to it. A reply that was read stands, whatever happens afterwards. A step that leads to the same
address once more is taken once an attempt; where the fault meets it again, the next host is asked.

A time-out is that of RFC 5321 §4.5.3.2, counted from the command to the end of its reply: octets that drip in do not
prolong it. Small figures point to the notes. This page is printed from the tests' own table
(`python -m tests.matrix.page > docs/fault-matrix.md`), and a test holds it to that.
"""

#: What a column means, where its name does not tell.
COLUMNS: Final = {
    Trouble.HALF_CLOSE: "the peer ends its side and goes on listening",
    Trouble.TRUNCATED: "two digits of a reply, then FIN",
    Trouble.STALL: "nothing comes",
    Trouble.DRIP: "a reply comes in at an octet a second and never ends",
    Trouble.GARBAGE: "a line that begins with no reply code",
    Trouble.NULS: "a line of NULs",
    Trouble.LONG: "a reply line of 100,000 octets",
    Trouble.ENDLESS: "a multi-line reply that never ends",
    Trouble.MIXED: "a multi-line reply whose lines do not agree on the code",
    Trouble.ODD: "a positive reply that the command cannot have: 354, or 250 to DATA",
    Trouble.NUL: "the right reply, with a NUL in its text",
    Trouble.BARE_LF: "the right reply, its lines ended by LF alone",
    Trouble.EARLY: "the right reply, sent before the command",
    Trouble.EXTRA: "the right reply, and another behind it",
}


def page() -> str:
    """The whole page."""
    played = sum(isinstance(cell, Code) for cell in GRID.values())
    parts = [INTRODUCTION.format(cells=len(GRID), played=played)]
    for heading, troubles in TABLES:
        parts.append("\n".join([f"## {heading}\n", *_table(troubles)]) + "\n")
    parts.append("\n".join(["## What the cells say\n", *_legend()]) + "\n")
    parts.append("\n".join(["## The rows\n", *(f"- **{state.value}**: {ROWS[state]}" for state in State)]) + "\n")
    parts.append(
        "\n".join(["## The columns\n", *(f"- **{trouble.value}**: {text}" for trouble, text in COLUMNS.items())]) + "\n"
    )
    notes = (f"{number}. *{_where(number)}*: {note.text}" for number, note in enumerate(NOTES, 1))
    parts.append("\n".join(["## Notes\n", *notes]) + "\n")
    parts.append("\n".join([UNDER_TLS, *_handshakes(), "", *_sessions()]) + "\n")
    parts.append("\n".join([WHERE_TO, *_names(), "", *_machine()]) + "\n")
    parts.append(BESIDE + json.loads(FAULTS.read_text("utf-8"))["summary"])
    return "\n".join(parts)


def _handshakes() -> Iterator[str]:
    yield "| the handshake | " + " | ".join(policy.value for policy in POLICIES) + " |"
    yield "|---|:-:|:-:|:-:|"
    for flaw, codes in HANDSHAKES.items():
        yield f"| {flaw.value} | " + " | ".join(code.value for code in codes) + " |"


def _sessions() -> Iterator[str]:
    yield "| the reply to, under TLS | " + " | ".join(cut.value for cut in Cut) + " |"
    yield "|---|" + ":-:|" * len(Cut)
    for word in SESSIONS:
        yield f"| {word} | " + " | ".join(_under_tls(word, cut) for cut in Cut) + " |"


def _under_tls(word: str, cut: Cut) -> str:
    welcome, needed = (after_cut(word, cut, policy) for policy in (TlsPolicy.OPPORTUNISTIC, TlsPolicy.VERIFY))
    return welcome.value if welcome is needed else f"{welcome.value}; {needed.value} where TLS is needed"


def _names() -> Iterator[str]:
    yield "| DNS says of the domain | the mail is | status | why |"
    yield "|---|---|---|---|"
    for cell in NAMES:
        yield f"| {cell.name} | {cell.fate.value} | {cell.status} | {cell.why} |"


def _machine() -> Iterator[str]:
    yield "| the system says to `connect` | | held against the destination | what follows |"
    yield "|---|---|:-:|---|"
    for cell in MACHINE:
        yield f"| {cell.name} | {cell.number} | {'yes' if cell.blames_host else 'no'} | {cell.why} |"


def _table(troubles: Sequence[Trouble]) -> Iterator[str]:
    yield "| | " + " | ".join(trouble.value for trouble in troubles) + " |"
    yield "|---|" + ":-:|" * len(troubles)
    for state in State:
        yield f"| {state.value} | " + " | ".join(_cell(state, trouble) for trouble in troubles) + " |"


def _cell(state: State, trouble: Trouble) -> str:
    notes = ",".join(map(str, notes_of(state, trouble)))
    return f"{GRID[state, trouble].value}{f'<sup>{notes}</sup>' if notes else ''}"


def _legend() -> Iterator[str]:
    yield "| Cell | It comes to |"
    yield "|---|---|"
    for cell, text in LEGEND.items():
        yield f"| {cell.value} | {'cannot occur: ' if isinstance(cell, Never) else ''}{text} |"


def _where(number: int) -> str:
    note = NOTES[number - 1]
    states = ", ".join(state.value for state in note.states)
    return f"{', '.join(trouble.value for trouble in note.troubles)} at {states}"


if __name__ == "__main__":
    sys.stdout.write(page())
