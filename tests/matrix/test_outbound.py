"""Each cell of the grid, at each kind of next hop: what became of every recipient, and who was asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

import pytest

from tests.deliver.peer import EXTRA_REPLY, LMTP, ROUTE, SMTP, Peer, Spoilt, World
from tests.deliver.town import POLICY
from tests.matrix.grid import GRID, NOTES, Code, Never, State, Trouble
from tests.matrix.scene import (
    MANY,
    MANY_PIPELINED,
    ONE,
    ONE_PIPELINED,
    RECIPIENTS,
    SETTINGS,
    Hop,
    Kind,
    Story,
    play,
    reply_to,
)
from tests.virtual import virtual
from waypost.mail.envelope import PossiblyAt
from waypost.mail.outcome import Deferred, Delivered, InDoubt, Outcome, Rejected
from waypost.queue.schedule import PAUSE_IN_DOUBT
from waypost.queue.storage import Gone, Notice, RecipientState, Wait

#: Steps that lead to the same host once more.
ONCE_MORE = {Code.HELO, Code.EHLO, Code.CLEAR, Code.AGAIN}
LATE = (Trouble.STALL, Trouble.DRIP)


# ---- what a cell means
@dataclass(frozen=True, slots=True)
class Fate:
    """What has to become of one recipient. `host`: which of the list took it, where it was delivered."""

    outcome: type[Outcome]
    host: int = -1


HERE, NEXT_HOST, LATER, NEVER, PERHAPS = (
    Fate(Delivered, 0),
    Fate(Delivered, 1),
    Fate(Deferred),
    Fate(Rejected),
    Fate(InDoubt),
)


def fates(code: Code, state: State, hop: Hop, count: int) -> Sequence[Fate]:
    """The fate of each of `count` recipients."""
    index = {State.RCPT_MIDDLE: 1, State.RCPT_LAST: 2, State.LMTP_REPLY: 1}.get(state, 0)
    further = NEXT_HOST if hop.hosts > 1 else LATER

    def alone(fate: Fate, after: Fate = HERE) -> Sequence[Fate]:
        return [*[HERE] * index, fate, *[after] * (count - index - 1)]

    match code:
        case Code.GOES_ON | Code.HELO | Code.HELO_HERE | Code.EHLO | Code.CLEAR | Code.CLEAR_HERE | Code.AGAIN:
            return [HERE] * count
        case Code.NEXT:
            return [further] * count
        case Code.NEXT_ALONE:
            return alone(further)
        case Code.HELD:
            return [LATER] * count
        case Code.LAST_WORDS:
            return alone(further, after=PERHAPS)
        case Code.REJECTED:
            return [NEVER] * count
        case Code.REJECTED_ALONE:
            return alone(NEVER)
        case Code.IN_DOUBT:
            return alone(PERHAPS, after=PERHAPS)
        case _:
            assert_never(code)


def hosts_asked(code: Code, state: State, hop: Hop, expected: Sequence[Fate]) -> Sequence[int]:
    """The hosts connected to, in order, by their place in the list."""
    here = SETTINGS[state].connections + (1 if code in ONCE_MORE else 0)
    goes_further = code in {Code.NEXT, Code.NEXT_ALONE, Code.LAST_WORDS} and hop.hosts > 1
    assert goes_further == (NEXT_HOST in expected)
    return [*[0] * here, *([1] if goes_further else [])]


# ---- which of them are played
def kinds(state: State, trouble: Trouble, hop: Hop, turn: int) -> Sequence[Kind]:
    """The messages for one cell and next hop: two that differ in all, other two at the next `turn`.

    An opening knows nothing of its message, so that one is enough. A reply cannot come before a command that was
    pipelined.
    """
    turn += list(Hop).index(hop)
    if state is State.CHUNK and trouble is Trouble.EARLY:
        return [ONE if hop is Hop.LMTP else MANY]
    if state in {State.DOT, State.CHUNK} and hop is Hop.LMTP:
        return [ONE, ONE_PIPELINED][turn % 2 : turn % 2 + 1]  # of several, State.LMTP_REPLY tells
    lots: Sequence[Sequence[Kind]] = ((ONE, MANY_PIPELINED), (ONE_PIPELINED, MANY))
    if SETTINGS[state].recipients == 1 and list(State).index(state) < list(State).index(State.MAIL):
        return [[*lots[0], *lots[1]][turn % 4]]
    able = [
        kind
        for kind in lots[turn % 2]
        if kind.recipients >= SETTINGS[state].recipients and not (trouble is Trouble.EARLY and kind.pipelined)
    ]
    return able or [MANY]


def meant(code: Code, hop: Hop) -> Code:
    """What a cell means at this next hop: LMTP has no HELO."""
    return Code.NEXT if code is Code.HELO and hop is Hop.LMTP else code


def cells() -> Iterator[tuple[State, Trouble, Hop, Kind, Code]]:
    for turn, ((state, trouble), cell) in enumerate(GRID.items()):
        if isinstance(cell, Never):
            continue
        for hop in SETTINGS[state].hops:
            for kind in kinds(state, trouble, hop, turn):
                yield state, trouble, hop, kind, meant(cell, hop)


def lasting() -> Iterator[tuple[State, Trouble, Hop, Kind, Code]]:
    """Those that lead to the same state at the same host once more, where the fault may meet them again."""
    for state, trouble, hop, kind, cell in cells():
        again = {
            State.EHLO_KNOWN: Code.EHLO,
            State.EHLO_TLS_MUST: Code.EHLO,
            State.HELO_SAME: Code.HELO,
            State.MAIL_REUSED: Code.AGAIN,
        }
        if again.get(state) is cell and trouble is not Trouble.EARLY:
            yield state, trouble, hop, kind, cell


def named(played: Iterator[tuple[State, Trouble, Hop, Kind, Code]]) -> list[object]:
    return [
        pytest.param(*cell, id="-".join((cell[0].name, cell[1].name, cell[2].name, str(cell[3])))) for cell in played
    ]


# ---- the tests
def test_every_cell_is_named() -> None:
    assert set(GRID) == {(state, trouble) for state in State for trouble in Trouble}
    assert set(SETTINGS) == set(State)


def test_every_state_and_fault_and_kind_of_message_is_played_at_every_next_hop() -> None:
    played = list(cells())
    for hop in Hop:
        of_hop = [(state, trouble, kind) for state, trouble, at, kind, _ in played if at is hop]
        wanted = {key for key, cell in GRID.items() if isinstance(cell, Code) and hop in SETTINGS[key[0]].hops}
        assert {(state, trouble) for state, trouble, _ in of_hop} == wanted
        assert {kind for _, _, kind in of_hop} == {ONE, MANY, ONE_PIPELINED, MANY_PIPELINED}


def test_every_note_is_about_cells_that_can_occur() -> None:
    for note in NOTES:
        assert all(isinstance(GRID[state, trouble], Code) for state in note.states for trouble in note.troubles), note


@pytest.mark.parametrize(("state", "trouble", "hop", "kind", "code"), named(cells()))
@virtual
async def test_a_fault_comes_to_what_the_grid_says(
    state: State, trouble: Trouble, hop: Hop, kind: Kind, code: Code
) -> None:
    story = await play(state, trouble, hop, kind)
    expected = fates(code, state, hop, kind.recipients)
    judge_outcomes(story, expected)
    judge_hosts(story, expected, hosts_asked(code, state, hop, expected), hop)
    judge_opening(story, code)
    judge_time(story, state, trouble)
    judge_transcript(story, state, trouble)


@pytest.mark.parametrize(("state", "trouble", "hop", "kind", "code"), named(lasting()))
@virtual
async def test_a_fault_that_meets_the_second_try_as_well_leads_to_the_next_host(
    state: State, trouble: Trouble, hop: Hop, kind: Kind, code: Code
) -> None:
    story = await play(state, trouble, hop, kind, times=2)
    expected = fates(Code.NEXT, state, hop, kind.recipients)
    judge_outcomes(story, expected)
    judge_hosts(story, expected, [*[0] * (SETTINGS[state].connections + 1), *([1] if hop.hosts > 1 else [])], hop)


@pytest.mark.parametrize("hop", [Hop.SINGLE, Hop.LIST])
@pytest.mark.parametrize(
    ("state", "trouble", "reply"),
    [
        (State.EHLO, Trouble.CODE_5YZ, "502 5.5.1 no"),
        (State.EHLO, Trouble.CODE_5YZ, "504 5.5.4 no"),
        (State.EHLO, Trouble.CODE_5YZ, "521 no mail here"),
        (State.EHLO, Trouble.CODE_5YZ, "550 5.7.1 no"),
        (State.EHLO, Trouble.CODE_5YZ, "554 5.7.1 no"),
        (State.BANNER, Trouble.CODE_5YZ, "521 no mail here"),
        (State.MAIL, Trouble.CODE_4YZ, "452 4.3.1 disk full"),
        (State.MAIL, Trouble.CODE_5YZ, "552 5.3.4 too large"),
        (State.RCPT_FIRST, Trouble.CODE_4YZ, "452 4.5.3 too many"),
        (State.BODY, Trouble.CODE_5YZ, "552 5.3.4 too large"),
        (State.DOT, Trouble.CODE_5YZ, "554 5.6.0 spam"),
        (State.EHLO, Trouble.ODD, "220 peer.example"),
        (State.EHLO, Trouble.ODD, "221 2.0.0 bye"),
        (State.BANNER, Trouble.ODD, "221 2.0.0 bye"),
        (State.BANNER, Trouble.ODD, "250 hello"),
        (State.STARTTLS, Trouble.ODD, "250 2.0.0 fine"),
        (State.AUTH, Trouble.ODD, "354 go on"),
        (State.MAIL, Trouble.ODD, "220 peer.example"),
        (State.RCPT_FIRST, Trouble.ODD, "221 2.0.0 bye"),
        (State.DATA, Trouble.ODD, "334 go on"),
        (State.DATA, Trouble.ODD, "220 peer.example"),
        (State.DOT, Trouble.ODD, "220 peer.example"),
        (State.DOT, Trouble.ODD, "221 2.0.0 bye"),
    ],
    ids=lambda value: value.name if isinstance(value, State | Trouble) else value[:3],
)
@virtual
async def test_other_codes_of_the_same_kind_come_to_the_same(
    state: State, trouble: Trouble, reply: str, hop: Hop
) -> None:
    story = await play(state, trouble, hop, ONE, reply=reply)
    code = GRID[state, trouble]
    assert isinstance(code, Code)
    expected = fates(code, state, hop, 1)
    judge_outcomes(story, expected)
    judge_hosts(story, expected, hosts_asked(code, state, hop, expected), hop)
    judge_opening(story, code)


@pytest.mark.parametrize(
    ("word", "reply"),
    [
        ("EHLO", "251 hello"),
        ("MAIL", "200 fine"),
        ("RCPT", "252 perhaps"),
        ("dot", "251 kept"),
    ],
)
@virtual
async def test_a_code_that_nobody_listed_means_what_its_first_digit_says(word: str, reply: str) -> None:
    world = World(Peer(plan={word: [reply]}))
    assert isinstance((await world.attempt())[0], Delivered)
    assert len(world.dialer.dialled) == 1
    await world.close()


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize(("spoilt", "connections"), [(Spoilt.NUL, 1), (Spoilt.BARE_LF, 2), (Spoilt.EXTRA, 2)])
@virtual
async def test_a_delivery_stands_whose_connection_is_not_used_again(
    spoilt: Spoilt, connections: int, *, lmtp: bool
) -> None:
    peer = Peer(plan={"dot": [spoilt]}, lmtp=lmtp)
    world = World(peer, route=replace(ROUTE, transport=LMTP if lmtp else SMTP))
    for _ in range(2):
        assert isinstance((await world.attempt())[0], Delivered)
    assert len(peer.connections) == connections
    await world.close()


# ---- the judgement
def judge_outcomes(story: Story, expected: Sequence[Fate]) -> None:
    """Every recipient's outcome, when it is due again, and whether a report is; and that nothing else was harmed."""
    transcript = story.ended.attempt.transcript
    outcomes = [type(one.outcome) for one in story.ended.settled]
    assert outcomes == [fate.outcome for fate in expected], f"{story.ended.settled}\n{transcript}"
    due = {entry.number: entry.due_at - story.ended.attempt.ended_at for entry in story.entries}
    assert all(entry.state is RecipientState.WAITING for entry in story.entries)
    for one in story.ended.settled:
        match one.outcome:
            case Delivered():
                assert (one.next, one.notice) == (Gone(), Notice.NONE)
            case Rejected():
                assert (one.next, one.notice) == (Gone(), Notice.FAILED)
            case Deferred():
                assert due.pop(one.recipient.number) == pytest.approx(POLICY.schedule[0].total_seconds())
                assert one.notice is Notice.NONE
            case InDoubt(host):
                assert due.pop(one.recipient.number) == pytest.approx(PAUSE_IN_DOUBT.total_seconds())
                assert isinstance(one.next, Wait)
                assert (one.next.doubt, one.notice) == (PossiblyAt(str(host.endpoint)), Notice.NONE)
                assert host.name == "mx0.example"
            case _:
                assert_never(one.outcome)
    assert due == {}
    assert story.crashes == []
    assert isinstance(story.healthy.settled[0].outcome, Delivered)
    assert story.healthy.seconds == 0


