"""Marks of final dots: found by the next start where the process was killed, and in nobody's way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deliver.peer import Peer, endpoint, lease
from tests.deliver.town import Town
from tests.virtual import virtual
from waypost.deliver.dots import KILLED, SLOT, Doubts, Marked, Unmarked
from waypost.mail.envelope import MessageId, NextHop, PossiblyAt
from waypost.mail.outcome import Deferred, Delivered, Host, InDoubt, LocalTrouble
from waypost.net.stream import Fault, FaultKind
from waypost.queue.storage import Selection, Wait

HOST = Host("mx0.example", endpoint(0))
REFUSED = Fault(FaultKind.REFUSED)
FIRST, SECOND = lease(name="M000000000001"), lease(name="M000000000002")


def in_doubt(path: Path) -> dict[str, list[int]]:
    """Whom a start would find in doubt, were the process killed now."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    found = Marked.open(copy, 4)
    found.close()
    for outcomes in found.doubts.values():
        assert {outcome.host for outcome in outcomes.values()} == {HOST}
    return {message: sorted(outcomes) for message, outcomes in found.doubts.items()}


def test_whom_a_kill_leaves_in_doubt_is_found_by_the_next_start(tmp_path: Path) -> None:
    marked = Marked.open(tmp_path / "dots", 4)
    assert in_doubt(tmp_path / "dots") == {}
    marked.leaving(FIRST, HOST, [0, 2])
    marked.leaving(FIRST, HOST, [5])
    marked.leaving(SECOND, HOST, [0])
    assert in_doubt(tmp_path / "dots") == {"M000000000001": [0, 2, 5], "M000000000002": [0]}
    marked.settled(FIRST, waits=True)
    assert in_doubt(tmp_path / "dots") == {"M000000000002": [0]}
    marked.close()


def test_a_mark_whose_recipients_are_gone_is_written_over_and_no_sooner(tmp_path: Path) -> None:
    marked = Marked.open(tmp_path / "dots", 1)
    marked.leaving(FIRST, HOST, [0])
    marked.leaving(SECOND, HOST, [0])  # there is no slot for it
    assert in_doubt(tmp_path / "dots") == {"M000000000001": [0]}
    marked.settled(SECOND, waits=False)
    marked.settled(FIRST, waits=False)
    assert in_doubt(tmp_path / "dots") == {"M000000000001": [0]}
    marked.leaving(SECOND, HOST, [0])
    assert in_doubt(tmp_path / "dots") == {"M000000000002": [0]}
    marked.close()


def test_of_very_many_recipients_some_are_marked(tmp_path: Path) -> None:
    marked = Marked.open(tmp_path / "dots", 4)
    marked.leaving(FIRST, HOST, range(100))
    marked.leaving(SECOND, HOST, range(1000))
    found = in_doubt(tmp_path / "dots")
    assert found["M000000000001"] == list(range(100))
    assert len(found["M000000000002"]) > 100
    marked.close()


def test_a_mark_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    marked = Marked.open(tmp_path / "dots", 4)
    marked.close()
    marked.leaving(FIRST, HOST, [0])
    marked.settled(FIRST, waits=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=3 * SLOT) | st.binary().map(lambda tail: b'["M1","mx","192.0.2.1",25,[0]]' + tail))
def test_whatever_the_file_holds_the_service_starts(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "dots").write_bytes(octets)
    Marked.open(tmp_path / "dots", 4).close()


class Killed(Unmarked):
    """The second recipient of the first message was in doubt when the process before was killed."""

    @property
    def doubts(self) -> Doubts:
        return {MessageId("M000000000000"): {1: InDoubt(HOST, KILLED)}}


@pytest.mark.parametrize("refuses", [False, True])
@virtual
async def test_who_was_in_doubt_at_a_kill_is_told_of_and_waits_while_the_others_are_tried(*, refuses: bool) -> None:
    peer = Peer()
    async with Town(REFUSED if refuses else peer, dots=Killed()) as town:
        if refuses:  # so the destination rests: what is due is deferred untried, and who is in doubt stays so
            town.dispatcher._destination(NextHop("hop0")).rest(LocalTrouble("it is down"), timedelta(hours=1), 0.0)
        (name,) = await town.queue("hop0", to=("a@example.com", "b@example.com"))
        town.dispatcher.wake()
        await asyncio.sleep(1)
        first, second = next(settled for _, settled in town.notes.attempts)
        assert isinstance(first.outcome, Deferred if refuses else Delivered)
        assert second.outcome == InDoubt(HOST, KILLED)
        assert isinstance(second.next, Wait)
        assert second.next.doubt == PossiblyAt(str(HOST.endpoint))
        assert [to for to, _ in peer.accepted] == ([] if refuses else [("a@example.com",)])
        if not refuses:
            await asyncio.sleep(20 * 60)
            assert [to for to, _ in peer.accepted] == [("a@example.com",), ("b@example.com",)]
            assert await town.storage.entries(Selection(ids=(name,)), after=(name, -1), limit=9, now=0.0) == []
