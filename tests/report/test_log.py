"""Lines: how they look, when they are written, and what happens when they cannot be."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from datetime import timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual import VirtualClock, run_virtual, virtual
from waypost.report.log import BOUND, LINGER, Log, timestamp
from waypost.report.pen import BACKLOG, Aside, AtOnce


class StillClock(VirtualClock):
    """2026-01-01T00:00:00.250Z, for ever."""

    def now(self) -> float:
        return 1_767_225_600.25


def log(stream: io.BytesIO, *, level: str = "info", pretty: bool = False) -> Log:
    return Log(AtOnce(stream), level=level, pretty=pretty, clock=StillClock())


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_and_begins_with_time_level_and_event() -> None:
    stream = io.BytesIO()
    log(stream).logger.info("delivered", id="m1", seconds=0.5)
    assert stream.getvalue() == (
        b'{"time":"2026-01-01T00:00:00.250Z","level":"info","event":"delivered","id":"m1","seconds":0.5}\n'
    )


def test_the_clock_is_written_to_the_millisecond() -> None:
    assert timestamp(1_767_225_600.25) == "2026-01-01T00:00:00.250Z"
    assert timestamp(1_767_225_600) == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize("pretty", [True, False])
@pytest.mark.parametrize("level", ["debug", "warning"])
def test_the_short_way_says_what_the_logger_says(level: str, pretty: bool) -> None:  # noqa: FBT001 - a table's cell
    short, usual = io.BytesIO(), io.BytesIO()
    log(short, level=level, pretty=pretty).info("delivered", {"id": "m1", "text": "caf\udce9", "seconds": 0.5})
    log(usual, level=level, pretty=pretty).logger.info("delivered", id="m1", text="caf\udce9", seconds=0.5)
    assert short.getvalue() == usual.getvalue()
    assert bool(short.getvalue()) == (level == "debug")


def test_what_is_below_the_level_is_not_said() -> None:
    stream = io.BytesIO()
    quiet = log(stream, level="warning")
    quiet.logger.info("unheard")
    quiet.logger.warning("heard")
    assert [line["event"] for line in lines(stream)] == ["heard"]
    assert not quiet.says_info
    assert log(stream, level="debug").says_info


@given(st.text() | st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")), st.booleans())
def test_whatever_is_said_is_one_line(text: str, pretty: bool) -> None:  # noqa: FBT001 - drawn
    stream = io.BytesIO()
    log(stream, pretty=pretty).logger.info("said", text=text)
    if pretty:
        stream.getvalue().decode()
    else:
        assert len(stream.getvalue().split(b"\n")) == 2
        assert lines(stream)[0]["event"] == "said"


def fail(password: str) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("pretty", [True, False])
def test_an_exception_is_told_with_its_place_and_without_local_variables(pretty: bool) -> None:  # noqa: FBT001 - a table's cell
    stream = io.BytesIO()
    try:
        fail("hunter" + "2")
    except ZeroDivisionError as error:
        log(stream, pretty=pretty).logger.error("caught", exc_info=error)
    assert b"ZeroDivisionError: a bug" in stream.getvalue()
    assert b"test_log.py" in stream.getvalue()
    assert b"hunter2" not in stream.getvalue()


# ---- when lines are written
@virtual
async def test_lines_are_gathered_and_written_a_moment_later() -> None:
    stream = io.BytesIO()
    logger = log(stream).logger
    logger.info("one")
    logger.info("two")
    assert stream.getvalue() == b""
    await asyncio.sleep(LINGER.total_seconds())
    assert len(lines(stream)) == 2
    logger.info("three")
    await asyncio.sleep(LINGER.total_seconds())
    assert len(lines(stream)) == 3


@virtual
async def test_a_warning_is_written_at_once_after_all_that_waits() -> None:
    stream = io.BytesIO()
    logger = log(stream).logger
    logger.info("one")
    logger.warning("two")
    assert [line["event"] for line in lines(stream)] == ["one", "two"]


@virtual
async def test_what_waits_is_bounded() -> None:
    stream = io.BytesIO()
    logger = log(stream).logger
    for _ in range(200):
        logger.info("x" * 1000)
    assert len(stream.getvalue()) > 200_000 - BOUND


def test_without_a_loop_a_line_is_written_at_once() -> None:
    stream = io.BytesIO()
    log(stream).logger.info("starting")
    assert len(lines(stream)) == 1


def test_a_loop_that_ended_with_lines_waiting_does_not_keep_them() -> None:
    stream = io.BytesIO()
    ours = log(stream)

    async def say() -> None:
        ours.logger.info("said")

    run_virtual(say())
    assert stream.getvalue() == b""
    run_virtual(say())
    ours.close()
    assert len(lines(stream)) == 2


# ---- when they cannot be
class Full(io.BytesIO):
    """A disk without space, until told otherwise."""

    full = True

    def write(self, octets: object) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        assert isinstance(octets, bytes)
        return super().write(octets)


def test_a_log_that_cannot_be_written_costs_lines_only_and_owns_up_to_it() -> None:
    stream = Full()
    logger = log(stream).logger
    logger.warning("lost")
    logger.warning("lost too")
    stream.full = False
    logger.warning("heard")
    assert [line["event"] for line in lines(stream)] == ["heard", "log lines lost"]
    assert lines(stream)[1]["lines"] == 2


def test_a_closed_stream_is_no_reason_to_fail() -> None:
    stream = io.BytesIO()
    ours = log(stream)
    stream.close()
    ours.logger.error("nobody hears this")


class Asleep(io.RawIOBase):
    """A reader that reads nothing until it is woken."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.entered = threading.Event()
        self.heard = b""

    def write(self, octets: object) -> int:
        assert isinstance(octets, bytes)
        self.entered.set()
        assert self.woken.wait(60)
        self.heard += octets
        return len(octets)


def test_a_reader_who_sleeps_holds_nobody_up_and_is_told_what_was_lost() -> None:
    reader = Asleep()
    pen = Aside(AtOnce(reader))  # type: ignore[arg-type]  # all a pen asks of a stream
    ours = Log(pen, level="info", pretty=False, clock=StillClock())
    ours.logger.warning("first")
    assert reader.entered.wait(60)
    for _ in range(2 * BACKLOG // 1000):
        ours.logger.warning("x" * 1000)
    reader.woken.set()
    ours.close()
    ours.logger.warning("last")
    ours.close()
    told = [json.loads(line) for line in reader.heard.splitlines()]
    lost = sum(line.get("lines", 0) for line in told)
    heard = [line["event"] for line in told if line["event"] != "log lines lost"]
    assert (heard[0], heard[-1]) == ("first", "last")
    assert lost > 0
    assert lost + len(heard) == 2 + 2 * BACKLOG // 1000
    assert len(reader.heard) < 1.2 * BACKLOG


# ---- for the libraries, and the rest of the service
def test_loggers_got_elsewhere_lead_here() -> None:
    stream = io.BytesIO()
    log(stream).become_default()
    structlog.get_logger("waypost.admin").info("operator acted", by="root")
    assert lines(stream)[0] | {"time": ""} == {"time": "", "level": "info", "event": "operator acted", "by": "root"}


def test_lingering_is_short() -> None:
    assert timedelta() < LINGER <= timedelta(seconds=1)
    assert logging.INFO < logging.WARNING