def judge_hosts(story: Story, expected: Sequence[Fate], asked: Sequence[int], hop: Hop) -> None:
    """Which hosts were connected to, and that each took what it had to take, once."""
    assert story.dialled == asked, str(story.ended.attempt.transcript)
    for number, peer in enumerate(story.peers):
        wanted = [to for to, fate in zip(RECIPIENTS, expected, strict=False) if fate == Fate(Delivered, number)]
        groups = [(to,) for to in wanted] if hop is Hop.LMTP else [tuple(wanted)] if wanted else []
        # What is in doubt may or may not have been taken.
        doubtful = {to for to, fate in zip(RECIPIENTS, expected, strict=False) if fate is PERHAPS}
        assert [to for to, _ in peer.accepted if set(to) & set(RECIPIENTS) - doubtful] == groups


def judge_opening(story: Story, code: Code) -> None:
    """How the host that was asked once more, or asked otherwise, was greeted."""
    verbs = story.peers[0].verbs
    match code:
        case Code.HELO:
            assert verbs[-1][0] == "HELO"
        case Code.HELO_HERE:
            assert verbs[-1][:2] == ["EHLO", "HELO"]
        case Code.EHLO:
            assert verbs[-1][0] == "EHLO"
            assert "HELO" not in verbs[-1]
        case Code.CLEAR:
            assert verbs[-1][:2] == ["EHLO", "MAIL"]
        case Code.CLEAR_HERE:
            assert verbs[-1][:3] == ["EHLO", "STARTTLS", "MAIL"]
        case _:
            pass  # as ever


