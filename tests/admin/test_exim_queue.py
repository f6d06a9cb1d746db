"""Exim's spool files, as they are on disk: whole, delivered in part, cut anywhere; and moving them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.service import asked
from waypost.admin.exim_queue import read
from waypost.admin.foreign import Asked, QueueFileError
from waypost.queue.archive import read as read_archive
from waypost.queue.moving import Parcel

NAME = "1xXkGX-0006AD-2A"
#: As Exim 4.96 wrote it; the tree of those delivered to, and the field that is not sent, are added.
HEAD = (
    f"""\
{NAME}-H
Debian-exim 999 995
<ann@far.example>
1795979329 1
-received_time_usec .670879
--helo_name x.test
-host_address [127.0.0.1]:54990
-body_linecount 2
-dsn_envid QQ+2B31
-dsn_ret 2
YY done@example.test
NN another@example.test
NY third@example.test
NN fourth@example.test
6
bob@example.test rfc822;bob+2Balias@example.test 31,20  0,-1#3
carl@example.test  0,2  0,-1#3
Done@example.test
dora@example.test
"two words"@example.test back@example.test 17,-1#1
late@example.test
""".encode()
    + b"""
012  Subject: hi
016* X-Not: for you
022F From: ann@far.example
013  X-Long: a
 b
"""
)
BODY = f"{NAME}-D\nbödy\n.dot\n".encode()


def test_who_was_delivered_to_is_left_out_and_what_was_asked_for_is_kept() -> None:
    found = read(NAME, HEAD, BODY, b"late@example.test\n")
    assert found.recipients == (
        Asked("bob@example.test", "SUCCESS,DELAY", "rfc822;bob+alias@example.test"),
        Asked("carl@example.test", "NEVER"),
        Asked("dora@example.test"),
        Asked('"two words"@example.test'),
    )
    assert found.octets == "Subject: hi\nFrom: ann@far.example\nX-Long: a\n b\n\nbödy\n.dot\n".encode()
    assert (found.sender, found.received_at, found.warned) == ("ann@far.example", 1795979329.0, True)
    assert (found.ret, found.envelope_id, found.held) == ("HDRS", "QQ+31", "")


def test_one_that_nothing_was_delivered_of_and_that_is_frozen() -> None:
    tree = b"YY done@example.test\nNN another@example.test\nNY third@example.test\nNN fourth@example.test\n"
    found = read(NAME, HEAD.replace(tree, b"-frozen 1795979400\nXX\n"), BODY, b"")
    assert len(found.recipients) == 6
    assert found.held == "it was frozen in Exim"


def test_a_body_in_another_form_is_left_to_exim() -> None:
    with pytest.raises(QueueFileError, match="spool_wireformat"):
        read(NAME, HEAD.replace(b"-body_linecount", b"-spool_file_wireformat\n-body_linecount"), BODY, b"")


@pytest.mark.parametrize("cut", range(0, len(HEAD) - 1, 5))
def test_a_file_that_is_cut_anywhere_is_not_taken_for_more_than_it_is(cut: int) -> None:
    """But between two fields of the header, which only the body's file can tell from a whole one."""
    try:
        found = read(NAME, HEAD[:cut], BODY, b"")
    except QueueFileError:
        return
    assert cut > HEAD.index(b"late@example.test")
    assert len(found.recipients) == 5


@given(st.binary(), st.binary())
def test_any_octets_are_a_message_or_none(head: bytes, more: bytes) -> None:
    for octets in (head, f"{NAME}-H\n".encode() + head, HEAD[: len(more) * 9] + more):
        try:
            read(NAME, octets, BODY, more)
        except QueueFileError:
            continue


def spool(tmp_path: Path) -> Path:
    """One that is whole, and one whose body is gone."""
    for folder, name in (("X", NAME), ("Y", "1xXkGX-0006AD-2B")):
        directory = tmp_path / "exim4/input" / folder
        directory.mkdir(parents=True)
        (directory / f"{name}-H").write_bytes(HEAD.replace(NAME.encode(), name.encode()))
    (tmp_path / "exim4/input/X" / f"{NAME}-D").write_bytes(BODY)
    return tmp_path / "exim4"


def test_a_queue_goes_into_an_archive_and_what_is_not_whole_stays(tmp_path: Path) -> None:
    archive = tmp_path / "exim.tar"
    said = asked("import", "exim-queue", "--from", str(spool(tmp_path)), "--archive", str(archive), code=1)
    assert f"1 message, for 5 recipients, is in {archive}." in said
    assert "1xXkGX-0006AD-2B-H: it is not whole" in said
    (parcel,) = [part for part in read_archive(archive) if isinstance(part, Parcel)]
    assert [part.address for part in parcel.recipients][-1] == "late@example.test"
    assert all(part.delay_reported for part in parcel.recipients)
    assert b"\r\n\r\nb\xc3\xb6dy\r\n.dot\r\n" in parcel.stored[0].octets


def test_into_the_pickup_directory_all_its_files_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    from_there = ("--from", str(spool(tmp_path)), "--into", str(tmp_path / "box"), "--delete")
    asked("import", "exim-queue", *from_there, code=1)
    assert len(list((tmp_path / "box").glob("*.eml"))) == 3  # bob's, carl's, and those who asked for nothing
    assert [path.name for path in (tmp_path / "exim4").rglob("*-*")] == ["1xXkGX-0006AD-2B-H"]


def test_a_spool_that_is_not_there_is_told(tmp_path: Path) -> None:
    absent = ("--from", str(tmp_path / "absent"), "--archive", str(tmp_path / "a.tar"))
    assert "no such directory" in asked("import", "exim-queue", *absent, "--json", code=1)
