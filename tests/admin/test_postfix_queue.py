"""Postfix's queue files, as they are on disk: whole, delivered in part, cut anywhere; and moving them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.service import asked
from waypost.admin.foreign import Asked, Foreign, QueueFileError, parcel_of
from waypost.admin.postfix_queue import read
from waypost.queue import record as records
from waypost.queue.archive import read as read_archive
from waypost.queue.moving import Parcel
from waypost.receive.pickup import understood


def record(kind: str, data: bytes) -> bytes:
    """One record, its length in base 128."""
    length, octets = len(data), b""
    while True:
        octets += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            return kind.encode() + octets + data


def queue_file(*recipients: tuple[str, str], body: bytes = b"hello") -> bytes:
    """A queue file; each recipient with its record's letter."""
    return b"".join(
        [
            record("C", b"             200             300               1               0             200"),
            record("T", b"1767225600 0"),
            record("A", b"log_client_name=localhost"),
            record("S", b"ann@example.org"),
            *(record(kind, address.encode()) for kind, address in recipients),
            record("p", b"              0"),
            record("M", b""),
            record("N", b"Subject: hi"),
            record("N", b""),
            record("L", body),
            record("N", b" and more"),
            record("X", b""),
            record("E", b""),
        ]
    )


WHOLE = queue_file(
    ("R", "bob@example.net"), ("D", "done@example.net"), ("O", "orig@example.net"), ("R", "carl@example.net")
)


def test_who_was_delivered_to_is_left_out_and_lines_are_put_together() -> None:
    found = read(WHOLE)
    assert found == Foreign(
        "",
        "ann@example.org",
        (Asked("bob@example.net"), Asked("carl@example.net")),
        b"Subject: hi\n\nhello and more\n",
        1767225600.0,
    )


def with_wishes() -> bytes:
    """As Postfix 3.7 wrote it, but for what does not count."""
    return b"".join(
        record(kind, octets)
        for kind, octets in (
            ("T", b"1767225600 806218"),
            ("A", b"envelope_id=QQ+31"),
            ("A", b"ret_flags=2"),
            ("S", b"ann@far.example"),
            ("A", b"notify_flags=10"),
            ("A", b"dsn_orig_rcpt=rfc822;bob+alias@example.test"),
            ("O", b"bob@example.test"),
            ("R", b"bob@example.test"),
            ("A", b"notify_flags=1"),
            ("D", b"done@example.test"),
            ("A", b"notify_flags=1"),
            ("R", b"carl@example.test"),
            ("R", b"dora@example.test"),
            ("M", b""),
            ("N", "Subject: bödy".encode()),
            ("X", b""),
            ("E", b""),
        )
    )


def test_what_was_asked_of_reports_is_kept_for_each_recipient() -> None:
    found = read(with_wishes(), "CBACAEA2030")
    assert found.recipients == (
        Asked("bob@example.test", "SUCCESS,DELAY", "rfc822;bob+alias@example.test"),
        Asked("carl@example.test", "NEVER"),
        Asked("dora@example.test"),
    )
    assert (found.ret, found.envelope_id, found.received_at) == ("HDRS", "QQ+31", 1767225600.0)


def test_a_message_is_the_same_one_however_often_it_is_read() -> None:
    found = read(with_wishes(), "CBACAEA2030")
    once, twice = parcel_of(found, "postfix", 1.9e9), parcel_of(found, "postfix", 2.0e9)
    assert once.id == twice.id
    (stored,) = once.stored
    assert stored.received_at == 1767225600.0
    assert records.decode(stored.envelope)["parameters"] == {"body": "8BITMIME", "ret": "HDRS", "envelope_id": "QQ+31"}
    assert [part.parameters for part in once.recipients][1:] == ['{"notify":0}', ""]


def test_a_long_record_has_a_length_of_several_octets() -> None:
    assert read(queue_file(("R", "b@example.net"), body=b"x" * 100_000)).octets.count(b"x") == 100_000


def test_pointers_are_followed() -> None:
    start = record("S", b"ann@example.org")
    elsewhere = record("R", b"bob@example.net") + record("M", b"") + record("N", b"a") + record("E", b"")
    jump = record("p", b"%15d" % (len(start) + 17 + 30))
    found = read(start + jump + b"w" * 30 + elsewhere)
    assert (found.recipients, found.octets) == ((Asked("bob@example.net"),), b"a\n")


def test_pointers_in_circles_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.admin.postfix_queue._RECORDS", 1000)
    with pytest.raises(QueueFileError, match="circles"):
        read(record("S", b"a@b.example") + record("p", b"%15d" % 13))


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 7))
def test_a_file_that_is_cut_anywhere_is_not_taken(cut: int) -> None:
    with pytest.raises(QueueFileError):
        read(WHOLE[:cut])


@given(st.binary())
def test_any_octets_are_a_message_or_none(octets: bytes) -> None:
    try:
        read(octets)
    except QueueFileError:
        return