def judge_time(story: Story, state: State, trouble: Trouble) -> None:
    """No wait but for a reply that does not come; and that one as long as its stage allows, also where octets drip."""
    bears_it = story.earlier[0] if state is State.RSET else story.ended
    within = SETTINGS[state].within if trouble in LATE else timedelta()
    assert bears_it.seconds == pytest.approx(within.total_seconds(), abs=1.0)


def judge_transcript(story: Story, state: State, trouble: Trouble) -> None:
    """The state and the fault can be read in the attempt's transcript."""
    if state is State.QUIT:
        assert story.peers[0].verbs[-1][-1] == "QUIT"
    if state is State.QUIT:
        return  # no attempt was under way
    if state is State.CHUNK and trouble is not Trouble.EARLY:
        assert "BDAT" in story.peers[0].verbs[-1]
    if state is State.IDLE:
        assert any(
            mark == "*" and text.startswith("not reusing") for _, mark, text in story.ended.attempt.transcript.lines
        )
        return
    bears_it = story.earlier[0] if state is State.RSET else story.ended
    stage = SETTINGS[state].stage
    lines = [f"{mark} {text}" for _, mark, text in bears_it.attempt.transcript.lines]
    assert any(shows(line, stage, state, trouble) for line in lines), "\n".join(lines)


