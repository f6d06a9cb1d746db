"""A reload that is asked for while the service starts ends nothing, and is not forgotten."""

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.cli.service import BIN, on_free_ports
from waypost.life.supervisor import _once

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.toml"


def keeps_hangups_back(process: int) -> bool:
    """Whether SIGHUP is blocked there."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)


def test_a_hangup_during_the_start_is_heard_after_it(tmp_path: Path) -> None:
    """It ended the service: for most of a second nobody had said what was to be done at SIGHUP."""
    config = tmp_path / "waypost.toml"
    config.write_text(on_free_ports(QUICKSTART.read_text()))
    command = [str(BIN / "waypost"), "serve", "--config", str(config), "--json"]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            while not keeps_hangups_back(child.pid):
                os.sched_yield()
            child.send_signal(signal.SIGHUP)
            assert child.stdout is not None
            assert child.stderr is not None
            assert json.loads(child.stdout.readline())["listeners"]
            said = iter(map(json.loads, child.stderr))
            assert any(line["event"] == "in force" and line["by"] == "SIGHUP" for line in said)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        finally:
            child.kill()


def test_of_hangups_that_came_together_one_is_told_and_each_other_signal() -> None:
    storm = [signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]
    assert _once(signal.SIGHUP, storm) == [signal.SIGHUP, signal.SIGTERM, signal.SIGTERM]
    assert _once(signal.SIGHUP, [signal.SIGCHLD]) == [signal.SIGCHLD]
