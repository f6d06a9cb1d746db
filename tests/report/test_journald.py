"""The journal's own protocol, heard by a socket as the journal has one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.virtual import VirtualClock
from waypost.report.journald import WIDTH, ToJournal
from waypost.report.log import Log
from waypost.report.pen import Aside


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(place))
        heard.settimeout(5)
        yield place, heard


def entry(octets: bytes) -> dict[str, str]:
    """An entry as the journal reads it."""
    found: dict[str, str] = {}
    while octets:
        line, _, rest = octets.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            octets = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            name, value, end = line, rest[8 : 8 + size], rest[8 + size : 9 + size]
            assert end == b"\n"
            octets = rest[9 + size :]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


def log(place: Path, level: str = "info") -> Log:
    pen = Aside(ToJournal(place))
    return Log(pen, level=level, pretty=False, clock=VirtualClock(), fields={"worker": 1}, journald=True)


def test_an_event_is_an_entry_with_a_field_for_each_of_its_own(journal: tuple[Path, socket.socket]) -> None:
    place, heard = journal
    written = log(place)
    written.info("delivered", {"id": "1dvq3kbaxm00g", "next-hop": "mx:example.com", "text": "250 café\udcff"})
    written.close()
    assert entry(heard.recv(65536)) == {
        "MESSAGE": "delivered worker=1 id=1dvq3kbaxm00g next-hop=mx:example.com text=250 café\\xff",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "waypost",
        "WAYPOST_EVENT": "delivered",
        "WAYPOST_WORKER": "1",
        "WAYPOST_ID": "1dvq3kbaxm00g",
        "WAYPOST_NEXT_HOP": "mx:example.com",
        "WAYPOST_TEXT": "250 café\\udcff",
    }


def test_what_has_several_lines_goes_by_its_length_and_what_is_long_is_cut(
    journal: tuple[Path, socket.socket],
) -> None:
    place, heard = journal
    written = log(place)
    written.logger.error("crashed", text="x" * (WIDTH + 1), exc_info=RuntimeError("one\ntwo=3"))
    written.close()
    found = entry(heard.recv(262144))
    assert found["PRIORITY"] == "3"
    assert found["WAYPOST_EXCEPTION"].endswith("RuntimeError: one\ntwo=3")
    assert len(found["WAYPOST_TEXT"]) == WIDTH


def test_what_the_journal_did_not_take_is_owned_up_to_once_it_is_there(tmp_path: Path) -> None:
    pen = ToJournal(tmp_path / "socket")
    pen.write([b"MESSAGE=one\n", b"MESSAGE=two\n"])
    assert pen.lost == 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "socket"))
        pen.write([b"MESSAGE=three\n"])
        assert entry(heard.recv(4096)) == {"MESSAGE": "three"}
        assert entry(heard.recv(4096))["WAYPOST_LINES"] == "2"
    assert pen.lost == 0
