"""The program as a process: serve and stop, send to it, the peer, the demonstration."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

from tests.cli.service import BIN, asked, run, serving
from waypost import __version__, is_compiled, with_build
from waypost.__main__ import program

CONFIG = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
allow_ephemeral = true
[[listener]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[relay]
networks = ["127.0.0.0/8"]
[[route]]
domains = ["*"]
to = "capture:"
"""


@contextmanager
def peer(*arguments: str) -> Iterator[tuple[str, IO[str], subprocess.Popen[str]]]:
    """Its address, what it prints, the process."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [BIN / "waypost", "peer", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as child:
        try:
            assert child.stdout is not None
            first = child.stdout.readline()
            address = json.loads(first)["listening"] if "--json" in arguments else first.split()[2].rstrip(";")
            yield address, child.stdout, child
        finally:
            child.kill()


def test_the_service_takes_mail_answers_and_stops(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG)
    with serving(config) as service:
        sent = run("send", "--server", service.mail, "--from", "", "--to", "b@example.com", typed="Hello\n")
        assert sent.startswith("<b@example.com>  250 2.")
        assert json.loads(asked("status", "--admin", service.admin, "--json"))["not_ready"] == []
        taken = asked("queue", "list", "--config", str(config), "--admin", "127.0.0.1:1", code=1)
        assert taken == ""
        assert service.stop() == 0
    assert "b@example.com" in asked("inbox", "list", "--config", str(config))  # the spool itself answers now


def test_what_it_says_to_try_can_be_tried_as_it_stands(tmp_path: Path) -> None:
    """It said `waypost send …`, which no shell finds that knows nothing of the virtual environment."""
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG)
    with subprocess.Popen(  # noqa: S603 - our own program
        [BIN / "waypost", "serve", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
    ) as service:
        try:
            assert service.stdout is not None
            line = next(line for line in service.stdout if line.startswith("  Try "))
            arguments = line.split()[1:]
            assert arguments[0] == str(BIN / "waypost")
            assert run(*arguments[1:], typed="Hello\n").startswith("<you@example.com>  250 ")
            service.terminate()
            _, log = service.communicate(timeout=60)
        finally:
            service.kill()
    assert '"event":"stopped' in log
    assert service.returncode == 0


def test_an_answer_for_which_there_is_no_room_is_told_so(tmp_path: Path) -> None:
    """A disk that is full is when one asks; it was a traceback."""
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG)
    for form in ((), ("--json",)):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(  # noqa: S603 - our own program
                [BIN / "waypost", "resolve", "example.com", "--config", config, *form],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        assert done.returncode == 1
        assert "the answer cannot be written: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_argument_that_is_no_utf_8_is_refused_and_no_traceback_shown() -> None:
    done = subprocess.run([BIN / "waypost", "trace", b"\xfc@example.com"], capture_output=True, check=False, timeout=60)  # noqa: S603
    assert done.returncode == 2
    assert done.stderr.startswith(rb"waypost: an argument is no UTF-8: '\udcfc@example.com'")


@pytest.mark.parametrize("name", ["müller.example", "mail\r\nRSET", "two words", "x" * 256])
def test_a_name_that_no_ehlo_can_have_is_refused_with_what_it_should_be(name: str) -> None:
    """One with a line's end, or with a letter beyond ASCII, was a traceback."""
    arguments = ("send", "--from", "a@example.org", "--to", "b@example.com", "--body", "x", "--hello", name)
    done = CliRunner().invoke(program(), arguments)
    assert done.exit_code == 2
    assert "--hello" in done.stderr
    assert "mail.example.org" in done.stderr


