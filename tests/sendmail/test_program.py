"""waypost-sendmail: a drop-in for what programs call sendmail; 0 means that the message is on the disk."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from waypost.receive.pickup import understood
from waypost.sendmail.box import Refusal
from waypost.sendmail.program import run

CONFIG = """\
[service]
hostname = "host.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
[limits]
message_size = "64K"
[pickup]
directory = "pickup"
"""


@pytest.fixture(autouse=True)
def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waypost.toml").write_text(CONFIG)
    (tmp_path / "pickup").mkdir()
    monkeypatch.setenv("WAYPOST_CONFIG", str(tmp_path / "waypost.toml"))
    monkeypatch.delenv("NAME", raising=False)


def sent(tmp_path: Path, *arguments: str, text: bytes = b"Subject: hi\n\nhello\n", name: str = "sendmail") -> bytes:
    """The one file that such a command leaves."""
    assert run([name, *arguments], io.BytesIO(text)) == 0
    (file,) = (tmp_path / "pickup").iterdir()
    assert file.suffix == ".eml"
    return file.read_bytes()


def refused(*arguments: str, text: bytes = b"hello\n") -> tuple[int, str]:
    with pytest.raises(Refusal) as refusal:
        run(["sendmail", *arguments], io.BytesIO(text))
    return refusal.value.code, str(refusal.value)


def test_the_recipients_of_the_command_line_get_the_message(tmp_path: Path) -> None:
    found = sent(tmp_path, "-i", "-fann@example.org", "bob@example.org", "root")
    assert found.startswith(
        b"X-Sender: <ann@example.org>\nX-Receiver: <bob@example.org>\nX-Receiver: <root@host.example.net>\n"
        b"From: ann@example.org\nSubject: hi\n\nhello\n"
    )
    assert [str(each) for each in understood(found).recipients] == ["bob@example.org", "root@host.example.net"]


def test_with_t_the_header_names_them_and_bcc_is_taken_out(tmp_path: Path) -> None:
    to = b"To: Bob <b@example.org>,\n c@example.org\nBcc: d@example.org,\n e@example.org\n"
    text = b"From: Ann <a@example.org>\n" + to + b"X: y\n\nhi\n"
    found = sent(tmp_path, "-t", "-f", "a@example.org", text=text)
    message = understood(found)
    assert [str(each)[0] for each in message.recipients] == ["b", "c", "d", "e"]
    assert b"Bcc" not in message.octets
    assert b"d@example.org" not in message.octets
    assert message.octets.endswith(b"\r\nX: y\r\n\r\nhi\r\n")


@pytest.mark.parametrize(
    ("options", "kept"), [((), b"one\r\n"), (("-i",), b"one\r\n.\r\ntwo\r\n"), (("-oi",), b"one\r\n.\r\ntwo\r\n")]
)
def test_a_line_of_one_dot_ends_the_message_unless_told_otherwise(
    tmp_path: Path, options: tuple[str, ...], kept: bytes
) -> None:
    found = understood(sent(tmp_path, *options, "b@example.org", text=b"From: a@b.example\n\none\n.\ntwo\n"))
    assert found.octets == b"From: a@b.example\r\n\r\n" + kept


def test_options_may_be_written_together_and_those_of_no_meaning_are_passed_over(tmp_path: Path) -> None:
    text = b"From: x@example.org\nTo: b@example.org\n\nhi\n"
    found = sent(
        tmp_path, "-ti", "-oem", "-oee", "-v", "-U", "-G", "-B8BITMIME", "-om", "-O", "x=y", "-L", "tag", text=text
    )
    assert b"X-Receiver: <b@example.org>\n" in found


def test_what_dsn_asks_for_is_handed_on(tmp_path: Path) -> None:
    found = understood(sent(tmp_path, "-N", "success,delay", "-R", "hdrs", "-V", "id7", "-f", "", "b@example.org"))
    assert str(found.reverse_path) == ""
    assert (found.parameters.ret.value, found.parameters.envelope_id) == ("HDRS", "id7")
    assert found.recipient_parameters.notify.wants_success
    assert not found.recipient_parameters.notify.wants_failure


def test_the_full_name_goes_into_a_from_that_is_missing(tmp_path: Path) -> None:
    found = sent(tmp_path, "-F", "Änn \nBcc: x", "-f", "ann", "b@example.org")
    assert b"\nFrom: =?utf-8?" in found
    assert b"<ann@host.example.net>\n" in found
    assert b"\nBcc" not in found


def test_a_text_without_header_gets_one(tmp_path: Path) -> None:
    found = understood(sent(tmp_path, "-f", "a@b.example", "c@d.example", text=b"just words: yes\nno\n"))
    assert found.octets == b"From: a@b.example\r\n\r\njust words: yes\r\nno\r\n"


@pytest.mark.parametrize(
    ("arguments", "text", "code", "says"),
    [
        ((), b"x", 64, "no recipient is named"),
        (("-t",), b"Subject: x\n\n", 65, "names no recipient"),
        (("-bd",), b"", 64, "waypost serve"),
        (("-Z",), b"", 64, "not recognized"),
        (("a@b.example",), b"x" * 70_000, 69, "larger than 65536"),
        (("a@b.example\nX-Receiver: <c@d.example>",), b"x", 65, "no address may"),
        (("-C/nowhere", "a@b.example"), b"x", 78, "WAYPOST_CONFIG"),
        (("-bp",), b"", 69, "is it running?"),
    ],
)
def test_bad_commands_end_with_the_code_of_sysexits(
    tmp_path: Path, arguments: tuple[str, ...], text: bytes, code: int, says: str
) -> None:
    (tmp_path / "waypost.toml").write_text(CONFIG + '[admin]\naddress = "127.0.0.1:1"\n')
    found = refused(*arguments, text=text)
    assert found[0] == code
    assert says in found[1]
    assert list((tmp_path / "pickup").iterdir()) == []


def test_without_a_pickup_directory_the_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "pickup").rmdir()
    assert refused("a@b.example") == (
        73,
        f"{tmp_path}/pickup: No such file or directory; the service makes it when it starts: chmod 1733 lets all write",
    )
    (tmp_path / "waypost.toml").write_text("")
    assert refused("a@b.example")[0] == 78


def test_a_file_can_be_read_by_the_service_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        sent(tmp_path, "b@example.org")
    finally:
        os.umask(before)
    (file,) = (tmp_path / "pickup").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_newaliases_has_nothing_to_do() -> None:
    assert run(["newaliases"], io.BytesIO()) == 0
    assert run(["sendmail", "-bi"], io.BytesIO()) == 0


def test_a_session_on_standard_input_writes_what_it_takes(tmp_path: Path) -> None:
    said = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n..dot\r\n.\r\nQUIT\r\n"
    program = "import sys; from waypost.sendmail.program import main; main()"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, "-bs"], input=said, capture_output=True, check=True, timeout=60
    )
    replies = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert replies == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    (file,) = (tmp_path / "pickup").iterdir()
    assert file.read_bytes() == b"X-Sender: <a@b.example>\nX-Receiver: <c@d.example>\n.dot\r\n"


def test_nothing_heavy_is_imported_to_take_a_message(tmp_path: Path) -> None:
    program = (
        "import sys; from waypost.sendmail.program import run; import io\n"
        "run(['sendmail', 'b@example.org'], io.BytesIO(b'From: a@b.example\\n\\nhi\\n'))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'asyncio', 'pydantic', 'msgspec', 'ssl', 'http', 'typer', 'socket', 'email', 'json'}))\n"
        "print(*[name for name in sys.modules if name.startswith('waypost.')])"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )
    heavy, ours = done.stdout.splitlines()
    assert heavy == ""
    assert set(ours.split()) == {
        "waypost.mail",
        "waypost.mail.dropping",
        "waypost.sendmail",
        "waypost.sendmail.box",
        "waypost.sendmail.program",
    }