def shows(line: str, stage: str, state: State, trouble: Trouble) -> bool:
    """Whether this one line tells of the fault."""
    match trouble:
        case Trouble.ODD | Trouble.CODE_4YZ | Trouble.CODE_5YZ:
            return line == f"S {reply_to(trouble, SETTINGS[state].word)}"
        case Trouble.CODE_421:
            return line == "S 421 4.3.2 going away"
        case Trouble.NUL:
            return line.startswith("S ") and "\0" in line
        case Trouble.BARE_LF:
            return line.startswith("S ")  # a bare LF leaves no trace of its own: the reply is taken as it is
        case Trouble.EXTRA:
            return line == f"S {EXTRA_REPLY}"
        case Trouble.EARLY:
            return state is State.MAIL_REUSED or (line.startswith("* ") and "nobody asked for" in line)
        case _:
            return line.startswith(f"* {stage}: ") and any(sign in line for sign in signs(trouble))


def signs(trouble: Trouble) -> Sequence[str]:
    """Words of which one tells what was wrong with the connection, or with what came over it."""
    match trouble:
        case Trouble.REFUSED:
            return ("refused",)
        case Trouble.UNREACHABLE:
            return ("unreachable",)
        case Trouble.TIMED_OUT | Trouble.STALL | Trouble.DRIP:
            return ("timed out",)
        case Trouble.FIN | Trouble.HALF_CLOSE | Trouble.TRUNCATED:
            return ("closed by the peer", "reset by the peer")
        case Trouble.RST:
            return ("reset by the peer",)
        case Trouble.MIXED:
            return ("two codes",)
        case Trouble.GARBAGE:
            return ("not a reply", "TLS failed")
        case Trouble.NULS:
            return ("not a reply",)
        case Trouble.LONG | Trouble.ENDLESS:
            return ("of more than",)
        case _:
            raise AssertionError(f"{trouble} is told otherwise")