def test_a_configuration_with_faults_starts_nothing(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG.replace("capture:", "pigeon:"))
    assert run("serve", "--config", str(config), code=1) == ""
    assert not (tmp_path / "spool").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "waypost.toml"
        config.write_text(CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
        done = subprocess.run(  # noqa: S603 - our own program
            [BIN / "waypost", "serve", "--config", config], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_spool_in_use_is_said_to_be(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG)
    with serving(config):
        done = subprocess.run(  # noqa: S603 - our own program
            [BIN / "waypost", "serve", "--config", config], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert f"cannot start: spool {tmp_path / 'spool'} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_peer_tells_each_line_and_counts_at_its_end() -> None:
    with peer("--json", "--fault", "ehlo:close*1", "--reply", "rcpt:450 4.2.1 later") as (address, printed, child):
        arguments = ("send", "--server", address, "--from", "a@example.org", "--to", "b@example.com", "--body", "x")
        answer = json.loads(asked(*arguments, "--json", code=1))
        assert answer["answers"] == [{"recipient": "b@example.com", "accepted": False, "reply": "450 4.2.1 later"}]
        child.send_signal(signal.SIGINT)
        events = [json.loads(line) for line in printed]
    assert events[-1] == {"connections": 2, "received": 0, "accepted": 0}
    assert {"connection": 1, "mark": "*", "text": "fault: close at ehlo"} in events


def test_the_peer_prints_for_people_too() -> None:
    with peer("--lmtp", "--no-pipelining") as (address, printed, child):
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"LHLO client.example\r\nQUIT\r\n")
            heard = b"".join(iter(lambda: connection.recv(4096), b""))
        child.send_signal(signal.SIGINT)
        text = printed.read()
    assert b"250-" in heard
    assert b"PIPELINING" not in heard
    assert "   1 C LHLO client.example" in text
    assert "1 connection, 0 messages received, 0 accepted" in text


def test_what_waits_is_held_released_and_delivered_at_once(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    with peer("--reply", "rcpt:450 4.2.1 later*1") as (address, printed, _):
        config.write_text(CONFIG.replace("capture:", f"smtp://{address}"))
        with serving(config) as service:
            admin = ("--admin", service.admin)
            asked("send", "--server", service.mail, "--from", "a@example.org", "--to", "b@example.com", "--body", "x")
            assert "450 4.2.1 later" in next(line for line in printed if "S 450" in line)
            until_it_waits = iter(lambda: asked("queue", "list", *admin, "--json"), "")
            assert any('"waiting"' in answer for answer in until_it_waits)
            asked("queue", "hold", "--all", "--reason", "moving house", *admin)
            assert "moving house" in asked("queue", "list", *admin)
            asked("queue", "release", "--domain", "example.com", *admin)
            assert any(line.endswith("* accepted\n") for line in printed)  # no schedule was waited for
            until_it_is_done = iter(lambda: asked("trace", "b@example.com", *admin), "")
            life = next(answer for answer in until_it_is_done if "  done  " in answer)
            assert life.count("  attempt  ") == 2
            assert "now  <b@example.com>  delivered" in life


SEND = ("send", "--from", "a@example.org", "--to", "b@example.com")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--server", "nonsense"), "no port", 2),
        (("--server", "127.0.0.1"), "no port", 2),
        (("--server", "[::1]"), "no port", 2),
        (("--server", "no..name:25"), "no address is known", 1),
        (("--to", "nobody"), "no domain", 2),
        (("--file", "/nowhere/at/all"), "cannot be read", 1),
        (("--file", "x", "--body", "y"), "--body", 2),
    ],
)
def test_what_cannot_be_sent_is_told_in_json_too(arguments: tuple[str, ...], words: str, code: int) -> None:
    problem = json.loads(asked(*SEND, *arguments, "--json", code=code))
    assert words in problem["error"]
    assert "int()" not in problem["error"]


def test_the_version_is_told_however_it_is_asked_for() -> None:
    assert asked("--version") == asked("version") == f"waypost {with_build(__version__, compiled=is_compiled())}\n"


def test_the_peer_says_what_it_can_do_when_asked_for_more() -> None:
    assert asked("peer", "--times", "often", code=2) == ""
    assert asked("peer", "--fault", "ehlo:explode", code=2) == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        problem = json.loads(asked("peer", "--port", str(taken.getsockname()[1]), "--json", code=1))
    assert "cannot listen on" in problem["error"]


def test_the_founding_fault_is_survived_before_your_eyes() -> None:
    lines = run("demo").splitlines()
    assert lines[-1] == "The server was greeted with EHLO, HELO, HELO, and took 2 messages."
    assert "Ready" in lines


def test_a_second_signal_ends_the_service_without_waiting_for_a_client_in_mid_message(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(CONFIG)
    with serving(config, log=subprocess.PIPE) as service:
        host, port = service.mail.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as client, client.makefile("rwb") as said:
            commands = ("EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA")
            for command, code in zip(("", *commands), ("220", "250", "250", "250", "354"), strict=True):
                said.write(f"{command}\r\n".encode() if command else b"")
                said.flush()
                assert any(line.startswith(f"{code} ".encode()) for line in said)
            assert service.child.stderr is not None
            service.child.send_signal(signal.SIGTERM)
            assert any("what is under way may end" in line for line in service.child.stderr)
            service.child.send_signal(signal.SIGTERM)
            assert any("stopping at once" in line for line in service.child.stderr)
            assert said.readline().startswith(b"421")
        assert service.child.wait(30) == 0
