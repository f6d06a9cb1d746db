"""What `waypost serve` says when it serves."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.service import BIN, on_free_ports
from waypost.admin.answers import ListenerFacts
from waypost.config import Config, parse
from waypost.life.commands import _where
from waypost.life.serving import Serving

HEAD = """\
[service]
hostname = "mx.example.net"
spool = "spool"
postmaster = "postmaster@example.net"
[[route]]
domains = ["*"]
to = "capture:"
"""
QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.toml"


def said(text: str) -> str:
    """Of a service so configured."""
    config = parse(HEAD + text, where="waypost.toml", base=Path())
    assert isinstance(config, Config), str(config)
    facts = tuple(ListenerFacts(one.role, str(one.address)) for one in config.listeners)
    return "\n".join(_where(config, Serving(facts, "127.0.0.1:8025"), as_json_value=False))


def listener(port: int, *lines: str) -> str:
    return "\n".join(["[[listener]]", f'address = "127.0.0.1:{port}"', *lines, ""])


@pytest.mark.parametrize("line", ['role = "http"', 'role = "lmtp"', 'proxies = ["192.0.2.1"]'])
def test_only_a_listener_that_would_take_it_is_named_to_be_tried(line: str) -> None:
    """It said to send to the first listener, which spoke HTTP."""
    assert "--server 127.0.0.1:26 " in said(listener(25, line) + listener(26))
    assert "Try" not in said(listener(25, line))


def test_a_listener_that_asks_for_a_login_is_not_named() -> None:
    assert "Try" not in said(listener(25, 'role = "submission"') + '[auth]\nusers = "users"\n')
    assert "Try" in said(listener(25, 'role = "submission"'))


def test_who_has_read_enough_does_not_end_the_service(tmp_path: Path) -> None:
    config = tmp_path / "waypost.toml"
    config.write_text(on_free_ports(QUICKSTART.read_text()))
    command = [str(BIN / "waypost"), "serve", "--config", str(config)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.close()
            assert any('"event":"in force"' in line for line in child.stderr)
            child.terminate()  # heard after it has said where it listens
            assert child.wait(30) == 0
        finally:
            child.kill()
