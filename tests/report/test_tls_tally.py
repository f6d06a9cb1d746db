"""What is counted, how much of it at most, and that it outlives the process."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.virtual import VirtualClock, virtual
from waypost.mail.outcome import Host
from waypost.mail.tls_report import Failure, Sessions
from waypost.mail.tls_result import Basis, Published, TlsResult, TlsTrouble
from waypost.net.stream import Endpoint
from waypost.report.tls_tally import MAX_FAILURES, MAX_POLICIES, TlsTally

HOST = Host("mx.far.example", Endpoint("192.0.2.1", 25))
DANE = Published(Basis.DANE, "far.example", ("3 1 1 00",))
DAY = date(2026, 1, 1)


def result(trouble: TlsTrouble = TlsTrouble.NONE, detail: str = "", published: Published = DANE) -> TlsResult:
    return TlsResult(published, HOST, "192.0.2.99", trouble, detail)


@virtual
async def test_sessions_are_counted_by_policy_and_kind_of_failure(tmp_path: Path) -> None:
    tally = TlsTally(tmp_path / "tls", VirtualClock())
    for each in [result(), result(), result(TlsTrouble.TLSA, "x"), result(TlsTrouble.TLSA, "x")]:
        tally.count(each)
    failure = Failure(TlsTrouble.TLSA, "192.0.2.99", "mx.far.example", "192.0.2.1", "x")
    assert tally.day(DAY) == {DANE: Sessions(2, {failure: 2})}


@virtual
async def test_what_was_counted_outlives_the_process(tmp_path: Path) -> None:
    clock = VirtualClock()
    tally = TlsTally(tmp_path / "tls", clock)
    tally.count(result(TlsTrouble.EXPIRED, "certificate has expired"))
    keeping = asyncio.create_task(tally.keep())
    await asyncio.sleep(61)
    keeping.cancel()
    after = TlsTally(tmp_path / "tls", clock)
    await after.open()
    assert after.days() == [DAY]
    assert after.day(DAY) == tally.day(DAY)


@virtual
async def test_each_day_is_counted_for_itself(tmp_path: Path) -> None:
    tally = TlsTally(tmp_path / "tls", VirtualClock())
    tally.count(result())
    await asyncio.sleep(86_400)
    tally.count(result())
    assert tally.days() == [DAY, DAY + timedelta(days=1)]


@virtual
async def test_what_was_reported_leaves_the_disk(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    tally = TlsTally(directory, VirtualClock())
    tally.count(result())
    tally.count(result(published=Published(Basis.NOTHING, "other.example")))
    await tally.write()
    tally.forget(DAY, "far.example")
    await tally.write()
    assert [published.domain for published in tally.day(DAY)] == ["other.example"]
    tally.forget(DAY, "other.example")
    await tally.write()
    assert list(directory.iterdir()) == []
    assert tally.days() == []


@virtual
async def test_neither_domains_nor_kinds_of_failure_grow_without_end(tmp_path: Path) -> None:
    tally = TlsTally(tmp_path / "tls", VirtualClock())
    for number in range(MAX_FAILURES + 100):
        tally.count(result(TlsTrouble.VALIDATION, str(number)))
    sessions = tally.day(DAY)[DANE]
    assert len(sessions.failures) == MAX_FAILURES + 1
    assert sessions.failures[Failure(TlsTrouble.VALIDATION)] == 100
    for number in range(MAX_POLICIES + 100):
        tally.count(result(published=Published(Basis.NOTHING, f"{number}.example")))
    assert len(tally.day(DAY)) == MAX_POLICIES


@virtual
async def test_a_damaged_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01.json").write_bytes(b"[{")
    (tmp_path / "what is this.json").write_bytes(b"[]")
    tally = TlsTally(tmp_path, VirtualClock())
    await tally.open()
    assert tally.days() == []
    assert (tmp_path / "2026-01-01.json").read_bytes() == b"[{"


@virtual
async def test_a_disk_that_takes_nothing_is_tried_again(tmp_path: Path) -> None:
    in_the_way = tmp_path / "tls"
    in_the_way.write_text("")
    tally = TlsTally(in_the_way, VirtualClock())
    tally.count(result())
    with pytest.raises(OSError, match="exists"):
        await tally.write()
    in_the_way.unlink()
    await tally.write()
    assert (in_the_way / "2026-01-01.json").exists()