def test_the_queue_is_moved_into_the_pickup_directory(tmp_path: Path) -> None:
    spool, box = tmp_path / "postfix", tmp_path / "box"
    box.mkdir()
    for name, octets, mode in (
        ("deferred/A/AB1", WHOLE, 0o700),
        ("active/CD2", WHOLE[:50], 0o700),
        ("hold/EF3", WHOLE, 0o600),
    ):
        file = spool / name
        file.parent.mkdir(parents=True)
        file.write_bytes(octets)
        file.chmod(mode)
    said = asked("import", "postfix-queue", "--from", str(spool), "--into", str(box), "--delete", code=1)
    assert "1 message, for 2 recipients" in said
    assert "CD2" in said
    assert "never finished" in said
    (dropped,) = box.glob("*.eml")
    message = understood(dropped.read_bytes())
    assert [str(path) for path in message.recipients] == ["bob@example.net", "carl@example.net"]
    assert str(message.reverse_path) == "ann@example.org"
    assert not (spool / "deferred/A/AB1").exists()
    assert (spool / "active/CD2").exists()


def queue_of(tmp_path: Path) -> Path:
    file = tmp_path / "postfix/hold/AB1"
    file.parent.mkdir(parents=True)
    file.write_bytes(with_wishes())
    file.chmod(0o700)
    return tmp_path / "postfix"


def test_who_asked_for_other_reports_gets_a_file_of_his_own(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    asked("import", "postfix-queue", "--from", str(queue_of(tmp_path)), "--into", str(box))
    found = [understood(file.read_bytes()) for file in box.glob("*.eml")]
    assert sorted((str(one.recipients[0]), one.recipient_parameters.notify.value) for one in found) == [
        ("bob@example.test", 5),
        ("carl@example.test", 0),
        ("dora@example.test", 8),
    ]
    assert {(one.parameters.envelope_id, one.parameters.ret.value) for one in found} == {("QQ+31", "HDRS")}


def test_an_archive_is_written_in_the_stead_of_the_pickup_directory(tmp_path: Path) -> None:
    archive = tmp_path / "queue.tar"
    said = asked("import", "postfix-queue", "--from", str(queue_of(tmp_path)), "--archive", str(archive))
    assert f"waypost queue import {archive}" in said
    (parcel,) = [part for part in read_archive(archive) if isinstance(part, Parcel)]
    assert {part.held for part in parcel.recipients} == {"it was on hold in Postfix"}


@pytest.mark.parametrize(
    "words",
    [(), ("--into", ".", "--archive", "a.tar"), ("--archive", "a.tar", "--delete"), ("--into", "nowhere")],
)
def test_a_way_that_is_none_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    assert asked("import", "postfix-queue", "--from", str(queue_of(tmp_path)), *words, code=1) == ""
    assert not Path("a.tar").exists()


def test_a_queue_that_is_in_use_is_let_alone(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid/master.pid").write_text(f"  {os.getpid()}\n")
    said = asked("import", "postfix-queue", "--from", str(tmp_path), "--into", str(tmp_path), code=1)
    assert said == ""


@pytest.mark.parametrize(("kind", "whose"), [("postfix-queue", "Postfix"), ("exim-queue", "Exim")])
def test_a_directory_that_is_no_spool_is_not_told_as_an_empty_queue(tmp_path: Path, kind: str, whose: str) -> None:
    """A mistyped --from said that 0 messages had been moved, and all was well."""
    words = ("import", kind, "--from", str(tmp_path), "--archive", str(tmp_path / "x.tar"), "--json")
    assert f"is no spool of {whose}'s" in json.loads(asked(*words, code=1))["error"]
    assert not (tmp_path / "x.tar").exists()


def test_a_directory_without_a_spool_is_not_moved_and_not_made_one(tmp_path: Path) -> None:
    """A mistyped --from was made a spool, and then moved with success: all its 0 messages."""
    for source, why in ((tmp_path / "mistyped", "there is no spool at"), (tmp_path, "there is no spool at")):
        said = asked("spool", "move", "--from", str(source), "--to", str(tmp_path / "new"), "--json", code=1)
        assert why in json.loads(said)["error"]
    assert not any(tmp_path.iterdir())
    (tmp_path / "queue.db").touch()
    said = asked("spool", "move", "--from", str(tmp_path), "--to", f"{tmp_path}/", "--json", code=1)
    assert "are both" in json.loads(said)["error"]


def test_a_move_to_a_database_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback."""
    monkeypatch.setitem(sys.modules, "waypost.queue.postgres.moving", None)
    (tmp_path / "queue.db").touch()
    words = ("spool", "move", "--from", str(tmp_path), "--to", "postgresql://127.0.0.1:1/x", "--json")
    assert "pip install 'waypost[postgres]'" in json.loads(asked(*words, code=1))["remedy"]
